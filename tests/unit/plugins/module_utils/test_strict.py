# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ready is as strict as failed, and what passes by itself is no failure."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.streams import (
    DB,
    MIGRATE,
    WEB,
    Gone,
    Object,
    condition,
    deployment,
    ended,
    event,
    job,
    looping,
    outcome,
    play,
    pod,
    replica_set,
    running,
    stamp,
    stateful_set,
    waiting,
)

# --- Ready ---------------------------------------------------------------------------------------


def unprobed(main: Object, ready: bool = True) -> Object:
    """Return the pod of a Deployment that nothing probes."""
    return pod({"ready": ready, **main}, ready=ready, probed=False)


@pytest.mark.parametrize("restarts", [1, 4])
@pytest.mark.parametrize("code", [0, 1])
def test_a_loop_is_not_ready_in_the_middle_of_its_run(restarts: int, code: int) -> None:
    """It lives for eight seconds each time; the wait begins in the sixth."""
    up = {"restartCount": restarts, **running(-6), "lastState": ended(code, -35, -27)}
    down = looping(restarts, ended(code, -6, 2), "back-off 1m20s")
    steps: list[t.Any] = [(0, [deployment(1, probed=False), replica_set(), unprobed(up)])]
    steps.append((2.5, [unprobed(down, ready=False), deployment(probed=False)]))
    assert outcome(play(steps, timeout=30)) == "crash_loop"


@pytest.mark.parametrize(
    ("last", "began", "ready_at"),
    [
        (ended(1, -35, -20), -6, 11),
        (ended(1, -35, -20), -60, 0),
        ({"terminated": {"exitCode": 1, "finishedAt": stamp(-7)}}, -6, 4),
        ({"terminated": {"exitCode": 1, "startedAt": None, "finishedAt": None}}, -6, 4),
        (ended(1, -4000, -13), -12, 0),
    ],
    ids=["short", "outlasted", "no start", "no times", "long"],
)
def test_it_is_once_it_has_outlasted_its_last_run(
    last: Object, began: float, ready_at: float
) -> None:
    """One that ended after a long run may have been ended by anything."""
    up = unprobed({"restartCount": 1, **running(began), "lastState": last})
    result = play([(0, [deployment(1, probed=False), replica_set(), up])])
    assert outcome(result) == "ready"
    assert result["elapsed"] == pytest.approx(ready_at, abs=0.3)


def test_a_change_that_was_taken_back_is_ready_when_its_pod_is_gone() -> None:
    """Both revisions are the same again, and the pod of the other one still serves."""
    typo = pod(running(-50), name="db-0", owner="s", revision="typo", ready=True)
    back = stateful_set(1, 0, revision="old", current="old")
    up = pod(running(20), name="db-0", owner="s", revision="old", ready=True, uid="db-0b")
    steps: list[t.Any] = [(0, [back, typo]), (10, [Gone(typo)])]
    steps.append((25, [up, stateful_set(1, 1, revision="old")]))
    result = play(steps, DB)
    assert (outcome(result), result["elapsed"]) == ("ready", 25)


# --- Tolerances that fit -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ['secret "db" not found', "failed to sync secret cache: timed out", ""]
)
@pytest.mark.parametrize("seen_at", [10, 13, 15.5])
def test_what_was_cured_at_once_shows_at_the_kubelet_s_next_look(text: str, seen_at: float) -> None:
    """That is 10 to 15 seconds later."""
    first = pod(waiting("CreateContainerConfigError", text))
    up = running(seen_at)
    steps = [(0, [deployment(), replica_set(), first]), (seen_at, [pod(up)])]
    assert outcome(play([*steps, (30, [pod(up, ready=True), deployment(1)])])) == "ready"


def test_a_container_that_is_created_at_the_third_attempt() -> None:
    """The runtime was busy twice: two looks of the kubelet."""
    first = pod(waiting("CreateContainerError", "context deadline exceeded"))
    up = running(28)
    steps = [(0, [deployment(), replica_set(), first]), (28, [pod(up)])]
    assert outcome(play([*steps, (35, [pod(up, ready=True), deployment(1)])])) == "ready"


