# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell from the objects of a namespace how a release is, beyond its health. Pure functions."""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.findings import span
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.images import version_tagged
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.readiness import main_container
from ansible_collections.mlops.mlflow.plugins.module_utils._release import rotation
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Object,
    condition,
    wall_seconds,
)

PART_OF = "app.kubernetes.io/part-of"
COMPONENT = "app.kubernetes.io/component"
SERVER = "mlflow"
DATABASE = "postgres"
_POSTGRES_IN_TAG = re.compile(r":v?(\d+(?:\.\d+)*)(?:[-+][\w.-]*)?(?:@|$)")


def labelled(items: t.Iterable[Object], part_of: str) -> list[Object]:
    """Return those that bear the release's label."""
    return [item for item in items if _labels(item).get(PART_OF) == part_of]


def named(items: t.Iterable[Object], name: str) -> Object | None:
    """Return the one of that name."""
    return next((item for item in items if item["metadata"]["name"] == name), None)


def _labels(item: Object) -> Object:
    return item["metadata"].get("labels") or {}


def _template(workload: Object) -> Object:
    spec = workload.get("spec") or {}
    return (spec.get("template") or {}) if "template" in spec else {}


def replicas(workload: Object) -> dict[str, int]:
    """Return how many pods there should be, and how many of the current revision serve."""
    status = workload.get("status") or {}
    return {
        "wanted": int((workload.get("spec") or {}).get("replicas", 1)),
        "updated": int(status.get("updatedReplicas") or 0),
        "ready": int(status.get("readyReplicas") or 0),
    }


def server(deployment: Object | None, told: t.Mapping[str, t.Any]) -> Object | None:
    """Return what is deployed as the server, and the version that it says it is."""
    if deployment is None:
        return None
    image = str(main_container(_template(deployment)).get("image") or "")
    return {
        "version": told.get("version") or None,
        "image": image,
        "image_version": version_tagged(image) or None,
        "replicas": replicas(deployment),
    }


# Text is sorted by the C library's rules, and each version may have its own: an index that another
# one made no longer finds all that is there. An index whose making failed is not used.
DATABASE_HEALTH = """
SELECT json_build_object(
  'version', current_setting('server_version'),
  'collation', (SELECT coalesce(json_agg(datname ORDER BY datname), '[]') FROM pg_database
    WHERE datallowconn AND datcollversion <> pg_database_collation_actual_version(oid)),
  'invalid_indexes', (SELECT coalesce(json_agg(indexrelid::regclass::text), '[]') FROM pg_index
    WHERE NOT indisvalid),
  'checksum_failures', (SELECT coalesce(sum(checksum_failures), 0) FROM pg_stat_database))
"""


def database_health(output: str) -> Object:
    """Read what the database says of itself."""
    try:
        found: Object = json.loads(output)
    except ValueError:
        return {}
    return {**found, "version": str(found.get("version", "")).partition(" ")[0]}


def database_problems(entry: Object | None) -> list[str]:
    """Return what is wrong inside the database, with what to type. A pure function."""
    found = entry or {}
    into = "kubectl -n NAMESPACE exec postgres-0 -- psql -U postgres -d"
    problems = [
        f"database {name} was made with another version of the C library, whose order its text "
        f"indexes have: {into} {name} -c 'REINDEX DATABASE {name}' -c 'ALTER DATABASE {name} "
        "REFRESH COLLATION VERSION'"
        for name in found.get("collation") or []
    ]
    if found.get("invalid_indexes"):
        names = ", ".join(found["invalid_indexes"])
        problems.append(f"these indexes are not used, as making them failed: {names}")
    if found.get("checksum_failures"):
        problems.append(
            f"{found['checksum_failures']} page(s) were not what was written: the disk or its "
            "driver is broken; take the newest backup to another volume"
        )
    return problems


