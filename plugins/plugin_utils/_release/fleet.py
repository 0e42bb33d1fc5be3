# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many releases in one run: which are meant, when to stop, and how each went.

All of it is pure: from what Ansible knows of its hosts to lines for a person.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._wait.hints import telling_line

# A name without anything that makes a pattern of it.
_PLAIN = re.compile(r"[\w.-]+")
_COLUMNS = ("name", "namespace", "version", "outcome", "seconds", "reason")
_WIDEST_REASON = 160
# With the two lines of a release's table, eight.
MOST_LINES = 6


class Outcome(t.TypedDict):
    """How one release went."""

    run: str
    name: str
    namespace: str
    version: str
    outcome: str
    seconds: int | None
    reason: str
    message: str


class Wave(t.NamedTuple):
    """How one wave goes: its releases, and those of them that failed."""

    hosts: t.Sequence[str]
    failed: t.Sequence[str]


def unknown_in(limit: str, known: t.Collection[str]) -> list[str]:
    """Return the plain names of a --limit that are neither hosts nor groups."""
    parts = [part.strip().lstrip("!&") for part in re.split(r"[,:]", limit)]
    return [part for part in parts if _PLAIN.fullmatch(part) and part not in known]


def alike(values: t.Mapping[str, t.Any]) -> list[tuple[list[str], t.Any]]:
    """Return the hosts that have the same value, and that value, where more than one has it."""
    found: dict[str, tuple[list[str], t.Any]] = {}
    for host, value in values.items():
        found.setdefault(repr(value), ([], value))[0].append(host)
    return [(hosts, value) for hosts, value in found.values() if len(hosts) > 1]


def stopped_by(waves: t.Iterable[Wave], percentage: float) -> str:
    """Return why no further release is begun, or nothing: some wave had too many failures."""
    for wave in waves:
        if wave.hosts and 100 * len(wave.failed) / len(wave.hosts) > percentage:
            return (
                f"not begun: {len(wave.failed)} of {len(wave.hosts)} failed in one wave "
                f"({', '.join(sorted(wave.failed))}), more than {percentage:g} %"
            )
    return ""


def message_of(result: t.Mapping[str, t.Any]) -> str:
    """Return why a task failed, in few lines, unless it is not to be seen."""
    if result.get("_ansible_no_log") or result.get("censored"):
        return "a task failed whose result is hidden (no_log)"
    failure = result.get("failure")
    if isinstance(failure, t.Mapping) and failure.get("reason"):
        return "\n".join(_report(failure))
    text = str(result.get("msg") or "a task failed without a message").strip()
    lines = [line.rstrip() for line in text.splitlines()]
    if len(lines) > MOST_LINES:
        left = len(lines) - MOST_LINES + 1
        lines = [*lines[: MOST_LINES - 1], f"and {left} more lines, above, where the task failed"]
    return "\n".join(lines)


def _report(failure: t.Mapping[str, t.Any]) -> list[str]:
    """Return a verdict: reason, object, container, what it says, its log, and what to type."""
    where = "/".join(str(failure[key]) for key in ("kind", "name") if failure.get(key))
    container = f", container {failure['container']}" if failure.get("container") else ""
    lines = [f"{failure['reason']}: {where}{container}".rstrip(": ")]
    if failure.get("message"):
        lines = [f"{lines[0]}:", " ".join(str(failure["message"]).split())]
    log = telling_line([str(line) for line in failure.get("logs") or []]).strip()
    if log and log not in lines[-1]:
        lines.append(f"log: {log}")
    # Commands stand in lines of their own, so that they can be copied.
    hint = [line.strip() for line in str(failure.get("hint") or "").splitlines() if line.strip()]
    room = MOST_LINES - len(lines) - 1
    lines += hint if len(hint) <= room else [*hint[: room - 1], " ".join(hint[room - 1 :])]
    return [*lines, "With -v, the run prints the whole report where the task failed."]


def shorten(text: str) -> str:
    """Return the text as one line that is not too long for a table."""
    line = " ".join(text.split())
    if len(line) <= _WIDEST_REASON:
        return line
    return line[: _WIDEST_REASON - 3].rsplit(" ", 1)[0].rstrip(",;:. ") + "..."


def table(outcomes: t.Sequence[Outcome]) -> list[str]:
    """Return one line a release, under a line of headings."""
    rows = [list(_COLUMNS)]
    for outcome in outcomes:
        seconds = outcome["seconds"]
        rows.append(
            [
                outcome["name"],
                outcome["namespace"] or "-",
                outcome["version"] or "-",
                outcome["outcome"],
                "-" if seconds is None else str(seconds),
                outcome["reason"],
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def ending(outcomes: t.Sequence[Outcome]) -> list[str]:
    """Return what a person sees last: the table, and why each release failed that did."""
    lines = table(outcomes)
    for outcome in outcomes:
        if outcome["message"] != outcome["reason"]:
            lines += ["", f"{outcome['name']}:"] if len(outcomes) > 1 else []
            lines += outcome["message"].splitlines()
    return lines
