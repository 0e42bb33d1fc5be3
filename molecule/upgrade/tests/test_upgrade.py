"""From MLflow 3.16.1 to 3.17.2 and back, while 16 clients write and read: nothing is lost.

By itself on a cluster that is there and holds both images, in a namespace of its own:
KIND_CLUSTER_NAME=mlflow MLFLOW_TEST_NAMESPACE=upgrade-test pytest molecule/upgrade

The tests are one story, in this order.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ansible_collections.mlops.mlflow.molecule.conftest import run_playbook

NAMESPACE = os.environ.get("MLFLOW_TEST_NAMESPACE", "mlflow-upgrade")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-mlflow"
KUBECONFIG = CACHE / "clusters" / os.environ["KIND_CLUSTER_NAME"] / "kubeconfig"
IMAGE = "localhost/mlops-mlflow/mlflow"
OLD, NEW = "3.16.1", "3.17.2"
OLD_HEAD, NEW_HEAD = "b7e2c1a4d9f3", "dc11669786a5"
THREADS, SECONDS, REQUESTS = 16, 900, 60_000
# A way back takes no less for fewer clients, but two cores less time.
FEW = 4
SETTINGS = {
    "mlflow_namespace": NAMESPACE,
    "mlflow_postgres_image": "localhost/mlops-mlflow/postgres:17",
    # As many as in production, and as long as there before a server is told to end.
    "mlflow_config": {"MLFLOW_WORKERS": 2},
    "mlflow_tolerances": {"unschedulable": 600},
}

Kubectl = Callable[..., str]
Objects = Callable[[str, str], list[dict[str, Any]]]


class Run(NamedTuple):
    """One run of a playbook: its output as one line."""

    code: int
    output: str
    seconds: float

    @property
    def changed(self) -> int:
        """How many tasks said that they changed something."""
        found = re.search(r"changed=(\d+)", self.output)
        assert found, self.output
        return int(found[1])


def play(playbook: str, version: str = NEW, **changes: Any) -> Run:
    """Run a playbook with the staging inventory."""
    settings = {**SETTINGS, "mlflow_image": f"{IMAGE}:{version}", **changes}
    began = time.monotonic()
    done = run_playbook(playbook, f"--extra-vars={json.dumps(settings)}", inventory="staging")
    took = time.monotonic() - began
    print(f"{playbook} {version} {sorted(changes)}: rc={done.code} in {took:.0f} s")
    return Run(done.code, done.output, took)


def succeed(playbook: str, version: str = NEW, **changes: Any) -> Run:
    run = play(playbook, version, **changes)
    assert run.code == 0, run.output
    return run


def words(run: Run) -> str:
    return " ".join(run.output.split())


def sql(kubectl: Kubectl, statement: str, database: str = "mlflow") -> list[str]:
    """Run a statement in the bundled Postgres; return the lines of its result."""
    return kubectl(
        "exec", "postgres-0", f"--namespace={NAMESPACE}", "--",
        "psql", "-XAt", "--username=mlflow", f"--dbname={database}", f"--command={statement}",
    ).splitlines()  # fmt: skip


def head(kubectl: Kubectl) -> str:
    return sql(kubectl, "SELECT version_num FROM alembic_version")[0]


def metrics(kubectl: Kubectl, database: str = "mlflow") -> dict[str, int]:
    """Return how many metric values each run has."""
    lines = sql(
        kubectl,
        "SELECT run_uuid, (SELECT count(*) FROM metrics m WHERE m.run_uuid = r.run_uuid)"
        " FROM runs r",
        database,
    )
    return {line.split("|")[0]: int(line.split("|")[1]) for line in lines}


def record(kubectl: Kubectl) -> list[dict[str, Any]]:
    item = json.loads(
        kubectl("get", "configmap", "mlflow-releases", f"--namespace={NAMESPACE}", "--output=json")
    )
    assert "pending.json" not in item["data"]
    found: list[dict[str, Any]] = json.loads(item["data"]["releases.json"])
    return found


def present(objects: Objects) -> dict[str, str]:
    """Return the release's objects, but for what a run makes for itself, by kind and name."""
    kinds = (
        "configmaps,secrets,serviceaccounts,services,persistentvolumeclaims,statefulsets,"
        "deployments,poddisruptionbudgets,jobs,cronjobs"
    )
    return {
        f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["uid"]
        for item in objects(kinds, NAMESPACE)
        if item["metadata"].get("labels", {}).get("app.kubernetes.io/part-of") == "mlflow"
        and "mlops.mlflow/backup-command" not in item["metadata"]["labels"]
    }


