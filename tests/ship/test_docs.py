"""The documentation site builds without a warning, and what it tells people to type is there."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.mlops.mlflow.plugins.filter.survey import specs
from ansible_collections.mlops.mlflow.tests.ship.galaxy import BIN, ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "kustomize/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
# Names that stand for one of the reader's own.
PLACEHOLDER = re.compile(r"[A-Z]{2,}|…|^/|~|^inventory\.yml$|^@?vault\.yml$|^job$")


def commands(page: Path) -> Iterator[str]:
    """Yield what a page has people type, one line each."""
    for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        for line in re.findall(r"^\$ ((?:.*\\\n)*.*)$", block, re.MULTILINE):
            yield re.sub(r"\s*\\\n\s*", " ", line).split("  #")[0]


TYPED = [(page, line) for page in PAGES for line in commands(page)]


def test_there_are_commands() -> None:
    assert len(TYPED) > 20


@pytest.mark.parametrize(("page", "line"), TYPED, ids=[line for _page, line in TYPED])
def test_what_is_typed_is_there(page: Path, line: str) -> None:
    for target in re.findall(r"\bmake (?:-s )?([a-z-]+)", line):
        assert target in TARGETS, target
    for playbook in re.findall(r"ansible-playbook .*?((?:\w[\w/-]*)\.yml)(?= |$)", line):
        assert PLACEHOLDER.search(playbook) or (ROOT / playbook).is_file(), playbook
    for name in re.findall(r"\bmlops\.mlflow\.(\w+)", line):
        kinds = ("playbooks", "plugins/modules", "roles")
        assert any(list((ROOT / kind).glob(f"{name}*")) for kind in kinds), name
    for inventory in re.findall(r"-i (\S+)", line):
        assert PLACEHOLDER.search(inventory) or (ROOT / inventory).is_dir(), inventory
    for scenario in re.findall(r"molecule test -s (\S+)", line):
        assert PLACEHOLDER.search(scenario) or (ROOT / "molecule" / scenario).is_dir(), scenario
    for variable in re.findall(r"(?:-e |\{\")'?\{?\"?([a-z_]+)\b(?==|\":)", line):
        if not variable.startswith(("kind_", "ee_")):
            assert variable in specs(), variable
    for path in re.findall(r"(?<![\w/.])(?:docs|kustomize|execution-environment)/[\w./-]+", line):
        assert (ROOT / path).exists(), path


def test_a_page_s_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.relative_to(ROOT)}: {link}"


def test_the_site_has_every_page() -> None:
    index = (ROOT / "docs/site/index.md").read_text()
    for page in PAGES[1:]:
        name = str(page.relative_to(ROOT).with_suffix(""))
        assert name in index or name.startswith(("docs/components/", "docs/site/")), name


def test_the_site_builds_without_a_warning() -> None:
    done = subprocess.run(
        [ROOT / "docs/site/build.sh"],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    html = ROOT / ".state/docs/html"
    for module in (ROOT / "plugins/modules").glob("*.py"):
        assert (html / f"collection/{module.stem}_module.html").is_file(), module.stem
    for role in (ROOT / "roles").iterdir():
        assert (html / f"collection/{role.name}_role.html").is_file(), role.name
    # A sentence of a module's documentation, and one of a guide.
    page = (html / "collection/wait_for_mlflow_module.html").read_text()
    assert yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"] in page
    assert "The smallest inventory" in (html / "docs/guides/first-deployment.html").read_text()
