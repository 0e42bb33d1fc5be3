# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Streams made at random: none that is noisy but healthy fails, none that is broken is silent.

A few by default; MLOPS_STREAMS says how many of each (1000 before a release).
"""

from __future__ import annotations

import copy
import os
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import EVENT, POD
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.streams import (
    DB,
    WEB,
    Down,
    Gone,
    Object,
    Up,
    condition,
    deployment,
    ended,
    event,
    looping,
    outcome,
    play,
    pod,
    replica_set,
    running,
    stamp,
    stateful_set,
    told,
    waiting,
)
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

MANY = settings(
    max_examples=int(os.environ.get("MLOPS_STREAMS", "15")),
    deadline=None,
    derandomize="MLOPS_STREAMS" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    database=None,
    # A stream that fails says enough; to make it smaller takes minutes.
    phases=[Phase.generate],
)
SPEC: Object = {
    "nodeName": "n1",
    "initContainers": [{"name": "init"}, {"name": "side", "restartPolicy": "Always"}],
}
DONE = {"name": "init", "restartCount": 0, "ready": True, "state": ended(0, -20, -18)}
BESIDE = {"name": "side", "restartCount": 0, "ready": True, **running(-18)}
GATES = "example.com/gate"


class Stream:
    """The story of one pod of web, told step by step."""

    def __init__(self, data: st.DataObject, probed: bool) -> None:
        self.data = data
        self.probed = probed
        self.at = 0.0
        self.steps: list[t.Any] = []
        self.init: Object = {**DONE, "ready": False, **waiting("PodInitializing")}
        self.side: Object = {**BESIDE, "ready": False, **waiting("PodInitializing")}
        self.main: Object = waiting("PodInitializing")
        self.conditions: list[Object] | None = None

    def seconds(self, least: float, most: float) -> float:
        """Draw a length of time."""
        return self.data.draw(st.floats(least, most).map(lambda value: round(value, 1)))

    def yes(self) -> bool:
        """Draw a decision."""
        return self.data.draw(st.booleans())

    def pod(self, ready: bool = False, **more: t.Any) -> Object:
        """Return the pod as it is now."""
        return pod(
            {"ready": ready, **self.main},
            ready=ready,
            probed=self.probed,
            spec=SPEC,
            conditions=self.conditions if not ready else None,
            status={"initContainerStatuses": [copy.deepcopy(self.init), copy.deepcopy(self.side)]},
            **more,
        )

    def tell(self, *more: t.Any) -> None:
        """Report the pod as it is now."""
        self.steps.append((self.at, [self.pod(), *more]))

    def say(self, reason: str, message: str, at: float | None = None, path: str = "") -> None:
        """Report an event about the pod, perhaps a moment late."""
        when = self.at if at is None else at
        item = event(self.pod(), reason, message, at=when, path=path)
        self.steps.append((max(0.0, when) + self.seconds(0, 0.2), [item]))

    def wait(self, least: float, most: float) -> None:
        """Let time pass."""
        self.at = round(self.at + self.seconds(least, most), 1)

    # --- Noises ----------------------------------------------------------------------------------

    def old_events(self) -> None:
        """What happened to this pod before the wait."""
        for reason, message, path in (
            ("BackOff", "Back-off restarting failed container main", "spec.containers{main}"),
            ("FailedMount", "timed out", ""),
            ("FailedCreatePodSandBox", "no network", ""),
            ("Failed", "Failed to pull image: not found", "spec.containers{main}"),
        ):
            if self.yes():
                self.say(reason, message, -self.seconds(1000, 3000), path)
        self.say("Pulled", "the image is there", -self.seconds(61, 900))

    def no_node_at_first(self) -> None:
        """No node takes it; somebody makes room."""
        text = "0/3 nodes are available: 3 Insufficient cpu."
        self.conditions = [condition("PodScheduled", "False", reason="Unschedulable", message=text)]
        if self.yes():
            self.say("TriggeredScaleUp", "a node is coming")
            self.tell()
            self.wait(60, 280)
        else:
            self.tell()
            self.wait(1, 58)
        self.conditions = None

    def config_comes_late(self) -> None:
        """Its Secret is there a second later, and seen at the kubelet's next look."""
        self.init = {**DONE, "ready": False, **waiting("CreateContainerConfigError", "no secret")}
        self.tell()
        self.wait(10, 15)

    def pull_goes_on(self) -> None:
        """The status keeps what the last pull failed of."""
        self.init = {**DONE, "ready": False, **waiting("ErrImagePull", "i/o timeout")}
        self.say("Failed", "Failed to pull image: i/o timeout", path="spec.initContainers{init}")
        self.tell()
        self.wait(1, 10)
        self.say("Pulling", "Pulling image", path="spec.initContainers{init}")
        self.wait(5, 250)

    def init_fails(self) -> None:
        """It waits for something, twice in vain."""
        last = None
        for turn in range(self.data.draw(st.integers(1, 2))):
            began = self.at
            self.init = {**DONE, "ready": False, "restartCount": turn, **running(began)}
            self.tell()
            self.wait(0.5, 5)
            last = ended(1, began, self.at)
            self.init = {**DONE, "ready": False, "restartCount": turn, "state": last}
            self.tell()
            self.wait(0.2, 1)
            if turn:
                self.init = {**DONE, "ready": False, **looping(turn, last)}
                self.say("BackOff", "Back-off", path="spec.initContainers{init}")
                self.tell()
                self.wait(8, 12)
        self.init = {**DONE, "ready": False, "restartCount": 2, **running(self.at)}
        self.init["lastState"] = last
        self.tell()
        self.wait(0.5, 5)

    def was_in_back_off(self) -> None:
        """What it needed was put right just before the wait; the kubelet pauses."""
        last = ended(1, -200, -190)
        self.init = {**DONE, "ready": False, **looping(7, last, "back-off 5m0s restarting")}
        self.tell()
        self.wait(60, 115)

    def side_fails(self) -> None:
        """The sidecar ends twice, and then stays."""
        self.init = DONE
        began = self.at
        self.side = {**BESIDE, "ready": False, **running(began)}
        self.tell()
        self.wait(0.5, 3)
        last = ended(1, began, self.at)
        self.side = {**BESIDE, "ready": False, **looping(1, last)}
        self.tell()
        self.wait(8, 12)
        self.side = {**BESIDE, "restartCount": 2, "lastState": last, **running(self.at)}
        self.tell()
        self.wait(0.5, 3)

    def main_ends_once(self) -> None:
        """The server ends once, and then stays."""
        self.init, self.side = DONE, BESIDE
        began = self.at
        self.main = running(began)
        self.tell()
        self.wait(0.5, 20)
        last = ended(self.data.draw(st.sampled_from([0, 1, 143])), began, self.at)
        self.main = {"state": last}
        self.tell()
        self.wait(0.5, 2)
        self.main = {"restartCount": 1, "lastState": last, **running(self.at)}
        self.tell()

    def stream_breaks(self) -> None:
        """The connection is lost for a while."""
        kind = self.data.draw(st.sampled_from([POD, EVENT]))
        self.steps.append((self.at, [Down(kind)]))
        self.wait(0.5, 40)
        self.steps.append((self.at, [Up(kind)]))
        self.wait(0.1, 1)

    def comes_up(self) -> None:
        """The end of a healthy story."""
        self.init, self.side = DONE, BESIDE
        if "running" not in (self.main.get("state") or {}):
            self.main = running(self.at)
            self.tell()
        self.wait(1, 20)
        if self.probed and self.yes():
            self.say("Unhealthy", "Readiness probe failed: 503", path="spec.containers{main}")
            self.wait(1, 20)
        self.steps.append((self.at, [self.pod(ready=True)]))
        lag = self.seconds(-0.2, 0.5)
        done = deployment(1, probed=self.probed)
        self.steps.append((max(0.1, self.at + lag), [done]))


