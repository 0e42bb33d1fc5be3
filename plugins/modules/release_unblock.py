#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_unblock
short_description: Delete the pod for which a StatefulSet waits in vain
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - A StatefulSet that replaces its pods one by one does not replace one that never became ready,
    though its template has been corrected (kubernetes#67250). Somebody has to delete that pod.
  - Deletes it where this collection applied the StatefulSet, where the pod is not of the current
    revision, where it has never been ready, and where nothing runs in it or has run for so long
    that it does not become ready any more. Its volumes stay. It says so in a warning.
  - In check mode it says what it would delete.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.release
  - mlops.mlflow.lease
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.wait_for_rollout
"""

EXAMPLES = r"""
# Private to this collection: its roles are the examples.
"""

RETURN = r"""
deleted:
  description: The pods that were deleted, each with why it is not ready.
  returned: success
  type: list
  elements: str
  sample: ["postgres-0 (ErrImagePull)"]
"""

import time
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import POD, STATEFUL_SET
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.ownership import (
    is_ours,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.work import module_of, working
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.shape import shaped
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    condition,
    container_statuses,
    wall_seconds,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_terms import observed
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict_workloads import (
    is_outdated,
)

Object = dict[str, t.Any]

# For how long (s) the controller is given to see a template that was just applied.
SEEN_WITHIN = 15.0
LOOK_EVERY = 0.5
# A pod that was ready for once changed that condition later than this (s) after its start.
AT_ITS_START = 5.0
# What has run for so long (s) and was never ready is not on its way: a database that is being
# initialised is left alone.
LONG_ENOUGH = 120.0


class Unblocker:
    """Finds and deletes the pods for which a StatefulSet waits in vain."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._set = f"{STATEFUL_SET.path(namespace)}/postgres"
        self._pods = POD.path(namespace)

    def stateful_set(self) -> Object | None:
        """Return the StatefulSet as its controller has seen it, where it may hold back a pod."""
        end = time.monotonic() + SEEN_WITHIN
        while True:
            there = self._api.find(self._set, "the StatefulSet")
            item = shaped(STATEFUL_SET, there) if there else None
            if item is None or not is_ours(item):
                return None
            if (item.get("spec") or {}).get("podManagementPolicy") == "Parallel":
                return None
            if observed(item) or time.monotonic() >= end:
                return item if observed(item) else None
            time.sleep(LOOK_EVERY)

    def blocking(self, item: Object, now: float) -> list[Object]:
        """Return the pods that it waits for in vain; now is the API server's time (s)."""
        found = []
        for one in self._api.items(self._pods, "pods"):
            pod = shaped(POD, one)
            if pod and _belongs(pod, item) and is_outdated(pod, item) and in_vain(pod, now):
                found.append(pod)
        return found

    def delete(self, pod: Object) -> bool:
        """Delete a pod as it was seen; say whether it was still so."""
        metadata = pod["metadata"]
        conditions = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        name = metadata["name"]
        answer = self._api.request("DELETE", f"{self._pods}/{name}", {"preconditions": conditions})
        if answer.status in (404, 409):
            return False
        if answer.status not in (200, 202):
            raise ApiError(
                0,
                f"pod {name} is of an older revision, is not ready, and keeps its StatefulSet from "
                f"going on, but it cannot be deleted: {answer.message}",
            )
        return True


def _belongs(pod: Object, item: Object) -> bool:
    uid = item["metadata"].get("uid")
    return any(owner.get("uid") == uid for owner in pod["metadata"].get("ownerReferences") or ())


def in_vain(pod: Object, now: float) -> bool:
    """Say whether a pod has never been ready, and is not about to be."""
    if pod["metadata"].get("deletionTimestamp") or condition(pod, "Ready", "True"):
        return False
    status = pod.get("status") or {}
    changed = wall_seconds((condition(pod, "Ready") or {}).get("lastTransitionTime"))
    started = wall_seconds(status.get("startTime")) or wall_seconds(
        pod["metadata"].get("creationTimestamp")
    )
    if changed is not None and started is not None and changed > started + AT_ITS_START:
        return False
    runs = [
        wall_seconds(running.get("startedAt")) or now
        for entry in container_statuses(pod)
        if (running := (entry.get("state") or {}).get("running")) is not None
    ]
    if not runs:
        # One that has just been made says nothing yet.
        return bool(why(pod))
    return now - min(runs) >= LONG_ENOUGH


def why(pod: Object) -> str:
    """Return in a word why a pod is not ready, or nothing where it is merely starting."""
    for status in container_statuses(pod):
        state = status.get("state") or {}
        reason = (state.get("waiting") or {}).get("reason")
        if reason and reason not in ("ContainerCreating", "PodInitializing"):
            return str(reason)
        ended = state.get("terminated")
        if ended and ended.get("exitCode"):
            return f"exit code {ended['exitCode']}"
    unscheduled = condition(pod, "PodScheduled", "False")
    return str((unscheduled or {}).get("reason") or "")


def run(api: Api, params: dict[str, t.Any], check_mode: bool) -> list[str]:
    """Delete what blocks, and return it in words."""
    work = Unblocker(api, params["namespace"])
    item = work.stateful_set()
    if item is None:
        return []
    pods = work.blocking(item, api.server_wall(time.monotonic()))
    words = []
    for pod in pods:
        if check_mode or work.delete(pod):
            words.append(f"{pod['metadata']['name']} ({why(pod) or 'not ready'})")
    return words


def main() -> None:
    """Entry point."""
    module = module_of({})
    with working(module) as (cluster, _progress):
        deleted = run(cluster, module.params, module.check_mode)
        for words in deleted:
            module.warn(
                f"{'Would delete' if module.check_mode else 'Deleted'} pod {words}: it was of an "
                "older revision and never ready, and its StatefulSet waited for it. Its volumes "
                "stay"
            )
        module.exit_json(changed=bool(deleted), deleted=deleted)


if __name__ == "__main__":
    main()
