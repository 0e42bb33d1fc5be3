"""Each secret gets a new value while a client asks without a pause; nothing fails, nothing is lost.

By itself on a cluster that is there, in a namespace of its own:
KIND_CLUSTER_NAME=mlflow MLFLOW_TEST_NAMESPACE=rotate-test pytest molecule/rotate
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.molecule.conftest import Run, run_playbook

ROOT = Path(__file__).parents[3]
NAMESPACE = os.environ.get("MLFLOW_TEST_NAMESPACE", "mlflow-rotate")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-mlflow"
KUBECONFIG = CACHE / "clusters" / os.environ["KIND_CLUSTER_NAME"] / "kubeconfig"
IMAGE = "localhost/mlops-mlflow/mlflow:3.17.2"
SETTINGS = {
    "mlflow_namespace": NAMESPACE,
    "mlflow_components": ["auth"],
    "mlflow_image": IMAGE,
    "mlflow_postgres_image": "localhost/mlops-mlflow/postgres:17",
    # Small pools, so that a request soon needs a connection that is new.
    "mlflow_config": {
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": 1,
        "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": 5,
        "MLFLOW_SQLALCHEMYSTORE_POOL_RECYCLE": 1,
    },
    "mlflow_smoke_test": False,
    "mlflow_tolerances": {"unschedulable": 600},
}

Kubectl = Callable[..., str]


def play(playbook: str, **changes: Any) -> Run:
    settings = json.dumps({**SETTINGS, **changes})
    return run_playbook(playbook, f"--extra-vars={settings}", inventory="staging", timeout=1200)


def rotate(*keys: str, **changes: Any) -> str:
    done = play("playbooks/rotate.yml", rotate_secrets=list(keys), **changes)
    assert done.code == 0, done.output
    return done.output


def values(kubectl: Kubectl) -> dict[str, str]:
    text = kubectl("get", "secret", "mlflow-credentials", f"--namespace={NAMESPACE}", "-ojson")
    data = json.loads(text)["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def psql(kubectl: Kubectl, statement: str) -> str:
    return kubectl(
        "exec", "postgres-0", f"--namespace={NAMESPACE}", "--",
        "psql", "-XAt", "--username=postgres", "--dbname=mlflow", f"--command={statement}",
    ).strip()  # fmt: skip


def in_server(kubectl: Kubectl, source: str) -> str:
    """Run Python in a server's container, with its environment."""
    return kubectl(
        "exec", "deployment/mlflow", f"--namespace={NAMESPACE}", "--container=mlflow", "--",
        "python3", "-c", source,
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def release(kubectl: Kubectl) -> Iterator[None]:
    done = play("site.yml")
    assert done.code == 0, done.output
    yield
    if "MLFLOW_TEST_KEEP" not in os.environ:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_a_client_that_never_pauses_sees_no_failure(kubectl: Kubectl) -> None:
    before = values(kubectl)
    make_user = """
import os
from mlflow.server.auth import store, auth_config
store.init_db(auth_config.database_uri)
if not store.has_user("client"):
    store.create_user("client", "a-password-of-the-client")
"""
    in_server(kubectl, make_user)
    source = (Path(__file__).parent / "client.py").read_text(encoding="utf-8")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "client",
            "namespace": NAMESPACE,
            "labels": {"mlops.mlflow/server-client": "true"},
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "client",
                    "image": IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-c", source, "900"],
                    "env": [
                        {"name": "CLIENT_USER", "value": "client"},
                        {"name": "CLIENT_PASSWORD", "value": "a-password-of-the-client"},
                    ],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }
    kubectl("delete", "pod", "client", f"--namespace={NAMESPACE}", "--ignore-not-found")
    kubectl("apply", "--filename=-", stdin=json.dumps(pod))
    kubectl("wait", "pod/client", "--for=condition=Ready", f"--namespace={NAMESPACE}")
    # Two keys at once, and the other role's turn after the first one's.
    rotate("database-password", "flask-secret-key", "admin-password")
    between = values(kubectl)
    rotate("database-password")
    after = values(kubectl)
    kubectl("exec", "client", f"--namespace={NAMESPACE}", "--", "touch", "/tmp/stop")  # noqa: S108
    end = time.monotonic() + 60
    said = ""
    while not said.strip():
        assert time.monotonic() < end
        time.sleep(1)
        said = kubectl("logs", "client", f"--namespace={NAMESPACE}")
    counted = json.loads(said.strip().splitlines()[-1])
    print(f"{counted['asked']} requests, {len(counted['failed'])} failed")
    assert counted["asked"] > 100
    assert counted["failed"] == []

    assert between["database-username"] == "mlflow_b"
    assert after["database-username"] == "mlflow"
    changed = {key for key in before if before[key] != between[key]}
    assert changed == {
        "database-username",
        "database-password",
        "flask-secret-key",
        "admin-password",
    }
    # The role whose turn it is not has no password that opens anything.
    roles = psql(kubectl, "SELECT rolname FROM pg_authid WHERE rolpassword IS NOT NULL")
    assert roles.split() == ["mlflow"]
    gone = kubectl(
        "get", "secret", "mlflow-rotation", f"--namespace={NAMESPACE}", "--ignore-not-found"
    )
    assert gone == ""