class Load:
    """Clients in a pod."""

    def __init__(self, kubectl: Kubectl, name: str, threads: int) -> None:
        self._kubectl = kubectl
        self._name = name
        self._threads = threads

    def start(self) -> None:
        source = (Path(__file__).parent / "client.py").read_text(encoding="utf-8")
        numbers = [str(number) for number in (self._threads, SECONDS, REQUESTS)]
        container = {
            "name": "clients",
            "image": f"{IMAGE}:{NEW}",
            "imagePullPolicy": "IfNotPresent",
            "command": ["python3", "-c", source, *numbers],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self._name,
                "namespace": NAMESPACE,
                "labels": {"mlops.mlflow/server-client": "true"},
            },
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 0,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 10001,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [container],
            },
        }
        self._kubectl("create", "--filename=-", stdin=json.dumps(pod))
        self._kubectl(
            "wait", f"pod/{self._name}", f"--namespace={NAMESPACE}", "--for=condition=Ready",
            "--timeout=60s",
        )  # fmt: skip

    def stop(self) -> dict[str, Any]:
        """End it; return what the clients say."""
        space = f"--namespace={NAMESPACE}"
        self._kubectl("exec", self._name, space, "--", "touch", "/tmp/stop")  # noqa: S108
        self._kubectl(
            "wait", f"pod/{self._name}", space, "--for=jsonpath={.status.phase}=Succeeded",
            "--timeout=90s",
        )  # fmt: skip
        line = self._kubectl("logs", self._name, space).strip().splitlines()[-1]
        self._kubectl("delete", "pod", self._name, space)
        assert line.startswith("@said "), line
        said: dict[str, Any] = json.loads(line.removeprefix("@said "))
        print(
            f"{self._name}: {said['asked']} requests, {len(said['failed'])} failed,"
            f" {len(said['runs'])} runs; the longest time without an answer {said['gap']:.1f} s,"
            f" the slowest answer {said['slowest']:.1f} s"
        )
        for failed in said["failed"][:20]:
            print(f"  {failed}")
        # Bounded, and still a load.
        assert 30 * self._threads < said["asked"] < REQUESTS
        return said


def nothing_is_missing(acknowledged: dict[str, int], there: dict[str, int]) -> None:
    lost = {run: count for run, count in acknowledged.items() if there.get(run, -1) < count}
    assert not lost, f"{len(lost)} of {len(acknowledged)} runs lost something: {lost}"


@pytest.fixture
def load(kubectl: Kubectl) -> Callable[..., Load]:
    def start(name: str, threads: int = THREADS) -> Load:
        found = Load(kubectl, name, threads)
        found.start()
        return found

    return start


@pytest.fixture(scope="module", autouse=True)
def release(kubectl: Kubectl) -> Iterator[None]:
    """3.16.1, two replicas."""
    succeed("site.yml", OLD)
    yield
    if "MLFLOW_TEST_KEEP" not in os.environ:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def before() -> dict[str, int]:
    """What the clients were told that they had written, before anything was restored."""
    return {}


def test_where_there_is_no_way_back_a_rollback_says_so(kubectl: Kubectl, objects: Objects) -> None:
    before = present(objects)
    run = play("playbooks/rollback.yml", OLD)
    assert run.code != 0
    said = f"there is no previous release: release 1 (MLflow {OLD}) is the only one"
    assert said in words(run), run.output
    assert run.changed == 0
    assert present(objects) == before


def test_an_online_upgrade_under_load_fails_no_request(
    kubectl: Kubectl, objects: Objects, load: Callable[..., Load], before: dict[str, int]
) -> None:
    assert head(kubectl) == OLD_HEAD
    clients = load("online")
    time.sleep(5)
    succeed("site.yml", mlflow_backup_before_upgrade=True)
    said = clients.stop()
    assert said["failed"] == []
    before.update(said["runs"])
    nothing_is_missing(before, metrics(kubectl))
    assert head(kubectl) == NEW_HEAD
    (server,) = objects("deployments", NAMESPACE)
    assert server["status"]["availableReplicas"] == 2

    newest, oldest = record(kubectl)
    assert (newest["version"], oldest["version"]) == (NEW, OLD)
    assert (newest["schema"]["tracking"], oldest["schema"]["tracking"]) == (NEW_HEAD, OLD_HEAD)
    assert newest["backup"]["revisions"]["tracking"] == OLD_HEAD


def test_what_the_release_no_longer_has_is_gone_and_nothing_else(
    kubectl: Kubectl, objects: Objects
) -> None:
    there = present(objects)
    jobs = [name for name in there if name.startswith("Job/")]
    assert len(jobs) == 2
    assert all(NEW.replace(".", "-") in name for name in jobs), jobs
    config = [name for name in there if name.startswith("ConfigMap/mlflow-config-")]
    assert len(config) == 1
    # What only the backup needed, but for its volume.
    assert not [name for name in there if "backup" in name and "Claim" not in name]
    for name in (
        "PersistentVolumeClaim/mlflow-backups",
        "PersistentVolumeClaim/mlflow-artifacts",
        "Secret/mlflow-credentials",
        "ConfigMap/mlflow-releases",
    ):
        assert name in there
    versions = {
        item["metadata"]["name"]: item["metadata"]["resourceVersion"]
        for item in objects("configmaps", NAMESPACE)
    }
    again = succeed("site.yml", mlflow_backup_before_upgrade=True)
    assert again.changed == 0
    assert present(objects) == there
    assert versions == {
        item["metadata"]["name"]: item["metadata"]["resourceVersion"]
        for item in objects("configmaps", NAMESPACE)
    }


