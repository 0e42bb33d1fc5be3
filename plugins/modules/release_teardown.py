#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_teardown
short_description: Remove a release, and keep its data
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Removes what this collection applied in a namespace under the label of the release, whichever
    kinds of objects that are, and waits until it is gone. What runs pods goes first, the database
    after its clients, configuration last.
  - PersistentVolumeClaims and Secrets are kept, unless O(delete) names them.
  - Fails, with nothing removed, when workloads bear the release's label that this collection did
    not apply, when the credentials of a volume that stays are named, or a namespace that holds
    anything else.
  - In check mode it says what it would do.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  delete:
    description:
      - What is to go beside the release, each as C(PersistentVolumeClaim/NAME), C(Secret/NAME) or
        C(Namespace/NAME). What is not there is gone already.
    type: list
    elements: str
    default: []
  timeout:
    description: For how many seconds to wait, in each step, until what was deleted is gone.
    type: int
    default: 300
attributes:
  action:
    description: Has an action plugin of the same name.
    details: It shows on standard error what is being waited for.
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
removed:
  description: What was removed, in that order.
  returned: success
  type: list
  elements: str
  sample: [Deployment/mlflow, StatefulSet/postgres, ConfigMap/mlflow-config-6k2f9h7d5t]
kept:
  description: Volumes and Secrets of the release that stay.
  returned: success
  type: list
  elements: str
  sample: [PersistentVolumeClaim/data-postgres-0, Secret/mlflow-credentials]
foreign:
  description: What bears the release's label, was applied by others, and is left alone.
  returned: success
  type: list
  elements: str
absent:
  description: What O(delete) names and is not there.
  returned: success
  type: list
  elements: str
namespace_exists:
  description: Whether the namespace was there.
  returned: success
  type: bool
