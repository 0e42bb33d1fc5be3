#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: diagnose
short_description: Say how an MLflow in a namespace is, whoever deployed it, and what to do
version_added: 0.1.0
description:
  - Finds the MLflow servers in a namespace by what their containers run, whatever deployed them (a
    Helm chart, an operator, plain manifests, this collection), and what belongs to them, such as
    their database, volumes and migrations.
  - Says of each object whether it is ready, on its way or failed, why, for how long, what the log
    says and what to do, by the same judgement as M(mlops.mlflow.wait_for_mlflow).
  - Looks once and writes nothing. A bad state is a result, not a failure of the module.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
options:
  namespace:
    description: The namespace to look into.
    type: str
    required: true
  ask:
    description:
      - Whether to ask the servers themselves, through a port-forward of the API server, for their
        health, their version and something out of their database, and the schema helper where it is
        mounted.
      - Without the permissions for it, the rest is said all the same, and that this is missing.
    type: bool
    default: true
  tolerances:
    description:
      - For how many seconds each kind of problem may last before it is called failed, by its name,
        as in M(mlops.mlflow.wait_for_rollout).
      - The time counts from when the problem began, as far as the API tells.
    type: dict
    default: {}
  settle:
    description:
      - For how many seconds a container without a readiness probe must have run before it counts
        as ready.
    type: float
    default: 10
  log_lines:
    description: In how many of the last lines of a failed container's log to look for the cause.
    type: int
    default: 50
requirements:
  - kubernetes >= 24.2.0
notes:
  - "The account needs the verb C(list) in the namespace on C(pods) and, as far as it is to see more
    than these, on C(persistentvolumeclaims) and C(events) of the core group, C(deployments),
    C(replicasets), C(statefulsets), C(daemonsets) and C(controllerrevisions) of C(apps), and
    C(jobs) of C(batch). The role C(view) of Kubernetes has all of these, and C(get) on C(pods/log)
    for the log."
  - O(ask=true) uses C(get) and C(create) on C(pods/portforward) and, with the schema helper of this
    collection, on C(pods/exec).
  - What the account may not see is named in RV(notes).
  - Passwords, tokens and keys that are recognised are masked.
seealso:
  - module: mlops.mlflow.wait_for_mlflow
  - module: mlops.mlflow.wait_for_rollout
"""

EXAMPLES = r"""
- name: Say how MLflow is
  mlops.mlflow.diagnose:
    namespace: data-science
  register: diagnosis

- name: Show it
  ansible.builtin.debug:
    msg: "{{ diagnosis.report }}"

- name: Go on only with a healthy MLflow
  ansible.builtin.assert:
    that: diagnosis.healthy
    fail_msg: "{{ diagnosis.msg }}"
"""

RETURN = r"""
healthy:
  description: Whether there is an MLflow server, and everything that belongs to it is ready.
  returned: success
  type: bool
  sample: false
status:
  description:
    - V(ready), V(progressing), V(failed), or V(empty) if there is no MLflow server.
    - The worst status of all objects.
  returned: success
  type: str
  sample: failed
objects:
  description: Each object of the MLflow, in the order in which they depend on each other.
  returned: success
  type: list
  elements: dict
  contains:
    role:
      description: V(server), V(database), V(migration), V(volume), V(job) or V(other).
      type: str
      sample: server
    kind:
      description: The object's kind.
      type: str
      sample: Deployment
    name:
      description: The object's name.
      type: str
      sample: tracking
    namespace:
      description: The object's namespace.
      type: str
      sample: data-science
    deployed_by:
      description: Who deployed it, as its labels and owners tell, or null.
      type: str
      sample: Helm (chart mlflow-1.8.1, release tracking)
    status:
      description: V(ready), V(progressing) or V(failed).
      type: str
      sample: failed
    message:
      description: What is wrong with it, or how it is.
      type: str
      sample: container mlflow of pod tracking-6d5-x2x7k ended with exit code 1, restarted 5 times
    reason:
      description: The name of the problem, as in M(mlops.mlflow.wait_for_rollout), or null.
      type: str
      sample: crash_loop
    container:
      description: The container at fault, or null.
      type: str
      sample: mlflow
    seconds:
      description: For how long it has been so, as far as the API tells, or null.
      type: int
      sample: 3600
    log:
      description: The line of the container's log that says most, or null.
      type: str
      sample: 'FATAL:  password authentication failed for user "mlflow"'
    hint:
      description: What to do, or null.
      type: str
      sample: Give MLflow the user and password that the database has
    serving:
      description: How many pods of a server that is a Deployment serve, of whichever revision.
      type: int
      sample: 2
    wanted:
      description: How many there should be.
      type: int
      sample: 2
servers:
  description: What each server answered, or its schema helper while it waits, by its name.
  returned: success
  type: dict
  sample: {"Deployment/tracking": {"version": "3.17.2", "schema": null}}
notes:
  description: What could not be seen, and why.
  returned: success
  type: list
  elements: str
  sample: ["events (the account may not list events)"]
report:
  description: All of it as lines for people, the failed objects first.
  returned: success
  type: list
  elements: str
msg:
  description: All of it in one line.
  returned: always
  type: str
"""

import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import (
    AUTH_ARG_SPEC,
    Api,
    ApiError,
    CredentialsError,
    require_libraries,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.module import Module
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.report import Diagnosis
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.engine import api_message
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import DEFAULTS


def argument_spec() -> dict[str, t.Any]:
    """Return the module's options."""
    return {
        **AUTH_ARG_SPEC,
        "namespace": {"type": "str", "required": True},
        "ask": {"type": "bool", "default": True},
        "tolerances": {"type": "dict", "default": {}},
        "settle": {"type": "float", "default": 10},
        "log_lines": {"type": "int", "default": 50},
    }


def check_options(module: Module) -> None:
    """End the module on an option that cannot be meant."""
    if not module.params["namespace"].strip():
        module.fail_json(msg="namespace: is empty; name the namespace to look into.")
    tolerances = module.params["tolerances"]
    for name, value in tolerances.items():
        if name not in DEFAULTS:
            known = ", ".join(DEFAULTS)
            module.fail_json(msg=f"tolerances: {name} is not known; known are {known}.")
        try:
            tolerances[name] = float(value)
        except (TypeError, ValueError):
            tolerances[name] = -1.0
        if not 0 <= tolerances[name] < float("inf"):
            module.fail_json(msg=f"tolerances: {name} must be a number of seconds, 0 or more.")
    for name in ("settle", "log_lines"):
        if not 0 <= module.params[name] < 10**7:
            module.fail_json(msg=f"{name} must be 0 or more.")


def main() -> None:
    """Run the module."""
    module = Module(argument_spec=argument_spec(), supports_check_mode=True)
    require_libraries(module)
    check_options(module)
    try:
        api = Api({name: module.params.get(name) for name in AUTH_ARG_SPEC})
    except CredentialsError as error:
        module.fail_json(msg=str(error))
    try:
        result = Diagnosis(api, module.params, module.known()).run()
    except ApiError as error:
        module.fail_json(msg=api_message(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
