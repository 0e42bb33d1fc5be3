# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts: pure functions of the objects known and a clock, for the current revision only.

Nothing here talks to a cluster or sleeps. A verdict says whether an object is ready, and lists
what stands in the way; how long that may last is the business of _tolerances.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    CLAIM,
    DAEMON_SET,
    DEPLOYMENT,
    JOB,
    POD,
    REPLICA_SET,
    REVISION,
    STATEFUL_SET,
    Kind,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import schema
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Problem
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Clock,
    Object,
    State,
    claim_names,
    condition,
    container_statuses,
    wall_seconds,
)

READY = "ready"
PROGRESSING = "progressing"

# A container that ran this long before it ended is restarted without a back-off by the kubelet
# too: its restart is not part of a crash loop (seconds).
LONG_RUN = 600.0

_IMAGE_INVALID = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_IMAGE_PULL = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
_CONTAINER_START = frozenset(
    {
        "CreateContainerError",
        "RunContainerError",
        "PreCreateHookError",
        "PreStartHookError",
        "PostStartHookError",
    }
)
_NEVER_STARTED = frozenset({"StartError", "ContainerCannotRun"})
# The registry answered, and its answer will not change by asking again.
_PULL_IS_CERTAIN = re.compile(
    r"not found|manifest unknown|name unknown|does not exist|unauthori[sz]ed|forbidden"
    r"|access denied|denied:|authentication required|authorization failed|no basic auth",
    re.IGNORECASE,
)
_MOUNT_FAILED = frozenset({"FailedMount", "FailedAttachVolume"})
_MOUNTED = frozenset({"Pulling", "Pulled", "Created", "Started"})
_WEBHOOK_SILENT = re.compile(r"failed calling webhook|failed to call webhook", re.IGNORECASE)
_ABOUT_CLAIMS = re.compile(r"persistentvolumeclaim", re.IGNORECASE)
# Conditions by which custom resources commonly say that they are done, the best first.
_READY_CONDITIONS = ("Ready", "Available", "Programmed", "Established", "Accepted")


class Target(t.NamedTuple):
    """One object to wait for."""

    kind: Kind
    namespace: str
    name: str
    # Ready as soon as it is applied: a ConfigMap, a Service.
    inert: bool = False

    def __str__(self) -> str:
        return f"{self.kind.kind}/{self.name}"


class Verdict(t.NamedTuple):
    """What can be said about an object at one moment."""

    status: str
    message: str
    problems: tuple[Problem, ...] = ()
    # Seconds after which time alone may change the verdict.
    recheck: float | None = None


class Rules(t.NamedTuple):
    """What the user asked for, as far as it changes a verdict."""

    settle: float = 5.0
    # A migration is still to come or under way: an old schema is not a failure yet.
    migrating: bool = False


def judge(target: Target, state: State, clock: Clock, rules: Rules) -> Verdict:
    """Say whether an object is ready, and what stands in the way."""
    if target.inert:
        return Verdict(READY, "nothing to wait for")
    item = state.get(target.kind, target.namespace, target.name)
    if item is None:
        return _absent(target, state)
    if item["metadata"].get("deletionTimestamp"):
        return Verdict(PROGRESSING, "is being deleted", (_missing(target, "is being deleted"),))
    function = _JUDGES.get(target.kind, _custom)
    verdict = function(item, state, clock, rules)
    # What is wrong with a surplus pod does not matter to an object that is ready.
    return verdict._replace(problems=()) if verdict.status == READY else verdict


def current_pods(target: Target, state: State) -> list[Object]:
    """Return the pods of a workload's current revision that are not going away."""
    item = state.get(target.kind, target.namespace, target.name)
    if item is None:
        return []
    if target.kind == POD:
        return [item]
    finder = _PODS.get(target.kind)
    pods = finder(item, state) if finder else []
    # A Job's pods are of interest when they have ended, too.
    return pods if target.kind == JOB else [pod for pod in pods if not _leaving(pod)]


def _absent(target: Target, state: State) -> Verdict:
    if target.kind == JOB and state.completed(target.namespace, target.name):
        return Verdict(READY, "completed, and was cleaned up")
    return Verdict(PROGRESSING, "does not exist", (_missing(target, "does not exist"),))