def test_a_rollback_with_the_same_schema_brings_image_and_configuration_back(
    kubectl: Kubectl, objects: Objects, load: Callable[..., Load], before: dict[str, int]
) -> None:
    (good,) = objects("deployments", NAMESPACE)
    there = present(objects)
    change: dict[str, Any] = {
        "mlflow_config": {"MLFLOW_WORKERS": 1},
        "mlflow_replicas": 1,
        "mlflow_components": ["backup"],
    }
    succeed("site.yml", **change)
    assert "CronJob/mlflow-backup" in present(objects)
    assert len(record(kubectl)) == 3
    clients = load("same-schema", FEW)
    run = succeed("playbooks/rollback.yml", **change)
    said = clients.stop()
    assert said["failed"] == []
    before.update(said["runs"])
    assert f"Back at release 2 (MLflow {NEW})" in words(run)
    (server,) = objects("deployments", NAMESPACE)
    assert server["spec"]["template"] == good["spec"]["template"]
    assert server["spec"]["replicas"] == server["status"]["availableReplicas"] == 2
    # A component that is not there any more is gone, but for its volume.
    assert set(present(objects)) == set(there)
    assert [item["number"] for item in record(kubectl)] == [2, 1]
    assert succeed("site.yml").changed == 0


def test_a_failed_upgrade_is_rolled_back(kubectl: Kubectl, objects: Objects) -> None:
    before = present(objects)
    failed = play("site.yml", "9.9.9", mlflow_tolerances={"image_pull": 1})
    assert failed.code != 0
    assert "image_pull" in failed.output
    run = succeed("playbooks/rollback.yml", "9.9.9")
    assert "From an unfinished release (MLflow 9.9.9) back to release 2" in words(run)
    assert set(present(objects)) == set(before)
    assert [item["number"] for item in record(kubectl)] == [2, 1]


def test_a_rollback_over_a_migration_says_what_it_takes_and_waits_to_be_told(
    kubectl: Kubectl, objects: Objects, before: dict[str, int]
) -> None:
    def untouched() -> tuple[Any, ...]:
        servers = objects("deployments,statefulsets", NAMESPACE)
        return (
            [(item["metadata"]["name"], item["metadata"]["generation"]) for item in servers],
            metrics(kubectl),
            sql(kubectl, "SELECT datname FROM pg_database ORDER BY 1"),
            record(kubectl),
        )

    now = untouched()
    run = play("playbooks/rollback.yml")
    assert run.code != 0
    said = words(run)
    backup = record(kubectl)[0]["backup"]
    assert f"The way back is the backup {backup['name']}, taken {backup['time']}" in said
    assert "mlflow_rollback_restore=true" in said
    counted = re.search(r"no longer be live: \+([\d,]+) runs, \+([\d,]+) metric values", said)
    assert counted, said
    # What the clients wrote after the backup was taken.
    assert 0 < int(counted[1].replace(",", "")) < len(before)
    assert untouched() == now


def test_a_rollback_over_a_migration_restores_the_backup(
    kubectl: Kubectl, objects: Objects, load: Callable[..., Load], before: dict[str, int]
) -> None:
    clients = load("restore", FEW)
    run = succeed("playbooks/rollback.yml", mlflow_rollback_restore=True)
    said = clients.stop()
    # What serves during the restore ends with it, and is kept in the database that was replaced.
    print(f"downtime of a rollback that restores: {said['gap']:.1f} s")
    assert f"Back at release 1 (MLflow {OLD})" in words(run)
    assert head(kubectl) == OLD_HEAD
    (server,) = objects("deployments", NAMESPACE)
    assert server["status"]["availableReplicas"] == 2
    assert server["spec"]["template"]["spec"]["containers"][0]["image"].endswith(OLD)
    (replaced,) = sql(
        kubectl, "SELECT datname FROM pg_database WHERE datname LIKE 'mlflow_before_%'"
    )
    live, kept = metrics(kubectl), metrics(kubectl, replaced)
    assert live
    assert live.keys() & before.keys()
    nothing_is_missing(before, kept)
    both = {run: max(live.get(run, -1), kept.get(run, -1)) for run in live.keys() | kept.keys()}
    nothing_is_missing(said["runs"], both)
    assert [item["version"] for item in record(kubectl)] == [OLD]
    assert succeed("site.yml", OLD).changed == 0


def test_an_offline_upgrade_is_down_for_a_moment_and_loses_nothing(
    kubectl: Kubectl, objects: Objects, load: Callable[..., Load]
) -> None:
    clients = load("offline")
    time.sleep(3)
    succeed("site.yml", mlflow_migration_strategy="offline")
    said = clients.stop()
    print(f"downtime of an offline upgrade: {said['gap']:.1f} s")
    assert said["gap"] > 0
    nothing_is_missing(said["runs"], metrics(kubectl))
    assert head(kubectl) == NEW_HEAD
    (server,) = objects("deployments", NAMESPACE)
    assert server["status"]["availableReplicas"] == 2
