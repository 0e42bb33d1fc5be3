# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out whether a cluster answers, and permits what deploying a release takes."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.access import Permission, missing
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError

# Older API servers drop fields that the tree sets, or refuse them: matchLabelKeys of a spread, and
# unhealthyPodEvictionPolicy of a budget.
OLDEST = (1, 27)
# Seconds for the first answer, so that a wrong address is known at once.
_FIRST_ANSWER = 5.0
_APPLY = ("get", "create", "patch")
_KEPT = ("Namespace", "PersistentVolumeClaim", "Secret")
# What the waits look at and do: follow rollouts, read logs, ask MLflow and the schema helper.
_WATCHED = (
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("batch", "jobs"),
    ("", "pods"),
    ("", "events"),
    ("", "persistentvolumeclaims"),
)
# A websocket to a pod starts as a GET; servers from 1.35 on ask for create as well.
_POD_WORK = (
    ("get", "pods/log"),
    ("get", "pods/portforward"),
    ("create", "pods/portforward"),
    ("get", "pods/exec"),
    ("create", "pods/exec"),
    # One for which a StatefulSet waits in vain: see release_unblock.
    ("delete", "pods"),
)
# The release lock.
_LEASES = ("get", "create", "update", "delete")


def needed(
    cluster: Api, kinds: list[dict[str, str]], namespace: str, prune: bool
) -> list[Permission]:
    """Return every permission that deploying objects of these kinds takes, each once.

    In a namespace that is there: see create_namespace for one that is not.
    """
    found: dict[Permission, None] = {}
    for item in kinds:
        kind = cluster.find_kind(item["api_version"], item["kind"])
        plural, group, namespaced = kind.plural, kind.group, kind.namespaced
        verbs = list(_APPLY)
        if item["kind"] == "Job" or (prune and item["kind"] not in _KEPT and namespaced):
            verbs += ["list", "delete"]
        if item["kind"] == "Namespace":
            # One that is there stays as it is where an account may not look at it or change it.
            continue
        for verb in verbs:
            found[Permission(verb, group, plural, namespace if namespaced else "")] = None
    # Whether there is a volume with a database on it.
    found[Permission("get", "", "persistentvolumeclaims", namespace)] = None
    for group, plural in _WATCHED:
        for verb in ("list", "watch"):
            found[Permission(verb, group, plural, namespace)] = None
    for verb in _LEASES:
        found[Permission(verb, "coordination.k8s.io", "leases", namespace)] = None
    for verb, plural in _POD_WORK:
        found[Permission(verb, "", plural, namespace)] = None
    return list(found)


def create_namespace() -> Permission:
    """Return the permission to make the release's namespace, which no Role in it can grant."""
    return Permission("create", "", "namespaces", "")


def find_namespace(cluster: Api, name: str) -> dict[str, t.Any] | None:
    """Return a namespace, None if it is not there, {} if it may not be looked at."""
    answer = cluster.request("GET", f"/api/v1/namespaces/{name}")
    if answer.status == 403:
        # Whoever may do something in it by a Role knows that it is there.
        return {}
    if answer.status not in (200, 404):
        raise ApiError(0, f"the namespace {name} cannot be read: {answer.message}")
    return answer.body if answer.status == 200 else None


def _refuse(denied: list[str], where: str) -> None:
    if not denied:
        return
    error = ApiError(403, f"these permissions are missing {where}: {', '.join(denied)}")
    error.missing = denied
    raise error


def _refuse_old(version: dict[str, t.Any]) -> None:
    """Refuse a server that is too old, as far as it says how old it is."""
    named = re.match(r"v(\d+)\.(\d+)", str(version.get("gitVersion", "")))
    if named and (int(named[1]), int(named[2])) < OLDEST:
        raise ApiError(
            0,
            f"the cluster runs Kubernetes {version['gitVersion']}, and a release needs "
            f"{OLDEST[0]}.{OLDEST[1]} or newer",
        )


def check(cluster: Api, params: dict[str, t.Any]) -> dict[str, t.Any]:
    """Ask everything; raise ApiError with the one message when something is amiss."""
    namespace = params["namespace"]
    version = cluster.request("GET", "/version", read_timeout=_FIRST_ANSWER)
    if version.status not in (200, 403) or (version.status == 200 and not version.body):
        raise ApiError(
            0, f"what answers at {cluster.host} is not a Kubernetes API server ({version.message})"
        )
    _refuse_old(version.body)
    denied = missing(cluster, needed(cluster, params["kinds"], namespace, params["prune"]))
    _refuse(denied, f"in namespace {namespace}")
    space = find_namespace(cluster, namespace)
    exists = space is not None
    brought = any(item["kind"] == "Namespace" for item in params["kinds"])
    if not exists and not brought:
        raise ApiError(
            0,
            f"mlflow_namespace: the namespace {namespace} does not exist, and the overlay does "
            "not bring it",
        )
    if not exists:
        _refuse(
            missing(cluster, [create_namespace()]),
            f"in the cluster, and the namespace {namespace} does not exist",
        )
    if ((space or {}).get("metadata") or {}).get("deletionTimestamp"):
        raise ApiError(0, f"mlflow_namespace: the namespace {namespace} is being deleted")
    return {
        "server_version": str(version.body.get("gitVersion", "")),
        "namespace_exists": exists,
    }