def _missing(target: Target, what: str) -> Problem:
    kind, name = target.kind.kind, target.name
    return Problem(
        "not_found",
        kind,
        target.namespace,
        name,
        f"{kind} {name} {what} in namespace {target.namespace}",
        identity=f"{kind}/{target.namespace}/{name}",
    )


def _problem(item: Object, reason: str, message: str, **more: t.Any) -> Problem:
    metadata = item["metadata"]
    more.setdefault("identity", str(metadata.get("uid") or metadata["name"]))
    return Problem(
        reason,
        str(item.get("kind") or "Pod"),
        str(metadata.get("namespace") or ""),
        str(metadata["name"]),
        one_line(message),
        **more,
    )


def one_line(text: str) -> str:
    """Return a text with its line breaks and runs of spaces made single spaces."""
    return " ".join(text.split())


def _observed(item: Object) -> bool:
    """Say whether the controller has acted on the object's present specification."""
    generation = int(item["metadata"].get("generation") or 0)
    return int((item.get("status") or {}).get("observedGeneration") or 0) >= generation


def _unobserved(item: Object) -> Verdict:
    return Verdict(PROGRESSING, f"waiting for the controller to see this {item['kind']}")


def _number(item: Object, name: str, section: str = "status", default: int = 0) -> int:
    value = (item.get(section) or {}).get(name)
    return default if value is None else int(value)


# --- Deployment ---------------------------------------------------------------------------------


def newest_replica_set(deployment: Object, state: State) -> Object | None:
    """Return the ReplicaSet of the current revision, or None while it is not known.

    The controller writes the revision on the ReplicaSet and on the Deployment in the same pass.
    If the Deployment's is higher, the newest ReplicaSet has not been seen yet.
    """
    newest, highest = None, -1
    for item in state.owned(REPLICA_SET, deployment):
        if _revision(item) > highest:
            newest, highest = item, _revision(item)
    if newest is None or not _observed(deployment) or highest < _revision(deployment):
        return None
    return newest


