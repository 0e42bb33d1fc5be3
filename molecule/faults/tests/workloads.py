"""Broken workloads, as small as they can be: the MLflow image, a shell, no MLflow in it."""

from __future__ import annotations

import base64
import copy
import functools
import json
import subprocess
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.mlops.mlflow.molecule.conftest import ENVIRONMENT

Object = dict[str, Any]
ROOT = Path(__file__).parents[3]
SHARED = "faults-mlflow"
# In a container of its own, where it is nobody else's.
TMP = "/tmp"  # noqa: S108


@functools.cache
def images() -> dict[str, str]:
    """What the cluster holds, by the names that base has."""
    overlay = yaml.safe_load(
        (ROOT / "kustomize/overlays/development/kustomization.yml").read_text()
    )
    return {entry["name"]: f"{entry['newName']}:{entry['newTag']}" for entry in overlay["images"]}


def image() -> str:
    return images()["ghcr.io/mlflow/mlflow"]


def shell(line: str, name: str = "main", **more: Any) -> Object:
    """A container that runs a line of shell."""
    return {
        "name": name,
        "image": image(),
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", line],
        **more,
    }


def deployment(*containers: Object, pod: Object | None = None, **spec: Any) -> Object:
    labels = {"app": "app"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "app"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "containers": list(containers),
                    **(pod or {}),
                },
            },
            **spec,
        },
    }


def stateful_set(*containers: Object) -> Object:
    item = deployment(*containers, serviceName="app")
    return {**item, "kind": "StatefulSet"}


def job(container: Object, **spec: Any) -> Object:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "app"},
        "spec": {
            "backoffLimit": 0,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 0,
                    "automountServiceAccountToken": False,
                    "containers": [container],
                }
            },
            **spec,
        },
    }


def claim(storage_class: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}},
            "storageClassName": storage_class,
        },
    }


def with_claim() -> Object:
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    return deployment(
        shell("sleep 600", volumeMounts=[{"name": "data", "mountPath": "/data"}]),
        pod={"volumes": [volume]},
    )


def with_volume(source: Object) -> Object:
    return deployment(
        shell("sleep 600", volumeMounts=[{"name": "it", "mountPath": "/it"}]),
        pod={"volumes": [{"name": "it", **source}]},
    )


def secret(name: str, **values: str) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


def secret_env(name: str, key: str) -> Object:
    reference = {"secretKeyRef": {"name": name, "key": key}}
    return {"env": [{"name": "SOMETHING", "valueFrom": reference}]}


# --- A registry that answers, and refuses ---------------------------------------------------------
# No registry can be had here. This one speaks just enough of the distribution API to refuse, as one
# does for an image that it does not have, and for one that it does not give to strangers.
REGISTRY_PORT = 5987
_REGISTRY = """
import http.server, json, os, shutil, signal, sys
port = int(sys.argv[1])
# Tells the node's containerd to speak HTTP with this registry.
folder = f"/certs.d/localhost:{port}"
os.makedirs(folder, exist_ok=True)
with open(folder + "/hosts.toml", "w") as file:
    file.write(f'server = "http://localhost:{port}"\\n')
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        private = "/private/" in self.path
        code, word = (401, "UNAUTHORIZED") if private else (404, "MANIFEST_UNKNOWN")
        if self.path == "/v2/":
            code = 200
        body = json.dumps({"errors": [{"code": word, "message": word.lower().replace("_", " ")}]})
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if code == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="registry"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body.encode())
    do_GET = do_HEAD = answer
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
try:
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
finally:
    shutil.rmtree(folder)
"""


def registry() -> Object:
    """On the node's own network, where its container runtime looks for localhost."""
    container = shell("")
    container["command"] = ["python3", "-c", _REGISTRY, str(REGISTRY_PORT)]
    probe = {"tcpSocket": {"port": REGISTRY_PORT, "host": "127.0.0.1"}, "periodSeconds": 1}
    container["readinessProbe"] = probe
    container["securityContext"] = {"runAsUser": 0}
    container["volumeMounts"] = [{"name": "certs", "mountPath": "/certs.d"}]
    folder = {"path": "/etc/containerd/certs.d", "type": "DirectoryOrCreate"}
    pod = {
        "hostNetwork": True,
        "terminationGracePeriodSeconds": 10,
        "volumes": [{"name": "certs", "hostPath": folder}],
    }
    return deployment(container, pod=pod)


# --- MLflow itself --------------------------------------------------------------------------------


@functools.cache
def _base() -> str:
    done = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "kustomize/base")],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def base() -> list[Object]:
    """The tree's base as kubectl would apply it, with the images that the cluster has."""
    text = _base()
    objects = [item for item in yaml.safe_load_all(text) if item]
    for item in objects:
        pod = item.get("spec", {}).get("template", {}).get("spec", {})
        for container in [*pod.get("initContainers", []), *pod.get("containers", [])]:
            name = container["image"].split(":")[0]
            container["image"] = images()[name]
            # So many at once: none may hold back another.
            container["resources"] = {}
        if pod:
            pod["terminationGracePeriodSeconds"] = 2
            for container in pod["containers"]:
                container.pop("lifecycle", None)
        if item["kind"] == "ConfigMap" and item["metadata"]["name"].startswith("mlflow-config"):
            item["data"]["MLFLOW_WORKERS"] = "1"
    return objects


