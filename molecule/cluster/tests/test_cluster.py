"""Servers on three nodes: where they run, and what a node that goes takes with it.

The tests are one story, in this order: an object store first, as it was deployed, then the volume
of one node, then a volume that many nodes mount.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.molecule.conftest import CACHE, ENVIRONMENT, ROOT, Kubectl

STORE = "mlflow-production"
ONE_NODE, SHARED = "mlflow-one-node", "mlflow-shared"
CLUSTER = os.environ["KIND_CLUSTER_NAME"]
FIRST = f"{CLUSTER}-control-plane"
CLIENT = ROOT / "molecule/upgrade/tests/client.py"
THREADS, SECONDS, REQUESTS = 4, 240, 40_000
SERVERS = "app.kubernetes.io/component=server"
Object = dict[str, Any]


def servers(kubectl: Kubectl, namespace: str) -> list[Object]:
    """Return the servers' pods, those that end included."""
    where = (f"--namespace={namespace}", f"--selector={SERVERS}", "--output=json")
    found: list[Object] = json.loads(kubectl("get", "pods", *where))["items"]
    return found


def nodes_of(pods: list[Object]) -> set[str]:
    """Return where pods are that have, or are about to have, their volumes."""
    return {
        pod["spec"]["nodeName"]
        for pod in pods
        if pod["spec"].get("nodeName") and pod["status"]["phase"] in ("Pending", "Running")
    }


def ready(kubectl: Kubectl, namespace: str) -> None:
    where = (f"--namespace={namespace}", "--timeout=280s")
    kubectl("rollout", "status", "deployment/mlflow", *where)


@contextlib.contextmanager
def seen(kubectl: Kubectl, namespace: str) -> Iterator[list[set[str]]]:
    """Note on how many nodes servers are, twice a second."""
    noted: list[set[str]] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            noted.append(nodes_of(servers(kubectl, namespace)))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield noted
    finally:
        stop.set()
        thread.join(30)


@contextlib.contextmanager
def drained(kubectl: Kubectl, node: str) -> Iterator[None]:
    """Drain a node, as an administrator does; it has to end by itself."""
    try:
        kubectl(
            "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=240s",
            "--force",
        )  # fmt: skip
        yield
    finally:
        kubectl("uncordon", node)


