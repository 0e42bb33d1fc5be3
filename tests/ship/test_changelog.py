"""What a new version brings is written down while it is made, as Galaxy expects it."""

from __future__ import annotations

import subprocess

import yaml
from ansible_collections.mlops.mlflow.tests.ship.galaxy import BIN, ROOT


def test_the_changelog_and_its_fragments_are_well_formed() -> None:
    done = subprocess.run(
        [BIN / "antsibull-changelog", "lint"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_module_of_the_changelog_is_there() -> None:
    releases = yaml.safe_load((ROOT / "changelogs/changelog.yaml").read_text())["releases"]
    modules = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}
    for version, release in releases.items():
        listed = {module["name"] for module in release.get("modules", [])}
        assert listed <= modules, f"{version}: {sorted(listed - modules)}"

        assert release["changes"]["release_summary"]
