# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts on claims, and what keeps a pod's volumes from being mounted."""

from __future__ import annotations

import re

from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Problem
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Clock,
    Object,
    State,
    condition,
    container_statuses,
    event_time,
    wall_seconds,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_terms import (
    OLD_ATTEMPT,
    PROGRESSING,
    READY,
    Rules,
    Verdict,
    leaving,
    problem_of,
    until_retried,
)

_MOUNT_FAILED = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
# What stands between the volumes and the containers: the pod's network and devices.
_SANDBOX_FAILED = frozenset(
    {
        "FailedCreatePodSandBox",
        "FailedPodSandBoxStatus",
        "FailedPrepareDynamicResources",
        "NetworkNotReady",
    }
)
_MOUNTED = frozenset({"Pulling", "Pulled", "Created", "Started"})
# The longest pause (s) between two attempts to mount a volume, and after how long without a word
# of it (s) one that failed is history.
MOUNT_PAUSE = 130.0
MOUNT_SILENCE = 900.0
# For how long (s) a provisioner or an autoscaler that said that it is at work is believed.
AT_WORK = 900.0
# A provisioner that says so goes on: making a volume takes longer than it waited in one go.
_GOES_ON = re.compile(
    r"deadline ?exceeded|code = aborted|already exists|operation .*(?:pending|in progress)",
    re.IGNORECASE,
)
_SLOW_PROVISIONER = 300.0


def judge_claim(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
    """Judge a PersistentVolumeClaim."""
    phase = (item.get("status") or {}).get("phase") or "Pending"
    if phase == "Bound":
        return Verdict(READY, "bound")
    problem = claim_problem(item, state, clock, rules)
    waits = any(event.get("reason") == "WaitForFirstConsumer" for event in state.events(item))
    if waits and not problem and not _consumers(item, state):
        return Verdict(READY, "will be bound when a pod first uses it")
    return Verdict(PROGRESSING, str(phase).lower(), (problem,) if problem else ())


def claim_problem(claim: Object, state: State, clock: Clock, rules: Rules) -> Problem | None:
    """Return what keeps a claim from being bound, or None."""
    name = claim["metadata"]["name"]
    spec = claim.get("spec") or {}
    phase = (claim.get("status") or {}).get("phase") or "Pending"
    if phase == "Lost":
        message = f"claim {name} has lost its volume {spec.get('volumeName')}"
        return problem_of(claim, "volume", message, tolerance=0.0)
    if phase != "Pending":
        return None
    at_work: Object | None = None
    for event in reversed(state.events(claim)):
        reason, text = event.get("reason"), str(event.get("message") or "")
        if reason in ("ProvisioningFailed", "FailedBinding"):
            return _not_provisioned(claim, event, at_work is not None, clock, rules)
        if reason == "ProvisioningSucceeded":
            return None
        if reason == "WaitForFirstConsumer":
            # What came after it counts: the consumer is there.
            if at_work is None:
                return None
            break
        if reason == "Provisioning":
            at_work = at_work or event
        if reason == "ExternalProvisioning" and not _any(state, claim, "Provisioning"):
            return problem_of(
                claim, "volume", f"claim {name}: its provisioner has not begun: {text}"
            )
    if at_work:
        begun = wall_seconds(event_time(at_work))
        return problem_of(
            claim,
            "volume",
            f"claim {name}: its volume is being made: {at_work.get('message')}",
            stopped=begun is None or clock.wall - begun < AT_WORK,
        )
    if spec.get("volumeName"):
        message = f"claim {name} waits for the volume {spec['volumeName']}, which it names"
        return problem_of(claim, "volume", message)
    if not spec.get("storageClassName"):
        message = f"claim {name} names no storage class, and none is default"
        return problem_of(claim, "volume", message)
    return None


def _not_provisioned(
    claim: Object, event: Object, tries_again: bool, clock: Clock, rules: Rules
) -> Problem:
    """Report an attempt to make a volume that failed."""
    text = str(event.get("message") or "")
    return problem_of(
        claim,
        "volume",
        f"claim {claim['metadata']['name']}: {text}",
        held=tries_again,
        tolerance=_SLOW_PROVISIONER if _GOES_ON.search(text) else None,
        until=until_retried(
            wall_seconds(event_time(event)), MOUNT_PAUSE, OLD_ATTEMPT, clock, rules
        ),
    )


def _any(state: State, item: Object, reason: str) -> bool:
    return any(event.get("reason") == reason for event in state.events(item))


def _consumers(claim: Object, state: State) -> list[Object]:
    return [pod for pod in state.mounting(claim) if not leaving(pod)]


def mount_problems(pod: Object, state: State, clock: Clock, rules: Rules) -> list[Problem]:
    """Report what keeps a pod's node from making ready for its containers.

    Volumes come first, then the sandbox with its network and devices. No container has come past
    them; the events of what failed before stay, and a pull can take long.
    """
    if not _is_being_created(pod):
        return []
    latest: Object | None = None
    for event in state.events(pod):
        reason = event.get("reason")
        if reason in _MOUNT_FAILED or reason in _SANDBOX_FAILED:
            latest = event
        elif reason in _MOUNTED:
            latest = None
        elif reason == "SuccessfulAttachVolume" and latest:
            attached = latest.get("reason") == "FailedAttachVolume"
            latest = None if attached and _same_volume(latest, event) else latest
    if latest is None:
        return []
    at = wall_seconds(event_time(latest))
    if at is not None and clock.wall - at > MOUNT_SILENCE:
        return []
    word = "volume" if latest.get("reason") in _MOUNT_FAILED else "sandbox"
    if word == "volume" and condition(pod, "PodReadyToStartContainers", "True"):
        return []
    message = str(latest.get("message") or latest.get("reason"))
    return [
        problem_of(
            pod,
            word,
            f"pod {pod['metadata']['name']}: {message}",
            pod=str(pod["metadata"]["name"]),
            until=until_retried(at, MOUNT_PAUSE, OLD_ATTEMPT, clock, rules),
        )
    ]


def _same_volume(one: Object, other: Object) -> bool:
    """Say whether two events may be about one volume: that a second one came is no news of it."""
    names = [
        re.findall(r'volume "([^"]+)"', str(event.get("message") or "")) for event in (one, other)
    ]
    return not all(names) or bool({*names[0]} & {*names[1]})


def _is_being_created(pod: Object) -> bool:
    """Say whether none of a pod's containers has got anywhere yet."""
    statuses = container_statuses(pod)
    if condition(pod, "PodReadyToStartContainers", "False"):
        # Also one whose node came back: its containers' statuses are of before.
        return not any((status.get("state") or {}).get("running") for status in statuses)
    if not statuses:
        phase = (pod.get("status") or {}).get("phase")
        return phase in (None, "Pending") and bool((pod.get("spec") or {}).get("nodeName"))
    return all(
        ((status.get("state") or {}).get("waiting") or {}).get("reason")
        in ("ContainerCreating", "PodInitializing")
        for status in statuses
    )
