# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn an inventory's settings into a small kustomization on top of an overlay.

Pure functions: rendered objects and settings in, the text of a kustomization or a grouping out.
What they are given may hold Secrets, so what they raise is a fixed message without any value.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing as t

from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.values import (
    image_parts,
    version_of_tag,
    with_version,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import exposure

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
_FIRST = (
    "Namespace", "CustomResourceDefinition", "ResourceQuota", "LimitRange", "ServiceAccount",
    "ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding", "ConfigMap",
    "PersistentVolumeClaim", "Service",
)  # fmt: skip
_CONFIG_KINDS = (*_FIRST[:-2], "NetworkPolicy")


class SettingsError(Exception):
    """A setting that cannot be applied to this overlay; the message names the variable."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What an inventory sets, with empty values for what it leaves to the overlay."""

    namespace: str = ""
    version: str = ""
    image: str = ""
    postgres_image: str = ""
    replicas: int | None = None
    resources: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    config: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    hosts: list[str] = dataclasses.field(default_factory=list)
    url: str = ""
    tls_secret: str = ""
    ingress_class: str = ""
    ingress_annotations: dict[str, str] = dataclasses.field(default_factory=dict)
    gateway: dict[str, str] = dataclasses.field(default_factory=dict)
    static_prefix: str = ""
    upload_limit: str = ""
    proxy_timeout: int | None = None
    service_type: str = ""
    node_port: int | None = None
    storage_class: str = ""
    artifact_storage_size: str = ""
    database_storage_size: str = ""
    secrets: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    secret_store: dict[str, str] = dataclasses.field(default_factory=dict)
    backup_schedule: str = ""
    backup_keep: int | None = None
    backup_keep_days: int | None = None
    backup_storage_size: str = ""
    backup_s3: dict[str, str] = dataclasses.field(default_factory=dict)
    gc_schedule: str = ""
    gc_older_than: str = ""
    size: str = ""
    autoscaling: dict[str, int] = dataclasses.field(default_factory=dict)
    database_max_connections: int | None = None


# --- looking at rendered objects ------------------------------------------------------------------


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


# --- from settings to a kustomization -------------------------------------------------------------


def _image_edit(current: str, wanted: str, version: str = "") -> Object:
    parts = image_parts(current) or {"name": current, "tag": "", "digest": ""}
    edit: Object = {"name": parts["name"]}
    if wanted:
        new = image_parts(wanted) or {}
        edit["newName"] = new["name"]
        if new["tag"]:
            edit["newTag"] = new["tag"]
        if new["digest"]:
            edit["digest"] = new["digest"]
        if not new["tag"] and not new["digest"]:
            edit["newTag"] = parts["tag"] or "latest"
    else:
        edit["newTag"] = with_version(parts["tag"], version)
    return edit


def _patch(kind: str, name: str, operations: list[Object] | Object) -> Object:
    target = {"kind": kind, "name": name}
    return {"target": target, "patch": json.dumps(operations, sort_keys=True)}


def _merge_patch(item: Object, change: Object) -> Object:
    head = {
        "apiVersion": item["apiVersion"],
        "kind": item["kind"],
        "metadata": {"name": item["metadata"]["name"]},
    }
    return _patch(item["kind"], item["metadata"]["name"], {**head, **change})


def _required(objects: list[Object], kind: str, name: str, variable: str) -> Object:
    item = find(objects, kind, name)
    if item is None:
        raise SettingsError(f"{variable}: the overlay has no {kind} {name} to set it on")
    return item


def _uses(objects: list[Object], image: str) -> bool:
    """Whether any container has an image of that name."""
    for item in objects:
        pod = pod_of(item)
        for each in [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]:
            if (image_parts(str(each.get("image", ""))) or {}).get("name") == image:
                return True
    return False


def _as_published(
    objects: list[Object], current: str, edit: Object | None, which: str
) -> t.Iterator[Object]:
    """Give what still has the published image the one that the workload has, or will have."""
    parts = image_parts(current)
    published = PUBLISHED[which]
    if not parts or parts["name"] == published or not _uses(objects, published):
        return
    if edit is None:
        edit = {"newTag": parts["tag"] or "latest"}
        if parts["digest"]:
            edit = {"digest": parts["digest"]}
    yield {"newName": parts["name"], **edit, "name": published}


def _images(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    mlflow = str(container(find(objects, "Deployment", SERVER), SERVER).get("image", ""))
    edits = list(_mlflow_image(objects, settings))
    yield from edits
    yield from _as_published(objects, mlflow, edits[0] if edits else None, SERVER)
    database = str(container(find(objects, "StatefulSet", DATABASE), DATABASE).get("image", ""))
    edits = list(_postgres_image(objects, settings))
    yield from edits
    yield from _as_published(objects, database, edits[0] if edits else None, DATABASE)


def _mlflow_image(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    if settings.image or settings.version:
        variable = "mlflow_image" if settings.image else "mlflow_version"
        server = container(_required(objects, "Deployment", SERVER, variable), SERVER)
        current = str(server.get("image", ""))
        if not settings.image and "@" in current:
            raise SettingsError(
                "mlflow_version: the overlay pins the image by digest; set mlflow_image as well"
            )
        yield _image_edit(current, settings.image, settings.version)


def _postgres_image(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    if settings.postgres_image:
        # Where the database is somebody else's, the image is that of the backups.
        workload = find(objects, "CronJob", BACKUP) or _required(
            objects, "StatefulSet", DATABASE, "mlflow_postgres_image"
        )
        current = str(container(workload, DATABASE).get("image", ""))
        yield _image_edit(current, settings.postgres_image)


def _replicas(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    scaled = autoscaler(objects)
    if settings.replicas is not None and scaled is not None:
        raise SettingsError(
            "mlflow_replicas: a HorizontalPodAutoscaler decides how many there are; leave it out"
        )
    deployment = find(objects, "Deployment", SERVER)
    if scaled is not None and deployment and "replicas" in deployment["spec"]:
        # Applying a number would undo the autoscaler's at every run.
        yield _patch("Deployment", SERVER, [{"op": "remove", "path": "/spec/replicas"}])
    if settings.replicas is not None:
        item = _required(objects, "Deployment", SERVER, "mlflow_replicas")
        yield _merge_patch(item, {"spec": {"replicas": settings.replicas}})


def _autoscaling(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Say between which numbers the autoscaler chooses, and what for."""
    wanted = {name: int(number) for name, number in settings.autoscaling.items() if number}
    if not wanted:
        return
    scaled = autoscaler(objects)
    if scaled is None:
        raise SettingsError("mlflow_autoscaling: there is no autoscaler of the Deployment mlflow")
    spec = scaled["spec"]
    least = wanted.get("min") or spec.get("minReplicas", 1)
    most = wanted.get("max") or spec["maxReplicas"]
    if least > most:
        raise SettingsError(f"mlflow_autoscaling: min, {least}, is more than max, {most}")
    operations: list[Object] = [
        {"op": "add", "path": "/spec/minReplicas", "value": least},
        {"op": "add", "path": "/spec/maxReplicas", "value": most},
    ]
    if wanted.get("cpu"):
        for index, metric in enumerate(spec.get("metrics") or []):
            kind = {"Resource": "resource", "ContainerResource": "containerResource"}.get(
                metric.get("type", ""), ""
            )
            if kind and metric[kind].get("name") == "cpu":
                path = f"/spec/metrics/{index}/{kind}/target"
                target = {"type": "Utilization", "averageUtilization": wanted["cpu"]}
                operations.append({"op": "add", "path": path, "value": target})
                break
        else:
            raise SettingsError("mlflow_autoscaling.cpu: the autoscaler does not go by CPU")
    yield _patch("HorizontalPodAutoscaler", scaled["metadata"]["name"], operations)


_MAX_CONNECTIONS = "max_connections="


def _max_connections(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Start the bundled Postgres with that many connections; of another it only says so."""
    database = find(objects, "StatefulSet", DATABASE)
    if settings.database_max_connections is None or database is None:
        return
    item = container(database, DATABASE)
    index = database["spec"]["template"]["spec"]["containers"].index(item)
    wanted = f"{_MAX_CONNECTIONS}{settings.database_max_connections}"
    words = [str(word) for word in item.get("args") or []]
    kept = [wanted if word.startswith(_MAX_CONNECTIONS) else word for word in words]
    if wanted not in kept:
        kept += ["-c", wanted]
    path = f"/spec/template/spec/containers/{index}/args"
    yield _patch("StatefulSet", DATABASE, [{"op": "add", "path": path, "value": kept}])


def _resources(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    if any(settings.resources.values()):
        item = _required(objects, "Deployment", SERVER, "mlflow_resources")
        wanted = {
            kind: {name: str(amount) for name, amount in amounts.items()}
            for kind, amounts in settings.resources.items()
            if amounts
        }
        change = {"name": container(item, SERVER).get("name", SERVER), "resources": wanted}
        yield _merge_patch(item, {"spec": {"template": {"spec": {"containers": [change]}}}})


def _service(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    if not settings.service_type and settings.node_port is None:
        return
    variable = "mlflow_service_type" if settings.service_type else "mlflow_node_port"
    item = _required(objects, "Service", SERVER, variable)
    kind = settings.service_type or item["spec"].get("type", "ClusterIP")
    if settings.node_port is not None and kind == "ClusterIP":
        raise SettingsError(
            "mlflow_node_port: the Service is of type ClusterIP; set mlflow_service_type: NodePort"
        )
    operations: list[Object] = [{"op": "add", "path": "/spec/type", "value": kind}]
    for index, port in enumerate(item["spec"].get("ports", [])):
        path = f"/spec/ports/{index}/nodePort"
        if settings.node_port is not None and (port.get("name") in ("http", None) or index == 0):
            operations.append({"op": "add", "path": path, "value": settings.node_port})
            break
        if kind == "ClusterIP" and "nodePort" in port:
            operations.append({"op": "remove", "path": path})
    yield _patch("Service", SERVER, operations)


def _storage(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    artifacts = find(objects, "PersistentVolumeClaim", "mlflow-artifacts")
    database = find(objects, "StatefulSet", DATABASE)
    if settings.artifact_storage_size and artifacts is None:
        raise SettingsError(
            "mlflow_artifact_storage_size: the overlay has no volume mlflow-artifacts to set it on"
        )
    if settings.database_storage_size and database is None:
        raise SettingsError(
            "mlflow_database_storage_size: the overlay has no StatefulSet postgres to set it on"
        )

    def edits(prefix: str, size: str) -> list[Object]:
        size_path = f"{prefix}/spec/resources/requests/storage"
        found: list[Object] = []
        if size:
            found.append({"op": "add", "path": size_path, "value": size})
        if settings.storage_class:
            path = f"{prefix}/spec/storageClassName"
            found.append({"op": "add", "path": path, "value": settings.storage_class})
        return found

    operations = edits("", settings.artifact_storage_size)
    if artifacts is not None and operations:
        yield _patch("PersistentVolumeClaim", "mlflow-artifacts", operations)
    if database is not None and database["spec"].get("volumeClaimTemplates"):
        operations = edits("/spec/volumeClaimTemplates/0", settings.database_storage_size)
        if operations:
            yield _patch("StatefulSet", DATABASE, operations)


def _backup(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Yield the patches of the component backup."""
    if settings.backup_schedule:
        item = _required(objects, "CronJob", BACKUP, "mlflow_backup_schedule")
        yield _merge_patch(item, {"spec": {"schedule": settings.backup_schedule}})
    volume = find(objects, "PersistentVolumeClaim", "mlflow-backups")
    wanted = {
        "/spec/resources/requests/storage": settings.backup_storage_size,
        "/spec/storageClassName": settings.storage_class,
    }
    operations: list[Object] = [
        {"op": "add", "path": path, "value": value} for path, value in wanted.items() if value
    ]
    if volume is not None and operations:
        yield _patch("PersistentVolumeClaim", "mlflow-backups", operations)


def _retention(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Merge how long backups are kept into the script's ConfigMap, where there is one."""
    wanted = {"BACKUP_KEEP": settings.backup_keep, "BACKUP_KEEP_DAYS": settings.backup_keep_days}
    literals = [f"{name}={value}" for name, value in wanted.items() if value is not None]
    if literals and find(objects, "CronJob", BACKUP) is not None:
        yield {"name": BACKUP, "behavior": "merge", "literals": literals}


def _bucket(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Merge where the bucket is into the ConfigMap of what copies there."""
    names = {
        "url": "BACKUP_S3_URL",
        "endpoint": "AWS_ENDPOINT_URL_S3",
        "region": "AWS_DEFAULT_REGION",
    }
    literals = [f"{names[key]}={value}" for key, value in settings.backup_s3.items() if value]
    if literals:
        _required(objects, "CronJob", BACKUP_S3, "mlflow_backup_s3")
        yield {"name": BACKUP_S3, "behavior": "merge", "literals": literals}


def _gc(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Yield the patches of the component gc."""
    if settings.gc_schedule:
        item = _required(objects, "CronJob", GC, "mlflow_gc_schedule")
        yield _merge_patch(item, {"spec": {"schedule": settings.gc_schedule}})
    if settings.gc_older_than:
        item = _required(objects, "CronJob", GC, "mlflow_gc_older_than")
        age = {"name": "MLOPS_GC_OLDER_THAN", "value": settings.gc_older_than}
        change = {"name": container(item, "gc").get("name", "gc"), "env": [age]}
        pod = {"template": {"spec": {"containers": [change]}}}
        yield _merge_patch(item, {"spec": {"jobTemplate": {"spec": pod}}})


def _exposure(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Edit the Ingress, the HTTPRoute and the probes, which all know the path prefix."""
    ingress = find(objects, exposure.INGRESS, SERVER)
    route = find(objects, exposure.ROUTE, SERVER)
    for variable, value, component, there in (
        ("mlflow_tls_secret", settings.tls_secret, "ingress", ingress),
        ("mlflow_ingress_class", settings.ingress_class, "ingress", ingress),
        ("mlflow_ingress_annotations", settings.ingress_annotations, "ingress", ingress),
        ("mlflow_upload_limit", settings.upload_limit, "ingress", ingress),
        ("mlflow_gateway", settings.gateway, "gateway", route),
        ("mlflow_proxy_timeout", settings.proxy_timeout, "ingress or gateway", ingress or route),
    ):
        if value and there is None:
            raise SettingsError(
                f"{variable}: there is nothing to set it on; add {component} to mlflow_components"
            )
    if ingress is not None and route is not None and settings.hosts:
        raise SettingsError(
            "mlflow_components: ingress and gateway would both claim the names of mlflow_hosts; "
            "choose one"
        )
    numbers = exposure.addresses_among(settings.hosts)
    if numbers and (ingress or route):
        kind = exposure.INGRESS if ingress else exposure.ROUTE
        raise SettingsError(
            f"mlflow_hosts: an {kind} takes names only, and {numbers[0]} is an address"
        )
    hosts = [host.lower() for host in settings.hosts]
    if ingress is not None:
        operations = exposure.ingress_operations(
            ingress,
            hosts,
            settings.static_prefix,
            settings.tls_secret,
            settings.ingress_class,
            settings.upload_limit,
            settings.proxy_timeout,
            settings.ingress_annotations,
        )
        if operations:
            yield _patch(exposure.INGRESS, SERVER, operations)
    if route is not None:
        operations = exposure.route_operations(
            hosts, settings.static_prefix, settings.gateway, settings.proxy_timeout
        )
        if operations:
            yield _patch(exposure.ROUTE, SERVER, operations)
    if settings.static_prefix:
        deployment = _required(objects, "Deployment", SERVER, "mlflow_static_prefix")
        operations = exposure.probe_operations(deployment, settings.static_prefix)
        if operations:
            yield _patch("Deployment", SERVER, operations)


def address(objects: list[Object], settings: Settings) -> str:
    """Return the address under which people reach MLflow, if it can be told, else nothing."""
    ingress = find(objects, exposure.INGRESS, SERVER)
    route = find(objects, exposure.ROUTE, SERVER)
    hosts = settings.hosts or exposure.hosts_of(ingress, route)
    schemes = exposure.schemes(ingress, route, settings.tls_secret, settings.url)
    return settings.url or exposure.address(hosts, settings.static_prefix, schemes)


def _reached(settings: Settings, data: dict[str, str], schemes: list[str]) -> dict[str, str]:
    """Return MLflow's environment for the names it is reached under, and the prefix."""
    found: dict[str, str] = {}
    hosts = [host.lower() for host in settings.hosts]
    if hosts:
        found[exposure.ALLOWED_HOSTS] = exposure.allowed_hosts(data[exposure.ALLOWED_HOSTS], hosts)
    origins = exposure.allowed_origins(
        data.get(exposure.ALLOWED_ORIGINS, ""), hosts, schemes, settings.url
    )
    if origins:
        found[exposure.ALLOWED_ORIGINS] = origins
    if settings.static_prefix:
        found[exposure.STATIC_PREFIX] = settings.static_prefix
    return found


def _config(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Merge what the inventory sets into the ConfigMap that MLflow's environment comes from."""
    variables = {
        "mlflow_config": settings.config,
        "mlflow_hosts": settings.hosts,
        "mlflow_static_prefix": settings.static_prefix,
        "mlflow_url": settings.url,
    }
    given = [name for name, value in variables.items() if value]
    if not given:
        return
    schemes = exposure.schemes(
        find(objects, exposure.INGRESS, SERVER),
        find(objects, exposure.ROUTE, SERVER),
        settings.tls_secret,
        settings.url,
    )
    for item in objects:
        data = item.get("data") or {}
        if item.get("kind") == "ConfigMap" and exposure.ALLOWED_HOSTS in data:
            literals = {name: _text(value) for name, value in settings.config.items()}
            literals |= _reached(settings, {**data, **literals}, schemes)
            if literals:
                yield {
                    # The name in the render carries the hash; the generator's own name does not.
                    "name": item["metadata"]["name"].rsplit("-", 1)[0],
                    "behavior": "merge",
                    "literals": [f"{name}={value}" for name, value in sorted(literals.items())],
                }
            return
    if given != ["mlflow_url"]:
        raise SettingsError(
            f"{given[0]}: no ConfigMap of the overlay sets {exposure.ALLOWED_HOSTS}"
        )


def reference_of(key: str, source: t.Mapping[str, str]) -> tuple[str, str]:
    """Return Secret and key under which pods find a value that is not in the release's own."""
    if source.get("external"):
        return EXTERNAL, key
    return str(source["secret"]), str(source.get("key") or key)


def existing_secrets(settings: Settings) -> list[dict[str, str]]:
    """Return what has to be in the cluster before the release, and the variable that says so."""
    found = []
    for key, source in sorted(settings.secrets.items()):
        if source.get("secret"):
            secret, name = reference_of(key, source)
            found.append({"variable": f"mlflow_secrets.{key}", "secret": secret, "key": name})
    return found


def external_secrets(settings: Settings) -> list[dict[str, str]]:
    """Return what External Secrets has to bring, in the form of C(existing_secrets)."""
    return [
        {"variable": f"mlflow_secrets.{key}", "secret": EXTERNAL, "key": key}
        for key, source in sorted(settings.secrets.items())
        if source.get("external")
    ]


def administrator(objects: t.Iterable[Object]) -> dict[str, dict[str, str]]:
    """Return where MLflow's administrator is, as the server's pods are told; empty without auth."""
    server = container(find(objects, "Deployment", SERVER), SERVER)
    found = {}
    for variable in server.get("env") or []:
        reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
        name = str(variable.get("name", ""))
        if reference and name in ("MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD"):
            part = name.rsplit("_", 1)[1].lower()
            found[part] = {"secret": str(reference["name"]), "key": str(reference["key"])}
    return found if len(found) == 2 else {}


def _pointer(path: t.Iterable[object]) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


def _referring(value: t.Any, path: tuple[object, ...] = ()) -> t.Iterator[tuple[t.Any, Object]]:
    """Yield every part of an object that refers to the release's Secret, with its path."""
    if isinstance(value, dict):
        is_volume = value.get("secretName") == CREDENTIALS and value.get("items")
        if is_volume or (value.get("name") == CREDENTIALS and ("key" in value or "items" in value)):
            yield path, value
            return
        for key, item in value.items():
            yield from _referring(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _referring(item, (*path, index))


def _projected(items: list[Object], wanted: dict[str, tuple[str, str]]) -> list[Object]:
    """Return the sources of a projected volume that has each item from where it is."""
    by_secret: dict[str, list[Object]] = {}
    for item in items:
        secret, key = wanted.get(str(item["key"]), (CREDENTIALS, str(item["key"])))
        by_secret.setdefault(secret, []).append({**item, "key": key})
    return [{"secret": {"name": name, "items": found}} for name, found in by_secret.items()]


def _references(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Have everything that refers to a value refer to where the inventory says that it is."""
    wanted = {key: reference_of(key, source) for key, source in settings.secrets.items()}
    used: set[str] = set()
    for item in objects:
        operations: list[Object] = []
        for path, found in _referring(item.get("spec") or {}, ("spec",)):
            if "key" in found:
                if found["key"] in wanted:
                    used.add(found["key"])
                    secret, key = wanted[found["key"]]
                    operations += [
                        {"op": "replace", "path": _pointer((*path, "name")), "value": secret},
                        {"op": "replace", "path": _pointer((*path, "key")), "value": key},
                    ]
                continue
            keys = {str(entry["key"]) for entry in found["items"]} & set(wanted)
            used |= keys
            if not keys:
                continue
            sources = _projected(found["items"], wanted)
            if path[-1] != "secret" or "secretName" not in found:
                raise SettingsError(
                    f"mlflow_secrets: {item['kind']} {item['metadata']['name']} has "
                    f"{CREDENTIALS} in a projected volume, which is not changed here; refer to "
                    "the right Secret in the overlay"
                )
            mode = {"defaultMode": found["defaultMode"]} if "defaultMode" in found else {}
            operations += [
                {"op": "remove", "path": _pointer(path)},
                {
                    "op": "add",
                    "path": _pointer((*path[:-1], "projected")),
                    "value": {**mode, "sources": sources},
                },
            ]
        if operations:
            yield _patch(item["kind"], item["metadata"]["name"], operations)
    unused = sorted(set(wanted) - used)
    if unused:
        hint = "; is the component auth missing?" if unused[0].startswith("admin-") else ""
        raise SettingsError(f"mlflow_secrets.{unused[0]}: no pod of this release asks for it{hint}")


def _external(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Say what External Secrets has to bring, from which store, and into a Secret of its own.

    A Secret of its own, so that nobody else ever writes to it: generated and given values stay in
    the release's.
    """
    data = [
        {
            "secretKey": key,
            "remoteRef": {
                "key": source["external"],
                **({"property": source["property"]} if source.get("property") else {}),
            },
        }
        for key, source in sorted(settings.secrets.items())
        if source.get("external")
    ]
    if not data:
        return
    item = _required(objects, "ExternalSecret", CREDENTIALS, "mlflow_secrets")
    store = {"kind": "SecretStore", **settings.secret_store}
    target = {**(item["spec"].get("target") or {}), "name": EXTERNAL}
    operations: list[Object] = [
        {"op": "add", "path": "/spec/secretStoreRef", "value": store},
        {"op": "add", "path": "/spec/target", "value": target},
        {"op": "add", "path": "/spec/data", "value": data},
    ]
    if "dataFrom" in item["spec"]:
        operations.append({"op": "remove", "path": "/spec/dataFrom"})
    yield _patch("ExternalSecret", CREDENTIALS, operations)


def _text(value: object) -> str:
    """Return a setting as MLflow reads it from its environment."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def edits(objects: list[Object], settings: Settings) -> Object:
    """Return the part of a kustomization that applies the settings to the overlay's objects."""
    part: Object = {}
    names = namespaces(objects)
    # Also when it stays as it is: a component that is added knows nothing of it.
    namespace = settings.namespace or (names[0] if len(names) == 1 else "")
    if namespace:
        part["namespace"] = namespace
    images = list(_images(objects, settings))
    if images:
        part["images"] = images
    patches = [
        *_replicas(objects, settings),
        *_autoscaling(objects, settings),
        *_max_connections(objects, settings),
        *_resources(objects, settings),
        *_service(objects, settings),
        *_storage(objects, settings),
        *_references(objects, settings),
        *_external(objects, settings),
        *_backup(objects, settings),
        *_gc(objects, settings),
        *_exposure(objects, settings),
    ]
    if patches:
        part["patches"] = patches
    generators = [
        *_config(objects, settings),
        *_retention(objects, settings),
        *_bucket(objects, settings),
    ]
    if generators:
        part["configMapGenerator"] = generators
    return part


def _digest(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _job_name(prefix: str, version: str, digest: str) -> str:
    return "-".join(part for part in (prefix, version, digest) if part)


def job_names(objects: list[Object], version: str) -> dict[str, str]:
    """Return the new name of each migration and smoke-test Job.

    A Job's template cannot be changed, so its name follows what it runs: the migration's its own
    spec, the smoke test's the whole release, so that a changed release is tested again.
    """
    names = {}
    for job in jobs(objects, "migration"):
        names[job["metadata"]["name"]] = _job_name(
            "mlflow-migration", version, _digest(job["spec"])
        )
    release = [
        item
        for item in objects
        if item.get("kind") != "Secret" and stage_of(item) not in ("migration", "smoke-test")
    ]
    for job in jobs(objects, "smoke-test"):
        digest = _digest(job["spec"], release)
        names[job["metadata"]["name"]] = _job_name("mlflow-smoke-test", version, digest)
    return names


def rename_patches(names: t.Mapping[str, str]) -> list[Object]:
    """Return the patches that give Jobs their new names."""
    return [
        _patch("Job", old, [{"op": "replace", "path": "/metadata/name", "value": new}])
        | {"options": {"allowNameChange": True}}
        for old, new in names.items()
        if old != new
    ]


# --- from rendered objects to stages --------------------------------------------------------------


def with_last_applied(item: Object) -> Object:
    """Return the object with the annotation from which kubectl tells what was taken out.

    Without it, C(kubectl apply) after Ansible would leave every key that it should remove.
    """
    text = json.dumps(item, sort_keys=True, separators=(",", ":"))
    metadata = dict(item["metadata"])
    metadata["annotations"] = {**(metadata.get("annotations") or {}), LAST_APPLIED: text + "\n"}
    return {**item, "metadata": metadata}


def by_stage(objects: list[Object]) -> dict[str, list[Object]]:
    """Return the objects by stage, what others refer to first; Secrets are left out."""
    stages: dict[str, list[Object]] = {stage: [] for stage in STAGES}
    for item in objects:
        if item.get("kind") != "Secret":
            stages[stage_of(item)].append(with_last_applied(item))
    order = {kind: index for index, kind in enumerate(_FIRST)}
    for items in stages.values():
        items.sort(key=lambda item: order.get(item["kind"], len(order)))
    return stages


def kinds(objects: list[Object]) -> list[dict[str, str]]:
    """Return the kinds in the release, each once; Secrets are always among them."""
    found = {("v1", "Secret"): None}
    found.update({(item["apiVersion"], item["kind"]): None for item in objects})
    return [{"api_version": api_version, "kind": kind} for api_version, kind in found]


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


def secrets(objects: list[Object]) -> list[Object]:
    """Return the rendered Secrets, values included."""
    return [item for item in objects if item.get("kind") == "Secret"]


def summary_of_secrets(objects: list[Object]) -> list[dict[str, t.Any]]:
    """Return what may be shown of the rendered Secrets: names, and whose they are."""
    return [
        {
            "name": item["metadata"]["name"],
            "development_only": label(item, DEVELOPMENT_LABEL) == "true",
        }
        for item in secrets(objects)
    ]
