# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container's status says: that it cannot start, or does not stay up."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._wait import schema
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Problem
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Clock,
    Object,
    State,
    condition,
    container_statuses,
    wall_seconds,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_terms import (
    Rules,
    one_line,
    problem_of,
)

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


def container_problem(
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
        return problem_of(pod, "image_invalid", f"image {status.get('image')}: {text}", **where)
    if reason in _IMAGE_PULL:
        certain = 0.0 if _PULL_IS_CERTAIN.search(text) else None
        message = f"image {status.get('image')} cannot be pulled: {text or reason}"
        return problem_of(pod, "image_pull", message, tolerance=certain, **where)
    if reason == "CreateContainerConfigError":
        return problem_of(pod, "config", f"container {name} of pod {pod_name}: {text}", **where)
    ended = _last_ending(status)
    if reason in _CONTAINER_START:
        message = f"container {name} of pod {pod_name} cannot start: {text or reason}"
        return problem_of(pod, "container_start", message, **where)
    if ended is None or restarts_are_normal:
        return None
    where["previous"] = (status.get("state") or {}).get("terminated") is None
    explained = explain_ending(ended)
    if explained and not _is_up(pod, status, state, clock, rules):
        if rules.migrating and explained[0] in schema.MIGRATABLE:
            return None
        message = f"{explained[1]}; {ending(pod, status, ended)}"
        held = (status.get("state") or {}).get("running") is not None
        return problem_of(pod, explained[0], message, held=held, **where)
    if not _is_looping(pod, status, ended, state, clock, rules):
        return None
    if ended.get("reason") in _NEVER_STARTED:
        # A crash loop, whose cause is known better: it needs no time to become certain either.
        message = f"container {name} of pod {pod_name} cannot start: {ended.get('message')}"
        return problem_of(pod, "container_start", message, tolerance=0.0, **where)
    message = ending(pod, status, ended)
    count = int(status.get("restartCount") or 0)
    message += (
        f", restarted {count} time{'s' if count != 1 else ''}{_killed_by_probe(pod, state, ended)}"
    )
    kind = "oom_killed" if ended.get("reason") == "OOMKilled" else "crash_loop"
    return problem_of(pod, kind, message, **where)


def _last_ending(status: Object) -> Object | None:
    """Return how a container's latest ended instance ended, or None."""
    for section in ("state", "lastState"):
        ended = (status.get(section) or {}).get("terminated")
        if ended:
            return t.cast(Object, ended)
    return None


def is_init(pod: Object, name: str) -> bool:
    containers = (pod.get("spec") or {}).get("initContainers") or []
    return any(container.get("name") == name for container in containers)


def spec_of(pod: Object, name: str) -> Object:
    spec = pod.get("spec") or {}
    for container in [
        *(spec.get("initContainers") or []),
        *(spec.get("containers") or []),
    ]:
        if container.get("name") == name:
            return t.cast(Object, container)
    return {}


def explain_ending(ended: Object) -> tuple[str, str] | None:
    """Return what the schema helper's verdict in a termination message says, if it is one."""
    if int(ended.get("exitCode") or 0) == 0:
        return None
    verdict = schema.parse(ended.get("message"))
    return schema.explain(verdict) if verdict else None


def ending(pod: Object, status: Object, ended: Object) -> str:
    """Say in words how a container ended."""
    kind = "init container" if is_init(pod, str(status["name"])) else "container"
    text = f"{kind} {status['name']} of pod {pod['metadata']['name']} "
    if ended.get("reason") == "OOMKilled":
        limit = (
            (spec_of(pod, str(status["name"])).get("resources") or {}).get("limits") or {}
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
    if is_init(pod, str(status["name"])) and (now.get("terminated") or {}).get("exitCode") == 0:
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
    spec = spec_of(pod, str(status["name"]))
    if is_init(pod, str(status["name"])) and spec.get("restartPolicy") != "Always":
        return False
    if spec.get("readinessProbe") is None:
        return state.running_for(pod, status, clock) >= rules.settle
    if status.get("ready"):
        return True
    # Not ready, but it was since this instance started: a probe that flaps is not a crash.
    changed = wall_seconds((condition(pod, "ContainersReady") or {}).get("lastTransitionTime"))
    began = wall_seconds(running.get("startedAt"))
    return changed is not None and began is not None and changed > began + 1.0


class _Culprit(t.NamedTuple):
    """A container that failed: its pod, its status, and how it ended."""

    pod: Object
    status: Object
    ended: Object


def last_failed(pods: list[Object]) -> _Culprit | None:
    """Return the latest container that failed."""
    found: list[_Culprit] = []
    for pod in pods:
        for status in container_statuses(pod):
            ended = _last_ending(status)
            if ended and int(ended.get("exitCode") or 0) != 0:
                found.append(_Culprit(pod, status, ended))
    return max(found, key=lambda one: str(one.ended.get("finishedAt") or ""), default=None)
