# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts on Deployments, StatefulSets and DaemonSets: the current revision only."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    POD,
    REPLICA_SET,
    REVISION,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import (
    DEFAULTS,
    UNTIL_TIMEOUT,
    Problem,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.shape import whole
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Clock,
    Object,
    State,
    condition,
    event_time,
    wall_seconds,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_pods import (
    activity,
    lingering,
    pod_problems,
    progress,
    revision_of,
    settled,
    workload_problems,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_terms import (
    OLD_ATTEMPT,
    PROGRESSING,
    Rules,
    Verdict,
    leaving,
    number,
    observed,
    problem_of,
    unobserved,
    until_retried,
)

_WEBHOOK_SILENT = re.compile(r"failed calling webhook|failed to call webhook", re.IGNORECASE)
_QUOTA = re.compile(r"exceeded quota", re.IGNORECASE)
# For how long (s) a webhook may be silent, and how long after a pod has gone a quota may still seem
# to be full: the controller waits longer after each refusal.
_WEBHOOK_RETURNS = 30.0
_QUOTA_IS_FREED = 20.0
# The longest (s) that a controller is given for its next attempt after one that was refused.
_LONGEST_RETRY = 300.0
# A rollout that its controller gave up is given up if that was in this wait, or just before (s).
_JUST_BEFORE = 5.0


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
    annotations = item["metadata"].get("annotations") or {}
    return whole(annotations.get("deployment.kubernetes.io/revision"))


def deployment_pods(item: Object, state: State) -> list[Object]:
    """Return the pods of a Deployment's current revision."""
    newest = newest_replica_set(item, state)
    return state.owned(POD, newest) if newest else []


def judge_deployment(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
    """Judge a Deployment."""
    if not observed(item):
        return unobserved(item)
    want = number(item, "replicas", "spec", 1)
    updated, total = number(item, "updatedReplicas"), number(item, "replicas")
    available = number(item, "availableReplicas")
    newest = newest_replica_set(item, state)
    pods = deployment_pods(item, state)
    if updated >= want and total <= updated and available >= updated:
        counts = f"{available} of {want} available"
        return settled(item, pods, want, counts, state, clock, rules, newest)
    if (item.get("spec") or {}).get("paused"):
        message = f"Deployment {item['metadata']['name']} is paused: its rollout does not go on"
        return Verdict(PROGRESSING, "is paused", (problem_of(item, "paused", message),))
    problems = workload_problems(item, pods, state, clock, rules, newest)
    problems += _deployment_refused(item, newest, state, clock, rules)
    if updated < want or total > updated:
        older = [pod for each in state.owned(REPLICA_SET, item) for pod in state.owned(POD, each)]
        problems += lingering(older, clock)
    deadline = condition(item, "Progressing", "False")
    if deadline and deadline.get("reason") == "ProgressDeadlineExceeded":
        doing = progress("", pods, state).removeprefix(" · ")
        problems.append(_deadline(item, deadline, problems, doing, rules))
    counts = f"{min(available, updated)} of {want} available"
    counts += _keeps_still(item, pods, available)
    if updated >= want and total > updated:
        counts += f", {total - updated} of an older revision still running"
    return Verdict(PROGRESSING, progress(counts, pods, state), tuple(problems))


def _keeps_still(item: Object, pods: list[Object], available: int) -> str:
    """Say that pods are ready, and have to be so for longer (minReadySeconds)."""
    seconds = number(item, "minReadySeconds", "spec")
    ready = [pod for pod in pods if not leaving(pod) and condition(pod, "Ready", "True")]
    if seconds <= 0 or len(ready) <= available:
        return ""
    return f", {len(ready)} ready and not yet for {seconds} s (minReadySeconds)"


def _deadline(
    item: Object, deadline: Object, others: list[Problem], doing: str, rules: Rules
) -> Problem:
    """Report that the controller gave up, with what is known of why.

    What it gave up before the wait began may have been put right since: it does not take that back
    before a pod has become ready.
    """
    cause = others[0] if others else None
    message = str(deadline.get("message") or "the rollout made no progress within its deadline")
    times = (deadline.get("lastUpdateTime"), deadline.get("lastTransitionTime"))
    at = max((seconds for text in times if (seconds := wall_seconds(text))), default=None)
    before = at is not None and rules.since is not None and at < rules.since - _JUST_BEFORE
    held = before or any(problem.stopped for problem in others)
    if cause:
        return problem_of(
            item,
            "progress_deadline",
            f"{message.rstrip('.')}: {cause.message}",
            container=cause.container,
            pod=cause.pod,
            previous=cause.previous,
            held=held,
            cause=cause.reason,
        )
    if doing:
        message = f"{message.rstrip('.')}; {doing}"
    return problem_of(item, "progress_deadline", message, held=held)


def _deployment_refused(
    item: Object, newest: Object | None, state: State, clock: Clock, rules: Rules
) -> list[Problem]:
    """Report that a Deployment's pods, or its ReplicaSet, are refused."""
    refused = condition(newest or item, "ReplicaFailure", "True")
    stuck = condition(item, "Progressing", "False") or {}
    if not refused and stuck.get("reason") in ("ReplicaSetCreateError", "FailedCreate"):
        refused = stuck
    if not refused:
        return []
    attempts = [
        event
        for event in state.events(newest or item)
        if event.get("reason") in ("FailedCreate", "ReplicaSetCreateError")
    ]
    began = wall_seconds(refused.get("lastTransitionTime"))
    latest = wall_seconds(event_time(attempts[-1])) if attempts else began
    message = str(refused.get("message") or refused.get("reason"))
    return [_refused(item, message, began, latest, state, clock, rules)]


def _refused(
    item: Object,
    message: str,
    began: float | None,
    latest: float | None,
    state: State,
    clock: Clock,
    rules: Rules,
) -> Problem:
    """Report that the API server refuses to create an object's pods.

    began and latest are when it first did, and last (s, wall).
    """
    tolerance = _WEBHOOK_RETURNS if _WEBHOOK_SILENT.search(message) else None
    stopped = bool(_QUOTA.search(message)) and _makes_room(item, state, clock)
    # A controller waits about as long again as it has been trying.
    tried = (latest - began) if latest is not None and began is not None else 0.0
    pause = min(_LONGEST_RETRY, max(0.0, tried))
    return problem_of(
        item,
        "quota_or_admission",
        message,
        tolerance=tolerance,
        stopped=stopped,
        until=until_retried(latest, pause, OLD_ATTEMPT, clock, rules),
    )


def _makes_room(item: Object, state: State, clock: Clock) -> bool:
    """Say whether pods of the namespace are going, or have just gone: that empties a quota."""
    namespace = str(item["metadata"].get("namespace") or "")
    freed = state.freed(namespace)
    if freed is not None and clock.now - freed < _QUOTA_IS_FREED:
        return True
    going = state.going(namespace)
    return len(going) > len(lingering(going, clock))


def _held_back(item: Object) -> int | None:
    """Return how many pods of a StatefulSet an update leaves alone on purpose (None: all)."""
    strategy = (item.get("spec") or {}).get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return None
    rolling = strategy.get("rollingUpdate")
    return whole(rolling.get("partition")) if isinstance(rolling, dict) else 0


def stateful_set_pods(item: Object, state: State) -> list[Object]:
    """Return the pods of a StatefulSet's current revision, and those that it holds back."""
    if not observed(item):
        return []
    return [pod for pod in state.owned(POD, item) if not is_outdated(pod, item)]


def is_outdated(pod: Object, item: Object) -> bool:
    """Say whether a StatefulSet's pod is of another revision than it should be."""
    held_back = _held_back(item)
    revision = (item.get("status") or {}).get("updateRevision")
    first = whole(((item.get("spec") or {}).get("ordinals") or {}).get("start"))
    if held_back is None or _ordinal(pod) - first < held_back:
        return False
    return revision_of(pod) != revision


def _ordinal(pod: Object) -> int:
    tail = str(pod["metadata"]["name"]).rpartition("-")[2]
    return int(tail) if tail.isdigit() else 0


def judge_stateful_set(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
    """Judge a StatefulSet."""
    if not observed(item):
        return unobserved(item)
    want = number(item, "replicas", "spec", 1)
    held_back = _held_back(item)
    status = item.get("status") or {}
    updated = number(item, "updatedReplicas")
    may_update = 0 if held_back is None else max(0, want - held_back)
    ready = min(number(item, "readyReplicas"), number(item, "availableReplicas", default=want))
    every = [pod for pod in state.owned(POD, item) if not leaving(pod)]
    pods = stateful_set_pods(item, state)
    outdated = [pod for pod in every if is_outdated(pod, item)]
    # After a change was taken back both revisions are the same again, and a pod that the change
    # brought may still be there.
    same = status.get("currentRevision") == status.get("updateRevision") and not outdated
    if same and status.get("updatedReplicas") is not None:
        same = len([pod for pod in pods if not leaving(pod)]) >= want
    if updated >= may_update or same:
        if ready >= want and number(item, "replicas") <= want:
            counts = f"{ready} of {want} available"
            return settled(item, pods, want, counts, state, clock, rules)
        counts = f"{min(ready, want)} of {want} available"
    else:
        counts = f"{updated} of {may_update} updated, {min(ready, want)} of {want} available"
    counts += _keeps_still(item, pods, ready)
    problems = workload_problems(item, pods, state, clock, rules)
    if len(every) < want:
        problems += creation_problems(item, state, clock, rules)
    problems += _kept_back(item, outdated, state, clock, rules)
    problems += lingering(state.owned(POD, item), clock)
    shown = pods if any(not leaving(pod) for pod in pods) else every
    return Verdict(PROGRESSING, progress(counts, shown, state), tuple(problems))


def _kept_back(
    item: Object, outdated: list[Object], state: State, clock: Clock, rules: Rules
) -> list[Problem]:
    """Report the pod of an older revision that never became ready.

    A StatefulSet that goes on pod by pod waits for it, though its template has been corrected
    (kubernetes#67250): somebody has to delete it.
    """
    if (item.get("spec") or {}).get("podManagementPolicy") == "Parallel":
        return []
    found = []
    for pod in outdated:
        if condition(pod, "Ready", "True"):
            continue
        name = str(pod["metadata"]["name"])
        text = f"pod {name} is of an older revision and not ready; the StatefulSet waits for it"
        why = next(iter(pod_problems(pod, state, clock, rules)), None)
        if why is None:
            words = f"{text}: {activity(pod, state)}"
            more: dict[str, t.Any] = {"tolerance": UNTIL_TIMEOUT}
        else:
            words = f"{text}: {why.message}"
            usual = DEFAULTS[why.reason] if why.tolerance is None else why.tolerance
            more = {
                "tolerance": max(DEFAULTS["blocked"], usual),
                "container": why.container,
                "previous": why.previous,
                "held": why.held or why.stopped,
                "until": why.until,
            }
        found.append(problem_of(pod, "blocked", words, pod=name, **more))
    return found


def daemon_set_pods(item: Object, state: State) -> list[Object]:
    """Return the pods of a DaemonSet's current revision."""
    pods = state.owned(POD, item)
    strategy = (item.get("spec") or {}).get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return pods
    if not observed(item):
        return []
    if not state.sees(REVISION):
        # The same number, counted by the controller itself.
        newest = max((_generation(pod) for pod in pods), default=0)
        return [pod for pod in pods if _generation(pod) == newest]
    revisions = state.owned(REVISION, item)
    if not revisions:
        return []
    latest = max(revisions, key=lambda revision: whole(revision.get("revision")))
    return [pod for pod in pods if revision_of(pod) == revision_of(latest)]


def _generation(pod: Object) -> int:
    return whole((pod["metadata"].get("labels") or {}).get("pod-template-generation"))


def judge_daemon_set(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
    """Judge a DaemonSet."""
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
        problems += creation_problems(item, state, clock, rules)
    problems += lingering(state.owned(POD, item), clock)
    counts = f"{min(updated, available)} of {want} available"
    counts += _keeps_still(item, pods, available)
    return Verdict(PROGRESSING, progress(counts, pods, state), tuple(problems))


def creation_problems(item: Object, state: State, clock: Clock, rules: Rules) -> list[Problem]:
    """Report a refusal to create pods, which these controllers tell by events only."""
    latest = [
        event
        for event in state.events(item)
        if event.get("reason") in ("FailedCreate", "SuccessfulCreate")
    ][-1:]
    return [
        _refused(
            item,
            str(event.get("message") or ""),
            wall_seconds(event.get("firstTimestamp") or event.get("eventTime")),
            wall_seconds(event_time(event)),
            state,
            clock,
            rules,
        )
        for event in latest
        if event.get("reason") == "FailedCreate"
    ]
