# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module mlflow_info: what it says of a release, and that it fails on none."""

from __future__ import annotations

import json
import typing as t

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.modules import mlflow_info
from ansible_collections.mlops.mlflow.tests.unit.plugins.fake_api import FakeApi
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.any_core import patch_module_args
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.controllers import (
    CRASHED,
    EARLY,
    NAMESPACE,
    brought_up,
)

Object = dict[str, t.Any]
SPACE = f"/api/v1/namespaces/{NAMESPACE}"
SECRETS = f"{SPACE}/secrets"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/mlflow-release"
RECORD = f"{SPACE}/configmaps/mlflow-releases"
PATHS = {
    "Deployment": f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments",
    "ReplicaSet": f"/apis/apps/v1/namespaces/{NAMESPACE}/replicasets",
    "StatefulSet": f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets",
    "Job": f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs",
    "Pod": f"{SPACE}/pods",
    "PersistentVolumeClaim": f"{SPACE}/persistentvolumeclaims",
}
LABELS = {"app.kubernetes.io/part-of": "mlflow"}


def workload(kind: str, name: str, image: str, component: str, **container: t.Any) -> Object:
    labels = {**LABELS, "app.kubernetes.io/component": component}
    spec: Object = {"containers": [{"name": name, "image": image, **container}]}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name, **labels}}, "spec": spec},
        },
    }


def release(broken: dict[str, Object] | None = None) -> list[Object]:
    reads = {"valueFrom": {"secretKeyRef": {"name": "mlflow-s3-credentials", "key": "a"}}}
    server = workload(
        "Deployment",
        "mlflow",
        "localhost/mlflow:3.17.2",
        "server",
        command=["mlflow", "server"],
        env=[{"name": "A", **reads}],
    )
    server["spec"]["template"]["spec"]["volumes"] = [
        {"name": "p", "secret": {"secretName": "mlflow-credentials"}}
    ]
    database = workload("StatefulSet", "postgres", "localhost/postgres:17", "database")
    objects = brought_up([server, database], broken)
    for item in objects:
        if item["kind"] == "Pod":
            component = "database" if "postgres" in item["metadata"]["name"] else "server"
            item["metadata"]["labels"] |= {**LABELS, "app.kubernetes.io/component": component}
    return objects


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[FakeApi]:
    """An empty API server, and no other way to one."""
    monkeypatch.delenv("K8S_AUTH_KUBECONFIG", raising=False)
    server = FakeApi()
    monkeypatch.setenv("K8S_AUTH_HOST", server.url)
    monkeypatch.setenv("K8S_AUTH_API_KEY", "token")
    yield server
    server.close()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> t.Callable[..., Object]:
    """Runs the module as Ansible does, and returns its result."""

    def call(**arguments: t.Any) -> Object:
        arguments = {"namespace": NAMESPACE, "ask": False, **arguments}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            mlflow_info.main()
        result = t.cast(Object, json.loads(capsys.readouterr().out))
        assert "failed" not in result, result
        assert set(result) >= set(yaml.safe_load(mlflow_info.RETURN))
        assert result["changed"] is False
        return result

    return call


def deploy(server: FakeApi, broken: dict[str, Object] | None = None) -> None:
    for item in release(broken):
        server.put(PATHS[item["kind"]], item)


def lines(result: Object, subject: str) -> list[str]:
    return [line for line in result["report"][1:] if line.startswith(subject)]


def test_a_healthy_release(server: FakeApi, run: t.Callable[..., Object]) -> None:
    deploy(server)
    result = run()
    assert (result["status"], result["namespace_exists"]) == ("ready", True)
    assert result["mlflow"]["image"] == "localhost/mlflow:3.17.2"
    assert result["mlflow"]["image_version"] == "3.17.2"
    assert result["mlflow"]["replicas"] == {"wanted": 1, "updated": 1, "ready": 1}
    assert result["postgres"]["image_version"] == "17"
    assert [pod["name"] for pod in result["pods"]] == ["mlflow-0", "postgres-0"]
    assert result["pods"][0]["component"] == "server"
    assert lines(result, "MLflow")[0].endswith("1 of 1 ready, localhost/mlflow:3.17.2")
    assert lines(result, "lock")[0].split() == ["lock", "free"]


