"""The collection's archive, built from the files of the repository and installed as Galaxy does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


class Installed(NamedTuple):
    """An archive, and the collections folder it was installed into."""

    archive: Path
    collections: Path

    @property
    def root(self) -> Path:
        return self.collections / "ansible_collections/mlops/mlflow"


def tracked() -> list[str]:
    """Return the names of the files that are, or are about to be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    names = [name for name in listed.split("\0") if name]
    return [name for name in names if (ROOT / name).is_file()]


def galaxy(folder: Path, *arguments: str) -> None:
    """Run ansible-galaxy for somebody who lets no one else read their files."""
    done = subprocess.run(
        [BIN / "ansible-galaxy", "collection", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "ANSIBLE_NOCOLOR": "1"},
        umask=0o077,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def install(folder: Path) -> Installed:
    """Build the archive of this checkout, and install it into an empty folder."""
    source = folder / "source"
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    galaxy(source, "build", f"--output-path={folder}")
    (archive,) = folder.glob("mlops-mlflow-*.tar.gz")
    # What it depends on comes with Ansible here, not from Galaxy.
    collections = folder / "collections"
    galaxy(folder, "install", "--offline", "--no-deps", f"--collections-path={collections}",
           str(archive))  # fmt: skip
    return Installed(archive, collections)
