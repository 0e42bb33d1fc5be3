# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Custom resources: ready when their kind says so, and never because nothing says otherwise."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import Kind
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.custom_rules import (
    RULES,
    WITHOUT_STATUS,
    Rule,
    rule_of,
)
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


def others(name: str) -> list[t.Any]:
    """Return the other statuses of that sort, each with its kind."""
    return [
        pytest.param(case, status, id=f"{case['kind']} {number}")
        for case in CASES
        for number, status in enumerate(case.get(name, ()))
    ]


@pytest.mark.parametrize(("case", "status"), others("failed_too"))
def test_so_is_each_other_one(case: Object, status: Object) -> None:
    result = wait(case, status)
    assert result["failure"]["reason"] == "progress_deadline", result["msg"]
    assert result["elapsed"] == pytest.approx(case.get("after", 0), abs=1)


@pytest.mark.parametrize(("case", "status"), others("ready_too"))
def test_ready_is_also_what_is_only_renewed(case: Object, status: Object) -> None:
    assert wait(case, status)["ready"]


@pytest.mark.parametrize(("case", "status"), others("waits_too"))
def test_what_lacks_one_thing_is_waited_for(case: Object, status: Object) -> None:
    assert wait(case, status)["failure"]["reason"] == "timeout"


@pytest.mark.parametrize("kind", sorted(LIKE_ANOTHER))
def test_a_kind_like_another_has_its_rule(kind: str) -> None:
    (rule,) = (rule for (_group, name), rule in RULES.items() if name == kind)
    assert sum(rule == other for other in RULES.values()) > 1


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
    why = "nothing in its status is known to say so" if status else "it has no status"
    assert f"cannot tell whether it is ready: {why}" in result["msg"]
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
        ({"conditions": [{"type": "Failed", "status": "True"}]}, "progress_deadline"),
        ({"conditions": [{"type": "Reconciling", "status": "True"}], "phase": "Ready"}, "timeout"),
        ({"a": [{"conditions": [{"type": "Accepted", "status": "False"}]}]}, "timeout"),
        ({"conditions": [{"type": "Ready", "status": "True", "observedGeneration": 1}]}, "timeout"),
        ({"observedGeneration": 1, "phase": "Running"}, "timeout"),
    ],
)
def test_what_most_kinds_have_is_not_taken_for_more(status: Object, reason: str) -> None:
    result = wait(THING, status)
    assert not result["ready"]
    assert result["failure"]["reason"] == reason


NO_STATUS = yaml.safe_load(
    (Path(__file__).parents[1] / "fixtures" / "without_status.yml").read_text()
)


@pytest.mark.parametrize("name", NO_STATUS)
def test_kinds_that_have_no_status_are_ready(name: str) -> None:
    group, kind = name.split("/")
    assert wait({"api_version": f"{group}/v1", "kind": kind}, None)["elapsed"] == 0


def test_there_are_no_others() -> None:
    assert {tuple(name.split("/")) for name in NO_STATUS} == WITHOUT_STATUS


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


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({"conditions": [{"type": "Failed", "status": "True"}]}, "Thing x: it failed"),
        ({"conditions": [{"type": "Failed", "status": "True", "reason": "Why"}]}, "Thing x: Why"),
        ({"conditions": [{"type": "Stalled", "status": "True", "message": "m"}]}, "stalled: m"),
        (
            {"conditions": [{"type": "Stalled", "status": "True"}]},
            "stalled: its controller gave up",
        ),
        ({"conditions": [{"type": "Reconciling", "status": "True"}]}, "Thing/x: reconciling"),
        ({"conditions": [{"type": "Ready", "status": "False", "reason": "R"}]}, "not ready: R"),
        ({"conditions": [{"type": "Ready", "status": "False"}]}, "Thing/x: not ready"),
        ({"phase": "Odd"}, "Thing/x: status.phase is Odd"),
    ],
)
def test_it_is_told_in_the_controller_s_words(status: Object, says: str) -> None:
    assert says in wait(THING, status)["msg"]


@pytest.mark.parametrize("given", [{"field": "status.a", "value": "b"}, {"condition": "A"}])
@pytest.mark.parametrize("failed", [[], ["False"], ["Broken"]])
def test_what_a_user_wrote_down(given: Object, failed: list[str]) -> None:
    """A status of the condition, a reason that it gives, or a value of the field."""
    rule = rule_of({"kind": "Thing", "failed": failed, **given})
    if "field" in given:
        assert (rule.field, rule.values) == ("status.a", ("b",))
        assert rule.failed == tuple(f"status.a={value}" for value in failed)
    else:
        assert rule.conditions == ("A=True",)
        wanted = {"False": ("A=False",), "Broken": ("A=False/Broken", "A=Unknown/Broken")}
        assert rule.failed == (wanted[failed[0]] if failed else ())
    assert rule_of({"kind": "T", "condition": "A", "value": "False", "failed": ["x"]}).failed == (
        "A=True/x",
        "A=Unknown/x",
    )


SOURCE = {"repoURL": "a", "path": "b", "targetRevision": "c", "chart": "d"}


@pytest.mark.parametrize("name", sorted(SOURCE))
@pytest.mark.parametrize("several", [False, True])
def test_an_application_of_another_source_is_not_ready(name: str, several: bool) -> None:
    """Each part of the source counts, of one and of several."""

    def source(changed: bool) -> Object:
        one = {**SOURCE, name: "other"} if changed else SOURCE
        return {"sources": [SOURCE, one]} if several else {"source": one}

    case = {"api_version": "argoproj.io/v1alpha1", "kind": "Application", "spec": source(True)}
    for changed in (False, True):
        compared = {"status": "Synced", "comparedTo": source(changed)}
        result = wait(case, {"health": {"status": "Healthy"}, "sync": compared})
        assert result["ready"] == changed


OLDER = "waiting for the controller to see this"


@pytest.mark.parametrize(
    ("kind", "status", "says"),
    [
        ("Certificate", {"conditions": [{"type": "Ready", "status": "True"}]}, f"{OLDER} {{}}"),
        ("DeploymentConfig", {"observedGeneration": 1}, f"{OLDER} {{}}"),
        ("ExternalSecret", {"syncedResourceVersion": "1-a"}, f"{OLDER} {{}}"),
        ("HTTPRoute", {"parents": []}, "no entry of status.parents says Accepted yet"),
        ("HTTPRoute", {}, "has no status yet"),
        (
            "Gateway",
            {"conditions": [{"type": "Accepted", "status": "True"}]},
            "not say Programmed yet",
        ),
        ("Application", {"health": {"status": "Healthy"}}, "status.sync.status is not set, not S"),
        ("postgresql", {"other": 1}, "status.PostgresClusterStatus is not set yet"),
        ("DeploymentConfig", {"updatedReplicas": 1}, "1 of 2 updatedReplicas"),
    ],
)
def test_what_it_waits_for_is_said(kind: str, status: Object, says: str) -> None:
    """In words, whatever says it."""
    (case,) = (case for case in CASES if case["kind"] == kind)
    ready = {"type": "Ready", "status": "True"}
    for one in status.get("conditions", []):
        one["observedGeneration"] = 1 if kind == "Certificate" else 2
    if kind == "ExternalSecret":
        status = {**status, "conditions": [ready]}
    if says.endswith("updatedReplicas"):
        status = {**status, "conditions": [{"type": "Available", "status": "True"}]}
    assert says.format(kind) in wait(case, status)["msg"]
