#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: build
short_description: Run a long build once for its inputs, showing progress
version_added: 0.1.0
author:
  - mlops.mlflow contributors (@mlops-mlflow)
description:
  - Runs a command on the controller unless the result of the very same build is in the cache.
  - The same build means the same command, environment and contents of O(inputs).
  - The result becomes visible in one step, when the command has succeeded. An interrupted build
    is done again.
  - While the command runs, a line every fifteen seconds says for how long, and what it does.
options:
  name:
    description: The name of the build, used for its folder in the cache and in the output.
    type: str
    required: true
  cache_dir:
    description: The folder that holds results, logs and work in progress.
    type: path
    required: true
  command:
    description:
      - The program and its arguments.
      - It finds an empty folder for its result in the environment variable E(OUT), and one for
        its own work in E(WORK).
      - C({image}) in an argument stands for the image's full name.
    type: list
    elements: str
    required: true
  environment:
    description: Environment variables for the command, on top of the controller's.
    type: dict
    default: {}
  inputs:
    description: Files and folders whose contents decide whether the result is current.
    type: list
    elements: path
    default: []
  image:
    description:
      - For a build that makes a container image, the start of its name.
      - The digest of the inputs is added to it.
    type: str
  image_exists:
    description:
      - A command that ends with 0 when the image that is added to it as last argument exists.
    type: list
    elements: str
attributes:
  check_mode:
    description: Can run in check mode and say whether it would build, without building.
    support: full
  diff_mode:
    description: Shows nothing in diff mode.
    support: none
  action:
    description: Has an action plugin of the same name, which runs on the controller.
    support: full
seealso:
  - name: The role kind_cluster
    description: Uses it to build what no registry serves.
    link: https://github.com/mlops-mlflow/mlops.mlflow/tree/main/dev/roles/kind_cluster
"""

EXAMPLES = r"""
- name: Build kustomize
  build:
    name: kustomize
    cache_dir: ~/.cache/mlops-mlflow
    command: [go, build, -o, kustomize, .]
    inputs: [go.mod, go.sum]
"""

RETURN = r"""
digest:
  description: Names the build by all that goes into it.
  returned: always
  type: str
  sample: 3fa1c2d4e5f60718
path:
  description: The folder with the result.
  returned: always
  type: str
image:
  description: The image's full name, or null when O(image) was not given.
  returned: always
  type: str
elapsed:
  description: Seconds that the build took, 0 when there was nothing to do.
  returned: always
  type: float
"""
