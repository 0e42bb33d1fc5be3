# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The words and the result of a wait, from what is known of its objects."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    CLAIM,
    DAEMON_SET,
    DEPLOYMENT,
    EVENT,
    JOB,
    POD,
    STATEFUL_SET,
    Kind,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.outcome import (
    CheckResult,
    Options,
    Outcome,
    api_message,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Problem
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import Clock, State
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import (
    PROGRESSING,
    READY,
    Target,
    Verdict,
)
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.streams import (
    Object,
    StubApi,
    condition,
    deployment,
    event,
    pod,
    replica_set,
    running,
)

WEB = Target(DEPLOYMENT, "ns", "web")
DB = Target(STATEFUL_SET, "ns", "db")


class Clocked:
    """An outcome on a clock that stands still until it is set."""

    def __init__(self, *targets: Target, **options: t.Any) -> None:
        self.now = 100.0
        self.state = State()
        api = t.cast(Api, StubApi({}))
        self.outcome = Outcome(api, targets, Options(**options), self.state, lambda: self.now)

    def tell(self, target: Target, status: str, words: str, *problems: Problem) -> None:
        self.outcome.remember(target, Verdict(status, words, problems), self.now)


def problem(reason: str = "image_pull", **more: t.Any) -> Problem:
    return Problem(reason, "Pod", "ns", "web-a", f"{reason} is wrong", "p", **more)


def test_what_is_being_waited_for() -> None:
    """Each that is not ready, with the reason on which a clock runs; three at the most."""
    found = Clocked(WEB, DB)
    assert found.outcome.pending_words() == "waiting for the API server's first answer"
    found.tell(DB, READY, "1 of 1 available")
    found.tell(WEB, PROGRESSING, "0 of 1", problem())
    assert found.outcome.pending_words() == "Deployment/web: 0 of 1 (image_pull)"
    found.tell(WEB, PROGRESSING, "0 of 1", problem(held=True))
    assert found.outcome.pending_words() == "Deployment/web: 0 of 1"
    found.tell(WEB, PROGRESSING, "0 of 1", problem(stopped=True), problem("config"))
    assert found.outcome.pending_words() == "Deployment/web: 0 of 1 (config)"
    found.outcome.learned = CheckResult(False, "the schema is being made")
    assert found.outcome.pending_words() == (
        "Deployment/web: 0 of 1 (config); the schema is being made"
    )
    found.outcome.learned = None
    found.tell(WEB, READY, "1 of 1")
    assert found.outcome.pending_words() == "waiting for the server to answer"
    found.outcome.checked = CheckResult(False, "it answers 503")
    assert found.outcome.pending_words() == "it answers 503"


def test_no_more_than_three() -> None:
    targets = [Target(DEPLOYMENT, "ns", f"web-{number}") for number in range(5)]
    found = Clocked(*targets)
    for target in targets:
        found.tell(target, PROGRESSING, "x")
    assert found.outcome.pending_words() == "; ".join(f"Deployment/web-{n}: x" for n in range(3))
    found.outcome.learned = CheckResult(False, "more")
    assert found.outcome.pending_words() == "Deployment/web-0: x; Deployment/web-1: x; more"


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (0, "nothing to wait for"),
        (1, "ready: Deployment/web-0"),
        (5, "ready: " + ", ".join(f"Deployment/web-{n}" for n in range(5))),
        (7, "ready: " + ", ".join(f"Deployment/web-{n}" for n in range(5)) + " and 2 more"),
    ],
)
def test_that_all_is_ready(number: int, says: str) -> None:
    targets = [Target(DEPLOYMENT, "ns", f"web-{one}") for one in range(number)]
    quiet = Target(Kind("v1", "ConfigMap", "configmaps"), "ns", "c", inert=True)
    found = Clocked(*targets, quiet)
    assert found.outcome.ready_message() == says
    found.outcome.checked = CheckResult(True, "it answers")
    if number:
        assert found.outcome.ready_message() == f"{says}; it answers"


def test_what_is_remembered() -> None:
    """Changes are in the timeline, once; ready is told after how long."""
    found = Clocked(WEB)
    found.now = 101.234
    found.tell(WEB, PROGRESSING, "0 of 1")
    found.tell(WEB, PROGRESSING, "0 of 1", problem())
    found.now = 103.0
    found.tell(WEB, READY, "1 of 1")
    result = found.outcome.result(True, None, "all\n is well")
    assert result["timeline"] == [
        {"at": 1.23, "object": "Deployment/web", "event": "0 of 1"},
        {"at": 3.0, "object": "Deployment/web", "event": "ready: 1 of 1"},
    ]
    assert result["resources"] == [
        {
            "kind": "Deployment",
            "name": "web",
            "namespace": "ns",
            "status": "ready",
            "message": "1 of 1",
            "ready_after": 3.0,
        }
    ]
    assert (result["elapsed"], result["msg"], result["ready"]) == (3.0, "all is well", True)
    found.tell(WEB, PROGRESSING, "0 of 1")
    assert found.outcome.result(False, None, "")["resources"][0]["ready_after"] is None


