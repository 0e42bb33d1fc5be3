#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: backup_job
short_description: Start one step of a backup or a restore as a Job
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Makes a Job from the CronJob of the component C(backup), with another command. It does not wait;
    M(mlops.mlflow.wait_for_rollout) does, and M(mlops.mlflow.backup_info) reads what it said.
  - Jobs that an earlier run made and that still run are stopped first, and waited for. Whoever
    uses this holds the release lock, so the run that made them is dead. The CronJob's own are left
    alone.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  cron_job:
    description:
      - The CronJob C(mlflow-backup) as it is rendered; for V(upload) and V(download) it is
        C(mlflow-backup-s3).
    type: dict
    required: true
  command:
    description: What the script is to do.
    type: str
    choices:
      - backup
      - list
      - check
      - since
      - test
      - rehearse
      - elsewhere
      - prepare
      - swap
      - forget
      - hold
      - upload
      - download
    required: true
  environment:
    description: Environment variables for the script. They are part of the Job, so no secrets.
    type: dict
    default: {}
  image:
    description:
      - The MLflow image that the database is of. Empty means the CronJob's. Before an upgrade, it
        is the one that still serves.
    type: str
    default: ""
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.release
  - mlops.mlflow.lease
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.backup_info
"""

EXAMPLES = r"""
# Private to this collection: its roles are the examples.
"""

RETURN = r"""
job:
  description: Name of the Job.
  returned: success
  type: str
stopped:
  description: Jobs of a dead run that were stopped.
  returned: success
  type: list
  elements: str
"""

import secrets
import time
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._backup import catalogue
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import JOB, POD
from ansible_collections.mlops.mlflow.plugins.module_utils._release.work import module_of, working

_LOOK_EVERY = 0.5
# Seconds for the pods of an earlier run to end.
_GONE_WITHIN = 60.0

Object = dict[str, t.Any]


def _finished(job: Object) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(
        entry.get("type") in ("Complete", "Failed") and entry.get("status") == "True"
        for entry in conditions
    )


class Jobs:
    """The Jobs that runs of this collection made in a namespace."""

    def __init__(self, cluster: Api, namespace: str) -> None:
        self._cluster = cluster
        self._jobs = JOB.path(namespace)
        self._pods = POD.path(namespace)

    def _list(self, path: str) -> list[Object]:
        return self._cluster.items(path, "Jobs and pods", catalogue.COMMAND_LABEL)

    def unfinished(self) -> list[str]:
        """Return the Jobs that have not ended."""
        return [item["metadata"]["name"] for item in self._list(self._jobs) if not _finished(item)]

    def stop(self, names: list[str], timeout: float) -> None:
        """Delete Jobs, and wait until their pods are gone."""
        for name in names:
            options = {"propagationPolicy": "Foreground"}
            answer = self._cluster.request("DELETE", f"{self._jobs}/{name}", options)
            if answer.status not in (200, 202, 404):
                raise ApiError(0, f"Job {name} cannot be deleted: {answer.message}")
        end = time.monotonic() + timeout
        while True:
            left = [
                item["metadata"]["name"]
                for item in self._list(self._pods)
                if (item["metadata"].get("labels") or {}).get("job-name") in names
            ]
            if not left:
                return
            if time.monotonic() >= end:
                raise ApiError(
                    0,
                    f"pods of an earlier run are still there after {timeout:.0f} s: "
                    f"{', '.join(left)}",
                )
            time.sleep(_LOOK_EVERY)

    def start(self, job: Object) -> None:
        """Make a Job."""
        answer = self._cluster.request("POST", self._jobs, job)
        if answer.status not in (200, 201, 202):
            name = job["metadata"]["name"]
            raise ApiError(0, f"Job {name} cannot be created: {answer.message}")


def main() -> None:
    """Entry point."""
    commands = [*catalogue.COMMANDS, *catalogue.S3_COMMANDS]
    module = module_of(
        {
            "cron_job": {"type": "dict", "required": True},
            "command": {"type": "str", "required": True, "choices": commands},
            "environment": {"type": "dict", "default": {}},
            "image": {"type": "str", "default": ""},
        }
    )
    params = module.params
    name = f"mlflow-backup-{params['command']}-{secrets.token_hex(4)}"
    environment = {str(key): str(value) for key, value in params["environment"].items()}
    try:
        job = catalogue.job(
            params["cron_job"], name, params["command"], environment, params["image"]
        )
    except KeyError:
        module.fail_json(msg="cron_job: is not a CronJob of the component backup.")
    job["metadata"]["namespace"] = params["namespace"]
    stopped: list[str] = []
    if not module.check_mode:
        with working(module) as (cluster, _progress):
            jobs = Jobs(cluster, params["namespace"])
            stopped = jobs.unfinished()
            jobs.stop(stopped, _GONE_WITHIN)
            jobs.start(job)
    module.exit_json(changed=True, job=name, stopped=stopped)


if __name__ == "__main__":
    main()