def test_a_broken_release(server: FakeApi, run: t.Callable[..., Object]) -> None:
    deploy(server, {"Deployment/mlflow": CRASHED, "StatefulSet/postgres": CRASHED})
    result = run()
    assert result["status"] == "failed"
    assert result["mlflow"]["replicas"]["ready"] == 0
    assert [pod["status"] for pod in result["pods"]] == ["CrashLoopBackOff"] * 2
    assert [pod["restarts"] for pod in result["pods"]] == [5, 5]
    assert result["schema"] == {}
    assert "not known" in lines(result, "schema")[0]


def test_no_namespace(server: FakeApi, run: t.Callable[..., Object]) -> None:
    server.always["list", SPACE] = (404, None)
    result = run()
    assert (result["status"], result["namespace_exists"]) == ("empty", False)
    assert result["mlflow"] is None
    assert result["postgres"] is None
    assert result["pods"] == []
    assert "There is no namespace" in result["report"][0]


def test_the_schema_that_a_pod_has_left(server: FakeApi, run: t.Callable[..., Object]) -> None:
    verdict = {"tracking": {"state": "behind", "current": "a1", "head": "b2", "detail": "x"}}
    ended = {"message": json.dumps(verdict), "finishedAt": EARLY, "exitCode": 3}
    objects = release({"Deployment/mlflow": CRASHED})
    for item in objects:
        if item["metadata"]["name"] == "mlflow-0":
            waits = {"name": "schema-wait", "state": {"terminated": ended}}
            item["status"]["initContainerStatuses"] = [waits]
        server.put(PATHS[item["kind"]], item)
    result = run()
    said = {"state": "behind", "current": "a1", "head": "b2", "differences": None}
    assert result["schema"] == {"tracking": said}
    assert lines(result, "schema tracking")[0].endswith("behind, revision a1, the image's is b2")


def test_secrets_tell_their_age_and_nothing_else(
    server: FakeApi, run: t.Callable[..., Object]
) -> None:
    deploy(server)
    metadata: Object = {"name": "mlflow-credentials", "labels": LABELS, "creationTimestamp": EARLY}
    metadata["managedFields"] = [{"time": "2026-01-03T00:00:00Z"}, {"time": EARLY}]
    server.put(SECRETS, {"metadata": metadata})
    server.put(SECRETS, {"metadata": {"name": "theirs", "creationTimestamp": EARLY}})
    result = run()
    ours, needed = result["secrets"]
    assert (ours["name"], ours["created"], ours["written"]) == (
        "mlflow-credentials",
        EARLY,
        "2026-01-03T00:00:00Z",
    )
    # A pod reads it, and it is not there.
    assert (needed["name"], needed["exists"]) == ("mlflow-s3-credentials", False)
    asked = [headers["Accept"] for path, _query, headers in server.requests if path == SECRETS]
    assert asked == ["application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"]


def test_a_rotation_that_was_cut_off_is_told(server: FakeApi, run: t.Callable[..., Object]) -> None:
    deploy(server)
    assert run()["rotation"] == []
    metadata = {"name": "mlflow-rotation", "labels": LABELS, "creationTimestamp": EARLY}
    metadata["annotations"] = {"mlops.mlflow/rotating": "database-password"}
    server.put(SECRETS, {"metadata": metadata})
    result = run()
    assert result["rotation"] == ["database-password"]
    (line,) = lines(result, "rotation")
    assert "database-password was begun and is not finished" in line
    assert "site.yml or rotate.yml finishes it" in line