def test_what_was_not_looked_at_and_what_failed() -> None:
    found = Clocked(WEB, DB)
    found.tell(WEB, PROGRESSING, "0 of 1", problem())
    result = found.outcome.fail(problem())
    assert [(one["status"], one["message"]) for one in result["resources"]] == [
        ("failed", "image_pull is wrong"),
        ("progressing", "not looked at yet"),
    ]
    assert result["failure"]["reason"] == "image_pull"
    assert result["timeline"][-1]["event"] == "failed: image_pull"


def test_a_time_that_is_up_before_the_first_answer() -> None:
    found = Clocked(WEB, timeout=7)
    result = found.outcome.timed_out([DEPLOYMENT, POD], answers=False)
    assert result["msg"] == (
        "the API server https://stub did not list deployments.apps, pods in 7 s"
    )
    assert result["failure"] is None


@pytest.mark.parametrize(
    ("timeout", "answers", "says"),
    [
        (9, True, "not ready within 9 s: Deployment/web: 0 of 1"),
        (0, True, "not ready now: Deployment/web: 0 of 1"),
        (9, False, "0 of 1 (the API server does not answer at present)"),
    ],
)
def test_a_time_that_is_up(timeout: float, answers: bool, says: str) -> None:
    found = Clocked(WEB, timeout=timeout)
    found.tell(WEB, PROGRESSING, "0 of 1")
    result = found.outcome.timed_out([], answers=answers)
    assert says in result["failure"]["message"]
    assert result["failure"]["reason"] == "timeout"


def test_what_others_wait_for_is_told_first() -> None:
    """A claim before the database, that before a Job, and each before the servers."""
    kinds = [CLAIM, STATEFUL_SET, DAEMON_SET, JOB, DEPLOYMENT, POD]
    for first in range(len(kinds)):
        targets = [Target(kind, "ns", "x") for kind in reversed(kinds[first:])]
        found = Clocked(*targets)
        for target in targets:
            found.tell(target, PROGRESSING, "x")
        assert found.outcome.timed_out([], True)["failure"]["kind"] == kinds[first].kind


def test_what_has_a_problem_is_told_before_what_has_none() -> None:
    """Whatever its kind, and the cause before what follows from it."""
    found = Clocked(DB, WEB)
    found.tell(DB, PROGRESSING, "x")
    found.tell(WEB, PROGRESSING, "x", problem("crash_loop"))
    assert "crash_loop is wrong" in found.outcome.timed_out([], True)["msg"]
    found.tell(DB, PROGRESSING, "x", problem("http_unready"))
    assert "crash_loop is wrong" in found.outcome.timed_out([], True)["msg"]
    found.tell(DB, PROGRESSING, "x", problem("volume"))
    assert "volume is wrong" in found.outcome.timed_out([], True)["msg"]


def test_the_events_of_all_that_is_pending() -> None:
    """Conditions first, fifteen of each at the most, the latest events last."""
    found = Clocked(WEB, timeout=5)
    clock = Clock(100.0, 1768003200.0)
    first = pod(running(-5))
    unready = [condition(f"C{number}", "False", reason="R") for number in range(20)]
    first["status"]["conditions"] = unready
    events = [event(first, "Unhealthy", f"probe {number}", at=number) for number in range(20)]
    lists: dict[Kind, list[Object]] = {
        DEPLOYMENT: [deployment()],
        POD: [first],
        EVENT: events,
    }
    for kind, items in lists.items():
        found.state.replace(kind, "ns", items, clock)
    newest = replica_set()
    found.state.replace(Kind("apps/v1", "ReplicaSet", "replicasets"), "ns", [newest], clock)
    found.tell(WEB, PROGRESSING, "0 of 1")
    told = found.outcome.timed_out([], True)["failure"]["events"]
    assert len(told) == 30
    assert told[0] == "condition of Pod/web-2-a: C0 is False: R"
    assert told[-1] == "2026-01-10T00:00:19Z Warning Unhealthy: probe 19"


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (
            403,
            "not allowed to list pods: no. Grant the verb list on pods (see the module's notes).",
        ),
        (401, "the API server does not accept the credentials: no."),
        (0, "no."),
        (500, "cannot list pods: no (HTTP 500)."),
    ],
)
def test_why_the_api_server_did_not_let_it_go_on(status: int, says: str) -> None:
    assert api_message(ApiError(status, "no", "list", "pods")) == says
