# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A teardown removes the release, all of it and nothing else; data go by name only."""

from __future__ import annotations

import types
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Answer, ApiError
from ansible_collections.mlops.mlflow.plugins.modules import release_teardown as teardown
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.memory_cluster import MemoryCluster

OURS = ("mlops.mlflow", "Apply")
KUBECTLS = ("kubectl-client-side-apply", "Update")
SPACE = "/api/v1/namespaces/here"
APPS = "/apis/apps/v1/namespaces/here"
BATCH = "/apis/batch/v1/namespaces/here"
ODD = "/apis/odd.example.org/v1/namespaces/here"
RESOURCES = {
    "/api/v1": ["ConfigMap", "Secret", "Service", "PersistentVolumeClaim", "Pod", "Endpoints"],
    "/apis/apps/v1": ["Deployment", "StatefulSet", "ReplicaSet"],
    "/apis/batch/v1": ["CronJob", "Job"],
    "/apis/odd.example.org/v1": ["Thing"],
}
Object = dict[str, Any]


def plural(kind: str) -> str:
    return kind.lower() + ("" if kind.endswith("s") else "s")


PLURALS = {plural(kind) for kinds in RESOURCES.values() for kind in kinds}


class Namespace(MemoryCluster):
    """The in-memory API with discovery, and with deletion that may take a few looks."""

    def __init__(self) -> None:
        super().__init__()
        self.lingers: dict[str, int] = {}
        self.denied: set[str] = set()
        self.deleted: list[str] = []
        self.put(SPACE, {"apiVersion": "v1", "metadata": {"name": "here", "uid": "s"}}, OURS)

    def place(
        self,
        base: str,
        kind: str,
        name: str,
        manager: tuple[str, str] | None = OURS,
        component: str = "config",
        **metadata: Any,
    ) -> None:
        labels = {
            "app.kubernetes.io/part-of": "mlflow",
            "app.kubernetes.io/component": component,
        }
        item = {"metadata": {"name": name, "uid": f"{kind}-{name}", "labels": labels, **metadata}}
        self.put(f"{base}/{plural(kind)}/{name}", item, *([manager] if manager else []))

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
        read_timeout: float = 1.0,
        accept: str = "application/json",
    ) -> Answer:
        if path == "/apis":
            groups = [{"preferredVersion": {"groupVersion": one[6:]}} for one in RESOURCES]
            return Answer(200, {"groups": groups[1:]})
        if path in RESOURCES:
            verbs = ["list", "delete"]
            found = [
                {"name": plural(kind), "kind": kind, "namespaced": True, "verbs": verbs}
                for kind in RESOURCES[path]
            ]
            logs = {"name": "pods/log", "kind": "Pod", "namespaced": True, "verbs": verbs}
            return Answer(200, {"resources": [*found, logs]})
        if path.endswith("selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            word = f"{asked['verb']} {asked['resource']}"
            return Answer(201, {"status": {"allowed": word not in self.denied and "*" not in word}})
        if method == "DELETE":
            self.calls.append((method, path, {}))
            there = self.objects.get(path)
            if there is None:
                return Answer(404, {})
            assert body["preconditions"]["uid"] == there["metadata"]["uid"]
            self.deleted.append(path)
            self.lingers.setdefault(path, 0)
            return Answer(202, {})
        if path in self.deleted:
            if self.lingers[path] == 0:
                self.objects.pop(path, None)
            self.lingers[path] -= 1
        answer = super().request(method, path)
        if answer.status == 404 and path.rpartition("/")[2] in PLURALS:
            return Answer(200, {"items": []})
        return answer


@pytest.fixture
def cluster() -> Namespace:
    found = Namespace()
    found.place(APPS, "Deployment", "mlflow", component="server")
    found.place(APPS, "ReplicaSet", "mlflow-1", None, ownerReferences=[{"kind": "Deployment"}])
    found.place(APPS, "StatefulSet", "postgres", component="database")
    found.place(BATCH, "CronJob", "mlflow-gc")
    found.place(BATCH, "Job", "mlflow-gc-1", None, ownerReferences=[{"kind": "CronJob"}])
    found.place(SPACE, "ConfigMap", "mlflow-config")
    found.place(SPACE, "Service", "mlflow")
    found.place(SPACE, "Endpoints", "mlflow", None)
    found.place(SPACE, "Secret", "mlflow-credentials")
    # By the StatefulSet's controller.
    found.place(SPACE, "PersistentVolumeClaim", "data-postgres-0", None, component="database")
    found.place(SPACE, "PersistentVolumeClaim", "mlflow-artifacts", component="server")
    # In an overlay of somebody's own.
    found.place(ODD, "Thing", "odd")
    found.put(f"{SPACE}/configmaps/theirs", {"metadata": {"name": "theirs", "uid": "t"}})
    return found


def run(
    cluster: Namespace, *delete: str, check_mode: bool = False, timeout: float = 60
) -> dict[str, Any]:
    params = {
        "namespace": "here",
        "delete": list(delete),
        "timeout": timeout,
        "lease": None,
    }
    module: Any = types.SimpleNamespace(params=params, check_mode=check_mode)
    return teardown.run(module, cluster)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teardown.time, "sleep", lambda _seconds: None)


