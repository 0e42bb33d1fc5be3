# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reckon how old the oldest kept backup may be, and hold the age of what gc removes against it.

A restored database refers to artifacts as of its day. What gc removed since then is gone.
"""

from __future__ import annotations

import datetime
import math
import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import kustomization

_KEEP = 14
_DAY = 86400
_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# Long enough to see every gap of a schedule, a leap day aside.
_FROM = datetime.date(2025, 1, 1)
_DAYS = 2 * 366
_AGE = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def seconds_of(age: str) -> int | None:
    """Return an age such as 30d or 1d12h in seconds, or None if it is none."""
    match = _AGE.fullmatch(age)
    if not age or match is None:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def _number(text: str, names: t.Sequence[str], least: int) -> int:
    return names.index(text.lower()) + least if text.lower() in names else int(text)


def _values(field: str, least: int, most: int, names: t.Sequence[str] = ()) -> set[int]:
    """Return the values that a field of a schedule stands for; raise ValueError if it has none."""
    found: set[int] = set()
    for part in field.split(","):
        span, _slash, step = part.partition("/")
        if span in ("*", "?"):
            first, last = least, most
        else:
            begin, dash, end = span.partition("-")
            first = _number(begin, names, least)
            last = _number(end, names, least) if dash else (most if step else first)
        found.update(range(first, last + 1, int(step or 1)))
    if not found or min(found) < least or max(found) > most:
        raise ValueError(field)
    return found


def _runs_by_day(schedule: str) -> list[int]:
    """Return how often a schedule comes round on each day from _FROM on."""
    minute, hour, day, month, weekday = _NAMED.get(schedule, schedule).split()
    each = len(_values(minute, 0, 59)) * len(_values(hour, 0, 23))
    days, months = _values(day, 1, 31), _values(month, 1, 12, _MONTHS)
    # Sunday is 0 and 7.
    weekdays = {value % 7 for value in _values(weekday, 0, 7, _WEEKDAYS)}
    # As cron has it: where both say something, either is enough.
    either = day not in ("*", "?") and weekday not in ("*", "?")
    found = []
    for number in range(_DAYS):
        date = _FROM + datetime.timedelta(days=number)
        by_day, by_weekday = date.day in days, date.isoweekday() % 7 in weekdays
        fits = (by_day or by_weekday) if either else (by_day and by_weekday)
        found.append(each if fits and date.month in months else 0)
    return found


def days_of(schedule: str, keep: int) -> float:
    """Return how many days old the oldest of so many backups may be, just before the next."""
    runs = [
        number
        for number, times in enumerate(_runs_by_day(schedule))
        # More of them than are kept say no more about it.
        for _time in range(min(times, keep + 1))
    ]
    if len(runs) <= keep:
        return math.inf
    return max(runs[index + keep] - runs[index] for index in range(len(runs) - keep))


def _environment(objects: list[kustomization.Object], name: str) -> dict[str, str]:
    item = kustomization.find(objects, "CronJob", name)
    found: dict[str, str] = {}
    for container in kustomization.pod_of(item).get("containers") or []:
        for source in container.get("envFrom") or []:
            config = (source.get("configMapRef") or {}).get("name")
            data = (kustomization.find(objects, "ConfigMap", str(config)) or {}).get("data") or {}
            found.update({key: str(value) for key, value in data.items()})
        for entry in container.get("env") or []:
            if "value" in entry:
                found[entry["name"]] = str(entry["value"])
    return found


def problem_of(objects: list[kustomization.Object]) -> str:
    """Return what is wrong between gc and backups, naming both settings, or an empty string."""
    taken = kustomization.find(objects, "CronJob", kustomization.BACKUP)
    gc = kustomization.find(objects, "CronJob", kustomization.GC)
    if taken is None or gc is None:
        return ""
    ages = [
        seconds_of(value)
        for name in ("MLOPS_GC_OLDER_THAN", "MLOPS_GC_AT_LEAST")
        if (value := _environment(objects, kustomization.GC).get(name))
    ]
    if not ages or None in ages:
        return ""
    settings = _environment(objects, kustomization.BACKUP)
    keep = int(settings.get("BACKUP_KEEP", _KEEP))
    days = float(settings.get("BACKUP_KEEP_DAYS", _KEEP))
    variable, why = "mlflow_backup_keep_days", f"{days:g} days"
    try:
        by_number = days_of(str(taken["spec"]["schedule"]), keep)
    except ValueError:
        # Kubernetes is the one to say what it makes of such a schedule.
        by_number = 0.0
    if by_number > days:
        variable = "mlflow_backup_keep"
        why = f"{keep} backups of the schedule {taken['spec']['schedule']}"
        why += f", {by_number:g} days" if by_number != math.inf else ", years"
        days = by_number
    age = max(one for one in ages if one is not None)
    if age >= days * _DAY:
        return ""
    return (
        f"mlflow_gc_older_than: gc removes the artifacts of what was deleted {age / _DAY:g} days "
        f"ago, and {variable} keeps backups longer ({why}): a restored one would refer to "
        "artifacts that are gone. Raise the one or lower the other"
    )
