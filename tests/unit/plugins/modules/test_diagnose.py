# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module diagnose: what it says of good and bad states, and with few permissions."""

from __future__ import annotations

import datetime
import json
import typing as t

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    CLAIM,
    DEPLOYMENT,
    EVENT,
    JOB,
    POD,
    REPLICA_SET,
    STATEFUL_SET,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow import findings, report
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import schema
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.engine import CheckResult
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Problem
from ansible_collections.mlops.mlflow.plugins.modules import diagnose
from ansible_collections.mlops.mlflow.tests.unit.plugins.fake_api import FakeApi
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.any_core import patch_module_args
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.controllers import (
    CRASHED,
    NAMESPACE,
    brought_up,
    fixture,
)

Object = dict[str, t.Any]
PATHS = {
    kind.kind: kind.path(NAMESPACE)
    for kind in (DEPLOYMENT, REPLICA_SET, STATEFUL_SET, JOB, POD, CLAIM, EVENT)
}


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
            diagnose.main()
        return t.cast(Object, json.loads(capsys.readouterr().out))

    return call


def deploy(server: FakeApi, name: str, broken: dict[str, Object] | None = None) -> None:
    for item in brought_up(fixture(name)["objects"], broken):
        server.put(PATHS[item["kind"]], item)


def one(result: Object, name: str) -> Object:
    (found,) = (entry for entry in result["objects"] if entry["name"] == name)
    return t.cast(Object, found)


@pytest.mark.parametrize("name", ["community_chart", "bitnami_chart", "plain", "operator"])
def test_a_healthy_one(name: str, server: FakeApi, run: t.Callable[..., Object]) -> None:
    deploy(server, name)
    result = run()
    assert (result["status"], result["healthy"]) == ("ready", True), result["report"]
    assert "is well" in result["msg"]
    assert {entry["status"] for entry in result["objects"]} == {"ready"}
    assert len(result["report"]) == len(result["objects"])
    assert result["changed"] is False
    assert set(result) >= set(yaml.safe_load(diagnose.RETURN))


def test_a_crash_of_a_foreign_server(server: FakeApi, run: t.Callable[..., Object]) -> None:
    deploy(server, "community_chart", {"Deployment/tracking-mlflow": CRASHED})
    server.logs["tracking-mlflow-0?previous"] = (
        "INFO  starting\n"
        'psycopg2.OperationalError: FATAL:  password authentication failed for user "u"\n'
    )
    result = run()
    entry = one(result, "tracking-mlflow")
    assert (entry["status"], entry["reason"]) == ("failed", "crash_loop")
    assert entry["container"] == "mlflow"
    assert "password authentication failed" in entry["log"]
    assert "the user and password that the database has" in entry["hint"]
    assert "logs tracking-mlflow-0 -c mlflow --previous" in entry["hint"]
    assert result["status"] == "failed"
    for words in ("tracking-mlflow", "crash_loop", "password authentication", "Helm"):
        assert words in result["msg"]
    assert result["report"][0].startswith("✗ Deployment/tracking-mlflow")
    assert one(result, "tracking-postgresql")["status"] == "ready"


def test_no_secret_is_told(server: FakeApi, run: t.Callable[..., Object]) -> None:
    deploy(server, "community_chart", {"Deployment/tracking-mlflow": CRASHED})
    server.logs["tracking-mlflow-0?previous"] = "error: postgresql://u:hunter22@db/x refused\n"
    assert "hunter22" not in json.dumps(run())


