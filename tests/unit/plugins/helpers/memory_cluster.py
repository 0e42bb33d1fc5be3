# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An API server in memory, just enough of one for the modules that read and write objects."""

from __future__ import annotations

import base64
import copy
import itertools
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Answer, Api
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import KINDS

Object = dict[str, Any]


def _fields(value: Any) -> Object:
    if not isinstance(value, dict):
        return {}
    return {f"f:{key}": _fields(item) for key, item in value.items()}


class MemoryCluster(Api):
    """Keeps objects by path; applies by replacing what the manager gives."""

    def __init__(self) -> None:
        self._kinds = dict(KINDS)
        self.requests = 0
        self.objects: dict[str, Object] = {}
        self.calls: list[tuple[str, str, dict[str, str]]] = []
        self.answers: dict[tuple[str, str], Answer] = {}
        self._sent: list[tuple[str, Any]] = []
        self._versions = itertools.count(1)

    def sent(self, path: str) -> list[Object]:
        """Return what was written to paths that end so, dry runs included."""
        return [body for where, body in self._sent if where.endswith(path) and body]

    @property
    def host(self) -> str:
        return "https://memory"

    def writes(self) -> list[str]:
        """Return the paths that were written to, dry runs aside."""
        return [
            path
            for method, path, query in self.calls
            if method != "GET" and "dryRun" not in query and "accessreviews" not in path
        ]

    def put(self, path: str, item: Object, *managers: tuple[str, str]) -> Object:
        """Place an object."""
        item = copy.deepcopy(item)
        item.setdefault("metadata", {})["resourceVersion"] = str(next(self._versions))
        entries = [
            {
                "manager": manager,
                "operation": operation,
                "apiVersion": item.get("apiVersion", "v1"),
                "fieldsV1": _fields({"data": item.get("data", {})}),
            }
            for manager, operation in managers
        ]
        if entries:
            item["metadata"]["managedFields"] = entries
        self.objects[path] = item
        return item

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
        read_timeout: float = 1.0,
        accept: str = "application/json",
    ) -> Answer:
        query = query or {}
        self.requests += 1
        self.calls.append((method, path, query))
        self._sent.append((path, copy.deepcopy(body)))
        if (method, path) in self.answers:
            return self.answers[(method, path)]
        there = self.objects.get(path)
        if method == "GET":
            found = [
                item
                for key, item in self.objects.items()
                if key.startswith(path + "/") and "/" not in key[len(path) + 1 :]
            ]
            if there is not None:
                return Answer(200, copy.deepcopy(there))
            return Answer(200, {"items": copy.deepcopy(found)}) if found else Answer(404, {})
        then = self._patched(copy.deepcopy(there or {}), body, query, content_type)
        if "dryRun" not in query:
            then["metadata"]["resourceVersion"] = str(next(self._versions))
            self.objects[path] = then
        return Answer(200 if there else 201, copy.deepcopy(then))

    @staticmethod
    def _patched(there: Object, body: Any, query: dict[str, str], content_type: str) -> Object:
        if content_type.startswith("application/json-patch"):
            for operation in body:
                *parents, last = operation["path"].strip("/").split("/")
                target = there
                for parent in parents:
                    target = target[parent]
                target[last] = operation["value"]
            return there
        if content_type.startswith("application/merge-patch"):
            annotations = there["metadata"].setdefault("annotations", {})
            for key, value in body["metadata"]["annotations"].items():
                if value is None:
                    annotations.pop(key, None)
                else:
                    annotations[key] = value
            return there
        manager = query["fieldManager"]
        kept = [
            entry
            for entry in there.get("metadata", {}).get("managedFields", [])
            if (entry["manager"], entry["operation"]) != (manager, "Apply")
        ]
        then = {**there, **copy.deepcopy(body)}
        then["metadata"] = {**there.get("metadata", {}), **copy.deepcopy(body["metadata"])}
        then["metadata"]["managedFields"] = [
            *kept,
            {
                "manager": manager,
                "operation": "Apply",
                "apiVersion": body["apiVersion"],
                "fieldsV1": _fields({"data": body.get("data", {})}),
            },
        ]
        return then


def encode(value: str) -> str:
    """Return a Secret's spelling of a value."""
    return base64.b64encode(value.encode()).decode()