"""

import time
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.access import Permission, missing
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import Failure, full_stop
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import Kind
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.module import Module
from ansible_collections.mlops.mlflow.plugins.module_utils._release import teardown
from ansible_collections.mlops.mlflow.plugins.module_utils._release.lock import Progress, renewing
from ansible_collections.mlops.mlflow.plugins.module_utils._release.progress import (
    progress_from_environment,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.work import module_of

_LOOK_EVERY = 0.5
_WITH_PODS = ("CronJob", "Job", "Deployment", "DaemonSet", "StatefulSet")

Object = dict[str, t.Any]


def kinds_of(cluster: Api) -> list[Kind]:
    """Return every kind that can be listed and deleted in a namespace, in one version each."""
    groups = cluster.request("GET", "/apis")
    if groups.status != 200:
        raise ApiError(0, f"the cluster does not say which kinds it has: {groups.message}")
    versions = ["v1"] + [
        str((group.get("preferredVersion") or {}).get("groupVersion"))
        for group in groups.body.get("groups") or []
    ]
    found = []
    for version in versions:
        answer = cluster.request("GET", f"/apis/{version}" if "/" in version else f"/api/{version}")
        # One whose own API server is away can have nothing deleted; it would be missed below.
        for item in (answer.body.get("resources") or []) if answer.status == 200 else []:
            able = {"list", "delete"} <= set(item.get("verbs") or [])
            if item.get("namespaced") and able and "/" not in item["name"]:
                found.append(Kind(version, str(item["kind"]), str(item["name"])))
    return found


class Teardown:
    """One look at a namespace, and what follows from it."""

    def __init__(self, cluster: Api, params: dict[str, t.Any]) -> None:
        self._cluster = cluster
        self._params = params
        self._namespace: str = params["namespace"]
        self._paths: dict[str, str] = {}
        self._permissions: dict[str, Permission] = {}

    def look(self) -> tuple[teardown.Plan, bool]:
        """Return what is to be done, and whether the namespace is there."""
        path = f"/api/v1/namespaces/{self._namespace}"
        space = self._cluster.find(path, f"the namespace {self._namespace}")
        objects: list[Object] = []
        if space is not None:
            space = {**space, "apiVersion": "v1", "kind": teardown.NAMESPACE}
            self._note(space, path, Permission("delete", "", "namespaces", ""))
            objects = self._list()
        return (
            teardown.plan(
                objects,
                space,
                self._params["delete"],
            ),
            space is not None,
        )

    def _note(self, item: Object, path: str, permission: Permission) -> None:
        self._paths[teardown.name_of(item)] = path
        self._permissions[teardown.name_of(item)] = permission

    def _list(self) -> list[Object]:
        """Return everything in the namespace but what controllers make of it."""
        found: dict[t.Any, Object] = {}
        for kind in kinds_of(self._cluster):
            if kind.kind in teardown.DERIVED:
                continue
            collection = kind.path(self._namespace)
            answer = self._cluster.request("GET", collection)
            if answer.status == 403 and kind.kind not in teardown.KEPT:
                # Who may not list it cannot have applied it either.
                continue
            if answer.status != 200:
                raise ApiError(0, f"{kind.plural} cannot be listed: {answer.message}")
            permission = Permission("delete", kind.group, kind.plural, self._namespace)
            for item in answer.body.get("items") or []:
                item = {**item, "apiVersion": kind.api_version, "kind": kind.kind}
                # Two groups may serve the same objects.
                key = item["metadata"].get("uid") or teardown.name_of(item)
                if key not in found:
                    found[key] = item
                    self._note(item, f"{collection}/{item['metadata']['name']}", permission)
        return list(found.values())

    def may(self, plan: teardown.Plan) -> None:
        """Raise ApiError naming every permission that is missing, before the first write."""
        denied = missing(
            self._cluster, list(dict.fromkeys(self._permissions[name] for name in plan.removed))
        )
        if denied:
            raise ApiError(
                0,
                f"these permissions are missing in namespace {self._namespace}: "
                f"{', '.join(denied)}. Nothing was removed",
            )

    def remove(self, step: list[Object], progress: Progress | None) -> None:
        """Delete what belongs to one step, and wait until it is gone."""
        for item in step:
            pods = item["kind"] in _WITH_PODS
            body: Object = {"propagationPolicy": "Foreground" if pods else "Background"}
            if item["metadata"].get("uid"):
                # Not one that somebody has made in its place since.
                body["preconditions"] = {"uid": item["metadata"]["uid"]}
            name = teardown.name_of(item)
            answer = self._cluster.request("DELETE", self._paths[name], body)
            if answer.status not in (200, 202, 404):
                raise ApiError(0, f"{name} cannot be deleted: {answer.message}")
        start = time.monotonic()
        while True:
            left = self._left(step)
            if not left:
                return
            waited = time.monotonic() - start
            words = ", ".join(left)
            if waited >= self._params["timeout"]:
                raise ApiError(
                    0,
                    f"deleted, and still there after {waited:.0f} s: {words}. Run this again to "
                    "go on",
                )
            if progress is not None:
                progress(f"still there: {words}", waited)
            time.sleep(_LOOK_EVERY)

    def _left(self, step: list[Object]) -> list[str]:
        left = []
        for item in step:
            name = teardown.name_of(item)
            there = self._cluster.find(self._paths[name], name)
            metadata = there["metadata"] if there else {}
            if there and metadata.get("uid") == item["metadata"].get("uid"):
                held = [str(one) for one in metadata.get("finalizers") or []]
                left.append(f"{name} ({', '.join(held)})" if held else name)
        return left


def run(module: Module, cluster: Api) -> dict[str, t.Any]:
    """Do it; return the result."""
    params = module.params
    problems = teardown.check_names(params["delete"], params["namespace"])
    if problems:
        raise ApiError(0, "; ".join(f"delete{problem}" for problem in problems))
    work = Teardown(cluster, params)
    plan, exists = work.look()
    if plan.problems:
        raise ApiError(0, f"{'; '.join(plan.problems)}. Nothing was removed")
    if plan.steps and not module.check_mode:
        work.may(plan)
        progress = progress_from_environment()
        space = [step for step in plan.steps if step[0]["kind"] == teardown.NAMESPACE]
        with renewing(cluster, params["lease"], progress) as renewed:
            for step in plan.steps:
                if step not in space:
                    work.remove(step, renewed)
        # The lock goes with the namespace, and nobody can take one there any more.
        for step in space:
            work.remove(step, progress)
    return {
        "changed": bool(plan.steps),
        "removed": plan.removed,
        "kept": plan.kept,
        "foreign": plan.foreign,
        "absent": plan.absent,
        "namespace_exists": exists,
    }


def main() -> None:
    """Entry point."""
    module = module_of(
        {
            "delete": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 300},
        }
    )
    try:
        result = run(module, Api.of(module))
    except Failure as error:
        module.fail_json(msg=full_stop(error))
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
