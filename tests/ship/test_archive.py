"""What a person gets from Galaxy: small, complete, without secrets, and working where it lands."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml
from ansible_collections.mlops.mlflow.tests.ship.galaxy import BIN, ROOT, Installed, tracked

KILOBYTES = 1000
# What only a checkout uses. Everything else is in the archive: a new folder has to be put here, or
# is shipped.
CHECKOUT_ONLY = re.compile(
    r"\.|(benchmarks|changelogs/fragments|dev|docs/site|images|molecule|scripts|tests)/|requirements[^/]*$"
    r"|docs/.*\.md$|(CONTRIBUTING\.md|Makefile|ansible\.cfg|galaxy\.yml|pyproject\.toml|site\.yml)$"
)
SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\$ANSIBLE_VAULT;|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{36}"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\."
)


def test_the_archive_is_small(installed: Installed) -> None:
    # Code and manifests, compressed: nothing is left out that could be. 400 was the aim, before one
    # checked a release against nodes, volumes and quotas, and tried its migration beforehand.
    assert installed.archive.stat().st_size <= 490 * KILOBYTES


def test_it_says_where_the_pages_are_that_it_leaves_out(installed: Installed) -> None:
    manifest = json.loads((installed.root / "MANIFEST.json").read_text())["collection_info"]
    assert manifest["documentation"] in (installed.root / "README.md").read_text()


def test_the_archive_holds_what_is_used_and_nothing_else(installed: Installed) -> None:
    wanted = {name for name in tracked() if not CHECKOUT_ONLY.match(name)}
    with tarfile.open(installed.archive) as archive:
        found = {item.name for item in archive if not item.isdir()}
    assert found == wanted | {"MANIFEST.json", "FILES.json"}


def test_no_secret_is_shipped(installed: Installed) -> None:
    for path in sorted(installed.root.rglob("*")):
        if path.is_file():
            found = SECRET.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{path}: {found}"


def test_the_only_credentials_are_the_development_ones(installed: Installed) -> None:
    holders = set()
    for path in sorted((installed.root / "kustomize").rglob("*.yml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if isinstance(document, dict) and document.get("kind") == "Secret":
                values = {**document.get("data", {}), **document.get("stringData", {})}
                if values and not document.get("$patch"):
                    holders.add(str(path.relative_to(installed.root)))
    assert holders == {"kustomize/base/secrets.yml"}


def test_scripts_can_be_run_after_the_installation(installed: Installed) -> None:
    for name in tracked():
        if (installed.root / name).exists() and os.access(ROOT / name, os.X_OK):
            assert (installed.root / name).stat().st_mode & stat.S_IXUSR, name


def test_the_archive_says_what_it_is(installed: Installed) -> None:
    manifest = json.loads((installed.root / "MANIFEST.json").read_text())["collection_info"]
    assert (manifest["namespace"], manifest["name"]) == ("mlops", "mlflow")
    # A semantic version, without the rarely used build part.
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", manifest["version"])
    releases = yaml.safe_load((ROOT / "changelogs/changelog.yaml").read_text())["releases"]
    assert manifest["version"] in releases
    # kubernetes.core promises nothing for its module utilities, so its next major is not taken.
    assert manifest["dependencies"] == {"kubernetes.core": ">=6.2.0,<7.0.0"}


@pytest.mark.parametrize(
    "playbook", sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
)
def test_each_playbook_is_found_by_its_full_name(
    installed: Installed, playbook: str, tmp_path: Path
) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
        "ANSIBLE_COLLECTIONS_PATH": str(installed.collections),
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [BIN / "ansible-playbook", "--list-tasks", f"mlops.mlflow.{playbook}"],
        cwd=tmp_path,
        env=environment,
        umask=0o077,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"playbook: {installed.root}/playbooks/{playbook}.yml" in done.stdout
