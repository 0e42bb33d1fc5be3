# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What compare shows in diff mode: every object that would change, and no Secret's value."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._release import compare, difference
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.memory_cluster import (
    MemoryCluster,
    encode,
)

OURS = ("mlops.mlflow", "Apply")
NAMESPACE = "/api/v1/namespaces/here"


def item(kind: str, name: str, **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "here"}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": data}


def differences(cluster: MemoryCluster, *items: dict[str, Any], show: bool = True) -> list[str]:
    params = {
        "stages": {"config": list(items)},
        "namespace": "here",
        "secrets": [],
    }
    found: list[str] = compare.compare(cluster, params, show)["differences"]
    assert cluster.writes() == []
    return found


def cluster_with(*items: dict[str, Any]) -> MemoryCluster:
    cluster = MemoryCluster()
    cluster.put(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "here"}})
    for one in items:
        plural = f"{one['kind'].lower()}s"
        cluster.put(f"{NAMESPACE}/{plural}/{one['metadata']['name']}", one, OURS)
    return cluster


def deployment(replicas: int, config: str, **env: str) -> dict[str, Any]:
    container = {
        "name": "mlflow",
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "envFrom": [{"configMapRef": {"name": config}}],
    }
    spec = {"replicas": replicas, "template": {"spec": {"containers": [container]}}}
    metadata = {"name": "mlflow", "namespace": "here"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def test_a_change_is_shown_and_what_stays_is_not() -> None:
    cluster = cluster_with(item("ConfigMap", "a", x="old"), item("ConfigMap", "b", x="same"))
    found = differences(cluster, item("ConfigMap", "a", x="new"), item("ConfigMap", "b", x="same"))
    assert found == ["ConfigMap/a: x: old → new", "In all: 1 changed"]


def test_a_new_object_is_one_line() -> None:
    found = differences(cluster_with(), item("ConfigMap", "a", x="new"))
    assert found == ["ConfigMap/a: is new", "In all: 1 new"]


def test_so_it_is_before_the_namespace_is_there() -> None:
    found = differences(MemoryCluster(), item("ConfigMap", "a", x="new"))
    assert found == ["ConfigMap/a: is new", "In all: 1 new"]


def test_a_generated_object_is_compared_with_the_one_before_it() -> None:
    old, new = "config-2222222222", "config-bbbbbbbbbb"
    found = differences(
        cluster_with(item("ConfigMap", old, A="1", B="2")), item("ConfigMap", new, A="1", C="3")
    )
    assert found == [
        f"ConfigMap/{new}, before {old}: B: 2 → (unset)",
        f"ConfigMap/{new}, before {old}: C: (unset) → 3",
        "In all: 1 new, 1 deleted",
    ]


def test_what_an_inventory_sets_is_shown_as_it_is_said() -> None:
    there = deployment(1, "config-2222222222", A="1")
    then = deployment(2, "config-bbbbbbbbbb", A="1", B="20")
    assert difference.lines(there, then) == [
        "Deployment/mlflow: replicas: 1 → 2",
        "Deployment/mlflow: containers.mlflow.env.B: (unset) → 20",
    ]
    restart = deployment(1, "config-bbbbbbbbbb", A="1")
    assert difference.lines(there, restart) == [
        "Deployment/mlflow: restarts with its new configuration"
    ]


def test_a_job_is_one_line() -> None:
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"a": 1}}
    assert difference.lines(None, job) == ["Job/j: runs"]


def test_a_diff_is_returned_as_ansible_shows_one() -> None:
    cluster = cluster_with(item("ConfigMap", "a", x="old"))
    params = {
        "stages": {"config": [item("ConfigMap", "a", x="new")]},
        "namespace": "here",
        "secrets": [],
    }
    (found,) = compare.compare(cluster, params, True)["diff"]
    assert (found["before"], found["after"]) == ("x: old\n", "x: new\n")


def test_no_value_of_a_secret_is_shown() -> None:
    old, new = encode("old-password"), encode("new-password")
    found = differences(cluster_with(item("Secret", "a", p=old)), item("Secret", "a", p=new))
    assert found == ["Secret/a: p (values are not shown)", "In all: 1 changed"]
