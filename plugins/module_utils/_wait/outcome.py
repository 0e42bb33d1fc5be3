# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a wait finds out about its objects, and how it is told: the words and the result."""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import EVENT, Kind
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.redact import redact
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import hints
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Problem
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Object,
    State,
    condition,
    container_statuses,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import (
    PROGRESSING,
    READY,
    Target,
    Verdict,
    current_pods,
    one_line,
)

FAILED = "failed"

# Seconds between two rounds of a check that failed, and the most entries of a timeline.
CHECK_PAUSE = 1.0
LONGEST_TIMELINE = 500


class Options(t.NamedTuple):
    """How to wait; times in seconds."""

    timeout: float = 300.0
    settle: float = 5.0
    tolerances: t.Mapping[str, float] = {}
    fail_fast: bool = True
    log_lines: int = 20
    one_pass: bool = False
    secrets: tuple[str, ...] = ()


class CheckResult(t.NamedTuple):
    """What a check found out about objects that are ready as far as Kubernetes can tell."""

    ready: bool
    message: str
    problems: tuple[Problem, ...] = ()
    facts: t.Mapping[str, t.Any] = {}
    # A check that depends on something still to come may ask to be repeated sooner or later (s).
    again: float = CHECK_PAUSE


# Each object waited for, as it was when all were ready, and the pods of its current revision.
Seen = dict[Target, "tuple[Object | None, list[Object]]"]


