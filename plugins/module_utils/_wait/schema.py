# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the schema helper's verdict, a JSON object that says how a database and an image agree.

C({"tracking": {"state": "behind", "current": "…", "head": "…"}, "auth": {…}})
"""

from __future__ import annotations

import json
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import words_of

Verdict = dict[str, t.Any]

# Where the pods of a release have it.
HELPER = "/opt/mlops-mlflow/schema.py"

# The failure's reason for each state, in the order in which they explain a failure best.
REASONS = {
    "denied": "database_denied",
    "unreachable": "database_unreachable",
    "unknown": "schema_unknown",
    "ahead": "schema_ahead",
    "partial": "schema_partial",
    "behind": "schema_behind",
    "empty": "schema_behind",
}
# What a migration that is still to come or under way can change.
MIGRATABLE = frozenset({"schema_behind", "schema_partial"})

_WORDS = {
    # Not "… password: …", which would be taken for a secret and masked with what follows.
    "denied": "it does not let MLflow in",
    "unreachable": "Postgres does not answer",
    "unknown": "its revision is not known to this image",
    "ahead": "it was migrated by a newer MLflow",
    "partial": "its tables and its revision do not fit together",
    "behind": "it has not been migrated to this image's revision",
    "empty": "it has no tables yet",
}


def parse(text: str | None) -> Verdict | None:
    """Return the verdict in a text (whole, or its last line that is one), or None."""
    if not text or '"state"' not in text:
        return None
    for candidate in (text, *reversed(text.strip().splitlines())):
        try:
            value = json.loads(candidate)
        except ValueError:
            continue
        if _is_verdict(value):
            return t.cast(Verdict, value)
    return None


def _is_verdict(value: t.Any) -> bool:
    if not isinstance(value, dict):
        return False
    tracking = value.get("tracking")
    return isinstance(tracking, dict) and isinstance(tracking.get("state"), str)


def helper_runs_in(pod: dict[str, t.Any], init: bool) -> str:
    """Return the name of the container, or init container, in which the helper runs now, or ''."""
    statuses, containers = (
        ("initContainerStatuses", "initContainers") if init else ("containerStatuses", "containers")
    )
    running = {
        status.get("name")
        for status in (pod.get("status") or {}).get(statuses) or []
        if (status.get("state") or {}).get("running") is not None
    }
    for container in (pod.get("spec") or {}).get(containers) or []:
        if container.get("name") in running and HELPER in words_of(container):
            return str(container["name"])
    return ""


def at_head(verdict: Verdict) -> bool:
    """Say whether every database in the verdict is at its head."""
    return all(entry.get("state") == "at_head" for _name, entry in _databases(verdict))


def explain(verdict: Verdict) -> tuple[str, str] | None:
    """Return the failure's reason and a sentence for it, or None when all is at head."""
    found: tuple[int, str, str] | None = None
    order = list(REASONS)
    for name, entry in _databases(verdict):
        state = entry.get("state")
        if state == "at_head" or state not in REASONS:
            continue
        rank = order.index(state)
        if found is None or rank < found[0]:
            found = (rank, REASONS[state], _sentence(name, entry))
    return found[1:] if found else None


def under_way(verdict: Verdict) -> str:
    """Say which database is being brought to its schema at this moment, or nothing.

    The init container initialises an empty one by itself; what is being migrated says so.
    """
    for name, entry in _databases(verdict):
        detail = str(entry.get("detail") or "")
        if entry.get("state") == "empty" or "migrated now" in detail:
            return f"the {name} database is {detail or 'empty, and about to be initialised'}"
    return ""


def _databases(verdict: Verdict) -> list[tuple[str, dict[str, t.Any]]]:
    return [
        (name, verdict[name])
        for name in ("tracking", "auth")
        if isinstance(verdict.get(name), dict)
    ]


def _sentence(name: str, entry: dict[str, t.Any]) -> str:
    state = str(entry.get("state"))
    text = f"the {name} database is {state}: {_WORDS[state]}"
    if state not in ("denied", "unreachable") and (entry.get("current") or entry.get("head")):
        text += f" (revision {entry.get('current') or 'none'}, this image's is {entry.get('head')})"
    detail = str(entry.get("detail") or "").strip()
    return f"{text}: {detail.splitlines()[0]}" if detail else text
