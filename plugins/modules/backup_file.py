#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: backup_file
short_description: Copy a backup from the volume to a file, or from a file to the volume
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Works through the pod of a Job that M(mlops.mlflow.backup_job) started with the command V(hold),
    and deletes that Job in the end.
  - A file is looked at before it is sent, and after it was fetched. One that is damaged or cut off,
    or holds anything that a backup does not have, is refused. It gets its name when it is whole.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  job:
    description: The Job whose pod has the volume. Not needed with V(inspect).
    type: str
    default: ""
  direction:
    description:
      - V(fetch) copies a backup to the controller. V(send) copies one to the volume.
      - V(inspect) only looks at the file.
    type: str
    choices: [fetch, send, inspect]
    required: true
  name:
    description: The backup to fetch.
    type: str
    default: ""
  path:
    description: The file; for V(fetch), the folder in which NAME.tar is made.
    type: path
    required: true
  timeout:
    description: For how many seconds to wait for the pod, and for the copy.
    type: int
    default: 600
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.release
  - mlops.mlflow.lease
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.backup_job
"""

EXAMPLES = r"""
# Private to this collection: its roles are the examples.
"""

RETURN = r"""
path:
  description: The file on the controller.
  returned: success
  type: str
name:
  description: Name of the backup.
  returned: success
  type: str
bytes:
  description: Size of the file.
  returned: success
  type: int
"""

import contextlib
import os
import time
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._backup import catalogue, transfer
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import Failure
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import JOB, POD
from ansible_collections.mlops.mlflow.plugins.module_utils._release.lock import renewing
from ansible_collections.mlops.mlflow.plugins.module_utils._release.work import module_of

_LOOK_EVERY = 0.5
_SCRIPT = "/opt/mlops-mlflow/backup.sh"


class Holder:
    """The pod through which files are copied."""

    def __init__(self, cluster: Api, namespace: str, job: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._job = job
        self._pods = POD.path(namespace)
        self._jobs = JOB.path(namespace)

    def wait(self, seconds: float) -> str:
        """Return the pod's name when its container runs."""
        end = time.monotonic() + seconds
        while True:
            query = {"labelSelector": f"job-name={self._job}"}
            answer = self._cluster.request("GET", self._pods, query=query)
            for pod in (answer.body.get("items") or []) if answer.status == 200 else []:
                for status in (pod.get("status") or {}).get("containerStatuses") or []:
                    if (status.get("state") or {}).get("running"):
                        return str(pod["metadata"]["name"])
            if time.monotonic() >= end:
                raise ApiError(0, f"the pod of Job {self._job} does not run after {seconds:.0f} s")
            time.sleep(_LOOK_EVERY)

    def open(self, pod: str, command: str, stdin: bool, **environment: str) -> t.Any:
        """Start the script in the pod."""
        self._cluster.before_write()
        given = [f"{key}={value}" for key, value in environment.items()]
        return self._cluster.open_session(
            self._namespace,
            pod,
            catalogue.CONTAINER,
            ["env", *given, "bash", _SCRIPT, command],
            stdin,
        )

    def before_write(self) -> None:
        """See that the volume may be written to."""
        self._cluster.before_write()

    def end(self) -> None:
        """Delete the Job; it would end by itself."""
        options = {"propagationPolicy": "Background"}
        with contextlib.suppress(Failure):
            self._cluster.request("DELETE", f"{self._jobs}/{self._job}", options)


def fetch(holder: Holder, name: str, folder: str, seconds: float) -> str:
    """Copy a backup into a folder; return the file's path."""
    path = os.path.join(folder, f"{name}.tar")
    partial = f"{path}.partial"
    session = holder.open(holder.wait(seconds), "send", False, BACKUP_NAME=name)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        transfer.receive(session, file.write)
        file.flush()
        os.fsync(file.fileno())
    transfer.inspect(partial)
    os.replace(partial, path)
    return path


def send(holder: Holder, name: str, path: str, seconds: float) -> None:
    """Copy a file that was looked at to the volume."""
    size = str(transfer.encoded_size(os.path.getsize(path)))
    session = holder.open(holder.wait(seconds), "receive", True, BACKUP_NAME=name, BACKUP_SIZE=size)
    with open(path, "rb") as file:

        def read(size: int) -> bytes:
            # What is read is written to the volume next: each piece while the lock is still ours.
            holder.before_write()
            return file.read(size)

        transfer.send(session, read, seconds)


def main() -> None:
    """Entry point."""
    module = module_of(
        {
            "job": {"type": "str", "default": ""},
            "direction": {"type": "str", "required": True, "choices": ["fetch", "send", "inspect"]},
            "name": {"type": "str", "default": ""},
            "path": {"type": "path", "required": True},
            "timeout": {"type": "int", "default": 600},
        }
    )
    params = module.params
    name, path, direction = params["name"], params["path"], params["direction"]
    try:
        if direction == "fetch":
            if not catalogue.is_name(name):
                raise Failure("name: is not the name of a backup")
            if not os.path.isdir(path):
                raise Failure(f"there is no folder {path} on the controller")
        else:
            name = transfer.inspect(path).name
        if direction != "inspect" and not module.check_mode:
            cluster = Api.of(module)
            holder = Holder(cluster, params["namespace"], params["job"])
            with renewing(cluster, params["lease"]):
                try:
                    if direction == "fetch":
                        path = fetch(holder, name, path, params["timeout"])
                    else:
                        send(holder, name, path, params["timeout"])
                finally:
                    holder.end()
        size = os.path.getsize(path) if os.path.isfile(path) else 0
        module.exit_json(changed=direction != "inspect", path=path, name=name, bytes=size)
    except transfer.ArchiveError as error:
        module.fail_json(msg=f"{path} is no backup that can be restored: {error}.")
    except Failure as error:
        module.fail_json(msg=f"The backup was not copied: {error}.")
    except OSError as error:
        module.fail_json(msg=f"{path}: {error.strerror}.")


if __name__ == "__main__":
    main()
