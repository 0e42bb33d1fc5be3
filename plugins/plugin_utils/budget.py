# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reckon whether the database has enough connections for the servers, from the render alone."""

from __future__ import annotations

import itertools
import math
import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.plugin_utils import kustomization

# MLflow's and SQLAlchemy's own defaults.
_WORKERS = 4
_POOL = 5
_OVERFLOW = 10
_POSTGRES_MAX = 100
_POSTGRES_RESERVED = 3
# For psql, backups and the migration.
_SPARE = 10


class Budget(t.NamedTuple):
    """Connections that may be asked for, and those there are."""

    wanted: int
    available: int
    formula: str


def environment(objects: list[kustomization.Object], item: kustomization.Object) -> dict[str, str]:
    """Return a container's environment as far as it is in the render (Secrets are not)."""
    found: dict[str, str] = {}
    for source in item.get("envFrom") or []:
        name = (source.get("configMapRef") or {}).get("name")
        config = kustomization.find(objects, "ConfigMap", str(name))
        found.update({key: str(value) for key, value in ((config or {}).get("data") or {}).items()})
    for variable in item.get("env") or []:
        reference = (variable.get("valueFrom") or {}).get("configMapKeyRef")
        if "value" in variable:
            found[variable["name"]] = str(variable["value"])
        elif reference:
            config = kustomization.find(objects, "ConfigMap", str(reference.get("name")))
            data = (config or {}).get("data") or {}
            if reference.get("key") in data:
                found[variable["name"]] = str(data[reference["key"]])
    return found


def _words(item: kustomization.Object) -> list[str]:
    words = [*(item.get("command") or []), *(item.get("args") or [])]
    return [part for word in words for part in str(word).replace("=", " ").split()]


def _after(words: list[str], *names: str) -> int | None:
    for name, value in itertools.pairwise(words):
        if name in names and value.isdigit():
            return int(value)
    return None


def _surge(deployment: kustomization.Object, replicas: int) -> int:
    strategy = deployment["spec"].get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return 0
    surge = (strategy.get("rollingUpdate") or {}).get("maxSurge", "25%")
    if isinstance(surge, str) and surge.endswith("%"):
        return math.ceil(replicas * int(surge[:-1]) / 100)
    return int(surge)


def _number(values: t.Mapping[str, str], name: str, default: int) -> int:
    text = values.get(name, "")
    return int(text) if re.fullmatch(r"\d+", text) else default


def _true(values: t.Mapping[str, str], name: str, default: bool) -> bool:
    return values.get(name, str(default)).lower() in ("true", "1")


def reckon(objects: list[kustomization.Object]) -> Budget | None:
    """Return the budget, or None when the render brings no server or no database of its own."""
    deployment = kustomization.find(objects, "Deployment", kustomization.SERVER)
    database = kustomization.find(objects, "StatefulSet", kustomization.DATABASE)
    if deployment is None or database is None:
        return None
    server = kustomization.container(deployment, kustomization.SERVER)
    values = environment(objects, server)
    words = _words(server)
    workers = _after(words, "--workers", "-w") or _number(values, "MLFLOW_WORKERS", _WORKERS)
    scaled = kustomization.autoscaler(objects)
    replicas = int(
        scaled["spec"]["maxReplicas"] if scaled else deployment["spec"].get("replicas", 1)
    )
    stores = 2  # tracking and registry
    stores += _true(values, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", True)
    stores += "MLFLOW_AUTH_CONFIG_PATH" in values or "basic-auth" in words
    stores += _true(values, "MLFLOW_ENABLE_WORKSPACES", False)
    pool = _number(values, "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", _POOL)
    overflow = _number(values, "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW", _OVERFLOW)
    surge = _surge(deployment, replicas)
    wanted = (replicas + surge) * workers * stores * (pool + overflow) + _SPARE
    postgres = kustomization.container(database, kustomization.DATABASE)
    available = (_after(_words(postgres), "max_connections") or _POSTGRES_MAX) - _POSTGRES_RESERVED
    formula = (
        f"({replicas} replicas + {surge} surge) * {workers} workers * {stores} stores * "
        f"({pool} pool + {overflow} overflow) + {_SPARE} spare = {wanted}"
    )
    return Budget(wanted, available, formula)
