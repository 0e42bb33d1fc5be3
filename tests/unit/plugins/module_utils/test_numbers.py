# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The seconds that verdicts go by: what Kubernetes does, and what the documentation promises.

Each is stated a second time here, so that nobody changes one by a slip.
"""

from __future__ import annotations

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import (
    custom_rules,
    outcome,
    reasons,
    state,
    verdict_containers,
    verdict_jobs,
    verdict_pods,
    verdict_terms,
    verdict_volumes,
    verdict_workloads,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_terms import Rules

TOLERANCES = {
    "image_invalid": 0, "image_pull": 30, "config": 20, "sandbox": 60, "container_start": 30,
    "crash_loop": 0, "oom_killed": 0, "unschedulable": 60, "volume": 60, "quota_or_admission": 10,
    "rejected": 30, "blocked": 10, "job_failed": 0, "progress_deadline": 0, "schema_behind": 0,
    "schema_ahead": 0, "schema_unknown": 0, "schema_partial": 0, "database_unreachable": 30,
    "database_denied": 0, "http_unready": 30, "unauthorized": 0, "paused": 0, "not_found": 10,
}  # fmt: skip


def test_the_tolerances() -> None:
    assert TOLERANCES == reasons.DEFAULTS


def test_the_causes_come_first() -> None:
    """What explains the others is told: each reason has its place, a symptom the last."""
    assert reasons.CAUSES_FIRST == (
        "not_found", "quota_or_admission", "unschedulable", "rejected", "volume", "sandbox",
        "image_invalid", "image_pull", "config", "container_start", "oom_killed",
        "database_denied", "schema_unknown", "schema_ahead", "schema_partial", "schema_behind",
        "job_failed", "crash_loop", "paused", "blocked", "database_unreachable", "unauthorized",
        "http_unready", "progress_deadline",
    )  # fmt: skip
    assert set(reasons.CAUSES_FIRST) == set(TOLERANCES)


@pytest.mark.parametrize(
    ("what", "seconds"),
    [
        # The kubelet: its longest back-off, and from what run on there is none.
        (verdict_containers.LONGEST_PAUSE, 300),
        (state.LONG_RUN, 600),
        (verdict_containers.THIRD_TRY, 30),
        (verdict_volumes.MOUNT_PAUSE, 130),
        # The Job controller's pauses.
        (verdict_jobs._FIRST_PAUSE, 10),
        (verdict_jobs._LONGEST_PAUSE, 360),
        # How long what was before a wait is believed, and how late a kubelet may be.
        (verdict_terms.OLD_ENDING, 15),
        (verdict_terms.OLD_ATTEMPT, 60),
        (verdict_terms.LATE, 20),
        (verdict_workloads._JUST_BEFORE, 5),
        (verdict_volumes.MOUNT_SILENCE, 900),
        # Who is at work: provisioners, autoscalers, webhooks, quotas.
        (verdict_volumes.AT_WORK, 900),
        (verdict_volumes._SLOW_PROVISIONER, 300),
        (verdict_workloads._WEBHOOK_RETURNS, 30),
        (verdict_workloads._QUOTA_IS_FREED, 20),
        (verdict_workloads._LONGEST_RETRY, 300),
        (custom_rules.RETRIED, 30),
        (custom_rules.SEEN_LATER, 10),
        # What nothing probes.
        (Rules().settle, 10),
        (outcome.Options().settle, 10),
        (verdict_containers.OUTLAST, 2),
        (verdict_containers.UNKNOWN_RUN, 10),
        # What is named.
        (verdict_pods.IDLE, 15),
        (verdict_pods.LATE_TO_GO, 30),
        (verdict_pods.AGAIN_AND_AGAIN, 3),
        (reasons.CONFIRMATION, 0.25),
        (reasons.LAPSE, 10),
        (state.REPLACED_WITHIN, 10),
        (outcome.PODS_SHOWN, 5),
    ],
)
def test_each_number(what: float, seconds: float) -> None:
    assert what == seconds