def sidecar_spec(native: bool) -> Object:
    """Return a pod's specification with a proxy beside the main container."""
    probe = {"readinessProbe": {"httpGet": {"port": 8080}}}
    proxy = {"name": "istio-proxy", **probe}
    main = {"name": "main", **probe}
    if native:
        return {"initContainers": [{**proxy, "restartPolicy": "Always"}], "containers": [main]}
    return {"containers": [main, proxy]}


def beside(native: bool, sidecar: Object, main: Object, ready: bool = False) -> Object:
    """Return a pod of these two."""
    proxy = {"name": "istio-proxy", "restartCount": 0, "ready": ready, **sidecar}
    first = {"name": "main", "restartCount": 0, "ready": ready, **main}
    if native:
        return pod(
            spec=sidecar_spec(native),
            status={"initContainerStatuses": [proxy]},
            statuses=[first],
            ready=ready,
        )
    return pod(spec=sidecar_spec(native), statuses=[first, proxy], ready=ready)


@pytest.mark.parametrize("native", [True, False])
def test_a_sidecar_that_ends_twice_and_then_stays_is_fine(native: bool) -> None:
    """The kubelet waits ten seconds before its third try."""
    main = waiting("PodInitializing") if native else running(0)
    steps: list[t.Any] = [(0, [deployment(), replica_set(), beside(native, running(0), main)])]
    steps.append((1, [beside(native, {"state": ended(1, 0, 1)}, main)]))
    again = {"restartCount": 1, "lastState": ended(1, 0, 1)}
    steps.append((2, [beside(native, {**running(2), **again}, main)]))
    steps.append((3, [beside(native, looping(1, ended(1, 2, 3)), main)]))
    third = {"restartCount": 2, **running(14), "lastState": ended(1, 2, 3)}
    steps.append((14, [beside(native, third, main)]))
    steps.append((25, [beside(native, third, running(15), ready=True), deployment(1)]))
    result = play(steps)
    assert outcome(result) == "ready", result["msg"]


@pytest.mark.parametrize("native", [True, False])
def test_a_sidecar_that_ends_a_third_time_is_not(native: bool) -> None:
    """Then it loops, and is named."""
    main = waiting("PodInitializing") if native else running(0)
    down = beside(native, looping(2, ended(1, 2, 3), "back-off 20s"), main)
    result = play([(0, [deployment(), replica_set(), down])])
    assert (outcome(result), result["failure"]["container"]) == ("crash_loop", "istio-proxy")


def test_an_init_container_that_fails_twice_and_then_completes() -> None:
    """It waited for something."""
    steps: list[t.Any] = [(0, [deployment(), replica_set()])]
    last = ended(1, 2, 3)
    for at, init in (
        (0.5, running(0)),
        (1, {"state": ended(1, 0, 1)}),
        (2, {"restartCount": 1, **running(2)}),
        (3, looping(1, last)),
        (14, {"restartCount": 2, **running(14), "lastState": last}),
        (16, {"restartCount": 2, "ready": True, "state": ended(0, 14, 16), "lastState": last}),
    ):
        steps.append((at, [pod(waiting("PodInitializing"), init=init)]))
    done = {"restartCount": 2, "ready": True, "state": ended(0, 14, 16), "lastState": last}
    steps.append((20, [pod(running(17), init=done, ready=True), deployment(1)]))
    assert outcome(play(steps)) == "ready"


UNSCHEDULABLE = "0/3 nodes are available: 3 Insufficient cpu."


def unscheduled(message: str = UNSCHEDULABLE, **status: t.Any) -> Object:
    """Return a pod that no node takes."""
    refused = condition("PodScheduled", "False", reason="Unschedulable", message=message)
    return pod(conditions=[refused], status={"phase": "Pending", **status})


def test_preemption_stops_the_clock() -> None:
    """The victim has a minute and a half to go."""
    message = f"{UNSCHEDULABLE} preemption: not eligible due to a terminating pod"
    first = unscheduled(message, nominatedNodeName="n2")
    up = [pod(waiting("ContainerCreating")), pod(running(94), ready=True)]
    steps = [(0, [deployment(), replica_set(), first]), (90, [up[0]])]
    assert outcome(play([*steps, (95, [up[1], deployment(1)])])) == "ready"


