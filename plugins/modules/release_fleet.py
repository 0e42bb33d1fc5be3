#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_fleet
short_description: Keep account of many releases in one run
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - What the playbooks of this collection do before, around and after the work on each release.
  - Before, it finds the releases that a run is about, and refuses what cannot be meant - an unknown
    name in C(--limit), a target that matches nothing, two hosts that are one release.
  - Around each, it takes the time, and begins no further release when too many of a wave failed.
  - After all, it returns a table with a line for each.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  state:
    description:
      - V(chosen) finds the releases. V(begun) begins one, V(ended) says how it went.
      - V(reported) returns the table, V(judged) fails if this release failed or was not begun.
    type: str
    choices: [chosen, begun, ended, reported, judged]
    required: true
  target:
    description: The pattern of hosts that was asked for. Empty means all of the play.
    type: str
    default: ""
  targets:
    description: The hosts that the pattern matches.
    type: list
    elements: str
    default: []
  chosen:
    description: What V(chosen) has returned.
    type: dict
    default: {}
  begun:
    description: What V(begun) has returned.
    type: dict
    default: {}
  max_fail_percentage:
    description: How many percent of a wave may fail before no further release is begun.
    type: float
    default: 99.0
  version:
    description: The version of MLflow, for the table.
    type: str
    default: ""
  outcome:
    description: How it went, in a word, if it went well.
    type: str
    default: done
  error:
    description: The result of the task that failed, if one did.
    type: dict
    default: {}
attributes:
  action:
    description: Runs on the controller.
    support: full
  platform:
    description: Needs Python; nothing of the operating system.
    platforms: posix
    support: full
extends_documentation_fragment:
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.release_variables
"""

EXAMPLES = r"""
# Private to this collection: its roles are the examples.
"""

RETURN = r"""
run:
  description: A word that no other run has. What has another one is not of this run.
  returned: with O(state=chosen), O(state=begun) and O(state=ended)
  type: str
releases:
  description: The hosts that are the releases of this run.
  returned: with O(state=chosen)
  type: list
  elements: str
go:
  description: Whether this release is to be begun.
  returned: with O(state=begun)
  type: bool
reason:
  description: Why it is not, or why it failed.
  returned: with O(state=begun) and O(state=ended)
  type: str
outcome:
  description: How it went, in a word.
  returned: with O(state=ended)
  type: str
  sample: unchanged
msg:
  description:
    - The table, one line a release, and the reasons; a list of lines, or, where results are shown
      as YAML, a text.
  returned: with O(state=reported)
  type: raw
"""
