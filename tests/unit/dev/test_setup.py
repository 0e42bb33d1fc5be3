"""make setup: made once for a folder, a Python and a lock, and made anew for any other."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[3] / "scripts/setup"
OF_UV = "uv==0.1 \\\n    --hash=sha256:22 \\\n    --hash=sha256:33"
LOCK = f"some==1.0 \\\n    --hash=sha256:11\n{OF_UV}\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout, and a uv in the cache that only writes down what it is asked for."""
    folder = tmp_path / "checkout"
    (folder / "scripts").mkdir(parents=True)
    shutil.copy(SETUP, folder / "scripts/setup")
    (folder / "requirements.txt").write_text(LOCK)
    place = tmp_path / "cache/mlops-mlflow/uv" / hashlib.sha256(OF_UV.encode()).hexdigest()[:16]
    (place / "bin").mkdir(parents=True)
    programs = {
        "uv": f'echo "$PWD $* $UV_DEFAULT_INDEX" >>{tmp_path}/calls; mkdir -p .venv/bin',
        # Of pip, only what it says of its settings.
        "python": '[ -z "$PIP_INDEX_URL" ] || echo ":env:.index-url=\'$PIP_INDEX_URL\'"',
    }
    for name, script in programs.items():
        (place / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (place / "bin" / name).chmod(0o755)
    return folder


def run(folder: Path, **environment: str) -> list[str]:
    """Run it, and tell what uv was asked for."""
    calls = folder.parent / "calls"
    calls.write_text("")
    subprocess.run(
        [folder / "scripts/setup"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder.parent),
            "XDG_CACHE_HOME": str(folder.parent / "cache"),
            "PYTHON": sys.executable,
            **environment,
        },
        check=True,
        capture_output=True,
    )
    return calls.read_text().splitlines()


def test_it_is_made_once(checkout: Path) -> None:
    made = run(checkout)
    assert [line.split()[1] for line in made] == ["venv", "pip"]
    assert "--require-hashes" in made[1]
    assert run(checkout) == []
    link = checkout / ".ansible/collections/ansible_collections/mlops/mlflow"
    assert link.resolve() == checkout


def test_one_that_was_copied_from_another_folder_is_made_anew(checkout: Path) -> None:
    run(checkout)
    copy = checkout.parent / "copy"
    shutil.copytree(checkout, copy, symlinks=True)
    (copy / ".venv/left").touch()
    assert len(run(copy)) == 2
    assert not (copy / ".venv/left").exists()
    # The first one still serves.
    assert run(checkout) == []


def test_another_lock_makes_it_anew(checkout: Path) -> None:
    run(checkout)
    lock = checkout / "requirements.txt"
    lock.write_text(lock.read_text().replace("some==1.0", "some==1.1"))
    assert len(run(checkout)) == 2


def test_one_that_was_interrupted_is_made_anew(checkout: Path) -> None:
    run(checkout)
    (checkout / ".venv/.stamp").unlink()
    assert len(run(checkout)) == 2


def test_pip_s_index_is_uv_s(checkout: Path) -> None:
    index = "http://index.example.org/simple"
    assert all(line.endswith(index) for line in run(checkout, PIP_INDEX_URL=index))
