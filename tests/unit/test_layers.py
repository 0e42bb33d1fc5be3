# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The house: imports go down only, and what is private says so."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

PLUGINS = Path(__file__).parents[2] / "plugins"
OURS = "ansible_collections.mlops.mlflow.plugins."
# From the top down: each may import what stands below it.
LAYERS = ("_mlflow", "_wait", "_release", "_backup", "_k8s")
FOR_USERS = {"backup_info", "diagnose", "mlflow_info", "wait_for_mlflow", "wait_for_rollout"}
PRIVATE = "Private to this collection"


def imported(path: Path) -> set[str]:
    """Return what a file imports of this collection, without the common beginning."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(OURS):
            name = str(node.module).removeprefix(OURS)
            found |= {f"{name}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports by its own place"
        elif isinstance(node, ast.Import):
            found |= {alias.name[len(OURS) :] for alias in node.names if OURS in alias.name}
    return found


def files(folder: str) -> list[Path]:
    """Return the Python files below a folder of plugins."""
    found = sorted((PLUGINS / folder).rglob("*.py"))
    assert found, folder
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_module_utils_import_only_downwards(layer: str) -> None:
    allowed = LAYERS[LAYERS.index(layer) :]
    for path in files(f"module_utils/{layer}"):
        for name in imported(path):
            kind, package = name.split(".")[:2]
            assert (kind, package in allowed) == ("module_utils", True), f"{path}: {name}"


def test_every_package_has_its_place() -> None:
    for path in (PLUGINS / "module_utils").iterdir():
        assert path.name in (*LAYERS, "__init__.py", "__pycache__"), path


def test_the_controller_s_side_imports_no_plugin() -> None:
    for path in files("plugin_utils"):
        for name in imported(path):
            assert name.split(".")[0] in ("module_utils", "plugin_utils"), f"{path}: {name}"


def test_modules_import_module_utils_only() -> None:
    """A module is sent to a host: it can take nothing else with it."""
    for path in files("modules"):
        for name in imported(path):
            assert name.split(".")[0] == "module_utils", f"{path}: {name}"


def test_what_is_not_for_users_says_so() -> None:
    for path in files("modules"):
        if path.stem == "build":
            continue
        (text,) = (
            node.value.value
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == "DOCUMENTATION"
            and isinstance(node.value, ast.Constant)
        )
        described = " ".join(yaml.safe_load(str(text))["description"])
        assert (PRIVATE in described) == (path.stem not in FOR_USERS), path.stem