@pytest.mark.parametrize("reason", ["TriggeredScaleUp", "Nominated"])
def test_an_autoscaler_at_work_stops_it_too(reason: str) -> None:
    """A node takes minutes to come."""
    first = unscheduled()
    said = event(first, reason, "a node is coming", at=-3)
    up = pod(running(190), ready=True)
    steps = [(0, [deployment(), replica_set(), first, said]), (200, [up, deployment(1)])]
    assert outcome(play(steps)) == "ready"


def claim(phase: str = "Pending") -> Object:
    """Return the claim data."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "ns", "uid": "c"},
        "spec": {"storageClassName": "slow"},
        "status": {"phase": phase},
    }


MOUNTS = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}


def test_a_provisioner_at_work_stops_it_too() -> None:
    """It said that it began; the volume takes three minutes."""
    message = "pod has unbound immediate PersistentVolumeClaims"
    refused = condition("PodScheduled", "False", reason="Unschedulable", message=message)
    first = pod(conditions=[refused], spec=MOUNTS, status={"phase": "Pending"})
    said = event(claim(), "Provisioning", "External provisioner is provisioning", at=-2)
    up = pod(running(185), spec=MOUNTS, ready=True)
    steps = [(0, [deployment(), replica_set(), first, claim(), said])]
    assert outcome(play([*steps, (180, [claim("Bound")]), (190, [up, deployment(1)])])) == "ready"


def test_one_that_fails_between_two_attempts_does_not() -> None:
    """It is at work again and again, and gets nowhere."""
    message = "pod has unbound immediate PersistentVolumeClaims"
    refused = condition("PodScheduled", "False", reason="Unschedulable", message=message)
    first = pod(conditions=[refused], spec=MOUNTS, status={"phase": "Pending"})
    steps: list[t.Any] = [(0, [deployment(), replica_set(), first, claim()])]
    for turn in range(8):
        at = 1 + turn * 15
        steps.append((at, [event(claim(), "Provisioning", "provisioning", at=at)]))
        steps.append((at + 8, [event(claim(), "ProvisioningFailed", "no such pool", at=at + 8)]))
    result = play(steps)
    assert outcome(result) == "volume"
    assert result["elapsed"] < 100


def test_a_provisioner_that_is_not_there_is_told() -> None:
    """Kubernetes itself waits for it, and says so every few seconds."""
    said = event(claim(), "ExternalProvisioning", 'by the provisioner "nfs.example"', at=-2)
    message = "pod has unbound immediate PersistentVolumeClaims"
    refused = condition("PodScheduled", "False", reason="Unschedulable", message=message)
    first = pod(conditions=[refused], spec=MOUNTS, status={"phase": "Pending"})
    result = play([(0, [deployment(), replica_set(), first, claim(), said])])
    assert outcome(result) == "volume"
    assert "nfs.example" in result["msg"]


def test_pods_of_one_s_own_that_go_free_the_quota() -> None:
    """They take their time, and the controller takes some more."""
    full = condition("ReplicaFailure", reason="FailedCreate", message="exceeded quota: compute")
    old = pod(running(-900), name="web-1-a", owner="web-1", deletionTimestamp=stamp(28))
    nothing = deployment(updated=0, total=0)
    steps: list[t.Any] = [(0, [nothing, replica_set(1), replica_set(conditions=[full]), old])]
    steps += [(28, [Gone(old)]), (45, [replica_set(), deployment()])]
    assert outcome(play([*steps, (60, [pod(running(50), ready=True), deployment(1)])])) == "ready"


def test_a_job_with_two_that_work_side_by_side_is_left_alone() -> None:
    """One of them is done before the other: it is not a sidecar."""
    both = [
        {"name": "left", "restartCount": 0, "state": ended(0, 0, 5)},
        {"name": "right", "restartCount": 0, **running(0)},
    ]
    first = pod(name="migrate-a", owner="j", statuses=both, spec={"restartPolicy": "Never"})
    done = job([condition("Complete")])
    assert outcome(play([(0, [job(), first]), (200, [done])], MIGRATE)) == "ready"


def test_two_targets_become_ready_each_in_its_time() -> None:
    """A control: the engine waits for the last."""
    steps: list[t.Any] = [(0, [deployment(1), replica_set(), stateful_set()])]
    up = pod(running(20), name="db-0", owner="s", revision="new", ready=True)
    result = play([*steps, (25, [up, stateful_set(1, 1)])], [WEB, DB])
    assert (outcome(result), result["elapsed"]) == ("ready", 25)
