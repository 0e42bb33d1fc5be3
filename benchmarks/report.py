# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From measured figures to the table: pure functions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile: a value that was measured, none in between."""
    if not values:
        raise ValueError("there is nothing to take a percentile of")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table. Figures are in `unit`; a peer's None means that it never ended."""

    what: str
    against: str
    goal: str
    ours: tuple[float, ...]
    peer: tuple[float | None, ...]
    met: bool
    unit: str = "s"
    note: str = ""


def spread(values: Sequence[float | None], unit: str) -> str:
    """Return p50 and p95 in words a table holds."""
    ended = [value for value in values if value is not None]
    if not values:
        return "—"
    if not ended:
        return "never"
    # More than any that ended.
    filled = [math.inf if value is None else value for value in values]
    shown = [percentile(filled, 50), percentile(filled, 95)]
    words = ["never" if math.isinf(value) else _number(value, unit) for value in shown]
    return words[0] if words[0] == words[1] else f"{words[0]} / {words[1]}"


def _number(value: float, unit: str) -> str:
    if unit in ("requests", "%"):
        return f"{value:.0f}"
    if unit == "ms":
        return f"{value:.0f} ms"
    return f"{value:.2f} {unit}"


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, with the notes below it."""
    lines = [
        "| what | against | goal | ours, p50 / p95 | theirs, p50 / p95 | n | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.what} | {row.against} | {row.goal} | {spread(row.ours, row.unit)} "
            f"| {spread(row.peer, row.unit)} | {len(row.ours)} | {'yes' if row.met else '**no**'} |"
        )
    notes = [f"- {row.what}: {row.note}" for row in rows if row.note]
    return "\n".join([*lines, "", *notes, ""] if notes else [*lines, ""])


BEGIN = "<!-- make bench writes from here -->"
END = "<!-- to here -->"
_NEW = f"# Benchmarks\n\n{BEGIN}\n{END}\n"


def page(before: str, rows: Sequence[Row], machine: dict[str, Any]) -> str:
    """Return the page with these figures; what people wrote around them stays."""
    head, begin, rest = (before or _NEW).partition(BEGIN)
    _old, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no place for the figures, between {BEGIN} and {END}")
    facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    return f"{head}{BEGIN}\n\n{facts}.\n\n{table(rows)}\n{END}{tail}"
