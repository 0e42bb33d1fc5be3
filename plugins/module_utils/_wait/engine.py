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
    CLAIM,
    COMPANIONS,
    DEPLOYMENT,
    EVENT,
    JOB,
    REVISION,
    STATEFUL_SET,
    Kind,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import watch as _watch
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.outcome import (
    CheckResult,
    Options,
    Outcome,
    Seen,
    api_message,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Problem, Tracker
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.schema import MIGRATABLE
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Clock,
    State,
    condition,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import (
    READY,
    Rules,
    Target,
    current_pods,
    judge,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_containers import (
    LONGEST_PAUSE,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_terms import (
    identity,
    leaving,
)

# After a stream came back: how long to listen before calling anything a failure (seconds), and
# from what length on an outage makes every tolerance start anew.
GRACE = 1.0
LONG_OUTAGE = 5.0
# Seconds between two rounds of finding out more about what is not ready yet.
MEANWHILE_PAUSE = 4.0
# A wait that is to look once only gives the API server so long for its first lists (seconds).
FIRST_LOOK = 15.0
# What tells why, but not whether: an account that may not list it waits all the same.
OPTIONAL = frozenset({EVENT, CLAIM, REVISION})

__all__ = ["Check", "CheckResult", "Engine", "Options", "Seen", "api_message"]


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


class _Broke(t.NamedTuple):
    """A check ended with an error that nobody expected."""

    error: Exception


class CheckError(Exception):
    """A check could not be made: a mistake in its options, or in itself."""


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

        learn finds out more about what is not ready yet, instead of what a check brings.
        """
        self._now = clock
        self._api = api
        self._targets = list(dict.fromkeys(targets))
        self._options = options
        self._check = check
        self._more = learn or (check.meanwhile if check else None)
        self._progress = progress
        self._state = State()
        self._tracker = Tracker(options.tolerances)
        self._reports: queue.SimpleQueue[t.Any] = queue.SimpleQueue()
        self._watches: list[_watch.Watch] = []
        self._outcome = Outcome(api, self._targets, options, self._state, clock)
        self._noted: set[tuple[str, str, str]] = set()
        self._down: dict[tuple[Kind, str | None], float] = {}
        self._quiet_until = 0.0
        self._check_round = 0
        self._check_running = False
        self._check_due = 0.0
        self._check_pods: frozenset[str] = frozenset()
        self._learning = False
        self._learn_due = self._outcome.start + MEANWHILE_PAUSE
        # When the wait began, on the API server's clock; known from its first answer on.
        self._since: float | None = None
        self._migrating = False
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
            return self._outcome.result(False, None, self._outcome.clean(api_message(error)))
        except CheckError as error:
            return self._outcome.result(False, None, self._outcome.clean(str(error)))
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
            try:
                items, _version = self._api.list_all(kind, namespace, _watch.slim)
            except ApiError as error:
                self._do_without(kind, namespace, error)
                continue
            self._state.replace(kind, namespace, items, self._clock())
        self._judge()
        self._check_now()
        if self._is_done():
            return self._outcome.result(True, None, self._outcome.ready_message())
        problems = [
            problem for verdict in self._outcome.verdicts.values() for problem in verdict.problems
        ]
        problems += self._outcome.checked.problems if self._outcome.checked else ()
        words = problems[0].message if problems else self._outcome.pending_words()
        return self._outcome.result(False, None, self._outcome.clean(f"not ready now: {words}"))

    def _check_now(self) -> None:
        """Make the check, and wait for what it finds."""
        if self._check is None or not self._outcome.all_ready():
            return
        try:
            self._outcome.checked = self._check(self._outcome.seen())
        except Exception as error:  # told as what it is
            raise _told(error) from error
        self.facts = dict(self._outcome.checked.facts)
        self._judge()

    def _do_without(self, kind: Kind, namespace: str | None, error: ApiError) -> None:
        """Go on without a kind that this account may not see, or end the wait."""
        asked_for = any(target.kind == kind for target in self._targets)
        if error.status != 403 or kind not in OPTIONAL or asked_for:
            raise error
        self._state.hide(kind, namespace)
        self._down.pop((kind, namespace), None)
        self._outcome.cannot_see(kind, error)

    def _begin_watching(self) -> None:
        for kind, namespace in self._streams():
            watch = _watch.Watch(self._api, kind, namespace, self._reports, self._options.timeout)
            self._watches.append(watch)
            watch.start()

    def _wait(self) -> dict[str, t.Any]:
        start, looks_once = self._outcome.start, self._options.timeout <= 0
        end = start + (FIRST_LOOK if looks_once else self._options.timeout)
        streams = self._streams()
        # With nothing to follow there is nothing to wait for.
        due: float | None = None if streams else start
        while True:
            now = self._now()
            self._take_reports(min(due or end, end) - now)
            now = self._now()
            looked = all(self._state.is_synced(*stream) for stream in streams)
            if looked:
                failures, due = self._judge()
                if looks_once:
                    self._check_now()
                else:
                    self._run_check(now)
                if self._is_done() and self._is_up_to_date(now):
                    return self._outcome.result(True, None, self._outcome.ready_message())
                ended = self._conclude(failures)
                if ended:
                    return ended
                self._show_progress(now)
            if now >= end or (looked and looks_once):
                return self._timed_out()

    def _is_up_to_date(self, now: float) -> bool:
        """Say whether what is known is of now: nothing is ready by what was seen before an outage.

        Events say why, not whether.
        """
        lost = [kind for kind, _namespace in self._down if kind != EVENT]
        return not lost and now >= self._quiet_until

    def _timed_out(self) -> dict[str, t.Any]:
        unlisted = [kind for kind, ns in self._streams() if not self._state.is_synced(kind, ns)]
        return self._outcome.timed_out(unlisted, answers=not self._down)

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
        if isinstance(report, _Broke):
            raise _told(report.error) from report.error
        stream = (report.kind, report.namespace)
        if isinstance(report, _watch.Listed):
            self._state.replace(report.kind, report.namespace, report.items, self._clock())
            self._recover(stream, now)
        elif isinstance(report, _watch.Changed):
            self._state.apply(report.kind, report.type, report.item, self._clock())
        elif isinstance(report, _watch.Interrupted):
            if not self._down:
                self._outcome.note("API server", report.error)
            self._down[stream] = now
        elif isinstance(report, _watch.Resumed):
            self._recover(stream, now)
        elif isinstance(report, _watch.GaveUp):
            self._do_without(report.kind, report.namespace, report.error)

    def _recover(self, stream: tuple[Kind, str | None], now: float) -> None:
        since = self._down.pop(stream, None)
        if since is None:
            return
        self._quiet_until = now + GRACE
        if now - since > LONG_OUTAGE:
            self._tracker.restart(now)
        if not self._down:
            self._outcome.note("API server", "answers again")

    # --- Verdicts --------------------------------------------------------------------------------

    def _judge(self) -> tuple[list[Problem], float | None]:
        """Judge every object; return what is a failure now, and when to look again (monotonic)."""
        clock = self._clock()
        if self._since is None:
            self._since = clock.wall - (clock.now - self._outcome.start)
        rechecks = self._judge_targets(clock)
        problems = self._problems()
        for problem in problems:
            if problem.key not in self._noted:
                self._noted.add(problem.key)
                self._outcome.note(
                    f"{problem.kind}/{problem.name}",
                    f"{problem.reason}: {problem.message}",
                )
        alive, well = self._alive_and_well()
        failures, due = self._tracker.observe(problems, clock.now, alive, well)
        if self._down or clock.now < self._quiet_until:
            rechecks.append(self._quiet_until if not self._down else clock.now + 1.0)
            failures = []
        if self._check and not self._check_running and self._outcome.all_ready():
            rechecks.append(max(self._check_due, clock.now + 0.01))
        if self._more and not self._learning and not self._outcome.all_ready():
            rechecks.append(max(self._learn_due, clock.now + 0.01))
        if due is not None:
            rechecks.append(due)
        return failures, min(rechecks, default=None)

    def _judge_targets(self, clock: Clock) -> list[float]:
        """Judge every object; return when time alone may change a verdict (monotonic).

        Jobs come first: while one is not done, an old schema is not a failure yet.
        """
        rechecks: list[float] = []
        rules = Rules(self._options.settle, since=self._since, custom=self._options.custom)
        jobs = [target for target in self._targets if target.kind == JOB]
        for target in [*jobs, None, *(one for one in self._targets if one.kind != JOB)]:
            if target is None:
                rules = self._rules_beside(jobs)
                continue
            verdict = judge(target, self._state, clock, rules)
            self._outcome.remember(target, verdict, clock.now)
            if verdict.recheck is not None:
                rechecks.append(clock.now + max(0.01, verdict.recheck))
        return rechecks

    def _rules_beside(self, jobs: list[Target]) -> Rules:
        """Return how to judge what stands beside these Jobs."""
        migrating = any(self._outcome.verdicts[target].status != READY for target in jobs)
        if self._migrating and not migrating:
            # What was learned of the schema until now, or is being asked for, is of before.
            self._outcome.learned = None
            self._check_round += 1
        self._migrating = migrating
        done = [
            completed.wall
            for target in jobs
            if (completed := self._state.completed(JOB, target.namespace, target.name))
        ]
        return Rules(
            self._options.settle,
            migrating,
            self._since,
            max(done, default=None),
            self._options.custom,
        )

    def _problems(self) -> list[Problem]:
        """Return everything that is wrong now, root causes before what follows from them."""
        found = [
            self._weighed(problem, target)
            for target in self._targets
            for problem in self._outcome.verdicts[target].problems
        ]
        if self._outcome.checked and self._outcome.all_ready():
            found += self._outcome.checked.problems
        if self._outcome.learned and not self._outcome.all_ready():
            found += [
                self._weighed(problem, self._outcome.target_of(problem))
                for problem in self._outcome.learned.problems
                if not (self._migrating and problem.reason in MIGRATABLE)
            ]
        return sorted(found, key=lambda problem: problem.rank)

    def _weighed(self, problem: Problem, target: Target) -> Problem:
        """Hold back what may only follow from another object that is waited for.

        A server that does not find its database, or does not stay up, proves nothing while that is
        not ready: its image may be on the way, or its node. Nor before its next try after that.
        """
        if problem.reason not in ("database_unreachable", "crash_loop"):
            return problem
        for other, verdict in self._outcome.verdicts.items():
            if other == target or not _may_need(problem, other):
                continue
            if verdict.status == READY:
                came_up = self._outcome.ready_at.get(other, self._outcome.start)
                if problem.at is not None and self._outcome.start < came_up > problem.at:
                    # It is of before: the next try is to come.
                    until = came_up + LONGEST_PAUSE
                    problem = problem._replace(until=max(until, problem.until or until))
            else:
                return problem._replace(held=True)
        return problem

    def _alive_and_well(self) -> tuple[set[str], set[str]]:
        """Return what is there of what is waited for, and which of it is as it should be."""
        alive: set[str] = set()
        well: set[str] = set()
        for target in self._targets:
            if target.inert:
                continue
            is_ready = self._outcome.verdicts[target].status == READY
            for pod in current_pods(target, self._state):
                if not leaving(pod):
                    alive.add(identity(pod))
                    well |= {
                        identity(claim)
                        for claim in self._state.claims(pod)
                        if (claim.get("status") or {}).get("phase") == "Bound"
                    }
                    if is_ready or condition(pod, "Ready", "True"):
                        well.add(identity(pod))
        return alive, well

    def _is_done(self) -> bool:
        if not self._outcome.all_ready():
            return False
        return self._check is None or bool(self._outcome.checked and self._outcome.checked.ready)

    def _conclude(self, failures: list[Problem]) -> dict[str, t.Any] | None:
        """End the wait if something failed and that is enough to end it."""
        for problem in failures:
            self._outcome.failed.setdefault(self._outcome.target_of(problem), problem)
        if not failures:
            return None
        if self._options.fail_fast:
            return self._outcome.fail(failures[0])
        current = {problem.key for problem in failures}
        for target, problem in list(self._outcome.failed.items()):
            if problem.key not in current:
                del self._outcome.failed[target]
        pending = [
            target
            for target, verdict in self._outcome.verdicts.items()
            if verdict.status != READY and target not in self._outcome.failed
        ]
        if pending or not self._outcome.failed:
            return None
        return self._outcome.fail(next(iter(self._outcome.failed.values())))

    # --- The check beyond the objects ------------------------------------------------------------

    def _run_check(self, now: float) -> None:
        if not self._outcome.all_ready():
            if self._outcome.checked is not None or self._check_running:
                # What it found, or will find, is about objects that are no longer so.
                self._check_round += 1
                self._outcome.checked = None
                self._check_running = False
                self._check_due = 0.0
            self._learn(now)
            return
        self._outcome.learned = None
        if self._check is None:
            return
        pods = self._pod_uids()
        if self._outcome.checked and self._outcome.checked.ready and pods <= self._check_pods:
            return
        if self._check_running or now < self._check_due:
            return
        self._check_running = True
        self._check_round += 1
        self._check_pods = pods
        round_, check, seen = self._check_round, self._check, self._outcome.seen()

        def work() -> None:
            try:
                self._reports.put(_Checked(round_, check(seen)))
            except Exception as error:  # a bug must end the wait with its name, not hang it
                self._reports.put(_Broke(error))

        threading.Thread(target=work, name="check", daemon=True).start()

    def _learn(self, now: float) -> None:
        """Find out more about what is not ready, once in a while."""
        if self._more is None or self._learning or now < self._learn_due:
            return
        self._learning = True
        round_, more, seen = self._check_round, self._more, self._outcome.seen()

        def work() -> None:
            try:
                self._reports.put(_Learned(round_, more(seen)))
            except Exception as error:  # a bug must end the wait with its name, not hang it
                self._reports.put(_Broke(error))

        threading.Thread(target=work, name="meanwhile", daemon=True).start()

    def _take_learned(self, report: _Learned, now: float) -> None:
        self._learning = False
        self._learn_due = now + MEANWHILE_PAUSE
        self._outcome.learned = report.result if report.round == self._check_round else None
        if self._outcome.learned:
            self.facts = dict(self._outcome.learned.facts)

    def _pod_uids(self) -> frozenset[str]:
        return frozenset(
            str(pod["metadata"].get("uid"))
            for target in self._targets
            if target.kind == DEPLOYMENT
            for pod in current_pods(target, self._state)
        )

    def _take_check(self, report: _Checked, now: float) -> None:
        if report.round != self._check_round:
            return
        self._check_running = False
        before = self._outcome.checked.message if self._outcome.checked else None
        self._outcome.checked = report.result
        self._check_due = now + report.result.again
        self.facts = dict(report.result.facts)
        if report.result.message != before:
            self._outcome.note("MLflow", report.result.message)
        if report.result.ready and not self._pod_uids() <= self._check_pods:
            self._outcome.checked = report.result._replace(ready=False)
            self._check_due = now

    def _show_progress(self, now: float) -> None:
        if self._progress is not None:
            self._progress(
                self._outcome.clean(self._outcome.pending_words()), now - self._outcome.start
            )


def _told(error: Exception) -> CheckError:
    """Return how an unexpected error of a check is told."""
    if isinstance(error, CheckError):
        return error
    return CheckError(f"the check of the server could not be made: {type(error).__name__}: {error}")


def _may_need(problem: Problem, other: Target) -> bool:
    """Say whether what has a problem may need another object: a database, or one that it names."""
    return other.kind == STATEFUL_SET or other.name in problem.message.split()
