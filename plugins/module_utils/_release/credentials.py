# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Secrets of a release: kept, given, or made up once. No value ever leaves them."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import CLAIM
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.ownership import (
    FIELD_MANAGER,
    is_ours,
    same,
    take_over_patch,
)

NAME = "mlflow-credentials"
# What reads the Secrets, and runs with older ones until it is restarted.
WORKLOADS = ["StatefulSet/postgres", "Deployment/mlflow"]
RESTART_ANNOTATION = "mlops.mlflow/restart"
DEFAULT_KEYS = {
    "database-username": "username",
    "database-password": "password",
    "flask-secret-key": "key",
    "webhook-encryption-key": "fernet",
    "kek-passphrase": "key",
}
FIXED = {"username": b"mlflow", "admin": b"admin"}
# What MLflow encrypts in the database, only these can read. By key: the setting of an inventory
# that gives it, and the variable of the pods that have it.
ENCRYPTING = {
    "webhook-encryption-key": (
        "mlflow_webhook_encryption_key",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY",
    ),
    "kek-passphrase": ("mlflow_kek_passphrase", "MLFLOW_CRYPTO_KEK_PASSPHRASE"),
}
# The volume of the bundled database, which outlives everything else of a release.
DATABASE_CLAIM = "data-postgres-0"
# MLflow reads these once, when it has no user yet: nothing runs with older ones.
_READ_ONCE = {"admin-username", "admin-password"}
_LABELS = {
    "app.kubernetes.io/name": "mlflow",
    "app.kubernetes.io/part-of": "mlflow",
    "app.kubernetes.io/component": "config",
}
_APPLY_PATCH = "application/apply-patch+yaml"
_MERGE_PATCH = "application/merge-patch+json"

Object = dict[str, t.Any]


def generate(kind: str) -> bytes:
    """Return a new value of the kind."""
    if kind in FIXED:
        return FIXED[kind]
    if kind == "fernet":
        return base64.urlsafe_b64encode(secrets.token_bytes(32))
    return secrets.token_urlsafe(32).encode()


def parse(text: str | None, what: str, wanted: type) -> t.Any:
    """Read JSON text; the error names the option and nothing of what it holds."""
    try:
        value = json.loads(text or ("{}" if wanted is dict else "[]"))
    except ValueError:
        raise ApiError(0, f"{what} is not JSON") from None
    if not isinstance(value, wanted):
        raise ApiError(0, f"{what} has the wrong type")
    return value


def data_of(item: Object | None) -> dict[str, bytes]:
    """Return a Secret's values, decoded."""
    if item is None:
        return {}
    try:
        found = {
            key: base64.b64decode(str(value), validate=True)
            for key, value in (item.get("data") or {}).items()
        }
    except (ValueError, binascii.Error):
        name = item.get("metadata", {}).get("name")
        raise ApiError(0, f"Secret {name}: a value under data is not base64") from None
    found.update(
        {key: str(value).encode() for key, value in (item.get("stringData") or {}).items()}
    )
    return found


def mark_of(item: Object | None) -> str:
    """Return the word that says something still runs with older values."""
    annotations = ((item or {}).get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(RESTART_ANNOTATION, ""))


class Wanted(t.NamedTuple):
    """What a Secret must hold, and how that came about."""

    data: dict[str, bytes]
    generated: list[str]
    updated: list[str]


def wanted(
    there: dict[str, bytes],
    rendered: dict[str, bytes],
    given: dict[str, bytes],
    keys: dict[str, str],
) -> Wanted:
    """Decide the values: given before rendered before those there before new ones."""
    data = {**there, **rendered, **given}
    generated = [key for key in keys if not data.get(key)]
    data.update({key: generate(keys[key]) for key in generated})
    updated = [key for key in there if key not in generated and data[key] != there[key]]
    return Wanted(data, sorted(generated), sorted(updated))