class Load:
    """Clients in a pod on the first node, which ask MLflow through its Service."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._kubectl = kubectl
        self._where = f"--namespace={namespace}"
        self._namespace = namespace

    def __enter__(self) -> Load:
        deployed = json.loads(
            self._kubectl("get", "deployment", "mlflow", self._where, "--output=json")
        )
        image = deployed["spec"]["template"]["spec"]["containers"][0]["image"]
        command = ["python3", "-c", CLIENT.read_text(), str(THREADS), str(SECONDS), str(REQUESTS)]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "load"},
            "spec": {
                "nodeName": FIRST,
                "restartPolicy": "Never",
                "enableServiceLinks": False,
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 0,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 10001,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": "load",
                        "image": image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": command,
                        "securityContext": {
                            "allowPrivilegeEscalation": False,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }
                ],
            },
        }
        self._kubectl("apply", "--filename=-", self._where, stdin=json.dumps(pod))
        self._kubectl("wait", "pod/load", "--for=condition=Ready", "--timeout=120s", self._where)
        time.sleep(5)  # all of them are at it
        return self

    def result(self) -> Object:
        """Have them end, and return what they say."""
        self._kubectl("exec", "load", self._where, "--", "touch", "/tmp/stop")  # noqa: S108
        phase = "--for=jsonpath={.status.phase}=Succeeded"
        self._kubectl("wait", "pod/load", phase, "--timeout=120s", self._where)
        lines = self._kubectl("logs", "load", self._where).splitlines()
        (line,) = [line for line in lines if line.startswith("@said ")]
        said: Object = json.loads(line.removeprefix("@said "))
        print(f"asked {said['asked']}, failed {len(said['failed'])}, gap {said['gap']:.1f} s")
        return said

    def __exit__(self, *_error: object) -> None:
        self._kubectl("delete", "pod", "load", self._where, "--ignore-not-found", "--wait=true")


def a_worker(kubectl: Kubectl, namespace: str) -> str:
    """Return a node, not the first, that has a server."""
    return next(iter(sorted(nodes_of(servers(kubectl, namespace)) - {FIRST})))


# --- An object store ------------------------------------------------------------------------------


def test_servers_spread(kubectl: Kubectl) -> None:
    ready(kubectl, STORE)
    pods = servers(kubectl, STORE)
    assert len(pods) == 2
    assert len(nodes_of(pods)) == 2


def test_a_drain_costs_no_request(kubectl: Kubectl) -> None:
    node = a_worker(kubectl, STORE)
    with Load(kubectl, STORE) as load:
        with drained(kubectl, node):
            assert node not in nodes_of(servers(kubectl, STORE))
            ready(kubectl, STORE)
        said = load.result()
    assert said["failed"] == []
    assert said["asked"] > 100


@contextlib.contextmanager
def lost(node: str) -> Iterator[None]:
    """Have a node stop in the middle of what it does."""
    made = shlex.split((CACHE / "clusters" / CLUSTER / "env").read_text(encoding="utf-8"))
    environment = {**ENVIRONMENT, **dict(word.split("=", 1) for word in made if "=" in word)}
    engine = environment.get("KIND_EXPERIMENTAL_PROVIDER", "docker")
    subprocess.run([engine, "pause", node], check=True, env=environment)
    try:
        yield
    finally:
        subprocess.run([engine, "unpause", node], check=True, env=environment)


def test_the_loss_of_a_node_leaves_mlflow_serving(kubectl: Kubectl) -> None:
    node = a_worker(kubectl, STORE)
    with lost(node):
        # Until the cluster notices, each second request may be on its way to nobody.
        kubectl("wait", f"node/{node}", "--for=condition=Ready=Unknown", "--timeout=120s")
        time.sleep(10)
        with Load(kubectl, STORE) as load:
            time.sleep(20)
            said = load.result()
        assert said["failed"] == []
        assert said["asked"] > 100
    kubectl("wait", f"node/{node}", "--for=condition=Ready", "--timeout=120s")
    ready(kubectl, STORE)


# --- A volume that is on one node at a time -------------------------------------------------------


@pytest.fixture
def release(site: Callable[..., Any], kubectl: Kubectl) -> Iterator[Callable[..., Any]]:
    """Deploys to a namespace with volumes of the class that moves; removes what it deployed."""
    made: set[str] = set()

    def deploy(namespace: str, **changes: Any) -> Any:
        made.add(namespace)
        settings = {
            "mlflow_namespace": namespace,
            "mlflow_storage_class": "moving",
            "mlflow_artifact_storage_size": "1Gi",
            "mlflow_database_storage_size": "1Gi",
            "mlflow_resources": {"requests": {"cpu": "50m"}},
            **changes,
        }
        run = site(f"--extra-vars={json.dumps(settings)}", inventory="production")
        assert run.code == 0, run.output
        return run

    yield deploy
    for namespace in made:
        kubectl("delete", "namespace", namespace, "--wait=true", "--timeout=180s")


def test_a_volume_of_one_node_keeps_its_servers_together(
    release: Callable[..., Any], kubectl: Kubectl
) -> None:
    """What a disk of a cloud refuses with Multi-Attach is that two nodes have it at a time."""
    first = release(ONE_NODE)
    # It is told where it can still be chosen, and no more.
    assert "share one node" in " ".join(first.output.split())
    assert len(servers(kubectl, ONE_NODE)) == 2
    with seen(kubectl, ONE_NODE) as noted:
        again = release(ONE_NODE, mlflow_config={"MLFLOW_LOGGING_LEVEL": "INFO"})
    assert again.changed > 0
    assert "share one node" not in " ".join(again.output.split())
    assert noted and max(map(len, noted)) == 1, "a rollout"

    (node,) = nodes_of(servers(kubectl, ONE_NODE))
    marker = "/mlflow/artifacts/marker"
    server = ("exec", "deployment/mlflow", f"--namespace={ONE_NODE}", "--container=mlflow", "--")
    kubectl(*server, "sh", "-c", f"echo here > {marker}")
    with seen(kubectl, ONE_NODE) as noted, drained(kubectl, node):
        ready(kubectl, ONE_NODE)
        pods = [pod for pod in servers(kubectl, ONE_NODE) if not deleted(pod)]
        assert len(pods) == 2
        assert len(nodes_of(pods)) == 1 and node not in nodes_of(pods)
    assert max(map(len, noted)) == 1, "a drain"
    assert kubectl(*server, "cat", marker).strip() == "here"


def deleted(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


# --- A volume that many nodes mount ---------------------------------------------------------------


def test_a_shared_volume_lets_servers_spread(release: Callable[..., Any], kubectl: Kubectl) -> None:
    release(SHARED, mlflow_components=["shared-artifacts"])
    pods = servers(kubectl, SHARED)
    assert len(pods) == 2 and len(nodes_of(pods)) == 2
    one, other = (pod["metadata"]["name"] for pod in pods)
    where = (f"--namespace={SHARED}", "--container=mlflow")
    kubectl("exec", one, *where, "--", "sh", "-c", "echo here > /mlflow/artifacts/marker")
    assert kubectl("exec", other, *where, "--", "cat", "/mlflow/artifacts/marker") == "here\n"
    budget = json.loads(
        kubectl("get", "poddisruptionbudget", "mlflow", f"--namespace={SHARED}", "--output=json")
    )
    assert budget["status"]["disruptionsAllowed"] == 1
