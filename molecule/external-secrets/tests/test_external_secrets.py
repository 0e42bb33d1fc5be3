"""An ExternalSecret as the operator's CRD takes it, and a release that waits for what it brings.

The operator itself cannot be had as a Go module. What stands in for it here is a mock of a few
lines: it reads every ExternalSecret of the namespace, makes the Secret from a mapping, and writes
the status that the operator writes. What it cannot show is how the operator reads a store.

By itself on a cluster that is there, in a namespace of its own:
KIND_CLUSTER_NAME=mlflow MLFLOW_TEST_NAMESPACE=external-test pytest molecule/external-secrets
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
NAMESPACE = os.environ.get("MLFLOW_TEST_NAMESPACE", "mlflow-external")
STORE = {"mlflow/test": {"kek": "the-kek-passphrase-of-the-store"}}
SETTINGS = {
    "mlflow_namespace": NAMESPACE,
    "mlflow_image": "localhost/mlops-mlflow/mlflow:3.17.2",
    "mlflow_postgres_image": "localhost/mlops-mlflow/postgres:17",
    "mlflow_replicas": 1,
    "mlflow_smoke_test": False,
    "mlflow_secret_store": {"name": "vault", "kind": "ClusterSecretStore"},
    "mlflow_secrets": {"kek-passphrase": {"external": "mlflow/test", "property": "kek"}},
}

Kubectl = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def crd(kubectl: Kubectl) -> Iterator[None]:
    done = subprocess.run(
        ["go", "mod", "download", "-json", "github.com/external-secrets/external-secrets"],
        cwd=Path(__file__).parents[1] / "crd",
        capture_output=True,
        text=True,
        check=True,
    )
    bases = Path(json.loads(done.stdout)["Dir"]) / "config/crds/bases"
    path = bases / "external-secrets.io_externalsecrets.yaml"
    kubectl("apply", "--server-side", f"--filename={path}")
    kubectl("wait", "--for=condition=Established", f"--filename={path}")
    yield
    if "MLFLOW_TEST_KEEP" not in os.environ:
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true")
        kubectl("delete", f"--filename={path}")


class Mock(threading.Thread):
    """Stands in for the operator."""

    def __init__(self, kubectl: Kubectl, store: dict[str, dict[str, str]]) -> None:
        super().__init__(daemon=True)
        self._kubectl = kubectl
        self._store = store
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(1):
            text = self._kubectl("get", "externalsecrets", "-ojson", f"--namespace={NAMESPACE}")
            for item in json.loads(text)["items"]:
                self._synchronise(item)

    def _synchronise(self, item: dict[str, Any]) -> None:
        try:
            data = {
                entry["secretKey"]: self._store[entry["remoteRef"]["key"]][
                    entry["remoteRef"]["property"]
                ]
                for entry in item["spec"]["data"]
            }
        except KeyError:
            self._say(item, "False", "could not get secret data from provider")
            return
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": item["spec"]["target"]["name"], "namespace": NAMESPACE},
            "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()},
        }
        self._kubectl("apply", "--filename=-", stdin=json.dumps(secret))
        self._say(item, "True", "secret synced")

    def _say(self, item: dict[str, Any], ready: str, message: str) -> None:
        condition = {
            "type": "Ready",
            "status": ready,
            "reason": "SecretSynced" if ready == "True" else "SecretSyncedError",
            "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        version = f"{item['metadata']['generation']}-0"
        status = {"conditions": [condition], "syncedResourceVersion": version}
        self._kubectl(
            "patch", "externalsecret", item["metadata"]["name"], f"--namespace={NAMESPACE}",
            "--subresource=status", "--type=merge", f"--patch={json.dumps({'status': status})}",
        )  # fmt: skip

    def stop(self) -> None:
        self._ended.set()
        self.join()


def run(site: Callable[..., Any]) -> Any:
    return site(f"--extra-vars={json.dumps(SETTINGS)}", inventory="staging")


def test_without_an_operator_it_says_so(site: Callable[..., Any]) -> None:
    outcome = run(site)
    said = " ".join(outcome.output.split())
    assert outcome.code != 0
    assert "mlflow_secrets.kek-passphrase: ExternalSecret mlflow-credentials has no status" in said
    assert "does External Secrets run in this cluster?" in said


def test_what_the_store_does_not_have_is_said(site: Callable[..., Any], kubectl: Kubectl) -> None:
    mock = Mock(kubectl, {})
    mock.start()
    outcome = run(site)
    mock.stop()
    said = " ".join(outcome.output.split())
    assert outcome.code != 0
    assert "is not synchronised: could not get secret data from provider" in said


def test_pods_read_what_the_store_has(site: Callable[..., Any], kubectl: Kubectl) -> None:
    mock = Mock(kubectl, STORE)
    mock.start()
    outcome = run(site)
    mock.stop()
    assert outcome.code == 0, outcome.output
    assert STORE["mlflow/test"]["kek"] not in outcome.output
    value = kubectl(
        "exec", "deployment/mlflow", f"--namespace={NAMESPACE}", "--container=mlflow", "--",
        "printenv", "MLFLOW_CRYPTO_KEK_PASSPHRASE",
    )  # fmt: skip
    assert value.strip() == STORE["mlflow/test"]["kek"]
    text = kubectl("get", "secret", "mlflow-credentials", f"--namespace={NAMESPACE}", "-ojson")
    assert "kek-passphrase" not in json.loads(text)["data"]
    again = run(site)
    assert again.code == 0, again.output
    assert again.changed == 0, again.output
