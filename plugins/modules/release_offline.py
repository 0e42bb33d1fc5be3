#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_offline
short_description: Take a Deployment and CronJobs out of service, and bring them back
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Scales a Deployment to zero and waits until its pods are gone, for a migration during which no
    server may write. The number of replicas is noted on the Deployment in the same write, so that
    whoever comes after a run that was killed can bring it back.
  - Suspends the CronJobs of the release, too. A backup or a clean-up that the clock starts would
    hold what the migration or the restore works on. The note on each tells that it is not its owner
    who suspended it.
  - A HorizontalPodAutoscaler leaves a Deployment of zero replicas alone, and goes on when it is
    back.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  state:
    description:
      - V(present) suspends the CronJobs, and takes the Deployment out of service.
      - V(suspended) suspends the CronJobs only.
      - V(absent) brings it back with as many replicas as it had, if it was taken out of service.
        Replicas that somebody else has set meanwhile are left as they are. So are CronJobs that
        their owner has suspended.
    type: str
    choices: [present, suspended, absent]
    default: present
  restore:
    description:
      - The backup for whose restore it is taken out of service. Noted on the Deployment as
        C(mlops.mlflow/restore) until it is back, so that whoever comes after a run that was killed
        can tell that restore from anything else.
    type: str
    default: ""
attributes:
  action:
    description: Has an action plugin of the same name.
    details: It shows on standard error which pods are being waited for.
    support: full
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.release
  - mlops.mlflow.lease
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.release_look
  - module: mlops.mlflow.release_begin
"""

EXAMPLES = r"""
# Private to this collection: its roles are the examples.
"""

RETURN = r"""
replicas:
  description: How many replicas the Deployment has in service.
  returned: success
  type: int