def test_one_that_is_slow_to_get_ready(server: FakeApi, run: t.Callable[..., Object]) -> None:
    """MLflow tries for minutes to reach its database: the log tells, before it ends."""
    starting: Object = {"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
    deploy(server, "community_chart", {"Deployment/tracking-mlflow": starting})
    server.logs["tracking-mlflow-0"] = 'FATAL:  password authentication failed for user "u"\n'
    entry = one(run(), "tracking-mlflow")
    assert (entry["status"], entry["reason"]) == ("progressing", None)
    assert entry["container"] == "mlflow"
    assert "password authentication" in entry["log"]
    assert "the user and password that the database has" in entry["hint"]


def waits_for_secret() -> Object:
    text = 'secret "gone" not found'
    return {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": text}}}


def test_a_problem_that_is_old_is_a_failure(server: FakeApi, run: t.Callable[..., Object]) -> None:
    """A wait would count from now on; the pod has been so for long."""
    deploy(server, "plain", {"Deployment/experiments": waits_for_secret()})
    entry = one(run(), "experiments")
    assert (entry["status"], entry["reason"]) == ("failed", "config")
    assert entry["seconds"] > 1000
    assert "secret generic gone" in entry["hint"]


def test_a_problem_that_is_new_may_pass(server: FakeApi, run: t.Callable[..., Object]) -> None:
    deploy(server, "plain", {"Deployment/experiments": waits_for_secret()})
    result = run(tolerances={"config": 10**9})
    entry = one(result, "experiments")
    assert (entry["status"], entry["reason"]) == ("progressing", "config")
    assert "may still pass" in entry["message"]
    assert result["status"] == "progressing"
    assert result["healthy"] is False


def test_scaled_to_nothing(server: FakeApi, run: t.Callable[..., Object]) -> None:
    document = fixture("operator")["objects"]
    document[0]["spec"]["replicas"] = 0
    for item in brought_up(document):
        server.put(PATHS[item["kind"]], item)
    entry = one(run(), "mlflow")
    assert entry["status"] == "failed"
    assert "scale deployment/mlflow --replicas=1" in entry["hint"]


def test_a_claim_that_does_not_exist(server: FakeApi, run: t.Callable[..., Object]) -> None:
    deploy(server, "bitnami_chart")
    server.objects[PATHS["PersistentVolumeClaim"]].pop("ml-tracking")
    claims = [one for one in run()["objects"] if one["kind"] == "PersistentVolumeClaim"]
    found = {claim["name"]: (claim["status"], claim["reason"]) for claim in claims}
    assert found == {
        "ml-tracking": ("failed", "not_found"),
        "data-ml-postgresql-0": ("ready", None),
    }


def test_an_older_revision_that_serves_is_told(
    server: FakeApi, run: t.Callable[..., Object]
) -> None:
    deploy(server, "plain", {"Deployment/experiments": CRASHED})
    old = {
        "kind": "ReplicaSet",
        "metadata": {
            "name": "old",
            "namespace": NAMESPACE,
            "uid": "old",
            "annotations": {"deployment.kubernetes.io/revision": "0"},
            "ownerReferences": [{"uid": "Deployment-experiments", "controller": True}],
        },
    }
    server.put(PATHS["ReplicaSet"], old)
    ready = [{"type": "Ready", "status": "True"}]
    reference = {"kind": "ReplicaSet", "uid": "old", "controller": True}
    metadata = {"name": "o", "namespace": NAMESPACE, "uid": "o", "ownerReferences": [reference]}
    server.put(PATHS["Pod"], {"metadata": metadata, "status": {"conditions": ready}})
    assert "still served by 1 pod" in one(run(), "experiments")["message"]


# --- Nothing there, or nothing to be seen ---------------------------------------------------------


def test_an_empty_namespace(server: FakeApi, run: t.Callable[..., Object]) -> None:
    result = run()
    assert (result["status"], result["healthy"], result["objects"]) == ("empty", False, [])
    assert "no MLflow server in namespace ns" in result["msg"]
    assert "no workload at all" in result["msg"]


def test_a_namespace_with_something_else(server: FakeApi, run: t.Callable[..., Object]) -> None:
    shop = [item for item in fixture("community_chart")["objects"] if "shop" in str(item)]
    for item in brought_up(shop):
        server.put(PATHS[item["kind"]], item)
    result = run()
    assert result["status"] == "empty"
    assert "Deployment/shop" in result["msg"]


def test_a_namespace_that_does_not_exist(server: FakeApi, run: t.Callable[..., Object]) -> None:
    server.always["list", f"/api/v1/namespaces/{NAMESPACE}"] = (404, None)
    assert "There is no namespace ns" in run()["msg"]


@pytest.mark.parametrize("hidden", ["ReplicaSet", "Event", "PersistentVolumeClaim", "Job"])
def test_what_may_not_be_listed_is_told(
    hidden: str, server: FakeApi, run: t.Callable[..., Object]
) -> None:
    deploy(server, "bitnami_chart", {"Deployment/ml-tracking": CRASHED})
    server.always["list", PATHS[hidden]] = (403, None)
    result = run()
    assert len([note for note in result["notes"] if "may not list" in note]) == 1
    assert any(line.startswith("not seen: ") for line in result["report"])
    assert result["status"] == "failed"
    broken = [entry for entry in result["objects"] if entry["status"] == "failed"]
    assert [entry["reason"] for entry in broken] == ["crash_loop"], broken


def test_a_log_that_may_not_be_read_is_told(server: FakeApi, run: t.Callable[..., Object]) -> None:
    deploy(server, "community_chart", {"Deployment/tracking-mlflow": CRASHED})
    server.always["list", f"{PATHS['Pod']}/tracking-mlflow-0/log"] = (403, None)
    result = run()
    assert one(result, "tracking-mlflow")["reason"] == "crash_loop"
    assert any("pods/log" in note for note in result["notes"])


def test_nothing_may_be_listed(server: FakeApi, run: t.Callable[..., Object]) -> None:
    for path in PATHS.values():
        server.always["list", path] = (403, None)
    result = run()
    assert result["failed"] is True
    assert "not allowed to list" in result["msg"]


def test_credentials_that_are_refused(server: FakeApi, run: t.Callable[..., Object]) -> None:
    for path in PATHS.values():
        server.always["list", path] = (401, None)
    result = run()
    assert result["failed"] is True
    assert "does not accept the credentials" in result["msg"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"tolerances": {"crashloop": 1}}, "crashloop is not known"),
        ({"tolerances": {"config": "soon"}}, "config must be a number"),
        ({"settle": -1}, "settle must be"),
        ({"namespace": " "}, "namespace: is empty"),
    ],
)
def test_impossible_options(
    wrong: Object, says: str, server: FakeApi, run: t.Callable[..., Object]
) -> None:
    result = run(**wrong)
    assert says in result["msg"]
    assert server.requests == []