def test_the_release_goes_and_the_data_stay(cluster: Namespace) -> None:
    result = run(cluster)
    assert result["changed"]
    assert result["removed"] == [
        "Deployment/mlflow",
        "CronJob/mlflow-gc",
        "StatefulSet/postgres",
        "ConfigMap/mlflow-config",
        "Service/mlflow",
        "Thing/odd",
    ]
    kept = ["PersistentVolumeClaim/data-postgres-0", "PersistentVolumeClaim/mlflow-artifacts"]
    assert result["kept"] == [*kept, "Secret/mlflow-credentials"]
    assert f"{SPACE}/configmaps/theirs" in cluster.objects
    assert f"{SPACE}/secrets/mlflow-credentials" in cluster.objects


def test_what_runs_noted_goes_too(cluster: Namespace) -> None:
    cluster.place(SPACE, "ConfigMap", "mlflow-record", ("mlops.mlflow.record", "Apply"))
    cluster.place(SPACE, "ConfigMap", "other", ("mlops.mlflowers", "Apply"))
    cluster.place(BATCH, "Job", "left-by-a-killed-run", None, component="schema-status")
    result = run(cluster)
    assert "ConfigMap/mlflow-record" in result["removed"]
    assert "Job/left-by-a-killed-run" in result["removed"]
    assert result["foreign"] == ["ConfigMap/other"]


def test_a_second_run_changes_nothing(cluster: Namespace) -> None:
    run(cluster)
    before = len(cluster.deleted)
    assert not run(cluster)["changed"]
    assert len(cluster.deleted) == before


def test_a_namespace_that_is_not_there_holds_nothing() -> None:
    empty = Namespace()
    empty.objects.clear()
    result = run(empty, "Namespace/here")
    assert not result["changed"]
    assert not result["namespace_exists"]
    assert result["absent"] == ["Namespace/here"]


def test_check_mode_says_it_and_removes_nothing(cluster: Namespace) -> None:
    result = run(cluster, check_mode=True)
    assert result["changed"]
    assert "Deployment/mlflow" in result["removed"]
    assert cluster.deleted == []


def test_the_database_goes_after_its_clients_are_gone(cluster: Namespace) -> None:
    cluster.lingers[f"{APPS}/deployments/mlflow"] = 4
    run(cluster)
    looks = [(method, path) for method, path, _query in cluster.calls]
    last_look = max(
        index for index, look in enumerate(looks) if look == ("GET", f"{APPS}/deployments/mlflow")
    )
    assert last_look < looks.index(("DELETE", f"{APPS}/statefulsets/postgres"))


def test_what_does_not_go_is_named(cluster: Namespace) -> None:
    path = f"{APPS}/deployments/mlflow"
    cluster.lingers[path] = 1000
    cluster.objects[path]["metadata"]["finalizers"] = ["foregroundDeletion"]
    with pytest.raises(ApiError, match=r"still there .*Deployment/mlflow \(foregroundDeletion"):
        run(cluster, timeout=0)
    assert f"{APPS}/statefulsets/postgres" not in cluster.deleted


