"""A backup in a bucket comes back after the volume it was taken to is gone.

By itself on a cluster that is there (molecule/operations/bucket.yml brings the S3 server's image):
KIND_CLUSTER_NAME=mlflow MLFLOW_TEST_NAMESPACE=operations-test pytest molecule/operations
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.molecule.conftest import Run, run_playbook

NAMESPACE = f"{os.environ.get('MLFLOW_TEST_NAMESPACE', 'mlflow-operations')}-bucket"
SETTINGS = {
    "mlflow_namespace": NAMESPACE,
    "mlflow_replicas": 1,
    "mlflow_image": "localhost/mlops-mlflow/mlflow:3.17.2",
    "mlflow_postgres_image": "localhost/mlops-mlflow/postgres:17",
    "mlflow_tolerances": {"unschedulable": 600},
    "mlflow_smoke_test": False,
    "mlflow_components": ["backup-s3", "backup"],
    "mlflow_backup_s3": {
        "url": "s3://backups/mlflow",
        "endpoint": "http://s3:7070",
        "region": "us-east-1",
    },
}
HERE = f"--namespace={NAMESPACE}"

Kubectl = Callable[..., str]


def play(playbook: str, **changes: Any) -> Run:
    settings = json.dumps({**SETTINGS, **changes})
    return run_playbook(playbook, f"--extra-vars={settings}", inventory="staging")


def good(playbook: str, **changes: Any) -> str:
    run = play(playbook, **changes)
    assert run.code == 0, run.output
    return " ".join(run.output.split())


def psql(kubectl: Kubectl, statement: str) -> str:
    return kubectl(
        "exec", "postgres-0", HERE, "--",
        "psql", "-XAt", "--username=mlflow", "--dbname=mlflow", f"--command={statement}",
    ).strip()  # fmt: skip


def lose_the_volume(kubectl: Kubectl) -> None:
    # Nothing mounts it once the Jobs are gone, those of the hour too.
    label = "--selector=app.kubernetes.io/component=backup"
    kubectl("delete", "jobs", label, HERE, "--cascade=foreground", "--timeout=120s")
    kubectl("delete", "pvc", "mlflow-backups", HERE, "--timeout=120s")


def store(key: str) -> list[dict[str, Any]]:
    """Return an S3 server whose bucket is a folder, and its Service."""
    labels = {"app": "s3"}
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    mounts = [{"name": "data", "mountPath": "/data"}]
    image = SETTINGS["mlflow_postgres_image"]
    environment = {
        "VGW_PORT": ":7070",
        "VGW_META_SIDECAR": "/data/metadata",
        "ROOT_ACCESS_KEY": "backup",
        "ROOT_SECRET_KEY": key,
    }
    container: dict[str, Any] = {"imagePullPolicy": "IfNotPresent", "volumeMounts": mounts}
    container["securityContext"] = restricted
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "s3", "labels": labels},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10002,
                "fsGroup": 10002,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumes": [{"name": "data", "emptyDir": {}}],
            "initContainers": [
                {
                    **container,
                    "name": "bucket",
                    "image": image,
                    "command": ["mkdir", "-p", "/data/buckets/backups", "/data/metadata"],
                }
            ],
            "containers": [
                {
                    **container,
                    "name": "s3",
                    "image": "localhost/mlops-mlflow/versitygw:1.8.0",
                    "args": ["posix", "/data/buckets"],
                    "env": [{"name": name, "value": value} for name, value in environment.items()],
                    "readinessProbe": {"tcpSocket": {"port": 7070}, "periodSeconds": 1},
                }
            ],
        },
    }
    ports = [{"port": 7070}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s3"},
        "spec": {"selector": labels, "ports": ports},
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "mlflow-backup-s3"},
        "stringData": {"access-key-id": "backup", "secret-access-key": key},
    }
    return [pod, service, secret]


@pytest.fixture(scope="module", autouse=True)
def release(kubectl: Kubectl) -> Iterator[None]:
    good("site.yml")
    items = store(secrets.token_hex(16))
    document = {"apiVersion": "v1", "kind": "List", "items": items}
    kubectl("create", "--filename=-", HERE, stdin=json.dumps(document))
    kubectl("wait", "pod/s3", "--for=condition=Ready", "--timeout=120s", HERE)
    yield
    if "MLFLOW_TEST_KEEP" not in os.environ:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def taken(output: str) -> str:
    """Return the name of the backup that a run has taken."""
    found = re.search(r"\b\d{8}T\d{6}Z\b", output)
    assert found, output
    return found[0]


def test_a_backup_outlives_its_volume(kubectl: Kubectl) -> None:
    psql(kubectl, "INSERT INTO experiment_tags VALUES ('kept', 'yes', 0)")
    output = good("playbooks/backup.yml")
    assert "Copied to s3://backups/mlflow" in output
    assert "restored into a scratch database and compared" in output
    psql(kubectl, "DELETE FROM experiment_tags")
    lose_the_volume(kubectl)
    # A new volume has nothing of its own, and whose backup is wanted is not guessed.
    refused = play("playbooks/restore.yml", mlflow_backup="latest")
    assert refused.code != 0, refused.output
    said = " ".join(refused.output.split())
    assert f"there are those of others: {taken(output)} at" in said, refused.output
    output = good("playbooks/restore.yml", mlflow_backup=taken(output))
    assert "Restored 20" in output
    assert psql(kubectl, "SELECT value FROM experiment_tags WHERE key = 'kept'") == "yes"


def test_a_rollback_counts_what_would_be_lost_since_a_backup_in_the_bucket(
    kubectl: Kubectl,
) -> None:
    name = taken(good("playbooks/backup.yml"))
    good("site.yml", mlflow_config={"MLFLOW_WORKERS": 3})
    # As a version has left it that is newer than both releases' image.
    psql(kubectl, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    psql(kubectl, "INSERT INTO experiment_tags VALUES ('later', 'yes', 0)")
    lose_the_volume(kubectl)
    run = play("playbooks/rollback.yml", mlflow_backup=name)
    assert run.code != 0, run.output
    said = " ".join(run.output.split())
    assert f"The way back is the backup {name}" in said, run.output
    assert "What was written since would no longer be live: rows in 1 other table(s)" in said
    assert "Nothing was changed." in said
