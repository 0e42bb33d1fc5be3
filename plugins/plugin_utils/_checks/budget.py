# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check whether the database has enough connections for the servers, from the render."""

from __future__ import annotations

import math
import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import kustomization

# MLflow's and SQLAlchemy's own defaults.
_WORKERS = 4
_POOL = 5
_OVERFLOW = 10
POSTGRES_MAX = 100
_POSTGRES_RESERVED = 3
# For psql, backups and the migration.
_SPARE = 10


class Budget(t.NamedTuple):
    """Connections that may be asked for, and what decides their number."""

    replicas: int
    surge: int
    workers: int
    stores: int
    pool: int
    overflow: int
    # Those there are; None where the database is not in the render, and nobody said.
    available: int | None
    # Which variable says how many replicas there are.
    variable: str

    @property
    def wanted(self) -> int:
        """Return how many connections all servers together may open, in a rollout."""
        return self._wanted_by(self.replicas)

    def _wanted_by(self, replicas: int) -> int:
        return (replicas + self.surge) * self._of_a_pod + _SPARE

    @property
    def _of_a_pod(self) -> int:
        return self.workers * self.stores * (self.pool + self.overflow)

    @property
    def formula(self) -> str:
        """Return the sum in words."""
        return (
            f"({self.replicas} replicas + {self.surge} surge) * {self.workers} workers * "
            f"{self.stores} stores * ({self.pool} pool + {self.overflow} overflow) + {_SPARE} "
            f"spare = {self.wanted}"
        )

    @property
    def fitting(self) -> int:
        """Return how many replicas there may be, all else being equal; 0 if not even one."""
        if self.available is None or self._of_a_pod == 0:
            return self.replicas
        return max(0, (self.available - _SPARE) // self._of_a_pod - self.surge)

    @property
    def problem(self) -> str:
        """Return what is wrong and which numbers to change, or an empty string."""
        if self.available is None or self.wanted <= self.available:
            return ""
        fewer = f"Set it to {self.fitting} or less, or lower" if self.fitting else "Lower"
        return (
            f"{self.variable}: the servers may ask for more connections than Postgres has: "
            f"{self.formula}, of {self.available}. {fewer} MLFLOW_WORKERS, "
            "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE or MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW in "
            "mlflow_config, or give Postgres more: mlflow_database_max_connections: "
            f"{self.wanted + _POSTGRES_RESERVED}"
        )


def number_after(container: kustomization.Object, *names: str) -> int | None:
    """Return the number that a container is started with after one of the names."""
    values = kustomization.values_after(container, *names)
    return next((int(value) for value in values if value.isdigit()), None)


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


def calculate(
    objects: list[kustomization.Object], max_connections: int | None = None
) -> Budget | None:
    """Return the budget, or None when the render brings no server.

    C(max_connections) is that of a database which is not in the render.
    """
    deployment = kustomization.find(objects, "Deployment", kustomization.SERVER)
    database = kustomization.find(objects, "StatefulSet", kustomization.DATABASE)
    if deployment is None:
        return None
    server = kustomization.container(deployment, kustomization.SERVER)
    values = kustomization.environment(objects, server)
    workers = number_after(server, "--workers", "-w") or _number(values, "MLFLOW_WORKERS", _WORKERS)
    scaled = kustomization.autoscaler(objects)
    replicas = int(
        scaled["spec"]["maxReplicas"] if scaled else deployment["spec"].get("replicas", 1)
    )
    stores = 2  # tracking and registry
    stores += _true(values, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", True)
    options = kustomization.options_of(server)
    stores += "MLFLOW_AUTH_CONFIG_PATH" in values or "basic-auth" in options
    stores += _true(values, "MLFLOW_ENABLE_WORKSPACES", False)
    pool = _number(values, "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", _POOL)
    overflow = _number(values, "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW", _OVERFLOW)
    if database is not None:
        postgres = kustomization.container(database, kustomization.DATABASE)
        max_connections = number_after(postgres, "max_connections") or POSTGRES_MAX
    return Budget(
        replicas=replicas,
        surge=_surge(deployment, replicas),
        workers=workers,
        stores=stores,
        pool=pool,
        overflow=overflow,
        available=None if max_connections is None else max_connections - _POSTGRES_RESERVED,
        variable="mlflow_autoscaling.max" if scaled else "mlflow_replicas",
    )
