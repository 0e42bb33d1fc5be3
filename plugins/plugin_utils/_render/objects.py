# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at rendered objects: what is there, whose it is, what it asks for. Pure functions."""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.values import (
    image_parts,
    version_of_tag,
)

Object = dict[str, t.Any]

STAGES = ("config", "database", "migration", "server", "smoke-test")
COMPONENT_LABEL = "app.kubernetes.io/component"
DEVELOPMENT_LABEL = "mlops.mlflow/development-only"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
ARTIFACTS = "MLFLOW_ARTIFACTS_DESTINATION"
CREDENTIALS = "mlflow-credentials"
# How M(mlops.mlflow.release_credentials) makes a value of each key that is not there.
CREDENTIAL_KEYS = {
    "database-username": "username",
    "database-password": "password",
    "flask-secret-key": "key",
    "webhook-encryption-key": "fernet",
    "kek-passphrase": "key",
    "admin-username": "admin",
    "admin-password": "password",
}
# What External Secrets fills, where only some values come from a store; see external_secrets.
EXTERNAL = "mlflow-external"
SERVER = "mlflow"
GC = "mlflow-gc"
DATABASE = "postgres"
BACKUP = "mlflow-backup"
BACKUP_S3 = "mlflow-backup-s3"

# The names of the images in base and in the components. An overlay may have others; what is added
# on top of it is then to have them too: a client of another version than the server's, with a
# database at hand, would migrate that.
PUBLISHED = {SERVER: "ghcr.io/mlflow/mlflow", DATABASE: "docker.io/library/postgres"}

_CLUSTER_SCOPED = (
    "Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "PriorityClass",
    "PersistentVolume", "StorageClass", "IngressClass", "GatewayClass",
    "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration",
)  # fmt: skip
# What others refer to comes first; the rest keeps the order kustomize gave it.
FIRST = (
    "Namespace", "CustomResourceDefinition", "ResourceQuota", "LimitRange", "ServiceAccount",
    "ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding", "ConfigMap",
    "PersistentVolumeClaim", "Service",
)  # fmt: skip
_CONFIG_KINDS = (*FIRST[:-2], "NetworkPolicy")


def find(objects: t.Iterable[Object], kind: str, name: str) -> Object | None:
    """Return the object of that kind and name."""
    for item in objects:
        if item.get("kind") == kind and item.get("metadata", {}).get("name") == name:
            return item
    return None


def label(item: Object, name: str) -> str:
    """Return the value of a label, or an empty string."""
    return str((item.get("metadata", {}).get("labels") or {}).get(name, ""))


def jobs(objects: t.Iterable[Object], component: str) -> list[Object]:
    """Return the Jobs of a component."""
    return [
        item
        for item in objects
        if item.get("kind") == "Job" and label(item, COMPONENT_LABEL) == component
    ]


def pod_of(workload: Object | None) -> Object:
    """Return the specification of a workload's pods, a CronJob's too, or nothing."""
    spec = (workload or {}).get("spec") or {}
    if (workload or {}).get("kind") == "CronJob":
        spec = spec.get("jobTemplate", {}).get("spec") or {}
    return spec.get("template", {}).get("spec") or {}


def container(workload: Object | None, name: str) -> Object:
    """Return the named container of a workload, else its first one, else nothing."""
    pod = pod_of(workload)
    found = [item for item in pod.get("containers", []) if item.get("name") == name]
    every = found or pod.get("containers", [])
    return t.cast(Object, every[0]) if every else {}


def credential_keys(objects: t.Iterable[Object]) -> dict[str, str]:
    """Return the keys of the release's Secret that its pods ask for, and how each is made.

    A key that is not known here is somebody's own, and nothing to make up.
    """
    asked: set[str] = set()
    for item in objects:
        pod = pod_of(item)
        for each in [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]:
            for variable in each.get("env") or []:
                reference = (variable.get("valueFrom") or {}).get("secretKeyRef") or {}
                if reference.get("name") == CREDENTIALS:
                    asked.add(str(reference.get("key")))
        for volume in pod.get("volumes") or []:
            secret = volume.get("secret") or {}
            if secret.get("secretName") == CREDENTIALS:
                asked |= {str(entry.get("key")) for entry in secret.get("items") or []}
    return {key: kind for key, kind in CREDENTIAL_KEYS.items() if key in asked}


def autoscaler(objects: t.Iterable[Object], name: str = SERVER) -> Object | None:
    """Return the HorizontalPodAutoscaler that decides how many replicas the Deployment has."""
    for item in objects:
        if item.get("kind") == "HorizontalPodAutoscaler":
            target = item.get("spec", {}).get("scaleTargetRef", {})
            if (target.get("kind"), target.get("name")) == ("Deployment", name):
                return item
    return None


def stage_of(item: Object) -> str:
    """Return the stage that owns an object: its component label, else what suits its kind."""
    component = label(item, COMPONENT_LABEL)
    if component in STAGES:
        return component
    return "config" if item.get("kind") in _CONFIG_KINDS else "server"


def version_of(objects: t.Iterable[Object]) -> str:
    """Return the version of MLflow that the server's image tag names, or an empty string."""
    parts = image_parts(str(container(find(objects, "Deployment", SERVER), SERVER).get("image")))
    return version_of_tag(parts["tag"]) if parts else ""


def artifact_store(objects: t.Iterable[Object]) -> str:
    """Return where the release's artifacts go, as its configuration says, or an empty string."""
    for item in objects:
        data = item.get("data") or {}
        if item.get("kind") == "ConfigMap" and ARTIFACTS in data:
            return str(data[ARTIFACTS])
    return ""


def namespaces(objects: list[Object]) -> list[str]:
    """Return the namespaces of the objects, sorted; an empty one is that of kubectl's context."""
    return sorted(
        {
            str(item["metadata"].get("namespace", ""))
            for item in objects
            if item.get("kind") not in _CLUSTER_SCOPED
        }
    )


def namespace_of(objects: list[Object]) -> str:
    """Return the namespace of the release: the server's, else the only one there is."""
    server = find(objects, "Deployment", SERVER)
    if server is not None:
        return str(server["metadata"].get("namespace", ""))
    names = namespaces(objects)
    return names[0] if len(names) == 1 else ""
