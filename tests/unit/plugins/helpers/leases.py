# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API in memory, with the verbs and conflicts that a release lock lives by."""

from __future__ import annotations

import copy
import threading
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Answer, ApiError
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.memory_cluster import MemoryCluster

COLLECTION = "/apis/coordination.k8s.io/v1/namespaces/here/leases"
PATH = f"{COLLECTION}/mlflow-release"
NOON = 1_800_000_000.0


class Leases(MemoryCluster):
    """The in-memory API, with the Lease's own verbs and conflicts, and a clock to turn."""

    def __init__(self) -> None:
        super().__init__()
        self.wall = NOON
        self.away = False
        self.meanwhile: list[Any] = []
        # What it answers instead, one request after the other.
        self.refusals: list[Answer] = []
        self._one = threading.Lock()

    def server_wall(self, now: float) -> float:
        return self.wall

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
        if method != "GET":
            self.before_write(path)
        with self._one:
            if self.away:
                raise ApiError(0, "cannot reach the cluster")
            if self.refusals:
                return self.refusals.pop(0)
            if method == "GET":
                return super().request(method, path)
            # What another does between our reading and our writing.
            if self.meanwhile:
                self.meanwhile.pop(0)()
            if method == "PATCH":
                return super().request(method, path, body, query, content_type)
            self.calls.append((method, path, {}))
            return getattr(self, f"_{method.lower()}")(path, body)  # type: ignore[no-any-return]

    def _post(self, path: str, body: Any) -> Answer:
        key = f"{path}/{body['metadata']['name']}"
        if key in self.objects:
            return Answer(409, {"message": "already exists"})
        self.put(key, body)["metadata"]["uid"] = f"uid-{next(self._versions)}"
        return Answer(201, copy.deepcopy(self.objects[key]))

    def _matches(self, path: str, version: str) -> Answer | None:
        if path not in self.objects:
            return Answer(404, {})
        if self.objects[path]["metadata"]["resourceVersion"] != version:
            return Answer(409, {"message": "the object has been modified"})
        return None

    def _put(self, path: str, body: Any) -> Answer:
        refused = self._matches(path, body["metadata"]["resourceVersion"])
        return refused or Answer(200, copy.deepcopy(self.put(path, body)))

    def _delete(self, path: str, body: Any) -> Answer:
        refused = self._matches(path, body["preconditions"]["resourceVersion"])
        if refused is None:
            del self.objects[path]
        return refused or Answer(200, {})

    @property
    def holder(self) -> str:
        return str(self.objects[PATH]["spec"]["holderIdentity"])


def begun(**given: Any) -> dict[str, Any]:
    """Return the options of release_begin."""
    nothing = {"holder": None, "run": "", "release": None, "backup": None, "back_to": None}
    lock = {"namespace": "here", "name": "mlflow-release", "ttl": 60, "wait": 0}
    return {**lock, **nothing, **given}


def ended(holder: str, **given: Any) -> dict[str, Any]:
    """Return the options of release_end."""
    lease = {"namespace": "here", "name": "mlflow-release", "ttl": 60, "holder": holder}
    return {"lease": lease, "release": None, "schema": None, **given}
