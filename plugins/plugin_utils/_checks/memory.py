# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check whether the bundled Postgres has the memory for its connections, from the render."""

from __future__ import annotations

import re

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.quantities import quantity
from ansible_collections.mlops.mlflow.plugins.plugin_utils._checks import budget
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import kustomization

_MIB = 2**20
# What a connection of MLflow's takes for itself: 2.4 MiB after its usual queries (Postgres 17,
# fifty connections), and the tables of the pages that it shares.
_OF_A_CONNECTION = 3 * _MIB
# The server's own processes.
_OF_THE_SERVER = 64 * _MIB
_SHARED = 128 * _MIB
# Postgres' units are of 1024, and a number alone is one of pages.
_UNITS = {"": 8192, "B": 1, "kB": 1024, "MB": _MIB, "GB": 1024 * _MIB, "TB": 1024**2 * _MIB}


def _shared_buffers(postgres: kustomization.Object) -> int:
    for value in kustomization.values_after(postgres, "shared_buffers"):
        found = re.fullmatch(r"(\d+)(|B|kB|MB|GB|TB)", value)
        if found:
            return int(found[1]) * _UNITS[found[2]]
    return _SHARED


def check(objects: list[kustomization.Object]) -> str:
    """Return what is wrong and which settings to change, or an empty string."""
    database = kustomization.find(objects, "StatefulSet", kustomization.DATABASE)
    if database is None:
        return ""
    postgres = kustomization.container(database, kustomization.DATABASE)
    limit = ((postgres.get("resources") or {}).get("limits") or {}).get("memory")
    memory = quantity(limit)
    if memory is None:
        return ""
    connections = budget.number_after(postgres, "max_connections") or budget.POSTGRES_MAX
    shared = _shared_buffers(postgres)
    wanted = shared + _OF_THE_SERVER + connections * _OF_A_CONNECTION
    if wanted <= memory:
        return ""
    fitting = int(memory - shared - _OF_THE_SERVER) // _OF_A_CONNECTION
    return (
        f"mlflow_database_max_connections: {connections} connections need "
        f"{wanted // _MIB} MiB of memory ({shared // _MIB} shared_buffers + "
        f"{_OF_THE_SERVER // _MIB} server + {connections} * {_OF_A_CONNECTION // _MIB}), and "
        f"Postgres may have {limit}: it would be killed in the middle of its work. Set it to "
        f"{max(0, fitting)} or less, or take a larger mlflow_size"
    )