NOISES: list[t.Callable[[Stream], None]] = [
    Stream.no_node_at_first,
    Stream.config_comes_late,
    Stream.pull_goes_on,
    Stream.was_in_back_off,
    Stream.init_fails,
    Stream.side_fails,
    Stream.stream_breaks,
    Stream.main_ends_once,
]


def begin(stream: Stream) -> None:
    """Put what the first lists have in front of a story."""
    late = condition("Progressing", "False", -1800, reason="ProgressDeadlineExceeded")
    first = deployment(probed=stream.probed, conditions=[late] if stream.yes() else [])
    lies_about = [
        pod(
            name=f"web-2-old{number}",
            conditions=[],
            creationTimestamp=stamp(-9000),
            status={"phase": "Failed", "reason": "Evicted", "message": "low on resource"},
        )
        for number in range(stream.data.draw(st.integers(0, 4)))
    ]
    stream.steps.insert(0, (0, [first, replica_set(), stream.pod(), *lies_about]))
    if stream.yes():
        stream.old_events()
    stream.wait(0.2, 1)


def noises(data: st.DataObject, most: int) -> list[t.Callable[[Stream], None]]:
    """Draw some noises, in the order in which they can come."""
    chosen = data.draw(st.sets(st.sampled_from(range(len(NOISES))), max_size=most))
    found = [NOISES[number] for number in sorted(chosen)]
    # A pod in back-off has a node already, and its kubelet's next try is near.
    if Stream.was_in_back_off in found:
        found = [noise for noise in found if NOISES.index(noise) >= 3]
        found = [noise for noise in found if noise is not Stream.init_fails]
    return found


