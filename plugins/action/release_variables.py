# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of mlops.mlflow.release_variables; the module of that name documents it."""

from __future__ import annotations

import os
import pathlib
import typing as t

import yaml
from ansible.errors import AnsibleError
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory import (
    connection,
    identity,
    overlays,
    types,
    values,
)
from ansible_collections.mlops.mlflow.plugins.plugin_utils._release.local import (
    LocalAction,
    Result,
)

_OPTIONS: dict[str, dict[str, t.Any]] = {
    "roles": {"type": "list", "elements": "str", "required": True},
    "connection": {"type": "bool", "default": True},
    "assume": {"type": "dict", "default": {}},
}


def role_specs(roles: t.Iterable[str]) -> dict[str, dict[str, t.Any]]:
    """Return the options of the main entry point of each role, merged."""
    specs: dict[str, dict[str, t.Any]] = {}
    for role in roles:
        path = overlays.ROLES / role / "meta" / "argument_specs.yml"
        if not path.is_file():
            raise AnsibleError(f"the role {role} has no meta/argument_specs.yml")
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        specs.update(document["argument_specs"]["main"].get("options") or {})
    return specs


class ActionModule(LocalAction):
    """Hold every variable against its spec; say everything that is wrong in one message."""

    OPTIONS = _OPTIONS

    def _values(
        self, specs: t.Mapping[str, t.Any], task_vars: t.Mapping[str, t.Any]
    ) -> tuple[dict[str, t.Any], list[str]]:
        values: dict[str, t.Any] = {}
        problems = []
        for name, spec in specs.items():
            if name not in task_vars:
                continue
            try:
                values[name] = self._templar.template(task_vars[name])
            except AnsibleError as error:
                detail = "" if spec.get("no_log") else f" ({_one_line(error)})"
                problems.append(f"{name}: its template cannot be evaluated{detail}")
        return values, problems

    def _find_overlays(
        self, settings: dict[str, t.Any], base: str
    ) -> tuple[str, list[str], list[str]]:
        problems = []
        wanted = settings.get("mlflow_overlay") or settings.get("mlflow_environment", "")
        overlay, problem = None, ""
        if wanted:
            overlay, problem = overlays.find("mlflow_overlay", "overlays", wanted, base)
            problems += [problem] if problem else []
        components = []
        for index, text in enumerate(settings.get("mlflow_components", [])):
            variable = f"mlflow_components[{index}]"
            if text in overlays.BUILT_IN_COMPONENTS:
                problems.append(
                    f"{variable}: {text} is added by the collection itself; leave it out"
                )
                continue
            folder, problem = overlays.find(variable, "components", text, base)
            if folder is None:
                problems.append(problem)
            elif str(folder) in components:
                problems.append(f"{variable}: {text} is listed twice")
            else:
                components.append(str(folder))
        # A path of one's own may be anything, and bring what another one needs.
        shipped = overlays.KUSTOMIZE / "components"
        if all(pathlib.Path(folder).parent == shipped for folder in components):
            problems += overlays.contradictions([pathlib.Path(item).name for item in components])
        return str(overlay or ""), components, problems

    def answer(self, arguments: Result, task_vars: Result) -> Result:
        """Check the variables in scope."""
        refused = identity.left_out(
            task_vars.get("ansible_run_tags") or (), task_vars.get("ansible_skip_tags") or ()
        )
        if refused:
            return {"failed": True, "msg": refused}
        task_vars = {**arguments["assume"], **task_vars}
        specs = role_specs(arguments["roles"])
        problems = types.unknown_names(task_vars, specs)
        given, template_problems = self._values(specs, task_vars)
        problems += template_problems
        broken = {problem.split(":", 1)[0] for problem in template_problems}
        settings, type_problems = types.check_types(
            {name: spec for name, spec in specs.items() if name not in broken}, given
        )
        problems += type_problems
        problems += values.check_values(settings, overlays.development_values())
        base = str(task_vars.get("inventory_dir") or os.getcwd())
        overlay, components, overlay_problems = self._find_overlays(settings, base)
        problems += overlay_problems
        chosen = connection.Connection({}, "", [])
        if arguments["connection"]:
            chosen = connection.choose(settings, os.environ)
            problems += chosen.problems
        if problems:
            return {"failed": True, "msg": types.report(problems)}
        namespace = str(settings.get("mlflow_namespace") or _namespace(overlay))
        place = [overlay, *components, namespace]
        return {
            "msg": f"All variables are good; the cluster is {chosen.source or 'not needed'}.",
            "connection": chosen.options,
            "cluster": chosen.source,
            "overlay": overlay,
            "components": components,
            "namespace": namespace,
            "identity": identity.identity(settings, specs, chosen.options, chosen.source, place),
        }


def _namespace(overlay: str) -> str:
    return overlays.namespace_of(pathlib.Path(overlay)) if overlay else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
