#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_compare
short_description: Find out what a release would change in the cluster
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Asks the cluster, object by object and by a server-side dry run, what applying would change.
    Defaults, admission and what others own are so taken into account.
  - Finds what an earlier release of this collection applied and this one no longer has, objects
    whose fields belong to C(kubectl apply), and Jobs of this release that have failed.
  - Fails on a change that Kubernetes does not allow, such as another selector, naming the object.
  - Writes nothing.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  stages:
    description: The objects by stage, as M(mlops.mlflow.release_render) returns them.
    type: dict
    required: true
  namespace:
    description: The namespace of the release.
    type: str
    required: true
  part_of:
    description: Value of the label C(app.kubernetes.io/part-of) on objects of the release.
    type: str
    default: mlflow
  secrets:
    description:
      - Names of the Secrets that the release renders. Of those that an earlier release applied, one
        is found to be pruned only if its name ends with kustomize's hash, it is not among these,
        and no release that M(mlops.mlflow.release_record) has recorded needs it.
      - If not given, no Secret is.
    type: list
    elements: str
  field_manager:
    description: Name under which the release is applied.
    type: str
    default: mlops.mlflow
requirements:
  - kubernetes >= 24.2.0
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
  diff_mode:
    description:
      - Returns RV(differences), for a task to show. Ansible itself shows a difference only with a
        task that changes something.
    support: full
  platform:
    description: Needs Python and a network; nothing of the operating system.
    platforms: posix
    support: full
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.release_render
  - module: mlops.mlflow.release_take_over
"""

EXAMPLES = r"""
- name: Compare the release with the cluster
  mlops.mlflow.release_compare:
    stages: "{{ release.stages }}"
    namespace: "{{ release.namespace }}"
  register: difference

- name: Show what would change
  ansible.builtin.debug:
    var: difference.changes
"""

RETURN = r"""
changes:
  description: By stage, the objects that applying would change, as C(create KIND/NAME) or
    C(update KIND/NAME).
  returned: success
  type: dict
  sample: {server: [update Deployment/mlflow]}
differences:
  description:
    - In diff mode, what would change in each object, as the text of a unified difference. A Secret
      is named, and nothing of what it holds is shown.
  returned: success
  type: list
  elements: str
settled:
  description: By stage, whether nothing would change and nothing is left to wait for.
  returned: success
  type: dict
namespace_exists:
  description: Whether the namespace is there.
  returned: success
  type: bool
take_over:
  description: Objects whose fields belong to C(kubectl apply), as C(KIND/NAME).
  returned: success
  type: list
  elements: str
failed_jobs:
  description: Jobs of this release that have failed, as definitions to delete.
  returned: success
  type: list
  elements: dict
prune:
  description: Objects of an earlier release, as definitions to delete.
  returned: success
  type: list
  elements: dict
left_by_backups:
  description:
    - What Jobs of a backup or a restore needed that is no part of the release, as definitions to
      delete. It tells of a run, not of the release, and so is no difference.
  returned: success
  type: list
  elements: dict
existing:
  description: Objects of the release that are there, as C(KIND/NAME).
  returned: success
  type: list
  elements: str
restarts:
  description: Workloads whose pods applying would replace, as C(KIND/NAME).
  returned: success
  type: list
  elements: str
image:
  description: The image that the Deployment of MLflow's server has now; empty if there is none.
  returned: success
  type: str
  sample: ghcr.io/mlflow/mlflow:v3.16.1-full
offline:
  description: Objects that M(mlops.mlflow.release_offline) took out of service, as C(KIND/NAME).
  returned: success
  type: list
  elements: str
