"""scripts/setup makes .venv once, whichever Python the shell has first."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOCK = (ROOT / "requirements.txt").read_text(encoding="utf-8")
# The installer's own entry of the lock, which setup begins with.
UV = re.findall(r"^uv==(?:.*\\\n)*.*\n", LOCK, re.MULTILINE)[0]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that needs no packages but the installer."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/setup", tmp_path / "scripts")
    (tmp_path / "requirements.txt").write_text(f"# none\n{UV}")
    return tmp_path


def setup(checkout: Path, *first: Path) -> str:
    """Run it with these folders first on the PATH; return what it says."""
    path = os.pathsep.join([*map(str, first), os.environ["PATH"]])
    done = subprocess.run(
        [str(checkout / "scripts/setup")],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def works(checkout: Path) -> bool:
    python = checkout / ".venv/bin/python3"
    return subprocess.run([str(python), "-c", "import sys"], check=False).returncode == 0


def test_it_is_made_once_also_in_a_shell_of_make_env(checkout: Path) -> None:
    bin_folder = checkout / ".venv/bin"
    assert "making .venv" in setup(checkout)
    assert works(checkout)
    assert setup(checkout) == ""
    # What eval "$(make -s env)" does to a shell.
    assert setup(checkout, bin_folder) == ""
    assert works(checkout)
    # Other requirements: it is made anew by the Python behind it, which it cannot be itself.
    (checkout / "requirements.txt").write_text(f"# none again\n{UV}")
    assert "making .venv" in setup(checkout, bin_folder)
    assert works(checkout)
    assert setup(checkout) == ""
