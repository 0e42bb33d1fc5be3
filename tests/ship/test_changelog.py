"""What a new version brings is written down while it is made, as Galaxy expects it."""

from __future__ import annotations

import json
import subprocess

import yaml
from ansible_collections.mlops.mlflow.tests.ship.galaxy import BIN, ROOT


def test_the_changelog_and_its_fragments_are_well_formed() -> None:
    done = subprocess.run(
        [BIN / "antsibull-changelog", "lint"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_module_of_the_changelog_is_there_or_said_to_be_gone() -> None:
    releases = yaml.safe_load((ROOT / "changelogs/changelog.yaml").read_text())["releases"]
    notes = [yaml.safe_load(path.read_text()) for path in ROOT.glob("changelogs/fragments/*.yml")]
    notes += [release["changes"] for release in releases.values()]
    said = json.dumps([note.get("breaking_changes", []) for note in notes])
    modules = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}
    for version, release in releases.items():
        listed = {module["name"] for module in release.get("modules", [])}
        gone = {name for name in listed - modules if f"``{name}``" not in said}
        assert not gone, f"{version}: {sorted(gone)}"

        assert release["changes"]["release_summary"]
