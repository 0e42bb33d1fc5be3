#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_lock
short_description: Let only one run at a time work on a release
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Takes, renews and gives back a lock, a Lease in the namespace of the release. Of any number of
    runs that try at the same moment, one gets it.
  - A lock that another holds is never taken before it is over, that is before its holder has not
    renewed it for as long as it said it would hold. The failure names the holder, since when it
    holds the lock, and what to type.
  - Whether a lock is over is told from the API server's clock, with 5 seconds to spare for several
    API servers, or from having seen the lock unchanged for all of its time. The clocks of the hosts
    that run this module do not matter.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  namespace:
    description: The namespace of the release. It must exist.
    type: str
    required: true
  name:
    description: Name of the Lease.
    type: str
    default: mlflow-release
  state:
    description:
      - V(present) takes the lock, or renews it if O(holder) has it already.
      - V(renewed) renews it, and fails if O(holder) does not have it any more.
      - V(absent) gives it back, if O(holder) still has it.
    type: str
    choices: [present, renewed, absent]
    default: present
  holder:
    description:
      - Who holds the lock, as RV(holder) of the task that took it. Another value is another holder.
      - Required if O(state) is not V(present). If not given, it is made of the user, the host,
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
requirements:
  - kubernetes >= 24.2.0
attributes:
  check_mode:
    description: Can run in check mode, and says what is so without changing anything.
    details: Says whether the lock is free, and neither waits nor fails if it is not.
    support: full
  diff_mode:
    description: Has nothing to compare.
    support: none
  action:
    description: Has an action plugin of the same name.
    details: It shows on standard error which lock is being waited for.
    support: full
  platform:
    description: Needs Python and a network; nothing of the operating system.
    platforms: posix
    support: full
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.wait_for_rollout
  - module: mlops.mlflow.wait_for_mlflow
"""

EXAMPLES = r"""
- name: Work on a release alone
  block:
    - name: Take the lock, waiting ten minutes for another run
      mlops.mlflow.release_lock:
        namespace: mlflow-production
        wait: 600
      register: lock

    - name: Wait, and keep the lock meanwhile
      mlops.mlflow.wait_for_rollout:
        namespace: mlflow-production
        resources:
          - kind: Deployment
            name: mlflow
        lease: "{{ lock.lease }}"
  always:
    - name: Give the lock back
      mlops.mlflow.release_lock:
        namespace: mlflow-production
        state: absent
        holder: "{{ lock.holder }}"
      when: lock.holder is defined
"""

RETURN = r"""
holder:
  description: Who holds the lock now; empty if nobody does.
  returned: success
  type: str
  sample: ann@controller (AWX job 12) 5f0c9d1e
lease:
  description: What the waiting modules take as O(mlops.mlflow.wait_for_rollout#module:lease).
  returned: success
  type: dict
  sample: {holder: ann@controller 5f0c9d1e, name: mlflow-release, namespace: mlflow, ttl: 120}
"""

import getpass
import secrets
import socket
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import (
    AUTH_ARG_SPEC,
    Api,
    ApiError,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.lock import (
    DEFAULT_TTL,
    NAME,
    Lease,
    LeaseError,
    through_an_outage,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.progress import (
    progress_from_environment,
)


def new_holder(run: str) -> str:
    """Return a name for this run that no other run has."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A container's user may have no name.
        user = "unknown"
    words = f" ({run})" if run else ""
    return f"{user}@{socket.gethostname()}{words} {secrets.token_hex(4)}"


def lock(cluster: Api, params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Do what the state asks; return the result."""
    holder = params["holder"] or new_holder(params["run"])
    where = (params["namespace"], params["name"])
    lease = Lease(cluster, *where, holder, params["ttl"])
    changed = False
    if params["state"] == "absent":
        changed = through_an_outage(lambda: lease.release(write=not check_mode))
        held = ""
    elif check_mode:
        there = lease.look()
        held = there.holder if there else ""
    else:
        if params["state"] == "renewed":
            through_an_outage(lease.renew)
        else:
            lease.acquire(params["wait"], progress_from_environment())
            changed = True
        held = holder
    return {
        "changed": changed,
        "holder": held,
        "lease": {
            "name": where[1],
            "namespace": where[0],
            "holder": held,
            "ttl": params["ttl"],
        },
    }


def main() -> None:
    """Entry point."""
    spec = dict(AUTH_ARG_SPEC)
    spec.update(
        namespace={"type": "str", "required": True},
        name={"type": "str", "default": NAME},
        state={"type": "str", "choices": ["present", "renewed", "absent"], "default": "present"},
        holder={"type": "str"},
        run={"type": "str", "default": ""},
        ttl={"type": "int", "default": DEFAULT_TTL},
        wait={"type": "int", "default": 0},
    )
    module = AnsibleModule(
        argument_spec=spec,
        supports_check_mode=True,
        required_if=[("state", "renewed", ["holder"]), ("state", "absent", ["holder"])],
    )
    for name, least in (("ttl", 5), ("wait", 0)):
        if module.params[name] < least:
            module.fail_json(msg=f"{name} must be {least} or more.")
    try:
        result = lock(Api.of(module), module.params, module.check_mode)
    except (ApiError, LeaseError) as error:
        module.fail_json(msg=f"{error}.")
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
