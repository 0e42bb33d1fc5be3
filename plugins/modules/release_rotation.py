#!/usr/bin/python
# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_rotation
short_description: Give a release new secrets, in steps that the next run can go on from
version_added: 0.1.0
description:
  - Private to this collection. Its options and what it returns may change in any version.
  - Keeps old and new values in the Secret C(mlflow-rotation) from before the first change until
    after the last, so that nothing is lost and every step can be repeated.
  - The database's password changes by changing the role. Two roles take turns, both of which act as
    the owner of the database. The old one keeps working until no pod uses it any more.
  - What MLflow encrypted with a key is encrypted anew when no pod uses the old one any more.
  - No value is part of a result, a command, an error or a log.
author:
  - mlops.mlflow contributors (@mlops-mlflow)
options:
  state:
    description:
      - V(begun) decides on the new values and lets the new database role in.
      - V(switched) sets the administrator's password and puts the new values into the release's
        Secret. Pods that start from then on have them.
      - V(finished) waits until no pod has the old values, encrypts anew, shuts the old role out and
        forgets the old values; but for keys with which something in a backup may be encrypted, each
        of which is kept in a Secret C(mlflow-keys-FINGERPRINT).
      - V(kept) sees that the keys of O(fingerprints) are kept so.
      - V(reopened) encrypts anew, with the keys that pods have, what a restored backup has with
        those.
    type: str
    choices: [begun, switched, finished, kept, reopened]
    required: true
  secrets:
    description: Keys of C(mlflow-credentials) to give new values.
    type: list
    elements: str
    default: []
    choices:
      - database-password
      - admin-password
      - flask-secret-key
      - webhook-encryption-key
      - kek-passphrase
  fingerprints:
    description: For V(kept) and V(reopened), fingerprints of keys, by their names.
    type: dict
    default: {}
  values:
    description: JSON text of a mapping from keys to new values that are given.
    type: str
  force:
    description:
      - Whether to change a key with which something is encrypted although MLflow cannot read that
        from the first new pod until all are new.
      - With V(kept) and V(reopened), whether to go on without keys that are not kept.
    type: bool
    default: false
attributes:
  diff_mode:
    description: There is no difference to show that would not be a secret.
    support: none
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - mlops.mlflow.release
  - mlops.mlflow.lease
  - mlops.mlflow.attributes
  - ansible.builtin.action_common_attributes
seealso:
  - module: mlops.mlflow.release_credentials
"""

EXAMPLES = r"""
# Private to this collection: its roles are the examples.
"""

RETURN = r"""
rotating:
  description: What the rotation that is under way is about, also what an earlier run began.
  returned: success
  type: list
  elements: str
restart:
  description: A word for the pod template of the server, or nothing if no pod has to be restarted.
  returned: success
  type: str
encrypted:
  description: How many rows were encrypted anew, and how many could not be read before either.
  returned: when O(state=finished) or O(state=reopened)
  type: dict
missing:
  description: Keys of O(fingerprints) that are not kept.
  returned: when O(state=kept) or O(state=reopened)
  type: list
  elements: str