def database(stateful_set: Object | None, told: t.Mapping[str, t.Any]) -> Object | None:
    """Return the bundled database, or None where it is somebody else's."""
    if stateful_set is None:
        return None
    image = str(main_container(_template(stateful_set)).get("image") or "")
    found = _POSTGRES_IN_TAG.search(image)
    return {
        "version": told.get("version") or None,
        "image": image,
        "image_version": found[1] if found else None,
        "replicas": replicas(stateful_set),
        "collation": told.get("collation"),
        "invalid_indexes": told.get("invalid_indexes"),
        "checksum_failures": told.get("checksum_failures"),
    }


def pod(item: Object, wall: float) -> Object:
    """Return a pod as kubectl shows it."""
    status = item.get("status") or {}
    containers = status.get("containerStatuses") or []
    waiting = [
        str(state["waiting"].get("reason"))
        for entry in [*(status.get("initContainerStatuses") or []), *containers]
        if (state := entry.get("state") or {}).get("waiting", {}).get("reason")
    ]
    shown = next((word for word in waiting if word != "PodInitializing"), "")
    if item["metadata"].get("deletionTimestamp"):
        shown = "Terminating"
    return {
        "name": item["metadata"]["name"],
        "component": _labels(item).get(COMPONENT, ""),
        "status": shown or str(status.get("phase") or "Unknown"),
        "ready": sum(bool(entry.get("ready")) for entry in containers),
        "containers": len((item.get("spec") or {}).get("containers") or []),
        "restarts": sum(int(entry.get("restartCount") or 0) for entry in containers),
        "age_seconds": _age(item["metadata"].get("creationTimestamp"), wall),
    }


def is_over(item: Object) -> bool:
    """Whether a pod has done its work: those of Jobs stay for their logs."""
    return (item.get("status") or {}).get("phase") == "Succeeded"


def _age(moment: t.Any, wall: float) -> int | None:
    began = wall_seconds(moment)
    return max(0, round(wall - began)) if began else None


def last_release(
    recorded: Object | None, jobs: t.Iterable[Object], deployment: Object | None
) -> Object | None:
    """Return when the release was last seen to be good, and by what.

    Where no release is recorded, as with plain kubectl, its objects tell. The smoke test's Job
    bears a name made from the whole release, so that each release has its own.
    """
    if recorded is not None:
        return recorded
    unknown = {"number": None, "version": None, "backup": None}
    found = [
        (wall_seconds(entry.get("lastTransitionTime")), str(entry.get("lastTransitionTime")))
        for job in jobs
        if _labels(job).get(COMPONENT) == "smoke-test"
        and (entry := condition(job, "Complete", "True"))
    ]
    if found:
        return {"time": max(found)[1], "proof": "smoke test", **unknown}
    rolled = condition(deployment or {}, "Progressing", "True") or {}
    if rolled.get("reason") == "NewReplicaSetAvailable":
        return {"time": str(rolled.get("lastUpdateTime") or ""), "proof": "rollout", **unknown}
    return None


def referenced(workloads: t.Iterable[Object]) -> set[str]:
    """Return the names of the Secrets that pods of these workloads read."""
    names: set[str] = set()

    def look(value: t.Any) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                if key in ("secretKeyRef", "secretRef") and isinstance(part, dict):
                    names.add(str(part.get("name")))
                elif key == "secretName":
                    names.add(str(part))
                else:
                    look(part)
        elif isinstance(value, list):
            for part in value:
                look(part)

    for workload in workloads:
        look(workload.get("spec"))
    return names


def secrets(
    metadata: t.Iterable[Object], needed: t.Collection[str], part_of: str, wall: float
) -> list[Object]:
    """Return the release's Secrets and their age; of what they hold, nothing is known here."""
    there = {item["metadata"]["name"]: item["metadata"] for item in metadata}
    ours = {item["metadata"]["name"] for item in labelled(metadata, part_of)}
    found = []
    for name in sorted({*ours, *needed}):
        item = there.get(name, {})
        times = [str(entry.get("time") or "") for entry in item.get("managedFields") or []]
        written = max([*times, str(item.get("creationTimestamp") or "")])
        found.append(
            {
                "name": name,
                "exists": bool(item),
                "created": item.get("creationTimestamp"),
                "written": written or None,
                "age_seconds": _age(written, wall),
            }
        )
    return found


