"""MLflow with auth and two workers, its metrics container's program, and Debian's Prometheus."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

ROOT = Path(__file__).parents[3]
COMPONENTS = ROOT / "kustomize" / "components"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-mlflow"
# Made by ../prepare.yml.
PYTHON = CACHE / "test-mlflow-3.17.2/current/bin/python"
PASSWORD = "a-password-of-the-tests"
DEADLINE = 300


def unprepared(what: str) -> NoReturn:
    """Fail: nothing of this is skipped."""
    pytest.fail(
        f"{what} is missing; `python scripts/test.py --only integration` installs it, "
        "or ansible-playbook tests/integration/prepare.yml",
        pytrace=False,
    )


def tool(name: str) -> str:
    """Return the path of a program."""
    return shutil.which(name) or unprepared(name)


def rules() -> dict[str, Any]:
    """Return the groups of rules as Prometheus reads them from a file."""
    text = (COMPONENTS / "service-monitor/prometheus-rule.yml").read_text(encoding="utf-8")
    spec: dict[str, Any] = yaml.safe_load(text)["spec"]
    return spec


def free_port() -> int:
    """Return a port on loopback that is free at this moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def wait_until(true: Callable[[], object]) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, f"not true after {DEADLINE} s"
        time.sleep(0.2)


def fetch(url: str, body: Any = None, password: str = "") -> tuple[int, str]:
    """Ask on loopback, past any proxy; return status and body, 0 where nobody answers."""
    request = urllib.request.Request(url)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    if password:
        token = base64.b64encode(f"admin:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


class Stack:
    """The three programs, and how to ask them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mlflow, self.metrics, self.prometheus = (
            f"http://127.0.0.1:{free_port()}" for _each in range(3)
        )
        self._processes: list[subprocess.Popen[bytes]] = []

    def _start(self, name: str, command: list[str], **environment: str) -> None:
        log = (self.folder / f"{name}.log").open("wb")
        # In a group of its own: MLflow's server starts workers.
        self._processes.append(
            subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )

    def start(self) -> None:
        """Start all three and wait for them."""
        if not PYTHON.exists():
            unprepared("MLflow")
        metrics = self.folder / "metrics"
        metrics.mkdir()
        auth = self.folder / "auth.ini"
        auth.write_text(
            "[mlflow]\ndefault_permission = READ\n"
            f"database_uri = sqlite:///{self.folder}/auth.db\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
            encoding="utf-8",
        )
        port = self.mlflow.rpartition(":")[2]
        self._start(
            "mlflow",
            [
                *(str(PYTHON), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port),
                *("--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"),
                *("--app-name", "basic-auth"),
            ],
            PATH=f"{PYTHON.parent}:{os.environ['PATH']}",
            MLFLOW_AUTH_CONFIG_PATH=str(auth),
            MLFLOW_AUTH_ADMIN_USERNAME="admin",
            MLFLOW_AUTH_ADMIN_PASSWORD=PASSWORD,
            MLFLOW_FLASK_SERVER_SECRET_KEY="a-key-of-the-tests",
            MLFLOW_WORKERS="2",
            MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
            MLFLOW_DISABLE_TELEMETRY="true",
            MLFLOW_EXPOSE_PROMETHEUS=str(metrics),
        )
        program = str(COMPONENTS / "monitoring/metrics.py")
        number = self.metrics.rpartition(":")[2]
        self._start("metrics", [str(PYTHON), program, str(metrics), number])
        (self.folder / "rules.yml").write_text(yaml.safe_dump(rules()), encoding="utf-8")
        (self.folder / "prometheus.yml").write_text(
            yaml.safe_dump(self._configuration()), encoding="utf-8"
        )
        listening = self.prometheus.removeprefix("http://")
        self._start(
            "prometheus",
            [
                tool("prometheus"),
                f"--config.file={self.folder}/prometheus.yml",
                f"--storage.tsdb.path={self.folder}/data",
                f"--web.listen-address={listening}",
            ],
        )
        wait_until(lambda: fetch(f"{self.mlflow}/health")[0] == 200)
        wait_until(lambda: fetch(f"{self.prometheus}/-/ready")[0] == 200)

    def _configuration(self) -> dict[str, Any]:
        # The labels that the operator gives to what a ServiceMonitor finds.
        labels = {"job": "mlflow-metrics", "namespace": "here", "pod": "mlflow-1"}
        target = self.metrics.removeprefix("http://")
        return {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(self.folder / "rules.yml")],
            "scrape_configs": [
                {
                    "job_name": "mlflow",
                    "static_configs": [{"targets": [target], "labels": labels}],
                }
            ],
        }

    def search(self, password: str = PASSWORD) -> int:
        """Ask MLflow for its experiments; return the status."""
        url = f"{self.mlflow}/api/2.0/mlflow/experiments/search"
        return fetch(url, {"max_results": 1}, password)[0]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Ask Prometheus; return what it found."""
        asked = urllib.parse.urlencode({"query": expression})
        status, text = fetch(f"{self.prometheus}/api/v1/query?{asked}")
        assert status == 200, f"{expression}: {text}"
        found: list[dict[str, Any]] = json.loads(text)["data"]["result"]
        return found

    def stop(self) -> None:
        """End what was started, workers included."""
        for process in self._processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Return the three programs, started."""
    one = Stack(tmp_path_factory.mktemp("monitoring"))
    try:
        one.start()
        yield one
    finally:
        one.stop()
