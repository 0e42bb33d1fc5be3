"""Python in the pages runs as it is printed, in the environment of `make env`.

It runs here against a server that notes what it is asked. molecule runs the same text against
MLflow itself: README's in the scenario default, that of auth in production.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.tests.docs.pages import programs

RUN = {
    "info": {
        "run_id": "0123456789abcdef0123456789abcdef",
        "run_uuid": "0123456789abcdef0123456789abcdef",
        "experiment_id": "1",
        "status": "RUNNING",
        "start_time": 1,
        "artifact_uri": "mlflow-artifacts:/1/0",
        "lifecycle_stage": "active",
    },
    "data": {},
}
EXPERIMENT = {"experiment_id": "1", "name": "forecast", "lifecycle_stage": "active"}
# What MLflow answers, by the end of a path; a program that asks for anything else is told 404.
ANSWERS: dict[str, Any] = {
    "experiments/get-by-name": {"experiment": EXPERIMENT},
    "experiments/get": {"experiment": EXPERIMENT},
    "runs/create": {"run": RUN},
    "runs/get": {"run": RUN},
    "runs/log-metric": {},
    "runs/update": {"run_info": RUN["info"]},
    "users/create": {"user": {"id": 2, "username": "grace", "is_admin": False}},
    "users/permissions/grant": {},
}


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """A server, and what it was asked: the end of each path, and the body."""
    asked: list[tuple[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("/mlflow/")[2].partition("?")[0]
            asked.append((path, json.loads(body) if body else None))
            known = path in ANSWERS
            content = json.dumps(ANSWERS.get(path, {"error_code": "NOT_FOUND"})).encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = answer

        def log_message(self, *arguments: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}", asked
    httpd.shutdown()
    thread.join()


PROGRAMS = programs()


def test_there_are_programs() -> None:
    assert len(PROGRAMS) >= 3


@pytest.mark.parametrize(("name", "code"), PROGRAMS, ids=[name for name, _code in PROGRAMS])
def test_a_program_of_the_pages_runs(
    name: str, code: str, server: tuple[str, list[tuple[str, Any]]]
) -> None:
    url, asked = server
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": url,
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": "a password of the test",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{name}: {done.stderr}"
    assert [path for path, _body in asked if path in ANSWERS], asked
