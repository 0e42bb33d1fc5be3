# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: build
short_description: Run long builds once for their inputs, showing progress
version_added: 0.1.0
author:
  - mlops.mlflow contributors (@mlops-mlflow)
description:
  - Runs a command on the controller unless the result of the very same build is in the cache.
  - The same build means the same command, environment and contents of O(inputs).
  - The result becomes visible in one step, when the command has succeeded. An interrupted build
    is done again.
  - While the command runs, a line every fifteen seconds says for how long, and what it does.
  - With O(builds), several run side by side. Each entry takes the other options but O(cache_dir).
options:
  name:
    description: The name of the build, used for its folder in the cache and in the output.
    type: str
  builds:
    description:
      - Builds to run. Those of one lane run one after another, the lanes side by side.
      - C({path:NAME}) and C({image:NAME}) in a command stand for the result of an earlier entry,
        which is waited for.
      - When one fails, the others are ended.
    type: list
    elements: dict
  lane:
    description: The lane that the build is in, by default one of its own.
    type: str
  takes:
    description: Seconds that the build takes on two quiet cores, for the estimate of what is left.
    type: float
    default: 0.0
  steps:
    description: A command that prints one word for each line that the build will print.
    type: list
    elements: str
    default: []
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
builds:
  description: With O(builds), the values below for each of them, by name.
  returned: when O(builds) is given
  type: dict
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