class Outcome:
    """What is known of each object that is waited for, and the one result made of it."""

    def __init__(
        self,
        api: Api,
        targets: t.Sequence[Target],
        options: Options,
        state: State,
        now: t.Callable[[], float],
    ) -> None:
        self._now = now
        self._api = api
        self._targets = targets
        self._options = options
        self._state = state
        self.start = now()
        self.verdicts: dict[Target, Verdict] = {}
        self.ready_at: dict[Target, float] = {}
        self.failed: dict[Target, Problem] = {}
        self.timeline: list[dict[str, t.Any]] = []
        self.checked: CheckResult | None = None
        self.learned: CheckResult | None = None

    def remember(self, target: Target, verdict: Verdict, now: float) -> None:
        before = self.verdicts.get(target)
        self.verdicts[target] = verdict
        if verdict.status == READY:
            self.ready_at.setdefault(target, now)
            self.failed.pop(target, None)
        else:
            self.ready_at.pop(target, None)
        if before is None or (before.status, before.message) != (
            verdict.status,
            verdict.message,
        ):
            words = verdict.message if verdict.status != READY else f"ready: {verdict.message}"
            if not target.inert:
                self.note(str(target), words)

    def all_ready(self) -> bool:
        return all(
            (verdict := self.verdicts.get(target)) is not None and verdict.status == READY
            for target in self._targets
        )

    def target_of(self, problem: Problem) -> Target:
        """Return the object waited for that a problem belongs to."""
        for target, verdict in self.verdicts.items():
            if any(problem.key == other.key for other in verdict.problems):
                return target
        for target in self._targets:
            names = [pod["metadata"]["name"] for pod in current_pods(target, self._state)]
            if problem.name in (target.name, *names):
                return target
        return self._targets[0]

    def seen(self) -> Seen:
        return {
            target: (
                self._state.get(target.kind, target.namespace, target.name),
                current_pods(target, self._state),
            )
            for target in self._targets
        }

    def note(self, thing: str, event: str) -> None:
        if len(self.timeline) < LONGEST_TIMELINE:
            at = round(self._now() - self.start, 2)
            self.timeline.append({"at": at, "object": thing, "event": self.clean(event)})

    def clean(self, text: str) -> str:
        return redact(text, self._options.secrets)

    def pending_words(self) -> str:
        words = [
            f"{target}: {verdict.message}"
            + (f" ({verdict.problems[0].reason})" if verdict.problems else "")
            for target, verdict in self.verdicts.items()
            if verdict.status != READY
        ]
        if not words and self.checked and not self.checked.ready:
            words = [self.checked.message]
        if words and self.learned:
            words = [*words[:2], self.learned.message]
        return "; ".join(words[:3]) or "waiting for the API server's first answer"

    def ready_message(self) -> str:
        shown = [str(target) for target in self._targets if not target.inert]
        if not shown:
            return "nothing to wait for"
        names = ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
        return f"ready: {names}" + (f"; {self.checked.message}" if self.checked else "")

    def timed_out(self, unlisted: t.Sequence[Kind], answers: bool) -> dict[str, t.Any]:
        if not self.verdicts:
            return self.result(False, None, self.clean(self._unanswered(unlisted)))
        target = next(
            (one for one, verdict in self.verdicts.items() if verdict.status != READY),
            self._targets[0],
        )
        verdict = self.verdicts[target]
        problems = list(verdict.problems)
        for found in (self.checked, self.learned):
            problems += found.problems if found else ()
        words = problems[0].message if problems else self.pending_words()
        message = f"not ready within {self._options.timeout:g} s: {words}"
        if not answers:
            message += " (the API server does not answer at present)"
        pod, container = self._waiting_container(target)
        problem = Problem(
            "timeout",
            target.kind.kind,
            target.namespace,
            target.name,
            one_line(message),
            identity=str(target),
            container=problems[0].container if problems else container,
            pod=problems[0].pod if problems else pod,
            previous=problems[0].previous if problems else False,
        )
        return self.fail(problem, target)

    def _unanswered(self, unlisted: t.Sequence[Kind]) -> str:
        missing = [str(kind) for kind in unlisted]
        seconds = self._options.timeout
        return f"the API server {self._api.host} did not list {', '.join(missing)} in {seconds:g} s"

    def _waiting_container(self, target: Target) -> tuple[str, str]:
        """Return the pod and container that an object most likely waits for."""
        for pod in current_pods(target, self._state):
            if condition(pod, "Ready", "True"):
                continue
            for status in container_statuses(pod):
                now = status.get("state") or {}
                done = (now.get("terminated") or {}).get("exitCode") == 0
                if not done and not status.get("ready") and "waiting" not in now:
                    return str(pod["metadata"]["name"]), str(status["name"])
        return "", ""

    def fail(self, problem: Problem, target: Target | None = None) -> dict[str, t.Any]:
        target = target or self.target_of(problem)
        self.failed[target] = problem
        logs = self._logs(problem)
        line = hints.telling_line(logs)
        advice = hints.hint(problem._replace(message=self.clean(problem.message)))
        message = self.clean(problem.message)
        failure = {
            "reason": problem.reason,
            "kind": problem.kind,
            "name": problem.name,
            "container": problem.container or None,
            "message": message,
            "hint": advice,
            "events": self._events(problem, target),
            "logs": logs,
        }
        self.note(str(target), f"failed: {problem.reason}")
        told = problem._replace(message=message)
        text = hints.sentence(str(target), told, line, advice)
        return self.result(False, failure, text)

    def _logs(self, problem: Problem) -> list[str]:
        """Return the end of the log that explains a problem, redacted; empty if there is none."""
        if not problem.pod or not problem.container or self._options.log_lines <= 0:
            return []
        for previous in (problem.previous, not problem.previous):
            try:
                lines = self._api.logs(
                    problem.namespace,
                    problem.pod,
                    problem.container,
                    self._options.log_lines,
                    previous,
                )
            except ApiError as error:
                if error.status in (0, 401, 403):
                    self.note(f"Pod/{problem.pod}", f"log not readable: {error.message}")
                    break
                continue
            if lines:
                return self.clean("\n".join(lines)).splitlines()
        return []

    def _events(self, problem: Problem, target: Target) -> list[str]:
        """Return the latest events about what failed, as lines, the oldest first."""
        found: list[Object] = []
        wanted = {
            (problem.kind, problem.name),
            ("Pod", problem.pod),
            (target.kind.kind, target.name),
        }
        for event in self._state.all(EVENT, problem.namespace):
            about = event.get("involvedObject") or {}
            if (about.get("kind"), about.get("name")) in wanted:
                found.append(event)
        lines = sorted(hints.describe_event(event) for event in found)
        return [self.clean(line) for line in lines[-15:]]

    def result(
        self, ready: bool, failure: dict[str, t.Any] | None, message: str
    ) -> dict[str, t.Any]:
        resources = []
        for target in self._targets:
            verdict = self.verdicts.get(target) or Verdict(PROGRESSING, "not looked at yet")
            failed = self.failed.get(target) if verdict.status != READY else None
            at = self.ready_at.get(target)
            resources.append(
                {
                    "kind": target.kind.kind,
                    "name": target.name,
                    "namespace": target.namespace,
                    "status": FAILED if failed else verdict.status,
                    "message": self.clean(failed.message if failed else verdict.message),
                    "ready_after": None if at is None else round(at - self.start, 2),
                }
            )
        return {
            "ready": ready,
            "elapsed": round(self._now() - self.start, 2),
            "requests": self._api.requests,
            "resources": resources,
            "timeline": self.timeline,
            "failure": failure,
            "msg": one_line(message),
        }


def api_message(error: ApiError) -> str:
    """Say in one line why the API server would not let the wait go on."""
    if error.status == 403:
        return (
            f"not allowed to {error.verb} {error.resource}: {error.message}. "
            f"Grant the verb {error.verb} on {error.resource} (see the module's notes)."
        )
    if error.status == 401:
        return f"the API server does not accept the credentials: {error.message}."
    if error.status == 0:
        return f"{error.message}."
    return f"cannot {error.verb} {error.resource}: {error.message} (HTTP {error.status})."