@MANY
@given(data=st.data(), probed=st.booleans())
def test_noisy_but_healthy(data: st.DataObject, probed: bool) -> None:
    """No false alarm, and ready only at the end."""
    stream = Stream(data, probed)
    begin(stream)
    for noise in noises(data, 4):
        noise(stream)
    stream.comes_up()
    result = play(stream.steps, timeout=stream.at + 60)
    assert outcome(result) == "ready", (result["msg"], result["timeline"])
    assert result["elapsed"] >= stream.at - 1


# --- Broken --------------------------------------------------------------------------------------

Fault = t.Callable[[Stream], str]


def _stays(stream: Stream, **states: Object) -> None:
    for name, value in states.items():
        setattr(stream, name, value)
    stream.tell()


def image(stream: Stream) -> str:
    """The tag is not there."""
    _stays(stream, init={**DONE, "ready": False, **waiting("ImagePullBackOff", "x: not found")})
    return "not found"


def secret(stream: Stream) -> str:
    """A reference leads nowhere."""
    broken = waiting("CreateContainerConfigError", 'secret "gone" not found')
    _stays(stream, init=DONE, side=BESIDE, main=broken)
    return "gone"


def network(stream: Stream) -> str:
    """No sandbox can be made."""
    creating = waiting("ContainerCreating")
    _stays(stream, init={**DONE, "ready": False, **waiting("PodInitializing")}, main=creating)
    stream.side = {**BESIDE, "ready": False, **waiting("PodInitializing")}
    stream.tell()
    stream.say("FailedCreatePodSandBox", "failed to setup network")
    return "setup network"


def loop(stream: Stream) -> str:
    """It lives for a while each time."""
    stream.init, stream.side = DONE, BESIDE
    # Less than the settle time: nobody can tell a first run that is longer from one that lasts.
    lives = stream.seconds(1, 4)
    pause, last = 1.0, None
    for turn in range(5):
        began = stream.at
        up = {"restartCount": turn, **running(began), "lastState": last}
        stream.main = {key: value for key, value in up.items() if value is not None}
        ready = not stream.probed
        stream.steps.append((stream.at, [stream.pod(ready=ready)]))
        count = deployment(int(ready), probed=stream.probed)
        stream.steps.append((stream.at + 0.05, [count]))
        stream.at = round(stream.at + lives, 1)
        last = ended(3, began, stream.at)
        stream.main = looping(turn, last) if turn else {"state": last}
        stream.tell(deployment(probed=stream.probed))
        stream.at = round(stream.at + pause, 1)
        pause = min(40.0, max(10.0, pause * 2))
    return "exit code 3"


