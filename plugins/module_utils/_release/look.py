# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that a deployment has to know before it writes, from one client in one process."""

from __future__ import annotations

import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import SECRET
from ansible_collections.mlops.mlflow.plugins.module_utils._release import (
    compare,
    credentials,
    permissions,
    quotas,
    record,
    rotation,
    volumes,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.lock import (
    DEFAULT_TTL,
    NAME,
    Lease,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._release.records import Records
from ansible_collections.mlops.mlflow.plugins.module_utils._release.secret_keys import (
    Keys,
    unusable_keys,
)

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
            error = ApiError(0, "\n".join(missing))
            error.missing = missing
            raise error
    if params["target"]:
        found["target"] = Records(cluster, params["namespace"]).target()
        release = found["target"]["release"]
        names = [secret["name"] for secret in release.get("secrets") or []]
        params = {**params, "stages": release["stages"], "secrets": names}
    first = params["kinds"] is not None and params["stages"] is not None
    advice = _volumes(cluster, params) if first else []
    if params["stages"] is not None:
        found.update(compare.compare(cluster, params, show))
    if first:
        found["advice"] = advice + _quotas(cluster, params, found) + found["notes"]
    found["rotating"] = _rotating(cluster, params["namespace"])
    if params["whole"]:
        found.update(_release(cluster, params, found))
    return found


def _volumes(cluster: Api, params: Object) -> list[str]:
    """Return what to know of the release's volumes; raise ApiError where one cannot be."""
    every = [item for items in params["stages"].values() for item in items]
    seen = volumes.check(cluster, params["namespace"], every)
    if seen.problems:
        raise ApiError(0, "\n".join(seen.problems))
    return seen.warnings


def _quotas(cluster: Api, params: Object, found: Object) -> list[str]:
    """Return what nobody could see of quotas; raise ApiError where one is too small."""
    seen = quotas.check(cluster, params["namespace"], params["stages"], found["changes"])
    if seen.problems:
        raise ApiError(0, "\n".join(seen.problems))
    # Where it has served once, they let it.
    if not seen.unseen or "Deployment/mlflow" in found["existing"]:
        return []
    return [
        f"this account may not list {' and '.join(seen.unseen)} in namespace "
        f"{params['namespace']}, so nobody has looked whether they let the release in."
    ]


def _rotating(cluster: Api, namespace: str) -> list[str]:
    """Return which secrets a rotation is about that was begun and not finished."""
    path = SECRET.item(namespace, rotation.NAME)
    return rotation.rotating(cluster.find(path, f"Secret {rotation.NAME}"))


def _release(cluster: Api, params: Object, difference: Object) -> Object:
    namespace = params["namespace"]
    recorded = Records(cluster, namespace).read()
    content = record.kept({"stages": params["stages"]})
    lease = Lease(cluster, namespace, NAME, "", DEFAULT_TTL).look()
    own = cluster.find(SECRET.item(namespace, credentials.NAME), f"Secret {credentials.NAME}")
    problems = unusable_keys(own, namespace)
    if problems:
        raise ApiError(0, "\n".join(problems))
    asked = {
        "namespace": namespace,
        "state": "present",
        "keys": params["keys"],
        "values": params["values"],
        "definitions": params["definitions"],
    }
    decided = credentials.run(cluster, asked, check_mode=True)
    holder = lease.holder if lease else ""
    return {
        "record": {
            "releases": list(recorded.releases),
            "pending": recorded.pending,
        },
        "credentials": decided,
        "holder": holder,
        "nothing_to_do": (
            not holder
            and not decided["changed"]
            and not decided["restart"]
            and not difference["rotating"]
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
