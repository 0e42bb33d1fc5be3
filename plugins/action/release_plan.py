# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of mlops.mlflow.release_plan; the module of that name documents it."""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.plugin_utils._release.local import (
    LocalAction,
    Result,
)
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


class ActionModule(LocalAction):
    """Put a plan together; it touches nothing."""

    OPTIONS = _OPTIONS

    def answer(self, arguments: Result, task_vars: Result) -> Result:
        """Plan."""
        return {**plan(Facts(**arguments))}
