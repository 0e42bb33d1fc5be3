# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The engine as a whole, against a real HTTP server."""

from __future__ import annotations

import threading
import time
import typing as t

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    DEPLOYMENT,
    POD,
    REPLICA_SET,
    Kind,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import watch
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.engine import (
    CheckResult,
    Engine,
    Options,
    Seen,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import DEFAULTS, Problem
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import Target
from ansible_collections.mlops.mlflow.tests.unit.plugins.fake_api import RESET, FakeApi

DEPLOYMENTS = "/apis/apps/v1/namespaces/ns/deployments"
REPLICA_SETS = "/apis/apps/v1/namespaces/ns/replicasets"
PODS = "/api/v1/namespaces/ns/pods"
WEB = Target(DEPLOYMENT, "ns", "web")
KEYS = {"ready", "elapsed", "requests", "resources", "timeline", "failure", "msg"}
FAILURE_KEYS = {"reason", "kind", "name", "container", "message", "hint", "events", "logs"}


def deployment(available: int) -> dict[str, t.Any]:
    """Return a Deployment of one probed container."""
    return {
        "metadata": {"name": "web", "namespace": "ns", "uid": "d"},
        "spec": {
            "replicas": 1,
            "template": {"spec": {"containers": [{"name": "main", "readinessProbe": {}}]}},
        },
        "status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": available},
    }


def replica_set() -> dict[str, t.Any]:
    """Return its ReplicaSet."""
    return {
        "metadata": {"name": "r", "namespace": "ns", "uid": "r", "ownerReferences": [{"uid": "d"}]}
    }


def pod(**status: t.Any) -> dict[str, t.Any]:
    """Return its pod, with a container of this status."""
    owner = [{"uid": "r"}]
    return {
        "metadata": {"name": "web-a", "namespace": "ns", "uid": "p", "ownerReferences": owner},
        "spec": {"containers": [{"name": "main", "readinessProbe": {}}]},
        "status": {"containerStatuses": [{"name": "main", **status}]},
    }


CRASHED = {
    "restartCount": 1,
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 1}},
}


@pytest.fixture
def server() -> t.Iterator[FakeApi]:
    """A server with a Deployment that is not available yet."""
    server = FakeApi()
    server.put(DEPLOYMENTS, deployment(0))
    server.put(REPLICA_SETS, replica_set())
    yield server
    server.close()


def engine(server: FakeApi, check: t.Any = None, **options: t.Any) -> Engine:
    """Return an engine that waits for the Deployment."""
    options.setdefault("timeout", 10.0)
    return Engine(Api({"host": server.url, "api_key": "t"}), [WEB], Options(**options), check=check)


def later(seconds: float, action: t.Callable[..., None], *arguments: t.Any) -> None:
    """Do something in a moment."""
    threading.Timer(seconds, action, arguments).start()


def test_ready_at_once(server: FakeApi) -> None:
    """What is ready needs no waiting."""
    server.put(DEPLOYMENTS, deployment(1))
    result = engine(server).run()
    assert set(result) == KEYS
    assert (result["ready"], result["failure"]) == (True, None)
    assert result["resources"][0]["status"] == "ready"
    assert result["msg"] == "ready: Deployment/web"


def test_ready_is_told_within_a_quarter_of_a_second(server: FakeApi) -> None:
    """The event that makes it ready ends the wait."""
    moment: list[float] = []

    def available() -> None:
        moment.append(time.monotonic())
        server.put(DEPLOYMENTS, deployment(1))

    later(0.3, available)
    result = engine(server).run()
    assert result["ready"]
    assert time.monotonic() - moment[0] < 0.25
    assert result["requests"] <= 10


def test_crash_loop(server: FakeApi) -> None:
    """A failure names the container and the line of the log, without its secrets."""
    server.put(PODS, pod(**CRASHED))
    server.logs["web-a?previous"] = "starting\nFATAL: no db at postgresql://u:s3cr3t@h/x\n"
    result = engine(server).run()
    assert set(result) == KEYS
    failure = result["failure"]
    assert set(failure) == FAILURE_KEYS
    assert (failure["reason"], failure["kind"]) == ("crash_loop", "Pod")
    assert (failure["name"], failure["container"]) == ("web-a", "main")
    assert failure["logs"][-1].startswith("FATAL: no db at postgresql://u:****")
    assert "s3cr3t" not in str(result)
    assert "FATAL: no db" in result["msg"]
    assert "kubectl -n ns logs web-a -c main --previous" in failure["hint"]
    assert "\n" not in result["msg"]
    assert result["elapsed"] < 2
    assert result["resources"][0]["status"] == "failed"


def test_given_secrets_are_masked(server: FakeApi) -> None:
    """A secret that the caller knows of is masked wherever it turns up."""
    server.put(PODS, pod(**CRASHED))
    server.logs["web-a?previous"] = "using Tr0ub4dor&3 as it is"
    result = engine(server, secrets=("Tr0ub4dor&3",)).run()
    assert result["failure"]["logs"] == ["using ******** as it is"]


