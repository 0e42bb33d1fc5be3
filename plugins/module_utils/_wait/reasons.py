# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a problem may last before it is a failure."""

from __future__ import annotations

import typing as t

# Seconds; a contract, documented with the option tolerances.
DEFAULTS: dict[str, float] = {
    "image_invalid": 0,
    "image_pull": 30,
    # A kubelet looks at such a pod again after 10 to 15 s: what was put right at once shows only
    # then, and what takes it two attempts after up to 30 s.
    "config": 20,
    "sandbox": 60,
    "container_start": 30,
    "crash_loop": 0,
    "oom_killed": 0,
    "unschedulable": 60,
    "volume": 60,
    "quota_or_admission": 10,
    "rejected": 30,
    "blocked": 10,
    "job_failed": 0,
    "progress_deadline": 0,
    "schema_behind": 0,
    "schema_ahead": 0,
    "schema_unknown": 0,
    "schema_partial": 0,
    "database_unreachable": 30,
    "database_denied": 0,
    "http_unready": 30,
    "unauthorized": 0,
    "paused": 0,
    "not_found": 10,
}

# Watches of two kinds are not in step: what one of them shows may be explained away by the next
# event of the other. So even a problem without tolerance must last this long (seconds).
CONFIRMATION = 0.25

# A problem that is not seen for so long (s) is over. Sooner it is only between two looks of the
# kubelet, or has moved on to the pod that took the place of the one that had it.
LAPSE = 10.0

# What blocks a pod until somebody acts, and may be meant to: named at once, never a failure of its
# own before the time is up.
UNTIL_TIMEOUT = float("inf")

# The reasons, those first that explain the others: with two at one moment, the first is told.
CAUSES_FIRST = (
    "not_found",
    "quota_or_admission",
    "unschedulable",
    "rejected",
    "volume",
    "sandbox",
    "image_invalid",
    "image_pull",
    "config",
    "container_start",
    "oom_killed",
    "database_denied",
    "schema_unknown",
    "schema_ahead",
    "schema_partial",
    "schema_behind",
    "job_failed",
    "crash_loop",
    "paused",
    "blocked",
    "database_unreachable",
    "unauthorized",
    "http_unready",
    "progress_deadline",
)


class Problem(t.NamedTuple):
    """Something that stands between an object and being ready, seen at one moment."""

    reason: str
    kind: str
    namespace: str
    name: str
    message: str
    # What this problem is the same as a moment later: its tolerance counts from the first sight.
    identity: str
    container: str = ""
    # The pod whose log explains it, and whether that is the container's previous instance.
    pod: str = ""
    previous: bool = False
    # Seconds, where the case is more or less certain than its reason usually is.
    tolerance: float | None = None
    # A new attempt is under way: the clock goes on, but nothing is certain before it has ended.
    held: bool = False
    # Somebody is at work on it, as an autoscaler is: until that has ended, no time is counted.
    stopped: bool = False
    # Nothing is certain before this moment (s, monotonic): what is known is of before the wait, and
    # the next attempt is still to come.
    until: float | None = None
    # When it came about (s, monotonic), where that is known.
    at: float | None = None
    # What owns the object, where another of the same owner may come to have the same problem.
    family: str = ""
    # The reason of what it comes from, where that is known: what cures that cures it.
    cause: str = ""
    # The object's API group, where there are kinds of the same name.
    group: str = ""

    def is_certain_at(self, now: float) -> bool:
        """Say whether it would be a failure, had it lasted for long enough."""
        waits = self.until is not None and now < self.until
        return not (self.held or self.stopped or waits)

    @property
    def rank(self) -> int:
        """How well it explains what goes wrong beside it, the best first."""
        return CAUSES_FIRST.index(self.reason) if self.reason in CAUSES_FIRST else 99

    @property
    def kin(self) -> tuple[str, str, str]:
        """What a problem has in common with that of the pod that had it before."""
        return self.reason, self.family, self.container

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same problem as one seen before."""
        return self.reason, self.identity, self.container


class _Lasting(t.NamedTuple):
    """A problem that lasts: since when, since when it is certain, and when it was last seen."""

    since: float
    sure: float | None
    seen: float
    kin: tuple[str, str, str]


class Tracker:
    """Remembers since when each problem lasts, and says which have outlasted their tolerance."""

    def __init__(self, tolerances: t.Mapping[str, float] | None = None) -> None:
        self._given = dict(tolerances or {})
        self._lasting: dict[tuple[str, str, str], _Lasting] = {}

    def tolerance(self, problem: Problem) -> float:
        """Return for how many seconds this problem is tolerated."""
        if problem.reason in self._given:
            return self._given[problem.reason]
        return DEFAULTS[problem.reason] if problem.tolerance is None else problem.tolerance

    def observe(
        self,
        problems: t.Sequence[Problem],
        now: float,
        alive: t.Container[str] = frozenset(),
        well: t.Container[str] = frozenset(),
    ) -> tuple[list[Problem], float | None]:
        """Take what is wrong now; return what is a failure, and when (s) the next one would be.

        alive are the identities of the objects that are still there: their problems do not move on
        to others. well are those that are as they should be: their problems are over at once.
        """
        self._lasting = self._go_on(problems, now, alive, well)
        failures = []
        deadlines = []
        for problem in problems:
            if problem.held or problem.stopped:
                continue
            lasting = self._lasting[problem.key]
            sure = now if lasting.sure is None else lasting.sure
            due = max(lasting.since + self.tolerance(problem), sure + CONFIRMATION)
            if problem.until is not None:
                due = max(due, problem.until)
            if now >= due:
                failures.append(problem)
            elif due != UNTIL_TIMEOUT:
                deadlines.append(due)
        return failures, min(deadlines, default=None)

    def _go_on(
        self,
        problems: t.Sequence[Problem],
        now: float,
        alive: t.Container[str],
        well: t.Container[str],
    ) -> dict[tuple[str, str, str], _Lasting]:
        # Of two that are the same, what is certain of one is certain.
        uncertain_first = sorted(problems, key=lambda problem: problem.is_certain_at(now))
        seen = {problem.key: problem for problem in uncertain_first}
        lost = {
            key: lasting
            for key, lasting in self._lasting.items()
            if key not in seen and key[1] not in well and now - lasting.seen <= LAPSE
        }
        moved: dict[tuple[str, str, str], float] = {}
        for key, lasting in lost.items():
            if lasting.kin[1] and key[1] not in alive:
                moved[lasting.kin] = min(lasting.since, moved.get(lasting.kin, lasting.since))
        for key, problem in seen.items():
            before = self._lasting.get(key)
            since = before.since if before else moved.get(problem.kin, now)
            sure = before.sure if before and before.sure is not None else now
            lost[key] = _Lasting(
                now if problem.stopped else since,
                sure if problem.is_certain_at(now) else None,
                now,
                problem.kin,
            )
        return lost

    def restart(self, now: float) -> None:
        """Count every problem from now on: what was known was not certain for a while."""
        self._lasting = {
            key: lasting._replace(since=now, sure=now, seen=now)
            for key, lasting in self._lasting.items()
        }
