# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of releases, in the cluster."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    CONFIG_MAP,
    STATEFUL_SET,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release import record as _releases
from ansible_collections.mlops.mlflow.plugins.module_utils._release.database import same_templates
from ansible_collections.mlops.mlflow.plugins.module_utils._release.record import RecordError

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
            raise RecordError(f"ConfigMap {_releases.NAME} cannot be read: {answer.message}")
        return _releases.read(answer.body)

    def _write(self, record: _releases.Record) -> None:
        """Put a record in its place."""
        answer = self._cluster.request(
            "PATCH",
            self._path,
            _releases.write(record, self._namespace),
            {"fieldManager": _releases.FIELD_MANAGER, "force": "true"},
            "application/apply-patch+yaml",
        )
        if answer.status not in (200, 201):
            raise RecordError(f"ConfigMap {_releases.NAME} cannot be written: {answer.message}")

    def begin(self, release: Object, backup: Object | None, back_to: int | None) -> None:
        """Note that a release is about to be applied, unless it is the newest already."""
        record = self.read()
        kept = _releases.kept(release)
        then = _releases.begun(record, kept, self._now(), backup_of(backup), back_to)
        if then != record:
            self._write(then)

    def end(self, release: Object, schema: Object | None) -> None:
        """Note that a release serves."""
        record = self.read()
        then = _releases.done(record, _releases.kept(release), self._now(), schema)
        if then != record:
            self._write(then)

    def target(self) -> Object:
        """Return where a rollback goes; raise RecordError with the reason if there is nowhere."""
        record = self.read()
        found = _releases.target(record)
        content = _releases.unpack(record.contents[found.release["number"]])
        return {
            "number": found.release["number"],
            "name": _releases.name(found.release),
            "left": _releases.name(found.left),
            "schema": found.release.get("schema") or {},
            "backup": found.backup,
            "release": self._with_the_volumes_of_today(content),
        }

    def _with_the_volumes_of_today(self, content: Object) -> Object:
        """Return what a release applies, on the volumes that are there: they only ever grow."""
        stages: dict[str, list[Object]] = {}
        for stage, items in content["stages"].items():
            stages[stage] = []
            for item in items:
                there: Object | None = None
                if item["kind"] == STATEFUL_SET.kind:
                    name = item["metadata"]["name"]
                    path = STATEFUL_SET.item(self._namespace, name)
                    there = self._cluster.find(path, f"{STATEFUL_SET.kind}/{name}")
                templates = ((there or {}).get("spec") or {}).get("volumeClaimTemplates")
                asked = item.get("spec", {}).get("volumeClaimTemplates") or []
                # What the server added is no other release.
                if templates and not same_templates(templates, asked):
                    item = {**item, "spec": {**item["spec"], "volumeClaimTemplates": templates}}
                stages[stage].append(item)
        return {**content, "stages": stages}

    def _now(self) -> str:
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