"""

import base64
import http.client
import json
import time
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.ownership import FIELD_MANAGER
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.readiness import address
from ansible_collections.mlops.mlflow.plugins.module_utils._release.rotation import (
    ENCRYPTING,
    KEPT,
    KEYS,
    NAME,
    READ_AT_START,
    REENCRYPT,
    ROTATING,
    USERNAME,
    Plan,
    RotationError,
    Values,
    count_input,
    fingerprint,
    let_in,
    plan,
    reencrypt_input,
    reopen_input,
    scram_verifier,
    shut_out,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.work import module_of, working

CREDENTIALS = "mlflow-credentials"
WORD = "mlops.mlflow/credentials"
SWITCHED = "mlops.mlflow/switched"
_MERGE_PATCH = "application/merge-patch+json"
# To import MLflow takes a while on a busy node; less than the release lock lasts.
_SECONDS = 100.0
_PAUSE = 1.0
_LABELS = {
    "app.kubernetes.io/name": "mlflow",
    "app.kubernetes.io/part-of": "mlflow",
    "app.kubernetes.io/component": "config",
}

Object = dict[str, t.Any]


class Rotation:
    """The rotation of one release's secrets."""

    def __init__(self, cluster: Api, params: dict[str, t.Any], write: bool) -> None:
        self._cluster = cluster
        self._namespace = params["namespace"]
        self._params = params
        self._write = write
        self.changed = False

    # --- objects ----------------------------------------------------------------------------------

    def _request(self, method: str, path: str, what: str, *arguments: t.Any) -> Object:
        answer = self._cluster.request(method, path, *arguments)
        if answer.status not in (200, 201, 202) and (method, answer.status) != ("DELETE", 404):
            # The API server's own words may quote what it does not like.
            reason = answer.body.get("reason") or f"HTTP {answer.status}"
            raise RotationError(f"{what} cannot be written ({reason})")
        return answer.body

    def _secret(self, name: str) -> Object | None:
        return self._cluster.find(self._secret_path(name), f"Secret {name}")

    def _secret_path(self, name: str) -> str:
        return f"/api/v1/namespaces/{self._namespace}/secrets/{name}"

    def _begun(self) -> tuple[Plan, Object]:
        item = self._secret(NAME) or {}
        return Plan.decoded(item.get("data") or {}), item

    def _pods(self, selector: str) -> list[Object]:
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        return [
            pod
            for pod in self._cluster.items(path, "pods", selector)
            if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        ]

    def _ready_pod(self, component: str) -> Object:
        selector = f"app.kubernetes.io/name=mlflow,app.kubernetes.io/component={component}"
        found = [
            pod
            for pod in self._pods(selector)
            if not pod["metadata"].get("deletionTimestamp")
            and any(
                item.get("type") == "Ready" and item.get("status") == "True"
                for item in (pod.get("status") or {}).get("conditions") or []
            )
        ]
        if not found:
            raise RotationError(f"no {component} is ready in namespace {self._namespace}")
        return max(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def _execute(self, pod: Object, container: str, command: list[str], stdin: str) -> str:
        name = pod["metadata"]["name"]
        self._cluster.before_write()
        try:
            code, output, errors = self._cluster.execute(
                self._namespace, name, container, command, _SECONDS, stdin
            )
        except ApiError as error:
            raise RotationError(f"{command[0]} in pod {name}: {error.message}") from None
        if code:
            # Its errors may quote what it was given, so only the kind of the last one is told.
            last = (errors.strip().splitlines() or [""])[-1].split(":")[0][:60]
            raise RotationError(f"{command[0]} in pod {name} failed ({last or f'exit {code}'})")
        return output

    # --- the database, MLflow ---------------------------------------------------------------------

    def _psql(self, script: str) -> None:
        pod = self._ready_pod("database")
        container = pod["spec"]["containers"][0]
        users = [item for item in container.get("env") or [] if item["name"] == "POSTGRES_USER"]
        command = ["sh", "-c", 'exec psql -Xq -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d postgres']
        if not users:
            raise RotationError("the database's pod does not say who its POSTGRES_USER is")
        self._execute(pod, container["name"], command, script)

    def _reencrypt(self, given: str) -> dict[str, dict[str, int]]:
        pod = self._ready_pod("server")
        output = self._execute(pod, "mlflow", ["python3", "-c", REENCRYPT], given)
        try:
            found: dict[str, dict[str, int]] = json.loads(output.strip().splitlines()[-1])
        except (ValueError, IndexError):
            raise RotationError("MLflow's pod did not say what is encrypted") from None
        return found

    def _ask(self, user: str, password: str, method: str, path: str, body: Object) -> int:
        """Ask MLflow as a user; return the status."""
        pod = self._ready_pod("server")
        port, prefix = address(pod["spec"]["containers"][0])
        self._cluster.before_write()
        tunnel = self._cluster.port_forward(self._namespace, pod["metadata"]["name"], port)
        tunnel.settimeout(30)
        connection = http.client.HTTPConnection("localhost", port, timeout=30)
        connection.sock = tunnel
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {pair}", "Content-Type": "application/json"}
        try:
            connection.request(method, prefix + path, json.dumps(body), headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise RotationError(f"MLflow does not answer ({type(error).__name__})") from None
        finally:
            connection.close()

    def _set_admin_password(self, user: str, old: str, new: str) -> None:
        body = {"username": user, "password": new, "current_password": old}
        path = "/api/2.0/mlflow/users/update-password"
        status = self._ask(user, old, "PATCH", path, body)
        if status == 200:
            self.changed = True
            return
        # Perhaps a run that was interrupted has done it.
        search = ("POST", "/api/2.0/mlflow/experiments/search", {"max_results": 1})
        if self._ask(user, new, *search) != 200:
            raise RotationError(
                f"MLflow refuses the administrator's password in Secret {CREDENTIALS} (HTTP "
                f"{status}); was it changed in MLflow? Put the one that works into the Secret: "
                f"kubectl -n {self._namespace} edit secret {CREDENTIALS}"
            )

    # --- the steps --------------------------------------------------------------------------------

    def begin(self) -> Plan:
        """Decide on values and write them down before anything changes; let the new role in."""
        begun, kept = self._begun()
        item = self._secret(CREDENTIALS)
        if item is None:
            raise RotationError(
                f"there is no Secret {CREDENTIALS} in namespace {self._namespace}; run site.yml "
                "first"
            )
        there = Plan.decoded({f"old-{k}": v for k, v in (item.get("data") or {}).items()}).old
        found = plan(there, begun, self._params["secrets"], self._given())
        verifier = ""
        if USERNAME in found.new:
            verifier = scram_verifier(found.new["database-password"].decode())
        self._refuse_what_would_be_unreadable(found, begun)
        if found.keys != begun.keys:
            self.changed = True
            if self._write:
                self._keep(found, bool(kept))
        if verifier and self._write:
            self._psql(let_in(found.new[USERNAME].decode(), verifier, "mlflow"))
        return found

    def _given(self) -> Values:
        try:
            given = json.loads(self._params["values"] or "{}")
        except ValueError:
            raise RotationError("values is not JSON") from None
        return {key: str(value).encode() for key, value in given.items() if value}

    def _refuse_what_would_be_unreadable(self, found: Plan, begun: Plan) -> None:
        keys = [key for key in found.keys if key in ENCRYPTING and key not in begun.new]
        if not keys or self._params["force"]:
            return
        counted = self._reencrypt(count_input(keys))
        for key in keys:
            rows = counted[ENCRYPTING[key]]["rows"]
            if rows:
                raise RotationError(
                    f"{key}: {rows} secret(s) in the database are encrypted with it, and MLflow "
                    "knows one key at a time: from the first new pod until all are new, they "
                    "could not be read everywhere (they are then encrypted anew, and nothing is "
                    "lost). Set rotate_force=true at a time when that does no harm"
                )

    def _keep(self, found: Plan, there: bool) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {
                "name": NAME,
                "namespace": self._namespace,
                "labels": _LABELS,
                "annotations": {ROTATING: ",".join(found.keys)},
            },
            "data": found.encoded(),
        }
        what = f"Secret {NAME}"
        query = {"fieldManager": FIELD_MANAGER}
        if there:
            self._request("PATCH", self._secret_path(NAME), what, body, query, _MERGE_PATCH)
        else:
            path = f"/api/v1/namespaces/{self._namespace}/secrets"
            self._request("POST", path, what, body, query)

    def switch(self) -> Plan:
        """Put the new values where pods find them."""
        found, kept = self._begun()
        item = self._secret(CREDENTIALS) or {}
        data = item.get("data") or {}
        encoded = {key: base64.b64encode(value).decode() for key, value in found.new.items()}
        if "admin-password" in found.new and self._write:
            user = base64.b64decode(data["admin-username"]).decode()
            old, new = (part["admin-password"].decode() for part in (found.old, found.new))
            self._set_admin_password(user, old, new)
        if any(data.get(key) != value for key, value in encoded.items()):
            self.changed = True
            if self._write:
                query = {"fieldManager": FIELD_MANAGER}
                path, what = self._secret_path(CREDENTIALS), f"Secret {CREDENTIALS}"
                self._request("PATCH", path, what, {"data": encoded}, query, _MERGE_PATCH)
        if self._write and kept and SWITCHED not in (kept["metadata"].get("annotations") or {}):
            # By the API server's clock, as the times at which pods were made are.
            now = self._cluster.server_wall(time.monotonic())
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
            body = {"metadata": {"annotations": {SWITCHED: at}}}
            path = self._secret_path(NAME)
            self._request("PATCH", path, f"Secret {NAME}", body, None, _MERGE_PATCH)
        return found

    def finish(self) -> tuple[Plan, dict[str, t.Any]]:
        """See that nothing has the old values, and forget them."""
        found, kept = self._begun()
        if not found.new or not self._write:
            return found, {}
        if set(found.new) & set(READ_AT_START):
            self._wait_for_old_pods(kept, _SECONDS)
        encrypted: dict[str, t.Any] = {}
        if set(found.new) & set(ENCRYPTING):
            self._keep_for_backups(found.old)
            encrypted = self._reencrypt(reencrypt_input(found.old, found.new))
        if USERNAME in found.old:
            self._psql(shut_out(found.old[USERNAME].decode()))
        self._request("DELETE", self._secret_path(NAME), f"Secret {NAME}")
        self.changed = True
        return found, encrypted

    def _keep_for_backups(self, old: Values) -> None:
        """Keep what a backup of before may need; never deleted here, nobody knows all backups."""
        for key in sorted(set(old) & set(ENCRYPTING)):
            name = KEPT + fingerprint(key, old[key])
            if self._secret(name) is None:
                body = {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "type": "Opaque",
                    "metadata": {"name": name, "namespace": self._namespace, "labels": _LABELS},
                    "data": {key: base64.b64encode(old[key]).decode()},
                }
                path = f"/api/v1/namespaces/{self._namespace}/secrets"
                query = {"fieldManager": FIELD_MANAGER}
                self._request("POST", path, f"Secret {name}", body, query)

    def kept(self) -> tuple[Values, list[str]]:
        """Return the keys of a backup, and the names of those that are not kept."""
        found: Values = {}
        missing: dict[str, str] = {}
        for key, mark in sorted(self._params["fingerprints"].items()):
            data = (self._secret(KEPT + mark) or {}).get("data") or {}
            value = base64.b64decode(data.get(key, ""))
            if key in ENCRYPTING and value and fingerprint(key, value) == mark:
                found[key] = value
            else:
                missing[key] = mark
        if missing and not self._params["force"]:
            how = "\n".join(
                f"kubectl -n {self._namespace} create secret generic {KEPT}{mark} "
                f"--from-file={key}=FILE"
                for key, mark in missing.items()
            )
            raise RotationError(
                f"the backup was encrypted with another {', '.join(missing)} than this release "
                "has, and no Secret keeps it. To restore without it, and lose what is encrypted "
                f"with it, set mlflow_restore_foreign. To give it: {how}"
            )
        return found, list(missing)

    def reopen(self) -> tuple[dict[str, t.Any], list[str]]:
        """Encrypt anew what a restored backup has with older keys."""
        found, missing = self.kept()
        if not found or not self._write:
            return {}, missing
        encrypted = self._reencrypt(reopen_input(found))
        self.changed = any(said["changed"] for said in encrypted.values())
        return encrypted, missing

    def _wait_for_old_pods(self, kept: Object, timeout: float) -> None:
        """Wait until no pod is left that was started with the old values."""
        word = self.word(kept)
        at = str((kept["metadata"].get("annotations") or {}).get(SWITCHED) or "")
        end = time.monotonic() + timeout
        while True:
            left = [
                pod["metadata"]["name"]
                for pod in self._pods("mlops.mlflow/database-client=true")
                if str(pod["metadata"]["creationTimestamp"]) <= at
                and (pod["metadata"].get("annotations") or {}).get(WORD) != word
            ]
            if not left:
                return
            if time.monotonic() >= end:
                raise RotationError(
                    f"after {timeout:.0f} s these pods still run with the old values: "
                    f"{', '.join(left)}. Both work; run this again when they have ended"
                )
            time.sleep(_PAUSE)

    @staticmethod
    def word(kept: Object) -> str:
        """Return a word that is this rotation's own."""
        return str((kept.get("metadata") or {}).get("uid") or "")[:8]


def run(cluster: Api, params: dict[str, t.Any], write: bool) -> dict[str, t.Any]:
    """Take one step."""
    work = Rotation(cluster, params, write)
    if params["state"] in ("kept", "reopened"):
        done, missing = work.reopen() if params["state"] == "reopened" else ({}, work.kept()[1])
        return {"changed": work.changed, "encrypted": done, "missing": missing}
    encrypted: dict[str, t.Any] = {}
    if params["state"] == "begun":
        found = work.begin()
    elif params["state"] == "switched":
        found = work.switch()
    else:
        found, encrypted = work.finish()
    restart = ""
    if set(found.new) & set(READ_AT_START) and params["state"] != "finished":
        restart = work.word(work._begun()[1])
    return {
        "changed": work.changed,
        "rotating": found.keys,
        "restart": restart,
        "encrypted": encrypted,
    }


def main() -> None:
    """Entry point."""
    states = ["begun", "switched", "finished", "kept", "reopened"]
    keys = {"type": "list", "elements": "str", "choices": list(KEYS), "default": []}
    module = module_of(
        {
            "state": {"type": "str", "choices": states, "required": True},
            "fingerprints": {"type": "dict", "default": {}, "no_log": False},
            "secrets": {**keys, "no_log": False},
            "values": {"type": "str", "no_log": True},
            "force": {"type": "bool", "default": False},
        }
    )
    with working(module) as (cluster, _progress):
        module.exit_json(**run(cluster, module.params, not module.check_mode))


if __name__ == "__main__":
    main()