def test_who_may_not_see_everything_is_told_so(
    server: FakeApi, run: t.Callable[..., Object]
) -> None:
    deploy(server)
    server.always["list", SECRETS] = (403, None)
    server.always["list", LEASE] = (403, None)
    server.always["list", PATHS["PersistentVolumeClaim"]] = (403, None)
    result = run()
    assert result["status"] == "ready"
    assert (result["secrets"], result["lock"]) == ([], None)
    told = " ".join(result["notes"])
    for word in ("Secrets", "release lock", "persistentvolumeclaims"):
        assert word in told


@pytest.mark.parametrize(("renewed", "over"), [("2999-01-01T00:00:00Z", False), (EARLY, True)])
def test_who_holds_the_lock(
    renewed: str, over: bool, server: FakeApi, run: t.Callable[..., Object]
) -> None:
    deploy(server)
    spec = {"holderIdentity": "ann@host", "leaseDurationSeconds": 120}
    spec |= {"acquireTime": EARLY, "renewTime": renewed}
    server.always["list", LEASE] = (200, {"metadata": {"resourceVersion": "1"}, "spec": spec})
    result = run()
    assert result["lock"] == {
        "holder": "ann@host",
        "since": EARLY,
        "renewed": renewed,
        "over": over,
    }
    assert ("the next run takes it" in lines(result, "lock")[0]) is over


def smoke_test(name: str, at: str, condition: str = "Complete") -> Object:
    labels = {**LABELS, "app.kubernetes.io/component": "smoke-test"}
    ended = {"type": condition, "status": "True", "lastTransitionTime": at}
    return {
        "kind": "Job",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels, "uid": name},
        "spec": {"template": {"spec": {"containers": []}}},
        "status": {"conditions": [ended]},
    }


def test_when_it_was_last_good(server: FakeApi, run: t.Callable[..., Object]) -> None:
    deploy(server)
    assert run()["last_release"] is None
    rolled = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
    deployment = next(item for item in release() if item["kind"] == "Deployment")
    deployment["status"]["conditions"] = [{**rolled, "lastUpdateTime": EARLY}]
    server.put(PATHS["Deployment"], deployment)
    unknown = {"number": None, "version": None, "backup": None}
    assert run()["last_release"] == {"time": EARLY, "proof": "rollout", **unknown}
    server.put(PATHS["Job"], smoke_test("one", "2026-01-02T00:00:00Z"))
    server.put(PATHS["Job"], smoke_test("two", "2026-01-04T00:00:00Z"))
    # One that failed says nothing good of the release it was for.
    server.put(PATHS["Job"], smoke_test("three", "2026-01-05T00:00:00Z", "Failed"))
    good = {"time": "2026-01-04T00:00:00Z", "proof": "smoke test", **unknown}
    result = run()
    assert result["last_release"] == good
    assert lines(result, "last good")[0].endswith("ago, by its smoke test")


RECORDED: Object = {
    "number": 2,
    "version": "3.17.2",
    "time": "2026-01-03T00:00:00Z",
    "proof": "smoke test",
    "backup": {"name": "20260103T000000Z", "time": EARLY, "revisions": {}},
}


def recorded(server: FakeApi, *releases: Object) -> None:
    data = {"releases.json": json.dumps(releases)}
    server.always["list", RECORD] = (200, {"metadata": {"name": "mlflow-releases"}, "data": data})


