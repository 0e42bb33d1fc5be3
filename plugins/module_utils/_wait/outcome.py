# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a wait finds out about its objects, and how it is told: the words and the result."""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    CLAIM,
    DAEMON_SET,
    DEPLOYMENT,
    JOB,
    POD,
    STATEFUL_SET,
    Kind,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.redact import Redactor
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import hints
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.custom_rules import Rule
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
    newest_replica_set,
    one_line,
)

FAILED = "failed"

# Seconds between two rounds of a check that failed, and the most entries of a timeline.
CHECK_PAUSE = 1.0
LONGEST_TIMELINE = 500
# Of how many pods the conditions and events are shown when the time is up.
PODS_SHOWN = 5
# What others are likely to wait for, first.
_NEEDED_FIRST = (CLAIM, STATEFUL_SET, DAEMON_SET, JOB, DEPLOYMENT, POD)


class Options(t.NamedTuple):
    """How to wait; times in seconds."""

    timeout: float = 300.0
    settle: float = 10.0
    tolerances: t.Mapping[str, float] = {}
    fail_fast: bool = True
    log_lines: int = 20
    one_pass: bool = False
    # What is known to be secret: masked in every text of the result, however it is spelt there.
    secrets: tuple[str, ...] = ()
    # How custom resources are judged that the user gave a rule for, by their kind.
    custom: t.Mapping[str, Rule] = {}


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
        self.redactor = Redactor(options.secrets)
        self.verdicts: dict[Target, Verdict] = {}
        self.ready_at: dict[Target, float] = {}
        self.failed: dict[Target, Problem] = {}
        self.timeline: list[dict[str, t.Any]] = []
        self.checked: CheckResult | None = None
        self.learned: CheckResult | None = None
        self._hidden: list[str] = []

    def cannot_see(self, kind: Kind, error: ApiError) -> None:
        """Note, once, that objects of a kind cannot be seen, and what that costs."""
        if str(kind) in self._hidden:
            return
        self._hidden.append(str(kind))
        self.note(
            "API server",
            f"not allowed to {error.verb} {kind}: what only they tell will not be known",
        )

    def remember(self, target: Target, verdict: Verdict, now: float) -> None:
        """Take the latest verdict on an object."""
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
        """Say whether every object is ready as far as Kubernetes can tell."""
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
        """Return every object and its pods, as they are now."""
        return {
            target: (
                self._state.get(target.kind, target.namespace, target.name),
                current_pods(target, self._state),
            )
            for target in self._targets
        }

    def note(self, thing: str, event: str) -> None:
        """Add a line to the timeline."""
        if len(self.timeline) < LONGEST_TIMELINE:
            at = round(self._now() - self.start, 2)
            self.timeline.append({"at": at, "object": thing, "event": self.clean(event)})

    def clean(self, text: str) -> str:
        """Return a text without secrets: those that are known, and what looks like one."""
        return self.redactor(text)

    def pending_words(self) -> str:
        """Say in one line what is being waited for."""
        words = [
            f"{target}: {verdict.message}{_in_brackets(verdict.problems)}"
            for target, verdict in self.verdicts.items()
            if verdict.status != READY
        ]
        if not words and self.checked and not self.checked.ready:
            words = [self.checked.message]
        if words and self.learned:
            words = [*words[:2], self.learned.message]
        if not self.verdicts:
            return "waiting for the API server's first answer"
        return "; ".join(words[:3]) or "waiting for the server to answer"

    def ready_message(self) -> str:
        """Say in one line that all is ready."""
        shown = [str(target) for target in self._targets if not target.inert]
        if not shown:
            return "nothing to wait for"
        names = ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
        return f"ready: {names}" + (f"; {self.checked.message}" if self.checked else "")

    def timed_out(self, unlisted: t.Sequence[Kind], answers: bool) -> dict[str, t.Any]:
        """Return the result of a wait whose time is up: what it waited for, and what to do."""
        if not self.verdicts:
            return self.result(False, None, self.clean(self._unanswered(unlisted)))
        target = self._most_telling()
        problems = self._problems_of(target)
        words = problems[0].message if problems else self.pending_words()
        seconds = self._options.timeout
        when = f"within {seconds:g} s" if seconds > 0 else "now"
        message = f"not ready {when}: {words}"
        if not answers:
            message += " (the API server does not answer at present)"
        pod, container = self._waiting_container(target)
        first = problems[0] if problems else None
        problem = Problem(
            "timeout",
            target.kind.kind,
            target.namespace,
            target.name,
            one_line(message),
            identity=str(target),
            container=(first.container if first else "") or container,
            pod=(first.pod if first else "") or pod,
            previous=first.previous if first and first.container else False,
            group=target.kind.group,
        )
        advice = hints.hint(first) if first else hints.hint(problem)
        return self.fail(problem, target, advice)

    def _problems_of(self, target: Target) -> list[Problem]:
        """Return what is wrong with an object, what explains it best first."""
        problems = sorted(self.verdicts[target].problems, key=lambda one: (one.held, one.rank))
        for found in (self.checked, self.learned):
            problems += found.problems if found else ()
        return problems

    def _most_telling(self) -> Target:
        """Return what is not ready and explains the rest: a database before its servers."""
        pending = [one for one, verdict in self.verdicts.items() if verdict.status != READY]

        def order(target: Target) -> tuple[bool, int, int]:
            problems = self.verdicts[target].problems
            rank = min((problem.rank for problem in problems if not problem.held), default=99)
            kind = _NEEDED_FIRST.index(target.kind) if target.kind in _NEEDED_FIRST else 99
            return not problems, rank, kind

        return min(pending, key=order, default=self._targets[0])

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

    def fail(
        self, problem: Problem, target: Target | None = None, advice: str | None = None
    ) -> dict[str, t.Any]:
        """Return the result of a wait that failed of a problem."""
        target = target or self.target_of(problem)
        self.failed[target] = problem
        logs = self._logs(problem)
        line = hints.telling_line(logs)
        message = self.clean(problem.message)
        told = problem._replace(message=message)
        if advice is None:
            advice = hints.hint(told, line)
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
        more = f"This account may not list {' and '.join(self._hidden)}" if self._hidden else ""
        return self.result(False, failure, hints.sentence(str(target), told, line, advice, more))

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
        """Return the latest events about what failed, as lines, the oldest first.

        When the time is up, what is not as it should be comes before them.
        """
        items = self._around(problem, target)
        found = {
            (str(event["metadata"].get("namespace")), str(event["metadata"]["name"])): event
            for item in items
            for event in self._state.events(item)
        }
        lines = sorted(hints.describe_event(event) for event in found.values())[-15:]
        if problem.reason == "timeout":
            lines = [line for item in items for line in hints.describe_conditions(item)][
                :15
            ] + lines
        return [self.clean(line) for line in lines]

    def _around(self, problem: Problem, target: Target) -> list[Object]:
        """Return the objects whose events may say why one is not ready."""
        space = target.namespace
        item = self._state.get(target.kind, space, target.name)
        found = [item] if item else []
        if item and target.kind == DEPLOYMENT:
            newest = newest_replica_set(item, self._state)
            found += [newest] if newest else []
        names = {problem.pod, problem.name if problem.kind == POD.kind else ""}
        pods = [pod for name in sorted(names) if (pod := self._state.get(POD, space, name))]
        if problem.reason == "timeout":
            pods += [
                pod
                for pod in current_pods(target, self._state)
                if not condition(pod, "Ready", "True") and pod["metadata"]["name"] not in names
            ][:PODS_SHOWN]
        for pod in pods:
            found += [pod, *self._state.claims(pod)]
        if problem.kind == CLAIM.kind and problem.kind != target.kind.kind:
            claim = self._state.get(CLAIM, space, problem.name)
            found += [claim] if claim and claim not in found else []
        return found

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


def _in_brackets(problems: t.Sequence[Problem]) -> str:
    """Return the reason of the first problem on which a clock runs, in brackets, or nothing."""
    reasons = [problem.reason for problem in problems if not problem.held and not problem.stopped]
    return f" ({reasons[0]})" if reasons else ""
