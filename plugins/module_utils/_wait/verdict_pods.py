# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts on pods: what keeps one from being ready, and what it is doing meanwhile."""

from __future__ import annotations

import re

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import CLAIM
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import (
    UNTIL_TIMEOUT,
    Problem,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Clock,
    Fall,
    Object,
    State,
    claim_names,
    condition,
    conditions,
    container_statuses,
    event_time,
    wall_seconds,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_containers import (
    container_problem,
    ending,
    is_init,
    is_sidecar,
    last_failed,
    proven_after,
    spec_of,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_terms import (
    OLD_ENDING,
    PROGRESSING,
    READY,
    Rules,
    Verdict,
    counted,
    identity,
    leaving,
    number,
    one_line,
    problem_of,
    why_it_ended,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_volumes import (
    AT_WORK,
    claim_problem,
    mount_problems,
)

_ABOUT_CLAIMS = re.compile(r"persistentvolumeclaim", re.IGNORECASE)
_PREEMPTS = re.compile(r"terminating pod on the nominated node", re.IGNORECASE)
# After how long (s) a pod that nobody has taken up is worth a word, and one that goes is late.
IDLE = 15.0
LATE_TO_GO = 30.0


def judge_pod(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
    """Judge a pod that is waited for itself."""
    phase = (item.get("status") or {}).get("phase")
    if phase == "Succeeded":
        return Verdict(READY, "succeeded")
    if phase == "Failed":
        return Verdict(PROGRESSING, "failed", (_pod_failure(item),))
    if condition(item, "Ready", "True"):
        return settled(item, [item], 1, "running", state, clock, rules)
    problems = tuple(pod_problems(item, state, clock, rules))
    return Verdict(PROGRESSING, activity(item, state), problems)


def _pod_failure(pod: Object) -> Problem:
    """Report a pod that ended and will not be started again."""
    outside = why_it_ended(pod)
    culprit = last_failed([pod])
    if culprit is None:
        words = outside or str((pod.get("status") or {}).get("message") or "it does not say why")
        return problem_of(pod, "rejected" if outside else "crash_loop", f"the pod failed ({words})")
    status, ended = culprit.status, culprit.ended
    reason = "oom_killed" if ended.get("reason") == "OOMKilled" else "crash_loop"
    return problem_of(
        pod,
        "rejected" if outside else reason,
        f"{ending(pod, status, ended)}, and is not restarted",
        tolerance=0.0,
        container=str(status["name"]),
        pod=str(pod["metadata"]["name"]),
    )


def workload_problems(
    item: Object,
    pods: list[Object],
    state: State,
    clock: Clock,
    rules: Rules,
    owner: Object | None = None,
) -> list[Problem]:
    """Return what keeps the pods of a workload's current revision from being ready.

    owner is what makes the pods, where the workload does not itself.
    """
    problems: list[Problem] = []
    for pod in pods:
        if not leaving(pod):
            problems += pod_problems(pod, state, clock, rules)
    return problems + fallen_problems(item, owner or item, pods, state, rules)


# How many pods have to be rejected or evicted before it is not by chance.
AGAIN_AND_AGAIN = 3


def fallen_problems(
    item: Object, owner: Object, pods: list[Object], state: State, rules: Rules
) -> list[Problem]:
    """Report pods that a node rejects or evicts, each followed by another one.

    One that is replaced is no failure. While others start, those of before the wait say nothing.
    """
    marks = {revision_of(pod) for pod in pods}
    marks.add(str((item.get("status") or {}).get("updateRevision")))
    starting = any(not leaving(pod) for pod in pods)
    present = {identity(pod) for pod in pods}
    fallen = [
        fall
        for fall in state.fallen(owner)
        if revision_of(fall.pod) in marks
        and (_is_recent(fall, rules) or (not starting and identity(fall.pod) in present))
    ]
    if max(_in_turn(fallen), len(fallen) - _at_once(item) + 1) < AGAIN_AND_AGAIN:
        return []
    last = max(fallen, key=lambda fall: (_fell_at(fall) or 0.0, fall.pod["metadata"]["name"])).pod
    name = str(last["metadata"]["name"])
    message = (
        f"{counted(len(fallen), 'pod')} of {item['metadata']['name']} ended one after the other, "
        f"the last of them {name} ({why_it_ended(last)})"
    )
    return [problem_of(item, "rejected", message, pod=name)]


def _at_once(item: Object) -> int:
    """Return how many pods an object has at one moment: as many may fall at once, by chance."""
    nodes = max(1, number(item, "desiredNumberScheduled"))
    return number(item, "replicas", "spec", number(item, "parallelism", "spec", nodes))


def _in_turn(fallen: list[Fall]) -> int:
    """Return how often a pod fell that was made after another one had fallen.

    A node that goes takes several pods at one moment: that is one time.
    """
    turns, last = 0, 0.0
    for fall in sorted(fallen, key=lambda fall: _fell_at(fall) or 0.0):
        made = wall_seconds(fall.pod["metadata"].get("creationTimestamp"))
        # Both are in whole seconds.
        if turns and made is not None and made < last - 1.0:
            continue
        turns, last = turns + 1, _fell_at(fall) or 0.0
    return turns


def revision_of(pod: Object) -> str | None:
    """Return the revision of a StatefulSet or DaemonSet that a pod is of, or None."""
    return (pod["metadata"].get("labels") or {}).get("controller-revision-hash")


def _fell_at(fall: Fall) -> float | None:
    if fall.seen is not None:
        return fall.seen
    pod = fall.pod
    status = pod.get("status") or {}
    times = [
        wall_seconds(((entry.get("state") or {}).get("terminated") or {}).get("finishedAt"))
        for entry in container_statuses(pod)
    ]
    times += [wall_seconds(entry.get("lastTransitionTime")) for entry in conditions(pod)]
    times += [wall_seconds(status.get("startTime"))]
    known = [at for at in times if at is not None]
    return max(known) if known else wall_seconds(pod["metadata"].get("creationTimestamp"))


def _is_recent(fall: Fall, rules: Rules) -> bool:
    at = _fell_at(fall)
    return at is None or rules.since is None or at >= rules.since - OLD_ENDING


def pod_problems(
    pod: Object,
    state: State,
    clock: Clock,
    rules: Rules,
    restarts_are_normal: bool = False,
) -> list[Problem]:
    """Return what keeps a pod from becoming ready, its root cause first."""
    if condition(pod, "Ready", "True") and not _unprobed(pod):
        return []
    problems = _scheduling_problems(pod, state, clock, rules)
    if not problems:
        problems = mount_problems(pod, state, clock, rules)
    beside: list[Problem] = []
    for status in container_statuses(pod):
        found = container_problem(pod, status, state, clock, rules, restarts_are_normal)
        if found:
            name = str(status["name"])
            (beside if is_sidecar(pod, name) and not is_init(pod, name) else problems).append(found)
    problems += beside
    return problems or _blocked(pod, state, clock)


def _blocked(pod: Object, state: State, clock: Clock) -> list[Problem]:
    """Report what holds up a pod with which nothing is wrong: gates, its node, its scheduler."""
    spec, name = pod.get("spec") or {}, pod["metadata"]["name"]
    message = ""
    ready = condition(pod, "Ready", "True")
    scheduled = condition(pod, "PodScheduled")
    created = wall_seconds(pod["metadata"].get("creationTimestamp"))
    idle = created is not None and clock.wall - created > IDLE
    if not ready and _containers_are_ready(pod):
        message = _gates_that_lack(pod) or _node_trouble(pod, state)
    elif ready or container_statuses(pod):
        message = ""
    elif spec.get("nodeName") and idle:
        message = f"node {spec['nodeName']} has not begun with pod {name}: it may not be ready"
    elif not scheduled and not spec.get("nodeName") and idle:
        who = spec.get("schedulerName") or "default-scheduler"
        message = f"no scheduler has looked at pod {name} (its scheduler is {who})"
    if (pod.get("status") or {}).get("phase") == "Unknown":
        message = f"the node {spec.get('nodeName')} of pod {name} does not answer"
    return [_blocks(pod, message)] if message else []


def _blocks(pod: Object, message: str, tolerance: float = UNTIL_TIMEOUT) -> Problem:
    name = str(pod["metadata"]["name"])
    return problem_of(pod, "blocked", message, tolerance=tolerance, pod=name)


def _containers_are_ready(pod: Object) -> bool:
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return bool(statuses) and all(status.get("ready") for status in statuses)


def _gates_that_lack(pod: Object) -> str:
    """Say which readiness gates of a pod are closed."""
    gates = [
        str(gate.get("conditionType"))
        for gate in (pod.get("spec") or {}).get("readinessGates") or ()
        if not condition(pod, str(gate.get("conditionType")), "True")
    ]
    unready = condition(pod, "Ready", "False") or {}
    told = str(unready.get("message") or "")
    if not gates and unready.get("reason") != "ReadinessGatesNotReady":
        return ""
    which = ", ".join(gates) or told
    words = f"pod {pod['metadata']['name']} waits behind its readiness gate: {which}"
    return words if told in words else f"{words} ({told})"


def _node_trouble(pod: Object, state: State) -> str:
    """Say that a pod's node is not ready, where its containers are."""
    node = (pod.get("spec") or {}).get("nodeName")
    changed = wall_seconds((condition(pod, "Ready", "False") or {}).get("lastTransitionTime"))
    for event in reversed(state.events(pod)):
        at = wall_seconds(event_time(event))
        if event.get("reason") == "NodeNotReady":
            if at is not None and changed is not None and at < changed - LATE_TO_GO:
                break
            return (
                f"node {node} of pod {pod['metadata']['name']} is not ready: {event.get('message')}"
            )
    if not condition(pod, "ContainersReady", "True"):
        return ""
    return (
        f"all containers of pod {pod['metadata']['name']} are ready, the pod is not: its node "
        f"{node} may not be"
    )


def lingering(pods: list[Object], clock: Clock) -> list[Problem]:
    """Report pods that should be gone, and are not."""
    found = []
    for pod in pods:
        due = wall_seconds(pod["metadata"].get("deletionTimestamp"))
        if due is None or clock.wall - due < LATE_TO_GO:
            continue
        node = (pod.get("spec") or {}).get("nodeName")
        where = f" on node {node}" if node else ""
        held_by = pod["metadata"].get("finalizers")
        by = f", held by the finalizer {', '.join(map(str, held_by))}" if held_by else ""
        found.append(
            _blocks(
                pod,
                f"pod {pod['metadata']['name']}{where} should have gone {clock.wall - due:.0f} s "
                f"ago and has not{by}",
            )
        )
    return found


def _scheduling_problems(pod: Object, state: State, clock: Clock, rules: Rules) -> list[Problem]:
    unscheduled = condition(pod, "PodScheduled", "False") or {}
    name = pod["metadata"]["name"]
    gates = [str(gate.get("name")) for gate in (pod.get("spec") or {}).get("schedulingGates") or ()]
    if gates or unscheduled.get("reason") == "SchedulingGated":
        which = ", ".join(gates) or str(unscheduled.get("message") or "")
        return [_blocks(pod, f"pod {name} waits behind its scheduling gate: {which}")]
    if not unscheduled:
        return []
    claims = [claim_problem(claim, state, clock, rules) for claim in state.claims(pod)]
    problems = [problem for problem in claims if problem]
    if problems:
        return problems
    message = str(unscheduled.get("message") or "no node takes the pod")
    if _ABOUT_CLAIMS.search(message):
        absent = [
            claim
            for claim in claim_names(pod)
            if state.sees(CLAIM)
            and state.get(CLAIM, pod["metadata"].get("namespace") or "", claim) is None
        ]
        extra = f" (claim {absent[0]} does not exist)" if absent else ""
        text = f"pod {name} waits for a volume: {message}{extra}"
        return [problem_of(pod, "volume", text, pod=str(name))]
    said, at_work = _who_makes_room(pod, message, state, clock)
    text = f"no node takes pod {name}: {message}" + (f" ({said})" if said else "")
    return [problem_of(pod, "unschedulable", text, stopped=at_work, pod=str(name))]


# What autoscalers say of a pod: that a node is coming, or that none will.
_NODE_COMES = frozenset({"TriggeredScaleUp", "Nominated"})
_NO_NODE_COMES = frozenset({"NotTriggerScaleUp", "FailedScaleUp"})


def _who_makes_room(pod: Object, message: str, state: State, clock: Clock) -> tuple[str, bool]:
    """Say what the scheduler or an autoscaler does for a pod that no node takes.

    And whether one of them is at work on it.
    """
    nominated = (pod.get("status") or {}).get("nominatedNodeName")
    if nominated or _PREEMPTS.search(message):
        where = nominated or "nominated for it"
        return f"pods of less priority make room for it on node {where}", True
    for event in reversed(state.events(pod)):
        reason, text = event.get("reason"), str(event.get("message") or "")
        # Karpenter uses the scheduler's word, with words of its own.
        refused = reason == "FailedScheduling" and text.startswith("Failed to schedule pod")
        if reason in _NO_NODE_COMES or refused:
            return f"{reason}: {text}", False
        if reason in _NODE_COMES:
            at = wall_seconds(event_time(event))
            if at is not None and clock.wall - at > AT_WORK:
                return "", False
            return f"{reason}: {text}", True
    return "", False


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


def settled(
    item: Object,
    pods: list[Object],
    want: int,
    counts: str,
    state: State,
    clock: Clock,
    rules: Rules,
    owner: Object | None = None,
) -> Verdict:
    """Call a workload ready once its containers without a probe have run for the settle time."""
    if want == 0 or rules.settle <= 0 or _template_is_probed(item):
        return Verdict(READY, counts)
    left = []
    for pod in pods:
        if not leaving(pod):
            left.append(_settle_left(pod, state, clock, rules))
    left.sort()
    if len(left) >= want and left[want - 1] <= 0:
        return Verdict(READY, counts)
    problems = tuple(workload_problems(item, pods, state, clock, rules, owner))
    words = f"{counts}, letting containers without a readiness probe run for {rules.settle:g} s"
    if any(_unproven(pod, state, rules) for pod in pods):
        words += ", and longer than the last time"
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
        needed = proven_after(pod, status, state, rules)
        left = max(left, needed - state.running_for(pod, status, clock))
    return left


def _unproven(pod: Object, state: State, rules: Rules) -> bool:
    """Say whether a container has to run for longer than the settle time, as it ended before."""
    names = _unprobed(pod)
    return any(
        proven_after(pod, status, state, rules) > rules.settle
        for status in container_statuses(pod)
        if status.get("name") in names
    )


def activity(pod: Object, state: State) -> str:
    """Say in a few words what a pod is doing on its way to being ready."""
    if condition(pod, "PodScheduled", "False"):
        return "waiting for a node"
    for status in container_statuses(pod):
        now = status.get("state") or {}
        name = status["name"]
        init = is_init(pod, name)
        if "terminated" in now and init and now["terminated"].get("exitCode") == 0:
            continue
        if "running" in now and init:
            if spec_of(pod, name).get("restartPolicy") != "Always":
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
    began = max(
        (
            wall_seconds(((status.get("state") or {}).get("running") or {}).get("startedAt")) or 0.0
            for status in container_statuses(pod)
            if status.get("name") == container
        ),
        default=0.0,
    )
    for event in reversed(state.events(pod)):
        path = str((event.get("involvedObject") or {}).get("fieldPath") or "")
        at = wall_seconds(event_time(event))
        if at is not None and at < began - 1.0:
            break
        if event.get("reason") == "Unhealthy" and f"{{{container}}}" in path:
            return f" ({one_line(str(event.get('message') or ''))[:200].rstrip(' :')})"
    return ""


def progress(counts: str, pods: list[Object], state: State) -> str:
    """Add to the counts what the first pod that is not ready is doing."""
    for pod in pods:
        if not leaving(pod) and not condition(pod, "Ready", "True"):
            return f"{counts} · {pod['metadata']['name']} {activity(pod, state)}"
    return counts
