# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container's status says: that it cannot start, or does not stay up."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._wait import schema
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Problem
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.shape import whole
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    LONG_RUN,
    Clock,
    Object,
    State,
    condition,
    container_statuses,
    event_time,
    last_ending,
    run_length,
    wall_seconds,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_terms import (
    OLD_ATTEMPT,
    OLD_ENDING,
    Rules,
    counted,
    one_line,
    problem_of,
    until_retried,
    why_it_ended,
)

# A container without a probe has to run for longer than its last run took, by this much (s); and
# for so long where that is not known.
OUTLAST = 2.0
UNKNOWN_RUN = 10.0
# The kubelet's longest pause between two tries of a container or a pull (s).
LONGEST_PAUSE = 300.0
# A container on the way to the main one, or beside it, may need two tries: what it waits for comes
# up at the same time. It fails for good with the third, which comes after so long (s).
THIRD_TRY = 30.0
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
# A node's own trouble, which most have while they are busy: the next try may well succeed.
_NODE_IS_BUSY = re.compile(
    r"unable to freeze|deadline exceeded|timed? ?out|temporarily unavailable|resource busy"
    r"|cannot allocate memory|no space left|too many (?:open files|processes)|ttrpc|d-?bus"
    r"|shim (?:exited|closed|disconnected)|connection (?:refused|reset)|broken pipe|cgroup",
    re.IGNORECASE,
)
# The registry answered, and its answer will not change by asking again.
_PULL_IS_CERTAIN = re.compile(
    r"not found|manifest unknown|name unknown|does not exist|unauthori[sz]ed|forbidden"
    r"|access denied|denied:|authentication required|authorization failed|no basic auth",
    re.IGNORECASE,
)
# What only looks like that: the name server's, the proxy's or the node's own trouble.
_PULL_IS_NOT = re.compile(
    r"x509|certificate|no such host|lookup |toomanyrequests|too many requests|rate limit"
    r"|no space left|proxyconnect|server misbehaving",
    re.IGNORECASE,
)
# The containers that stand beside another one, by the names that their makers give them.
_SIDECAR = re.compile(
    r"(?:istio|linkerd|consul|envoy|cloud-?sql|alloydb|kuma|osm|dapr|oauth2?)[\w-]*"
    r"|(?:vault|datadog|filebeat|fluent|otel|jaeger|promtail|nginx|auth)[\w-]*"
    r"(?:agent|bit|d|collector|proxy|sidecar)"
    r"|promtail|filebeat|fluentd|daprd|[\w-]*-?(?:sidecar|proxy)",
    re.IGNORECASE,
)
_BACK_OFF = re.compile(r"back-off (?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?", re.IGNORECASE)
# How the API server's tools end a container from outside: SIGKILL, SIGTERM.
_STOPPED = frozenset({137, 143})


class _Seen(t.NamedTuple):
    """One container of a pod at one moment, and all that its verdict needs."""

    pod: Object
    status: Object
    state: State
    clock: Clock
    rules: Rules

    @property
    def name(self) -> str:
        return str(self.status["name"])

    @property
    def waiting(self) -> Object:
        return _state_of(self.status, "waiting") or {}

    @property
    def running(self) -> bool:
        return _state_of(self.status, "running") is not None

    @property
    def restarts(self) -> int:
        return whole(self.status.get("restartCount"))

    def problem(self, reason: str, message: str, **more: t.Any) -> Problem:
        """Report a problem of this container."""
        more = {"container": self.name, "pod": str(self.pod["metadata"]["name"]), **more}
        return problem_of(self.pod, reason, message, **more)


def container_problem(
    pod: Object,
    status: Object,
    state: State,
    clock: Clock,
    rules: Rules,
    restarts_are_normal: bool,
) -> Problem | None:
    """Return what is wrong with one container of a pod, or None."""
    seen = _Seen(pod, status, state, clock, rules)
    if has_done_its_part(pod, status):
        return None
    found = _not_started(seen)
    if found:
        return found
    ended = last_ending(status)
    if restarts_are_normal and not (is_native_sidecar(pod, seen.name) and _holds_up(pod)):
        return None
    if ended is None:
        # Some report a back-off only.
        return _loop(seen, {}) if seen.waiting.get("reason") == "CrashLoopBackOff" else None
    return _told_ending(seen, ended) or _loop(seen, ended)


def has_done_its_part(pod: Object, status: Object) -> bool:
    """Say whether this is an init container that has completed: how it got there is past."""
    done = _state_of(status, "terminated")
    if done is None or not _is_plain_init(pod, str(status["name"])):
        return False
    return whole(done.get("exitCode"), -1) == 0