"""

import re
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import (
    AUTH_ARG_SPEC,
    Api,
    ApiError,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    CONFIG_MAP,
    KINDS,
    OPTIONAL_KINDS,
    SECRET,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.ownership import (
    BACKUPS_FIELD_MANAGER,
    FIELD_MANAGER,
    OFFLINE_ANNOTATION,
    Object,
    difference,
    identity,
    is_kubectls,
    is_ours,
    is_settled,
    job_failed,
    leaves_replicas,
    same,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release import record

# Volumes hold data, Secrets hold keys to data: neither is ever deleted by a deployment. But a
# Secret that kustomize generated has its content in the tree, and a new name for each change.
_NEVER_PRUNED = (
    "Namespace",
    "PersistentVolumeClaim",
    "Secret",
    "Pod",
    "Event",
    "ReplicaSet",
    "ResourceQuota",
    "LimitRange",
)
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_HASHED = re.compile(r".+-[2456789bcdfghkmt]{10}")
_SERVER = "mlflow"


def _name(item: Object) -> str:
    return "/".join(identity(item))


def _image(deployment: Object) -> str:
    """Return the image of a Deployment's container of the server."""
    pod = deployment["spec"].get("template", {}).get("spec") or {}
    containers = pod.get("containers") or [{}]
    found = [item for item in containers if item.get("name") == _SERVER] or containers
    return str(found[0].get("image", ""))


def _definition(item: Object) -> Object:
    metadata = {"name": item["metadata"]["name"]}
    if item["metadata"].get("namespace"):
        metadata["namespace"] = item["metadata"]["namespace"]
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": metadata}


def _template(item: Object) -> t.Any:
    """Return what a workload makes its pods from; a Job's never changes."""
    return None if item.get("kind") == "Job" else (item.get("spec") or {}).get("template")


class Comparison:
    """What differs between a release and the cluster."""

    def __init__(self, cluster: Api, namespace: str, manager: str, show: bool = False) -> None:
        self._show = show
        self._cluster = cluster
        self._namespace = namespace
        self._manager = manager
        self.changes: dict[str, list[str]] = {}
        self.differences: list[str] = []
        self.settled: dict[str, bool] = {}
        self.take_over: list[str] = []
        self.failed_jobs: list[Object] = []
        self.existing: list[str] = []
        self.restarts: list[str] = []
        self.offline: list[str] = []
        self.image = ""
        self.left_by_backups: list[Object] = []
        self.problems: list[str] = []
        answer = cluster.request("GET", f"/api/v1/namespaces/{namespace}")
        if answer.status not in (200, 404):
            raise ApiError(0, f"the namespace {namespace} cannot be read: {answer.message}")
        self.namespace_exists = answer.status == 200

    def _dry_run(self, item: Object, path: str) -> Object | None:
        answer = self._cluster.request(
            "PATCH",
            path,
            item,
            {"dryRun": "All", "fieldManager": self._manager, "force": "true"},
            "application/apply-patch+yaml",
        )
        if answer.status in (200, 201):
            return answer.body
        self.problems.append(f"{_name(item)} cannot be applied: {answer.message}")
        return None

    def _create(self, stage: str, item: Object) -> None:
        self.changes[stage].append(f"create {_name(item)}")
        self._note(None, item)

    def _note(self, there: Object | None, then: Object) -> None:
        if self._show:
            self.differences.append(difference(there, then))

    def _look_at(self, stage: str, item: Object) -> bool:
        """Note what applying one object would change; whether it is settled."""
        path = self._cluster.path_of(item, self._namespace)
        if not self.namespace_exists:
            self._create(stage, item)
            return False
        answer = self._cluster.request("GET", path)
        if answer.status == 404:
            # A dry run tells what admission thinks of it.
            self._create(stage, self._dry_run(item, path) or item)
            return False
        if answer.status != 200:
            raise ApiError(0, f"{_name(item)} cannot be read: {answer.message}")
        there = answer.body
        self.existing.append(_name(item))
        if identity(item) == ("Deployment", _SERVER):
            self.image = _image(there)
        if OFFLINE_ANNOTATION in (there["metadata"].get("annotations") or {}):
            self.offline.append(_name(item))
        if job_failed(there):
            self.failed_jobs.append(_definition(item))
            self._create(stage, item)
            return False
        adopted = is_kubectls(there)
        left = leaves_replicas(there, item, self._manager)
        if adopted or left:
            self.take_over.append(_name(item))
        then = self._dry_run(item, path)
        if left and then is not None:
            # Given up before it is applied, they stay.
            then["spec"]["replicas"] = there["spec"]["replicas"]
        if then is not None and _template(there) != _template(then):
            self.restarts.append(_name(item))
        if adopted or then is None or not is_ours(there, self._manager) or not same(there, then):
            self.changes[stage].append(f"update {_name(item)}")
            self._note(there, then or item)
            return False
        return is_settled(there)

    def stage(self, name: str, items: list[Object]) -> None:
        """Look at all objects of a stage."""
        self.changes[name] = []
        # Every object is looked at, also after one that is not settled.
        looked_at = [self._look_at(name, item) for item in items]
        self.settled[name] = all(looked_at)

    def left_over(
        self,
        part_of: str,
        rendered: set[tuple[str, str]],
        secrets: t.Collection[str] | None = None,
    ) -> list[Object]:
        """Return what an earlier release applied and this one does not have."""
        if not self.namespace_exists:
            return []
        kinds = [
            kind
            for kind in (*KINDS.values(), *OPTIONAL_KINDS)
            if kind.namespaced and kind.kind not in _NEVER_PRUNED
        ]
        found = []
        needed: set[str] = set()
        if secrets is not None:
            kinds.append(SECRET)
            needed = {*secrets, *self._needed_to_go_back()}
        for api_version, kind, path in (
            (kind.api_version, kind.kind, kind.path(self._namespace)) for kind in kinds
        ):
            answer = self._cluster.request(
                "GET",
                path,
                query={"labelSelector": f"app.kubernetes.io/part-of={part_of}"},
            )
            # A kind that the cluster does not have, or that we may not see, holds nothing of ours.
            for item in (answer.body.get("items") or []) if answer.status == 200 else []:
                item = {"apiVersion": api_version, "kind": kind, **item}
                metadata = item["metadata"]
                if kind == "Secret" and (
                    metadata["name"] in needed or not _HASHED.fullmatch(metadata["name"])
                ):
                    continue
                if (
                    identity(item) in rendered
                    or metadata.get("deletionTimestamp")
                    or metadata.get("ownerReferences")
                ):
                    continue
                if is_ours(item, self._manager):
                    found.append(_definition(item))
                elif is_ours(item, BACKUPS_FIELD_MANAGER):
                    self.left_by_backups.append(_definition(item))
        if any(item["kind"] == "Secret" for item in found) and not self._may_delete_secrets():
            return [item for item in found if item["kind"] != "Secret"]
        return found

    def _needed_to_go_back(self) -> list[str]:
        """Return the Secrets that a recorded release needs."""
        path = CONFIG_MAP.path(self._namespace)
        answer = self._cluster.request("GET", f"{path}/{record.NAME}")
        try:
            return record.needed_secrets(record.read(answer.body))
        except record.RecordError as error:
            raise ApiError(0, str(error)) from None

    def _may_delete_secrets(self) -> bool:
        """Whether the account may; a deployment needs it for nothing else."""
        attributes = {"verb": "delete", "resource": "secrets", "namespace": self._namespace}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self._cluster.request("POST", _REVIEWS, review)
        return bool((answer.body.get("status") or {}).get("allowed"))


