#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_check
short_description: Refuse a render that cannot or must not be deployed
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Looks at what M(mlops.mlflow.release_render) returned. Development credentials are refused in
    staging and production; a render without an MLflow server, or with a pod that is told of a file
    which no volume brings, is refused everywhere.
  - Checks whether Postgres has enough connections for all servers, workers and stores, where the
    render brings both.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  stages:
    description: The objects by stage.
    type: dict
    required: true
  secrets:
    description: Names and marks of the rendered Secrets.
    type: list
    elements: dict
    default: []
  environment:
    description: The environment, such as V(production).
    type: str
    required: true
  allow_development_credentials:
    description: Let development credentials pass everywhere.
    type: bool
    default: false
  allow_anonymous:
    description: Let MLflow be reached from outside the cluster without a password of its own.
    type: bool
    default: false
  database_max_connections:
    description: How many connections a Postgres takes that is not in the render.
    type: int
attributes:
  action:
    description: Runs on the controller.
    support: full
extends_documentation_fragment:
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.release_render
"""

EXAMPLES = r"""
# Private to this collection: its roles are the examples.
"""

RETURN = r"""
msg:
  description: Everything that is wrong, one line each; or that nothing is.
  returned: always
  type: str
connections:
  description:
    - How many connections to Postgres all servers together may open (C(wanted)), how many there
      are (C(available), empty where that is not known), and the sum (C(formula)).
  returned: success
  type: dict
"""
