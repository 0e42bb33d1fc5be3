# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of what holds data: volumes, backups, garbage collection. Pure functions."""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.edits_workloads import (
    merge_patch,
    patch,
    required,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.objects import (
    BACKUP,
    BACKUP_DRILL,
    BACKUP_S3,
    DATABASE,
    GC,
    Object,
    container,
    find,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.settings import (
    Settings,
    SettingsError,
)


def storage(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
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
        yield patch("PersistentVolumeClaim", "mlflow-artifacts", operations)
    if database is not None and database["spec"].get("volumeClaimTemplates"):
        operations = edits("/spec/volumeClaimTemplates/0", settings.database_storage_size)
        if operations:
            yield patch("StatefulSet", DATABASE, operations)


def backup(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Yield the patches of the component backup."""
    for name, variable, schedule in (
        (BACKUP, "mlflow_backup_schedule", settings.backup_schedule),
        (BACKUP_DRILL, "mlflow_backup_drill_schedule", settings.backup_drill_schedule),
    ):
        if schedule:
            item = required(objects, "CronJob", name, variable)
            yield merge_patch(item, {"spec": {"schedule": schedule}})
    volume = find(objects, "PersistentVolumeClaim", "mlflow-backups")
    wanted = {
        "/spec/resources/requests/storage": settings.backup_storage_size,
        "/spec/storageClassName": settings.storage_class,
    }
    operations: list[Object] = [
        {"op": "add", "path": path, "value": value} for path, value in wanted.items() if value
    ]
    if volume is not None and operations:
        yield patch("PersistentVolumeClaim", "mlflow-backups", operations)


def retention(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Merge how long backups are kept into the script's ConfigMap, where there is one."""
    wanted = {"BACKUP_KEEP": settings.backup_keep, "BACKUP_KEEP_DAYS": settings.backup_keep_days}
    literals = [f"{name}={value}" for name, value in wanted.items() if value is not None]
    if literals and find(objects, "CronJob", BACKUP) is not None:
        yield {"name": BACKUP, "behavior": "merge", "literals": literals}


def bucket(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Merge where the bucket is into the ConfigMap of what copies there."""
    names = {
        "url": "BACKUP_S3_URL",
        "endpoint": "AWS_ENDPOINT_URL_S3",
        "region": "AWS_DEFAULT_REGION",
    }
    literals = [f"{names[key]}={value}" for key, value in settings.backup_s3.items() if value]
    if literals:
        required(objects, "CronJob", BACKUP_S3, "mlflow_backup_s3")
        yield {"name": BACKUP_S3, "behavior": "merge", "literals": literals}


def gc(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Yield the patches of the component gc."""
    if settings.gc_schedule:
        item = required(objects, "CronJob", GC, "mlflow_gc_schedule")
        yield merge_patch(item, {"spec": {"schedule": settings.gc_schedule}})
    if settings.gc_older_than:
        item = required(objects, "CronJob", GC, "mlflow_gc_older_than")
        age = {"name": "MLOPS_GC_OLDER_THAN", "value": settings.gc_older_than}
        change = {"name": container(item, "gc").get("name", "gc"), "env": [age]}
        pod = {"template": {"spec": {"containers": [change]}}}
        yield merge_patch(item, {"spec": {"jobTemplate": {"spec": pod}}})