def test_timeout_says_what_it_waited_for(server: FakeApi) -> None:
    """A time-out names what is going on."""
    server.put(PODS, pod(state={"running": {}}, ready=False))
    result = engine(server, timeout=0.3).run()
    assert result["failure"]["reason"] == "timeout"
    assert result["failure"]["container"] == "main"
    assert "main started, not ready" in result["msg"]
    assert 0.3 <= result["elapsed"] < 1


def test_forbidden(server: FakeApi) -> None:
    """A missing permission is named, with its verb and resource."""
    server.always["list", PODS] = (403, None)
    result = engine(server).run()
    assert set(result) == KEYS
    assert not result["ready"]
    assert "not allowed to list pods" in result["msg"]
    assert result["elapsed"] < 2


def test_one_pass(server: FakeApi) -> None:
    """Looking once opens no watch, and does not wait."""
    result = engine(server, one_pass=True).run()
    assert not result["ready"]
    assert result["failure"] is None
    assert "0 of 1 available" in result["msg"]
    assert not any("watch" in query for _path, query, _headers in server.requests)


def test_interrupted_streams_do_not_fail_it(server: FakeApi) -> None:
    """A reset in the middle is noted and survived."""

    def reset() -> None:
        while not server.streams.get(PODS):
            time.sleep(0.01)
        server.disturb(PODS, RESET)
        later(0.25, server.put, DEPLOYMENTS, deployment(1))

    later(0, reset)
    result = engine(server).run()
    assert result["ready"]
    assert any(entry["object"] == "API server" for entry in result["timeline"])


def test_nothing_to_wait_for(server: FakeApi) -> None:
    """Objects that are ready by being there need no request."""
    target = Target(Kind("v1", "ConfigMap", ""), "ns", "c", inert=True)
    result = Engine(Api({"host": server.url, "api_key": "t"}), [target], Options()).run()
    assert result["ready"]
    assert result["requests"] == 0


def test_all_failures_without_fail_fast(server: FakeApi) -> None:
    """Without fail_fast, the other object is waited for first."""
    server.put(PODS, pod(**CRASHED))
    other = deployment(0)
    other["metadata"].update(name="other", uid="o")
    server.put(DEPLOYMENTS, other)
    ready = deployment(1)
    ready["metadata"].update(name="other", uid="o")
    later(0.5, server.put, DEPLOYMENTS, ready)
    targets = [WEB, Target(DEPLOYMENT, "ns", "other")]
    result = Engine(
        Api({"host": server.url, "api_key": "t"}), targets, Options(fail_fast=False, timeout=10)
    ).run()
    assert [entry["status"] for entry in result["resources"]] == ["failed", "ready"]
    assert 0.4 < result["elapsed"] < 3


class Checks:
    """A check that fails a few times first."""

    def __init__(self, *results: CheckResult) -> None:
        self.results = list(results)
        self.asked = 0

    def __call__(self, seen: Seen) -> CheckResult:
        self.asked += 1
        return self.results.pop(0) if len(self.results) > 1 else self.results[0]

    def meanwhile(self, seen: Seen) -> CheckResult | None:
        return None


BAD = CheckResult(False, "bad", (Problem("http_unready", "Pod", "ns", "web-a", "bad", "p"),))
GOOD = CheckResult(True, "good", (), {"schema": 1})


def test_check_must_pass(server: FakeApi) -> None:
    """It is repeated until it passes, and its facts are kept."""
    server.put(DEPLOYMENTS, deployment(1))
    check = Checks(BAD._replace(again=0.05), BAD._replace(again=0.05), GOOD)
    waiting = engine(server, check)
    result = waiting.run()
    assert result["ready"]
    assert (check.asked, waiting.facts) == (3, {"schema": 1})


def test_check_that_keeps_failing(server: FakeApi) -> None:
    """Its reason is the failure's, after the tolerance."""
    server.put(DEPLOYMENTS, deployment(1))
    check = Checks(BAD._replace(again=0.05))
    result = engine(server, check, tolerances={"http_unready": 0.5}).run()
    assert result["failure"]["reason"] == "http_unready"
    assert 0.5 <= result["elapsed"] < 2


def test_result_is_the_same_for_a_deleted_object(server: FakeApi) -> None:
    """An object that goes away is a failure after its tolerance."""
    later(0.2, server.put, DEPLOYMENTS, deployment(0), "DELETED")
    result = engine(server, tolerances={"not_found": 0.3}).run()
    assert result["failure"]["reason"] == "not_found"


