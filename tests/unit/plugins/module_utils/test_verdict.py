# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verdicts and tolerances, replayed from YAML on a clock of the test's own."""

from __future__ import annotations

import copy
import functools
import pathlib
import typing as t

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    CLAIM,
    DAEMON_SET,
    DEPLOYMENT,
    EVENT,
    JOB,
    POD,
    REPLICA_SET,
    REVISION,
    STATEFUL_SET,
    Kind,
    known_kind,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import (
    CONFIRMATION,
    DEFAULTS,
    Tracker,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import Clock, State
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import (
    READY,
    Rules,
    Target,
    judge,
)
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers import said

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures" / "verdicts"
CLUSTER = Kind("postgresql.cnpg.io/v1", "Cluster", "clusters")
KINDS = {
    kind.kind: kind
    for kind in (
        CLAIM,
        CLUSTER,
        DAEMON_SET,
        DEPLOYMENT,
        JOB,
        POD,
        REPLICA_SET,
        REVISION,
        STATEFUL_SET,
    )
}
# The wall clock at second 0 of every case: 2026-01-10T00:00:00Z.
WALL = 1768003200.0
FOREVER = 100_000.0
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@functools.cache
def load() -> list[t.Any]:
    """Return every case of every file, with its file's objects."""
    found = []
    for path in sorted(FIXTURES.glob("*.yml")):
        document = yaml.load(path.read_text(encoding="utf-8"), LOADER)  # noqa: S506
        for case in document["cases"]:
            case.setdefault("target", document.get("target"))
            full = {**case, "objects": document["objects"]}
            found.append(pytest.param(full, id=f"{path.stem}: {case['name']}"))
    return found


def merge(base: t.Any, change: t.Any) -> t.Any:
    """Merge a change into a value: mappings deeply, None removes."""
    if not isinstance(base, dict) or not isinstance(change, dict):
        return copy.deepcopy(change)
    merged = dict(base)
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


class Outcome(t.NamedTuple):
    """How a replay ended."""

    status: str
    at: float
    reason: str = ""
    kind: str = ""
    container: str = ""
    message: str = ""


class Replay:
    """One case, on a simulated clock."""

    def __init__(self, case: dict[str, t.Any]) -> None:
        self.case = case
        self.state = State()
        self.tracker = Tracker()
        self.rules = Rules(**case.get("rules", {}))
        self.targets = [self.target(case["target"])]
        self.targets += [self.target(one) for one in case.get("more_targets", [])]
        self.base = copy.deepcopy(case["objects"])
        self.present: dict[str, t.Any] = {}

    @staticmethod
    def target(wanted: dict[str, str]) -> Target:
        kind = known_kind(wanted["kind"], wanted.get("api_version")) or CLUSTER
        return Target(kind, "ns", wanted["name"])

    def change(self, changes: dict[str, t.Any], now: float) -> None:
        """Bring the objects to a new state, as watch events do."""
        clock = Clock(now, WALL + now)
        for name, change in changes.items():
            if change is None:
                gone = self.present.pop(name, None)
                if gone:
                    self.state.apply(KINDS[gone["kind"]], "DELETED", gone, clock)
                continue
            before = self.present.get(name, self.base.get(name, {}))
            self.present[name] = merge(before, change)
            item = self.present[name]
            self.state.apply(KINDS[item["kind"]], "MODIFIED", item, clock)

    def begin(self) -> None:
        clock = Clock(0.0, WALL)
        changes = self.case.get("changes") or {}
        self.present = {
            name: merge(self.base.get(name, {}), changes.get(name, {}))
            for name in [*self.base, *(name for name in changes if name not in self.base)]
            if name not in changes or changes[name] is not None
        }
        for kind in {*KINDS.values()}:
            items = [item for item in self.present.values() if item["kind"] == kind.kind]
            self.state.replace(kind, "ns", items, clock)
        events = []
        for number, event in enumerate(self.case.get("events", [])):
            about = self.present[event["about"]]["metadata"]
            involved = {"uid": about["uid"], "name": about["name"], "fieldPath": event.get("path")}
            metadata = {"name": f"e{number}", "namespace": "ns", "resourceVersion": str(number)}
            events.append({**event, "metadata": metadata, "involvedObject": involved})
        self.state.replace(EVENT, "ns", events, clock)

    def run(self) -> Outcome:
        self.begin()
        now = 0.0
        for step in [*self.case.get("steps", []), {"at": FOREVER, "changes": {}}]:
            ended = self.until(now, step["at"])
            if ended:
                return ended
            now = step["at"]
            self.change(step["changes"], now)
        return Outcome("progressing", FOREVER)

    def until(self, now: float, end: float) -> Outcome | None:
        """Let time pass up to the next step."""
        while now < end:
            clock = Clock(now, WALL + now)
            verdicts = [judge(one, self.state, clock, self.rules) for one in self.targets]
            if all(verdict.status == READY for verdict in verdicts):
                return Outcome("ready", now)
            problems = [problem for verdict in verdicts for problem in verdict.problems]
            failures, due = self.tracker.observe(problems, now)
            if failures:
                found = failures[0]
                return Outcome(
                    "failed", now, found.reason, found.kind, found.container, found.message
                )
            later = [now + one.recheck for one in verdicts if one.recheck is not None]
            later += [due] if due is not None else []
            if not later:
                return None
            now = min(later)
        return None


@pytest.mark.parametrize("case", load())
def test_verdict(case: dict[str, t.Any]) -> None:
    """Each fixture ends as it says, and no sooner or later than its tolerance."""
    outcome = Replay(case).run()
    said.compare(" | ".join([f"{outcome.at:.1f} s", *map(str, outcome[:1] + outcome[2:])]))
    expected = case["expect"]
    if "ready" in expected:
        assert outcome.status == "ready", outcome
        assert outcome.at == pytest.approx(expected["ready"], abs=0.01)
    elif "failed" in expected:
        assert (outcome.status, outcome.reason) == ("failed", expected["failed"]), outcome
        assert expected["after"] <= outcome.at <= expected["after"] + CONFIRMATION + 0.01
        assert expected.get("container", outcome.container) == outcome.container
        assert expected.get("kind", outcome.kind) == outcome.kind
        assert expected.get("says", "") in outcome.message
        assert "\n" not in outcome.message
    else:
        assert outcome.status == "progressing", outcome


def test_every_reason_has_a_fixture() -> None:
    """No reason that a verdict can give is left untested (MLflow's own are in test_mlflow)."""
    tested = {case.values[0]["expect"].get("failed") for case in load()}
    elsewhere = {"http_unready", "unauthorized", "schema_unknown", "schema_partial"}
    assert set(DEFAULTS) - tested - elsewhere == set()


def test_tolerances_can_be_set() -> None:
    """What the user gives is used instead of the default, in both directions."""
    case = next(one.values[0] for one in load() if one.values[0]["name"] == "image does not exist")
    replay = Replay(case)
    replay.tracker = Tracker({"image_pull": 120})
    assert replay.run().at == pytest.approx(120)


def test_order_of_events_does_not_matter() -> None:
    """Whatever kind's watch speaks first, the verdict is the same."""
    case = next(one.values[0] for one in load() if one.values[0]["name"] == "crash loop")
    seen = set()
    for turn in range(4):
        replay = Replay(case)
        replay.begin()
        items = list(replay.present.values())
        replay.state = State()
        for item in items[turn:] + items[:turn]:
            replay.state.apply(KINDS[item["kind"]], "ADDED", item, Clock(0.0, WALL))
        outcome = replay.until(0.0, 10.0)
        assert outcome is not None
        seen.add((outcome.reason, outcome.container))
    assert seen == {("crash_loop", "main")}
