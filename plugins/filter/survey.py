# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns what the roles say of their variables into the survey of an AWX job template."""

from __future__ import annotations

DOCUMENTATION = r"""
name: survey
short_description: The survey of an AWX job template, from the roles' own argument specs
version_added: 0.1.0
author:
  - mlops.mlflow contributors (@mlops-mlflow)
description:
  - Asks for variables of this collection by their name, with the type, the choices and the
    description that the roles give them, so that a survey cannot say anything else.
  - No question has a default. What is not answered stays what the inventory and the role say.
positional: _input
options:
  _input:
    description:
      - Names of variables, in the order of the questions. Only what fits into one line can be asked
        for, or chosen from a list, so no dictionaries and no other lists.
    type: list
    elements: str
    required: true
  required:
    description: Those of them that must be answered.
    type: list
    elements: str
    default: []
seealso:
  - module: awx.awx.job_template
"""

EXAMPLES = r"""
- name: Let people choose the version
  awx.awx.job_template:
    name: MLflow production site
    survey_enabled: true
    survey_spec: "{{ ['mlflow_version', 'mlflow_migration_strategy'] | mlops.mlflow.survey }}"
"""

RETURN = r"""
_value:
  description: What the option O(awx.awx.job_template#module:survey_spec) takes.
  type: dict
"""

import re
import typing as t

import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory import overlays

# Ansible's types that have a kind of question of their own.
_TYPES = {"str": "text", "path": "text", "int": "integer", "float": "float"}
# O(name), V(value), C(code): of these, what is in the brackets; of M(name) and E(NAME) too.
_MARKUP = re.compile(r"\b[BCEIMOPV]\(([^()]*)\)")


def specs() -> dict[str, dict[str, t.Any]]:
    """Return what all roles say of their variables, by name."""
    found: dict[str, dict[str, t.Any]] = {}
    for path in sorted(overlays.ROLES.glob("*/meta/argument_specs.yml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        found.update(document["argument_specs"]["main"].get("options") or {})
    return found


def description(spec: t.Mapping[str, t.Any]) -> str:
    """Return a description as one paragraph without markup."""
    text = spec["description"]
    whole = text if isinstance(text, str) else " ".join(text)
    return _MARKUP.sub(r"\1", " ".join(whole.split()))


def question(name: str, spec: t.Mapping[str, t.Any], required: bool) -> dict[str, t.Any]:
    """Return the question for one variable."""
    kind = spec.get("type", "str")
    asked: dict[str, t.Any] = {
        "question_name": name,
        "question_description": description(spec),
        "variable": name,
        "required": required,
    }
    if spec.get("no_log"):
        return {**asked, "type": "password"}
    if kind == "bool":
        return {**asked, "type": "multiplechoice", "choices": ["true", "false"]}
    if spec.get("choices"):
        # An empty answer is none at all.
        choices = [str(choice) for choice in spec["choices"] if choice != ""]
        several = "multiselect" if kind == "list" else "multiplechoice"
        return {**asked, "type": several, "choices": choices}
    if kind not in _TYPES:
        raise AnsibleFilterError(f"survey: {name} is a {kind}, which no question can ask for")
    return {**asked, "type": _TYPES[kind]}


def survey(names: list[str], required: t.Collection[str] = ()) -> dict[str, t.Any]:
    """Return the survey that asks for these variables."""
    known = specs()
    for name in [*names, *required]:
        if name not in known:
            raise AnsibleFilterError(f"survey: no role of this collection has a variable {name}")
        if name not in names:
            raise AnsibleFilterError(f"survey: {name} is required, but not asked for")
    questions = [question(name, known[name], name in required) for name in names]
    return {"name": "", "description": "", "spec": questions}


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return them by name."""
        return {"survey": survey}
