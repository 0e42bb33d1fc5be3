# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what a deployment would do, from what preflight, render and comparison have found.

Pure functions of their results: what is planned and what is done come from the same answers.
"""

from __future__ import annotations

import re
import typing as t

Object = dict[str, t.Any]

# The tracking schema's revision that each version of MLflow migrates to, read in its wheel. Another
# image tells only when it runs.
HEADS = {"3.16.1": "b7e2c1a4d9f3", "3.17.2": "dc11669786a5"}
SERVER = "Deployment/mlflow"
DATABASE = "StatefulSet/postgres"


class Facts(t.NamedTuple):
    """What the plan is made from: results of the modules of these names."""

    release: Object
    difference: Object
    credentials: Object
    info: Object
    connections: Object
    strategy: str
    prune: bool
    # Whether another MLflow is kept from the database until a backup was taken.
    backup: bool = False
    # What a rehearsal of the migration has found, if there was one.
    rehearsal: Object = {}  # noqa: RUF012 - never changed


def _numbers(version: str | None) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", version or "")
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _changes(facts: Facts, verb: str) -> list[str]:
    return [
        change.partition(" ")[2]
        for changes in facts.difference["changes"].values()
        for change in changes
        if change.partition(" ")[0] == verb
    ]


def restarts(facts: Facts) -> list[str]:
    """Return the workloads whose pods are replaced."""
    found = list(facts.difference["restarts"])
    # New values of what pods read once, or an earlier run that did not come to the restart.
    if facts.credentials.get("updated") or facts.credentials.get("restart"):
        found += [name for name in (DATABASE, SERVER) if name in facts.difference["existing"]]
    return list(dict.fromkeys(found))


def schema(facts: Facts) -> Object:
    """Return how the tracking schema moves, C(from) and C(to), and words for it."""
    running = facts.info.get("mlflow") or {}
    before = running.get("version") or running.get("image_version")
    current = ((facts.info.get("schema") or {}).get("tracking") or {}).get("current")
    version = str(facts.release.get("version") or "")
    head = HEADS.get(version)
    to = head or f"the head of {facts.release['image']}, which only that image knows"
    moves = {"moves": True, "from": current, "to": head}
    if not facts.difference["changes"].get("migration"):
        return {**moves, "moves": False, "to": current, "words": "stays as it is"}
    if SERVER not in facts.difference["existing"] and not current:
        words = f"initialised at {to}, or what a volume that is there holds is migrated to it"
    elif head and current == head:
        return {**moves, "moves": False, "words": f"is at {head} already, which is looked at again"}
    elif version and before and _numbers(version) < _numbers(before):
        older = f"MLflow {version} is older than {before}, which runs at "
        # Versions may share a revision: only where both are known is it certain that they do not.
        if head and current:
            words = f"cannot go back: {older}{current}; the migration would refuse it"
        else:
            older += current or "a revision that is not known"
            words = f"{older}: the migration refuses it unless that is {to}"
        return {**moves, "moves": False, "words": words}
    else:
        words = f"{current or 'a revision that is not known'} → {to}"
    return {**moves, "words": words}


def downtime(facts: Facts) -> Object:
    """Return for how long MLflow does not answer, as a word and as words."""
    existing, replaced = facts.difference["existing"], restarts(facts)
    migrates = not facts.difference["settled"].get("migration", True)
    if SERVER not in existing:
        return {"expected": "none", "words": "none: no MLflow serves yet"}
    if facts.strategy == "offline" and migrates:
        return {
            "expected": "offline",
            "words": (
                "from when the pods are stopped until the new version answers: the migration and "
                "one start (mlflow_migration_strategy: offline)"
            ),
        }
    if DATABASE in replaced:
        return {
            "expected": "database",
            "words": "while the database's only pod is replaced, MLflow does not answer",
        }
    if SERVER in replaced:
        server = next(
            item
            for item in facts.release["stages"]["server"]
            if (item["kind"], item["metadata"]["name"]) == ("Deployment", "mlflow")
        )
        if ((server["spec"].get("strategy") or {}).get("type")) == "Recreate":
            return {"expected": "recreate", "words": "one start: its strategy is Recreate"}
        return {"expected": "rolling", "words": "none: pods are replaced one by one"}
    return {"expected": "none", "words": "none"}


def plan(facts: Facts) -> Object:
    """Return the plan."""
    existing = facts.difference["existing"]
    secrets = facts.credentials
    add = _changes(facts, "create") + [f"Secret/{name}" for name in secrets.get("created") or []]
    change = _changes(facts, "update")
    if (secrets.get("updated") or secrets.get("generated")) and not secrets.get("created"):
        change.append("Secret/mlflow-credentials")
    remove = [
        f"{item['kind']}/{item['metadata']['name']}"
        for item in (facts.difference["prune"] if facts.prune else [])
    ]
    rotating = facts.difference.get("rotating") or []
    # One that failed is made anew.
    again = [name for name in add if name in existing]
    back = [name for name in facts.difference["offline"] if name in existing]
    found = {
        "namespace": facts.release["namespace"],
        "nothing_to_do": not (
            add or change or remove or secrets.get("restart") or back or rotating
        ),
        "rotation": rotating,
        "add": [name for name in add if name not in again],
        "change": change,
        "again": again,
        "remove": remove,
        "take_over": facts.difference["take_over"],
        "restart": restarts(facts),
        "grow": facts.difference.get("grow", []),
        "back_in_service": back,
        "versions": {
            "from": (facts.info.get("mlflow") or {}).get("version")
            or (facts.info.get("mlflow") or {}).get("image_version"),
            "to": facts.release.get("version") or None,
            "image": facts.release["image"],
        },
        "backup": facts.backup
        and facts.difference.get("image", "") not in ("", facts.release["image"]),
        "schema": schema(facts),
        "rehearsal": facts.rehearsal or None,
        "downtime": downtime(facts),
        "connections": facts.connections,
        "lock": facts.info.get("lock"),
    }
    return {**found, "report": report(found)}


# --- Words ----------------------------------------------------------------------------------------


def _connections(found: Object) -> str:
    if not found:
        return "not known"
    formula, available = found["formula"], found.get("available")
    most = f"of {available}" if available is not None else "of a number that is not told"
    return f"{formula}, {most} (mlflow_database_max_connections)"


def _rehearsed(found: Object) -> str:
    return f"{found['took']}, with the data of {found['time']} (backup {found['backup']})"


def report(found: Object) -> list[str]:
    """Return the plan as lines for people."""
    versions, lock = found["versions"], found["lock"]
    table = [("", f"What site.yml would do in namespace {found['namespace']}:")]
    if found["nothing_to_do"]:
        table = [("", f"site.yml would change nothing in namespace {found['namespace']}")]
    for key in ("add", "change", "again", "remove"):
        table += [(key, name) for name in found[key]]
    for name in found["take_over"]:
        table.append(("change", f"{name}: who owns which of its fields"))
    for one in found["grow"]:
        table.append(("grow", f"volume {one['name']}: {one['from']} → {one['to']}"))
    for name in found["back_in_service"]:
        table.append(("change", f"{name} goes back into service, out of which a run left it"))
    if found["rotation"]:
        words = f"the rotation of {', '.join(found['rotation'])}, which was cut off, is finished"
        table.append(("change", words))
    if found["restart"]:
        table.append(("restart", ", ".join(found["restart"])))
    moves = versions["from"] != versions["to"] and versions["to"]
    before = versions["from"] or "none"
    table += [
        ("MLflow", f"{before} → {versions['to']}" if moves else f"{before}, {versions['image']}"),
        *([("backup", "is taken before")] if found["backup"] else []),
        ("schema", found["schema"]["words"]),
        *([("migration", _rehearsed(found["rehearsal"]))] if found["rehearsal"] else []),
        ("downtime", found["downtime"]["words"]),
        ("connections", _connections(found["connections"])),
        ("permissions", "all there"),
        ("lock", f"held by {lock['holder']} since {lock['since']}" if lock else "free"),
    ]
    width = max(len(name) for name, _text in table)
    return [f"{name:<{width}}  {text}".strip() for name, text in table]
