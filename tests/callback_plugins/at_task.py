"""Does something to the run, or to the cluster, before a task: what tests of faults need.

MLFLOW_TEST_AT: a JSON object. Each key is the number of a task, from 1 on, or what its name begins
with; its value a line for bash, which the task waits for, unless it ends in &. It is run once, at
the first such task. An empty line kills ansible-playbook with SIGKILL, as a machine that dies does.
MLFLOW_TEST_TASKS: a file into which the names of the tasks are written, one a line, as they start.
MLFLOW_TEST_EACH: a line for bash that is run before each task, which finds its number in TASK.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: at_task
type: notification
short_description: Run a command, or kill ansible-playbook, at a task
description: For the tests of what an interruption or a fault in the middle of a run leaves.
requirements:
  - E(MLFLOW_TEST_AT), E(MLFLOW_TEST_TASKS) and E(MLFLOW_TEST_EACH), any or all
"""


class CallbackModule(CallbackBase):
    """Counts tasks."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "at_task"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._count = 0
        self._lines: dict[str, str] = json.loads(os.environ.get("MLFLOW_TEST_AT") or "{}")
        self._file = os.environ.get("MLFLOW_TEST_TASKS", "")
        self._each = os.environ.get("MLFLOW_TEST_EACH", "")

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Count, and do what is to be done now."""
        self._count += 1
        # Without the role.
        name = task.get_name().rpartition(" : ")[2]
        if self._file:
            with open(self._file, "a", encoding="utf-8") as file:
                file.write(f"{name}\n")
        if self._each:
            self._run(self._each)
        for place in list(self._lines):
            here = self._count == int(place) if place.isdigit() else name.startswith(place)
            if here:
                self._do(place, self._lines.pop(place))

    def _do(self, place: str, line: str) -> None:
        if not line:
            # Not a signal that could be handled: what this process was about to do, nobody does.
            os.kill(os.getpid(), signal.SIGKILL)
        code = self._run(line)
        # A test looks for this line: a task that was renamed would not bring it.
        self._display.display(f"at_task: {place}: rc={code}")

    def _run(self, line: str) -> int:
        # Not this process's pipes: who reads them would wait for what is left in the background.
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            env={**os.environ, "TASK": str(self._count)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        ).returncode
