"""The pages about the house name every room of it, and none that is gone."""

from __future__ import annotations

import re

from ansible_collections.mlops.mlflow.tests.docs.pages import ROOT

PAGE = (ROOT / "docs/guides/architecture.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def folders(where: str) -> set[str]:
    """Return the folders of one that hold anything."""
    return {
        path.name
        for path in (ROOT / where).iterdir()
        if path.is_dir() and path.name[0] != "." and any(path.glob("[!_.]*"))
    }


def test_the_layers_are_those_that_there_are() -> None:
    below = PAGE.split("module_utils/\n", 1)[1]
    shown = re.findall(r"^  (_\w+) ", below.split("```", 1)[0], re.MULTILINE)
    assert set(shown) == folders("plugins/module_utils")
    below = PAGE.split("plugin_utils/\n", 1)[1]
    shown = re.findall(r"^  (_\w+) ", below.split("```", 1)[0], re.MULTILINE)
    assert set(shown) == folders("plugins/plugin_utils")


def test_the_roles_are_those_that_there_are() -> None:
    text = PAGE.split("## Roles", 1)[1].split("## ", 1)[0]
    for role in folders("roles"):
        assert re.search(rf"(?<!\w){role}(?!\w)", text), role


def test_the_rooms_are_those_that_there_are() -> None:
    shown = set(re.findall(r"^([a-z]+)/ ", CONTRIBUTING, re.MULTILINE))
    assert shown == folders(".") - {"changelogs", "execution-environment", "meta"}


def test_the_tests_rooms_are_those_that_there_are() -> None:
    text = CONTRIBUTING.split("\ntests/", 1)[1].split("\nbenchmarks/", 1)[0]
    for room in folders("tests") - {"callback_plugins", "tools", "output"}:
        assert re.search(rf"\b{room}\b", text), room
