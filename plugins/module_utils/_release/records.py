# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of releases, in the cluster."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import (
    Api,
    ApiError,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import CONFIG_MAP
from ansible_collections.mlops.mlflow.plugins.module_utils._release import record as _releases

Object = dict[str, t.Any]


class Records:
    """The record of one namespace, in the cluster."""

    def __init__(self, cluster: Api, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._path = f"{CONFIG_MAP.path(namespace)}/{_releases.NAME}"

    def read(self) -> _releases.Record:
        """Return what is recorded."""
        answer = self._cluster.request("GET", self._path)
        if answer.status == 404:
            return _releases.Record()
        if answer.status != 200:
            raise ApiError(0, f"ConfigMap {_releases.NAME} cannot be read: {answer.message}")
        return _releases.read(answer.body)

    def write(self, record: _releases.Record) -> None:
        """Put a record in its place."""
        answer = self._cluster.request(
            "PATCH",
            self._path,
            _releases.write(record, self._namespace),
            {"fieldManager": _releases.FIELD_MANAGER, "force": "true"},
            "application/apply-patch+yaml",
        )
        if answer.status not in (200, 201):
            raise ApiError(0, f"ConfigMap {_releases.NAME} cannot be written: {answer.message}")

    def now(self) -> str:
        """Return the API server's time."""
        wall = self._cluster.server_wall(time.monotonic())
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall))


def backup_of(given: Object | None) -> Object | None:
    """Return what is kept of a backup."""
    if not given:
        return None
    found: dict[str, str] = {}
    for database in given.get("databases") or []:
        found.update(database.get("revisions") or {})
    return {
        "name": str(given.get("name", "")),
        "time": str(given.get("time", "")),
        "revisions": found,
    }


def as_dict(found: _releases.Target, content: Object) -> Object:
    """Return a target as this module returns it."""
    return {
        "number": found.release["number"],
        "name": _releases.name(found.release),
        "left": _releases.name(found.left),
        "schema": found.release.get("schema") or {},
        "backup": found.backup,
        "release": content,
    }


def run(records: Records, params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Do what is asked; return the result."""
    record = then = records.read()
    if params["state"] != "read":
        content = _releases.kept(params["release"])
        if params["state"] == "begun":
            then = _releases.begun(
                record, content, records.now(), backup_of(params["backup"]), params["back_to"]
            )
        else:
            then = _releases.done(record, content, records.now(), params["schema"])
    changed = then != record
    if changed and not check_mode:
        records.write(then)
    result: dict[str, t.Any] = {
        "changed": changed,
        "releases": list(then.releases),
        "pending": then.pending,
        "needed_secrets": _releases.needed_secrets(then),
    }
    if params["target"]:
        found = _releases.target(then)
        content = _releases.unpack(then.contents[found.release["number"]])
        result["target"] = as_dict(found, content)
    return result
