# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show what a waiting module waits for, on the controller's terminal, while it waits.

A module cannot speak before it ends. It writes lines of progress into a file that this names in
its environment, and they are shown on standard error, so that a JSON result on standard output
stays readable for programs. Only where the module runs on the controller itself, as the same user:
elsewhere the file could not be read.
"""

from __future__ import annotations

import os
import tempfile
import threading
import typing as t

from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible_collections.mlops.mlflow.plugins.module_utils._progress import VARIABLE

# Also known to module_utils/_lease.py, which needs the Kubernetes client to be imported.
RUN_VARIABLE = "MLOPS_MLFLOW_RUN"

# Seconds between two looks into the file.
_LOOK_EVERY = 0.3


class ProgressAction(NormalAction):
    """Runs the module of the same name, and shows its progress."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Run the module as ever, with a second thread that shows what it writes."""
        if not self._is_here():
            return t.cast(dict[str, t.Any], super().run(tmp, task_vars))
        with tempfile.TemporaryDirectory(prefix="mlops-mlflow-") as folder:
            path = os.path.join(folder, "progress")
            with open(path, "w", encoding="utf-8"):
                pass
            # A worker's parent is ansible-playbook itself: a module that outlives it can tell.
            told = {VARIABLE: path, RUN_VARIABLE: str(os.getppid())}
            self._task.environment = [*(self._task.environment or []), told]
            ended = threading.Event()
            shower = threading.Thread(target=self._show, args=(path, ended), daemon=True)
            shower.start()
            try:
                return t.cast(dict[str, t.Any], super().run(tmp, task_vars))
            finally:
                ended.set()
                shower.join(2)

    def _is_here(self) -> bool:
        """Say whether the module runs on this host, as this user, while we wait for it."""
        return (
            self._connection.transport == "local"
            and not self._connection.become
            and not self._task.async_val
        )

    def _show(self, path: str, ended: threading.Event) -> None:
        with open(path, encoding="utf-8") as lines:
            rest = ""
            while True:
                over = ended.wait(_LOOK_EVERY)
                *whole, rest = (rest + lines.read()).split("\n")
                for line in whole:
                    self._display.display(f"  {line}", stderr=True)
                if over:
                    return
