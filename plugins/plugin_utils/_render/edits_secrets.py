# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of where Secrets come from. Pure functions; no value of a Secret is in them."""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.edits_workloads import (
    patch,
    pointer,
    required,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.objects import (
    CREDENTIALS,
    EXTERNAL,
    SERVER,
    Object,
    container,
    find,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render.settings import (
    Settings,
    SettingsError,
)


def reference_of(key: str, source: t.Mapping[str, str]) -> tuple[str, str]:
    """Return Secret and key under which pods find a value that is not in the release's own."""
    if source.get("external"):
        return EXTERNAL, key
    return str(source["secret"]), str(source.get("key") or key)


def existing_secrets(settings: Settings) -> list[dict[str, str]]:
    """Return what has to be in the cluster before the release, and the variable that says so."""
    found = []
    for key, source in sorted(settings.secrets.items()):
        if source.get("secret"):
            secret, name = reference_of(key, source)
            found.append({"variable": f"mlflow_secrets.{key}", "secret": secret, "key": name})
    return found


def external_secrets(settings: Settings) -> list[dict[str, str]]:
    """Return what External Secrets has to bring, in the form of C(existing_secrets)."""
    return [
        {"variable": f"mlflow_secrets.{key}", "secret": EXTERNAL, "key": key}
        for key, source in sorted(settings.secrets.items())
        if source.get("external")
    ]


def administrator(objects: t.Iterable[Object]) -> dict[str, dict[str, str]]:
    """Return where MLflow's administrator is, as the server's pods are told; empty without auth."""
    server = container(find(objects, "Deployment", SERVER), SERVER)
    found = {}
    for variable in server.get("env") or []:
        reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
        name = str(variable.get("name", ""))
        if reference and name in ("MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD"):
            part = name.rsplit("_", 1)[1].lower()
            found[part] = {"secret": str(reference["name"]), "key": str(reference["key"])}
    return found if len(found) == 2 else {}


def _referring(value: t.Any, path: tuple[object, ...] = ()) -> t.Iterator[tuple[t.Any, Object]]:
    """Yield every part of an object that refers to the release's Secret, with its path."""
    if isinstance(value, dict):
        is_volume = value.get("secretName") == CREDENTIALS and value.get("items")
        if is_volume or (value.get("name") == CREDENTIALS and ("key" in value or "items" in value)):
            yield path, value
            return
        for key, item in value.items():
            yield from _referring(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _referring(item, (*path, index))


def _projected(items: list[Object], wanted: dict[str, tuple[str, str]]) -> list[Object]:
    """Return the sources of a projected volume that has each item from where it is."""
    by_secret: dict[str, list[Object]] = {}
    for item in items:
        secret, key = wanted.get(str(item["key"]), (CREDENTIALS, str(item["key"])))
        by_secret.setdefault(secret, []).append({**item, "key": key})
    return [{"secret": {"name": name, "items": found}} for name, found in by_secret.items()]


def references(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Have everything that refers to a value refer to where the inventory says that it is."""
    wanted = {key: reference_of(key, source) for key, source in settings.secrets.items()}
    used: set[str] = set()
    for item in objects:
        operations: list[Object] = []
        for path, found in _referring(item.get("spec") or {}, ("spec",)):
            if "key" in found:
                if found["key"] in wanted:
                    used.add(found["key"])
                    secret, key = wanted[found["key"]]
                    operations += [
                        {"op": "replace", "path": pointer((*path, "name")), "value": secret},
                        {"op": "replace", "path": pointer((*path, "key")), "value": key},
                    ]
                continue
            keys = {str(entry["key"]) for entry in found["items"]} & set(wanted)
            used |= keys
            if not keys:
                continue
            sources = _projected(found["items"], wanted)
            if path[-1] != "secret" or "secretName" not in found:
                raise SettingsError(
                    f"mlflow_secrets: {item['kind']} {item['metadata']['name']} has "
                    f"{CREDENTIALS} in a projected volume, which is not changed here; refer to "
                    "the right Secret in the overlay"
                )
            mode = {"defaultMode": found["defaultMode"]} if "defaultMode" in found else {}
            operations += [
                {"op": "remove", "path": pointer(path)},
                {
                    "op": "add",
                    "path": pointer((*path[:-1], "projected")),
                    "value": {**mode, "sources": sources},
                },
            ]
        if operations:
            yield patch(item["kind"], item["metadata"]["name"], operations)
    unused = sorted(set(wanted) - used)
    if unused:
        hint = "; is the component auth missing?" if unused[0].startswith("admin-") else ""
        raise SettingsError(f"mlflow_secrets.{unused[0]}: no pod of this release asks for it{hint}")


def external(objects: list[Object], settings: Settings) -> t.Iterator[Object]:
    """Say what External Secrets has to bring, from which store, and into a Secret of its own.

    A Secret of its own, so that nobody else ever writes to it: generated and given values stay in
    the release's.
    """
    data = [
        {
            "secretKey": key,
            "remoteRef": {
                "key": source["external"],
                **({"property": source["property"]} if source.get("property") else {}),
            },
        }
        for key, source in sorted(settings.secrets.items())
        if source.get("external")
    ]
    if not data:
        return
    item = required(objects, "ExternalSecret", CREDENTIALS, "mlflow_secrets")
    store = {"kind": "SecretStore", **settings.secret_store}
    target = {**(item["spec"].get("target") or {}), "name": EXTERNAL}
    operations: list[Object] = [
        {"op": "add", "path": "/spec/secretStoreRef", "value": store},
        {"op": "add", "path": "/spec/target", "value": target},
        {"op": "add", "path": "/spec/data", "value": data},
    ]
    if "dataFrom" in item["spec"]:
        operations.append({"op": "remove", "path": "/spec/dataFrom"})
    yield patch("ExternalSecret", CREDENTIALS, operations)
