# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts on Deployments, StatefulSets and DaemonSets: the current revision only."""

from __future__ import annotations

import re

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    POD,
    REPLICA_SET,
    REVISION,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Problem
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Clock,
    Object,
    State,
    condition,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_pods import (
    progress,
    settled,
    workload_problems,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_terms import (
    PROGRESSING,
    Rules,
    Verdict,
    leaving,
    number,
    observed,
    problem_of,
    unobserved,
)

_WEBHOOK_SILENT = re.compile(r"failed calling webhook|failed to call webhook", re.IGNORECASE)


def newest_replica_set(deployment: Object, state: State) -> Object | None:
    """Return the ReplicaSet of the current revision, or None while it is not known.

    The controller writes the revision on the ReplicaSet and on the Deployment in the same pass.
    If the Deployment's is higher, the newest ReplicaSet has not been seen yet.
    """
    newest, highest = None, -1
    for item in state.owned(REPLICA_SET, deployment):
        if _revision(item) > highest:
            newest, highest = item, _revision(item)
    if newest is None or not observed(deployment) or highest < _revision(deployment):
        return None
    return newest


def _revision(item: Object) -> int:
    text = (item["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision", "")
    return int(text) if str(text).isdigit() else 0


def deployment_pods(item: Object, state: State) -> list[Object]:
    newest = newest_replica_set(item, state)
    return state.owned(POD, newest) if newest else []


def judge_deployment(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
    if not observed(item):
        return unobserved(item)
    want = number(item, "replicas", "spec", 1)
    updated, total = number(item, "updatedReplicas"), number(item, "replicas")
    available = number(item, "availableReplicas")
    pods = deployment_pods(item, state)
    if updated >= want and total <= updated and available >= updated:
        return settled(item, pods, want, f"{available} of {want} available", state, clock, rules)
    if (item.get("spec") or {}).get("paused"):
        message = f"Deployment {item['metadata']['name']} is paused: its rollout does not go on"
        return Verdict(PROGRESSING, "is paused", (problem_of(item, "paused", message),))
    problems = workload_problems(item, pods, state, clock, rules)
    newest = newest_replica_set(item, state)
    refused = condition(newest, "ReplicaFailure", "True") if newest else None
    if refused:
        problems.append(_refused(item, str(refused.get("message") or refused.get("reason"))))
    deadline = condition(item, "Progressing", "False")
    if deadline and deadline.get("reason") == "ProgressDeadlineExceeded":
        doing = progress("", pods, state).removeprefix(" · ")
        problems.append(_deadline(item, str(deadline.get("message") or ""), problems, doing))
    counts = f"{min(available, updated)} of {want} available"
    if updated >= want and total > updated:
        counts += f", {total - updated} of an older revision still running"
    return Verdict(PROGRESSING, progress(counts, pods, state), tuple(problems))


def _deadline(item: Object, text: str, others: list[Problem], doing: str) -> Problem:
    """Report that the controller gave up, with what is known of why."""
    cause = others[0] if others else None
    message = text or "the rollout made no progress within its deadline"
    if cause:
        return problem_of(
            item,
            "progress_deadline",
            f"{message}; {cause.message}",
            container=cause.container,
            pod=cause.pod,
            previous=cause.previous,
        )
    if doing:
        message = f"{message.rstrip('.')}; {doing}"
    return problem_of(item, "progress_deadline", message)


def _refused(item: Object, message: str) -> Problem:
    """Report that the API server refuses to create an object's pods."""
    tolerance = 30.0 if _WEBHOOK_SILENT.search(message) else None
    return problem_of(item, "quota_or_admission", message, tolerance=tolerance)


def _held_back(item: Object) -> int | None:
    """Return how many pods of a StatefulSet an update leaves alone on purpose (None: all)."""
    strategy = (item.get("spec") or {}).get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return None
    return int((strategy.get("rollingUpdate") or {}).get("partition") or 0)


def stateful_set_pods(item: Object, state: State) -> list[Object]:
    pods = state.owned(POD, item)
    if not observed(item):
        return []
    held_back = _held_back(item)
    revision = (item.get("status") or {}).get("updateRevision")
    if held_back is None:
        return pods
    return [pod for pod in pods if _hash(pod) == revision or _ordinal(pod) < held_back]


def _hash(pod: Object) -> str | None:
    return (pod["metadata"].get("labels") or {}).get("controller-revision-hash")


def _ordinal(pod: Object) -> int:
    tail = str(pod["metadata"]["name"]).rpartition("-")[2]
    return int(tail) if tail.isdigit() else 0


def judge_stateful_set(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
    if not observed(item):
        return unobserved(item)
    want = number(item, "replicas", "spec", 1)
    held_back = _held_back(item)
    status = item.get("status") or {}
    updated = number(item, "updatedReplicas")
    may_update = 0 if held_back is None else max(0, want - held_back)
    ready = min(number(item, "readyReplicas"), number(item, "availableReplicas", default=want))
    pods = stateful_set_pods(item, state)
    all_updated = status.get("currentRevision") == status.get("updateRevision")
    if updated >= may_update or all_updated:
        if ready >= want and number(item, "replicas") <= want:
            counts = f"{ready} of {want} available"
            return settled(item, pods, want, counts, state, clock, rules)
        counts = f"{min(ready, want)} of {want} available"
    else:
        counts = f"{updated} of {may_update} updated, {min(ready, want)} of {want} available"
    problems = workload_problems(item, pods, state, clock, rules)
    if len([pod for pod in state.owned(POD, item) if not leaving(pod)]) < want:
        problems += creation_problems(item, state)
    return Verdict(PROGRESSING, progress(counts, pods, state), tuple(problems))


def daemon_set_pods(item: Object, state: State) -> list[Object]:
    pods = state.owned(POD, item)
    strategy = (item.get("spec") or {}).get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return pods
    revisions = state.owned(REVISION, item)
    if not revisions or not observed(item):
        return []
    newest = max(revisions, key=lambda revision: int(revision.get("revision") or 0))
    return [pod for pod in pods if _hash(pod) == _hash(newest)]


def judge_daemon_set(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
    if not observed(item):
        return unobserved(item)
    want = number(item, "desiredNumberScheduled")
    strategy = (item.get("spec") or {}).get("updateStrategy") or {}
    on_delete = strategy.get("type") == "OnDelete"
    updated = want if on_delete else number(item, "updatedNumberScheduled")
    available = number(item, "numberAvailable")
    pods = daemon_set_pods(item, state)
    if updated >= want and available >= want:
        counts = f"{available} of {want} available"
        return settled(item, pods, want, counts, state, clock, rules)
    problems = workload_problems(item, pods, state, clock, rules)
    if len(pods) < want:
        problems += creation_problems(item, state)
    counts = f"{min(updated, available)} of {want} available"
    return Verdict(PROGRESSING, progress(counts, pods, state), tuple(problems))


def creation_problems(item: Object, state: State) -> list[Problem]:
    """Report a refusal to create pods, which these controllers tell by events only."""
    latest = [
        event
        for event in state.events(item)
        if event.get("reason") in ("FailedCreate", "SuccessfulCreate")
    ][-1:]
    return [
        _refused(item, str(event.get("message") or ""))
        for event in latest
        if event.get("reason") == "FailedCreate"
    ]
