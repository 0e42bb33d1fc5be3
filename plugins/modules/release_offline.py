#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_offline
short_description: Take a Deployment out of service, and bring it back
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Scales a Deployment to zero and waits until its pods are gone, for a migration during which no
    server may write. The number of replicas is noted on the Deployment in the same write, so that
    whoever comes after a run that was killed can bring it back.
  - A HorizontalPodAutoscaler leaves a Deployment of zero replicas alone, and goes on when it is
    back.
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
      - V(present) takes it out of service.
      - V(absent) brings it back with as many replicas as it had, if it was taken out of service.
        Replicas that somebody else has set meanwhile are left as they are.
    type: str
    choices: [present, absent]
    default: present
  restore:
    description:
      - The backup for whose restore it is taken out of service. Noted on the Deployment as
        C(mlops.mlflow/restore) until it is back, so that whoever comes after a run that was killed
        can tell that restore from anything else.
    type: str
    default: ""
  timeout:
    description: For how many seconds to wait until the pods are gone.
    type: int
    default: 90
requirements:
  - kubernetes >= 24.2.0
attributes:
  action:
    description: Has an action plugin of the same name.
    details: It shows on standard error which pods are being waited for.
    support: full
  check_mode:
    description: Can run in check mode, and says what it would do without changing anything.
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
  - mlops.mlflow.lease
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.release_look
  - module: mlops.mlflow.release_lock
"""

EXAMPLES = r"""
- name: Migrate while nothing is served
  block:
    - name: Take the server out of service
      mlops.mlflow.release_offline:
        namespace: mlflow-production
    - name: Wait for the migration
      mlops.mlflow.wait_for_rollout:
        resources:
          - {kind: Job, name: mlflow-migration, namespace: mlflow-production}
  always:
    - name: Bring the server back
      mlops.mlflow.release_offline:
        namespace: mlflow-production
        state: absent
"""

RETURN = r"""
replicas:
  description: How many replicas the Deployment has in service.
  returned: success
  type: int
"""

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import (
    AUTH_ARG_SPEC,
    Api,
    ApiError,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.ownership import (
    OFFLINE_ANNOTATION,
    RESTORE_ANNOTATION,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.lock import (
    LEASE_ARG_SPEC,
    LeaseError,
    Progress,
    renewing,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.progress import (
    progress_from_environment,
)

_ATTEMPTS = 5
_LOOK_EVERY = 0.5
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
        answer = self._cluster.request("GET", self._path)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise ApiError(0, f"{self._name} cannot be read: {answer.message}")
        return answer.body

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
            answer = self._cluster.request("GET", self._pods, query={"labelSelector": selector})
            if answer.status != 200:
                raise ApiError(0, f"the pods of {self._name} cannot be listed: {answer.message}")
            left = [
                pod["metadata"]["name"]
                for pod in answer.body.get("items") or []
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


def noted(item: Object) -> str:
    """Return how many replicas a Deployment had before it was taken out of service, or nothing."""
    note = _annotation(item, OFFLINE_ANNOTATION)
    return note if note.isdigit() else ""


def _annotation(item: Object, name: str) -> str:
    return str((item["metadata"].get("annotations") or {}).get(name, ""))


def main() -> None:
    """Entry point."""
    spec = dict(AUTH_ARG_SPEC)
    spec.update(
        namespace={"type": "str", "required": True},
        name={"type": "str", "default": "mlflow"},
        state={"type": "str", "choices": ["present", "absent"], "default": "present"},
        restore={"type": "str", "default": ""},
        timeout={"type": "int", "default": 90},
        lease=LEASE_ARG_SPEC,
    )
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    params = module.params
    try:
        cluster = Api.of(module)
        switch = Switch(
            cluster,
            params["namespace"],
            params["name"],
            not module.check_mode,
            params["restore"],
        )
        held = None if module.check_mode else params["lease"]
        with renewing(cluster, held, progress_from_environment()) as progress:
            if params["state"] == "present":
                changed = switch.take_out(params["timeout"], progress)
            else:
                changed = switch.bring_back()
        module.exit_json(changed=changed, replicas=switch.replicas())
    except (ApiError, LeaseError) as error:
        module.fail_json(msg=f"{error}.")


if __name__ == "__main__":
    main()
