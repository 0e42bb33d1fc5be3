# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The helper's progress is read by who waits for it, with no code in common."""

from __future__ import annotations

from types import ModuleType

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.migration import unreachable_in

REFUSED = 'connection to server at "postgres" (10.96.1.2), port 5432 failed: Connection refused'


def test_a_database_that_cannot_be_reached_is_read_in_the_last_line(
    schema: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {"MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg2://u@nowhere/mlflow"}
    helper = schema.Helper(environment)
    verdict = schema.Verdict("unreachable", None, "dc11669786a5", REFUSED)
    helper.say_verdicts({"tracking": verdict, "auth": verdict}, "more words")
    entry = {"state": "unreachable", "detail": REFUSED}
    line = capsys.readouterr().err.splitlines()[-1]
    assert unreachable_in(line) == {"tracking": entry, "auth": entry}
    helper.say_verdicts({"tracking": schema.Verdict("behind", "a", "b")})
    assert unreachable_in(capsys.readouterr().err.splitlines()[-1]) == {}
