"""What a release keeps, it can come back to: after a rotation, a growing volume, a teardown.

The tests build on each other, in this order. By itself on a cluster that is there:
KIND_CLUSTER_NAME=mlflow MLFLOW_TEST_NAMESPACE=recovery-test pytest molecule/recovery
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.molecule.conftest import Run, run_playbook

NAMESPACE = os.environ.get("MLFLOW_TEST_NAMESPACE", "mlflow-recovery")
CLASS = "mlflow-recovery"
SETTINGS = {
    "mlflow_namespace": NAMESPACE,
    "mlflow_components": ["auth", "backup"],
    "mlflow_replicas": 1,
    "mlflow_image": "localhost/mlops-mlflow/mlflow:3.17.2",
    "mlflow_postgres_image": "localhost/mlops-mlflow/postgres:17",
    "mlflow_storage_class": CLASS,
    "mlflow_database_storage_size": "1Gi",
    "mlflow_smoke_test": False,
    "mlflow_tolerances": {"unschedulable": 600},
}
SESSION = """
import os
import sqlalchemy
from sqlalchemy.orm import Session
from mlflow.store.model_registry.dbmodels.models import SqlWebhook
session = Session(sqlalchemy.create_engine(os.environ["MLFLOW_BACKEND_STORE_URI"]))
"""
# Past MLflow's own check, which asks a name server for the webhook's host.
MAKE = """
session.add(SqlWebhook(webhook_id="one", name="one", url="https://example.org", secret="kept"))
session.commit()
"""
READ = "print([webhook.secret for webhook in session.query(SqlWebhook)])"
# Who the administrator is to MLflow, with the password that the server's own environment has.
LOG_IN = """
import os
from mlflow.server.auth import auth_config, store
store.init_db(auth_config.database_uri)
name, password = (os.environ[f"MLFLOW_AUTH_ADMIN_{part}"] for part in ("USERNAME", "PASSWORD"))
print(store.authenticate_user(name, password))
"""
# MLflow's own way back by one migration.
BACK = """
import os
from alembic import command
from mlflow.store.db.utils import _get_alembic_config
command.downgrade(_get_alembic_config(os.environ["MLFLOW_BACKEND_STORE_URI"]), "-1")
"""

Kubectl = Callable[..., str]


def play(playbook: str, **changes: Any) -> Run:
    settings = json.dumps({**SETTINGS, **changes})
    return run_playbook(playbook, f"--extra-vars={settings}", inventory="staging", timeout=1800)


def good(playbook: str, **changes: Any) -> str:
    done = play(playbook, **changes)
    assert done.code == 0, done.output
    return done.output


def refused(playbook: str, **changes: Any) -> str:
    done = play(playbook, **changes)
    assert done.code != 0, done.output
    assert "changed=0" in done.output, done.output
    return " ".join(done.output.split())


def in_server(kubectl: Kubectl, source: str) -> str:
    """Run Python in a server's container, with its environment; return the last line."""
    said = kubectl(
        "exec", "deployment/mlflow", f"--namespace={NAMESPACE}", "--container=mlflow", "--",
        "python3", "-c", source,
    )  # fmt: skip
    return said.strip().rpartition("\n")[2]


def get(kubectl: Kubectl, name: str) -> dict[str, Any]:
    text = kubectl("get", name, f"--namespace={NAMESPACE}", "--output=json")
    found: dict[str, Any] = json.loads(text)
    return found


def take(kubectl: Kubectl) -> str:
    found = re.search(r"Backup (\d{8}T\d{6}Z) of", good("playbooks/backup.yml"))
    assert found
    return found[1]


def storage_class(kubectl: Kubectl, grows: bool) -> None:
    """Make a class of volumes; local-path's have no size, and so can have any."""
    item = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS},
        "provisioner": "rancher.io/local-path",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": grows,
    }
    kubectl("apply", "--filename=-", stdin=json.dumps(item))


@pytest.fixture(scope="module", autouse=True)
def release(kubectl: Kubectl) -> Iterator[None]:
    storage_class(kubectl, grows=True)
    good("site.yml")
    yield
    if "MLFLOW_TEST_KEEP" not in os.environ:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")
        kubectl("delete", "storageclass", CLASS)