def _revision(item: Object) -> int:
    text = (item["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision", "")
    return int(text) if str(text).isdigit() else 0


def _deployment_pods(item: Object, state: State) -> list[Object]:
    newest = newest_replica_set(item, state)
    return state.owned(POD, newest) if newest else []


def _deployment(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
    if not _observed(item):
        return _unobserved(item)
    want = _number(item, "replicas", "spec", 1)
    updated, total = _number(item, "updatedReplicas"), _number(item, "replicas")
    available = _number(item, "availableReplicas")
    pods = _deployment_pods(item, state)
    if updated >= want and total <= updated and available >= updated:
        return _settled(item, pods, want, f"{available} of {want} available", state, clock, rules)
    if (item.get("spec") or {}).get("paused"):
        message = f"Deployment {item['metadata']['name']} is paused: its rollout does not go on"
        return Verdict(PROGRESSING, "is paused", (_problem(item, "paused", message),))
    problems = _workload_problems(item, pods, state, clock, rules)
    newest = newest_replica_set(item, state)
    refused = condition(newest, "ReplicaFailure", "True") if newest else None
    if refused:
        problems.append(_refused(item, str(refused.get("message") or refused.get("reason"))))
    deadline = condition(item, "Progressing", "False")
    if deadline and deadline.get("reason") == "ProgressDeadlineExceeded":
        doing = _progress("", pods, state).removeprefix(" · ")
        problems.append(_deadline(item, str(deadline.get("message") or ""), problems, doing))
    counts = f"{min(available, updated)} of {want} available"
    if updated >= want and total > updated:
        counts += f", {total - updated} of an older revision still running"
    return Verdict(PROGRESSING, _progress(counts, pods, state), tuple(problems))


def _deadline(item: Object, text: str, others: list[Problem], doing: str) -> Problem:
    """Report that the controller gave up, with what is known of why."""
    cause = others[0] if others else None
    message = text or "the rollout made no progress within its deadline"
    if cause:
        return _problem(
            item,
            "progress_deadline",
            f"{message}; {cause.message}",
            container=cause.container,
            pod=cause.pod,
            previous=cause.previous,
        )
    if doing:
        message = f"{message.rstrip('.')}; {doing}"
    return _problem(item, "progress_deadline", message)


def _refused(item: Object, message: str) -> Problem:
    """Report that the API server refuses to create an object's pods."""
    tolerance = 30.0 if _WEBHOOK_SILENT.search(message) else None
    return _problem(item, "quota_or_admission", message, tolerance=tolerance)


# --- StatefulSet and DaemonSet ------------------------------------------------------------------


def _held_back(item: Object) -> int | None:
    """Return how many pods of a StatefulSet an update leaves alone on purpose (None: all)."""
    strategy = (item.get("spec") or {}).get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return None
    return int((strategy.get("rollingUpdate") or {}).get("partition") or 0)


def _stateful_set_pods(item: Object, state: State) -> list[Object]:
    pods = state.owned(POD, item)
    if not _observed(item):
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


def _stateful_set(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
    if not _observed(item):
        return _unobserved(item)
    want = _number(item, "replicas", "spec", 1)
    held_back = _held_back(item)
    status = item.get("status") or {}
    updated = _number(item, "updatedReplicas")
    may_update = 0 if held_back is None else max(0, want - held_back)
    ready = min(_number(item, "readyReplicas"), _number(item, "availableReplicas", default=want))
    pods = _stateful_set_pods(item, state)
    all_updated = status.get("currentRevision") == status.get("updateRevision")
    if updated >= may_update or all_updated:
        if ready >= want and _number(item, "replicas") <= want:
            counts = f"{ready} of {want} available"
            return _settled(item, pods, want, counts, state, clock, rules)
        counts = f"{min(ready, want)} of {want} available"
    else:
        counts = f"{updated} of {may_update} updated, {min(ready, want)} of {want} available"
    problems = _workload_problems(item, pods, state, clock, rules)
    if len([pod for pod in state.owned(POD, item) if not _leaving(pod)]) < want:
        problems += _creation_problems(item, state)
    return Verdict(PROGRESSING, _progress(counts, pods, state), tuple(problems))


def _daemon_set_pods(item: Object, state: State) -> list[Object]:
    pods = state.owned(POD, item)
    strategy = (item.get("spec") or {}).get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return pods
    revisions = state.owned(REVISION, item)
    if not revisions or not _observed(item):
        return []
    newest = max(revisions, key=lambda revision: int(revision.get("revision") or 0))
    return [pod for pod in pods if _hash(pod) == _hash(newest)]


def _daemon_set(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
    if not _observed(item):
        return _unobserved(item)
    want = _number(item, "desiredNumberScheduled")
    strategy = (item.get("spec") or {}).get("updateStrategy") or {}
    on_delete = strategy.get("type") == "OnDelete"
    updated = want if on_delete else _number(item, "updatedNumberScheduled")
    available = _number(item, "numberAvailable")
    pods = _daemon_set_pods(item, state)
    if updated >= want and available >= want:
        counts = f"{available} of {want} available"
        return _settled(item, pods, want, counts, state, clock, rules)
    problems = _workload_problems(item, pods, state, clock, rules)
    if len(pods) < want:
        problems += _creation_problems(item, state)
    counts = f"{min(updated, available)} of {want} available"
    return Verdict(PROGRESSING, _progress(counts, pods, state), tuple(problems))


def _creation_problems(item: Object, state: State) -> list[Problem]:
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


# --- Job ----------------------------------------------------------------------------------------


def _job_pods(item: Object, state: State) -> list[Object]:
    return state.owned(POD, item)


def _job(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
    if condition(item, "Complete", "True"):
        return Verdict(READY, "completed")
    pods = _job_pods(item, state)
    verdict_problem = _job_schema_problem(item, pods, rules)
    failed = condition(item, "Failed", "True") or condition(item, "FailureTarget", "True")
    if failed:
        problem = verdict_problem and verdict_problem._replace(tolerance=0.0, held=False)
        return Verdict(PROGRESSING, "failed", (problem or _job_failure(item, failed, pods),))
    if (item.get("spec") or {}).get("suspend"):
        message = f"Job {item['metadata']['name']} is suspended: it does not run"
        return Verdict(PROGRESSING, "is suspended", (_problem(item, "paused", message),))
    problems = []
    for pod in pods:
        if not _leaving(pod):
            problems += _pod_problems(pod, state, clock, rules, restarts_are_normal=True)
    if verdict_problem:
        problems.append(verdict_problem)
    if not pods:
        problems += _creation_problems(item, state)
    attempts = _number(item, "failed")
    counts = "running" if _number(item, "active") else "not started"
    if attempts:
        counts += f", {attempts} failed attempt{'s' if attempts > 1 else ''}"
    return Verdict(PROGRESSING, _progress(counts, pods, state), tuple(problems))


def _job_failure(item: Object, failed: Object, pods: list[Object]) -> Problem:
    """Report a failed Job with the container that made it fail."""
    reason = str(failed.get("reason") or "Failed")
    message = f"Job {item['metadata']['name']} failed ({reason}: {failed.get('message') or ''})"
    culprit = _last_failed(pods)
    if culprit is None:
        return _problem(item, "job_failed", message)
    pod, status, ended = culprit.pod, culprit.status, culprit.ended
    return _problem(
        item,
        "job_failed",
        f"{message}; {_ending(pod, status, ended)}{_said(ended)}",
        container=str(status["name"]),
        pod=str(pod["metadata"]["name"]),
        previous=(status.get("state") or {}).get("terminated") is None,
    )


def _said(ended: Object) -> str:
    explained = _explain_ending(ended)
    return f"; {explained[1]}" if explained else ""


def _job_schema_problem(item: Object, pods: list[Object], rules: Rules) -> Problem | None:
    """Report what the schema helper said when its last attempt failed.

    A Job may start a new pod for each attempt, so the clock belongs to the Job. That a schema is
    behind is what a migration is for: if that fails, it is the Job that failed.
    """
    culprit = _last_failed(pods)
    if culprit is None:
        return None
    pod, status, ended = culprit.pod, culprit.status, culprit.ended
    explained = _explain_ending(ended)
    if explained is None:
        return None
    reason, message = explained[0], explained[1]
    if reason in schema.MIGRATABLE:
        return None
    retrying = any(
        (entry.get("state") or {}).get("running") is not None
        for other in pods
        for entry in container_statuses(other)
    )
    return _problem(
        item,
        reason,
        f"{message}; {_ending(pod, status, ended)}",
        container=str(status["name"]),
        pod=str(pod["metadata"]["name"]),
        previous=(status.get("state") or {}).get("terminated") is None,
        held=retrying,
    )


class _Culprit(t.NamedTuple):
    """A container that failed: its pod, its status, and how it ended."""

    pod: Object
    status: Object
    ended: Object


def _last_failed(pods: list[Object]) -> _Culprit | None:
    """Return the latest container that failed."""
    found: list[_Culprit] = []
    for pod in pods:
        for status in container_statuses(pod):
            ended = _last_ending(status)
            if ended and int(ended.get("exitCode") or 0) != 0:
                found.append(_Culprit(pod, status, ended))
    return max(found, key=lambda one: str(one.ended.get("finishedAt") or ""), default=None)


# --- Pod ----------------------------------------------------------------------------------------


def _pod(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
    phase = (item.get("status") or {}).get("phase")
    if phase == "Succeeded":
        return Verdict(READY, "succeeded")
    if phase == "Failed":
        return Verdict(PROGRESSING, "failed", (_pod_failure(item),))
    if condition(item, "Ready", "True"):
        return _settled(item, [item], 1, "running", state, clock, rules)
    problems = tuple(_pod_problems(item, state, clock, rules))
    return Verdict(PROGRESSING, activity(item, state), problems)


def _pod_failure(pod: Object) -> Problem:
    """Report a pod that ended and will not be started again."""
    culprit = _last_failed([pod])
    if culprit is None:
        status = pod.get("status") or {}
        words = f"{status.get('reason') or 'Failed'}: {status.get('message') or 'no message'}"
        return _problem(pod, "crash_loop", f"the pod failed ({words})")
    status, ended = culprit.status, culprit.ended
    return _problem(
        pod,
        "oom_killed" if ended.get("reason") == "OOMKilled" else "crash_loop",
        f"{_ending(pod, status, ended)}, and is not restarted",
        container=str(status["name"]),
        pod=str(pod["metadata"]["name"]),
    )


def _leaving(pod: Object) -> bool:
    """Say whether a pod is on its way out: deleted, ended, evicted or preempted."""
    phase = (pod.get("status") or {}).get("phase")
    return bool(
        pod["metadata"].get("deletionTimestamp")
        or phase in ("Failed", "Succeeded")
        or condition(pod, "DisruptionTarget", "True")
    )


def _workload_problems(
    item: Object, pods: list[Object], state: State, clock: Clock, rules: Rules
) -> list[Problem]:
    problems: list[Problem] = []
    for pod in pods:
        if not _leaving(pod):
            problems += _pod_problems(pod, state, clock, rules)
    return problems


def _pod_problems(
    pod: Object,
    state: State,
    clock: Clock,
    rules: Rules,
    restarts_are_normal: bool = False,
) -> list[Problem]:
    """Return what keeps a pod from becoming ready, its root cause first."""
    if condition(pod, "Ready", "True") and not _unprobed(pod):
        return []
    problems = _scheduling_problems(pod, state)
    if not problems:
        problems = _mount_problems(pod, state)
    for status in container_statuses(pod):
        found = _container_problem(pod, status, state, clock, rules, restarts_are_normal)
        if found:
            problems.append(found)
    return problems


def _scheduling_problems(pod: Object, state: State) -> list[Problem]:
    unscheduled = condition(pod, "PodScheduled", "False")
    if not unscheduled:
        return []
    claims = [_claim_problem(claim, state) for claim in state.claims(pod)]
    problems = [problem for problem in claims if problem]
    if problems or unscheduled.get("reason") != "Unschedulable":
        return problems
    message = str(unscheduled.get("message") or "no node takes the pod")
    name = pod["metadata"]["name"]
    missing = [
        claim
        for claim in claim_names(pod)
        if state.get(CLAIM, pod["metadata"].get("namespace") or "", claim) is None
    ]
    if _ABOUT_CLAIMS.search(message):
        extra = f" (claim {missing[0]} does not exist)" if missing else ""
        return [_problem(pod, "volume", f"pod {name} waits for a volume: {message}{extra}")]
    scaling = [
        event.get("reason")
        for event in state.events(pod)
        if event.get("reason") in ("TriggeredScaleUp", "NotTriggerScaleUp", "Nominated")
    ]
    if scaling and scaling[-1] != "NotTriggerScaleUp":
        return []
    return [_problem(pod, "unschedulable", f"no node takes pod {name}: {message}")]


def _mount_problems(pod: Object, state: State) -> list[Problem]:
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
    return [_problem(pod, "volume", f"pod {pod['metadata']['name']}: {message}")]


def _container_problem(
    pod: Object,
    status: Object,
    state: State,
    clock: Clock,
    rules: Rules,
    restarts_are_normal: bool,
) -> Problem | None:
    waiting = (status.get("state") or {}).get("waiting") or {}
    reason = str(waiting.get("reason") or "")
    text = str(waiting.get("message") or "")
    name = str(status["name"])
    pod_name = str(pod["metadata"]["name"])
    where: dict[str, t.Any] = {"container": name, "pod": pod_name}
    if reason in _IMAGE_INVALID:
        return _problem(pod, "image_invalid", f"image {status.get('image')}: {text}", **where)
    if reason in _IMAGE_PULL:
        certain = 0.0 if _PULL_IS_CERTAIN.search(text) else None
        message = f"image {status.get('image')} cannot be pulled: {text or reason}"
        return _problem(pod, "image_pull", message, tolerance=certain, **where)
    if reason == "CreateContainerConfigError":
        return _problem(pod, "config", f"container {name} of pod {pod_name}: {text}", **where)
    ended = _last_ending(status)
    if reason in _CONTAINER_START:
        message = f"container {name} of pod {pod_name} cannot start: {text or reason}"
        return _problem(pod, "container_start", message, **where)
    if ended is None or restarts_are_normal:
        return None
    where["previous"] = (status.get("state") or {}).get("terminated") is None
    explained = _explain_ending(ended)
    if explained and not _is_up(pod, status, state, clock, rules):
        if rules.migrating and explained[0] in schema.MIGRATABLE:
            return None
        message = f"{explained[1]}; {_ending(pod, status, ended)}"
        held = (status.get("state") or {}).get("running") is not None
        return _problem(pod, explained[0], message, held=held, **where)
    if not _is_looping(pod, status, ended, state, clock, rules):
        return None
    if ended.get("reason") in _NEVER_STARTED:
        # A crash loop, whose cause is known better: it needs no time to become certain either.
        message = f"container {name} of pod {pod_name} cannot start: {ended.get('message')}"
        return _problem(pod, "container_start", message, tolerance=0.0, **where)
    message = _ending(pod, status, ended)
    count = int(status.get("restartCount") or 0)
    message += (
        f", restarted {count} time{'s' if count != 1 else ''}{_killed_by_probe(pod, state, ended)}"
    )
    kind = "oom_killed" if ended.get("reason") == "OOMKilled" else "crash_loop"
    return _problem(pod, kind, message, **where)


def _last_ending(status: Object) -> Object | None:
    """Return how a container's latest ended instance ended, or None."""
    for section in ("state", "lastState"):
        ended = (status.get(section) or {}).get("terminated")
        if ended:
            return t.cast(Object, ended)
    return None


def _is_init(pod: Object, name: str) -> bool:
    containers = (pod.get("spec") or {}).get("initContainers") or []
    return any(container.get("name") == name for container in containers)


def _spec_of(pod: Object, name: str) -> Object:
    spec = pod.get("spec") or {}
    for container in [
        *(spec.get("initContainers") or []),
        *(spec.get("containers") or []),
    ]:
        if container.get("name") == name:
            return t.cast(Object, container)
    return {}


def _explain_ending(ended: Object) -> tuple[str, str] | None:
    """Return what the schema helper's verdict in a termination message says, if it is one."""
    if int(ended.get("exitCode") or 0) == 0:
        return None
    verdict = schema.parse(ended.get("message"))
    return schema.explain(verdict) if verdict else None


def _ending(pod: Object, status: Object, ended: Object) -> str:
    """Say in words how a container ended."""
    kind = "init container" if _is_init(pod, str(status["name"])) else "container"
    text = f"{kind} {status['name']} of pod {pod['metadata']['name']} "
    if ended.get("reason") == "OOMKilled":
        limit = (
            (_spec_of(pod, str(status["name"])).get("resources") or {}).get("limits") or {}
        ).get("memory")
        return (
            text
            + "was killed for using more memory than its limit"
            + (f" of {limit}" if limit else "")
        )
    return text + f"ended with exit code {ended.get('exitCode')}"


def _killed_by_probe(pod: Object, state: State, ended: Object) -> str:
    if int(ended.get("exitCode") or 0) not in (137, 143):
        return ""
    for event in reversed(state.events(pod)):
        text = str(event.get("message") or "")
        if event.get("reason") == "Killing" and "probe" in text:
            return f" ({one_line(text)})"
    return ""


def _is_looping(
    pod: Object, status: Object, ended: Object, state: State, clock: Clock, rules: Rules
) -> bool:
    """Say whether a container keeps ending: in back-off, or restarted twice and not up since."""
    restarts = int(status.get("restartCount") or 0)
    now = status.get("state") or {}
    if (now.get("waiting") or {}).get("reason") == "CrashLoopBackOff":
        return restarts >= 1
    if now.get("terminated") and restarts >= 1 and _backs_off(pod, status, state):
        return True
    if restarts < 2:
        return False
    if _is_init(pod, str(status["name"])) and (now.get("terminated") or {}).get("exitCode") == 0:
        return False
    began, finished = (
        wall_seconds(ended.get("startedAt")),
        wall_seconds(ended.get("finishedAt")),
    )
    if began is not None and finished is not None and finished - began >= LONG_RUN:
        return False
    return not _is_up(pod, status, state, clock, rules)


def _backs_off(pod: Object, status: Object, state: State) -> bool:
    """Say whether the kubelet has announced a back-off for this container.

    It does so as soon as the container has ended again, but shows CrashLoopBackOff in the pod's
    status only ten seconds later (Kubernetes 1.37).
    """
    for event in reversed(state.events(pod)):
        if event.get("reason") == "BackOff":
            path = (event.get("involvedObject") or {}).get("fieldPath") or ""
            if f"{{{status['name']}}}" in path:
                return True
    return False


def _is_up(pod: Object, status: Object, state: State, clock: Clock, rules: Rules) -> bool:
    """Say whether a container's present instance has proven itself (ready now, or it was)."""
    running = (status.get("state") or {}).get("running")
    if running is None:
        return False
    spec = _spec_of(pod, str(status["name"]))
    if _is_init(pod, str(status["name"])) and spec.get("restartPolicy") != "Always":
        return False
    if spec.get("readinessProbe") is None:
        return state.running_for(pod, status, clock) >= rules.settle
    if status.get("ready"):
        return True
    # Not ready, but it was since this instance started: a probe that flaps is not a crash.
    changed = wall_seconds((condition(pod, "ContainersReady") or {}).get("lastTransitionTime"))
    began = wall_seconds(running.get("startedAt"))
    return changed is not None and began is not None and changed > began + 1.0


# --- Settling: containers that nothing probes ----------------------------------------------------


def _unprobed(pod: Object) -> list[str]:
    """Return the names of the long-running containers that have no readiness probe."""
    spec = pod.get("spec") or {}
    names = [
        container["name"]
        for container in spec.get("initContainers") or []
        if container.get("restartPolicy") == "Always" and container.get("readinessProbe") is None
    ]
    return names + [
        container["name"]
        for container in spec.get("containers") or []
        if container.get("readinessProbe") is None
    ]


def _template_is_probed(item: Object) -> bool:
    spec = item.get("spec") or {}
    template = (spec.get("template") or {}).get("spec") or spec
    return not _unprobed({"spec": template})


def _settled(
    item: Object,
    pods: list[Object],
    want: int,
    counts: str,
    state: State,
    clock: Clock,
    rules: Rules,
) -> Verdict:
    """Call a workload ready once its containers without a probe have run for the settle time."""
    if want == 0 or rules.settle <= 0 or _template_is_probed(item):
        return Verdict(READY, counts)
    left = []
    for pod in pods:
        if not _leaving(pod):
            left.append(_settle_left(pod, state, clock, rules))
    left.sort()
    if len(left) >= want and left[want - 1] <= 0:
        return Verdict(READY, counts)
    problems = tuple(_workload_problems(item, pods, state, clock, rules))
    words = f"{counts}, letting containers without a readiness probe run for {rules.settle:g} s"
    recheck = left[want - 1] if len(left) >= want and left[want - 1] != float("inf") else None
    return Verdict(PROGRESSING, words, problems, recheck)


def _settle_left(pod: Object, state: State, clock: Clock, rules: Rules) -> float:
    """Return for how many seconds a pod's unprobed containers still have to run (inf: not up)."""
    if not condition(pod, "Ready", "True"):
        return float("inf")
    names = _unprobed(pod)
    left = 0.0
    for status in container_statuses(pod):
        if status.get("name") not in names:
            continue
        if (status.get("state") or {}).get("running") is None:
            return float("inf")
        left = max(left, rules.settle - state.running_for(pod, status, clock))
    return left


# --- PersistentVolumeClaim ----------------------------------------------------------------------


def _claim_problem(claim: Object, state: State) -> Problem | None:
    name = claim["metadata"]["name"]
    phase = (claim.get("status") or {}).get("phase")
    if phase == "Lost":
        message = f"claim {name} has lost its volume {(claim.get('spec') or {}).get('volumeName')}"
        return _problem(claim, "volume", message, tolerance=0.0)
    if phase != "Pending":
        return None
    for event in reversed(state.events(claim)):
        if event.get("reason") in ("ProvisioningFailed", "FailedBinding"):
            return _problem(claim, "volume", f"claim {name}: {event.get('message')}")
        if event.get("reason") in (
            "WaitForFirstConsumer",
            "Provisioning",
            "ProvisioningSucceeded",
        ):
            return None
    spec = claim.get("spec") or {}
    if not spec.get("storageClassName") and not spec.get("volumeName"):
        return _problem(
            claim, "volume", f"claim {name} names no storage class, and none is default"
        )
    return None


def _claim(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
    phase = (item.get("status") or {}).get("phase") or "Pending"
    if phase == "Bound":
        return Verdict(READY, "bound")
    problem = _claim_problem(item, state)
    waits = any(event.get("reason") == "WaitForFirstConsumer" for event in state.events(item))
    if waits and not problem and not _consumers(item, state):
        return Verdict(READY, "will be bound when a pod first uses it")
    return Verdict(PROGRESSING, phase.lower(), (problem,) if problem else ())


def _consumers(claim: Object, state: State) -> list[Object]:
    metadata = claim["metadata"]
    return [
        pod
        for pod in state.all(POD, metadata.get("namespace") or "")
        if metadata["name"] in claim_names(pod) and not _leaving(pod)
    ]


# --- Custom resources ---------------------------------------------------------------------------


def _custom(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
    """Judge any other object by the standard conditions, as kstatus does."""
    status = item.get("status") or {}
    generation = int(item["metadata"].get("generation") or 0)
    if "observedGeneration" in status and int(status["observedGeneration"] or 0) < generation:
        return _unobserved(item)
    stalled = condition(item, "Stalled", "True")
    if stalled:
        text = str(stalled.get("message") or stalled.get("reason") or "its controller gave up")
        message = f"{item['kind']} {item['metadata']['name']} is stalled: {text}"
        return Verdict(PROGRESSING, "stalled", (_problem(item, "progress_deadline", message),))
    working = condition(item, "Reconciling", "True")
    if working:
        return Verdict(PROGRESSING, one_line(str(working.get("message") or "reconciling")))
    for kind in _READY_CONDITIONS:
        found = condition(item, kind)
        if found is None:
            continue
        text = one_line(str(found.get("message") or found.get("reason") or ""))
        if int(found.get("observedGeneration") or generation) < generation:
            return _unobserved(item)
        if found.get("status") == "True":
            return Verdict(READY, text or kind.lower())
        return Verdict(PROGRESSING, f"not {kind.lower()}" + (f": {text}" if text else ""))
    if status.get("conditions"):
        return Verdict(READY, "has no condition that says ready")
    # Nobody has written a status yet: a controller may be about to, or there is none.
    created = wall_seconds(item["metadata"].get("creationTimestamp"))
    left = rules.settle - (clock.wall - created) if created is not None else 0.0
    if left > 0:
        return Verdict(PROGRESSING, "has no status yet", recheck=left)
    return Verdict(READY, "has no status to wait for")


# --- Words for people ---------------------------------------------------------------------------


def activity(pod: Object, state: State) -> str:
    """Say in a few words what a pod is doing on its way to being ready."""
    if condition(pod, "PodScheduled", "False"):
        return "waiting for a node"
    for status in container_statuses(pod):
        now = status.get("state") or {}
        name = status["name"]
        init = _is_init(pod, name)
        if "terminated" in now and init and now["terminated"].get("exitCode") == 0:
            continue
        if "running" in now and init:
            if _spec_of(pod, name).get("restartPolicy") != "Always":
                return f"running init container {name}"
        elif "waiting" in now and (now["waiting"] or {}).get("reason") not in (
            None,
            "PodInitializing",
            "ContainerCreating",
        ):
            return f"{name}: {now['waiting']['reason']}"
        elif "terminated" in now:
            return f"{name}: ended with exit code {now['terminated'].get('exitCode')}"
        elif "waiting" in now:
            latest = [event.get("reason") for event in state.events(pod)][-1:]
            return "pulling image" if latest == ["Pulling"] else "creating containers"
        elif "running" in now and not status.get("ready"):
            return f"{name} started, not ready{_failing_probe(pod, name, state)}"
    return "ready" if condition(pod, "Ready", "True") else "starting"


def _failing_probe(pod: Object, container: str, state: State) -> str:
    """Return what the kubelet says of a container's probes, in brackets, or nothing."""
    for event in reversed(state.events(pod)):
        path = str((event.get("involvedObject") or {}).get("fieldPath") or "")
        if event.get("reason") == "Unhealthy" and f"{{{container}}}" in path:
            return f" ({one_line(str(event.get('message') or ''))[:200].rstrip(' :')})"
    return ""


def _progress(counts: str, pods: list[Object], state: State) -> str:
    """Add to the counts what the first pod that is not ready is doing."""
    for pod in pods:
        if not _leaving(pod) and not condition(pod, "Ready", "True"):
            return f"{counts} · {pod['metadata']['name']} {activity(pod, state)}"
    return counts


_Judge = t.Callable[[Object, State, Clock, Rules], Verdict]
_JUDGES: dict[Kind, _Judge] = {
    DEPLOYMENT: _deployment,
    STATEFUL_SET: _stateful_set,
    DAEMON_SET: _daemon_set,
    JOB: _job,
    POD: _pod,
    CLAIM: _claim,
}
_PODS: dict[Kind, t.Callable[[Object, State], list[Object]]] = {
    DEPLOYMENT: _deployment_pods,
    STATEFUL_SET: _stateful_set_pods,
    DAEMON_SET: _daemon_set_pods,
    JOB: _job_pods,
}