def test_api_server_away_for_a_while(server: FakeApi) -> None:
    """The server goes away with all its connections, comes back, and the wait goes on."""
    back: list[FakeApi] = []

    def restart() -> None:
        server.close()
        for path in list(server.streams):
            server.disturb(path, RESET)
        time.sleep(0.5)
        again = FakeApi(port=int(server.url.rpartition(":")[2]))
        again.objects, again.version = server.objects, server.version
        back.append(again)
        again.put(DEPLOYMENTS, deployment(1))

    later(0.3, restart)
    result = engine(server, timeout=30.0).run()
    for again in back:
        again.close()
    assert result["ready"], result["msg"]
    events = [entry["event"] for entry in result["timeline"] if entry["object"] == "API server"]
    assert "does not answer" in events[0] or "closed" in events[0] or "broken" in events[0].lower()


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_wall_clock_jumps(server: FakeApi, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    """Setting this host's clock neither ends a tolerance early nor makes it longer."""
    image = {"image": "x", "state": {"waiting": {"reason": "ErrImagePull", "message": "timeout"}}}
    server.put(PODS, pod(**image))
    wall = time.time
    later(0.2, monkeypatch.setattr, time, "time", lambda: wall() + jump)
    result = engine(server, tolerances={"image_pull": 1.0}).run()
    assert result["failure"]["reason"] == "image_pull"
    assert 1.0 <= result["elapsed"] < 5.0


class Stepped:
    """An engine whose reports and clock are the test's, one step at a time."""

    def __init__(self, status: dict[str, t.Any]) -> None:
        self.now = 0.0
        api = Api({"host": "http://127.0.0.1:1", "api_key": "t"})
        self.engine = Engine(api, [WEB], Options(), clock=lambda: self.now)
        self.take(watch.Listed(DEPLOYMENT, "ns", [deployment(0)]))
        self.take(watch.Listed(REPLICA_SET, "ns", [replica_set()]))
        self.take(watch.Listed(POD, "ns", [pod(**status)]))

    def take(self, report: t.Any) -> None:
        self.engine._take(report)

    def failed_at(self, now: float) -> list[str]:
        """Return the reasons for which the wait would end at that time (s)."""
        self.now = now
        failures, _due = self.engine._judge()
        return [problem.reason for problem in failures]

    def outage(self, since: float, until: float) -> None:
        self.now = since
        self.take(watch.Interrupted(POD, "ns", "connection reset"))
        self.now = until
        self.take(watch.Resumed(POD, "ns"))


NO_SECRET = {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": "no"}}}


def test_nothing_is_called_a_failure_while_and_just_after_the_server_is_away() -> None:
    """What is known may be out of date; what has changed since may be on its way."""
    stepped = Stepped(CRASHED)
    assert stepped.failed_at(0) == []
    stepped.take(watch.Interrupted(POD, "ns", "connection reset"))
    assert stepped.failed_at(2) == []
    stepped.take(watch.Resumed(POD, "ns"))
    assert stepped.failed_at(2 + 0.9) == []
    assert stepped.failed_at(2 + 1.1) == ["crash_loop"]


def test_a_long_outage_starts_every_tolerance_anew() -> None:
    """Nobody saw whether the state lasted; a short one is as good as none."""
    tolerance = DEFAULTS["config"]
    for length, starts_anew in ((2.0, False), (10.0, True)):
        stepped = Stepped(NO_SECRET)
        assert stepped.failed_at(0) == []
        back = 1 + length
        stepped.outage(1, back)
        counted_from = back if starts_anew else 0
        late = max(counted_from + tolerance, back + 1.0)
        assert stepped.failed_at(late - 0.1) == []
        assert stepped.failed_at(late + 0.1) == ["config"]


@pytest.mark.parametrize(
    ("away", "fails_after"),
    [
        # The clock of a problem goes on through a short outage; a long one starts it anew.
        (4.0, 10.0),
        (6.0, 16.0),
    ],
)
def test_what_an_outage_does_to_tolerances(
    server: FakeApi, away: float, fails_after: float
) -> None:
    """Nothing is certain while a stream is down, nor in the moment after."""
    now = [0.0]
    api = Api({"host": server.url, "api_key": "t"})
    waiting = Engine(
        api, [WEB], Options(tolerances={"not_found": 10.0}, timeout=99.0), clock=lambda: now[0]
    )
    for kind, namespace in waiting._streams():
        waiting._take(watch.Listed(kind, namespace, []))
    kind, namespace = waiting._streams()[0]
    assert waiting._judge()[0] == []
    waiting._take(watch.Interrupted(kind, namespace, "away"))
    now[0] = away
    waiting._take(watch.Resumed(kind, namespace))
    now[0] = fails_after - 0.1
    assert waiting._judge()[0] == []
    now[0] = fails_after + 0.1
    assert [problem.reason for problem in waiting._judge()[0]] == ["not_found"]
    waiting._take(watch.Interrupted(kind, namespace, "away"))
    now[0] += 1.0
    assert waiting._judge()[0] == []
    waiting._take(watch.Resumed(kind, namespace))
    now[0] += 0.9
    assert waiting._judge()[0] == []
    now[0] += 0.2
    assert [problem.reason for problem in waiting._judge()[0]] == ["not_found"]