def schema(servers: t.Mapping[str, t.Any], left: t.Mapping[str, t.Any] | None) -> Object:
    """Return state and revisions of each database, as a server's helper says or has left."""
    verdicts = [entry.get("schema") for entry in servers.values()]
    verdict = next((one for one in verdicts if one), left) or {}
    return {
        name: {key: entry.get(key) for key in ("state", "current", "head", "differences")}
        for name, entry in verdict.items()
        if isinstance(entry, dict)
    }


# --- Words ----------------------------------------------------------------------------------------


def _ago(seconds: float | None) -> str:
    return "age unknown" if seconds is None else f"{span(seconds)} ago"


def _counts(entry: Object) -> str:
    numbers = entry["replicas"]
    return f"{numbers['ready']} of {numbers['wanted']} ready"


def _workload(entry: Object | None, absent: str) -> str:
    if entry is None:
        return absent
    version = entry["version"]
    if not version:
        known = entry["image_version"]
        version = f"{known} by its image's tag" if known else "version unknown"
    elif entry["image_version"] and not str(version).startswith(entry["image_version"]):
        version += f" (its image's tag says {entry['image_version']})"
    return f"{version}, {_counts(entry)}, {entry['image']}"


def lines(status: t.Mapping[str, t.Any], wall: float) -> list[str]:
    """Return all of it for people, each line with its subject in front."""
    table = [
        ("", status["msg"]),
        ("MLflow", _workload(status["mlflow"], "not there")),
        ("Postgres", _workload(status["postgres"], "not part of this release")),
        *(("Postgres", problem) for problem in database_problems(status["postgres"])),
    ]
    table += [
        (
            f"schema {name}",
            f"{entry['state']}, revision {entry['current'] or 'none'}, the image's is "
            f"{entry['head'] or 'unknown'}",
        )
        for name, entry in status["schema"].items()
    ] or [("schema", "not known")]
    table += [
        (f"schema {name}", difference)
        for name, entry in status["schema"].items()
        for difference in entry["differences"] or []
    ]
    table += [
        (
            "pod",
            f"{entry['name']}  {entry['ready']}/{entry['containers']} {entry['status']}, "
            f"{entry['restarts']} restarts, started {_ago(entry['age_seconds'])}",
        )
        for entry in status["pods"]
    ] or [("pod", "none")]
    for entry in status["secrets"]:
        words = f"written {_ago(entry['age_seconds'])}" if entry["exists"] else "is not there"
        table.append(("Secret", f"{entry['name']}  {words}"))
    if status["rotation"]:
        table.append(("rotation", rotation.unfinished(status["rotation"])))
    good = status["last_release"]
    table.append(("last good", _good(good, wall) if good else "not known"))
    lock = status["lock"]
    table.append(("lock", _lock(lock) if lock else "free"))
    table += [("not seen", note) for note in status["notes"]]
    width = max(len(name) for name, _text in table)
    return [f"{name:<{width}}  {text}".strip() for name, text in table]


def _good(good: Object, wall: float) -> str:
    which = ""
    if good["number"] is not None:
        what = f" (MLflow {good['version']})" if good["version"] else ""
        which = f", release {good['number']}{what}"
    back = f"; the backup {good['backup']} leads back" if good["backup"] else ""
    return f"{good['time']}, {_ago(_age(good['time'], wall))}, by its {good['proof']}{which}{back}"


def _lock(lock: Object) -> str:
    over = ", and is over: the next run takes it" if lock["over"] else ""
    return f"held by {lock['holder']} since {lock['since']}, last renewed {lock['renewed']}{over}"
