# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gc removes is older than any backup that is kept."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.mlops.mlflow.plugins.plugin_utils._checks.retention import check

Object = dict[str, t.Any]


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
    for age in ("14d", "30d", "13d24h"):
        assert check(release(age)) == ("", "")


def test_what_a_kept_backup_refers_to_may_not_go() -> None:
    found = check(release("7d")).problem
    assert found.startswith("mlflow_gc_older_than: ")
    assert "mlflow_backup_keep_days keeps backups longer (14 days)" in found
    # The longer one counts.
    assert check(release("7d", MLOPS_GC_AT_LEAST="14d")) == ("", "")


def test_the_number_that_is_kept_counts_as_well() -> None:
    for schedule in ("17 2 * * *", "@daily"):
        found = check(release("30d", keep=60, schedule=schedule)).problem
        assert "mlflow_backup_keep keeps backups longer (60 backups, one a day)" in found
    # Several a day, and so less than that many days.
    assert check(release("30d", keep=60, schedule="0 */6 * * *")) == ("", "")


@pytest.mark.parametrize("schedule", ["0 3 * * 0", "0 3 1 * *", "@monthly", "0 3 * * mon-fri"])
def test_a_schedule_that_may_be_rarer_is_warned_of(schedule: str) -> None:
    found = check(release("30d", keep=8, schedule=schedule))
    assert found.problem == ""
    assert "8 backups are kept (mlflow_backup_keep)" in found.warning
    assert schedule in found.warning


@pytest.mark.parametrize("missing", [1, 2])
def test_one_without_the_other_is_no_matter(missing: int) -> None:
    objects = release("0s")
    del objects[missing]
    assert check(objects) == ("", "")