class Credentials:
    """The Secrets of one release."""

    def __init__(self, cluster: Api, params: dict[str, t.Any], check_mode: bool) -> None:
        self._cluster = cluster
        self._namespace = params["namespace"]
        self._check_mode = check_mode
        self.changed = False
        self.created: list[str] = []
        self.generated: list[str] = []
        self.updated: list[str] = []

    def _path(self, name: str) -> str:
        return f"/api/v1/namespaces/{self._namespace}/secrets/{name}"

    def _read(self, name: str) -> Object | None:
        return self._cluster.find(self._path(name), f"Secret {name}")

    def _write(self, name: str, body: t.Any, query: dict[str, str], kind: str) -> Object:
        answer = self._cluster.request("PATCH", self._path(name), body, query, kind)
        if answer.status not in (200, 201):
            # The API server's message may quote the value it does not like.
            reason = answer.body.get("reason") or f"HTTP {answer.status}"
            raise ApiError(0, f"Secret {name} cannot be written ({reason})")
        return answer.body

    def _workload_exists(self) -> bool:
        for item in WORKLOADS:
            kind, _slash, name = item.partition("/")
            path = self._cluster.path_of(
                {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}},
                self._namespace,
            )
            if self._cluster.find(path, item):
                return True
        return False

    def _database_exists(self) -> bool:
        path = CLAIM.item(self._namespace, DATABASE_CLAIM)
        return self._cluster.find(path, f"{CLAIM.kind}/{DATABASE_CLAIM}") is not None

    def _keep_keys(self, before: dict[str, bytes], decided: Wanted, in_overlay: bool) -> None:
        """Raise ApiError before a key would be lost that something is encrypted with."""
        changed = sorted(key for key in ENCRYPTING.keys() & set(decided.updated) if before[key])
        if changed:
            names = ", ".join(changed if in_overlay else [ENCRYPTING[key][0] for key in changed])
            where = f"the overlay's Secret {NAME}: " if in_overlay else ""
            how = (
                "Put the old value back into the overlay"
                if in_overlay
                else "Change it with: ansible-playbook playbooks/rotate.yml -e "
                f"'{json.dumps({'rotate_secrets': changed})}'\n"
                "or put the value that the cluster has into the inventory"
            )
            raise ApiError(
                0,
                f"{where}{names}: is not the value that this release has, and what MLflow has "
                f"encrypted with that one could not be read any more. No Secret was written. {how}",
            )
        lost = sorted(ENCRYPTING.keys() & set(decided.generated))
        if lost and (self._workload_exists() or self._database_exists()):
            named = ", ".join(lost)
            variables = " ".join(ENCRYPTING[key][1] for key in lost)
            settings = " and ".join(ENCRYPTING[key][0] for key in lost)
            raise ApiError(
                0,
                f"Secret {NAME} has no {named}, though this release was deployed before: new "
                "ones would make what MLflow has encrypted unreadable. No Secret was written. Pods "
                f"that still run have them, as {variables}: kubectl -n {self._namespace} exec "
                f"deployment/mlflow -- printenv {variables}\nGive them as {settings}; new ones "
                "there, if nothing was encrypted",
            )

    def _apply(self, item: Object, there: Object | None) -> None:
        """Apply a whole Secret; changed only when it then differs."""
        name = item["metadata"]["name"]
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        patch = take_over_patch(there) if there is not None else []
        if patch and not self._check_mode:
            self._write(name, patch, {}, "application/json-patch+json")
        if self._check_mode:
            if there is None:
                # Perhaps the namespace is not there either; nothing to ask.
                self.changed = True
                return
            query["dryRun"] = "All"
        then = self._write(name, item, query, _APPLY_PATCH)
        if there is None or patch or not is_ours(there) or not same(there, then):
            self.changed = True

    def _definition(
        self, name: str, data: dict[str, bytes], base: Object | None, mark: str
    ) -> Object:
        metadata = dict((base or {}).get("metadata") or {"labels": dict(_LABELS)})
        metadata.update(name=name, namespace=self._namespace)
        if mark:
            annotations = metadata.get("annotations") or {}
            metadata["annotations"] = {**annotations, RESTART_ANNOTATION: mark}
        encoded = {key: base64.b64encode(value).decode() for key, value in sorted(data.items())}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": (base or {}).get("type", "Opaque"),
            "metadata": metadata,
            "data": encoded,
        }

    def ensure(
        self, rendered: Object | None, given: dict[str, bytes], keys: dict[str, str], name: str
    ) -> None:
        """See to one Secret."""
        there = self._read(name)
        before = data_of(there)
        decided = wanted(before, data_of(rendered), given, keys)
        if rendered is None and there is not None and decided.data == before:
            return  # Whoever made it, its values are all there: leave it alone.
        if name == NAME:
            self._keep_keys(before, decided, in_overlay=rendered is not None and not given)
        # A rendered Secret that was lost comes back with the values everything runs with.
        lost = there is None and rendered is None
        other = {*decided.updated, *(decided.generated if there is not None else ())}
        stale = lost or bool(other - _READ_ONCE)
        mark = mark_of(there)
        if stale and not self._check_mode and self._workload_exists():
            mark = secrets.token_hex(4)
        # Values and mark in one write: there is no moment at which only one of them is there.
        self._apply(self._definition(name, decided.data, rendered, mark), there)
        if there is None:
            self.created.append(name)
        self.generated += decided.generated
        self.updated += decided.updated

    def restart(self) -> str:
        """Return the mark on the Secret."""
        return mark_of(self._read(NAME))

    def restarted(self) -> None:
        """Take the mark off."""
        if self.restart():
            self.changed = True
            if not self._check_mode:
                body = {"metadata": {"annotations": {RESTART_ANNOTATION: None}}}
                query = {"fieldManager": FIELD_MANAGER}
                self._write(NAME, body, query, _MERGE_PATCH)


def run(cluster: Api, params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """See to all Secrets of the release."""
    work = Credentials(cluster, params, check_mode)
    if params["state"] == "restarted":
        work.restarted()
    else:
        given = {
            str(key): str(value).encode()
            for key, value in parse(params["values"], "values", dict).items()
            if value not in (None, "")
        }
        definitions = {
            str(item["metadata"]["name"]): item
            for item in parse(params["definitions"], "definitions", list)
        }
        main_one = definitions.pop(NAME, None)
        work.ensure(main_one, given, params["keys"], NAME)
        for name, item in definitions.items():
            work.ensure(item, {}, {}, name)
    return {
        "changed": work.changed,
        "created": work.created,
        "generated": work.generated,
        "updated": work.updated,
        "restart": work.restart(),
    }
