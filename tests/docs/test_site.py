"""The documentation site builds without a warning, has every page, and no link leads nowhere."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible_collections.mlops.mlflow.tests.docs.pages import PAGES, ROOT
from ansible_collections.mlops.mlflow.tests.ship.galaxy import BIN

# Found on the page itself, or reached through the collection's own pages.
NOT_IN_THE_INDEX = ("docs/components/", "docs/site/", "roles/")


def anchors(page: Path) -> set[str]:
    """Return what links within a site call the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_s_links_lead_somewhere(page: Path) -> None:
    for link, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}#{anchor}"


def test_the_site_has_every_page() -> None:
    index = (ROOT / "docs/site/index.md").read_text()
    for page in PAGES[1:]:
        name = str(page.relative_to(ROOT).with_suffix(""))
        assert name in index or name.startswith(NOT_IN_THE_INDEX), name


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
