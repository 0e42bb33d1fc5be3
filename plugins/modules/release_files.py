#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_files
short_description: Write a release as plain files, for Argo CD and Flux
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Writes what M(mlops.mlflow.release_render) returned, a folder for each stage, into a folder of
    the controller. Secrets are left out.
  - Objects have Argo CD's sync waves. The file C(flux.yml) has Flux's Kustomizations, each of which
    waits for the one before it.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  release:
    description: The result of M(mlops.mlflow.release_render).
    type: dict
    required: true
  to:
    description: The folder. It is made if it is not there.
    type: path
    required: true
  flux_source:
    description: The name of Flux's GitRepository.
    type: str
    default: flux-system
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
files:
  description: Which files were written or removed, below the folder.
  returned: success
  type: list
  elements: str
  sample: [server/objects.yml]
path:
  description: The folder.
  returned: success
  type: str
  sample: /srv/git/clusters/production/mlflow
"""
