# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the age of what gc removes against that of the oldest backup which is kept.

A restored database refers to artifacts as of its day. What gc removed since then is gone.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import kustomization

_KEEP = 14
_DAY = 86400
# At one time of each day; and at any times of each day.
_ONCE_A_DAY = re.compile(r"\d+ \d+ \* \* \*|@daily|@midnight")
_EACH_DAY = re.compile(r"\S+ \S+ \* \* \*|@hourly|@daily|@midnight")
_AGE = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def seconds_of(age: str) -> int | None:
    """Return an age such as 30d or 1d12h in seconds, or None if it is none."""
    match = _AGE.fullmatch(age)
    if not age or match is None:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def _environment(objects: list[kustomization.Object], name: str) -> dict[str, str]:
    item = kustomization.find(objects, "CronJob", name)
    found: dict[str, str] = {}
    for container in kustomization.pod_of(item).get("containers") or []:
        found.update(kustomization.environment(objects, container))
    return found


class Found(t.NamedTuple):
    """What is wrong, and what may be: a line each, or nothing."""

    problem: str = ""
    warning: str = ""


def check(objects: list[kustomization.Object]) -> Found:
    """Hold gc against backups, naming both settings."""
    taken = kustomization.find(objects, "CronJob", kustomization.BACKUP)
    gc = kustomization.find(objects, "CronJob", kustomization.GC)
    if taken is None or gc is None:
        return Found()
    ages = [
        seconds_of(value)
        for name in ("MLOPS_GC_OLDER_THAN", "MLOPS_GC_AT_LEAST")
        if (value := _environment(objects, kustomization.GC).get(name))
    ]
    if not ages or None in ages:
        return Found()
    age = max(one for one in ages if one is not None) / _DAY
    settings = _environment(objects, kustomization.BACKUP)
    keep = int(settings.get("BACKUP_KEEP", _KEEP))
    days = float(settings.get("BACKUP_KEEP_DAYS", _KEEP))
    schedule = str(taken["spec"]["schedule"])
    variable, why = "mlflow_backup_keep_days", f"{days:g} days"
    if _ONCE_A_DAY.fullmatch(schedule) and keep > days:
        variable, why, days = "mlflow_backup_keep", f"{keep} backups, one a day", keep
    removed = f"mlflow_gc_older_than: gc removes the artifacts of what was deleted {age:g} days ago"
    if age < days:
        return Found(
            f"{removed}, and {variable} keeps backups longer ({why}): a restored one would refer "
            "to artifacts that are gone. Raise the one or lower the other"
        )
    if _EACH_DAY.fullmatch(schedule):
        return Found()
    return Found(
        warning=f"{removed}. {keep} backups are kept (mlflow_backup_keep), and their schedule, "
        f"{schedule}, may be rarer than one a day: an older one refers to artifacts that are gone."
    )
