"""Six releases of one inventory, one run for all of them.

The tests build on each other, in this order: the first deploys what the others look at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.molecule.conftest import Kubectl, Run, run_playbook

HOSTS = [f"fleet-{letter}" for letter in "abcdef"]
# One in each wave.
NO_IMAGE, NO_SECRET = "fleet-c", "fleet-e"
WELL = [host for host in HOSTS if host not in (NO_IMAGE, NO_SECRET)]
SHARED: dict[str, Any] = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    "mlflow_environment": "development",
    "mlflow_namespace": "{{ inventory_hostname }}",
    "mlflow_serial": 3,
    "mlflow_service": {"type": "ClusterIP"},
    # Six at once on two cores: what is promised is how each ends, not when.
    "mlflow_smoke_test": False,
    "mlflow_tolerances": {"unschedulable": 600, "progress_deadline": 600},
    "mlflow_timeout": 1200,
    "mlflow_lock_ttl": 300,
    "mlflow_lock_wait": 330,
}
BROKEN: dict[str, dict[str, Any]] = {
    NO_IMAGE: {"mlflow_image": "localhost/mlops-mlflow/nothing:1", "mlflow_version": "3.17.2"},
    NO_SECRET: {
        "mlflow_secrets": {"flask-secret-key": {"secret": "of-another-team", "key": "key"}}
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fleet")


@pytest.fixture(scope="module", autouse=True)
def leave_nothing_running(kubectl: Kubectl) -> Iterator[None]:
    """Six databases that start, stop and are probed would take a machine from the next scenario."""
    yield
    for host in HOSTS:
        kubectl("delete", "pods", "--all", f"--namespace={host}", "--grace-period=0", "--force")
    kubectl("delete", "namespace", *HOSTS, "--ignore-not-found", "--timeout=300s")


def deploy(inventory: str, *arguments: str) -> Run:
    return run_playbook("site.yml", *arguments, inventory=inventory, timeout=2400)


def inventory(folder: Path, special: dict[str, dict[str, Any]]) -> str:
    """Write the inventory; return its path."""
    path = folder / "hosts.yml"
    hosts = {host: special.get(host, {}) for host in HOSTS}
    path.write_text(json.dumps({"all": {"hosts": hosts, "vars": SHARED}}), encoding="utf-8")
    return str(path)


def table(run: Run) -> dict[str, list[str]]:
    """Return the cells of the table at the end, by release."""
    assert run.output.count("seconds  reason") == 1, run.output
    # The reasons follow after an empty line, or nothing but Ansible's recap.
    said = run.output.partition("seconds  reason")[2].partition("\n\n")[0]
    lines = [line.split(maxsplit=5) for line in said.strip().splitlines()]
    return {line[0]: line for line in lines}


def changed(run: Run) -> dict[str, int]:
    """Return how many tasks changed something, by release."""
    return {
        host: int(number)
        for host, number in re.findall(r"^(fleet-\w) .* changed=(\d+) ", run.output, re.MULTILINE)
    }


def generations(kubectl: Kubectl) -> dict[str, str]:
    """Return what of each release's workloads tells a change, by namespace."""
    items = json.loads(
        kubectl("get", "deployments,statefulsets", "--all-namespaces", "--output=json")
    )["items"]
    found: dict[str, str] = {}
    for item in sorted(items, key=lambda item: str(item["kind"])):
        meta = item["metadata"]
        if meta["namespace"] in HOSTS:
            before = found.get(meta["namespace"], "")
            found[meta["namespace"]] = f"{before} {meta['uid']} {meta['generation']}"
    return found


def serves(kubectl: Kubectl, namespace: str) -> bool:
    deployment = json.loads(
        kubectl("get", "deployment", "mlflow", f"--namespace={namespace}", "--output=json")
    )
    return bool(deployment["status"].get("availableReplicas"))


def test_four_serve_and_two_lines_say_why(folder: Path, kubectl: Kubectl) -> None:
    run = deploy(inventory(folder, BROKEN))
    assert run.code != 0
    lines = table(run)
    assert list(lines) == HOSTS
    for host in WELL:
        assert lines[host][1:4] == [host, "3.17.2", "changed"], run.output
        assert serves(kubectl, host)
    assert lines[NO_IMAGE][3] == lines[NO_SECRET][3] == "failed"
    assert "image" in lines[NO_IMAGE][5]
    assert "of-another-team" in lines[NO_SECRET][5]
    # Both waves, and what a person sees last is why.
    assert run.output.count("PLAY [Deploy MLflow]") == 2
    last = run.output.rpartition("TASK [mlops.mlflow._common : Say how each release went]")[2]
    assert "of-another-team" in last
    assert "localhost/mlops-mlflow/nothing:1" in last


def test_a_second_run_mends_what_failed_and_only_that(folder: Path, kubectl: Kubectl) -> None:
    before = generations(kubectl)
    run = deploy(inventory(folder, {}))
    assert run.code == 0, run.output
    lines = table(run)
    assert {host for host in HOSTS if lines[host][3] == "changed"} == {NO_IMAGE, NO_SECRET}
    assert {host for host, number in changed(run).items() if number} == {NO_IMAGE, NO_SECRET}
    assert all(serves(kubectl, host) for host in HOSTS)
    after = generations(kubectl)
    assert {host for host in HOSTS if after[host] != before.get(host)} == {NO_IMAGE, NO_SECRET}


def test_a_limit_touches_one(folder: Path, kubectl: Kubectl) -> None:
    before = generations(kubectl)
    # What would change each of them.
    run = deploy(
        inventory(folder, {}),
        "--limit=fleet-b",
        '--extra-vars={"mlflow_config": {"MLFLOW_HTTP_REQUEST_TIMEOUT": "100"}}',
    )
    assert run.code == 0, run.output
    assert list(table(run)) == list(changed(run)) == ["fleet-b"]
    after = generations(kubectl)
    assert {host for host in HOSTS if after[host] != before[host]} == {"fleet-b"}


@pytest.mark.parametrize("limit", ["fleet-x", "fleet-a,fleet-x"])
def test_a_limit_that_nobody_knows_fails(limit: str, folder: Path) -> None:
    run = deploy(inventory(folder, {}), f"--limit={limit}")
    assert run.code != 0
    assert "no hosts to target" in run.output or "the inventory has no fleet-x" in run.output
    assert "Deploy MLflow" not in run.output
