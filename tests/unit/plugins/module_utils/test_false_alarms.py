# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A hundred rollouts that are noisy but healthy: none is called a failure, and all end ready."""

from __future__ import annotations

import time
import typing as t

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import DEPLOYMENT, POD
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.engine import Options
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import Target
from ansible_collections.mlops.mlflow.tests.unit.plugins.fake_api import FakeApi
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.rollouts import NOISES, Rollout
from ansible_collections.mlops.mlflow.tests.unit.plugins.replay import Recorded, ReplayEngine

HOW_MANY = 100
OPTIONS = Options(timeout=7200)


@pytest.fixture(scope="module")
def server() -> t.Iterator[FakeApi]:
    """One server for all: each rollout has a namespace of its own."""
    server = FakeApi()
    yield server
    server.close()


def replay(
    server: FakeApi, namespace: str, recording: list[Recorded], options: Options = OPTIONS
) -> dict[str, t.Any]:
    """Replay a recording to the engine."""
    web = Target(DEPLOYMENT, namespace, "web")
    return ReplayEngine(server, recording, [web], options).run()


@pytest.mark.parametrize("seed", range(HOW_MANY))
def test_noisy_but_healthy(server: FakeApi, seed: int) -> None:
    """It ends ready, and not before its last pod is."""
    rollout = Rollout(seed, f"ns-{seed}", time.time())
    result = replay(server, rollout.namespace, rollout.recording)
    assert result["failure"] is None, (sorted(rollout.noises), result["msg"], result["timeline"])
    assert result["ready"], (sorted(rollout.noises), result["msg"])
    last = max(one.at for one in rollout.recording if one.kind == DEPLOYMENT)
    assert result["elapsed"] <= last + OPTIONS.settle + 0.1


def test_every_noise_is_made() -> None:
    """The seeds cover every trouble, alone or with others, more than once."""
    made = [Rollout(seed, "ns", 0.0).noises for seed in range(HOW_MANY)]
    for noise in NOISES:
        assert sum(noise in noises for noises in made) >= 5 or noise == "autoscaled", noise


def test_a_replay_can_fail(server: FakeApi) -> None:
    """The same stream, with a new pod that goes on crashing, is a failure: the test can fail."""
    rollout = Rollout(1, "broken", time.time())
    recording = []
    for one in rollout.recording:
        statuses = one.item.get("status", {}).get("containerStatuses") or []
        if one.kind == POD and one.item["metadata"]["name"].startswith("web-2") and statuses:
            crash = {"waiting": {"reason": "CrashLoopBackOff"}}
            statuses[0] |= {"ready": False, "restartCount": 3, "state": crash}
            statuses[0]["lastState"] = {"terminated": {"exitCode": 1}}
            one.item["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
        if one.kind == DEPLOYMENT:
            one.item["status"]["availableReplicas"] = 0
        recording.append(one)
    result = replay(server, "broken", recording)
    assert result["failure"]["reason"] == "crash_loop"
