# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of mlops.mlflow.release_objects; the module of that name documents it."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Run kubernetes.core.k8s, right after the lock was seen to be held."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Look at the lock, then write; see the module's documentation."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        lease = arguments.pop("lease", None)
        if lease and not self._task.check_mode:
            where = ("kubeconfig", "context")
            connection = {key: arguments[key] for key in where if key in arguments}
            held: dict[str, t.Any] = self._execute_module(
                module_name="mlops.mlflow.release_begin",
                module_args={**connection, **lease},
                task_vars=task_vars,
            )
            if held.get("failed"):
                return held
        written: dict[str, t.Any] = self._execute_module(
            module_name="kubernetes.core.k8s", module_args=arguments, task_vars=task_vars
        )
        return written
