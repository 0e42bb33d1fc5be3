# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses a run of which Ansible would skip everything, and call that a success."""

from __future__ import annotations

DOCUMENTATION = r"""
name: release_hosts
short_description: The hosts of the first play, or why there can be none
version_added: 0.1.0
author:
  - mlops.mlflow contributors (@mlops-mlflow)
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Ansible works out the hosts of a play before it skips the first task. So this refuses what no
    task could refuse, a start in the middle and a limit of which nothing is left.
options:
  _terms:
    description: The hosts that are meant.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Find the releases that are meant
  hosts: "{{ lookup('mlops.mlflow.release_hosts', 'all') }}"
"""

RETURN = r"""
_raw:
  description: The hosts that are meant.
  type: list
  elements: str
"""

import typing as t

from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase


def refused(hosts: str, options: t.Mapping[str, t.Any]) -> str:
    """Return why a run with these options of ansible-playbook does nothing, or nothing."""
    task, limit = options.get("start_at_task"), str(options.get("subset") or "")
    if task:
        return (
            f"--start-at-task {task}: would leave out checks, or the lock. Run all of it: a run "
            "goes on where the one before it was cut off. Nothing was written."
        )
    if hosts == "localhost" and limit not in ("", "localhost"):
        return f"--limit {limit}: there is no inventory to choose from. Name one with -i."
    return ""


class LookupModule(LookupBase):
    """Passes the hosts on, or fails."""

    def run(
        self, terms: list[str], variables: dict[str, t.Any] | None = None, **_options: t.Any
    ) -> list[str]:
        """Return the terms; raise AnsibleError where nothing would be done."""
        problem = refused(terms[0], context.CLIARGS)
        if problem:
            raise AnsibleError(problem)
        return terms