def _holds_up(pod: Object) -> bool:
    """Say whether a pod's main containers still wait for what comes before them."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return all(_state_of(status, "waiting") is not None for status in statuses)


def _state_of(status: Object, name: str) -> Object | None:
    return t.cast("Object | None", (status.get("state") or {}).get(name))


# --- Containers that have not started -----------------------------------------------------------


def _not_started(seen: _Seen) -> Problem | None:
    """Report that the kubelet cannot bring a container to its start."""
    reason = str(seen.waiting.get("reason") or "")
    text = str(seen.waiting.get("message") or "")
    who = f"container {seen.name} of pod {seen.pod['metadata']['name']}"
    image = seen.status.get("image") or spec_of(seen.pod, seen.name).get("image")
    if reason in _IMAGE_INVALID:
        return seen.problem("image_invalid", f"image {image}: {text or reason}")
    if reason in _IMAGE_PULL:
        return _pull(seen, f"image {image} cannot be pulled", text or reason)
    if reason == "CreateContainerConfigError":
        text = text or _event_text(seen, "Failed") or reason
        return seen.problem("config", f"{who}: {text}")
    if reason in _CONTAINER_START:
        text = text or _event_text(seen, "Failed") or reason
        return seen.problem("container_start", f"{who} cannot start: {text}")
    return None


def _pull(seen: _Seen, what: str, text: str) -> Problem:
    """Report an image that cannot be pulled.

    The status keeps the last reason while the next pull is under way, and some kubelets leave the
    cause out of it: then the events know more.
    """
    attempts = [
        event
        for event in seen.state.events(seen.pod)
        if event.get("reason") in ("Pulling", "Pulled", "Failed")
        and _is_about(event, seen)
        and not str(event.get("message") or "").startswith("Error:")
    ]
    failed = [event for event in attempts if event.get("reason") == "Failed"]
    latest = str(failed[-1].get("message") or "") if failed else ""
    if latest and (text.lower().startswith("back-off pulling") or text in _IMAGE_PULL):
        known = _shown_cause(text)
        text = text if known else latest
    certain = _PULL_IS_CERTAIN.search(text) and not _PULL_IS_NOT.search(text)
    at = wall_seconds(event_time(failed[-1])) if failed else None
    return seen.problem(
        "image_pull",
        f"{what}: {text}",
        tolerance=0.0 if certain else None,
        held=bool(attempts) and attempts[-1].get("reason") != "Failed",
        until=until_retried(at, LONGEST_PAUSE, OLD_ATTEMPT, seen.clock, seen.rules),
    )


def _shown_cause(text: str) -> str:
    """Return what a back-off's message says beyond that there is one."""
    return re.sub(r'^back-off pulling image "[^"]*"[:\s]*', "", text, flags=re.IGNORECASE)


def _event_text(seen: _Seen, reason: str) -> str:
    """Return what the kubelet last said of a container in an event, without its own prefix."""
    for event in reversed(seen.state.events(seen.pod)):
        if event.get("reason") == reason and _is_about(event, seen):
            return re.sub(r"^Error: ", "", str(event.get("message") or ""))
    return ""


def _is_about(event: Object, seen: _Seen) -> bool:
    """Say whether a pod's event is about one container of it."""
    path = str((event.get("involvedObject") or {}).get("fieldPath") or "")
    if path:
        return f"{{{seen.name}}}" in path
    text = str(event.get("message") or "")
    if re.search(rf"\bcontainer (?:\S*/)?{re.escape(seen.name)}\b", text):
        return True
    image = str(spec_of(seen.pod, seen.name).get("image") or "")
    return bool(image and f'"{image}"' in text) or len(container_statuses(seen.pod)) == 1


# --- Containers that ended ----------------------------------------------------------------------


def _told_ending(seen: _Seen, ended: Object) -> Problem | None:
    """Report what the schema helper said in a container that ended."""
    explained = explain_ending(ended)
    if explained is None or _is_up(seen):
        return None
    reason, text = explained[0], explained[1]
    finished = wall_seconds(ended.get("finishedAt"))
    if reason in schema.MIGRATABLE:
        # The migration that has ended since, or is under way, has made that untrue.
        past = seen.rules.migrated
        if seen.rules.migrating:
            return None
        if past is not None and (finished is None or finished <= past):
            return _loop(seen, ended, hold=True)
    message = f"{text}; {ending(seen.pod, seen.status, ended)}"
    return seen.problem(
        reason,
        message,
        held=seen.running,
        until=_until_next_try(seen, ended),
        at=_when(seen, ended),
        previous=_state_of(seen.status, "terminated") is None,
    )


