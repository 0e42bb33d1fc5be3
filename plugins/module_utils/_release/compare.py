# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out what a release would change in the cluster."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.access import Permission, missing
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import (
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
    OFFLINE_ANNOTATION,
    Object,
    identity,
    is_kubectls,
    is_ours,
    is_settled,
    job_failed,
    leaves_replicas,
    same,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release import difference, record

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
_SERVER = "mlflow"
_VIOLATES = re.compile(r'would violate PodSecurity "(?P<level>\w+):')


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


def enforced_by(namespace: Object | None) -> str:
    """Return the level of Pod Security that a namespace enforces, or nothing."""
    labels = ((namespace or {}).get("metadata") or {}).get("labels") or {}
    return str(labels.get("pod-security.kubernetes.io/enforce", ""))


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
        self.warnings: list[str] = []
        self.diff: list[dict[str, str]] = []
        self._there: list[Object] | None = None
        answer = cluster.request("GET", f"/api/v1/namespaces/{namespace}")
        if answer.status not in (200, 404):
            raise ApiError(0, f"the namespace {namespace} cannot be read: {answer.message}")
        self.namespace_exists = answer.status == 200
        # Which pods the namespace refuses, and will refuse once this release has been applied.
        self.enforced = enforced_by(answer.body)

    def _dry_run(self, item: Object, path: str) -> Object | None:
        answer = self._cluster.request(
            "PATCH",
            path,
            item,
            {"dryRun": "All", "fieldManager": self._manager, "force": "true"},
            "application/apply-patch+yaml",
        )
        if answer.status in (200, 201):
            for text in answer.warnings:
                found = _VIOLATES.match(text)
                if found and found["level"] == self.enforced:
                    self.problems.append(
                        f"{_name(item)}: Pod Security of namespace {self._namespace} would refuse "
                        f"its pods, which {text.removeprefix('would ')}"
                    )
            self.warnings += [
                f"{_name(item)}: {text}" for text in answer.warnings if text not in self.warnings
            ]
            return answer.body
        self.problems.append(f"{_name(item)} cannot be applied: {answer.message}")
        return None

    def _create(self, stage: str, item: Object) -> None:
        self.changes[stage].append(f"create {_name(item)}")
        self._note(None, item)

    def _note(self, there: Object | None, then: Object) -> None:
        if not self._show:
            return
        if there is None and then["kind"] == "ConfigMap":
            there = difference.predecessor(then, self._config_maps())
        self.differences += difference.lines(there, then)
        name = _name(then)
        text = {
            side: "".join(
                f"{change[0]}: {change[column]}\n"
                for change in (difference.changes(there, then) if there else [])
            )
            for side, column in (("before", 1), ("after", 2))
        }
        if there is None:
            text = {"before": "", "after": f"{difference.lines(None, then)[0]}\n"}
        self.diff.append({"before_header": name, "after_header": name, **text})

    def _config_maps(self) -> list[Object]:
        """Return the ConfigMaps that are there, asked for once."""
        if self._there is None:
            self._there = []
            if self.namespace_exists:
                answer = self._cluster.request("GET", CONFIG_MAP.path(self._namespace))
                head = {"apiVersion": CONFIG_MAP.api_version, "kind": CONFIG_MAP.kind}
                self._there = [{**head, **item} for item in answer.body.get("items") or []]
        return self._there

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
                    metadata["name"] in needed or not difference.base_of(metadata["name"])
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
        return not missing(self._cluster, [Permission("delete", "", "secrets", self._namespace)])


def compare(cluster: Api, params: dict[str, t.Any], show: bool = False) -> dict[str, t.Any]:
    """Compare the whole release; show what differs if asked."""
    comparison = Comparison(cluster, params["namespace"], params["field_manager"], show)
    every = [item for items in params["stages"].values() for item in items]
    spaces = [item for item in every if identity(item) == ("Namespace", params["namespace"])]
    if spaces:
        comparison.enforced = enforced_by(spaces[0])
    for stage, items in params["stages"].items():
        comparison.stage(stage, items)
    if comparison.problems:
        raise ApiError(0, "; ".join(comparison.problems))
    rendered = {identity(item) for item in every}
    prune = comparison.left_over(params["part_of"], rendered, params["secrets"])
    if comparison.differences:
        comparison.differences.append(difference.summary(comparison.changes, len(prune)))
    return {
        "changes": comparison.changes,
        "differences": comparison.differences,
        "settled": comparison.settled,
        "namespace_exists": comparison.namespace_exists,
        "take_over": comparison.take_over,
        "failed_jobs": comparison.failed_jobs,
        "prune": prune,
        **({"diff": comparison.diff} if show else {}),
        "left_by_backups": comparison.left_by_backups,
        "existing": comparison.existing,
        "restarts": comparison.restarts,
        "offline": comparison.offline,
        "image": comparison.image,
        "warnings_of_server": comparison.warnings,
    }