def test_volumes_and_secrets_go_by_name(cluster: Namespace) -> None:
    names = ["PersistentVolumeClaim/data-postgres-0", "Secret/mlflow-credentials"]
    result = run(cluster, *names, "PersistentVolumeClaim/mlflow-backups")
    assert result["removed"][-2:] == [names[1], names[0]] or result["removed"][-2:] == names
    assert result["kept"] == ["PersistentVolumeClaim/mlflow-artifacts"]
    assert result["absent"] == ["PersistentVolumeClaim/mlflow-backups"]
    # Named again by the next run, they are gone already.
    assert not run(cluster, *names)["changed"]


def test_the_credentials_of_data_that_stay_are_refused(cluster: Namespace) -> None:
    with pytest.raises(ApiError, match=r"opens what is kept .*data-postgres-0"):
        run(cluster, "Secret/mlflow-credentials")
    assert cluster.deleted == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mlflow-artifacts", r"delete\[0\]: must be PersistentVolumeClaim/NAME"),
        ("ConfigMap/mlflow-config", r"delete\[0\]: must be PersistentVolumeClaim/NAME"),
        ("Secret/", r"delete\[0\]: must be"),
        ("Namespace/there", "the release is in namespace here, not there"),
    ],
)
def test_a_name_that_cannot_be_meant_is_refused(cluster: Namespace, name: str, words: str) -> None:
    with pytest.raises(ApiError, match=words):
        run(cluster, name)
    assert cluster.deleted == []


def test_a_volume_of_others_is_refused(cluster: Namespace) -> None:
    path = f"{SPACE}/persistentvolumeclaims/theirs"
    cluster.put(path, {"metadata": {"name": "theirs", "uid": "v"}})
    with pytest.raises(ApiError, match="PersistentVolumeClaim/theirs is not this release's"):
        run(cluster, "PersistentVolumeClaim/theirs")
    assert cluster.deleted == []


@pytest.mark.parametrize(
    ("manager", "words"),
    [(KUBECTLS, "kubectl applied it"), (("helm", "Update"), "this collection did not apply it")],
)
def test_a_workload_that_others_applied_is_refused(
    cluster: Namespace, manager: tuple[str, str], words: str
) -> None:
    cluster.place(APPS, "Deployment", "mlflow", manager)
    with pytest.raises(ApiError, match=rf"Deployment/mlflow is not .*{words}"):
        run(cluster)
    assert cluster.deleted == []


def test_what_else_others_labelled_is_left_alone(cluster: Namespace) -> None:
    cluster.place(SPACE, "ConfigMap", "dashboard", ("somebody", "Update"))
    result = run(cluster)
    assert result["foreign"] == ["ConfigMap/dashboard"]
    assert f"{SPACE}/configmaps/dashboard" in cluster.objects


def test_a_namespace_with_something_of_others_is_refused(cluster: Namespace) -> None:
    names = [
        "PersistentVolumeClaim/data-postgres-0",
        "PersistentVolumeClaim/mlflow-artifacts",
        "Secret/mlflow-credentials",
        "Namespace/here",
    ]
    with pytest.raises(ApiError, match="holds more than this release: ConfigMap/theirs"):
        run(cluster, *names)
    assert cluster.deleted == []
    del cluster.objects[f"{SPACE}/configmaps/theirs"]
    with pytest.raises(ApiError, match="more than this release: PersistentVolumeClaim/mlflow-"):
        run(cluster, names[0], *names[2:])
    assert run(cluster, *names)["removed"][-1] == "Namespace/here"


def test_a_namespace_that_the_release_did_not_make_is_refused() -> None:
    cluster = Namespace()
    cluster.put(SPACE, {"metadata": {"name": "here", "uid": "s"}}, ("kubectl-create", "Update"))
    with pytest.raises(ApiError, match="Namespace/here is not this release's to remove"):
        run(cluster, "Namespace/here")


def test_a_missing_permission_is_told_before_anything_goes(cluster: Namespace) -> None:
    cluster.denied = {"delete statefulsets", "delete things"}
    with pytest.raises(
        ApiError, match=r"missing in namespace here: delete statefulsets.apps, delete things"
    ):
        run(cluster)
    assert cluster.deleted == []
