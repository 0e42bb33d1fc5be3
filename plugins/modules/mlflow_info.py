#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: mlflow_info
short_description: Say how a release of MLflow is
version_added: 0.1.0
description:
  - Versions, schema, pods, the age of Secrets, the release lock, and when the release was last seen
    to be good, with the health that M(mlops.mlflow.diagnose) finds.
  - It never fails on a release that is broken or not there, which is what it is asked about; only
    when the cluster does not answer. What it may not see, it says.
  - Writes nothing, and reads no Secret's values.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  part_of:
    description: Value of the label C(app.kubernetes.io/part-of) on objects of the release.
    type: str
    default: mlflow
  ask:
    description:
      - Whether to ask the server for its version and an answer from its database, the schema helper
        in its pod for the schema, and the database's pod for its version.
    type: bool
    default: true
  compare_schema:
    description:
      - Whether to compare columns, indexes and constraints of each database with what the image's
        own MLflow makes of an empty one. The schema helper does it in a server's container, which
        takes some seconds and about 300 MiB there; where they may be missing, it says so instead.
    type: bool
    default: false
  tolerances:
    description: For how many seconds a problem may last, as in M(mlops.mlflow.diagnose).
    type: dict
    default: {}
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.release
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.diagnose
  - module: mlops.mlflow.backup_info
  - module: mlops.mlflow.release_look
  - module: mlops.mlflow.release_look
"""

EXAMPLES = r"""
- name: How is it?
  mlops.mlflow.mlflow_info:
    namespace: mlflow-production
  register: mlflow

- name: Wait with the upgrade while somebody else works on the release
  ansible.builtin.assert:
    that: mlflow.lock is none or mlflow.lock.over
"""

RETURN = r"""
status:
  description: V(ready), V(progressing), V(failed), or V(empty) if there is no MLflow server.
  returned: success
  type: str
msg:
  description: The health in one line.
  returned: always
  type: str
namespace_exists:
  description: Whether the namespace is there, as far as the account may see.
  returned: success
  type: bool
mlflow:
  description:
    - The server; null if there is none. C(version) is what it answers, or null; C(image_version)
      what its image's tag says.
  returned: success
  type: dict
  sample:
    version: 3.17.2
    image: ghcr.io/mlflow/mlflow:v3.17.2-full
    image_version: 3.17.2
    replicas: {wanted: 2, updated: 2, ready: 2}
postgres:
  description:
    - The bundled database, likewise; null where the database is not part of the release.
    - C(collation) are databases whose text indexes another version of the C library has made,
      C(invalid_indexes) those that Postgres does not use, and C(checksum_failures) pages that were
      read otherwise than written. Null where they are not known.
  returned: success
  type: dict
  sample:
    version: "17.6"
    image: docker.io/library/postgres:17
    image_version: "17"
    replicas: {wanted: 1, updated: 1, ready: 1}
    collation: []
    invalid_indexes: []
    checksum_failures: 0
schema:
  description:
    - C(state), C(current) and C(head) of each database, C(tracking), and C(auth) with basic
      authentication, as the schema helper says now or said last. Empty if it is not known.
    - C(differences) are sentences about what is missing or is otherwise than the image's MLflow
      would make it. Null where it was not compared, or could not be, which C(notes) explains.
  returned: success
  type: dict
  sample:
    tracking: {state: at_head, current: dc11669786a5, head: dc11669786a5, differences: []}
pods:
  description: The release's pods, those aside that have done their work.
  returned: success
  type: list
  elements: dict
  sample:
    - name: mlflow-6d5c7f8b9-x2x7k
      component: server
      status: Running
      ready: 1
      containers: 1
      restarts: 0
      age_seconds: 86400
secrets:
  description:
    - The Secrets that bear the release's label or that its pods read, and when each was written
      last, which is when its values changed last.
  returned: success
  type: list
  elements: dict
  sample:
    - name: mlflow-credentials
      exists: true
      created: "2026-11-01T08:00:00Z"
      written: "2026-11-20T08:00:00Z"
      age_seconds: 432000
rotation:
  description: Which secrets a rotation is about that was begun and not finished.
  returned: success
  type: list
  elements: str
  sample: []
