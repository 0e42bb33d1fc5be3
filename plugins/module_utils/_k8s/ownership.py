# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who owns which field of an object, and whether two states of it differ. Pure functions."""

from __future__ import annotations

import copy
import typing as t

Object = dict[str, t.Any]

FIELD_MANAGER = "mlops.mlflow"
# Of what only a backup's Jobs need, where the release does not have the component: see
# roles/backup/tasks/objects.yml.
BACKUPS_FIELD_MANAGER = "mlops.mlflow.backups"
# How many replicas a Deployment had before it was taken out of service.
OFFLINE_ANNOTATION = "mlops.mlflow/replicas"
# On a CronJob that a run suspended, not its owner.
SUSPENDED_ANNOTATION = "mlops.mlflow/suspended"
# The backup for whose restore it was.
RESTORE_ANNOTATION = "mlops.mlflow/restore"

# What kubectl applies under: on the client, with --server-side, and for its annotation then.
_KUBECTL = {
    ("kubectl-client-side-apply", "Update"),
    ("kubectl", "Apply"),
    ("kubectl-last-applied", "Apply"),
}
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_IGNORED_METADATA = (
    "managedFields",
    "resourceVersion",
    "generation",
    "uid",
    "creationTimestamp",
)


def _managed(item: Object) -> list[Object]:
    return item.get("metadata", {}).get("managedFields") or []


def _is_kubectls(entry: Object) -> bool:
    name = (entry.get("manager"), entry.get("operation"))
    return name in _KUBECTL and not entry.get("subresource")


def _is_ours(entry: Object, manager: str = FIELD_MANAGER) -> bool:
    return (
        entry.get("manager") == manager
        and entry.get("operation") == "Apply"
        and not entry.get("subresource")
    )


def is_ours(item: Object, manager: str = FIELD_MANAGER) -> bool:
    """Whether the object was applied by this collection."""
    return any(_is_ours(entry, manager) for entry in _managed(item))


def is_kubectls(item: Object) -> bool:
    """Whether kubectl's apply owns fields of the object."""
    return any(_is_kubectls(entry) for entry in _managed(item))


def _union(first: Object, second: Object) -> Object:
    merged = copy.deepcopy(first)
    for key, value in second.items():
        merged[key] = _union(merged.get(key, {}), value)
    return merged


def leaves_replicas(item: Object, wanted: Object) -> bool:
    """Whether the new manifest leaves to an autoscaler the replicas that we or kubectl had set."""
    return (
        wanted.get("kind") == "Deployment"
        and "replicas" not in (wanted.get("spec") or {})
        and any(
            "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
            for entry in _managed(item)
            if _is_kubectls(entry) or _is_ours(entry)
        )
    )


def taken_over(item: Object, leave_replicas: bool = False) -> list[Object]:
    """Return the managedFields after what kubectl's apply owns has become ours.

    Follows client-go's csaupgrade: one Apply entry of ours owns the union, so that the next
    server-side apply removes what the new manifest no longer has. Replicas that are left to an
    autoscaler become nobody's instead: removed, they would be 1 until it has looked.
    """
    entries = copy.deepcopy(_managed(item))
    chosen = [entry for entry in entries if _is_kubectls(entry) or _is_ours(entry)]
    if not leave_replicas and not any(_is_kubectls(entry) for entry in chosen):
        return entries
    newest = max(chosen, key=lambda entry: str(entry.get("time", "")))
    fields: Object = {}
    for entry in chosen:
        # Sets of different API versions name different fields and cannot be put together.
        if entry.get("apiVersion") == newest.get("apiVersion"):
            fields = _union(fields, entry.get("fieldsV1") or {})
    if leave_replicas:
        fields.get("f:spec", {}).pop("f:replicas", None)
    ours = {**newest, "manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": fields}
    return [ours] + [entry for entry in entries if entry not in chosen]


def take_over_patch(item: Object, wanted: Object | None = None) -> list[Object]:
    """Return the JSON patch that readies an object for being applied as wanted, or an empty list.

    It takes the object over from kubectl, and gives replicas up to an autoscaler. It holds only for
    the resourceVersion that was read: a writer in between makes it a 409.
    """
    leave_replicas = leaves_replicas(item, wanted or {})
    if not leave_replicas and not is_kubectls(item):
        return []
    return [
        {
            "op": "replace",
            "path": "/metadata/managedFields",
            "value": taken_over(item, leave_replicas),
        },
        {
            "op": "replace",
            "path": "/metadata/resourceVersion",
            "value": item["metadata"]["resourceVersion"],
        },
    ]


def bare(item: Object) -> Object:
    """Return an object without status and bookkeeping."""
    metadata = {
        key: value
        for key, value in (item.get("metadata") or {}).items()
        if key not in _IGNORED_METADATA
    }
    return {
        **{key: value for key, value in item.items() if key not in ("metadata", "status")},
        "metadata": metadata,
    }


def same(first: Object, second: Object) -> bool:
    """Whether two states of an object agree in everything but status and bookkeeping."""
    return bare(first) == bare(second)


def identity(item: Object) -> tuple[str, str]:
    """Return kind and name, which tell the objects of one release apart."""
    return item["kind"], item["metadata"]["name"]


# --- states ---------------------------------------------------------------------------------------


def _condition(item: Object, kind: str) -> bool:
    conditions = (item.get("status") or {}).get("conditions") or []
    return any(entry.get("type") == kind and entry.get("status") == "True" for entry in conditions)


def job_failed(item: Object) -> bool:
    """Whether a Job has failed for good; it would stay so until it is deleted."""
    return item.get("kind") == "Job" and (
        _condition(item, "Failed") or _condition(item, "FailureTarget")
    )


def is_settled(item: Object) -> bool:
    """Whether there is nothing left to wait for, told from the object alone; strict."""
    kind = item.get("kind")
    status = item.get("status") or {}
    spec = item.get("spec") or {}
    if kind == "Job":
        return _condition(item, "Complete")
    if kind in ("Deployment", "StatefulSet"):
        wanted = spec.get("replicas", 1)
        return bool(
            status.get("observedGeneration") == item["metadata"].get("generation")
            and status.get("updatedReplicas", 0) == wanted
            and status.get("replicas", 0) == wanted
            and status.get("readyReplicas", 0) == wanted
            and status.get("availableReplicas", 0) == wanted
        )
    return kind != "DaemonSet"