def test_a_backup_older_than_a_rotation_is_restored_with_what_it_encrypts(kubectl: Kubectl) -> None:
    in_server(kubectl, SESSION + MAKE)
    name = take(kubectl)
    rotated = ["webhook-encryption-key", "kek-passphrase", "admin-password"]
    good("playbooks/rotate.yml", rotate_secrets=rotated, rotate_force=True)
    listed = json.loads(kubectl("get", "secrets", f"--namespace={NAMESPACE}", "--output=json"))
    kept = {item["metadata"]["name"]: item for item in listed["items"]}
    kept = {key: item for key, item in kept.items() if key.startswith("mlflow-keys-")}
    assert sorted(key for item in kept.values() for key in item["data"]) == sorted(rotated[:2])

    # Without its keys it is refused, and nothing is touched.
    for item in kept.values():
        kubectl("delete", "secret", item["metadata"]["name"], f"--namespace={NAMESPACE}")
    done = play("playbooks/restore.yml", mlflow_backup=name)
    assert done.code != 0
    words = " ".join(done.output.split())
    assert "was encrypted with another kek-passphrase, webhook-encryption-key" in words
    assert in_server(kubectl, SESSION + READ) == "['kept']"

    for key, item in kept.items():
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": key}}
        text = json.dumps({**secret, "data": item["data"]})
        kubectl("apply", f"--namespace={NAMESPACE}", "--filename=-", stdin=text)
    output = good("playbooks/restore.yml", mlflow_backup=name)
    assert "Keys and the password of the administrator are those of today" in output
    assert in_server(kubectl, SESSION + READ) == "['kept']"
    assert in_server(kubectl, LOG_IN) == "True"
    for item in kept.values():
        for value in item["data"].values():
            assert base64.b64decode(value).decode() not in output


def test_the_drill_says_to_which_point_it_can_be_restored(kubectl: Kubectl, tmp_path: Path) -> None:
    good("playbooks/backup.yml", mlflow_backup_test=False)
    kubectl("create", "job", "drill", "--from=cronjob/mlflow-backup-drill", f"-n={NAMESPACE}")
    kubectl("wait", "job/drill", f"-n={NAMESPACE}", "--for=condition=Complete", "--timeout=280s")
    file = tmp_path / "status.json"
    output = good("playbooks/status.yml", status_file=str(file))
    backup = json.loads(file.read_text())["backup"]
    assert backup["restorable"] == backup["last"]
    assert f"to {backup['last']['time']}, with {backup['last']['name']}" in output


def test_the_volume_of_the_database_grows_and_its_pod_goes_on(kubectl: Kubectl) -> None:
    before = get(kubectl, "pod/postgres-0")["metadata"]["uid"]
    good("site.yml", mlflow_database_storage_size="2Gi")
    assert get(kubectl, "pod/postgres-0")["metadata"]["uid"] == before
    claim = get(kubectl, "pvc/data-postgres-0")["spec"]
    assert claim["resources"]["requests"]["storage"] == "2Gi"
    assert "changed=0" in good("site.yml", mlflow_database_storage_size="2Gi")
    # For less, and where the class does not allow it, one sentence.
    said = refused("site.yml", mlflow_database_storage_size="1Gi")
    assert "mlflow_database_storage_size: the volume data-postgres-0 has 2Gi" in said
    storage_class(kubectl, grows=False)
    said = refused("site.yml", mlflow_database_storage_size="3Gi")
    assert "mlflow_database_storage_size: the volume data-postgres-0 has 2Gi" in said
    assert "updates to statefulset" not in said


def test_another_major_version_of_postgres_is_refused(kubectl: Kubectl) -> None:
    said = refused(
        "site.yml", mlflow_database_storage_size="2Gi", mlflow_postgres_image="postgres:18"
    )
    assert "mlflow_postgres_image: the database's volume is of Postgres 17" in said


def test_after_a_teardown_a_backup_is_taken_before_the_migration(kubectl: Kubectl) -> None:
    in_server(kubectl, BACK)
    good("playbooks/teardown.yml", teardown_confirm=NAMESPACE)
    more = {"mlflow_database_storage_size": "2Gi", "mlflow_backup_before_upgrade": True}
    good("site.yml", **more)
    name = take(kubectl)
    logs = kubectl(
        "logs", f"--namespace={NAMESPACE}", "--selector=app.kubernetes.io/component=backup",
        "--container=backup", "--tail=-1",
    )  # fmt: skip
    taken = [line for line in logs.splitlines() if line.startswith("@backup") and name not in line]
    assert any("before the migration to localhost/mlops-mlflow/mlflow:3.17.2" in x for x in taken)
    assert "changed=0" in good("site.yml", **more)
