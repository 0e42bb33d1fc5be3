"""The collection works with every ansible-core, Python and Kubernetes client that it asks for.

Each ansible-core has a lock here, and a Python. The one of .venv is in the other stages.
MLFLOW_TEST_VERSIONS=2.18 runs that one alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from ansible.release import __version__ as installed
from ansible_collections.mlops.mlflow.tests.ship.environments import CACHE, COLLECTIONS, environment
from ansible_collections.mlops.mlflow.tests.ship.galaxy import BIN, ROOT, tracked

TRIXIE = ROOT / "tests/versions/trixie.sh"
# ansible-core 2.20 and newer do not run with Python 3.11 any more.
PYTHONS = {"2.17": "3.11", "2.18": "3.12", "2.20": "3.13", "2.21": "3.13"}
ONLY = os.environ.get("MLFLOW_TEST_VERSIONS")
CHOSEN = [
    pytest.param(core, id=f"core-{core}-python-{PYTHONS[core]}")
    for core in ([ONLY] if ONLY else PYTHONS)
]


# What runs with Ansible's Python. The rest is about this checkout, or runs in MLflow's image.
UNITS = ("tests/unit/plugins", "tests/unit/roles")


class Environment(NamedTuple):
    """An ansible-core, and the Python that runs it."""

    enter: tuple[str, ...]
    folder: Path
    python: str

    def run(self, *command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        """Run a program of it."""
        kept = ("ANSIBLE_", "VIRTUAL_ENV", "PYTEST_")
        return subprocess.run(
            [*self.enter, str(self.folder / "bin/python"), *command],
            cwd=cwd,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith(kept)},
                "PATH": f"{self.folder / 'bin'}:{CACHE / 'bin'}:{os.environ['PATH']}",
                "ANSIBLE_NOCOLOR": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


def found(version: str) -> tuple[str, ...]:
    """Return the command of a Python of this machine, or nothing if it has none of this version."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    inside = sorted(pyenv.glob(f"{version}.*/bin/python{version}"))
    # What pyenv puts on the PATH is there for versions that are not chosen, and fails.
    for python in (sys.executable, shutil.which(f"python{version}"), *map(str, inside)):
        told = "import ensurepip, sys; print(*sys.version_info[:2], sep='.')"
        if python and subprocess.run(
            [python, "-c", told], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            check=False,
        ).stdout.strip() == version:  # fmt: skip
            return (python,)
    return ()


@pytest.fixture(scope="module", params=CHOSEN)
def ansible(request: pytest.FixtureRequest) -> Environment:
    version = PYTHONS[request.param]
    lock = ROOT / f"tests/versions/requirements-{request.param}.txt"
    if here := found(version):
        return Environment((), environment(lock, here), version)
    # Debian trixie has one Python.
    return Environment((str(TRIXIE),), environment(lock, (str(TRIXIE), "python3.13")), "3.13")


def test_the_unit_tests_pass(ansible: Environment) -> None:
    done = ansible.run(
        "-m", "pytest", "-q", "--numprocesses=2", "--dist=worksteal", "-p", "no:cacheprovider",
        *UNITS,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    assert re.search(r"\d{3,} passed", done.stdout)


def test_ansible_test_finds_nothing(ansible: Environment, tmp_path: Path) -> None:
    tree = tmp_path / "ansible_collections/mlops/mlflow"
    for name in tracked():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name, follow_symlinks=False)
    # Documentation fragments come from it.
    (tree.parents[1] / "kubernetes").symlink_to(COLLECTIONS / "ansible_collections/kubernetes")
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=tree, check=True)
    bring_pip(ansible.folder)
    done = ansible.run(
        str(ansible.folder / "bin/ansible-test"), "sanity", "--requirements",
        f"--python={ansible.python}", "--color=no", cwd=tree,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]


def bring_pip(folder: Path) -> None:
    """Have ansible-test take pip from Python instead of from the network."""
    (source,) = folder.glob("lib/python*/site-packages/ansible_test/_internal")
    text = (source / "python_requirements.py").read_text(encoding="utf-8")
    for version in re.findall(r"\bpip='([\d.]+)'", text):
        name = f"get_pip_{version.replace('.', '_')}.py"
        installer = Path.home() / ".ansible/test/cache" / name
        if not installer.exists():
            installer.parent.mkdir(parents=True, exist_ok=True)
            installer.write_text("import ensurepip\nensurepip.bootstrap()\n", encoding="utf-8")


def test_each_supported_ansible_core_is_tried() -> None:
    least = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["requires_ansible"]
    numbers = sorted(
        int(core.split(".")[1]) for core in {*PYTHONS, ".".join(installed.split(".")[:2])}
    )
    assert least == f">=2.{numbers[0]}.0"
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


def test_each_lock_is_of_the_version_that_its_name_says() -> None:
    locks = {path.stem.removeprefix("requirements-"): path.read_text() for path in
             (ROOT / "tests/versions").glob("requirements-*.txt")}  # fmt: skip
    assert set(locks) == set(PYTHONS)
    for core, text in locks.items():
        assert f"\nansible-core=={core}." in f"\n{text}"
    oldest = (ROOT / "tests/ship/requirements-least.in").read_text()
    for line in filter(lambda line: "==" in line, oldest.splitlines()):
        assert f"\n{line} " in f"\n{locks['2.17']}"
    assert BIN.is_dir()


def test_every_python_that_ansible_test_holds_the_modules_against_is_tried() -> None:
    config = yaml.safe_load((ROOT / "tests/config.yml").read_text(encoding="utf-8"))
    numbers = sorted({int(version.split(".")[1]) for version in PYTHONS.values()})
    assert config["modules"]["python_requires"] == f">=3.{numbers[0]}"
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
