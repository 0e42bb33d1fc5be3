# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn an inventory's settings into a small kustomization on top of an overlay.

Pure functions: rendered objects and settings in, the text of a kustomization or a grouping out.
This is the door to the room; each kind of edit is in a file of its own.
"""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import (
    edits_data,
    edits_exposure,
    edits_pod,
    edits_secrets,
    edits_workloads,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.edits_exposure import address
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.edits_secrets import (
    administrator,
    existing_secrets,
    external_secrets,
    reference_of,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.limits import (
    labels_of_all,
    unsupported,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.objects import (
    ARTIFACTS,
    BACKUP,
    BACKUP_S3,
    COMPONENT_LABEL,
    CREDENTIAL_KEYS,
    CREDENTIALS,
    DATABASE,
    DEVELOPMENT_LABEL,
    EXTERNAL,
    GC,
    LAST_APPLIED,
    PUBLISHED,
    SERVER,
    STAGES,
    Object,
    artifact_store,
    autoscaler,
    container,
    containers_of,
    credential_keys,
    environment,
    find,
    jobs,
    label,
    namespace_of,
    namespaces,
    options_of,
    pod_of,
    stage_of,
    values_after,
    version_of,
    words_of,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.settings import (
    Settings,
    SettingsError,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.stages import (
    by_stage,
    job_names,
    kinds,
    rename_patches,
    secrets,
    summary_of_secrets,
    with_last_applied,
)

__all__ = [
    "ARTIFACTS",
    "BACKUP",
    "BACKUP_S3",
    "COMPONENT_LABEL",
    "CREDENTIALS",
    "CREDENTIAL_KEYS",
    "DATABASE",
    "DEVELOPMENT_LABEL",
    "EXTERNAL",
    "GC",
    "LAST_APPLIED",
    "PUBLISHED",
    "SERVER",
    "STAGES",
    "Object",
    "Settings",
    "SettingsError",
    "address",
    "administrator",
    "artifact_store",
    "autoscaler",
    "by_stage",
    "container",
    "containers_of",
    "credential_keys",
    "edits",
    "environment",
    "existing_secrets",
    "external_secrets",
    "find",
    "job_names",
    "jobs",
    "kinds",
    "label",
    "labels_of_all",
    "named_edits",
    "namespace_of",
    "namespaces",
    "options_of",
    "pod_of",
    "reference_of",
    "rename_patches",
    "secrets",
    "stage_of",
    "summary_of_secrets",
    "unsupported",
    "values_after",
    "version_of",
    "with_last_applied",
    "words_of",
]

# What edits what, by the variables that ask for it: an error can say whose the edit was.
_Edit = t.Callable[[list[Object], Settings], t.Iterator[Object]]
_EDITS: tuple[tuple[str, str, _Edit], ...] = (
    ("mlflow_image, mlflow_version or mlflow_postgres_image", "images", edits_workloads.images),
    ("mlflow_replicas", "patches", edits_workloads.replicas),
    ("mlflow_autoscaling", "patches", edits_workloads.autoscaling),
    ("mlflow_database_max_connections", "patches", edits_workloads.max_connections),
    ("mlflow_resources", "patches", edits_workloads.resources),
    ("mlflow_service", "patches", edits_pod.service),
    ("mlflow_storage_class or a storage size", "patches", edits_data.storage),
    ("mlflow_secrets", "patches", edits_secrets.references),
    ("mlflow_secret_store", "patches", edits_secrets.external),
    ("a schedule of backups or mlflow_backup_storage_size", "patches", edits_data.backup),
    ("mlflow_gc_schedule or mlflow_gc_older_than", "patches", edits_data.gc),
    ("mlflow_hosts, or how they are reached", "patches", edits_exposure.exposed),
    # Last of the patches: it adds containers before others.
    ("mlflow_pod", "patches", edits_pod.pods),
    ("mlflow_config", "configMapGenerator", edits_exposure.config),
    ("mlflow_backup_keep or mlflow_backup_keep_days", "configMapGenerator", edits_data.retention),
    ("mlflow_backup_s3", "configMapGenerator", edits_data.bucket),
)


def named_edits(objects: list[Object], settings: Settings) -> t.Iterator[tuple[str, Object]]:
    """Yield each part of a kustomization that applies settings, with the variables' names."""
    names = namespaces(objects)
    # Also when it stays as it is: a component that is added knows nothing of it.
    namespace = settings.namespace or (names[0] if len(names) == 1 else "")
    if namespace:
        yield "mlflow_namespace", {"namespace": namespace}
    for variables, field, edit in _EDITS:
        found = list(edit(objects, settings))
        if found:
            yield variables, {field: found}


def edits(objects: list[Object], settings: Settings) -> Object:
    """Return the part of a kustomization that applies the settings to the overlay's objects."""
    part: Object = {}
    for _variables, more in named_edits(objects, settings):
        for field, value in more.items():
            part[field] = value if field == "namespace" else [*part.get(field, []), *value]
    return part
