# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Custom resources: ready when their kind says so, and never because nothing says otherwise."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import Kind
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.custom_rules import RULES, Rule
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import Target
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.streams import play

Object = dict[str, t.Any]
CASES = yaml.safe_load((Path(__file__).parents[1] / "fixtures" / "custom.yml").read_text())
NAMES = [f"{case['kind']}.{case['api_version'].partition('/')[0]}" for case in CASES]
# Kinds that are judged like another one of the fixtures.
LIKE_ANOTHER = {
    "ClusterSecretStore",
    "Issuer",
    "ClusterIssuer",
    "GRPCRoute",
    "TLSRoute",
    "TCPRoute",
}
LIKE_ANOTHER |= {"Configuration", "Route"}
WAIT = 60.0


def wait(case: Object, status: t.Any, custom: t.Mapping[str, Rule] | None = None) -> Object:
    """Return what a wait for one object makes of a status that never changes."""
    kind = Kind(case["api_version"], case["kind"], case["kind"].lower() + "s")
    item: Object = {
        "apiVersion": case["api_version"],
        "kind": case["kind"],
        "metadata": {"name": "x", "namespace": "ns", "uid": "u", "generation": 2},
        "spec": case.get("spec", {}),
    }
    if status is not None:
        item["status"] = status
    return play([(0, [item])], Target(kind, "ns", "x"), timeout=WAIT, custom=custom or {})


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_ready_is_what_the_kind_says(case: Object) -> None:
    result = wait(case, case["ready"])
    assert result["ready"], result["msg"]
    assert result["elapsed"] == 0


@pytest.mark.parametrize("state", ["progressing", "stale", "missing"])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_anything_else_is_waited_for(case: Object, state: str) -> None:
    """A status of an older generation is none, and neither is the lack of one."""
    result = wait(case, case.get(state))
    assert not result["ready"]
    assert result["failure"]["reason"] == "timeout", result["msg"]
    assert result["elapsed"] >= WAIT


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_a_failure_is_named(case: Object) -> None:
    """At once, or after the time for what the controller tries again."""
    result = wait(case, case["failed"])
    assert result["failure"]["reason"] == case.get("reason", "progress_deadline")
    assert case["says"] in result["failure"]["message"]
    assert result["elapsed"] == pytest.approx(case.get("after", 0), abs=1)


def test_each_kind_of_the_table_has_fixtures() -> None:
    tested = {(case["api_version"].partition("/")[0], case["kind"]) for case in CASES}
    assert tested == {kind for kind in RULES if kind[1] not in LIKE_ANOTHER}


def test_a_controller_that_comes_late_is_waited_for() -> None:
    """No status, then one of before, then the right one."""
    case = next(case for case in CASES if case["kind"] == "DeploymentConfig")
    kind = Kind(case["api_version"], case["kind"], "deploymentconfigs")

    def item(status: Object | None) -> Object:
        metadata = {"name": "x", "namespace": "ns", "uid": "u", "generation": 2}
        found = {"kind": case["kind"], "metadata": metadata, "spec": case["spec"]}
        return {**found, **({"status": status} if status else {})}

    steps = [(0, [item(None)]), (3, [item(case["stale"])]), (9, [item(case["ready"])])]
    assert play(steps, Target(kind, "ns", "x"))["elapsed"] == 9


THING: Object = {"api_version": "example.com/v1", "kind": "Thing"}


@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        {"replicas": 3},
        {"conditions": [{"type": "Odd", "status": "True"}]},
        {"conditions": "none"},
        {"parents": [{"conditions": [{"type": "Odd", "status": "True"}]}]},
    ],
)
def test_a_kind_that_says_nothing_is_never_ready(status: t.Any) -> None:
    """Nobody can tell, and the wait says which rule to give."""
    result = wait(THING, status)
    assert not result["ready"]
    assert "cannot tell" in result["msg"]
    assert "conditions: [{kind: Thing, condition: Ready}]" in result["msg"]


@pytest.mark.parametrize(
    "status",
    [
        {"conditions": [{"type": "Ready", "status": "True"}]},
        {"phase": "Running"},
        {"state": "active"},
        {"health": {"status": "Healthy"}},
        {"health": "Healthy"},
        {"ancestors": [{"conditions": [{"type": "Accepted", "status": "True"}]}]},
    ],
)
def test_what_most_kinds_have_is_understood(status: Object) -> None:
    assert wait(THING, status)["elapsed"] == 0


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"conditions": [{"type": "Ready", "status": "False"}]}, "timeout"),
        ({"conditions": [{"type": "Ready", "status": "True"}], "phase": "Pending"}, "timeout"),
        ({"phase": "CreateFailed"}, "progress_deadline"),
        ({"health": {"status": "Degraded"}}, "progress_deadline"),
        ({"conditions": [{"type": "Stalled", "status": "True"}]}, "progress_deadline"),
        ({"a": [{"conditions": [{"type": "Accepted", "status": "False"}]}]}, "timeout"),
        ({"conditions": [{"type": "Ready", "status": "True", "observedGeneration": 1}]}, "timeout"),
        ({"observedGeneration": 1, "phase": "Running"}, "timeout"),
    ],
)
def test_what_most_kinds_have_is_not_taken_for_more(status: Object, reason: str) -> None:
    result = wait(THING, status)
    assert not result["ready"]
    assert result["failure"]["reason"] == reason


def test_kinds_that_have_no_status_are_ready() -> None:
    case = {"api_version": "monitoring.coreos.com/v1", "kind": "ServiceMonitor"}
    assert wait(case, None)["elapsed"] == 0


@pytest.mark.parametrize("name", ["Thing", "Thing.example.com"])
@pytest.mark.parametrize(
    ("rule", "status", "outcome"),
    [
        (Rule(field="status.level", values=("2",)), {"level": 2}, "ready"),
        (Rule(field="status.level", values=("2",)), {"level": 1}, "timeout"),
        (Rule(field="status.ok", values=("true",)), {"ok": True}, "ready"),
        (
            Rule(field="status.level", values=("2",), failed=("status.level=0",)),
            {"level": 0},
            "progress_deadline",
        ),
        (
            Rule(conditions=("Odd=True",)),
            {"conditions": [{"type": "Odd", "status": "True"}]},
            "ready",
        ),
        (
            Rule(conditions=("Odd=True",)),
            {"parents": [{"conditions": [{"type": "Odd", "status": "False"}]}]},
            "timeout",
        ),
    ],
)
def test_the_rule_of_a_user(name: str, rule: Rule, status: Object, outcome: str) -> None:
    result = wait(THING, status, {name: rule})
    assert (result["failure"] or {"reason": "ready"})["reason"] == outcome
