"""Whoever installed the archive deploys from an empty folder: no checkout, no git, umask 077.

With the oldest ansible-core and Kubernetes client that the collection asks for, then with those of
this checkout. By itself on a cluster that is there:
KIND_CLUSTER_NAME=mlflow MLFLOW_TEST_NAMESPACE=galaxy-test pytest molecule/galaxy
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow.tests.ship.environments import COLLECTIONS, environment
from ansible_collections.mlops.mlflow.tests.ship.galaxy import ROOT, Installed, install

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-mlflow"
KUBECONFIG = CACHE / "clusters" / os.environ["KIND_CLUSTER_NAME"] / "kubeconfig"
NAMESPACE = os.environ.get("MLFLOW_TEST_NAMESPACE", "mlflow-development")
NOW = Path(sys.executable).parent
# What ansible-core itself starts. Nothing else of the machine is on the PATH: git above all.
PROGRAMS = ("env", "sh", "rm", "mkdir", "sleep", "chmod", "echo", "getent")
# As docs/guides/first-deployment.md shows it.
INVENTORY = """\
all:
  hosts:
    localhost:
      ansible_connection: local
      ansible_python_interpreter: "{{ ansible_playbook_python }}"
  vars:
    mlflow_environment: development
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The archive of this checkout, installed into an empty folder."""
    return install(tmp_path_factory.mktemp("galaxy"))


@pytest.fixture(scope="module")
def oldest() -> Path:
    """The folder of the programs of the oldest ansible-core, from a lock with hashes."""
    return environment(ROOT / "tests/ship/requirements-least.txt") / "bin"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder, which is also the home of whoever works in it."""
    home = tmp_path_factory.mktemp("home")
    programs = home / "programs"
    programs.mkdir()
    for name in PROGRAMS:
        found = shutil.which(name, path="/usr/bin:/bin")
        if found:
            (programs / name).symlink_to(found)
    found = shutil.which("kubectl", path=f"{CACHE / 'bin'}:{os.environ['PATH']}")
    assert found
    # kubectl brings kustomize with it; the other one is not here.
    (programs / "kubectl").symlink_to(found)
    (home / "inventory.yml").write_text(INVENTORY)
    yield home
    if "MLFLOW_TEST_KEEP" not in os.environ:
        subprocess.run(
            [programs / "kubectl", "delete", "namespace", NAMESPACE, "--timeout=180s"],
            env={"KUBECONFIG": str(KUBECONFIG), "HOME": str(home)},
            check=True,
        )


def play(installed: Installed, folder: Path, programs: Path, playbook: str) -> str:
    """Run a playbook of the installed collection by its full name; return what it says."""
    done = subprocess.run(
        [
            programs / "ansible-playbook", "--inventory=inventory.yml", f"mlops.mlflow.{playbook}",
            f"--extra-vars=mlflow_namespace={NAMESPACE}",
            '--extra-vars={"mlflow_service": {"type": "ClusterIP"}}',
        ],
        cwd=folder,
        env={
            "PATH": str(folder / "programs"),
            "HOME": str(folder),
            "KUBECONFIG": str(KUBECONFIG),
            "LANG": "C.UTF-8",
            "ANSIBLE_NOCOLOR": "1",
            # kubernetes.core, which Galaxy would bring, comes with Ansible here.
            "ANSIBLE_COLLECTIONS_PATH": f"{installed.collections}:{COLLECTIONS}",
        },
        umask=0o077,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def changed(output: str) -> int:
    """How many tasks said that they changed something."""
    found = re.search(r"changed=(\d+)", output)
    assert found, output
    return int(found[1])


def test_it_deploys_with_the_oldest_ansible(
    installed: Installed, folder: Path, oldest: Path
) -> None:
    assert shutil.which("git", path=str(folder / "programs")) is None
    assert changed(play(installed, folder, oldest, "site")) > 0


def test_today_s_ansible_finds_nothing_to_do(installed: Installed, folder: Path) -> None:
    assert changed(play(installed, folder, NOW, "site")) == 0


def test_it_is_ready(installed: Installed, folder: Path) -> None:
    assert "ready" in play(installed, folder, NOW, "diagnose")


def test_nothing_is_left_in_the_folder(folder: Path) -> None:
    left = {path.name for path in folder.iterdir()} - {"programs", "inventory.yml", ".ansible"}
    assert left == set()