lock:
  description: Who holds the release lock; null if nobody does. C(over) if that run is dead.
  returned: success
  type: dict
  sample:
    holder: ann@controller (AWX job 12) 5f0c9d1e
    since: "2026-11-24T19:05:01Z"
    renewed: "2026-11-24T19:06:41Z"
    over: false
last_release:
  description:
    - When a release here was last seen to be good, and by what, V(smoke test), or V(rollout) where
      there is none; null if never.
    - Its C(number) and C(version) are those that M(mlops.mlflow.release_end) has recorded, and
      C(backup) is the name of the backup that was taken before it and leads back, or null. Where no
      release is recorded, the three are null, and the release's objects tell the rest.
  returned: success
  type: dict
  sample:
    time: "2026-11-24T19:07:12Z"
    proof: smoke test
    number: 2
    version: 3.17.2
    backup: 20261124T190501Z
objects:
  description: The health of each object, as M(mlops.mlflow.diagnose) returns it.
  returned: success
  type: list
  elements: dict
notes:
  description: What could not be seen, and why.
  returned: success
  type: list
  elements: str
report:
  description: All of it as lines for people.
  returned: success
  type: list
  elements: str
"""

import datetime
import time
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import (
    AUTH_ARG_SPEC,
    Api,
    ApiError,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import (
    DEPLOYMENT,
    JOB,
    POD,
    SECRET,
    STATEFUL_SET,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.module import Module
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow import status
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.readiness import (
    main_container,
    schema_from_messages,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.report import Diagnosis
from ansible_collections.mlops.mlflow.plugins.module_utils._release import record as _releases
from ansible_collections.mlops.mlflow.plugins.module_utils._release import rotation as _rotation
from ansible_collections.mlops.mlflow.plugins.module_utils._release.lock import (
    NAME,
    Lease,
    LeaseError,
    is_over,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.records import Records
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import schema as _helper
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.engine import api_message
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import condition

_VERSION_TIMEOUT = 15.0
_COMPARE_TIMEOUT = 120.0
# As the superuser, over the pod's own socket. An older StatefulSet names another one.
_PSQL = 'exec psql -XAtq -U "$POSTGRES_USER" -d mlflow -c "$0"'
Object = dict[str, t.Any]


class Look:
    """One look at a release."""

    def __init__(self, cluster: Api, params: dict[str, t.Any], known: t.Iterable[str] = ()) -> None:
        self._cluster = cluster
        self._params = params
        self._namespace: str = params["namespace"]
        self._part_of: str = params["part_of"]
        more = {"settle": 10.0, "log_lines": 50}
        self._diagnosis = Diagnosis(cluster, {**params, **more}, known)
        self._rotating: list[str] = []

    def run(self) -> Object:
        """Look, and return the module's result; raise ApiError if nothing can be seen."""
        health = self._diagnosis.run()
        state, wall = self._diagnosis.state, self._diagnosis.wall
        deployment = status.named(state.all(DEPLOYMENT, self._namespace), status.SERVER)
        stateful = status.named(state.all(STATEFUL_SET, self._namespace), status.DATABASE)
        pods = status.labelled(state.all(POD, self._namespace), self._part_of)
        told = health["servers"].get(f"Deployment/{status.SERVER}", {})
        result = {
            "status": health["status"],
            "msg": health["msg"],
            "namespace_exists": self._exists(),
            "mlflow": status.server(deployment, told),
            "postgres": status.database(stateful, self._database(pods)),
            "schema": self._schema(health["servers"], pods),
            "pods": [
                status.pod(item, wall)
                for item in sorted(pods, key=lambda one: str(one["metadata"]["name"]))
                if not status.is_over(item)
            ],
            "secrets": self._secrets([one for one in (deployment, stateful) if one], wall),
            "rotation": self._rotating,
            "lock": self._lock(),
            "last_release": status.last_release(
                self._recorded(),
                status.labelled(state.all(JOB, self._namespace), self._part_of),
                deployment,
            ),
            "objects": health["objects"],
            "notes": self._diagnosis.notes,
        }
        return {**result, "report": status.lines(result, wall)}

    def _note(self, text: str) -> None:
        self._diagnosis.notes.append(text)

    def _exists(self) -> bool:
        answer = self._cluster.request("GET", f"/api/v1/namespaces/{self._namespace}")
        return answer.status != 404

    def _secrets(self, workloads: list[Object], wall: float) -> list[Object]:
        answer = self._cluster.metadata_of(SECRET.path(self._namespace))
        if answer.status != 200:
            self._note(f"Secrets (the account may not list them: {answer.message})")
            return []
        rotation = status.named(answer.body.get("items") or [], _rotation.NAME)
        self._rotating = _rotation.rotating(rotation)
        needed = status.referenced(workloads)
        return status.secrets(answer.body.get("items") or [], needed, self._part_of, wall)

    def _recorded(self) -> Object | None:
        try:
            return _releases.last(Records(self._cluster, self._namespace).read())
        except _releases.RecordError as error:
            self._note(f"the record of releases ({error})")
            return None

    def _lock(self) -> Object | None:
        try:
            held = Lease(self._cluster, self._namespace, NAME, "", 0).look()
        except LeaseError as error:
            self._note(f"the release lock ({error})")
            return None
        if held is None or not held.holder:
            return None
        return {
            "holder": held.holder,
            "since": _words(held.since),
            "renewed": _words(held.renewed),
            "over": is_over(held, self._cluster.server_wall(time.monotonic()), 0.0),
        }

    def _schema(self, servers: Object, pods: list[Object]) -> Object:
        """Return the state of each database, and how it differs from what the image would make."""
        found = status.schema(servers, schema_from_messages(pods))
        running = ready(pods, "server")
        if not (running and self._params["ask"] and self._params["compare_schema"]):
            return found
        container = str(main_container(running[0]).get("name"))
        command = ["python3", _helper.HELPER, "compare"]
        where = (self._namespace, running[0]["metadata"]["name"], container)
        try:
            _code, output, errors = self._cluster.execute(*where, command, _COMPARE_TIMEOUT)
            compared = _helper.parse(output) or {}
            why = errors.strip().rpartition("\n")[2]
        except ApiError as error:
            compared, why = {}, str(error)
        for name, entry in found.items():
            told = compared.get(name) or {}
            entry["differences"] = told.get("differences")
            if entry["state"] == "at_head" and entry["differences"] is None:
                why = str(told.get("detail") or why)
                self._note(f"the parts of schema {name} ({' '.join(why.split())[:300]})")
        return found

    def _database(self, pods: list[Object]) -> Object:
        """Return the bundled database's version, and what silently goes wrong in one."""
        running = ready(pods, "database")
        if not running or not self._params["ask"]:
            return {}
        try:
            code, output, errors = self._cluster.execute(
                self._namespace,
                running[0]["metadata"]["name"],
                status.DATABASE,
                ["sh", "-c", _PSQL, status.DATABASE_HEALTH],
                _VERSION_TIMEOUT,
            )
            return status.database_health(output) if code == 0 else self._unasked(errors)
        except ApiError as error:
            return self._unasked(str(error))

    def _unasked(self, why: str) -> Object:
        self._note(f"the database's health ({' '.join(why.split())[:200]})")
        return {}


def ready(pods: t.Iterable[Object], component: str) -> list[Object]:
    """Return the pods of a component that serve."""
    return [
        item
        for item in pods
        if (item["metadata"].get("labels") or {}).get(status.COMPONENT) == component
        and condition(item, "Ready", "True")
    ]


def _words(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else "an unknown time"


def main() -> None:
    """Run the module."""
    spec = dict(AUTH_ARG_SPEC)
    spec.update(
        namespace={"type": "str", "required": True},
        part_of={"type": "str", "default": "mlflow"},
        ask={"type": "bool", "default": True},
        compare_schema={"type": "bool", "default": False},
        tolerances={"type": "dict", "default": {}},
    )
    module = Module(argument_spec=spec, supports_check_mode=True)
    try:
        module.exit_json(changed=False, **Look(Api.of(module), module.params, module.known()).run())
    except ApiError as error:
        module.fail_json(msg=api_message(error))


if __name__ == "__main__":
    main()
