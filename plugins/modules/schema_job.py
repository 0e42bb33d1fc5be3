#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: schema_job
short_description: Ask an MLflow image what it thinks of the database
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Makes a Job that runs the schema helper's C(status) with any MLflow image, in the surroundings
    of the Deployment's own container C(schema-wait), with its configuration and credentials.
    It reads the database and changes nothing in it.
  - It does not wait; M(mlops.mlflow.wait_for_rollout) does. With O(state=read) it says what the Job
    found out, and deletes it.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  namespace:
    description: The namespace of the release.
    type: str
    required: true
  name:
    description: Name of the Deployment.
    type: str
    default: mlflow
  state:
    description:
      - V(started) makes the Job.
      - V(read) says what it found out, and deletes it.
    type: str
    choices: [started, read]
    default: started
  image:
    description: The image to ask. For O(state=started).
    type: str
  job:
    description: Name of the Job. For O(state=read).
    type: str
requirements:
  - kubernetes >= 24.2.0
attributes:
  check_mode:
    description: Can run in check mode, and starts nothing then.
    support: full
  diff_mode:
    description: Has nothing to compare.
    support: none
  platform:
    description: Needs Python and a network; nothing of the operating system.
    platforms: posix
    support: full
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.wait_for_mlflow
"""

EXAMPLES = r"""
- name: Ask the older image
  mlops.mlflow.schema_job:
    namespace: mlflow-production
    image: ghcr.io/mlflow/mlflow:v3.16.1-full
  register: asked

- name: Wait for the answer
  mlops.mlflow.wait_for_rollout:
    resources:
      - {kind: Job, name: "{{ asked.job }}", namespace: mlflow-production}

- name: Read it
  mlops.mlflow.schema_job:
    namespace: mlflow-production
    state: read
    job: "{{ asked.job }}"
  register: answer
"""

RETURN = r"""
job:
  description: Name of the Job.
  returned: success
  type: str
schema:
  description: The schema helper's verdict on each database.
  returned: when O(state=read)
  type: dict
  sample: {"tracking": {"state": "unknown", "current": "dc11669786a5", "head": "b7e2c1a4d9f3"}}
"""

import copy
import json
import secrets
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import (
    AUTH_ARG_SPEC,
    Api,
    ApiError,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import DEPLOYMENT, JOB, POD

WAITS = "schema-wait"
COMPONENT = "schema-status"
# Seconds for which the Job stays if nobody reads it.
_STAYS = 600
# The helper's exit status for a schema that is not at head, which is an answer like any other.
_NOT_AT_HEAD = 3
_LINES = 200

Object = dict[str, t.Any]


def job(deployment: Object, image: str, name: str) -> Object:
    """Return the Job, made from a Deployment's container that waits for the schema."""
    pod = copy.deepcopy(deployment["spec"]["template"]["spec"])
    found = [item for item in pod.pop("initContainers", []) if item["name"] == WAITS]
    if not found or not found[0].get("command"):
        raise ApiError(
            0, f"Deployment {deployment['metadata']['name']} has no container {WAITS} to ask with"
        )
    container = found[0]
    command = [*container["command"][:-1], "status"]
    line = f'"$@" || test $? -eq {_NOT_AT_HEAD}'
    container.update(image=image, command=["sh", "-c", line, "sh", *command])
    mounted = {item["name"] for item in container.get("volumeMounts") or []}
    pod.update(
        containers=[container],
        restartPolicy="Never",
        volumes=[item for item in pod.get("volumes") or [] if item["name"] in mounted],
    )
    pod.pop("topologySpreadConstraints", None)
    labels = {
        **(deployment["spec"]["template"]["metadata"].get("labels") or {}),
        "app.kubernetes.io/component": COMPONENT,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": deployment["metadata"].get("namespace", ""),
            "labels": {"app.kubernetes.io/part-of": "mlflow", **labels},
        },
        "spec": {
            "backoffLimit": 1,
            "ttlSecondsAfterFinished": _STAYS,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def answer(lines: t.Iterable[str]) -> Object:
    """Return the helper's verdict, the last line that is one."""
    for line in reversed(list(lines)):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and isinstance(found.get("tracking"), dict):
            return found
    raise ApiError(0, "the schema helper did not say what it found")


class Asking:
    """The Job, in a namespace."""

    def __init__(self, cluster: Api, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._jobs = JOB.path(namespace)

    def start(self, deployment: str, image: str, name: str) -> None:
        """Make the Job."""
        path = DEPLOYMENT.path(self._namespace)
        found = self._cluster.request("GET", f"{path}/{deployment}")
        if found.status != 200:
            raise ApiError(0, f"Deployment {deployment} cannot be read: {found.message}")
        made = self._cluster.request("POST", self._jobs, job(found.body, image, name))
        if made.status not in (200, 201, 202):
            raise ApiError(0, f"Job {name} cannot be created: {made.message}")

    def read(self, name: str) -> Object:
        """Return the verdict, and delete the Job."""
        pods = self._cluster.request(
            "GET",
            POD.path(self._namespace),
            query={"labelSelector": f"job-name={name}"},
        )
        ended = [
            item["metadata"]["name"]
            for item in pods.body.get("items") or []
            if (item.get("status") or {}).get("phase") == "Succeeded"
        ]
        if pods.status != 200 or not ended:
            raise ApiError(0, f"Job {name} has no pod that ended well")
        try:
            found = answer(self._cluster.logs(self._namespace, ended[0], WAITS, _LINES))
        except ApiError as error:
            raise ApiError(
                0, f"the log of pod {ended[0]} cannot be read: {error.message}"
            ) from None
        # It would go by itself after a while.
        self._cluster.request("DELETE", f"{self._jobs}/{name}", {"propagationPolicy": "Background"})
        return found


def main() -> None:
    """Entry point."""
    spec = dict(AUTH_ARG_SPEC)
    spec.update(
        namespace={"type": "str", "required": True},
        name={"type": "str", "default": "mlflow"},
        state={"type": "str", "choices": ["started", "read"], "default": "started"},
        image={"type": "str"},
        job={"type": "str"},
    )
    module = AnsibleModule(
        argument_spec=spec,
        supports_check_mode=True,
        required_if=[("state", "started", ["image"]), ("state", "read", ["job"])],
    )
    params = module.params
    try:
        asking = Asking(Api.of(module), params["namespace"])
        if params["state"] == "read":
            module.exit_json(changed=False, job=params["job"], schema=asking.read(params["job"]))
        name = f"mlflow-schema-status-{secrets.token_hex(4)}"
        if not module.check_mode:
            asking.start(params["name"], params["image"], name)
        module.exit_json(changed=False, job=name)
    except ApiError as error:
        module.fail_json(msg=f"{error}.")


if __name__ == "__main__":
    main()
