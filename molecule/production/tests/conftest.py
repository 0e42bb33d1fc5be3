"""MLflow as its users see it: their programs, and each pod by itself."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ansible_collections.mlops.mlflow.molecule import conftest as shared

# Another one lets these tests look at a release that a shared cluster has under another name.
NAMESPACE = os.environ.get("MLFLOW_TEST_NAMESPACE", "mlflow-production")
SERVICES = f"{NAMESPACE}-services"
INVENTORY = Path(__file__).parents[1] / "inventory"

Kubectl = Callable[..., str]


class User(NamedTuple):
    """Who somebody is to MLflow."""

    name: str
    password: str


@contextmanager
def forward(target: str) -> Iterator[str]:
    """Reach a pod, or one of a Service's, from here; give the URL."""
    process = subprocess.Popen(
        ["kubectl", "port-forward", f"--namespace={NAMESPACE}", target, ":5000"],
        env=shared.ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert found, f"{target}: {line}"
        yield f"http://127.0.0.1:{found[1]}"
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture
def pods(objects: Callable[[str, str], list[dict[str, Any]]]) -> Iterator[list[str]]:
    """The URL of each pod that serves."""
    names = [
        pod["metadata"]["name"]
        for pod in objects("pods", NAMESPACE)
        if pod["metadata"]["labels"].get("app.kubernetes.io/component") == "server"
        and "deletionTimestamp" not in pod["metadata"]
    ]
    assert len(names) == 2, names
    with forward(f"pod/{names[0]}") as one, forward(f"pod/{names[1]}") as other:
        yield [one, other]


@pytest.fixture
def url() -> Iterator[str]:
    """The URL of one of the pods."""
    with forward("service/mlflow") as found:
        yield found


@pytest.fixture
def admin(kubectl: Kubectl) -> User:
    """The administrator that mlflow-credentials tells of."""
    secret = json.loads(
        kubectl("get", "secret", "mlflow-credentials", f"--namespace={NAMESPACE}", "--output=json")
    )["data"]
    return User(
        *(base64.b64decode(secret[f"admin-{key}"]).decode() for key in ("username", "password"))
    )


@pytest.fixture(scope="session")
def program() -> Callable[..., Any]:
    """Runs client.py as somebody (or nobody), and returns what it tells."""

    def call(url: str, user: User | None, *arguments: str) -> Any:
        environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": url,
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # The store has no name here: through MLflow, not past it.
            "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
            "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
        }
        environment.pop("MLFLOW_TRACKING_USERNAME", None)
        environment.pop("MLFLOW_TRACKING_PASSWORD", None)
        if user:
            environment["MLFLOW_TRACKING_USERNAME"] = user.name
            environment["MLFLOW_TRACKING_PASSWORD"] = user.password
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("client.py")), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{arguments[0]}: {done.stderr}"
        return json.loads(done.stdout.splitlines()[-1])

    return call


@pytest.fixture(scope="session")
def deploy(site: Callable[..., Any]) -> Callable[..., Any]:
    """Runs site.yml with what this scenario has beside inventories/production."""

    def call(*arguments: str) -> Any:
        if NAMESPACE != "mlflow-production":
            arguments = (f"--extra-vars=mlflow_namespace={NAMESPACE}", *arguments)
        return site(f"--inventory={INVENTORY}", *arguments, inventory="production")

    return call