def test_site_yml_agrees_with_what_was_rotated(kubectl: Kubectl) -> None:
    before = values(kubectl)
    done = play("site.yml")
    assert done.code == 0, done.output
    assert values(kubectl) == before


def test_an_interrupted_rotation_is_finished_by_the_next_run(kubectl: Kubectl) -> None:
    before = values(kubectl)
    process = subprocess.Popen(
        [
            "ansible-playbook",
            f"--inventory={ROOT}/inventories/staging",
            f"--inventory={ROOT}/molecule/inventory",
            f"--extra-vars={json.dumps({**SETTINGS, 'rotate_secrets': ['database-password']})}",
            str(ROOT / "playbooks/rotate.yml"),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": f"{CACHE / 'bin'}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    end = time.monotonic() + 300
    while values(kubectl) == before:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.2)
    os.killpg(process.pid, 9)
    process.wait()
    begun = values(kubectl)
    # The old pods, and the old password, still work.
    in_server(kubectl, "import psycopg2; psycopg2.connect(dbname='mlflow')")
    rotate()
    after = values(kubectl)
    assert after == begun
    assert after["database-password"] != before["database-password"]
    in_server(kubectl, "import psycopg2; psycopg2.connect(dbname='mlflow')")


def test_what_is_encrypted_is_never_lost(kubectl: Kubectl) -> None:
    # Past MLflow's own check, which asks a name server for the webhook's host.
    make = """
import os
import sqlalchemy
from sqlalchemy.orm import Session
from mlflow.store.model_registry.dbmodels.models import SqlWebhook
with Session(sqlalchemy.create_engine(os.environ["MLFLOW_BACKEND_STORE_URI"])) as session:
    session.add(SqlWebhook(webhook_id="one", name="one", url="https://example.org", secret="x"))
    session.commit()
"""
    read = """
import os
import sqlalchemy
from sqlalchemy.orm import Session
from mlflow.store.model_registry.dbmodels.models import SqlWebhook
with Session(sqlalchemy.create_engine(os.environ["MLFLOW_BACKEND_STORE_URI"])) as session:
    print([webhook.secret for webhook in session.query(SqlWebhook)])
"""
    in_server(kubectl, make)
    refused = play("playbooks/rotate.yml", rotate_secrets=["webhook-encryption-key"])
    assert refused.code != 0
    message = " ".join(refused.output.split())
    assert "webhook-encryption-key: 1 secret(s) in the database are encrypted with it" in message
    assert "rotate_force=true" in message
    before = values(kubectl)
    rotate("webhook-encryption-key", "kek-passphrase", rotate_force=True)
    assert values(kubectl)["webhook-encryption-key"] != before["webhook-encryption-key"]
    assert in_server(kubectl, read).strip().endswith("['x']")
