#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_end
short_description: Note that a release serves, and give the release lock back
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - With O(release), notes that it serves. The ConfigMap C(mlflow-releases) keeps the last five
    releases of a namespace, with images, the schema each one left, the backup that was taken
    before it, and, compressed, what it applied. Secrets are never among that.
  - Then gives the lock back that M(mlops.mlflow.release_begin) took. A lock that is another's by
    now is left alone.
  - A run that has lost its lock notes nothing. What cannot be noted is a failure, and the lock is
    still held then.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  release:
    description:
      - The release that serves, as M(mlops.mlflow.release_render) returned it, without
        C(secret_definitions).
      - If not given, only the lock is given back.
    type: dict
  schema:
    description: The state of the databases, as M(mlops.mlflow.wait_for_mlflow) returns it.
    type: dict
  lease:
    description: The release lock, as M(mlops.mlflow.release_begin) returns it.
    required: true
requirements:
  - kubernetes >= 24.2.0
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.lease
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.release_begin
  - module: mlops.mlflow.release_render
"""

EXAMPLES = r"""
# Private to this collection: its roles are the examples.
"""

RETURN = r"""
holder:
  description: Empty, as this run does not hold the lock any more.
  returned: success
  type: str
lease:
  description: The lock, with nobody as its holder. What is done under it after that fails.
  returned: success
  type: dict
  sample: {holder: "", name: mlflow-release, namespace: mlflow, ttl: 120}
"""

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import AUTH_ARG_SPEC, Api
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import Failure, full_stop
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.module import Module
from ansible_collections.mlops.mlflow.plugins.module_utils._release.lock import LEASE_ARG_SPEC
from ansible_collections.mlops.mlflow.plugins.module_utils._release.turn import end


def main() -> None:
    """Entry point."""
    spec = dict(AUTH_ARG_SPEC)
    spec.update(
        release={"type": "dict"},
        schema={"type": "dict"},
        lease={**LEASE_ARG_SPEC, "required": True},
    )
    module = Module(argument_spec=spec, supports_check_mode=True)
    try:
        module.exit_json(**end(Api.of(module), module.params, module.check_mode))
    except Failure as error:
        module.fail_json(msg=full_stop(error))


if __name__ == "__main__":
    main()
