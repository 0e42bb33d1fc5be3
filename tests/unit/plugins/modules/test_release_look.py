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
from ansible_collections.mlops.mlflow.plugins.module_utils._release.record import RecordError
from ansible_collections.mlops.mlflow.plugins.module_utils._release.rotation import ROTATING
from ansible_collections.mlops.mlflow.plugins.modules import release_look
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.any_core import patch_module_args
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.memory_cluster import (
    MemoryCluster,
    encode,
)

OURS = ("mlops.mlflow", "Apply")
NAMESPACE = "/api/v1/namespaces/here"
SECRET = f"{NAMESPACE}/secrets/mlflow-credentials"
ROTATION = f"{NAMESPACE}/secrets/mlflow-rotation"
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
        "target": False,
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


def note(cluster: MemoryCluster, *config: Object) -> None:
    """Note that a release of these objects serves."""
    release: Object = {"stages": {"config": list(copy.deepcopy(config))}, "secrets": []}
    record = records.Records(cluster, "here")
    record.begin(release, None, None)
    record.end(release, None)


@pytest.fixture
def served() -> MemoryCluster:
    """A cluster in which this very release serves."""
    cluster = MemoryCluster()
    cluster._server_time = (1_800_000_000.0, 0.0)
    cluster.put(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "here"}})
    cluster.put(f"{NAMESPACE}/configmaps/a", CONFIG, OURS)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": credentials.NAME}}
    cluster.put(SECRET, {**secret, "data": {"flask-secret-key": encode("s3cret")}})
    note(cluster, CONFIG)
    cluster.calls.clear()
    return cluster


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
        (
            ROTATION,
            {"metadata": {"name": "mlflow-rotation", "annotations": {ROTATING: "kek-passphrase"}}},
        ),
    ],
    ids=[
        "somebody is at work",
        "a key is missing",
        "pods are to restart",
        "something is left",
        "a rotation was cut off",
    ],
)
def test_whatever_else_is_amiss_is_something_to_do(
    served: MemoryCluster, path: str, item: Object
) -> None:
    assert seen(served)["nothing_to_do"]
    served.put(path, item, OURS)
    assert not seen(served)["nothing_to_do"]


def test_a_rotation_that_was_cut_off_is_told_whatever_is_asked(served: MemoryCluster) -> None:
    assert seen(served, whole=False, stages=None)["rotating"] == []
    annotations = {ROTATING: "flask-secret-key,database-password"}
    served.put(
        ROTATION,
        {
            "metadata": {"name": "mlflow-rotation", "annotations": annotations},
            "data": {"old-database-password": encode("0ld-s3cret")},
        },
    )
    found = seen(served, whole=False, stages=None)
    assert found["rotating"] == ["database-password", "flask-secret-key"]
    assert "0ld" not in json.dumps(found)


def test_a_difference_is_something_to_do(served: MemoryCluster) -> None:
    other = {**copy.deepcopy(CONFIG), "data": {"x": "2"}}
    found = seen(served, stages={"config": [other]})
    assert not found["nothing_to_do"]
    assert found["changes"] == {"config": ["update ConfigMap/a"]}


def test_a_release_that_was_begun_and_not_finished_is_something_to_do(
    served: MemoryCluster,
) -> None:
    records.Records(served, "here").begin({"stages": {}, "version": "1"}, None, None)
    served.calls.clear()
    assert not seen(served)["nothing_to_do"]


def test_what_the_record_does_not_know_is_something_to_do(served: MemoryCluster) -> None:
    del served.objects[f"{NAMESPACE}/configmaps/mlflow-releases"]
    assert not seen(served)["nothing_to_do"]


def test_where_a_rollback_goes_is_compared(served: MemoryCluster) -> None:
    with pytest.raises(RecordError, match="there is no previous release"):
        seen(served, target=True, whole=False)
    other = {**copy.deepcopy(CONFIG), "data": {"x": "2"}}
    note(served, other)
    served.put(f"{NAMESPACE}/configmaps/a", other, OURS)
    found = seen(served, target=True, whole=False, stages=None, secrets=None)
    assert found["target"]["name"].startswith("release 1 ")
    assert found["changes"] == {"config": ["update ConfigMap/a"]}


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


def test_a_person_is_told_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {"warnings_of_server": ["Deployment/x: would violate PodSecurity"]}
    monkeypatch.setattr(release_look, "look", lambda *_arguments: said)
    monkeypatch.setattr(release_look.Api, "of", lambda _module: None)
    with patch_module_args({"namespace": "here"}), pytest.raises(SystemExit):
        release_look.main()
    # In the result, or at once where Ansible's own controller is loaded, too.
    told = "".join(capsys.readouterr())
    assert "says of Deployment/x: would violate PodSecurity" in told


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


KINDS = [{"api_version": "v1", "kind": "ConfigMap"}]


def allowed(cluster: MemoryCluster) -> None:
    """Let the account do everything."""
    cluster.answers["GET", "/version"] = Answer(200, {"gitVersion": "v1.37.2"})
    reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    cluster.answers["POST", reviews] = Answer(201, {"status": {"allowed": True}})


def test_the_first_look_is_at_volumes_and_quotas_too(served: MemoryCluster) -> None:
    allowed(served)
    claim: Object = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "mlflow-artifacts", "namespace": "here"},
        "spec": {"resources": {"requests": {"storage": "5Gi"}}},
    }
    stages = {"config": [CONFIG], "server": [claim]}
    with pytest.raises(ApiError, match="no default storage class for mlflow-artifacts"):
        seen(served, kinds=KINDS, stages=copy.deepcopy(stages))
    served.put(
        "/apis/storage.k8s.io/v1/storageclasses/disks",
        {
            "metadata": {
                "name": "disks",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "ebs.csi.aws.com",
        },
    )
    assert seen(served, kinds=KINDS, stages=copy.deepcopy(stages))["advice"] == []
    quota = {"spec": {"hard": {"requests.storage": "1Gi"}}, "metadata": {"name": "team"}}
    served.put(f"{NAMESPACE}/resourcequotas/team", quota)
    with pytest.raises(ApiError, match=r"requests\.storage has 1Gi of 1Gi left"):
        seen(served, kinds=KINDS, stages=copy.deepcopy(stages))
    # Under the lock it is compared again, and that is all.
    assert "advice" not in seen(served, stages=copy.deepcopy(stages))


def test_quotas_that_may_not_be_seen_are_told_before_the_first_release(
    served: MemoryCluster,
) -> None:
    allowed(served)
    for plural in ("limitranges", "resourcequotas"):
        served.answers["GET", f"{NAMESPACE}/{plural}"] = Answer(403, {"message": "forbidden"})
    changed = {"config": [{**CONFIG, "data": {"x": "2"}}]}
    (said,) = seen(served, kinds=KINDS, stages=copy.deepcopy(changed))["advice"]
    assert "limitranges and resourcequotas in namespace here" in said