def test_the_record_says_which_release_was_last_good(
    server: FakeApi, run: t.Callable[..., Object]
) -> None:
    deploy(server)
    # Of another run; what is recorded says more than its Job does.
    server.put(PATHS["Job"], smoke_test("one", "2026-01-02T00:00:00Z"))
    recorded(server, RECORDED, {"number": 1, "version": "3.16.1", "time": EARLY})
    result = run()
    assert result["last_release"] == {**RECORDED, "backup": "20260103T000000Z"}
    assert result["notes"] == []
    assert lines(result, "last good")[0].endswith(
        "by its smoke test, release 2 (MLflow 3.17.2); the backup 20260103T000000Z leads back"
    )
    # One that a rollback went back to serves since then; one without a smoke test was rolled out.
    recorded(
        server, {"number": 1, "version": "", "time": EARLY, "back_since": "2026-01-04T00:00:00Z"}
    )
    assert run()["last_release"] == {
        "time": "2026-01-04T00:00:00Z",
        "proof": "rollout",
        "number": 1,
        "version": None,
        "backup": None,
    }


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((403, None), "the record of releases ("),
        ((200, {"data": {"releases.json": "{"}}), "is not what this collection wrote"),
        ((404, None), ""),
    ],
)
def test_without_a_record_its_objects_tell(
    answer: tuple[int, t.Any], words: str, server: FakeApi, run: t.Callable[..., Object]
) -> None:
    deploy(server)
    server.put(PATHS["Job"], smoke_test("one", "2026-01-02T00:00:00Z"))
    server.always["list", RECORD] = answer
    result = run()
    assert result["last_release"]["time"] == "2026-01-02T00:00:00Z"
    assert result["last_release"]["number"] is None
    assert words in " ".join(result["notes"])
    assert bool(result["notes"]) is bool(words)


def test_what_silently_goes_wrong_in_the_database_is_told(
    server: FakeApi, run: t.Callable[..., Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(server)
    said = {
        "version": "17.6 (Debian 17.6-1.pgdg13+1)",
        "collation": ["mlflow"],
        "invalid_indexes": ["index_of_theirs"],
        "checksum_failures": 2,
    }
    monkeypatch.setattr(mlflow_info.Api, "execute", lambda *_a: (0, json.dumps(said), ""))
    result = run(ask=True)
    assert result["postgres"]["version"] == "17.6"
    told = " ".join(lines(result, "Postgres"))
    assert "REINDEX DATABASE mlflow" in told
    assert "REFRESH COLLATION VERSION" in told
    assert "index_of_theirs" in told
    assert "2 page(s) were not what was written" in told


def test_a_database_that_does_not_answer_is_not_called_healthy(
    server: FakeApi, run: t.Callable[..., Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(server)
    monkeypatch.setattr(mlflow_info.Api, "execute", lambda *_a: (2, "", "FATAL: too many clients"))
    result = run(ask=True)
    assert result["postgres"]["checksum_failures"] is None
    assert any("too many clients" in note for note in result["notes"])


INDEX = "index of_ours of table runs is missing: CREATE INDEX CONCURRENTLY of_ours ON runs USING …"


@pytest.mark.parametrize(
    ("said", "differences", "note"),
    [
        ({"differences": [INDEX]}, [INDEX], ""),
        ({"differences": []}, [], ""),
        ({"detail": "not compared: why"}, None, "not compared: why"),
        # An older release's helper.
        (None, None, "usage: schema.py"),
    ],
)
def test_what_is_missing_in_the_schema_is_told(
    said: Object | None,
    differences: list[str] | None,
    note: str,
    server: FakeApi,
    run: t.Callable[..., Object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deploy(server)
    verdict = {"state": "at_head", "current": "a1", "head": "a1"}
    asked: list[list[str]] = []

    def execute(*arguments: t.Any) -> tuple[int, str, str]:
        asked.append(arguments[4])
        if arguments[4][-1] == "compare":
            assert arguments[2:4] == ("mlflow-0", "mlflow")
            found = json.dumps({"tracking": {**verdict, **said}}) if said is not None else ""
            return (0, found, "" if said else "usage: schema.py {status,wait}")
        return (0, "{}", "")

    monkeypatch.setattr(mlflow_info.Api, "execute", execute)
    monkeypatch.setattr(
        mlflow_info, "schema_from_messages", lambda _pods: {"tracking": {**verdict}}
    )
    result = run(ask=True, compare_schema=True)
    assert result["schema"]["tracking"]["differences"] == differences
    assert [line.split(None, 2)[2] for line in lines(result, "schema tracking")[1:]] == (
        differences or []
    )
    assert note in " ".join(result["notes"])
    # It costs a server something, and so only who wants to know asks.
    asked.clear()
    assert run(ask=True)["schema"]["tracking"]["differences"] is None
    assert "compare" not in [command[-1] for command in asked]