def _loop(seen: _Seen, ended: Object, hold: bool = False) -> Problem | None:
    """Report a container that does not stay up."""
    if not _is_looping(seen, ended):
        return None
    more: dict[str, t.Any] = {
        "previous": _state_of(seen.status, "terminated") is None,
        # It may be put right: that shows when this run has ended, or has lasted.
        "held": seen.running or hold,
        "until": _until_next_try(seen, ended),
        "at": _when(seen, ended),
    }
    pod, name = seen.pod, seen.name
    if ended.get("reason") in _NEVER_STARTED:
        # A crash loop, whose cause is known better: what the container itself has wrong is certain.
        text = str(ended.get("message") or ended.get("reason"))
        message = f"container {name} of pod {pod['metadata']['name']} cannot start: {text}"
        return seen.problem(
            "container_start",
            message,
            tolerance=None if _NODE_IS_BUSY.search(text) else 0.0,
            **more,
        )
    if is_beside(pod, name) and seen.restarts < 2:
        more["tolerance"] = THIRD_TRY
    message = ending(pod, seen.status, ended)
    message += f", restarted {counted(seen.restarts, 'time')}"
    message += _killed_by_probe(pod, seen.state, ended)
    kind = "oom_killed" if ended.get("reason") == "OOMKilled" else "crash_loop"
    return seen.problem(kind, message, **more)


def _when(seen: _Seen, ended: Object) -> float | None:
    """Return when a container ended (s, monotonic), or None where that is not known."""
    finished = wall_seconds(ended.get("finishedAt"))
    return None if finished is None else seen.clock.now - (seen.clock.wall - finished)


def _until_next_try(seen: _Seen, ended: Object) -> float | None:
    """Return until when an ending of before the wait proves nothing, as it is tried again."""
    return until_retried(
        wall_seconds(ended.get("finishedAt")),
        _pause_of(seen),
        OLD_ENDING,
        seen.clock,
        seen.rules,
    )


def _pause_of(seen: _Seen) -> float:
    """Return how long (s) the kubelet waits before it starts a container again."""
    found = _BACK_OFF.search(str(seen.waiting.get("message") or ""))
    if found and any(found.groups()):
        hours, minutes, seconds = (float(part or 0) for part in found.groups())
        return hours * 3600 + minutes * 60 + seconds
    return float(min(LONGEST_PAUSE, 10.0 * 2.0 ** min(10, max(0, seen.restarts - 1))))


def is_init(pod: Object, name: str) -> bool:
    """Say whether a container is an init container, a sidecar among them included."""
    containers = (pod.get("spec") or {}).get("initContainers") or []
    return any(container.get("name") == name for container in containers)


def is_native_sidecar(pod: Object, name: str) -> bool:
    """Say whether a container is an init container that runs on beside the others."""
    return is_init(pod, name) and spec_of(pod, name).get("restartPolicy") == "Always"


def _is_plain_init(pod: Object, name: str) -> bool:
    if is_init(pod, name):
        return spec_of(pod, name).get("restartPolicy") != "Always"
    # A status of an init container whose specification is not known.
    statuses = (pod.get("status") or {}).get("initContainerStatuses") or []
    known = (pod.get("spec") or {}).get("initContainers")
    return not known and any(status.get("name") == name for status in statuses)


def is_sidecar(pod: Object, name: str) -> bool:
    """Say whether a container stands beside the one that the pod is there for."""
    if is_native_sidecar(pod, name):
        return True
    containers = (pod.get("spec") or {}).get("containers") or []
    main = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    if len(containers) < 2 or main == name:
        return False
    return bool(_SIDECAR.fullmatch(name))


def is_beside(pod: Object, name: str) -> bool:
    """Say whether a container comes before the main one or stands beside it."""
    return is_init(pod, name) or is_sidecar(pod, name)


def spec_of(pod: Object, name: str) -> Object:
    """Return the specification of a pod's container, or an empty one."""
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
    if whole(ended.get("exitCode")) == 0 or not isinstance(ended.get("message"), str):
        return None
    verdict = schema.parse(ended.get("message"))
    return schema.explain(verdict) if verdict else None


def ending(pod: Object, status: Object, ended: Object) -> str:
    """Say in words how a container ended."""
    kind = "init container" if is_init(pod, str(status["name"])) else "container"
    text = f"{kind} {status['name']} of pod {pod['metadata']['name']} "
    outside = why_it_ended(pod)
    if outside:
        return f"{text}was ended with its pod ({outside.rstrip('.')})"
    if ended.get("reason") == "OOMKilled":
        limits = (spec_of(pod, str(status["name"])).get("resources") or {}).get("limits") or {}
        limit = limits.get("memory")
        text += "was killed for using more memory than its limit"
        return text + (f" of {limit}" if limit else "")
    if ended.get("exitCode") is None:
        return f"{text}ends again and again"
    return text + f"ended with exit code {ended['exitCode']}"


