# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests use of Ansible, as each ansible-core has it that the collection supports."""

from __future__ import annotations

import contextlib
import json
import typing as t
from pathlib import Path

from ansible.module_utils import basic
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

try:
    from ansible.module_utils.testing import patch_module_args
except ImportError:  # before 2.19

    @contextlib.contextmanager
    def patch_module_args(
        arguments: dict[str, t.Any] | None = None,
    ) -> t.Iterator[None]:
        """Let a module find its arguments."""
        before = basic._ANSIBLE_ARGS
        basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments or {}}).encode()
        try:
            yield
        finally:
            basic._ANSIBLE_ARGS = before


__all__ = ["holds", "load", "patch_module_args"]


def load(path: Path) -> t.Any:
    """Return a file of YAML, whose strings are templates."""
    loader = DataLoader()
    try:
        return loader.load_from_file(str(path), trusted_as_template=True)
    except TypeError:  # before 2.19 all are
        return loader.load_from_file(str(path))


def holds(templar: Templar, condition: t.Any) -> bool:
    """Return whether a condition of a task is met."""
    if hasattr(templar, "evaluate_conditional"):
        return bool(templar.evaluate_conditional(condition))
    return bool(templar.template(f"{{{{ ({condition}) | bool }}}}"))
