# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that a deployment has to know before it writes, from one client in one process."""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._release import (
    compare,
    credentials,
    permissions,
    record,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.lock import (
    DEFAULT_TTL,
    NAME,
    Lease,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.records import Records
from ansible_collections.mlops.mlflow.plugins.module_utils._release.secret_keys import Keys

Object = dict[str, t.Any]
# What is amiss in the cluster, or left over, though no object of the release differs.
_LEFT = ("take_over", "failed_jobs", "prune", "left_by_backups", "offline")


def look(cluster: Api, params: Object, show: bool = False) -> Object:
    """Look at what the parameters give; raise ApiError with all of a kind that is amiss."""
    found: Object = {}
    if params["kinds"] is not None:
        found.update(permissions.check(cluster, params))
    if params["references"]:
        missing = Keys(cluster, {**params, "external_secret": ""}).look()
        if missing:
            error = ApiError(0, "; ".join(missing))
            error.missing = missing
            raise error
    if params["stages"] is not None:
        found.update(compare.compare(cluster, params, show))
    if params["whole"]:
        found.update(_release(cluster, params, found))
    return found


def _release(cluster: Api, params: Object, difference: Object) -> Object:
    namespace = params["namespace"]
    recorded = Records(cluster, namespace).read()
    content = record.kept({"stages": params["stages"]})
    lease = Lease(cluster, namespace, NAME, "", DEFAULT_TTL).look()
    asked = {
        "namespace": namespace,
        "name": credentials.NAME,
        "state": "present",
        "keys": params["keys"],
        "values": params["values"],
        "definitions": params["definitions"],
        "workloads": credentials.WORKLOADS,
        "field_manager": params["field_manager"],
    }
    decided = credentials.run(cluster, asked, check_mode=True)
    holder = lease.holder if lease else ""
    return {
        "record": {
            "releases": list(recorded.releases),
            "pending": recorded.pending,
            "needed_secrets": record.needed_secrets(recorded),
        },
        "credentials": decided,
        "holder": holder,
        "nothing_to_do": (
            not holder
            and not decided["changed"]
            and not decided["restart"]
            and serves(recorded, content)
            and not any(difference["changes"].values())
            and all(difference["settled"].values())
            and not any(difference[name] for name in _LEFT)
        ),
    }


def serves(recorded: record.Record, content: Object) -> bool:
    """Whether the record says that this very release was the last, and was finished."""
    newest = recorded.releases[0] if recorded.releases else {}
    return recorded.pending is None and newest.get("digest") == record.digest(content)
