# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory sets, and the error of what cannot be set."""

from __future__ import annotations

import dataclasses
import typing as t


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
    service: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    pod: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    storage_class: str = ""
    artifact_storage_size: str = ""
    database_storage_size: str = ""
    secrets: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    secret_store: dict[str, str] = dataclasses.field(default_factory=dict)
    backup_schedule: str = ""
    backup_drill_schedule: str = ""
    backup_keep: int | None = None
    backup_keep_days: int | None = None
    backup_storage_size: str = ""
    backup_s3: dict[str, str] = dataclasses.field(default_factory=dict)
    gc_schedule: str = ""
    gc_older_than: str = ""
    size: str = ""
    autoscaling: dict[str, int] = dataclasses.field(default_factory=dict)
    database_max_connections: int | None = None
