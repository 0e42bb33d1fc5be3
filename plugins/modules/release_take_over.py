#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_take_over
short_description: Take a release over from kubectl apply
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Moves the ownership of what C(kubectl apply) applied, on the client or with C(--server-side),
    to the field manager of this collection. Otherwise kubectl would go on owning every key, and a
    key that a manifest no longer has would never go away.
  - Does what kubectl itself does when it goes from one way of applying to the other. No field
    gets another value.
  - Also gives up a Deployment's C(replicas) that its new manifest leaves to an autoscaler, whoever
    applied them. Removed by the next apply, they would be 1 until the autoscaler has looked.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  stages:
    description: The objects by stage, as M(mlops.mlflow.release_render) returns them.
    type: dict
    required: true
attributes:
  diff_mode:
    description: No field changes its value.
    support: none
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.release
  - mlops.mlflow.lease
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.release_look
"""

EXAMPLES = r"""
# Private to this collection: its roles are the examples.
"""

RETURN = r"""
objects:
  description: The objects that were taken over or given up in part, as C(KIND/NAME).
  returned: success
  type: list
  elements: str
"""

import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.ownership import (
    identity,
    take_over_patch,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.work import module_of, working

_ATTEMPTS = 5


def take_over(cluster: Api, item: dict[str, t.Any], namespace: str, write: bool) -> bool:
    """Take one object over; whether there was anything to take."""
    path = cluster.path_of(item, namespace)
    name = "/".join(identity(item))
    for _attempt in range(_ATTEMPTS):
        there = cluster.find(path, name)
        if there is None:
            return False
        patch = take_over_patch(there, item)
        if not patch or not write:
            return bool(patch)
        done = cluster.request("PATCH", path, patch, None, "application/json-patch+json")
        if done.status == 200:
            return True
        if done.status != 409:
            raise ApiError(0, f"{name} cannot be taken over: {done.message}")
    raise ApiError(0, f"{name} cannot be taken over: others keep writing to it")


def main() -> None:
    """Entry point."""
    module = module_of(
        {
            "stages": {"type": "dict", "required": True},
        }
    )
    params = module.params
    with working(module) as (cluster, _progress):
        taken = [
            "/".join(identity(item))
            for items in params["stages"].values()
            for item in items
            if take_over(cluster, item, params["namespace"], not module.check_mode)
        ]
        module.exit_json(changed=bool(taken), objects=taken)


if __name__ == "__main__":
    main()
