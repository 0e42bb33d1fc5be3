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
    "config": 5,
    "container_start": 20,
    "crash_loop": 0,
    "oom_killed": 0,
    "unschedulable": 60,
    "volume": 60,
    "quota_or_admission": 10,
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

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same problem as one seen before."""
        return self.reason, self.identity, self.container


class Tracker:
    """Remembers since when each problem lasts, and says which have outlasted their tolerance."""

    def __init__(self, tolerances: t.Mapping[str, float] | None = None) -> None:
        self._given = dict(tolerances or {})
        self._since: dict[tuple[str, str, str], float] = {}

    def tolerance(self, problem: Problem) -> float:
        """Return for how many seconds this problem is tolerated."""
        if problem.reason in self._given:
            return self._given[problem.reason]
        return DEFAULTS[problem.reason] if problem.tolerance is None else problem.tolerance

    def observe(
        self, problems: t.Sequence[Problem], now: float
    ) -> tuple[list[Problem], float | None]:
        """Take what is wrong now; return what is a failure, and when (s) the next one would be.

        A problem that is not among C(problems) is over: its clock starts anew if it comes back.
        """
        self._since = {problem.key: self._since.get(problem.key, now) for problem in problems}
        failures = []
        deadlines = []
        for problem in problems:
            if problem.held:
                continue
            due = self._since[problem.key] + max(CONFIRMATION, self.tolerance(problem))
            if now >= due:
                failures.append(problem)
            else:
                deadlines.append(due)
        return failures, min(deadlines, default=None)

    def restart(self, now: float) -> None:
        """Count every problem from now on: what was known was not certain for a while."""
        self._since = dict.fromkeys(self._since, now)
