# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The waiting engine: watches in, verdicts applied, one result out.

One thread per kind and namespace watches; this one takes what they report, judges every object
that is waited for, and ends when all are ready, when one has failed for certain, or when the time
is up. It never asks about an object that it did not hear of.
"""

from __future__ import annotations

import queue
import threading
import time
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    COMPANIONS,
    EVENT,
    Kind,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.redact import redact
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import hints
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import watch as _watch
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import (
    Problem,
    Tracker,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.schema import MIGRATABLE
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Clock,
    Object,
    State,
    condition,
    container_statuses,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import (
    PROGRESSING,
    READY,
    Rules,
    Target,
    Verdict,
    current_pods,
    judge,
    one_line,
)

FAILED = "failed"

# After a stream came back: how long to listen before calling anything a failure (seconds), and
# from what length on an outage makes every tolerance start anew.
GRACE = 1.0
LONG_OUTAGE = 5.0
# Seconds between two rounds of a check that failed, and the most entries of a timeline.
CHECK_PAUSE = 1.0
MEANWHILE_PAUSE = 4.0
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


class Check(t.Protocol):
    """Something to find out beyond the objects. Both run in threads of their own."""

    def __call__(self, seen: Seen) -> CheckResult:
        """Find out whether what is ready for Kubernetes is ready indeed."""

    def meanwhile(self, seen: Seen) -> CheckResult | None:
        """Find out more about what is not ready yet, if there is anything to find out."""


class _Checked(t.NamedTuple):
    round: int
    result: CheckResult


class _Learned(t.NamedTuple):
    round: int
    result: CheckResult | None


class Engine:
    """One wait, for a set of objects. Use C(run) once."""

    def __init__(
        self,
        api: Api,
        targets: t.Sequence[Target],
        options: Options,
        check: Check | None = None,
        progress: t.Callable[[str, float], None] | None = None,
        clock: t.Callable[[], float] = time.monotonic,
        learn: t.Callable[[Seen], CheckResult | None] | None = None,
    ) -> None:
        """Take a clock (s) that never goes back; tests give one that runs as they like.

        learn finds out more about what is not ready yet; a check brings one of its own.
        """
        self._now = clock
        self._api = api
        self._targets = list(dict.fromkeys(targets))
        self._options = options
        self._check = check
        self._more = check.meanwhile if check else learn
        self._progress = progress
        self._state = State()
        self._tracker = Tracker(options.tolerances)
        self._reports: queue.SimpleQueue[t.Any] = queue.SimpleQueue()
        self._watches: list[_watch.Watch] = []
        self._start = self._now()
        self._verdicts: dict[Target, Verdict] = {}
        self._ready_at: dict[Target, float] = {}
        self._failed: dict[Target, Problem] = {}
        self._timeline: list[dict[str, t.Any]] = []
        self._noted: set[tuple[str, str, str]] = set()
        self._down: dict[tuple[Kind, str | None], float] = {}
        self._quiet_until = 0.0
        self._check_round = 0
        self._check_running = False
        self._check_due = 0.0
        self._checked: CheckResult | None = None
        self._check_pods: frozenset[str] = frozenset()
        self._learned: CheckResult | None = None
        self._learning = False
        self._learn_due = self._start + MEANWHILE_PAUSE
        self.facts: dict[str, t.Any] = {}

    # --- The wait --------------------------------------------------------------------------------

    def run(self) -> dict[str, t.Any]:
        """Wait, and return the result that the modules' documentation describes."""
        try:
            if self._options.one_pass:
                return self._look_once()
            self._begin_watching()
            return self._wait()
        except ApiError as error:
            return self._result(False, None, self._clean(api_message(error)))
        finally:
            for watch in self._watches:
                watch.stop()

    def _streams(self) -> list[tuple[Kind, str | None]]:
        """Return each kind and namespace that must be followed, once."""
        found: dict[tuple[Kind, str | None], None] = {}
        for target in self._targets:
            if not target.inert:
                for kind in (target.kind, *COMPANIONS.get(target.kind, ())):
                    found[(kind, target.namespace or None)] = None
        return list(found)

    def _clock(self) -> Clock:
        now = self._now()
        return Clock(now, self._api.server_wall(now))

    def _look_once(self) -> dict[str, t.Any]:
        for kind, namespace in self._streams():
            items, _version = self._api.list_all(kind, namespace)
            self._state.replace(kind, namespace, items, self._clock())
        self._judge()
        if self._all_ready() and self._check:
            self._checked = self._check(self._seen())
            self.facts = dict(self._checked.facts)
            _failures, _due = self._judge()
        if self._is_done():
            return self._result(True, None, self._ready_message())
        problems = [problem for verdict in self._verdicts.values() for problem in verdict.problems]
        problems += self._checked.problems if self._checked else ()
        words = problems[0].message if problems else self._pending_words()
        return self._result(False, None, self._clean(f"not ready now: {words}"))

    def _begin_watching(self) -> None:
        for kind, namespace in self._streams():
            watch = _watch.Watch(self._api, kind, namespace, self._reports, self._options.timeout)
            self._watches.append(watch)
            watch.start()

    def _wait(self) -> dict[str, t.Any]:
        end = self._start + self._options.timeout
        streams = self._streams()
        # With nothing to follow there is nothing to wait for.
        due: float | None = None if streams else self._start
        while True:
            now = self._now()
            self._take_reports(min(due or end, end) - now)
            now = self._now()
            if all(self._state.is_synced(*stream) for stream in streams):
                failures, due = self._judge()
                self._run_check(now)
                if self._is_done():
                    return self._result(True, None, self._ready_message())
                ended = self._conclude(failures)
                if ended:
                    return ended
                self._show_progress(now)
            if now >= end:
                return self._timed_out()

    def _take_reports(self, seconds: float) -> None:
        """Wait for the first report, and take all that are there."""
        # A blocking get cannot be interrupted on every platform: wake up now and then.
        limit = min(max(0.0, seconds), 1.0)
        try:
            self._take(self._reports.get(timeout=limit) if limit else self._reports.get_nowait())
            while True:
                self._take(self._reports.get_nowait())
        except queue.Empty:
            return

    def _take(self, report: t.Any) -> None:
        now = self._now()
        if isinstance(report, _Checked):
            self._take_check(report, now)
            return
        if isinstance(report, _Learned):
            self._take_learned(report, now)
            return
        stream = (report.kind, report.namespace)
        if isinstance(report, _watch.Listed):
            self._state.replace(report.kind, report.namespace, report.items, self._clock())
            self._recover(stream, now)
        elif isinstance(report, _watch.Changed):
            self._state.apply(report.kind, report.type, report.item, self._clock())
        elif isinstance(report, _watch.Interrupted):
            if not self._down:
                self._note("API server", report.error)
            self._down[stream] = now
        elif isinstance(report, _watch.Resumed):
            self._recover(stream, now)
        elif isinstance(report, _watch.GaveUp):
            raise report.error

    def _recover(self, stream: tuple[Kind, str | None], now: float) -> None:
        since = self._down.pop(stream, None)
        if since is None:
            return
        self._quiet_until = now + GRACE
        if now - since > LONG_OUTAGE:
            self._tracker.restart(now)
        if not self._down:
            self._note("API server", "answers again")

    # --- Verdicts --------------------------------------------------------------------------------

    def _judge(self) -> tuple[list[Problem], float | None]:
        """Judge every object; return what is a failure now, and when to look again (monotonic)."""
        clock = self._clock()
        rules = Rules(self._options.settle, migrating=self._migrating())
        problems: list[Problem] = []
        rechecks: list[float] = []
        for target in self._targets:
            verdict = judge(target, self._state, clock, rules)
            self._remember(target, verdict, clock.now)
            problems += verdict.problems
            if verdict.recheck is not None:
                rechecks.append(clock.now + max(0.01, verdict.recheck))
        if self._checked and self._all_ready():
            problems += self._checked.problems
        if self._learned and not self._all_ready():
            problems += [
                problem
                for problem in self._learned.problems
                if not (rules.migrating and problem.reason in MIGRATABLE)
            ]
        for problem in problems:
            if problem.key not in self._noted:
                self._noted.add(problem.key)
                self._note(
                    f"{problem.kind}/{problem.name}",
                    f"{problem.reason}: {problem.message}",
                )
        failures, due = self._tracker.observe(problems, clock.now)
        if self._down or clock.now < self._quiet_until:
            rechecks.append(self._quiet_until if not self._down else clock.now + 1.0)
            failures = []
        if self._check and not self._check_running and self._all_ready():
            rechecks.append(max(self._check_due, clock.now + 0.01))
        if self._more and not self._learning and not self._all_ready():
            rechecks.append(max(self._learn_due, clock.now + 0.01))
        if due is not None:
            rechecks.append(due)
        return failures, min(rechecks, default=None)

    def _migrating(self) -> bool:
        return any(
            target.kind.kind == "Job"
            and (verdict := self._verdicts.get(target)) is not None
            and verdict.status != READY
            for target in self._targets
        )

    def _remember(self, target: Target, verdict: Verdict, now: float) -> None:
        before = self._verdicts.get(target)
        self._verdicts[target] = verdict
        if verdict.status == READY:
            self._ready_at.setdefault(target, now)
            self._failed.pop(target, None)
        else:
            self._ready_at.pop(target, None)
        if before is None or (before.status, before.message) != (
            verdict.status,
            verdict.message,
        ):
            words = verdict.message if verdict.status != READY else f"ready: {verdict.message}"
            if not target.inert:
                self._note(str(target), words)

    def _all_ready(self) -> bool:
        return all(
            (verdict := self._verdicts.get(target)) is not None and verdict.status == READY
            for target in self._targets
        )

    def _is_done(self) -> bool:
        if not self._all_ready():
            return False
        return self._check is None or bool(self._checked and self._checked.ready)

    def _conclude(self, failures: list[Problem]) -> dict[str, t.Any] | None:
        """End the wait if something failed and that is enough to end it."""
        for problem in failures:
            self._failed.setdefault(self._target_of(problem), problem)
        if not failures:
            return None
        if self._options.fail_fast:
            return self._fail(failures[0])
        current = {problem.key for problem in failures}
        for target, problem in list(self._failed.items()):
            if problem.key not in current:
                del self._failed[target]
        pending = [
            target
            for target, verdict in self._verdicts.items()
            if verdict.status != READY and target not in self._failed
        ]
        if pending or not self._failed:
            return None
        return self._fail(next(iter(self._failed.values())))

    def _target_of(self, problem: Problem) -> Target:
        """Return the object waited for that a problem belongs to."""
        for target, verdict in self._verdicts.items():
            if any(problem.key == other.key for other in verdict.problems):
                return target
        for target in self._targets:
            names = [pod["metadata"]["name"] for pod in current_pods(target, self._state)]
            if problem.name in (target.name, *names):
                return target
        return self._targets[0]

    # --- The check beyond the objects ------------------------------------------------------------

    def _run_check(self, now: float) -> None:
        if not self._all_ready():
            if self._checked is not None or self._check_running:
                # What it found, or will find, is about objects that are no longer so.
                self._check_round += 1
                self._checked = None
                self._check_running = False
                self._check_due = 0.0
            self._learn(now)
            return
        self._learned = None
        if self._check is None:
            return
        pods = self._pod_uids()
        if self._checked and self._checked.ready and pods <= self._check_pods:
            return
        if self._check_running or now < self._check_due:
            return
        self._check_running = True
        self._check_round += 1
        self._check_pods = pods
        round_, check, seen = self._check_round, self._check, self._seen()

        def work() -> None:
            self._reports.put(_Checked(round_, check(seen)))

        threading.Thread(target=work, name="check", daemon=True).start()

    def _learn(self, now: float) -> None:
        """Find out more about what is not ready, once in a while."""
        if self._more is None or self._learning or now < self._learn_due:
            return
        self._learning = True
        round_, more, seen = self._check_round, self._more, self._seen()

        def work() -> None:
            self._reports.put(_Learned(round_, more(seen)))

        threading.Thread(target=work, name="meanwhile", daemon=True).start()

    def _take_learned(self, report: _Learned, now: float) -> None:
        self._learning = False
        self._learn_due = now + MEANWHILE_PAUSE
        self._learned = report.result if report.round == self._check_round else None
        if self._learned:
            self.facts = dict(self._learned.facts)

    def _seen(self) -> Seen:
        return {
            target: (
                self._state.get(target.kind, target.namespace, target.name),
                current_pods(target, self._state),
            )
            for target in self._targets
        }

    def _pod_uids(self) -> frozenset[str]:
        return frozenset(
            str(pod["metadata"].get("uid"))
            for target in self._targets
            if target.kind.kind == "Deployment"
            for pod in current_pods(target, self._state)
        )

    def _take_check(self, report: _Checked, now: float) -> None:
        if report.round != self._check_round:
            return
        self._check_running = False
        before = self._checked.message if self._checked else None
        self._checked = report.result
        self._check_due = now + report.result.again
        self.facts = dict(report.result.facts)
        if report.result.message != before:
            self._note("MLflow", report.result.message)
        if report.result.ready and not self._pod_uids() <= self._check_pods:
            self._checked = report.result._replace(ready=False)
            self._check_due = now

    # --- Words -----------------------------------------------------------------------------------

    def _note(self, thing: str, event: str) -> None:
        if len(self._timeline) < LONGEST_TIMELINE:
            at = round(self._now() - self._start, 2)
            self._timeline.append({"at": at, "object": thing, "event": self._clean(event)})

    def _clean(self, text: str) -> str:
        return redact(text, self._options.secrets)

    def _pending_words(self) -> str:
        words = [
            f"{target}: {verdict.message}"
            + (f" ({verdict.problems[0].reason})" if verdict.problems else "")
            for target, verdict in self._verdicts.items()
            if verdict.status != READY
        ]
        if not words and self._checked and not self._checked.ready:
            words = [self._checked.message]
        if words and self._learned:
            words = [*words[:2], self._learned.message]
        return "; ".join(words[:3]) or "waiting for the API server's first answer"

    def _show_progress(self, now: float) -> None:
        if self._progress is not None:
            self._progress(self._clean(self._pending_words()), now - self._start)

    def _ready_message(self) -> str:
        shown = [str(target) for target in self._targets if not target.inert]
        if not shown:
            return "nothing to wait for"
        names = ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
        return f"ready: {names}" + (f"; {self._checked.message}" if self._checked else "")

    # --- Results ---------------------------------------------------------------------------------

    def _timed_out(self) -> dict[str, t.Any]:
        if not self._verdicts:
            return self._result(False, None, self._clean(self._unanswered()))
        target = next(
            (one for one, verdict in self._verdicts.items() if verdict.status != READY),
            self._targets[0],
        )
        verdict = self._verdicts[target]
        problems = list(verdict.problems)
        for found in (self._checked, self._learned):
            problems += found.problems if found else ()
        words = problems[0].message if problems else self._pending_words()
        message = f"not ready within {self._options.timeout:g} s: {words}"
        if self._down:
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
        return self._fail(problem, target)

    def _unanswered(self) -> str:
        missing = [str(kind) for kind, ns in self._streams() if not self._state.is_synced(kind, ns)]
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

    def _fail(self, problem: Problem, target: Target | None = None) -> dict[str, t.Any]:
        target = target or self._target_of(problem)
        self._failed[target] = problem
        logs = self._logs(problem)
        line = hints.telling_line(logs)
        advice = hints.hint(problem._replace(message=self._clean(problem.message)))
        message = self._clean(problem.message)
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
        self._note(str(target), f"failed: {problem.reason}")
        told = problem._replace(message=message)
        text = hints.sentence(str(target), told, line, advice)
        return self._result(False, failure, text)

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
                    self._note(f"Pod/{problem.pod}", f"log not readable: {error.message}")
                    break
                continue
            if lines:
                return self._clean("\n".join(lines)).splitlines()
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
        return [self._clean(line) for line in lines[-15:]]

    def _result(
        self, ready: bool, failure: dict[str, t.Any] | None, message: str
    ) -> dict[str, t.Any]:
        resources = []
        for target in self._targets:
            verdict = self._verdicts.get(target) or Verdict(PROGRESSING, "not looked at yet")
            failed = self._failed.get(target) if verdict.status != READY else None
            at = self._ready_at.get(target)
            resources.append(
                {
                    "kind": target.kind.kind,
                    "name": target.name,
                    "namespace": target.namespace,
                    "status": FAILED if failed else verdict.status,
                    "message": self._clean(failed.message if failed else verdict.message),
                    "ready_after": None if at is None else round(at - self._start, 2),
                }
            )
        return {
            "ready": ready,
            "elapsed": round(self._now() - self._start, 2),
            "requests": self._api.requests,
            "resources": resources,
            "timeline": self._timeline,
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