def test_only_reads(server: FakeApi, run: t.Callable[..., Object]) -> None:
    """One list of each kind, and no watch."""
    deploy(server, "community_chart")
    run()
    paths = [path for path, query, _headers in server.requests if "watch" not in query]
    assert len(paths) == len(set(paths)) == len(server.requests)


# --- What the servers answer ----------------------------------------------------------------------
# The fake API server has no port-forward (a websocket to a pod): the check stands in for it here;
# molecule's scenario "faults" asks real servers.


def answering(monkeypatch: pytest.MonkeyPatch, *problems: Problem, version: str = "3.7.0") -> None:
    def check(_self: object, seen: t.Any) -> CheckResult:
        (pods,) = (pods for _item, pods in seen.values())
        assert [len(pod["spec"]["containers"]) for pod in pods] == [1]
        facts = {"server": {"version": version}, "schema": None}
        return CheckResult(not problems, "told", problems, facts)

    monkeypatch.setattr(report.MlflowCheck, "__call__", check)


def problem(reason: str, message: str) -> Problem:
    pod = "tracking-mlflow-0"
    return Problem(reason, "Pod", NAMESPACE, pod, message, pod, container="mlflow", pod=pod)


def test_it_answers(
    server: FakeApi, run: t.Callable[..., Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(server, "community_chart")
    answering(monkeypatch)
    result = run(ask=True)
    assert result["healthy"] is True
    assert result["servers"] == {"Deployment/tracking-mlflow": {"version": "3.7.0", "schema": None}}
    assert "answers from the database" in one(result, "tracking-mlflow")["message"]


def test_it_does_not_answer(
    server: FakeApi, run: t.Callable[..., Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(server, "community_chart")
    answering(monkeypatch, problem("database_unreachable", "connection refused"))
    entry = one(run(ask=True), "tracking-mlflow")
    assert (entry["status"], entry["reason"]) == ("failed", "database_unreachable")
    # Not this collection's names: it was deployed by a chart.
    assert "app.kubernetes.io/component" not in entry["hint"]


@pytest.mark.parametrize(
    ("reason", "message", "note"),
    [
        ("http_unready", "(the account needs create on pods/portforward)", "pods/portforward"),
        ("unauthorized", "MLflow refuses requests without credentials", "user and password"),
    ],
)
def test_what_it_may_not_be_asked_is_no_failure(
    reason: str,
    message: str,
    note: str,
    server: FakeApi,
    run: t.Callable[..., Object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deploy(server, "community_chart")
    answering(monkeypatch, problem(reason, message))
    result = run(ask=True)
    assert result["healthy"] is True
    assert any(note in line for line in result["notes"])
    assert "answers from the database" not in one(result, "tracking-mlflow")["message"]


@pytest.mark.parametrize(
    ("entry", "status"),
    [
        ({"state": "empty", "head": "b"}, "progressing"),
        ({"state": "behind", "detail": "being initialised or migrated now by x"}, "progressing"),
        ({"state": "behind", "current": "a", "head": "b"}, "failed"),
    ],
)
def test_a_first_start_is_no_failure(
    entry: Object,
    status: str,
    server: FakeApi,
    run: t.Callable[..., Object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The init container initialises an empty database: an exec of the helper (see above) tells."""
    document = fixture("plain")["objects"]
    tracking = document[0]["spec"]["template"]["spec"]["containers"][1]
    tracking["volumeMounts"] = [{"name": "schema", "mountPath": "/opt/mlops-mlflow"}]
    starting: Object = {"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
    for item in brought_up(document, {"Deployment/experiments": starting}):
        server.put(PATHS[item["kind"]], item)

    def run_helper(_self: object, _pod: Object, _container: str) -> t.Any:
        return {"tracking": entry}, ("", "")

    monkeypatch.setattr(report.MlflowCheck, "_run_helper", run_helper)
    monkeypatch.setattr(schema, "helper_runs_in", lambda _pod, init: "schema-wait")
    assert one(run(ask=True), "experiments")["status"] == status


@pytest.mark.parametrize(("age", "status"), [(20, "progressing"), (3600, "failed")])
def test_a_server_that_has_just_started_is_starting(
    age: float,
    status: str,
    server: FakeApi,
    run: t.Callable[..., Object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing probes it, so Kubernetes calls it ready before it listens."""
    began = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age)
    deploy(server, "community_chart")
    pods = server.objects[PATHS["Pod"]]
    pod = next(name for name in pods if name.startswith("tracking-mlflow"))
    (status_of_main,) = pods[pod]["status"]["containerStatuses"]
    status_of_main["state"] = {"running": {"startedAt": began.isoformat()}}
    silent = problem("http_unready", "connection refused")._replace(name=pod, pod=pod)
    answering(monkeypatch, silent)
    entry = one(run(ask=True), "tracking-mlflow")
    assert entry["status"] == status
    assert ("is starting" in entry["message"]) == (status == "progressing")


def failed_entry(**more: t.Any) -> Object:
    """Return what is said of a server whose image is not there."""
    return {
        "role": "server",
        "kind": "Deployment",
        "name": "mlflow",
        "deployed_by": None,
        "status": "failed",
        "reason": "image_pull",
        "seconds": 90,
        "message": "image x cannot be pulled",
        "log": None,
        "hint": "Correct it: kubectl -n ns describe pod x",
        "serving": 2,
        "wanted": 2,
        **more,
    }


def test_a_server_that_serves_is_not_called_ill() -> None:
    """Its last rollout failed: people are served all the same."""
    text = findings.sentence("ns", [failed_entry()], "")
    assert text.startswith("MLflow in namespace ns serves 2 of 2; the last attempt failed: ")
    assert text.endswith("kubectl -n ns describe pod x"), "a command that can be copied"
    for entries in (
        [failed_entry(serving=0)],
        [failed_entry(), failed_entry(role="database", name="db")],
    ):
        assert "is not well" in findings.sentence("ns", entries, "")


# --- Words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"), [(3, "3 s"), (119, "119 s"), (600, "10 min"), (7200, "2 h"), (4e5, "5 d")]
)
def test_spans(seconds: float, words: str) -> None:
    assert findings.span(seconds) == words


def test_documentation_and_options_agree() -> None:
    documented = yaml.safe_load(diagnose.DOCUMENTATION)["options"]
    spec = diagnose.argument_spec()
    own = set(spec) - set(diagnose.AUTH_ARG_SPEC)
    assert own == set(documented)
    for name in own:
        assert spec[name].get("default") == documented[name].get("default"), name
    assert yaml.safe_load(diagnose.EXAMPLES)


def test_what_the_run_knows_is_not_told(
    server: FakeApi, run: t.Callable[..., Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no form that a secret would have: the environment knows it."""
    monkeypatch.setenv("MLFLOW_DATABASE_PASSWORD", "rosemary-and-thyme")
    deploy(server, "community_chart", {"Deployment/tracking-mlflow": CRASHED})
    server.logs["tracking-mlflow-0?previous"] = "error: rosemary-and-thyme is no database\n"
    told = json.dumps(run())
    assert "is no database" in told
    assert "rosemary" not in told