"""

import time
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import CRON_JOB
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.ownership import (
    OFFLINE_ANNOTATION,
    RESTORE_ANNOTATION,
    SUSPENDED_ANNOTATION,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.lock import Progress
from ansible_collections.mlops.mlflow.plugins.module_utils._release.progress import (
    progress_from_environment,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.work import module_of, working

_ATTEMPTS = 5
_LOOK_EVERY = 0.5
_SERVER = "mlflow"
# Seconds for its pods to end.
_GONE_WITHIN = 90.0
_MERGE_PATCH = "application/merge-patch+json"

Object = dict[str, t.Any]


class Switch:
    """One Deployment, in service or not."""

    def __init__(
        self, cluster: Api, namespace: str, name: str, write: bool, restore: str = ""
    ) -> None:
        self._cluster = cluster
        self._restore = restore
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        self._name = f"Deployment {name}"
        self._write = write

    def _read(self) -> Object | None:
        return self._cluster.find(self._path, self._name)

    def _patch(self, item: Object, note: str | None, replicas: int) -> bool:
        """Write notes and replicas together; False if the Deployment has changed since."""
        if not self._write:
            return True
        body = {
            "metadata": {
                "resourceVersion": item["metadata"]["resourceVersion"],
                "annotations": {
                    OFFLINE_ANNOTATION: note,
                    # One that something else had taken out before is no trace of this restore.
                    RESTORE_ANNOTATION: (note and self._restore) or None,
                },
            },
            "spec": {"replicas": replicas},
        }
        answer = self._cluster.request("PATCH", self._path, body, None, _MERGE_PATCH)
        if answer.status not in (200, 409):
            raise ApiError(0, f"{self._name} cannot be scaled: {answer.message}")
        return answer.status == 200

    def _until_written(self, decide: t.Callable[[Object], tuple[str | None, int] | None]) -> bool:
        for _attempt in range(_ATTEMPTS):
            item = self._read()
            decided = decide(item) if item is not None else None
            if item is None or decided is None:
                return False
            if self._patch(item, *decided):
                return True
        raise ApiError(0, f"{self._name} cannot be scaled: others keep writing to it")

    def take_out(self, timeout: float, progress: Progress | None = None) -> bool:
        """Scale to zero, and wait until no pod is left; whether anything was changed.

        progress is told twice a second what is waited for, and may end the wait by raising.
        """

        def decide(item: Object) -> tuple[str | None, int] | None:
            replicas = item["spec"].get("replicas", 1)
            note = noted(item)
            # One that its owner has at zero is to stay so; what was noted before still holds.
            if replicas or (note and _annotation(item, RESTORE_ANNOTATION) != self._restore):
                return note or str(replicas), 0
            return None

        changed = self._until_written(decide)
        if self._write:
            self._wait_until_gone(timeout, progress)
        return changed

    def _wait_until_gone(self, timeout: float, progress: Progress | None) -> None:
        item = self._read()
        labels = ((item or {}).get("spec") or {}).get("selector", {}).get("matchLabels") or {}
        if not labels:
            return
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        start = time.monotonic()
        while True:
            left = [
                pod["metadata"]["name"]
                for pod in self._cluster.items(self._pods, f"the pods of {self._name}", selector)
                if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
            ]
            if not left:
                return
            waited = time.monotonic() - start
            if waited >= timeout:
                raise ApiError(
                    0,
                    f"{self._name} was scaled to zero, and after {timeout:.0f} s these pods are "
                    f"still there: {', '.join(left)}",
                )
            if progress is not None:
                progress(f"{self._name}: pods still there: {', '.join(left)}", waited)
            time.sleep(_LOOK_EVERY)

    def bring_back(self) -> bool:
        """Restore what was noted; whether there was anything to restore."""

        def decide(item: Object) -> tuple[str | None, int] | None:
            note = noted(item)
            return (None, item["spec"].get("replicas", 1) or int(note)) if note else None

        return self._until_written(decide)

    def replicas(self) -> int:
        """Return how many replicas are wanted now."""
        return int(((self._read() or {}).get("spec") or {}).get("replicas", 0))


class Clock:
    """The CronJobs of a release, which run or are suspended."""

    def __init__(self, cluster: Api, namespace: str, write: bool) -> None:
        self._cluster = cluster
        self._path = CRON_JOB.path(namespace)
        self._write = write

    def suspend(self) -> bool:
        """Suspend those that run; whether there was one."""
        return self._set(lambda item: not item["spec"].get("suspend"), "true")

    def resume(self) -> bool:
        """Let those run that were suspended here; whether there was one."""
        return self._set(lambda item: bool(_annotation(item, SUSPENDED_ANNOTATION)), None)

    def _set(self, chosen: t.Callable[[Object], bool], mark: str | None) -> bool:
        ours = "app.kubernetes.io/part-of=mlflow"
        found = [item for item in self._cluster.items(self._path, "CronJobs", ours) if chosen(item)]
        for item in found if self._write else []:
            name = item["metadata"]["name"]
            body = {
                "metadata": {"annotations": {SUSPENDED_ANNOTATION: mark}},
                "spec": {"suspend": mark is not None},
            }
            path = f"{self._path}/{name}"
            done = self._cluster.request("PATCH", path, body, None, _MERGE_PATCH)
            if done.status not in (200, 404):
                verb = "suspended" if mark else "resumed"
                raise ApiError(0, f"CronJob {name} cannot be {verb}: {done.message}")
        return bool(found)


def noted(item: Object) -> str:
    """Return how many replicas a Deployment had before it was taken out of service, or nothing."""
    note = _annotation(item, OFFLINE_ANNOTATION)
    return note if note.isdigit() else ""


def _annotation(item: Object, name: str) -> str:
    return str((item["metadata"].get("annotations") or {}).get(name, ""))


def main() -> None:
    """Entry point."""
    states = ["present", "suspended", "absent"]
    module = module_of(
        {
            "state": {"type": "str", "choices": states, "default": "present"},
            "restore": {"type": "str", "default": ""},
        }
    )
    params = module.params
    write = not module.check_mode
    with working(module, progress_from_environment()) as (cluster, progress):
        switch = Switch(cluster, params["namespace"], _SERVER, write, params["restore"])
        clock = Clock(cluster, params["namespace"], write)
        if params["state"] == "absent":
            # The server first: whatever keeps a CronJob suspended, MLflow serves.
            changed = switch.bring_back()
            changed = clock.resume() or changed
        else:
            changed = clock.suspend()
            if params["state"] == "present":
                changed = switch.take_out(_GONE_WITHIN, progress) or changed
        module.exit_json(changed=changed, replicas=switch.replicas())


if __name__ == "__main__":
    main()
