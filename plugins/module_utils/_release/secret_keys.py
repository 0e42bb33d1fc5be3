# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See that the Secrets that a release refers to are there."""

from __future__ import annotations

import base64
import binascii
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import SECRET

# The option of the modules that look for them.
REFERENCES: dict[str, t.Any] = {
    "type": "list",
    "elements": "dict",
    "no_log": False,
    "options": {
        "variable": {"type": "str", "required": True},
        "secret": {"type": "str", "required": True, "no_log": False},
        "key": {"type": "str", "required": True, "no_log": False},
    },
}
_EXTERNAL_SECRETS = "external-secrets.io/v1"
# What somebody types, as names of keys of the release's Secret.
_TYPED = ("database-username", "database-password", "admin-username", "admin-password")

Object = dict[str, t.Any]


def missing(
    references: list[dict[str, str]], secrets: dict[str, Object | None], namespace: str
) -> list[str]:
    """Return a line for each reference that leads nowhere."""
    found = []
    for reference in references:
        where = f"{reference['variable']}: "
        secret, key = reference["secret"], reference["key"]
        item = secrets[secret]
        if item is None:
            found.append(
                f"{where}there is no Secret {secret} in namespace {namespace} for its key {key}: "
                f"kubectl -n {namespace} create secret generic {secret} --from-file={key}=FILE"
            )
        elif key not in (item.get("data") or {}):
            keys = ", ".join(sorted(item.get("data") or {})) or "none"
            found.append(
                f"{where}Secret {secret} in namespace {namespace} has no key {key} (it has: "
                f"{keys}). Name another key, or add it: kubectl -n {namespace} edit secret {secret}"
            )
        elif not item["data"][key]:
            found.append(
                f"{where}the key {key} of Secret {secret} in namespace {namespace} is empty: "
                f"kubectl -n {namespace} edit secret {secret}"
            )
        elif why := unusable(reference["variable"].rpartition(".")[2], item["data"][key]):
            found.append(
                f"{where}the key {key} of Secret {secret} in namespace {namespace} {why}: "
                f"kubectl -n {namespace} edit secret {secret}"
            )
    return found


def unusable(key: str, encoded: str) -> str:
    """Return why a value cannot be what the key of the release's Secret is, or nothing.

    Never the value, and nothing that tells of it.
    """
    try:
        value = base64.b64decode(encoded)
    except (ValueError, binascii.Error):
        return "is not base64"
    if key in _TYPED and value.endswith((b"\n", b"\r")):
        return "ends with a line break, as echo writes one and printf does not"
    if key.startswith("admin-") and not value.isascii():
        return "must be ASCII: MLflow's client sends other characters in two ways"
    return ""


def unusable_keys(secret: Object | None, namespace: str) -> list[str]:
    """Return a line for each value of the release's own Secret that cannot be what it is for."""
    name = ((secret or {}).get("metadata") or {}).get("name")
    return [
        f"the key {key} of Secret {name} in namespace {namespace} {why}. Where MLflow has it "
        f"already, rotate.yml changes it; else: kubectl -n {namespace} edit secret {name}"
        for key, value in ((secret or {}).get("data") or {}).items()
        if (why := unusable(key, str(value)))
    ]


def not_synchronised(item: Object | None, name: str) -> str:
    """Return what an ExternalSecret says of itself if it is not synchronised, else nothing."""
    if item is None:
        return f"ExternalSecret {name} is not there"
    conditions = (item.get("status") or {}).get("conditions") or []
    ready = [found for found in conditions if found.get("type") == "Ready"]
    if not ready:
        return f"ExternalSecret {name} has no status; does External Secrets run in this cluster?"
    # Synchronised is what it was when it was last looked at: its resourceVersion says which.
    seen = str((item.get("status") or {}).get("syncedResourceVersion") or "").partition("-")[0]
    now = str(item["metadata"].get("generation") or "")
    if ready[0].get("status") == "True":
        return "" if not seen or seen == now else f"ExternalSecret {name} is being synchronised"
    text = " ".join(str(ready[0].get("message") or ready[0].get("reason") or "").split())
    return f"ExternalSecret {name} is not synchronised: {text}"


class Keys:
    """The Secrets that a release refers to."""

    def __init__(self, cluster: Api, params: dict[str, t.Any]) -> None:
        self._cluster = cluster
        self._namespace = params["namespace"]
        self._references = params["references"]
        self._external = params["external_secret"]

    def look(self) -> list[str]:
        """Return a line for everything that is missing now."""
        if self._external:
            item: Object = {
                "apiVersion": _EXTERNAL_SECRETS,
                "kind": "ExternalSecret",
                "metadata": {"name": self._external},
            }
            path = self._cluster.path_of(item, self._namespace)
            said = not_synchronised(
                self._cluster.find(path, f"ExternalSecret {self._external}"), self._external
            )
            if said:
                names = ", ".join(reference["variable"] for reference in self._references)
                see = f"kubectl -n {self._namespace} describe externalsecret {self._external}"
                return [f"{names}: {said}: {see}"]
        wanted = {reference["secret"] for reference in self._references}
        secrets = {
            name: self._cluster.find(SECRET.item(self._namespace, name), f"Secret {name}")
            for name in wanted
        }
        return missing(self._references, secrets, self._namespace)
