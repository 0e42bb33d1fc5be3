# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gc removes is older than any backup that is kept."""

from __future__ import annotations

import math
import typing as t

import pytest
from ansible_collections.mlops.mlflow.plugins.plugin_utils._checks.retention import (
    days_of,
    problem_of,
)

Object = dict[str, t.Any]


@pytest.mark.parametrize(
    ("schedule", "keep", "days"),
    [
        ("17 2 * * *", 14, 14),
        ("@daily", 1, 1),
        # One more than are kept is the next, in whose place the oldest goes.
        ("0 */6 * * *", 4, 1),
        ("0 */6 * * *", 28, 7),
        ("@hourly", 24, 1),
        ("0 3 * * 0", 4, 28),
        ("0 3 * * 7", 4, 28),
        ("0 3 * * sun", 4, 28),
        ("0 3 * * mon-fri", 5, 7),
        ("0 3 * * 1-5", 1, 3),
        ("0 3 1 * *", 1, 31),
        ("@monthly", 12, 365),
        ("0 3 1,15 * *", 1, 17),
        # Either of the two, as cron has it.
        ("0 3 1 * 1", 1, 7),
        ("0 3 1 jan-jun *", 1, 214),
        ("0 3 */2 * *", 1, 2),
        ("@yearly", 5, math.inf),
    ],
)
def test_how_old_the_oldest_kept_backup_is(schedule: str, keep: int, days: float) -> None:
    assert days_of(schedule, keep) == days


@pytest.mark.parametrize("schedule", ["61 3 * * *", "0 3 * * x", "0 3", "0 3 0 * *", "0 3 5-2 * *"])
def test_what_is_no_schedule_is_said_so(schedule: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - which one, nobody asks
        days_of(schedule, 1)


def release(
    gc: str, keep: int = 14, days: int = 14, schedule: str = "17 2 * * *", **more: str
) -> list[Object]:
    settings = {"BACKUP_KEEP": str(keep), "BACKUP_KEEP_DAYS": str(days)}
    ages = {"MLOPS_GC_OLDER_THAN": gc, **more}

    def cron_job(name: str, container: Object, when: str) -> Object:
        template = {"spec": {"containers": [{"name": name, **container}]}}
        spec = {"schedule": when, "jobTemplate": {"spec": {"template": template}}}
        return {"kind": "CronJob", "metadata": {"name": name}, "spec": spec}

    source = [{"configMapRef": {"name": "mlflow-backup-1"}}]
    env = [{"name": name, "value": value} for name, value in ages.items()]
    return [
        {"kind": "ConfigMap", "metadata": {"name": "mlflow-backup-1"}, "data": settings},
        cron_job("mlflow-backup", {"envFrom": source}, schedule),
        cron_job("mlflow-gc", {"env": env}, "41 3 * * *"),
    ]


def test_what_is_older_may_go() -> None:
    assert problem_of(release("14d")) == ""
    assert problem_of(release("30d")) == ""
    assert problem_of(release("13d24h")) == ""


def test_what_a_kept_backup_refers_to_may_not_go() -> None:
    found = problem_of(release("7d"))
    assert found.startswith("mlflow_gc_older_than: ")
    assert "mlflow_backup_keep_days keeps backups longer (14 days)" in found
    # The longer one counts.
    assert problem_of(release("7d", MLOPS_GC_AT_LEAST="14d")) == ""


def test_the_number_that_is_kept_counts_as_well() -> None:
    found = problem_of(release("30d", keep=8, schedule="0 3 * * 0"))
    assert (
        "mlflow_backup_keep keeps backups longer (8 backups of the schedule 0 3 * * 0, 56" in found
    )
    assert "years" in problem_of(release("30d", schedule="@yearly"))


@pytest.mark.parametrize("missing", [1, 2])
def test_one_without_the_other_is_no_matter(missing: int) -> None:
    objects = release("0s")
    del objects[missing]
    assert problem_of(objects) == ""