def compare(cluster: Api, params: dict[str, t.Any], show: bool = False) -> dict[str, t.Any]:
    """Compare the whole release; show what differs if asked."""
    comparison = Comparison(cluster, params["namespace"], params["field_manager"], show)
    for stage, items in params["stages"].items():
        comparison.stage(stage, items)
    if comparison.problems:
        raise ApiError(0, "; ".join(comparison.problems))
    rendered = {identity(item) for items in params["stages"].values() for item in items}
    return {
        "changed": False,
        "changes": comparison.changes,
        "differences": comparison.differences,
        "settled": comparison.settled,
        "namespace_exists": comparison.namespace_exists,
        "take_over": comparison.take_over,
        "failed_jobs": comparison.failed_jobs,
        "prune": comparison.left_over(params["part_of"], rendered, params["secrets"]),
        "left_by_backups": comparison.left_by_backups,
        "existing": comparison.existing,
        "restarts": comparison.restarts,
        "offline": comparison.offline,
        "image": comparison.image,
    }


def main() -> None:
    """Entry point."""
    spec = dict(AUTH_ARG_SPEC)
    spec.update(
        stages={"type": "dict", "required": True},
        namespace={"type": "str", "required": True},
        part_of={"type": "str", "default": "mlflow"},
        secrets={"type": "list", "elements": "str", "no_log": False},
        field_manager={"type": "str", "default": FIELD_MANAGER},
    )
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    try:
        result = compare(Api.of(module), module.params, module._diff)
    except ApiError as error:
        module.fail_json(msg=f"{error}. Nothing was written.")
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
