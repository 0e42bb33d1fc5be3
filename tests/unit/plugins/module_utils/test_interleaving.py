# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The verdict does not depend on how the watches interleave, nor on events that come twice."""

from __future__ import annotations

import random
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import Kind
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Tracker
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import Clock, State
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import Rules, Target, judge
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.rollouts import Rollout
from ansible_collections.mlops.mlflow.tests.unit.plugins.module_utils.test_verdict import (
    WALL,
    Replay,
    load,
)
from ansible_collections.mlops.mlflow.tests.unit.plugins.replay import Recorded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
CASES = [parameters.values[0] for parameters in load()]


def told(case: dict[str, t.Any]) -> tuple[Replay, dict[Kind, list[dict[str, t.Any]]]]:
    """Return a case, and its objects and events by kind as the watches would tell them."""
    replay = Replay(case)
    replay.begin()
    return replay, {
        kind: list(items.values())
        for kind, items in replay.state._objects.items()  # the whole state is what is compared
    }


def verdicts(replay: Replay, state: State) -> list[t.Any]:
    """Return the verdicts of a case on a state, and what the tolerances make of them."""
    clock = Clock(100.0, WALL + 100.0)
    found = [judge(target, state, clock, replay.rules) for target in replay.targets]
    problems = [problem for verdict in found for problem in verdict.problems]
    tracker = Tracker()
    tracker.observe(problems, 0.0)
    return [found, tracker.observe(problems, 100.0)]


@QUICK
@given(case=st.sampled_from(CASES), data=st.data())
def test_interleaving(case: dict[str, t.Any], data: st.DataObject) -> None:
    """Every order of the watches, with events repeated at will, ends in the same verdicts."""
    replay, by_kind = told(case)
    expected = State()
    clock = Clock(0.0, WALL)
    everything = [(kind, item) for kind, items in by_kind.items() for item in items]
    for kind, item in everything:
        expected.apply(kind, "ADDED", item, clock)
    repeated = data.draw(st.lists(st.sampled_from(everything), max_size=8)) if everything else []
    state = State()
    for kind, item in data.draw(st.permutations([*everything, *repeated])):
        state.apply(kind, "MODIFIED", item, clock)
    assert verdicts(replay, state) == verdicts(replay, expected)


def statuses(recording: list[Recorded]) -> tuple[t.Any, State]:
    """Return what a whole stream leads to."""
    state = State()
    for one in recording:
        state.apply(one.kind, one.type, one.item, Clock(one.at, WALL + one.at))
    target = Target(recording[0].kind, "ns", "web")
    clock = Clock(100_000.0, WALL + 100_000.0)
    return judge(target, state, clock, Rules()), state


@QUICK
@given(seed=st.integers(0, 10_000), data=st.data())
def test_streams_interleave(seed: int, data: st.DataObject) -> None:
    """Whole streams, each in its own order but shuffled among each other, end the same."""
    recording = Rollout(seed, "ns", WALL).recording
    expected, _state = statuses(recording)
    streams: dict[Kind, list[Recorded]] = {}
    for one in recording:
        streams.setdefault(one.kind, []).append(one)
    order = data.draw(st.randoms(use_true_random=False))
    left = [list(stream) for stream in streams.values()]
    mixed = []
    while left:
        stream = order.choice(left)
        mixed.append(stream.pop(0))
        # A watch that resumes may tell again what it has just told.
        if order.random() < 0.2:
            mixed.append(mixed[-1])
        left = [one for one in left if one]
    found, _state = statuses([recording[0], *mixed])
    assert found == expected
    assert found.status == "ready"


@QUICK
@given(seed=st.integers(0, 10_000), order=st.randoms(use_true_random=False))
def test_stale_events(seed: int, order: random.Random) -> None:
    """An old version of an object that comes again changes nothing, even after its deletion."""
    recording = Rollout(seed, "ns", WALL).recording
    for number, one in enumerate(recording, 1):
        one.item["metadata"]["resourceVersion"] = str(number)
    expected, fresh = statuses(recording)
    disturbed = []
    for number, one in enumerate(recording):
        disturbed.append(one)
        if order.random() < 0.3:
            disturbed.append(order.choice(recording[: number + 1]))
    found, state = statuses([*disturbed, *order.sample(recording, len(recording) // 2)])
    assert found == expected
    assert state._objects == fresh._objects
