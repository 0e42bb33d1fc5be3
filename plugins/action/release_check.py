# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of mlops.mlflow.release_check; the module of that name documents it."""

from __future__ import annotations

import re
import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.mlops.mlflow.plugins.plugin_utils._checks import budget, retention
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory.values import report
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import exposure, kustomization

_OPTIONS: dict[str, dict[str, t.Any]] = {
    "stages": {"type": "dict", "required": True},
    "secrets": {"type": "list", "elements": "dict", "default": []},
    "namespace": {"type": "str", "required": True},
    "environment": {"type": "str", "required": True},
    "allow_development_credentials": {"type": "bool", "default": False},
    "database_max_connections": {"type": "int"},
}

# The top-level domain that nobody can own: the tree's way to say that an address has to be set.
_PLACEHOLDER = re.compile(r"\.invalid(?=[:/]|$)")


def problems_of(arguments: dict[str, t.Any]) -> list[str]:
    """Return what is wrong with a render."""
    objects = _objects(arguments)
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
    found = budget.environment(objects, kustomization.container(server, kustomization.SERVER))
    problems += [
        f"mlflow_config.{name}: is not set, and the overlay has only a placeholder for it"
        for name, value in found.items()
        if _PLACEHOLDER.search(value)
    ]
    copies = kustomization.find(objects, "CronJob", kustomization.BACKUP_S3)
    bucket = budget.environment(objects, kustomization.container(copies, "s3"))
    if _PLACEHOLDER.search(bucket.get("BACKUP_S3_URL", "")):
        problems.append("mlflow_backup_s3.url: is not set, and the component backup-s3 needs it")
    problems += _unreachable(objects)
    outside = sorted(
        {
            f"{item['kind']} {item['metadata']['name']} in {item['metadata']['namespace']}"
            for item in objects
            if item["metadata"].get("namespace", arguments["namespace"]) != arguments["namespace"]
        }
    )
    if outside:
        problems.append(
            f"mlflow_overlay: renders objects outside {arguments['namespace']}: "
            f"{', '.join(outside)}; a release is one namespace"
        )
    kept = retention.problem_of(objects)
    if kept:
        problems.append(kept)
    reckoned = _budget(objects, arguments)
    if reckoned is not None and reckoned.problem:
        problems.append(reckoned.problem)
    return problems


def _unreachable(objects: list[kustomization.Object]) -> list[str]:
    """Return which of the ways in do not know yet where they lead from."""
    ingress = kustomization.find(objects, exposure.INGRESS, kustomization.SERVER)
    route = kustomization.find(objects, exposure.ROUTE, kustomization.SERVER)
    problems = []
    if any(_PLACEHOLDER.search(host) for host in exposure.hosts_of(ingress, route)):
        which = "ingress" if ingress is not None else "gateway"
        problems.append(f"mlflow_hosts: is empty, and the component {which} needs a name")
    parents = ((route or {}).get("spec") or {}).get("parentRefs") or []
    if any(_PLACEHOLDER.search(str(parent.get("name"))) for parent in parents):
        problems.append("mlflow_gateway: is empty, and the component gateway needs its Gateway")
    return problems


def _objects(arguments: dict[str, t.Any]) -> list[kustomization.Object]:
    return [item for stage in kustomization.STAGES for item in arguments["stages"][stage]]


def _budget(
    objects: list[kustomization.Object], arguments: dict[str, t.Any]
) -> budget.Budget | None:
    return budget.reckon(objects, arguments.get("database_max_connections"))


def connections_of(arguments: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return how many connections the servers may open, for those who run their own Postgres."""
    reckoned = _budget(_objects(arguments), arguments)
    if reckoned is None:
        return {}
    return {
        "wanted": reckoned.wanted,
        "available": reckoned.available,
        "formula": reckoned.formula,
    }


class ActionModule(ActionBase):
    """Refuse a render that cannot or must not be deployed."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Check the render; see the module's documentation for the result."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(argument_spec=_OPTIONS)
        problems = problems_of(arguments)
        if problems:
            result.update(failed=True, msg=report(problems))
        else:
            result.update(changed=False, msg="The render can be deployed.")
            result["connections"] = connections_of(arguments)
        return result
