#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_objects
short_description: Write objects with kubernetes.core.k8s, while the release lock is held
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Renews the release lock, and runs M(kubernetes.core.k8s) with all other options within the same
    task. Where the lock is another's by now, nothing is written and the task fails.
  - An action plugin runs it on the controller; both modules run where the task does.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  state:
    description: As of M(kubernetes.core.k8s).
    type: str
    choices: [present, absent, patched]
    default: present
  definition:
    description: As of M(kubernetes.core.k8s).
    type: raw
  api_version:
    description: As of M(kubernetes.core.k8s).
    type: str
  kind:
    description: As of M(kubernetes.core.k8s).
    type: str
  name:
    description: As of M(kubernetes.core.k8s).
    type: str
  namespace:
    description: As of M(kubernetes.core.k8s).
    type: str
  label_selectors:
    description: As of M(kubernetes.core.k8s).
    type: list
    elements: str
  apply:
    description: As of M(kubernetes.core.k8s).
    type: bool
  server_side_apply:
    description: As of M(kubernetes.core.k8s).
    type: dict
  delete_options:
    description: As of M(kubernetes.core.k8s).
    type: dict
  wait:
    description: As of M(kubernetes.core.k8s).
    type: bool
  wait_sleep:
    description: As of M(kubernetes.core.k8s).
    type: int
  wait_timeout:
    description: As of M(kubernetes.core.k8s).
    type: int
requirements:
  - kubernetes >= 24.2.0
attributes:
  check_mode:
    description: As M(kubernetes.core.k8s), and the lock is not looked at.
    support: full
  diff_mode:
    description: As M(kubernetes.core.k8s).
    support: full
  action:
    description: Is an action plugin.
    support: full
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.lease
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: kubernetes.core.k8s
  - module: mlops.mlflow.release_begin
"""

EXAMPLES = r"""
# Private to this collection: its roles are the examples.
"""

RETURN = r"""
result:
  description: As of M(kubernetes.core.k8s).
  returned: success
  type: dict
"""
