# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts on pods: what keeps one from being ready, and what it is doing meanwhile."""

from __future__ import annotations

import re

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import CLAIM
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Problem
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Clock,
    Object,
    State,
    claim_names,
    condition,
    container_statuses,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_containers import (
    container_problem,
    ending,
    is_init,
    last_failed,
    spec_of,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_terms import (
    PROGRESSING,
    READY,
    Rules,
    Verdict,
    leaving,
    one_line,
    problem_of,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_volumes import (
    claim_problem,
    mount_problems,
)

_ABOUT_CLAIMS = re.compile(r"persistentvolumeclaim", re.IGNORECASE)


def judge_pod(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
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
    culprit = last_failed([pod])
    if culprit is None:
        status = pod.get("status") or {}
        words = f"{status.get('reason') or 'Failed'}: {status.get('message') or 'no message'}"
        return problem_of(pod, "crash_loop", f"the pod failed ({words})")
    status, ended = culprit.status, culprit.ended
    return problem_of(
        pod,
        "oom_killed" if ended.get("reason") == "OOMKilled" else "crash_loop",
        f"{ending(pod, status, ended)}, and is not restarted",
        container=str(status["name"]),
        pod=str(pod["metadata"]["name"]),
    )


def workload_problems(
    item: Object, pods: list[Object], state: State, clock: Clock, rules: Rules
) -> list[Problem]:
    problems: list[Problem] = []
    for pod in pods:
        if not leaving(pod):
            problems += pod_problems(pod, state, clock, rules)
    return problems


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
    problems = _scheduling_problems(pod, state)
    if not problems:
        problems = mount_problems(pod, state)
    for status in container_statuses(pod):
        found = container_problem(pod, status, state, clock, rules, restarts_are_normal)
        if found:
            problems.append(found)
    return problems


def _scheduling_problems(pod: Object, state: State) -> list[Problem]:
    unscheduled = condition(pod, "PodScheduled", "False")
    if not unscheduled:
        return []
    claims = [claim_problem(claim, state) for claim in state.claims(pod)]
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
        return [problem_of(pod, "volume", f"pod {name} waits for a volume: {message}{extra}")]
    scaling = [
        event.get("reason")
        for event in state.events(pod)
        if event.get("reason") in ("TriggeredScaleUp", "NotTriggerScaleUp", "Nominated")
    ]
    if scaling and scaling[-1] != "NotTriggerScaleUp":
        return []
    return [problem_of(pod, "unschedulable", f"no node takes pod {name}: {message}")]


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
    problems = tuple(workload_problems(item, pods, state, clock, rules))
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
    for event in reversed(state.events(pod)):
        path = str((event.get("involvedObject") or {}).get("fieldPath") or "")
        if event.get("reason") == "Unhealthy" and f"{{{container}}}" in path:
            return f" ({one_line(str(event.get('message') or ''))[:200].rstrip(' :')})"
    return ""


def progress(counts: str, pods: list[Object], state: State) -> str:
    """Add to the counts what the first pod that is not ready is doing."""
    for pod in pods:
        if not leaving(pod) and not condition(pod, "Ready", "True"):
            return f"{counts} · {pod['metadata']['name']} {activity(pod, state)}"
    return counts
