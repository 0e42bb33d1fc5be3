"""Virtual environments of other programs and versions than .venv has, each from its own lock."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-mlflow"
# Collections that Galaxy would bring come with Ansible here.
COLLECTIONS = BIN.parent / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"


def environment(lock: Path, python: tuple[str, ...] = ()) -> Path:
    """Return an environment with what a lock names; it is made where it is not there yet.

    C(python) is the command that starts another Python than that of .venv.
    """
    folder = CACHE / "environments" / f"{lock.parent.name}-{lock.stem}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Another checkout, or the other half of the tests, may be making it.
    with folder.with_suffix(".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        beside = f"ansible {importlib.metadata.version('ansible')}, copied"
        wanted = f"{python or sys.version} {beside} {lock.read_text(encoding='utf-8')}"
        stamp = folder / "stamp"
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            make(folder, lock, python or (sys.executable,))
            know_collections(folder)
            stamp.write_text(wanted, encoding="utf-8")
    return folder


def make(folder: Path, lock: Path, python: tuple[str, ...]) -> None:
    """Make an environment."""
    *enter, interpreter = python
    uv = [*enter, str(BIN / "uv")]
    for command in (
        ["venv", "--quiet", f"--python={interpreter}", str(folder)],
        [
            "pip", "install", "--quiet", "--require-hashes", f"--python={folder}",
            f"--requirement={lock}",
        ],
    ):  # fmt: skip
        done = subprocess.run(
            [*uv, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{lock.name}: {done.stdout}")


def know_collections(folder: Path) -> None:
    """Let an environment's Python and Ansible find kubernetes.core beside its packages.

    C(ansible) has ansible.posix, whose callback of JSON the tests read.
    """
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "ansible_collections").mkdir()
    for name in ("ansible", "kubernetes"):
        there = packages / "ansible_collections" / name
        # Copied: the environment outlives this checkout.
        shutil.copytree(COLLECTIONS / "ansible_collections" / name, there)
