#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_begin
short_description: Take the release lock, and note which release begins
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Takes a lock, a Lease in the namespace of the release. Of any number of runs that try at the
    same moment, one gets it. M(mlops.mlflow.release_end) gives it back.
  - A lock that another holds is never taken before it is over. It is over when its holder has not
    renewed it for as long as it said it would hold, or can be seen to be dead. The failure names
    the holder, since when it holds the lock, and what to type.
  - Whether a lock is over is told from the API server's clock, with 5 seconds to spare for several
    API servers, or from having seen the lock unchanged for all of its time. The clocks of the hosts
    that run this module do not matter.
  - With O(release), it then notes under that lock that this release begins, in the ConfigMap
    C(mlflow-releases). So it is known of one that was interrupted, or failed, that it was never
    finished. What cannot be noted does not begin, and the lock is given back.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  name:
    description: Name of the Lease.
    type: str
    default: mlflow-release
  holder:
    description:
      - The run that has the lock already, as RV(holder) of the task that took it. The lock is
        renewed then, and it is a failure if this holder does not have it any more.
      - If not given, the lock is taken by a new holder, which is named after the user, the host,
        O(run) and a random number.
    type: str
  run:
    description: What takes the lock, in a few words, such as C(AWX job 12). A part of the name.
    type: str
    default: ""
  ttl:
    description:
      - For how many seconds the lock is held without being renewed. Must be longer than any step
        that does not renew it.
    type: int
    default: 120
  wait:
    description: For how many seconds to wait for a lock that another holds. V(0) fails at once.
    type: int
    default: 0
  release:
    description:
      - The release that begins, as M(mlops.mlflow.release_render) returned it, without
        C(secret_definitions). It is noted unless it is the newest already.
    type: dict
  backup:
    description: The backup taken before this release, as M(mlops.mlflow.backup_info) has it.
    type: dict
  back_to:
    description: The number of the release that this one goes back to, in a rollback.
    type: int
attributes:
  check_mode:
    description: Can run in check mode, and says what is so without changing anything.
    details: Says who holds the lock, and neither waits nor fails if anybody does.
    support: full
  action:
    description: Has an action plugin of the same name.
    details: It shows on standard error which lock is being waited for.
    support: full
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.release
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.release_end
  - module: mlops.mlflow.release_look
"""

EXAMPLES = r"""
# Private to this collection: its roles are the examples.
"""

RETURN = r"""
holder:
  description: Who holds the lock now; empty if nobody does.
  returned: success
  type: str
  sample: ann@controller (AWX job 12) 5f0c9d1e
lease:
  description: What the modules that work under the lock take as C(lease).
  returned: success
  type: dict
  sample: {holder: ann@controller 5f0c9d1e, name: mlflow-release, namespace: mlflow, ttl: 120}
"""

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import AUTH_ARG_SPEC, Api
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import Failure, full_stop
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.module import Module
from ansible_collections.mlops.mlflow.plugins.module_utils._release.lock import DEFAULT_TTL, NAME
from ansible_collections.mlops.mlflow.plugins.module_utils._release.progress import (
    progress_from_environment,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.turn import begin


def main() -> None:
    """Entry point."""
    spec = dict(AUTH_ARG_SPEC)
    spec.update(
        namespace={"type": "str", "required": True},
        name={"type": "str", "default": NAME},
        holder={"type": "str"},
        run={"type": "str", "default": ""},
        ttl={"type": "int", "default": DEFAULT_TTL},
        wait={"type": "int", "default": 0},
        release={"type": "dict"},
        backup={"type": "dict"},
        back_to={"type": "int"},
    )
    module = Module(argument_spec=spec, supports_check_mode=True)
    for name, least in (("ttl", 5), ("wait", 0)):
        if module.params[name] < least:
            module.fail_json(msg=f"{name} must be {least} or more.")
    try:
        progress = progress_from_environment()
        module.exit_json(**begin(Api.of(module), module.params, module.check_mode, progress))
    except Failure as error:
        module.fail_json(msg=full_stop(error))


if __name__ == "__main__":
    main()
