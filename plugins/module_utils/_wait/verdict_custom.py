# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts on custom resources, by the conditions that they commonly have."""

from __future__ import annotations

from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Clock,
    Object,
    State,
    condition,
    wall_seconds,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_terms import (
    PROGRESSING,
    READY,
    Rules,
    Verdict,
    one_line,
    problem_of,
    unobserved,
)

# Conditions by which custom resources commonly say that they are done, the best first.
_READY_CONDITIONS = ("Ready", "Available", "Programmed", "Established", "Accepted")


def judge_custom(item: Object, state: State, clock: Clock, rules: Rules) -> Verdict:
    """Judge any other object by the standard conditions, as kstatus does."""
    status = item.get("status") or {}
    generation = int(item["metadata"].get("generation") or 0)
    if "observedGeneration" in status and int(status["observedGeneration"] or 0) < generation:
        return unobserved(item)
    stalled = condition(item, "Stalled", "True")
    if stalled:
        text = str(stalled.get("message") or stalled.get("reason") or "its controller gave up")
        message = f"{item['kind']} {item['metadata']['name']} is stalled: {text}"
        return Verdict(PROGRESSING, "stalled", (problem_of(item, "progress_deadline", message),))
    working = condition(item, "Reconciling", "True")
    if working:
        return Verdict(PROGRESSING, one_line(str(working.get("message") or "reconciling")))
    for kind in _READY_CONDITIONS:
        found = condition(item, kind)
        if found is None:
            continue
        text = one_line(str(found.get("message") or found.get("reason") or ""))
        if int(found.get("observedGeneration") or generation) < generation:
            return unobserved(item)
        if found.get("status") == "True":
            return Verdict(READY, text or kind.lower())
        return Verdict(PROGRESSING, f"not {kind.lower()}" + (f": {text}" if text else ""))
    if status.get("conditions"):
        return Verdict(READY, "has no condition that says ready")
    # Nobody has written a status yet: a controller may be about to, or there is none.
    created = wall_seconds(item["metadata"].get("creationTimestamp"))
    left = rules.settle - (clock.wall - created) if created is not None else 0.0
    if left > 0:
        return Verdict(PROGRESSING, "has no status yet", recheck=left)
    return Verdict(READY, "has no status to wait for")
