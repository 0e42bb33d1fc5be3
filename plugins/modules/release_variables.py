#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_variables
short_description: Find everything that is wrong with an inventory's variables
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Holds every variable in scope against the argument specs of the given roles and reports all
    problems in one message, before anything is written.
  - Finds unknown names that start with C(mlflow_) and suggests the one that was meant, values of
    the wrong type, values that cannot work, an overlay or component that is not there, and a
    kubeconfig that is missing or has no such context.
  - Refuses a run that leaves steps out by C(--tags) or C(--skip-tags).
  - The value of a secret is never part of a message.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  roles:
    description: Roles of this collection whose variables are checked.
    type: list
    elements: str
    required: true
  connection:
    description: Whether a cluster is needed, and so a kubeconfig that names one.
    type: bool
    default: true
  assume:
    description: Values of variables that are not set.
    type: dict
    default: {}
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
connection:
  description: Which cluster is meant, as options for the modules of kubernetes.core.
  returned: success
  type: dict
  sample: {kubeconfig: /home/me/.kube/config, context: production}
cluster:
  description: The same in words.
  returned: success
  type: str
overlay:
  description: The folder of the overlay.
  returned: success
  type: str
components:
  description: The folders of the components.
  returned: success
  type: list
  elements: str
namespace:
  description:
    - The namespace of the release as the inventory names it, or else the overlay. Empty if neither
      does; what M(mlops.mlflow.release_render) builds decides in the end.
  returned: success
  type: str
  sample: mlflow-production
identity:
  description:
    - Which release it is - a digest of the cluster, the namespace, and all that the build is made
      from, secrets apart. What was found for one is of no use for another.
  returned: success
  type: str
"""