def init_loop(stream: Stream) -> str:
    """An init container never completes."""
    _stays(stream, init={**DONE, "ready": False, **looping(4, ended(7, stream.at, stream.at + 1))})
    return "exit code 7"


def side_loop(stream: Stream) -> str:
    """A sidecar never stays."""
    last = ended(9, stream.at, stream.at + 1)
    _stays(stream, init=DONE, side={**BESIDE, "ready": False, **looping(5, last)})
    return "exit code 9"


def gate(stream: Stream) -> str:
    """Nobody opens its gate."""
    stream.init, stream.side = DONE, BESIDE
    stream.main = {**running(stream.at), "ready": True}
    text = f'gate "{GATES}" does not exist'
    shut = condition("Ready", "False", reason="ReadinessGatesNotReady", message=text)
    stream.conditions = [condition("PodScheduled"), condition("ContainersReady"), shut]
    stream.tell()
    return GATES


def full(stream: Stream) -> str:
    """No node takes it, and nobody makes room."""
    text = "0/3 nodes are available: 3 Insufficient memory."
    refused = condition("PodScheduled", "False", reason="Unschedulable", message=text)
    stream.steps.append((stream.at, [pod(conditions=[refused])]))
    return "Insufficient memory"


def refused(stream: Stream) -> str:
    """The API server does not let it be made again."""
    no = condition("ReplicaFailure", message='admission webhook "p" denied the request: no owner')
    nothing = deployment(updated=0, total=0, probed=stream.probed)
    stream.steps.append((stream.at, [Gone(stream.pod()), replica_set(conditions=[no]), nothing]))
    return "no owner"


def slow(stream: Stream) -> str:
    """Its probe never passes."""
    stream.probed = True
    stream.init, stream.side, stream.main = DONE, BESIDE, running(stream.at)
    stream.tell(deployment())
    stream.wait(1, 5)
    stream.say("Unhealthy", "Readiness probe failed: 503", path="spec.containers{main}")
    return "503"


FAULTS: list[Fault] = [
    image,
    secret,
    network,
    loop,
    init_loop,
    side_loop,
    gate,
    full,
    refused,
    slow,
]


@MANY
@given(data=st.data(), probed=st.booleans(), fault=st.sampled_from(FAULTS))
def test_broken_is_never_silent(data: st.DataObject, probed: bool, fault: Fault) -> None:
    """It is not called ready; the cause is told, and what to type."""
    stream = Stream(data, probed)
    begin(stream)
    for noise in noises(data, 2):
        if noise is not Stream.main_ends_once:
            noise(stream)
    word = fault(stream)
    result = play(stream.steps, timeout=stream.at + 400)
    assert not result["ready"], (fault.__name__, result["timeline"])
    assert word in told(result), (fault.__name__, word, told(result))
    assert "kubectl" in result["failure"]["hint"]
    assert result["failure"]["reason"] != "progress_deadline"


@MANY
@given(data=st.data(), revision=st.sampled_from(["old", "new"]))
def test_a_stateful_set_that_is_kept_back_is_never_silent(
    data: st.DataObject, revision: str
) -> None:
    """Whatever its old pod fails of, the pod is named."""
    main = data.draw(
        st.sampled_from(
            [
                waiting("ImagePullBackOff", "not found"),
                waiting("CreateContainerConfigError", "no secret"),
                looping(5, ended(1)),
                running(-300),
                waiting("ContainerCreating"),
                {"state": ended(1)},
                None,
            ]
        )
    )
    broken = pod(main, name="db-0", owner="s", revision="typo")
    others = [deployment(), replica_set()] if data.draw(st.booleans()) else []
    targets = [WEB, DB] if others else [DB]
    item = stateful_set(current=revision)
    result = play([(0, [item, broken, *others])], targets, timeout=120)
    assert not result["ready"]
    assert "db-0" in result["msg"]
    assert "delete pod db-0" in result["failure"]["hint"]
