"""Galaxy takes the archive: its importer reads it, finds everything, and complains of nothing.

Galaxy's importer runs from a lock of its own. It needs no network, and ansible-test, which it would
start in a container, is a stage of its own here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import Any, NamedTuple

import pytest
from ansible_collections.mlops.mlflow.tests.ship.environments import environment
from ansible_collections.mlops.mlflow.tests.ship.galaxy import ROOT, Installed

ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())


class Imported(NamedTuple):
    """What Galaxy's importer said, and what it would show."""

    said: str
    data: dict[str, Any]


@pytest.fixture(scope="module")
def imported(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    importer = environment(ROOT / "tests/ship/requirements-importer.txt")
    folder = tmp_path_factory.mktemp("importer")
    done = subprocess.run(
        [importer / "bin/python", "-m", "galaxy_importer.main", installed.archive],
        cwd=folder,
        env={
            "PATH": f"{importer / 'bin'}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            # The linter is in the stage lint. Here it has two minutes, which can be too few.
            "GALAXY_IMPORTER_RUN_ANSIBLE_LINT": "false",
            # ansible-doc would take it that somebody is at a terminal as wide as this one.
            "COLUMNS": "200",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    result = folder / "importer_result.json"
    assert result.exists(), done.stdout
    return Imported(done.stdout, json.loads(result.read_text(encoding="utf-8")))


def test_the_importer_finds_nothing_to_complain_of(imported: Imported) -> None:
    assert re.findall(r"(?m)^(?:WARNING|ERROR|CRITICAL).*", imported.said) == []


def test_the_importer_finds_all_that_is_shipped(imported: Imported) -> None:
    found: dict[str, set[str]] = {}
    for item in imported.data["contents"]:
        found.setdefault(item["content_type"], set()).add(item["name"])
    assert found["role"] == set(ROLES)
    assert found["module"] == {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}
    assert found["playbook"] == {path.name for path in (ROOT / "playbooks").glob("*.yml")}


def test_galaxy_shows_the_documentation_of_each_module(imported: Imported) -> None:
    shown = {
        item["content_name"]: item["doc_strings"]
        for item in imported.data["docs_blob"]["contents"]
        if item["content_type"] == "module"
    }
    assert shown
    for name, strings in shown.items():
        assert strings["doc"]["short_description"], name
        assert strings["examples"], name


def text_of(role: str) -> str:
    return (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_a_readme_with_one_example(role: str) -> None:
    text = text_of(role)
    assert text.startswith(f"# mlops.mlflow.{role}\n")
    assert len(re.findall(r"(?m)^```yaml$", text)) == 1
    # What ansible-doc says is not said again: a table of variables would grow old.
    assert "|" not in text
    assert len(text.splitlines()) < 40


@pytest.mark.parametrize("role", ROLES)
def test_a_role_s_readme_leads_to_the_documentation(role: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", text_of(role))
    assert links
    for link in links:
        assert (ROOT / "roles" / role / link).is_file(), link


@pytest.mark.parametrize("role", ROLES)
def test_a_role_s_example_names_what_there_is(role: str) -> None:
    example = re.search(r"(?ms)^```yaml\n(.*?)^```", text_of(role))
    assert example
    for name in re.findall(r"\bmlops\.mlflow\.(\w+)", example[1]):
        assert name in ROLES
