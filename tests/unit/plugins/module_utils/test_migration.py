# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A migration that runs, and waits for a database that is not there."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import DEPLOYMENT, JOB
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow import migration
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import schema
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import Target

NOWHERE = 'could not translate host name "nowhere" to address: (really) not known'
REFUSED = 'connection to server at "postgres" (10.96.1.2), port 5432 failed: Connection refused'
JOB_TARGET = Target(JOB, "ns", "migrate")


class Logs:
    """An API of which only the last line of a log is asked."""

    def __init__(self, *lines: str, status: int = 0) -> None:
        self.lines = list(lines)
        self.status = status
        self.asked = 0

    def logs(self, *_where: t.Any) -> list[str]:
        self.asked += 1
        if self.status:
            raise ApiError(self.status, "no")
        return self.lines


def pod(state: str = "running", command: str = schema.HELPER) -> dict[str, t.Any]:
    return {
        "metadata": {"name": "migrate-a", "namespace": "ns", "uid": "p"},
        "spec": {"containers": [{"name": "migrate", "command": ["python3", command, "migrate"]}]},
        "status": {"containerStatuses": [{"name": "migrate", "state": {state: {}}}]},
    }


def learn(api: Logs, target: Target = JOB_TARGET, **of_pod: str) -> t.Any:
    return migration.what_it_waits_for(t.cast(t.Any, api))({target: ({}, [pod(**of_pod)])})


@pytest.mark.parametrize("detail", [NOWHERE, REFUSED])
@pytest.mark.parametrize("more", ["", " · auth unreachable, head f1 (" + REFUSED + ")"])
def test_what_it_waits_for_is_a_problem_of_its_own(detail: str, more: str) -> None:
    result = learn(Logs(f"  10.8 s  tracking unreachable, head dc11669786a5 ({detail}){more}"))
    (problem,) = result.problems
    assert (problem.reason, problem.container, problem.pod) == (
        "database_unreachable",
        "migrate",
        "migrate-a",
    )
    assert problem.message.endswith(detail)
    # Its tolerance is the reason's: a database that comes back in time is no failure.
    assert problem.tolerance is None


def test_only_the_auth_database() -> None:
    line = f"   0.1 s  tracking at_head at dc11 · auth unreachable, head f1 ({REFUSED})"
    (problem,) = learn(Logs(line)).problems
    assert problem.message.startswith("the auth database is unreachable")


@pytest.mark.parametrize(
    "line",
    [
        "   0.5 s  tracking behind at b7e2c1a4d9f3, head dc11669786a5",
        "   0.5 s  tracking at_head at dc11669786a5",
        "   0.5 s  tracking done in 12.0 s",
        "INFO  [alembic.runtime.migration] Running upgrade a -> b, unreachable tables",
        "",
    ],
)
def test_what_goes_on_is_none(line: str) -> None:
    assert learn(Logs(line)) is None
    assert learn(Logs()) is None


def test_logs_that_may_not_be_read_are_no_failure() -> None:
    assert learn(Logs(status=403)) is None


def test_others_are_not_asked() -> None:
    api = Logs(f"tracking unreachable ({REFUSED})")
    assert learn(api, state="terminated") is None
    assert learn(api, command="/their/own.py") is None
    assert learn(api, target=Target(DEPLOYMENT, "ns", "mlflow")) is None
    assert api.asked == 0
