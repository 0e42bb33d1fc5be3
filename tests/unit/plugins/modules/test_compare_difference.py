# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What compare shows in diff mode: every object that would change, and no Secret's value."""

from __future__ import annotations

from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._release import compare as compare
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
        "field_manager": "mlops.mlflow",
        "part_of": "mlflow",
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


def test_a_change_is_shown_and_what_stays_is_not() -> None:
    cluster = cluster_with(item("ConfigMap", "a", x="old"), item("ConfigMap", "b", x="same"))
    found = differences(cluster, item("ConfigMap", "a", x="new"), item("ConfigMap", "b", x="same"))
    assert len(found) == 1
    assert '-    "x": "old"' in found[0]
    assert '+    "x": "new"' in found[0]
    assert "ConfigMap/a" in found[0]
    assert "managedFields" not in found[0]


def test_a_new_object_is_shown_whole() -> None:
    found = differences(cluster_with(), item("ConfigMap", "a", x="new"))
    assert found[0].startswith("--- nothing\n+++ ConfigMap/a")
    assert '+    "x": "new"' in found[0]


def test_so_it_is_before_the_namespace_is_there() -> None:
    assert '"x": "new"' in differences(MemoryCluster(), item("ConfigMap", "a", x="new"))[0]


def test_no_value_of_a_secret_is_shown() -> None:
    old, new = encode("old-password"), encode("new-password")
    found = differences(cluster_with(item("Secret", "a", p=old)), item("Secret", "a", p=new))
    assert found == ["Secret/a: its values are not shown"]


def test_nothing_is_made_where_nobody_asked() -> None:
    assert differences(cluster_with(), item("ConfigMap", "a"), show=False) == []
