# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show what a waiting module waits for, on the controller's terminal, while it waits.

A module cannot speak before it ends. It writes lines of progress into a file that this names in
its environment, and they are shown on standard error, so that a JSON result on standard output
stays readable for programs. Where the module runs on another host or as another user, such as on a
jump host, the file is there, and a second connection of the same kind reads it.
"""

from __future__ import annotations

import copy
import os
import shlex
import tempfile
import threading
import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible.plugins.loader import connection_loader
from ansible_collections.mlops.mlflow.plugins.module_utils._release.progress import VARIABLE
from ansible_collections.mlops.mlflow.plugins.plugin_utils._release.fleet import message_of

# Also known to module_utils/_release/lock.py, which needs the Kubernetes client to be imported.
RUN_VARIABLE = "MLOPS_MLFLOW_RUN"
# Seconds between two looks into the file, here and on another host.
_LOOK_EVERY = 0.3
_LOOK_EVERY_THERE = 2.0
_MOST_AT_ONCE = 65536

Result = dict[str, t.Any]


class ProgressAction(NormalAction):
    """Runs the module of the same name, and shows its progress."""

    def run(self, tmp: str | None = None, task_vars: Result | None = None) -> Result:
        """Run the module as ever, with a second thread that shows what it writes."""
        if self._task.async_val:
            # Nobody waits for it here.
            return t.cast(Result, super().run(tmp, task_vars))
        here = self._connection.transport == "local" and not self._connection.become
        result = (self._run_here if here else self._run_there)(tmp, task_vars)
        ours = (task_vars or {}).get("ansible_collection_name") == "mlops.mlflow"
        if not result.get("failed") or not ours or self._task.failed_when:
            return result
        # Ansible prints the whole result of a task that failed. Nothing in our own roles reads it,
        # and a person wants to know why.
        brief = {"failed": True, "changed": False, "msg": message_of(result)}
        return {**result, **brief} if self._display.verbosity else brief

    def _run_here(self, tmp: str | None, task_vars: Result | None) -> Result:
        with tempfile.TemporaryDirectory(prefix="mlops-mlflow-") as folder:
            path = os.path.join(folder, "progress")
            with open(path, "w", encoding="utf-8"):
                pass
            # A worker's parent is ansible-playbook itself: a module that outlives it can tell.
            told = {VARIABLE: path, RUN_VARIABLE: str(os.getppid())}
            with open(path, encoding="utf-8") as lines:
                return self._run_and_show(tmp, task_vars, told, lines.read, _LOOK_EVERY)

    def _run_there(self, tmp: str | None, task_vars: Result | None) -> Result:
        reader = self._second_connection()
        path = self._make_file() if reader is not None else ""
        if reader is None or not path:
            return t.cast(Result, super().run(tmp, task_vars))
        try:
            read = _RemoteFile(reader, path).read
            return self._run_and_show(tmp, task_vars, {VARIABLE: path}, read, _LOOK_EVERY_THERE)
        finally:
            self._low_level_execute_command(f"rm -f {shlex.quote(path)}", sudoable=True)

    def _make_file(self) -> str:
        """Return a new file on the host of the module, of its user, or nothing."""
        made = self._low_level_execute_command("mktemp", sudoable=True)
        path = str(made.get("stdout") or "").strip()
        return path if made.get("rc") == 0 and path.startswith("/") else ""

    def _second_connection(self) -> NormalAction | None:
        """Return this action with a connection of its own, as another thread needs one."""
        ours = self._connection
        # A persistent connection belongs to a process of its own and is no shell.
        if ours.supports_persistence or ours.force_persistence:
            return None
        theirs = connection_loader.get(
            ours.ansible_name or ours.transport,
            self._play_context,
            task_uuid=self._task._uuid,
            ansible_playbook_pid=str(os.getppid()),
        )
        if theirs is None:
            return None
        # The values that were found for the first hold for the second.
        theirs._options = dict(ours._options)
        theirs.set_become_plugin(ours.become)
        theirs._shell = ours._shell
        reader = copy.copy(self)
        reader._connection = theirs
        return reader

    def _run_and_show(
        self,
        tmp: str | None,
        task_vars: Result | None,
        told: dict[str, str],
        read: t.Callable[[], str],
        every: float,
    ) -> Result:
        self._task.environment = [*(self._task.environment or []), told]
        ended = threading.Event()
        shower = threading.Thread(target=self._show, args=(read, every, ended), daemon=True)
        shower.start()
        try:
            return t.cast(Result, super().run(tmp, task_vars))
        finally:
            ended.set()
            shower.join(2)

    def _show(self, read: t.Callable[[], str], every: float, ended: threading.Event) -> None:
        rest = ""
        while True:
            over = ended.wait(every)
            try:
                *whole, rest = (rest + read()).split("\n")
            except (AnsibleError, OSError) as error:
                # The wait itself matters more than what it says meanwhile.
                self._display.vv(f"progress is not shown any more: {error}")
                return
            for line in whole:
                self._display.display(f"  {line}", stderr=True)
            if over:
                return


class _RemoteFile:
    """A file on the host of the module, read from where the last reading ended."""

    def __init__(self, action: NormalAction, path: str) -> None:
        self._action = action
        self._path = shlex.quote(path)
        self._at = 0

    def read(self) -> str:
        """Return what was added; raise AnsibleError if it cannot be read."""
        command = f"tail -c +{self._at + 1} {self._path} | head -c {_MOST_AT_ONCE}"
        done = self._action._low_level_execute_command(command, sudoable=True)
        if done.get("rc") != 0:
            raise AnsibleError(str(done.get("stderr") or "it cannot be read").strip())
        text = str(done.get("stdout") or "")
        # Only whole lines, of which a character at the end cannot be missing a byte.
        text = text[: text.rfind("\n") + 1]
        self._at += len(text.encode())
        return text
