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
    default: 5
  log_lines:
    description: In how many of the last lines of a failed container's log to look for the cause.
    type: int
    default: 50
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
  diff_mode:
    description: Has nothing to compare.
    support: none
  platform:
    description: Needs Python and a network; nothing of the operating system.
    platforms: posix
    support: full
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
servers:
  description: What each server answered, by its name.
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

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils import _diagnosis, _words
from ansible_collections.mlops.mlflow.plugins.module_utils._client import (
    AUTH_ARG_SPEC,
    Api,
    ApiError,
    CredentialsError,
    require_libraries,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._diagnosis import Finding
from ansible_collections.mlops.mlflow.plugins.module_utils._engine import api_message
from ansible_collections.mlops.mlflow.plugins.module_utils._find import (
    SERVER,
    find,
    has_helper,
    server_pod,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._kinds import (
    CLAIM,
    DAEMON_SET,
    DEPLOYMENT,
    EVENT,
    JOB,
    POD,
    REPLICA_SET,
    REVISION,
    STATEFUL_SET,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow import MlflowCheck, Server
from ansible_collections.mlops.mlflow.plugins.module_utils._redact import redact
from ansible_collections.mlops.mlflow.plugins.module_utils._state import Clock, Object, State
from ansible_collections.mlops.mlflow.plugins.module_utils._tolerances import DEFAULTS, Problem
from ansible_collections.mlops.mlflow.plugins.module_utils._verdict import (
    READY,
    Target,
    current_pods,
)

_KINDS = (DEPLOYMENT, REPLICA_SET, STATEFUL_SET, DAEMON_SET, REVISION, JOB, POD, CLAIM, EVENT)
# What has to be visible at least, for anything to be said.
_LEAST = {POD, DEPLOYMENT, STATEFUL_SET}


class Diagnosis:
    """One look into a namespace."""

    def __init__(self, api: Api, params: dict[str, t.Any]) -> None:
        self._api = api
        self._params = params
        self._namespace: str = params["namespace"]
        self._state = State()
        self._clock = Clock(0.0, 0.0)
        self._refused: list[ApiError] = []
        self.notes: list[str] = []

    def run(self) -> dict[str, t.Any]:
        """Look, and return the module's result; raise ApiError if nothing can be seen."""
        self._look()
        sees_claims = self._state.is_synced(CLAIM, self._namespace)
        found = find(self._state, self._namespace, sees_claims)
        findings = _diagnosis.examine(
            found, self._state, self._clock, self._params["tolerances"], self._params["settle"]
        )
        servers: dict[str, dict[str, t.Any]] = {}
        if self._params["ask"]:
            findings = [self._ask(finding, servers) for finding in findings]
        objects = [finding.as_dict(self._explain(finding)) for finding in findings]
        status = _diagnosis.overall(objects)
        return {
            "healthy": status == READY,
            "status": status,
            "objects": objects,
            "servers": servers,
            "notes": self.notes,
            "report": _diagnosis.report(self._namespace, objects, self.notes),
            "msg": _diagnosis.sentence(self._namespace, objects, self._nothing(objects)),
        }

    def _look(self) -> None:
        """List all that matters, and note what may not be listed."""
        for kind in _KINDS:
            try:
                items, _version = self._api.list_all(kind, self._namespace)
            except ApiError as error:
                if error.status != 403:
                    raise
                self._refused.append(error)
                self.notes.append(f"{kind.plural} (the account may not list {kind})")
                continue
            self._clock = self._now()
            self._state.replace(kind, self._namespace, items, self._clock)
        if not any(self._state.is_synced(kind, self._namespace) for kind in _LEAST):
            raise self._refused[0]
        self._clock = self._now()

    def _now(self) -> Clock:
        now = time.monotonic()
        return Clock(now, self._api.server_wall(now))

    def _nothing(self, objects: list[dict[str, t.Any]]) -> str:
        """Say that there is no MLflow here, and what there is instead."""
        if not self._exists():
            return f"There is no namespace {self._namespace}. kubectl get namespaces lists them."
        words = f"There is no MLflow server in namespace {self._namespace}"
        if objects:
            shown = ", ".join(f"{one['kind']}/{one['name']}" for one in objects[:5])
            return f"{words}; what else belongs to one: {shown}."
        running = [
            f"{kind.kind}/{item['metadata']['name']}"
            for kind in (DEPLOYMENT, STATEFUL_SET, DAEMON_SET)
            for item in self._state.all(kind, self._namespace)
        ]
        if not running:
            return (
                f"{words}: it holds no workload at all. If MLflow is elsewhere: kubectl get "
                "deployments,statefulsets --all-namespaces | grep -i mlflow"
            )
        more = f" and {len(running) - 5} more" if len(running) > 5 else ""
        return (
            f"{words}: no container there runs mlflow server or an image named mlflow. There are "
            f"{', '.join(running[:5])}{more}."
        )

    def _exists(self) -> bool:
        try:
            self._api.get(f"/api/v1/namespaces/{self._namespace}", "namespaces")
        except ApiError as error:
            # Who may not look at namespaces may well see into this one.
            return error.status != 404
        return True

    # --- The servers' own answers ----------------------------------------------------------------

    def _ask(self, finding: Finding, servers: dict[str, dict[str, t.Any]]) -> Finding:
        """Ask a server that Kubernetes calls ready, or one that waits for its schema."""
        found = finding.found
        pods = current_pods(found.target, self._state)
        if found.role != SERVER or not pods:
            return finding
        helper = has_helper(found.item, found.target.kind)
        check = MlflowCheck(self._api, Server(schema="at_head" if helper else "any"))
        if finding.status != READY:
            learned = check.meanwhile(self._seen(finding, pods)) if helper else None
            if learned is None:
                return finding
            if not learned.problems:
                return finding._replace(message=f"{finding.message} · {learned.message}")
            return _diagnosis.weigh(finding, learned.problems, self._state, self._clock)
        result = check(self._seen(finding, [server_pod(pod) for pod in pods]))
        told = result.facts.get("server") or {}
        servers[str(found.target)] = {
            "version": told.get("version"),
            "schema": result.facts.get("schema"),
        }
        problems = [problem for problem in result.problems if not self._set_aside(found, problem)]
        if not problems:
            version = f", MLflow {told['version']}" if told.get("version") else ""
            answers = "" if result.problems else ", answers from the database"
            schema = ", schema at head" if result.facts.get("schema") else ""
            return finding._replace(message=f"{finding.message}{version}{answers}{schema}")
        return _diagnosis.weigh(finding, problems, self._state, self._clock)

    def _seen(self, finding: Finding, pods: list[Object]) -> dict[t.Any, t.Any]:
        """Return what the check takes; it looks for a Deployment."""
        target = finding.found.target
        return {Target(DEPLOYMENT, target.namespace, target.name): (finding.found.item, pods)}

    def _set_aside(self, found: t.Any, problem: Problem) -> bool:
        """Note what is not wrong with MLflow, but keeps this from being asked."""
        where = str(found.target)
        if "the account needs" in problem.message:
            right = "pods/exec" if "pods/exec" in problem.message else "pods/portforward"
            what = "the database's schema" if right == "pods/exec" else "what it answers"
            self._note(f"{what} of {where} (the account may not use {right})")
            return True
        if problem.reason == "unauthorized":
            self._note(f"whether {where} reaches its database (it asks for a user and password)")
            return True
        return False

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    # --- Logs ------------------------------------------------------------------------------------

    def _explain(self, finding: Finding) -> str:
        """Return the line of the log that says most of a container that failed or is slow."""
        if not finding.pod or not finding.container:
            return ""
        for previous in (finding.previous, not finding.previous):
            try:
                lines = self._api.logs(
                    self._namespace,
                    finding.pod,
                    finding.container,
                    self._params["log_lines"],
                    previous,
                )
            except ApiError as error:
                if error.status == 403:
                    self._note("logs (the account may not get pods/log)")
                    return ""
                continue
            if lines:
                return redact(_words.telling_line(lines))
        return ""


def argument_spec() -> dict[str, t.Any]:
    """Return the module's options."""
    return {
        **AUTH_ARG_SPEC,
        "namespace": {"type": "str", "required": True},
        "ask": {"type": "bool", "default": True},
        "tolerances": {"type": "dict", "default": {}},
        "settle": {"type": "float", "default": 5},
        "log_lines": {"type": "int", "default": 50},
    }


def check_options(module: AnsibleModule) -> None:
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
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    require_libraries(module)
    check_options(module)
    try:
        api = Api({name: module.params.get(name) for name in AUTH_ARG_SPEC})
    except CredentialsError as error:
        module.fail_json(msg=str(error))
    try:
        result = Diagnosis(api, module.params).run()
    except ApiError as error:
        module.fail_json(msg=api_message(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
