"""Kills ansible-playbook with SIGKILL before its task number N, as a machine that dies does.

MLFLOW_TEST_KILL_AT: the number of the task, from 1 on, or what its name begins with; left out,
nothing is killed.
MLFLOW_TEST_TASKS: a file into which the names of the tasks are written, one a line, as they start.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: kill_at
type: notification
short_description: Kill ansible-playbook at a task
description: For the tests of what an interrupted run leaves.
requirements:
  - E(MLFLOW_TEST_KILL_AT) and E(MLFLOW_TEST_TASKS), either or both
"""


class CallbackModule(CallbackBase):
    """Counts tasks."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "kill_at"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._count = 0
        self._at = os.environ.get("MLFLOW_TEST_KILL_AT", "")
        self._file = os.environ.get("MLFLOW_TEST_TASKS", "")

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Count, and end everything when the time has come."""
        self._count += 1
        # Without the role.
        name = task.get_name().rpartition(" : ")[2]
        if self._file:
            with open(self._file, "a", encoding="utf-8") as file:
                file.write(f"{name}\n")
        here = self._count == int(self._at) if self._at.isdigit() else name.startswith(self._at)
        if self._at and here:
            # Not a signal that could be handled: what this process was about to do, nobody does.
            os.kill(os.getpid(), signal.SIGKILL)
