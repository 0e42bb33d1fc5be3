"""An upgrade that is killed between its tasks, again and again, is finished by the next run.

By itself on a cluster that is there and holds both images, in a namespace of its own:
KIND_CLUSTER_NAME=mlflow MLFLOW_TEST_NAMESPACE=interruption-test pytest molecule/interruption
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
NAMESPACE = os.environ.get("MLFLOW_TEST_NAMESPACE", "mlflow-interruption")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-mlflow"
OLD, NEW = "3.16.1", "3.17.2"
OLD_HEAD, NEW_HEAD = "b7e2c1a4d9f3", "dc11669786a5"
RUNS = 500
FILL = f"""
INSERT INTO runs (run_uuid, name, status, lifecycle_stage, experiment_id)
  SELECT md5(i::text), 'run ' || i, 'FINISHED', 'active', 0 FROM generate_series(1, {RUNS}) i
"""  # noqa: S608
# The task before which a run is killed, in the order in which one upgrade comes by them. Each run
# after a kill goes on from what the one before it left, and is killed further on.
BOUNDARIES = (
    "Test it",
    "Note that this release is about to be applied",
    "Apply the stage migration",
    "Wait for the migration",
    "Apply the stage server",
    "Wait until MLflow serves",
    "Apply the stage smoke-test",
    "Note that this release serves",
    "Delete what this release no longer has",
)

Kubectl = Callable[..., str]


def play(version: str, kill_at: str = "") -> subprocess.CompletedProcess[str]:
    """Run site.yml, and have it killed if asked."""
    settings = {
        "mlflow_namespace": NAMESPACE,
        "mlflow_service_type": "ClusterIP",
        "mlflow_url": "",
        "mlflow_image": f"localhost/mlops-mlflow/mlflow:{version}",
        "mlflow_backup_before_upgrade": True,
        "mlflow_tolerances": {"unschedulable": 600},
    }
    return subprocess.run(
        [
            "ansible-playbook",
            f"--inventory={ROOT}/inventories/development",
            f"--inventory={ROOT}/molecule/inventory",
            f"--extra-vars={json.dumps(settings)}",
            str(ROOT / "site.yml"),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": f"{CACHE / 'bin'}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "kill_at",
            "MLFLOW_TEST_KILL_AT": kill_at,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=600,
        check=False,
    )


def sql(kubectl: Kubectl, statement: str) -> str:
    return kubectl(
        "exec", "postgres-0", f"--namespace={NAMESPACE}", "--",
        "psql", "-XAt", "--username=mlflow", "--dbname=mlflow", f"--command={statement}",
    ).strip()  # fmt: skip


def found(kubectl: Kubectl, kind: str, name: str) -> dict[str, Any]:
    item: dict[str, Any] = json.loads(
        kubectl("get", kind, name, f"--namespace={NAMESPACE}", "--output=json")
    )
    return item


@pytest.fixture(scope="module", autouse=True)
def release(kubectl: Kubectl) -> Iterator[None]:
    done = play(OLD)
    assert done.returncode == 0, done.stdout
    sql(kubectl, FILL)
    yield
    if "MLFLOW_TEST_KEEP" not in os.environ:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_whatever_is_killed_the_next_run_goes_on(kubectl: Kubectl) -> None:
    def contents() -> str:
        return sql(
            kubectl,
            "SELECT count(*), md5(string_agg(run_uuid || name, ',' ORDER BY run_uuid)) FROM runs"
            " WHERE name LIKE 'run %'",
        )

    before = contents()
    assert before.startswith(f"{RUNS}|")
    # Nothing of the old release has moved the schema ahead of it, its smoke test neither.
    assert sql(kubectl, "SELECT version_num FROM alembic_version") == OLD_HEAD
    for boundary in BOUNDARIES:
        killed = play(NEW, boundary)
        assert killed.returncode == -signal.SIGKILL, f"{boundary}: {killed.stdout}"
        # The old version or the new one serves, on whichever schema.
        server = found(kubectl, "deployment", "mlflow")
        assert server["status"]["availableReplicas"] == 1, boundary
        assert contents() == before, boundary
        # Nothing of the dead run works any more: what would take the lock's time to live by itself.
        kubectl("delete", "lease", "mlflow-release", f"--namespace={NAMESPACE}")
    done = play(NEW)
    assert done.returncode == 0, done.stdout
    assert sql(kubectl, "SELECT version_num FROM alembic_version") == NEW_HEAD
    assert contents() == before

    data = found(kubectl, "configmap", "mlflow-releases")["data"]
    assert "pending.json" not in data
    newest, oldest = json.loads(data["releases.json"])
    assert (newest["number"], oldest["number"]) == (2, 1)
    # Taken again by runs that came too late for it, which does not count.
    assert newest["backup"]["revisions"]["tracking"] == OLD_HEAD

    again = play(NEW)
    assert again.returncode == 0, again.stdout
    changed = re.search(r"changed=(\d+)", again.stdout)
    assert changed
    assert changed[1] == "0", again.stdout
