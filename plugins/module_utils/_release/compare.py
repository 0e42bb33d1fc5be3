# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out what a release would change in the cluster."""

from __future__ import annotations

import functools
import itertools
import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.access import Permission, missing
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    CLAIM,
    CONFIG_MAP,
    KINDS,
    NAMESPACE,
    OPTIONAL_KINDS,
    SECRET,
    STATEFUL_SET,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.ownership import (
    BACKUPS_FIELD_MANAGER,
    FIELD_MANAGER,
    OFFLINE_ANNOTATION,
    SUSPENDED_ANNOTATION,
    Object,
    identity,
    is_kubectls,
    is_ours,
    is_settled,
    job_failed,
    leaves_replicas,
    same,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release import (
    database,
    difference,
    permissions,
    record,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.records import Records

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

    def __init__(
        self, cluster: Api, namespace: str, show: bool = False, other_postgres: bool = False
    ) -> None:
        self._show = show
        self._other_postgres = other_postgres
        self._cluster = cluster
        self._namespace = namespace
        self.changes: dict[str, list[str]] = {}
        self.differences: list[str] = []
        self.settled: dict[str, bool] = {}
        self.take_over: list[str] = []
        self.failed_jobs: list[Object] = []
        self.existing: list[str] = []
        self.restarts: list[str] = []
        self.offline: list[str] = []
        self.image = ""
        self.grow: list[Object] = []
        self.anew: list[Object] = []
        self.left_by_backups: list[Object] = []
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.diff: list[dict[str, str]] = []
        self._there: list[Object] | None = None
        space = permissions.find_namespace(cluster, namespace)
        self.namespace_exists = space is not None
        # Kinds of the release that are there, and that this account may not change.
        self.not_ours: list[str] = []
        # Of the addresses of the server's Service, the first one's.
        self.family = ""
        self.notes: list[str] = []
        self._space = space
        # Which pods the namespace refuses, and will refuse once this release has been applied.
        self.enforced = enforced_by(space)

    def _dry_run(self, item: Object, path: str) -> Object | None:
        answer = self._cluster.request(
            "PATCH",
            path,
            item,
            {"dryRun": "All", "fieldManager": FIELD_MANAGER, "force": "true"},
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
        if answer.status == 403 and item["kind"] == NAMESPACE.kind:
            self._leave(item)
            return None
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
            path = CONFIG_MAP.path(self._namespace)
            found = self._cluster.items(path, "ConfigMaps") if self.namespace_exists else []
            head = {"apiVersion": CONFIG_MAP.api_version, "kind": CONFIG_MAP.kind}
            self._there = [{**head, **item} for item in found]
        return self._there

    def _look_at(self, stage: str, item: Object) -> bool:
        """Note what applying one object would change; whether it is settled."""
        path = self._cluster.path_of(item, self._namespace)
        if not self.namespace_exists:
            self._create(stage, item)
            return False
        if item["kind"] == NAMESPACE.kind and not self._space:
            self._leave(item)
            return True
        there = self._cluster.find(path, _name(item))
        if item["kind"] == STATEFUL_SET.kind:
            self._look_at_volumes(item)
        if there is None:
            # A dry run tells what admission thinks of it.
            made = self._dry_run(item, path) or item
            self._note_family(made)
            self._create(stage, made)
            return False
        self.existing.append(_name(item))
        if identity(item) == ("Deployment", _SERVER):
            self.image = _image(there)
        marks = there["metadata"].get("annotations") or {}
        if OFFLINE_ANNOTATION in marks or SUSPENDED_ANNOTATION in marks:
            self.offline.append(_name(item))
        if job_failed(there):
            self.failed_jobs.append(_definition(item))
            self._create(stage, item)
            return False
        adopted = is_kubectls(there)
        left = leaves_replicas(there, item)
        if adopted or left:
            self.take_over.append(_name(item))
        anew = item["kind"] == STATEFUL_SET.kind and self._makes_anew(item, there)
        if anew:
            there_is = there["spec"]["volumeClaimTemplates"]
            item = {**item, "spec": {**item["spec"], "volumeClaimTemplates": there_is}}
        then = self._dry_run(item, path)
        self._note_family(then or item)
        if item["kind"] in self.not_ours:
            self.take_over = [name for name in self.take_over if name != _name(item)]
            return True
        if left and then is not None:
            # Given up before it is applied, they stay.
            then["spec"]["replicas"] = there["spec"]["replicas"]
        if then is not None and _template(there) != _template(then):
            self.restarts.append(_name(item))
        if anew or adopted or then is None or not is_ours(there) or not same(there, then):
            self.changes[stage].append(f"update {_name(item)}")
            self._note(there, then or item)
            return False
        return is_settled(there)

    def _note_family(self, item: Object) -> None:
        if identity(item) == ("Service", _SERVER):
            self.family = next(iter(item["spec"].get("ipFamilies") or [""]))

    def _leave(self, item: Object) -> None:
        """Let the namespace stay as it is, which this account may not change."""
        self.not_ours.append(item["kind"])
        asked, self.enforced = enforced_by(item), enforced_by(self._space)
        if self._space and asked != self.enforced:
            self.notes.append(
                f"{_name(item)}: this account may not change it, so it keeps its labels. The "
                f"overlay wants pod-security.kubernetes.io/enforce: {asked}, and it has "
                f"{self.enforced or 'none'}."
            )

    def _look_at_volumes(self, item: Object) -> None:
        """Note the volumes that are there, also those that a teardown left."""
        claims = [
            f"{CLAIM.kind}/{name}"
            for name in database.claims(item)
            if self._cluster.find(CLAIM.item(self._namespace, name), f"{CLAIM.kind}/{name}")
        ]
        self.existing += claims
        if claims and database.is_database(item) and not self._other_postgres:
            problem = database.other_version(item, self._last_release().get("postgres_image", ""))
            self.problems += [problem] if problem else []

    def _makes_anew(self, item: Object, there: Object) -> bool:
        """Note which volumes grow; whether a StatefulSet is made anew around its pods for that."""
        found = database.fit(self._cluster, self._namespace, item, there)
        self.problems += found.problems
        self.grow += found.grow
        for one in found.grow:
            self.differences += (
                [f"{CLAIM.kind}/{one['name']}: {one['from']} → {one['to']}"] if self._show else []
            )
        if found.anew and not found.problems:
            self.anew.append(_definition(item))
            needs = [
                Permission("delete", "apps", "statefulsets", self._namespace),
                Permission("patch", "", "persistentvolumeclaims", self._namespace),
            ]
            denied = missing(self._cluster, needs)
            if denied:
                self.problems.append(
                    f"mlflow_database_storage_size: to change it takes {', '.join(denied)}"
                )
        return found.anew

    def stage(self, name: str, items: list[Object]) -> None:
        """Look at all objects of a stage."""
        self.changes[name] = []
        # Every object is looked at, also after one that is not settled.
        looked_at = [self._look_at(name, item) for item in items]
        self.settled[name] = all(looked_at)

    def left_over(
        self,
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
                query={"labelSelector": "app.kubernetes.io/part-of=mlflow"},
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
                if is_ours(item):
                    found.append(_definition(item))
                elif is_ours(item, BACKUPS_FIELD_MANAGER):
                    self.left_by_backups.append(_definition(item))
        if any(item["kind"] == "Secret" for item in found) and not self._may_delete_secrets():
            return [item for item in found if item["kind"] != "Secret"]
        return found

    def _needed_to_go_back(self) -> list[str]:
        """Return the Secrets that a recorded release needs."""
        return record.needed_secrets(self._recorded)

    def _last_release(self) -> Object:
        """Return the last release that served."""
        return next(iter(self._recorded.releases), {})

    @functools.cached_property
    def _recorded(self) -> record.Record:
        return Records(self._cluster, self._namespace).read()

    def _may_delete_secrets(self) -> bool:
        """Whether the account may; a deployment needs it for nothing else."""
        return not missing(self._cluster, [Permission("delete", "", "secrets", self._namespace)])


def listens_on(objects: list[Object]) -> str:
    """Return the address that the servers are told to listen on, or nothing if none is."""
    for item in objects:
        if identity(item) == ("Deployment", _SERVER):
            pod = item["spec"].get("template", {}).get("spec") or {}
            for container in pod.get("containers") or []:
                words = [*(container.get("command") or []), *(container.get("args") or [])]
                for word, after in itertools.pairwise(map(str, [*words, ""])):
                    if word in ("--host", "-h"):
                        return after
    maps = [item.get("data") or {} for item in objects if item["kind"] == CONFIG_MAP.kind]
    return next((str(data["MLFLOW_HOST"]) for data in maps if "MLFLOW_HOST" in data), "")


def compare(cluster: Api, params: dict[str, t.Any], show: bool = False) -> dict[str, t.Any]:
    """Compare the whole release; show what differs if asked."""
    comparison = Comparison(cluster, params["namespace"], show, params.get("other_postgres", False))
    every = [item for items in params["stages"].values() for item in items]
    spaces = [item for item in every if identity(item) == ("Namespace", params["namespace"])]
    if spaces:
        comparison.enforced = enforced_by(spaces[0])
    for stage, items in params["stages"].items():
        comparison.stage(stage, items)
    host = listens_on(every)
    if comparison.family == "IPv6" and host and ":" not in host:
        comparison.problems.append(
            f"mlflow_config.MLFLOW_HOST: MLflow listens on {host}, and the cluster's Services have "
            'IPv6 addresses: nobody would reach it. Set it to "::"'
        )
    if comparison.problems:
        raise ApiError(0, "; ".join(comparison.problems))
    rendered = {identity(item) for item in every}
    prune = comparison.left_over(rendered, params["secrets"])
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
        "grow": comparison.grow,
        "anew": comparison.anew,
        "warnings_of_server": comparison.warnings,
        "not_ours": comparison.not_ours,
        "notes": comparison.notes,
    }
