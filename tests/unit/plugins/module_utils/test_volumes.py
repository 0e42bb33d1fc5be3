# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes that a cluster cannot make are told before anything is written."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Answer
from ansible_collections.mlops.mlflow.plugins.module_utils._release import volumes
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.memory_cluster import (
    MemoryCluster,
)

Object = dict[str, Any]
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
CLAIMS = "/api/v1/namespaces/here/persistentvolumeclaims"
VOLUMES = "/api/v1/persistentvolumes"
NODES = "/api/v1/nodes"


def claim(name: str = "mlflow-artifacts", mode: str = "ReadWriteOnce", **spec: Any) -> Object:
    return {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": [mode], **spec},
    }


def server(replicas: int | None = 2, together: bool = True) -> Object:
    labels = {volumes.ON_ONE_NODE: "true"} if together else {}
    spec: Object = {"template": {"metadata": {"labels": labels}}}
    if replicas is not None:
        spec["replicas"] = replicas
    return {"kind": "Deployment", "metadata": {"name": "mlflow"}, "spec": spec}


DATABASE: Object = {
    "kind": "StatefulSet",
    "metadata": {"name": "postgres"},
    "spec": {"volumeClaimTemplates": [claim("data")]},
}
AUTOSCALER: Object = {
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "mlflow"},
    "spec": {"maxReplicas": 4},
}


def storage_class(name: str, provisioner: str, default: bool = False) -> tuple[str, Object]:
    marks = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return f"{CLASSES}/{name}", {
        "metadata": {"name": name, "annotations": marks},
        "provisioner": provisioner,
        "volumeBindingMode": "WaitForFirstConsumer",
    }


@pytest.fixture
def cluster() -> MemoryCluster:
    """Two nodes, a class of disks by default, and one of a shared file system."""
    made = MemoryCluster()
    for name in ("a", "b"):
        made.put(f"{NODES}/{name}", {"metadata": {"name": name}})
    made.put(*storage_class("gp3", "ebs.csi.aws.com", default=True))
    made.put(*storage_class("efs", "efs.csi.aws.com"))
    return made


def check(cluster: MemoryCluster, *objects: Object) -> volumes.Found:
    found = volumes.check(cluster, "here", list(objects))
    assert cluster.writes() == []
    return found


def test_who_shares_a_node_is_told_once_when_it_can_still_be_chosen(
    cluster: MemoryCluster,
) -> None:
    found = check(cluster, claim(), server(), DATABASE)
    assert found.problems == []
    (warning,) = found.warnings
    assert "one node" in warning and "shared-artifacts" in warning
    cluster.put(f"{CLAIMS}/mlflow-artifacts", claim())
    cluster.put(f"{CLAIMS}/data-postgres-0", claim("data-postgres-0"))
    cluster.calls.clear()
    assert check(cluster, claim(), server(), DATABASE) == ([], [])
    # What is there already costs one question.
    assert len(cluster.calls) == 1


@pytest.mark.parametrize(
    "objects",
    [
        [claim(), server(1)],
        [claim(mode="ReadWriteMany", storageClassName="efs"), server(together=False)],
        [server(together=False), DATABASE],
        [],
    ],
    ids=["one replica", "a shared volume", "an object store", "no volume"],
)
def test_nothing_is_said_where_nothing_is_to_be_chosen(
    cluster: MemoryCluster, objects: list[Object]
) -> None:
    assert check(cluster, *objects) == ([], [])


def test_one_node_has_nothing_to_choose(cluster: MemoryCluster) -> None:
    del cluster.objects[f"{NODES}/b"]
    assert check(cluster, claim(), server()) == ([], [])


def test_an_autoscaler_has_as_many_as_its_most(cluster: MemoryCluster) -> None:
    assert check(cluster, claim(), server(None)).warnings == []
    assert check(cluster, claim(), server(None), AUTOSCALER).warnings != []


def test_no_default_class_is_refused_and_what_there_is_is_named(cluster: MemoryCluster) -> None:
    cluster.put(*storage_class("gp3", "ebs.csi.aws.com"))
    (problem,) = check(cluster, claim(), DATABASE).problems
    assert problem == (
        "mlflow_storage_class: is not set, and the cluster has no default storage class for "
        "data-postgres-0, mlflow-artifacts; it has efs, gp3"
    )
    assert check(cluster, claim(storageClassName="efs")).problems == []


def test_a_class_that_is_not_there_is_refused(cluster: MemoryCluster) -> None:
    (problem,) = check(cluster, claim(storageClassName="fast")).problems
    assert "no storage class fast for mlflow-artifacts; it has efs, gp3" in problem


@pytest.mark.parametrize("name", ["", "by-hand"])
def test_a_volume_made_by_hand_needs_no_class(name: str) -> None:
    cluster = MemoryCluster()
    volume = {"spec": {"storageClassName": name}, "status": {"phase": "Available"}}
    asked = claim(storageClassName=name) if name else claim()
    assert check(cluster, asked).problems != []
    cluster.put(f"{VOLUMES}/one", volume)
    assert check(cluster, asked).problems == []
    cluster.put(f"{VOLUMES}/one", {**volume, "status": {"phase": "Bound"}})
    assert check(cluster, asked).problems != []


@pytest.mark.parametrize("spec", [{"storageClassName": ""}, {"volumeName": "one"}])
def test_what_asks_for_no_class_is_left_alone(spec: Object) -> None:
    assert check(MemoryCluster(), claim(**spec)).problems == []


@pytest.mark.parametrize("name", [None, "gp3"])
def test_a_disk_is_no_shared_volume(cluster: MemoryCluster, name: str | None) -> None:
    asked = claim(mode="ReadWriteMany", **({"storageClassName": name} if name else {}))
    (problem,) = check(cluster, asked, server(together=False)).problems
    assert "gp3" in problem and "ebs.csi.aws.com" in problem


def test_what_may_not_be_seen_is_said_once(cluster: MemoryCluster) -> None:
    refused = Answer(403, {"message": "forbidden"})
    for path in (NODES, CLASSES):
        cluster.answers[("GET", path)] = refused
    found = check(cluster, claim(), server(), DATABASE)
    assert found.problems == []
    (warning,) = found.warnings
    assert "may not list storage classes, nodes" in warning
    assert "data-postgres-0, mlflow-artifacts" in warning


def test_without_a_class_nobody_knows_of_volumes_made_by_hand(cluster: MemoryCluster) -> None:
    cluster.answers[("GET", VOLUMES)] = Answer(403, {"message": "forbidden"})
    found = check(cluster, claim(storageClassName="by-hand"), server(1))
    assert found.problems == []
    (warning,) = found.warnings
    assert "persistent volumes" in warning


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (claim(mode="ReadWriteMany"), ("ReadWriteOnce", "ReadWriteMany", "shared-artifacts")),
        (claim(storageClassName="efs"), ("mlflow_storage_class", "gp3", "efs")),
    ],
)
def test_a_volume_that_is_there_stays_as_it_was_made(
    cluster: MemoryCluster, asked: Object, words: tuple[str, ...]
) -> None:
    cluster.put(f"{CLAIMS}/mlflow-artifacts", claim(storageClassName="gp3"))
    (problem,) = check(cluster, asked).problems
    for word in ("mlflow-artifacts", "copy what is in it", *words):
        assert word in problem
    assert check(cluster, claim()).problems == []
