# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of mlops.mlflow.release_plan; the module of that name documents it."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.mlops.mlflow.plugins.plugin_utils._release.plan import Facts, plan

_OPTIONS: dict[str, dict[str, t.Any]] = {
    "release": {"type": "dict", "required": True},
    "difference": {"type": "dict", "required": True},
    "credentials": {"type": "dict", "default": {}},
    "info": {"type": "dict", "default": {}},
    "connections": {"type": "dict", "default": {}},
    "strategy": {"type": "str", "choices": ["online", "offline"], "default": "online"},
    "backup": {"type": "bool", "default": False},
    "rehearsal": {"type": "dict", "default": {}},
    "prune": {"type": "bool", "default": True},
}


class ActionModule(ActionBase):
    """Put a plan together; it touches nothing."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Plan; see the module's documentation for the result."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(argument_spec=_OPTIONS)
        result.update(changed=False, **plan(Facts(**arguments)))
        return result
