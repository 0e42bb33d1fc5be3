# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at rendered objects: what is there, whose it is, what it asks for. Pure functions."""

from __future__ import annotations

import itertools
import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import words_of
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.notations import (
    image_parts,
    version_of_tag,
)

Object = dict[str, t.Any]

STAGES = ("config", "database", "migration", "server", "smoke-test")
COMPONENT_LABEL = "app.kubernetes.io/component"
PART_LABEL = "app.kubernetes.io/part-of"
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
# What the tree's generators make for pods. Its name has a hash, so that a change rolls them.
GENERATED = (
    "mlflow-auth", "mlflow-backup", "mlflow-backup-s3", "mlflow-backup-s3-script",
    "mlflow-backup-script", "mlflow-config", "mlflow-gc", "mlflow-metrics", "mlflow-schema",
    "mlflow-smoke-test", "postgres-start",
)  # fmt: skip
SERVER = "mlflow"
GC = "mlflow-gc"
DATABASE = "postgres"
BACKUP = "mlflow-backup"
BACKUP_DRILL = "mlflow-backup-drill"
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


def without_hash(name: str) -> str:
    """Return the name of a generated object as its generator has it."""
    return re.sub(r"-[bcdfghkmt2456789]{10}$", "", name)


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


def pod_template_of(workload: Object | None) -> Object:
    """Return what a workload makes its pods from, a CronJob's too, or nothing."""
    spec = (workload or {}).get("spec") or {}
    if (workload or {}).get("kind") == "CronJob":
        spec = spec.get("jobTemplate", {}).get("spec") or {}
    found = spec.get("template") if isinstance(spec, dict) else None
    return found if isinstance(found, dict) and "spec" in found else {}


def pod_of(workload: Object | None) -> Object:
    """Return the specification of a workload's pods, or nothing."""
    return pod_template_of(workload).get("spec") or {}


def container(workload: Object | None, name: str) -> Object:
    """Return the named container of a workload, else its first one, else nothing."""
    pod = pod_of(workload)
    found = [item for item in pod.get("containers", []) if item.get("name") == name]
    every = found or pod.get("containers", [])
    return t.cast(Object, every[0]) if every else {}


def containers_of(workload: Object | None) -> list[Object]:
    """Return the containers of a workload, in start order."""
    pod = pod_of(workload)
    return [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]


def environment(objects: list[Object], item: Object) -> dict[str, str]:
    """Return a container's environment as far as it is in the render (Secrets are not)."""
    found: dict[str, str] = {}
    for source in item.get("envFrom") or []:
        name = (source.get("configMapRef") or {}).get("name")
        config = find(objects, "ConfigMap", str(name))
        found.update({key: str(value) for key, value in ((config or {}).get("data") or {}).items()})
    for variable in item.get("env") or []:
        reference = (variable.get("valueFrom") or {}).get("configMapKeyRef")
        if "value" in variable:
            found[variable["name"]] = str(variable["value"])
        elif reference:
            config = find(objects, "ConfigMap", str(reference.get("name")))
            data = (config or {}).get("data") or {}
            if reference.get("key") in data:
                found[variable["name"]] = str(data[reference["key"]])
    return found


def options_of(item: Object) -> list[str]:
    """Return what a container is started with, the name of an option and its value apart."""
    return [part for word in words_of(item) for part in word.replace("=", " ").split()]


def values_after(item: Object, *names: str) -> t.Iterator[str]:
    """Yield the values of the options with these names."""
    return (value for name, value in itertools.pairwise(options_of(item)) if name in names)


def credential_keys(objects: t.Iterable[Object]) -> dict[str, str]:
    """Return the keys of the release's Secret that its pods ask for, and how each is made.

    A key that is not known here is somebody's own, and nothing to make up.
    """
    asked: set[str] = set()
    for item in objects:
        for each in containers_of(item):
            for variable in each.get("env") or []:
                reference = (variable.get("valueFrom") or {}).get("secretKeyRef") or {}
                if reference.get("name") == CREDENTIALS:
                    asked.add(str(reference.get("key")))
        for volume in pod_of(item).get("volumes") or []:
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
