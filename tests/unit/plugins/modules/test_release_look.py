# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look before a release: it finds all, writes nothing, and says when there is nothing to do."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Answer, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._release import credentials, records
from ansible_collections.mlops.mlflow.plugins.module_utils._release.look import look
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.memory_cluster import (
    MemoryCluster,
    encode,
)

OURS = ("mlops.mlflow", "Apply")
NAMESPACE = "/api/v1/namespaces/here"
SECRET = f"{NAMESPACE}/secrets/mlflow-credentials"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/here/leases/mlflow-release"
Object = dict[str, Any]
CONFIG: Object = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "a", "namespace": "here"},
    "data": {"x": "1"},
}


def seen(cluster: MemoryCluster, **changes: Any) -> Object:
    params = {
        "namespace": "here",
        "kinds": None,
        "prune": True,
        "references": [],
        "stages": {"config": [copy.deepcopy(CONFIG)]},
        "secrets": [],
        "part_of": "mlflow",
        "field_manager": "mlops.mlflow",
        "whole": True,
        "keys": {"flask-secret-key": "key"},
        "values": None,
        "definitions": None,
        **changes,
    }
    before = list(cluster.calls)
    found = look(cluster, params)
    writes = [path for path in cluster.writes() if path not in {call[1] for call in before}]
    assert writes == []
    return found


@pytest.fixture
def served() -> MemoryCluster:
    """A cluster in which this very release serves."""
    cluster = MemoryCluster()
    cluster._server_time = (1_800_000_000.0, 0.0)
    cluster.put(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "here"}})
    cluster.put(f"{NAMESPACE}/configmaps/a", CONFIG, OURS)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": credentials.NAME}}
    cluster.put(SECRET, {**secret, "data": {"flask-secret-key": encode("s3cret")}})
    note(cluster, "begun")
    note(cluster, "done")
    cluster.calls.clear()
    return cluster


def note(cluster: MemoryCluster, state: str) -> None:
    params = {
        "state": state,
        "release": {"stages": {"config": [copy.deepcopy(CONFIG)]}},
        "backup": None,
        "back_to": None,
        "schema": None,
        "target": False,
    }
    records.run(records.Records(cluster, "here"), params, False)


def test_what_is_there_already_is_nothing_to_do(served: MemoryCluster) -> None:
    found = seen(served)
    assert found["nothing_to_do"]
    assert found["holder"] == ""
    assert found["credentials"]["changed"] is False
    assert [item["number"] for item in found["record"]["releases"]] == [1]
    assert "s3cret" not in json.dumps(found)


@pytest.mark.parametrize(
    ("path", "item"),
    [
        (LEASE, {"metadata": {"name": "x"}, "spec": {"holderIdentity": "ann@host"}}),
        (SECRET, {"kind": "Secret", "metadata": {"name": credentials.NAME}, "data": {}}),
        (
            SECRET,
            {
                "metadata": {
                    "name": credentials.NAME,
                    "annotations": {credentials.RESTART_ANNOTATION: "ab"},
                },
                "data": {"flask-secret-key": encode("s3cret")},
            },
        ),
        (
            f"{NAMESPACE}/configmaps/old",
            {**CONFIG, "metadata": {"name": "old", "namespace": "here"}},
        ),
    ],
    ids=["somebody is at work", "a key is missing", "pods are to restart", "something is left"],
)
def test_whatever_else_is_amiss_is_something_to_do(
    served: MemoryCluster, path: str, item: Object
) -> None:
    assert seen(served)["nothing_to_do"]
    served.put(path, item, OURS)
    assert not seen(served)["nothing_to_do"]


def test_a_difference_is_something_to_do(served: MemoryCluster) -> None:
    other = {**copy.deepcopy(CONFIG), "data": {"x": "2"}}
    found = seen(served, stages={"config": [other]})
    assert not found["nothing_to_do"]
    assert found["changes"] == {"config": ["update ConfigMap/a"]}


def test_a_release_that_was_begun_and_not_finished_is_something_to_do(
    served: MemoryCluster,
) -> None:
    record = records.Records(served, "here")
    record.write(record.read()._replace(pending={"version": "1"}))
    served.calls.clear()
    assert not seen(served)["nothing_to_do"]


def test_what_the_record_does_not_know_is_something_to_do(served: MemoryCluster) -> None:
    del served.objects[f"{NAMESPACE}/configmaps/mlflow-releases"]
    assert not seen(served)["nothing_to_do"]


def test_all_missing_references_are_named_before_anything_else(served: MemoryCluster) -> None:
    wanted = [
        {"variable": "mlflow_secrets.a", "secret": "gone", "key": "k"},
        {"variable": "mlflow_secrets.b", "secret": "lost", "key": "k"},
    ]
    with pytest.raises(ApiError) as caught:
        seen(served, references=wanted)
    assert len(caught.value.missing) == 2
    assert "mlflow_secrets.a: there is no Secret gone" in str(caught.value)


def test_what_the_api_server_warns_of_is_told(served: MemoryCluster) -> None:
    path = f"{NAMESPACE}/configmaps/a"
    there = served.objects[path]
    served.answers["PATCH", path] = Answer(200, there, ("would violate PodSecurity",))
    found = seen(served)
    assert found["warnings_of_server"] == ["ConfigMap/a: would violate PodSecurity"]


@pytest.mark.parametrize(("enforced", "refused"), [("restricted", True), ("baseline", False)])
def test_pods_that_would_be_refused_are_told_before_anything_is_written(
    enforced: str, refused: bool, served: MemoryCluster
) -> None:
    labels = {"pod-security.kubernetes.io/enforce": enforced}
    served.objects[NAMESPACE]["metadata"]["labels"] = labels
    path = f"{NAMESPACE}/configmaps/a"
    text = 'would violate PodSecurity "restricted:latest": runAsNonRoot != true (container "x")'
    served.answers["PATCH", path] = Answer(200, served.objects[path], (text,))
    if not refused:
        assert seen(served)["warnings_of_server"]
        return
    with pytest.raises(ApiError, match=r'would refuse its pods, which violate .*container "x"'):
        seen(served)
