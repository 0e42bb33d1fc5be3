# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the action plugins have in common that work on the controller alone."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

Result = dict[str, t.Any]


class LocalAction(ActionBase):
    """An action that checks its options and answers; it starts no process on a host."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False
    # As a module's argument_spec.
    OPTIONS: t.ClassVar[dict[str, dict[str, t.Any]]] = {}

    def answer(self, arguments: Result, task_vars: Result) -> Result:
        """Return the result, from the task's options and the variables in its scope."""
        raise NotImplementedError

    def run(self, tmp: str | None = None, task_vars: Result | None = None) -> Result:
        """Check the options; see the module's documentation for the result."""
        result: Result = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(argument_spec=self.OPTIONS)
        return {**result, "changed": False, **self.answer(arguments, task_vars or {})}
