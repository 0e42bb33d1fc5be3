"""What the scenarios' tests share: the cluster, kubectl, and site.yml as a person runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import testinfra
from testinfra.host import Host

ROOT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-mlflow"
KUBECONFIG = CACHE / "clusters" / os.environ["KIND_CLUSTER_NAME"] / "kubeconfig"
ENVIRONMENT = {
    **os.environ,
    "KUBECONFIG": str(KUBECONFIG),
    "PATH": f"{CACHE / 'bin'}:{os.environ['PATH']}",
}

Kubectl = Callable[..., str]


class Run(NamedTuple):
    """One run of a playbook."""

    code: int
    output: str

    @property
    def changed(self) -> int:
        """How many tasks said that they changed something."""
        found = re.search(r"changed=(\d+)", self.output)
        assert found, self.output
        return int(found[1])


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Report to scripts/test, which counts, one file a scenario."""
    reports = os.environ.get("MLFLOW_TEST_REPORTS")
    if reports:
        config.option.xmlpath = f"{reports}/{os.environ['MOLECULE_SCENARIO_NAME']}.xml"


@pytest.fixture(scope="session")
def pod() -> Callable[[str, str, str], Host]:
    """A container of a pod, as testinfra sees a host: pod, container, namespace."""

    def get(name: str, container: str, namespace: str) -> Host:
        return testinfra.get_host(
            f"kubectl://{name}?container={container}&namespace={namespace}&kubeconfig={KUBECONFIG}"
        )

    return get


@pytest.fixture(scope="session")
def kubectl() -> Kubectl:
    def call(*arguments: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            ["kubectl", *arguments],
            env=ENVIRONMENT,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    return call


@pytest.fixture(scope="session")
def shell() -> Callable[[str], None]:
    """Types a command into bash, as a person would."""

    def call(line: str) -> None:
        done = subprocess.run(
            ["bash", "-c", line], env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"

    return call


@pytest.fixture(scope="session")
def objects(kubectl: Kubectl) -> Callable[[str, str], list[dict[str, Any]]]:
    """The objects of some kinds in a namespace."""

    def call(kinds: str, namespace: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(
            kubectl("get", kinds, "--namespace", namespace, "--output=json")
        )["items"]
        return found

    return call


def run_playbook(
    playbook: str,
    *arguments: str,
    inventory: str = "development",
    timeout: float = 900,
    **environment: str,
) -> Run:
    """Run a playbook against the tests' cluster, as a person does; timeout in seconds."""
    done = subprocess.run(
        [
            "ansible-playbook",
            # One of the repository's, or another by its path.
            f"--inventory={ROOT / 'inventories' / inventory}",
            f"--inventory={ROOT}/molecule/inventory",
            str(ROOT / playbook),
            *arguments,
        ],
        cwd=ROOT,
        env={
            **ENVIRONMENT,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Run(done.returncode, done.stdout)


@pytest.fixture(scope="session")
def site() -> Callable[..., Run]:
    """Runs site.yml, or another playbook, against the tests' cluster, with more arguments."""

    def call(*arguments: str, inventory: str = "development", playbook: str = "site.yml") -> Run:
        return run_playbook(playbook, *arguments, inventory=inventory)

    return call
