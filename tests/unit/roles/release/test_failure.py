"""What a failed migration ends with: what serves, the reason, and what to type, in six lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.mlops.mlflow.plugins.plugin_utils._release import fleet
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.any_core import load

TASKS = Path(__file__).resolve().parents[4] / "roles/release/tasks/explain_failure.yml"
ERROR = "job_failed: Job/x:\nit ends with exit code 1\nlog: boom\nSee its log:\nmore\nWith -v"
SCHEMA = {"tracking": {"state": "ahead", "current": "dc11", "head": "b7e2"}}
AT_HEAD = {"tracking": {"state": "at_head", "current": "dc11", "head": "dc11"}}


@pytest.mark.parametrize(
    ("old", "words"),
    [
        ({"skipped": True}, "The migration failed. No version of MLflow was in service before."),
        (
            {"ready": True, "schema": None},
            "The migration failed. The old version still serves.",
        ),
        # Where all is well with it, it is no news.
        (
            {"ready": True, "schema": AT_HEAD},
            "The migration failed. The old version still serves.",
        ),
        (
            {"ready": False, "msg": "timeout", "schema": SCHEMA},
            "The migration failed. For the version in service, the tracking database is ahead "
            "(revision dc11, its own is b7e2). The old version was left in place and does not "
            "serve: timeout",
        ),
    ],
)
def test_a_failed_migration_is_explained(old: dict[str, Any], words: str) -> None:
    loader = DataLoader()
    task = load(TASKS)[-1]
    variables = {
        **task["vars"],
        "__release_failed": "The migration failed",
        "__release_error": ERROR,
        "__release_old": old,
        "release_difference": {"record": {"releases": [1]}},
    }
    said = Templar(loader=loader, variables=variables).template(task["ansible.builtin.fail"]["msg"])
    assert said.splitlines() == [
        words,
        *ERROR.splitlines()[:4],
        "Correct the cause and run this again. Or go back: playbooks/rollback.yml",
    ]
    # All of it is seen at the end.
    assert fleet.message_of({"msg": said}) == said
