"""playbooks/diagnose.yml and its module, on good and broken MLflows, ours and others'."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.molecule.faults.tests import workloads
from ansible_collections.mlops.mlflow.molecule.faults.tests.running import ROOT, Outcome, Runner

Diagnosis = dict[str, Any]
REASONS = {
    "faults-wrong-password": "database_denied",
    "faults-schema-ahead": "schema_ahead",
    "faults-schema-behind": "schema_behind",
    "faults-migration-failed": "job_failed",
}
SHARED = workloads.SHARED
SPACE = f"--namespace={SHARED}"

# The faults are made first: they are what is looked at.
pytestmark = pytest.mark.usefixtures("outcomes")


@pytest.fixture(scope="module")
def restored(runner: Runner) -> None:
    """The shared MLflow has its Postgres again."""
    runner.kubectl("scale", SPACE, "statefulset/postgres", "--replicas=1")
    runner.kubectl("rollout", "status", SPACE, "statefulset/postgres", "--timeout=120s")
    waited = runner.run_module("wait_for_mlflow", namespace=SHARED, timeout=120)
    assert waited["ready"], waited["msg"]


@pytest.fixture(scope="module")
def reader(runner: Runner) -> Callable[[str], dict[str, str]]:
    """An account that may only look at a namespace: how to be it."""

    def make(namespace: str) -> dict[str, str]:
        space = f"--namespace={namespace}"
        runner.kubectl("create", "serviceaccount", "reader", space)
        binding = ("--clusterrole=view", f"--serviceaccount={namespace}:reader")
        runner.kubectl("create", "rolebinding", "reader", space, *binding)
        cluster = json.loads(
            runner.kubectl("config", "view", "--raw", "--minify", "--output=json")
        )["clusters"][0]["cluster"]
        token = runner.kubectl("create", "token", "reader", space).strip()
        host = {"host": cluster["server"], "api_key": token, "kubeconfig": "/dev/null"}
        return {**host, "validate_certs": "false"}

    return make


def server_of(result: Diagnosis) -> Diagnosis:
    (found,) = (entry for entry in result["objects"] if entry["role"] == "server")
    return dict(found)


def play(runner: Runner, namespace: str) -> tuple[int, str]:
    """Run the playbook as a person would, without an inventory."""
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            str(ROOT / "playbooks/diagnose.yml"),
            f"--extra-vars=mlflow_namespace={namespace}",
            f"--extra-vars=mlflow_kubeconfig={runner.kubeconfig}",
        ],
        cwd=ROOT,
        env={
            **runner.environment,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, " ".join(done.stdout.split())


@pytest.mark.parametrize("namespace", sorted(REASONS))
def test_ours_when_it_is_broken(diagnoses: dict[str, Diagnosis], namespace: str) -> None:
    result = diagnoses[namespace]
    assert result["status"] == "failed", result["report"]
    assert REASONS[namespace] in {entry["reason"] for entry in result["objects"]}, result["report"]
    assert result["notes"] == []


def test_ours_without_its_database(runner: Runner) -> None:
    result = runner.run_module("diagnose", namespace=SHARED)
    found = {f"{entry['kind']}/{entry['name']}": entry for entry in result["objects"]}
    assert result["status"] == "failed", result["report"]
    assert "--replicas=1" in found["StatefulSet/postgres"]["hint"]


def test_another_s_with_a_wrong_password(diagnoses: dict[str, Diagnosis]) -> None:
    result = diagnoses["faults-foreign"]
    server = server_of(result)
    assert server["status"] == "failed", result["report"]
    assert server["reason"] in ("crash_loop", "progress_deadline"), result["report"]
    assert server["container"] == "mlflow"
    assert server["deployed_by"] == "Helm (chart mlflow-1.8.1)"
    assert "password authentication failed" in server["log"], result["report"]
    assert "the user and password that the database has" in server["hint"]


def test_the_playbook_fails_and_says_why(runner: Runner, foreign: str) -> None:
    code, output = play(runner, foreign)
    assert code != 0
    for words in ("Deployment/app (server, by Helm", "Its log says", "changed=0", "failed=1"):
        assert words in output


def test_who_may_only_look_is_told_the_same(
    runner: Runner, foreign: str, reader: Callable[[str], dict[str, str]]
) -> None:
    result = runner.run_module("diagnose", namespace=foreign, **reader(foreign))
    server = server_of(result)
    assert server["status"] == "failed", result["report"]
    assert server["log"], result["report"]


def test_another_s_that_asks_for_a_password(runner: Runner, outcomes: dict[str, Outcome]) -> None:
    result = runner.run_module("diagnose", namespace="faults-unauthorized")
    assert result["healthy"], result["report"]
    assert any("asks for a user and password" in note for note in result["notes"])


def test_an_empty_namespace(runner: Runner) -> None:
    runner.make_namespace("faults-empty", {})
    result = runner.run_module("diagnose", namespace="faults-empty")
    assert result["status"] == "empty"
    code, output = play(runner, "faults-empty")
    assert code != 0
    assert "There is no MLflow server in namespace faults-empty" in output


@pytest.mark.usefixtures("restored")
def test_ours_when_it_is_well(runner: Runner) -> None:
    result = runner.run_module("diagnose", namespace=SHARED)
    assert result["healthy"], result["report"]
    assert result["notes"] == []
    server = result["servers"]["Deployment/mlflow"]
    assert server["schema"]["tracking"]["state"] == "at_head"
    assert "answers from the database, schema at head" in server_of(result)["message"]
    code, output = play(runner, SHARED)
    assert code == 0, output
    assert "✓ Deployment/mlflow" in output, output


@pytest.mark.usefixtures("restored")
def test_what_a_reader_cannot_see_is_told(
    runner: Runner, reader: Callable[[str], dict[str, str]]
) -> None:
    result = runner.run_module("diagnose", namespace=SHARED, **reader(SHARED))
    assert result["healthy"], result["report"]
    assert any("pods/portforward" in note for note in result["notes"]), result["notes"]
    assert "answers from the database" not in server_of(result)["message"]
