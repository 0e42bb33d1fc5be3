# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of mlops.mlflow.release_check; the module of that name documents it."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.mlops.mlflow.plugins.plugin_utils._checks import budget, memory, retention
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.types import report
from ansible_collections.mlops.mlflow.plugins.plugin_utils._release.local import (
    LocalAction,
    Result,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import (
    exposure,
    kustomization,
    placement,
)

_OPTIONS: dict[str, dict[str, t.Any]] = {
    "stages": {"type": "dict", "required": True},
    "secrets": {"type": "list", "elements": "dict", "default": []},
    "environment": {"type": "str", "required": True},
    "allow_development_credentials": {"type": "bool", "default": False},
    "allow_anonymous": {"type": "bool", "default": False},
    "database_max_connections": {"type": "int"},
}

# The top-level domain that nobody can own: the tree's way to say that an address has to be set.
_PLACEHOLDER = re.compile(r"\.invalid(?=[:/]|$)")


class Checked(t.NamedTuple):
    """What is wrong with a render, what may be, and the connections to Postgres that it opens."""

    problems: list[str]
    warnings: list[str]
    connections: dict[str, t.Any]


def check(arguments: dict[str, t.Any]) -> Checked:
    """Check a render."""
    objects = [item for stage in kustomization.STAGES for item in arguments["stages"][stage]]
    problems = []
    marked = [item["name"] for item in arguments["secrets"] if item["development_only"]]
    refused = arguments["environment"] in ("staging", "production")
    if marked and refused and not arguments["allow_development_credentials"]:
        problems.append(
            f"mlflow_overlay: renders development credentials (Secret {', '.join(marked)}), which "
            f"anyone can read in the repository; refused in {arguments['environment']}. Delete "
            "them in the overlay as overlays/production does, or set "
            "mlflow_allow_development_credentials for a rehearsal"
        )
    server = kustomization.find(objects, "Deployment", kustomization.SERVER)
    if server is None:
        problems.append("mlflow_overlay: renders no Deployment mlflow; is it built on the base?")
    container = kustomization.container(server, kustomization.SERVER)
    found = kustomization.environment(objects, container)
    problems += [
        f"mlflow_config.{name}: is not set, and the overlay has only a placeholder for it"
        for name, value in found.items()
        if _PLACEHOLDER.search(value)
    ]
    copies = kustomization.find(objects, "CronJob", kustomization.BACKUP_S3)
    bucket = kustomization.environment(objects, kustomization.container(copies, "s3"))
    if _PLACEHOLDER.search(bucket.get("BACKUP_S3_URL", "")):
        problems.append("mlflow_backup_s3.url: is not set, and the component backup-s3 needs it")
    problems += _unreachable(objects)
    problems += _another_server(server)
    problems += _another_database(found)
    if arguments["environment"] != "development" and not arguments["allow_anonymous"]:
        problems += _open_to_all(objects, server)
    problems += _not_mounted(objects)
    problems += _torn_apart(objects)
    problems += _through_a_proxy(objects)
    kept = retention.check(objects)
    wanted = budget.calculate(objects, arguments.get("database_max_connections"))
    short = memory.check(objects)
    problems += filter(None, (kept.problem, wanted.problem if wanted else "", short))
    return Checked(
        problems,
        [kept.warning] if kept.warning else [],
        {name: getattr(wanted, name) for name in ("wanted", "available", "formula")}
        if wanted
        else {},
    )


def _another_database(values: t.Mapping[str, str]) -> t.Iterator[str]:
    """Refuse a database that is no Postgres: the lock, migrations and backups are Postgres' own."""
    for name in ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_REGISTRY_STORE_URI"):
        uri = values.get(name, "")
        # Without a scheme it is a folder, in which MLflow keeps files.
        scheme = uri.partition("://")[0].partition("+")[0] if "://" in uri else "a folder"
        if uri and scheme not in ("postgresql", "postgres"):
            yield (
                f"mlflow_config.{name}: is {scheme}; a release's database is Postgres, whose lock, "
                "migrations and backups it has. Leave it out, or add external-postgres to "
                "mlflow_components and set PGHOST"
            )


def _another_server(server: kustomization.Object | None) -> t.Iterator[str]:
    """Refuse an overlay of old advice: MLflow's security middleware is uvicorn's only."""
    for word in kustomization.words_of(kustomization.container(server, kustomization.SERVER)):
        for option in re.findall(r"--(?:gunicorn|waitress)-opts", word):
            yield (
                f"mlflow_overlay: starts MLflow with {option}, and then MLflow checks no host "
                "names and no origins. Take it out of the arguments, and set MLFLOW_UVICORN_OPTS "
                "in mlflow_config, whose options are uvicorn's"
            )


def _unreachable(objects: list[kustomization.Object]) -> list[str]:
    """Return which of the ways in do not know yet where they lead from."""
    problems = []
    for kind, component in exposure.COMPONENTS.items():
        way = kustomization.find(objects, kind, kustomization.SERVER)
        if any(_PLACEHOLDER.search(host) for host in exposure.hosts_of(way)):
            problems.append(f"mlflow_hosts: is empty, and the component {component} needs a name")
    route = kustomization.find(objects, exposure.ROUTE, kustomization.SERVER)
    parents = ((route or {}).get("spec") or {}).get("parentRefs") or []
    if any(_PLACEHOLDER.search(str(parent.get("name"))) for parent in parents):
        problems.append("mlflow_gateway: is empty, and the component gateway needs its Gateway")
    return problems


_TOO_EARLY = (
    "the overlay has the component {0} before what adds this. Name {0} in mlflow_components "
    "instead, or last in the overlay"
)
_OWN = "bring it with mlflow_pod.volumes and mlflow_pod.volumeMounts"
# What names a file that a volume has to bring, and what to do where none does.
_FILES = {
    "MLFLOW_AUTH_CONFIG_PATH": _TOO_EARLY.format("auth"),
    "PGSSLROOTCERT": _TOO_EARLY.format("external-postgres"),
    "PGSSLCERT": _OWN,
    "PGSSLKEY": _OWN,
}


def _not_mounted(objects: list[kustomization.Object]) -> t.Iterator[str]:
    """Say which pods are told of a file that they do not have: something came after a component."""
    for item in objects:
        for container in kustomization.containers_of(item):
            values = kustomization.environment(objects, container)
            folders = [mount["mountPath"] for mount in container.get("volumeMounts") or []]
            for name, advice in _FILES.items():
                path = values.get(name, "")
                if path.startswith("/etc/mlops-mlflow/") and not any(
                    path.startswith(f"{folder.rstrip('/')}/") for folder in folders
                ):
                    whose = f"{item['kind']} {item['metadata']['name']}"
                    yield (
                        f"mlflow_config.{name}: {whose} reads {path}, and its container "
                        f"{container['name']} has no volume there; {advice}"
                    )


def _through_a_proxy(objects: list[kustomization.Object]) -> t.Iterator[str]:
    """Say which pods would ask a proxy for MLflow, which it does not know."""
    for item in objects:
        for container in kustomization.containers_of(item):
            values = kustomization.environment(objects, container)
            by_name = {name.upper(): value for name, value in values.items()}
            # MLflow is asked over HTTP.
            asks = "MLFLOW_TRACKING_URI" in values and {"HTTP_PROXY", "ALL_PROXY"} & set(by_name)
            past = [part.strip() for part in by_name.get("NO_PROXY", "").split(",")]
            if asks and not {kustomization.SERVER, "*"} & set(past):
                yield (
                    f"mlflow_pod.env: {item['kind']} {item['metadata']['name']} would ask a proxy "
                    f"for {values['MLFLOW_TRACKING_URI']}, because its NO_PROXY does not have "
                    f"{kustomization.SERVER}. Set NO_PROXY in mlflow_config instead, to which that "
                    "is added"
                )


def _torn_apart(objects: list[kustomization.Object]) -> t.Iterator[str]:
    """Refuse a rule that keeps servers apart whose volume keeps them together."""
    server = kustomization.find(objects, "Deployment", kustomization.SERVER)
    if server is None or not placement.together(server):
        return
    rule = placement.apart(server)
    if rule:
        names = ", ".join(claim["metadata"]["name"] for claim in placement.claims(objects, server))
        yield (
            f"{'mlflow_pod.affinity or ' if rule == 'podAntiAffinity' else ''}mlflow_overlay: "
            f"{rule} of Deployment mlflow allows no two servers on one node, and their volume "
            f"{names} is on one node at a time: a second server would never start. Add "
            "shared-artifacts or s3-artifacts to mlflow_components, or leave the rule out"
        )


def _open_to_all(
    objects: list[kustomization.Object], server: kustomization.Object | None
) -> list[str]:
    """Say so if MLflow is reached from outside the cluster and asks nobody who they are."""
    words = kustomization.words_of(kustomization.container(server, kustomization.SERVER))
    # MLflow asks by an app of its own: basic-auth, or one of a plugin.
    if any(word.partition("=")[0] == "--app-name" for word in words):
        return []
    ways = [
        f"{kind} {kustomization.SERVER}"
        for kind in exposure.COMPONENTS
        if kustomization.find(objects, kind, kustomization.SERVER)
    ]
    service = kustomization.find(objects, "Service", kustomization.SERVER) or {}
    kind = (service.get("spec") or {}).get("type", "ClusterIP")
    if kind in ("LoadBalancer", "NodePort"):
        ways.append(f"Service {kustomization.SERVER} of type {kind}")
    if not ways:
        return []
    return [
        f"mlflow_components: {', '.join(ways)} lets in whoever reaches it, and MLflow asks nobody "
        "for a password; add the component auth, or set mlflow_allow_anonymous: true if something "
        "in front of MLflow asks"
    ]


class ActionModule(LocalAction):
    """Refuse a render that cannot or must not be deployed."""

    OPTIONS = _OPTIONS

    def answer(self, arguments: Result, task_vars: Result) -> Result:
        """Check the render."""
        found = check(arguments)
        if found.problems:
            return {"failed": True, "msg": report(found.problems)}
        return {
            "msg": "The render can be deployed.",
            "connections": found.connections,
            "warnings": found.warnings,
        }
