"""A fresh clone in which nobody has typed `make setup`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_checkout_that_is_not_set_up_says_what_to_type(tmp_path: Path) -> None:
    for name in ("ansible.cfg", "site.yml"):
        shutil.copy2(ROOT / name, tmp_path)
    for name in ("inventories", "playbooks", "roles"):
        shutil.copytree(ROOT / name, tmp_path / name)
    elsewhere = ("ANSIBLE_COLLECTIONS_PATH", "ANSIBLE_COLLECTIONS_PATHS")
    environment = {name: value for name, value in os.environ.items() if name not in elsewhere}
    environment.update(ANSIBLE_CONFIG=str(tmp_path / "ansible.cfg"), ANSIBLE_NOCOLOR="1")
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "inventories/prod", "site.yml"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert 'Type make setup && eval "$(make -s env)"' in output
    assert "was not found" not in output
