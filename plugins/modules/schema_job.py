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
  - Makes a Job that runs the schema helper with any MLflow image, in the surroundings of the
    Deployment's own container C(schema-wait), with its configuration and credentials.
    It changes nothing in the live database.
  - It does not wait; M(mlops.mlflow.wait_for_rollout) does. With O(state=read) it says what the Job
    found out, and deletes it.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  state:
    description:
      - V(started) makes the Job.
      - V(read) says what it found out, and deletes it.
    type: str
    choices: [started, read]
    default: started
  command:
    description:
      - V(status) tells the state of the database.
      - V(rehearse) migrates the copies that the backup's Job of that name has made, tells what it
        took, and drops them.
    type: str
    choices: [status, rehearse]
    default: status
  image:
    description: The image to ask. For O(state=started).
    type: str
  deployment:
    description: The Deployment as it is rendered, where the cluster has none yet.
    type: dict
  job:
    description: Name of the Job. For O(state=read).
    type: str
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.release
  - mlops.mlflow.lease
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.wait_for_mlflow
"""

EXAMPLES = r"""
# Private to this collection: its roles are the examples.
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
took:
  description: What a rehearsed migration took, in words.
  returned: when O(state=read)
  type: str
  sample: 41 s, spans locked 29 s
"""

import copy
import json
import secrets
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import DEPLOYMENT, JOB, POD
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.findings import span
from ansible_collections.mlops.mlflow.plugins.module_utils._release.work import module_of, working

WAITS = "schema-wait"
COMPONENT = "schema-status"
# Seconds for which the Job stays if nobody reads it.
_STAYS = 600
# The helper's exit statuses that are an answer like any other: a schema that is not at head, and a
# migration that failed.
_ANSWERS = {"status": "3", "rehearse": "1|3"}
_LINES = 200

Object = dict[str, t.Any]


def job(deployment: Object, image: str, name: str, command: str = "status") -> Object:
    """Return the Job, made from a Deployment's container that waits for the schema."""
    pod = copy.deepcopy(deployment["spec"]["template"]["spec"])
    every = pod.pop("initContainers", [])
    found = [item for item in every if item["name"] == WAITS]
    if not found or not found[0].get("command"):
        raise ApiError(
            0, f"Deployment {deployment['metadata']['name']} has no container {WAITS} to ask with"
        )
    container = found[0]
    line = f'"$@" || case $? in {_ANSWERS[command]}) ;; *) exit 4;; esac'
    helper = [*container["command"][:-1], command]
    container.update(image=image, command=["sh", "-c", line, "sh", *helper])
    # What it needs itself, such as a way to the database, comes before it here, too.
    before = every[: every.index(container)]
    mounted = {
        mount["name"] for item in [*before, container] for mount in item.get("volumeMounts") or []
    }
    if before:
        pod["initContainers"] = before
    affinity = pod.pop("affinity", None) or {}
    if "nodeAffinity" in affinity:
        # Which nodes; but beside or away from whom is said of servers.
        pod["affinity"] = {"nodeAffinity": affinity["nodeAffinity"]}
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


def took(schema: Object) -> str:
    """Say what a rehearsed migration took: its seconds, and which tables were locked how long."""
    every = [entry["took"] for entry in schema.values() if entry.get("took")]
    if not every:
        return "nothing to migrate"
    seconds = 0.0
    whole: dict[str, float] = {}
    writing: dict[str, float] = {}
    for found in every:
        seconds += found.get("seconds", 0.0)
        for lock in found.get("locks") or []:
            kind = whole if lock["mode"] == "AccessExclusiveLock" else writing
            kind[lock["table"]] = max(lock["seconds"], kind.get(lock["table"], 0.0))
    words = [f"{table} locked {span(longest)}" for table, longest in whole.items()]
    words += [
        f"{table} not written for {span(longest)}"
        for table, longest in writing.items()
        if longest > whole.get(table, 0.0)
    ]
    return ", ".join([span(seconds), *words])


class Asking:
    """The Job, in a namespace."""

    def __init__(self, cluster: Api, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._jobs = JOB.path(namespace)

    def deployment(self, name: str) -> Object:
        """Return the Deployment that is there."""
        found = self._cluster.find(DEPLOYMENT.item(self._namespace, name), f"Deployment {name}")
        if found is None:
            raise ApiError(0, f"there is no Deployment {name} in namespace {self._namespace}")
        return found

    def start(self, made_of: Object, name: str) -> None:
        """Make the Job."""
        made = self._cluster.request("POST", self._jobs, made_of)
        if made.status not in (200, 201, 202):
            raise ApiError(0, f"Job {name} cannot be created: {made.message}")

    def read(self, name: str) -> Object:
        """Return the verdict, and delete the Job."""
        pods = POD.path(self._namespace)
        ended = [
            item["metadata"]["name"]
            for item in self._cluster.items(pods, f"the pods of Job {name}", f"job-name={name}")
            if (item.get("status") or {}).get("phase") == "Succeeded"
        ]
        if not ended:
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
    module = module_of(
        {
            "state": {"type": "str", "choices": ["started", "read"], "default": "started"},
            "command": {"type": "str", "choices": list(_ANSWERS), "default": "status"},
            "image": {"type": "str"},
            "deployment": {"type": "dict"},
            "job": {"type": "str"},
        },
        required_if=[("state", "started", ["image"]), ("state", "read", ["job"])],
    )
    params = module.params
    with working(module) as (cluster, _progress):
        asking = Asking(cluster, params["namespace"])
        if params["state"] == "read":
            found = asking.read(params["job"])
            module.exit_json(changed=False, job=params["job"], schema=found, took=took(found))
        name = f"mlflow-schema-{params['command']}-{secrets.token_hex(4)}"
        if not module.check_mode:
            deployment = params["deployment"] or asking.deployment("mlflow")
            asking.start(job(deployment, params["image"], name, params["command"]), name)
        module.exit_json(changed=False, job=name)


if __name__ == "__main__":
    main()
