# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts on claims, and what keeps a pod's volumes from being mounted."""

from __future__ import annotations

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import POD
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Problem
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Clock,
    Object,
    State,
    claim_names,
    condition,
    container_statuses,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_terms import (
    PROGRESSING,
    READY,
    Rules,
    Verdict,
    leaving,
    problem_of,
)

_MOUNT_FAILED = frozenset({"FailedMount", "FailedAttachVolume"})
_MOUNTED = frozenset({"Pulling", "Pulled", "Created", "Started"})


def judge_claim(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
    phase = (item.get("status") or {}).get("phase") or "Pending"
    if phase == "Bound":
        return Verdict(READY, "bound")
    problem = claim_problem(item, state)
    waits = any(event.get("reason") == "WaitForFirstConsumer" for event in state.events(item))
    if waits and not problem and not _consumers(item, state):
        return Verdict(READY, "will be bound when a pod first uses it")
    return Verdict(PROGRESSING, phase.lower(), (problem,) if problem else ())


def claim_problem(claim: Object, state: State) -> Problem | None:
    name = claim["metadata"]["name"]
    phase = (claim.get("status") or {}).get("phase")
    if phase == "Lost":
        message = f"claim {name} has lost its volume {(claim.get('spec') or {}).get('volumeName')}"
        return problem_of(claim, "volume", message, tolerance=0.0)
    if phase != "Pending":
        return None
    for event in reversed(state.events(claim)):
        if event.get("reason") in ("ProvisioningFailed", "FailedBinding"):
            return problem_of(claim, "volume", f"claim {name}: {event.get('message')}")
        if event.get("reason") in (
            "WaitForFirstConsumer",
            "Provisioning",
            "ProvisioningSucceeded",
        ):
            return None
    spec = claim.get("spec") or {}
    if not spec.get("storageClassName") and not spec.get("volumeName"):
        return problem_of(
            claim, "volume", f"claim {name} names no storage class, and none is default"
        )
    return None


def _consumers(claim: Object, state: State) -> list[Object]:
    metadata = claim["metadata"]
    return [
        pod
        for pod in state.all(POD, metadata.get("namespace") or "")
        if metadata["name"] in claim_names(pod) and not leaving(pod)
    ]


def mount_problems(pod: Object, state: State) -> list[Problem]:
    """Report a volume that cannot be mounted, as long as no container has come past it."""
    waiting = [
        ((status.get("state") or {}).get("waiting") or {}).get("reason")
        for status in container_statuses(pod)
    ]
    if not waiting or any(
        reason not in ("ContainerCreating", "PodInitializing") for reason in waiting
    ):
        return []
    if condition(pod, "PodReadyToStartContainers", "True"):
        return []
    # The kubelet pulls and starts nothing before all volumes are mounted; the events of a mount
    # that failed before stay, and a pull can take long.
    telling = [
        event
        for event in state.events(pod)
        if event.get("reason") in _MOUNT_FAILED or event.get("reason") in _MOUNTED
    ]
    if not telling or telling[-1].get("reason") in _MOUNTED:
        return []
    message = str(telling[-1].get("message") or "")
    return [problem_of(pod, "volume", f"pod {pod['metadata']['name']}: {message}")]