def _killed_by_probe(pod: Object, state: State, ended: Object) -> str:
    """Return what the kubelet says of a probe by which it ended this instance, in brackets."""
    if whole(ended.get("exitCode")) not in _STOPPED:
        return ""
    began, finished = wall_seconds(ended.get("startedAt")), wall_seconds(ended.get("finishedAt"))
    for event in reversed(state.events(pod)):
        text = str(event.get("message") or "")
        if event.get("reason") != "Killing" or "probe" not in text:
            continue
        at = wall_seconds(event_time(event))
        if at is None or ((began or at) - 1.0 <= at <= (finished or at) + 1.0):
            return f" ({one_line(text)})"
    return ""


def _is_looping(seen: _Seen, ended: Object) -> bool:
    """Say whether a container keeps ending: in back-off, or restarted twice and not up since."""
    if seen.waiting.get("reason") == "CrashLoopBackOff":
        return seen.restarts >= 1 or bool(ended)
    now = _state_of(seen.status, "terminated")
    if now and seen.restarts >= 1 and _backs_off(seen, now):
        return True
    if seen.restarts < 2:
        return False
    lasted = run_length(ended)
    if lasted is not None and lasted >= LONG_RUN:
        return False
    return not _is_up(seen)


def _backs_off(seen: _Seen, ended: Object) -> bool:
    """Say whether the kubelet has announced a back-off for this container since it ended.

    It does so as soon as the container has ended again, but shows CrashLoopBackOff in the pod's
    status only ten seconds later (Kubernetes 1.37). What it announced after an earlier ending stays
    among the events for an hour.
    """
    finished = wall_seconds(ended.get("finishedAt"))
    for event in reversed(seen.state.events(seen.pod)):
        if event.get("reason") == "BackOff" and _is_about(event, seen):
            at = wall_seconds(event_time(event))
            return at is None or finished is None or at >= finished - 1.0
    return False


def _is_up(seen: _Seen) -> bool:
    """Say whether a container's present instance has proven itself (ready now, or it was)."""
    running = _state_of(seen.status, "running")
    if running is None or _is_plain_init(seen.pod, seen.name):
        return False
    if spec_of(seen.pod, seen.name).get("readinessProbe") is None:
        ran = seen.state.running_for(seen.pod, seen.status, seen.clock)
        return ran >= proven_after(seen.pod, seen.status, seen.state, seen.rules)
    if seen.status.get("ready"):
        return True
    # Not ready, but it was since this instance started: a probe that flaps is not a crash.
    changed = wall_seconds((condition(seen.pod, "ContainersReady") or {}).get("lastTransitionTime"))
    began = wall_seconds(running.get("startedAt"))
    return changed is not None and began is not None and changed > began + 1.0


def proven_after(pod: Object, status: Object, state: State, rules: Rules) -> float:
    """Return for how long (s) a container that nothing probes has to run before it counts as up.

    One that has ended before has to outlast its longest run: until then it may be on the same way.
    One that ended after a long run may have been ended by anything.
    """
    ended = (status.get("lastState") or {}).get("terminated")
    if rules.settle <= 0 or not ended:
        return rules.settle
    if (run_length(ended) or 0.0) >= LONG_RUN:
        return rules.settle
    longest = state.longest_run(pod, status)
    return max(rules.settle, UNKNOWN_RUN if longest is None else longest + OUTLAST)


class Culprit(t.NamedTuple):
    """A container that failed: its pod, its status, and how it ended."""

    pod: Object
    status: Object
    ended: Object


def last_failed(pods: list[Object]) -> Culprit | None:
    """Return the container that made the latest of these pods fail.

    Of several in one pod that is the one which failed by itself, and first: those beside it were
    stopped after it.
    """
    found = [one for pod in pods if (one := _first_failed(pod)) is not None]
    return max(found, key=lambda one: str(one.ended.get("finishedAt") or ""), default=None)


def _first_failed(pod: Object) -> Culprit | None:
    found = []
    for status in container_statuses(pod):
        ended = last_ending(status)
        if ended and whole(ended.get("exitCode")) != 0 and not has_done_its_part(pod, status):
            found.append(Culprit(pod, status, ended))
    return min(found, key=_blame, default=None)


def _blame(one: Culprit) -> tuple[bool, bool, str]:
    """Order the containers of a pod that failed: the one that made it fail comes first."""
    stopped = (
        whole(one.ended.get("exitCode")) in _STOPPED and one.ended.get("reason") != "OOMKilled"
    )
    name = str(one.status["name"])
    return stopped, is_sidecar(one.pod, name), str(one.ended.get("finishedAt") or "~")