def release(database: str, host: str = f"postgres.{SHARED}", password: str = "") -> list[Object]:
    """An MLflow of the tree's base on a database of the shared Postgres, and nothing else."""
    found = []
    for item in copy.deepcopy(base()):
        kind, name = item["kind"], item["metadata"]["name"]
        if kind == "ConfigMap" and name.startswith("mlflow-config"):
            uri = f"postgresql+psycopg2://{host}:5432/{database}"
            item["data"]["MLFLOW_BACKEND_STORE_URI"] = uri
        elif kind == "Secret" and password:
            item["data"]["database-password"] = base64.b64encode(password.encode()).decode()
        elif kind == "Deployment":
            for volume in item["spec"]["template"]["spec"]["volumes"]:
                if volume.pop("persistentVolumeClaim", None):
                    volume["emptyDir"] = {}
        elif kind not in ("ServiceAccount", "Secret", "ConfigMap") or "postgres" in name:
            continue
        found.append(item)
    return found


def migration(database: str, host: str = f"postgres.{SHARED}") -> list[Object]:
    """The tree's migration Job on a database of the shared Postgres."""
    text = (ROOT / "kustomize/components/migration/migration-job.yml").read_text()
    item = yaml.safe_load(text)
    parts = release(database, host)
    server = next(one for one in parts if one["kind"] == "Deployment")
    names = json.dumps(server["spec"]["template"]["spec"])
    pod = item["spec"]["template"]["spec"]
    # Kustomize would have put in the names with their hashes.
    for part in parts:
        name = part["metadata"]["name"]
        if part["kind"] == "ConfigMap" and name in names:
            plain = name.rpartition("-")[0]
            replaced = json.dumps(item).replace(f'"name": "{plain}"', f'"name": "{name}"')
            item = json.loads(replaced)
    pod = item["spec"]["template"]["spec"]
    pod["containers"][0]["image"] = image()
    pod["containers"][0]["resources"] = {}
    item["spec"]["backoffLimit"] = 1
    return [*parts, item]


def protected_server() -> list[Object]:
    """An MLflow of somebody else's making that asks for a password: SQLite, basic auth."""
    settings = (
        "[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:////tmp/auth.db\n"
        "admin_username = admin\nadmin_password = a-password-of-tests\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    container = {
        "name": "tracking",
        "image": image(),
        "command": ["mlflow", "server"],
        "args": [
            "--backend-store-uri=sqlite:////tmp/mlflow.db",
            "--app-name=basic-auth",
            "--host=0.0.0.0",
            "--port=5000",
            "--workers=1",
        ],
        "env": [
            {"name": "HOME", "value": TMP},
            {"name": "MLFLOW_AUTH_CONFIG_PATH", "value": "/auth/basic_auth.ini"},
            {"name": "MLFLOW_FLASK_SERVER_SECRET_KEY", "value": "of-the-tests-only"},
            {"name": "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "value": "false"},
        ],
        "workingDir": TMP,
        "ports": [{"containerPort": 5000}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 5000}, "periodSeconds": 2},
        "volumeMounts": [{"name": "auth", "mountPath": "/auth"}],
    }
    item = deployment(
        container, pod={"volumes": [{"name": "auth", "secret": {"secretName": "auth"}}]}
    )
    item["metadata"]["labels"] = {"helm.sh/chart": "tracking-1.0.0"}
    item["metadata"]["annotations"] = {"meta.helm.sh/release-name": "tracking"}
    return [secret("auth", **{"basic_auth.ini": settings}), item]


def foreign_server() -> list[Object]:
    """An MLflow of a chart's, with a password that the database does not have."""
    container = {
        "name": "mlflow",
        "image": image(),
        "command": ["mlflow"],
        "args": [
            "server",
            f"--backend-store-uri=postgresql+psycopg2://mlflow:wrong@postgres.{SHARED}:5432/mlflow",
            "--host=0.0.0.0",
            "--workers=1",
        ],
        "env": [
            {"name": "HOME", "value": TMP},
            {"name": "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "value": "false"},
        ],
        "workingDir": TMP,
        "ports": [{"containerPort": 5000}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 5000}},
    }
    # MLflow itself tries for minutes to reach a database that refuses it.
    item = deployment(container, progressDeadlineSeconds=45)
    item["metadata"]["labels"] = {
        "app.kubernetes.io/name": "mlflow",
        "app.kubernetes.io/managed-by": "Helm",
        "helm.sh/chart": "mlflow-1.8.1",
    }
    return [item]


def unhealthy_server() -> Object:
    """Something that listens where MLflow should, and is not MLflow."""
    container = shell("cd /tmp && exec python3 -u -m http.server 5000", name="mlflow")
    container["ports"] = [{"name": "http", "containerPort": 5000}]
    container["readinessProbe"] = {"tcpSocket": {"port": 5000}, "periodSeconds": 1}
    return deployment(container)
