# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""MLflow's own checks: answers of a server over HTTP, versions, images, the schema."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import typing as t

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import DEPLOYMENT, JOB
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow import images, readiness
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import schema as _schema
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import Target

IMAGE = "localhost/mlops-mlflow/mlflow:3.17.2"
AT_HEAD = {"tracking": {"state": "at_head", "current": "a", "head": "a"}}


class Mlflow:
    """A server that answers as it is told."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, str]] = {
            "/health": (200, "OK"),
            "/version": (200, "3.17.2"),
            "/api/2.0/mlflow/experiments/search": (200, '{"experiments": []}'),
        }
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.closes = False
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            """Answers one request."""

            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.seen.append((self.path, dict(self.headers)))
                status, body = outer.answers.get(self.path, (404, "no such page"))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if outer.closes:
                    self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(body.encode())

            do_POST = do_GET

            def log_message(self, format: str, *args: t.Any) -> None:
                """Stay silent."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


class Helper:
    """An API whose exec gives the schema helper's verdict."""

    def __init__(self, verdict: t.Any = None, error: ApiError | None = None) -> None:
        self.verdict = verdict or AT_HEAD
        self.error = error

    def execute(self, *_arguments: t.Any) -> tuple[int, str, str]:
        if self.error:
            raise self.error
        if isinstance(self.verdict, str):
            return 2, "", self.verdict
        return 0, json.dumps(self.verdict) + "\n", ""


def pod(**status: t.Any) -> dict[str, t.Any]:
    """Return a pod of the server."""
    return {
        "metadata": {"name": "mlflow-a", "namespace": "ns", "uid": "p"},
        "spec": {
            "initContainers": [
                {"name": "schema-wait", "command": ["python3", _schema.HELPER, "wait"]}
            ],
            "containers": [{"name": "mlflow", "image": IMAGE}],
        },
        "status": status,
    }


@pytest.fixture
def mlflow() -> t.Iterator[Mlflow]:
    """A server that is well."""
    server = Mlflow()
    yield server
    server.server.shutdown()
    server.server.server_close()


def check(mlflow: Mlflow, api: t.Any = None, **server: t.Any) -> readiness.CheckResult:
    """Run the whole check on one pod."""
    target = Target(DEPLOYMENT, "ns", "mlflow")
    found = readiness.MlflowCheck(
        t.cast(t.Any, api or Helper()), readiness.Server(url=mlflow.url, **server)
    )
    return found({target: ({"metadata": {}}, [pod()])})


def reason(result: readiness.CheckResult) -> str:
    """Return why a check did not pass."""
    assert not result.ready
    return result.problems[0].reason


def test_all_is_well(mlflow: Mlflow) -> None:
    """Health, version, a read and the schema: all are told."""
    result = check(mlflow)
    assert result.ready
    assert result.facts["server"]["version"] == "3.17.2"
    assert result.facts["http"][0]["search"] == 200
    assert result.facts["schema"] == AT_HEAD
    assert set(result.facts) == set(readiness.MlflowCheck.nothing())


def test_credentials_in_the_url_are_not_told(mlflow: Mlflow) -> None:
    """Neither as a fact nor where it says what does not answer."""
    address = mlflow.url.replace("http://", "http://u:Zq7xKp2vWm@")
    for url in (address, "http://u:Zq7xKp2vWm@127.0.0.1:9"):
        found = readiness.MlflowCheck(t.cast(t.Any, Helper()), readiness.Server(url=url))
        result = found({Target(DEPLOYMENT, "ns", "mlflow"): ({"metadata": {}}, [pod()])})
        assert result.facts["server"]["url"].startswith("http://u:********@127.0.0.1:")
        assert "Zq7x" not in str(result)


class Tunnels(Helper):
    """An API that tunnels to the server, whatever pod and port it is asked for."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__()
        self.address = address
        self.asked: list[tuple[str, str, int]] = []

    def port_forward(self, namespace: str, pod: str, port: int) -> socket.socket:
        self.asked.append((namespace, pod, port))
        return socket.create_connection(self.address)


@pytest.mark.parametrize("closes", [False, True])
def test_a_server_that_closes_is_asked_through_a_new_tunnel(mlflow: Mlflow, closes: bool) -> None:
    """Not through a connection to the same port of the controller."""
    mlflow.closes = closes
    api = Tunnels(("127.0.0.1", int(mlflow.server.server_address[1])))
    found = readiness.MlflowCheck(t.cast(t.Any, api), readiness.Server())
    result = found({Target(DEPLOYMENT, "ns", "mlflow"): ({"metadata": {}}, [pod()])})
    assert result.ready, result.problems
    assert len(mlflow.seen) == 3
    assert api.asked == [("ns", "mlflow-a", 5000)] * (3 if closes else 1)


@pytest.mark.parametrize(
    ("path", "status", "body", "expected"),
    [
        ("/health", 503, "starting", "http_unready"),
        ("/version", 200, "3.16.1", "http_unready"),
        ("search", 401, "You are not authenticated.", "unauthorized"),
        ("search", 403, "Permission denied", "unauthorized"),
        ("search", 403, "Invalid Host header", "http_unready"),
        ("search", 500, '{"message": "FATAL: password authentication failed"}', "database_denied"),
        ("search", 503, '{"error_code": "TEMPORARILY_UNAVAILABLE"}', "database_unreachable"),
        ("search", 500, "(psycopg2.OperationalError) Connection refused", "database_unreachable"),
        ("search", 500, "Internal Server Error", "http_unready"),
        ("search", 200, "<html>", "http_unready"),
    ],
)
def test_what_is_wrong(mlflow: Mlflow, path: str, status: int, body: str, expected: str) -> None:
    """Each answer has its reason."""
    full = path if path.startswith("/") else "/api/2.0/mlflow/experiments/search"
    mlflow.answers[full] = (status, body)
    assert reason(check(mlflow)) == expected


def test_nobody_answers(mlflow: Mlflow) -> None:
    """A refused connection is not ready."""
    mlflow.url = "http://127.0.0.1:9"
    assert reason(check(mlflow)) == "http_unready"


@pytest.mark.parametrize(
    ("image", "version", "ready"),
    [
        ("registry.example.org/team/mlflow:1.4.0", "", True),
        ("registry.example.org/team/mlflow:1.4.0", "3.17.2", True),
        ("registry.example.org/team/mlflow:1.4.0", "3.16.1", False),
        ("ghcr.io/mlflow/mlflow:v3.16.1-full", "", False),
        ("ghcr.io/mlflow/mlflow:v3.17.2-full", "", True),
    ],
)
def test_the_version_is_asked_of_the_server(
    mlflow: Mlflow, image: str, version: str, ready: bool
) -> None:
    """A tag of somebody's own says nothing; who knows the version may say so."""
    target = Target(DEPLOYMENT, "ns", "mlflow")
    found = readiness.MlflowCheck(
        t.cast(t.Any, Helper()), readiness.Server(url=mlflow.url, version=version)
    )
    item = pod()
    item["spec"]["containers"][0]["image"] = image
    result = found({target: ({"metadata": {}}, [item])})
    assert result.ready is ready
    assert result.facts["server"]["version"] == "3.17.2"


def test_version_behind_a_login_is_not_needed(mlflow: Mlflow) -> None:
    """With basic authentication, /version may be refused."""
    mlflow.answers["/version"] = (401, "")
    result = check(mlflow, username="u", password="pw")
    assert result.ready
    assert result.facts["server"]["version"] is None
    sent = {name.lower(): value for name, value in mlflow.seen[-1][1].items()}
    assert sent["authorization"] == "Basic dTpwdw=="


def test_wrong_image(mlflow: Mlflow) -> None:
    """A pod that runs another image than asked for is not ready."""
    result = check(mlflow, image="localhost/mlops-mlflow/mlflow:3.16.1")
    assert reason(result) == "http_unready"
    assert "3.16.1" in result.message


@pytest.mark.parametrize(
    ("state", "expected"),
    [("behind", "schema_behind"), ("partial", "schema_partial"), ("denied", "database_denied")],
)
def test_schema(mlflow: Mlflow, state: str, expected: str) -> None:
    """The schema helper's verdict decides."""
    assert reason(check(mlflow, Helper({"tracking": {"state": state}}))) == expected


def test_no_helper(mlflow: Mlflow) -> None:
    """Without the helper the schema cannot be told, unless any will do."""
    result = check(mlflow, Helper("python3: can't open file"))
    assert reason(result) == "schema_unknown"
    assert "schema=any" in result.message
    assert check(mlflow, Helper("python3: can't open file"), schema="any").ready


def test_no_permission_to_exec(mlflow: Mlflow) -> None:
    """The missing permission is named."""
    result = check(mlflow, Helper(error=ApiError(403, "forbidden", "create", "pods/exec")))
    assert reason(result) == "schema_unknown"
    assert "pods/exec" in result.message


def test_no_pods(mlflow: Mlflow) -> None:
    """A Deployment that is scaled to nothing serves nobody."""
    target = Target(DEPLOYMENT, "ns", "mlflow")
    found = readiness.MlflowCheck(t.cast(t.Any, Helper()), readiness.Server())
    assert reason(found({target: ({"metadata": {}}, [])})) == "http_unready"


def test_termination_messages_stand_in() -> None:
    """The latest verdict that a pod left behind is used where the helper cannot be asked."""
    message = json.dumps(AT_HEAD)
    status = {"name": "schema-wait", "state": {"terminated": {"exitCode": 0, "message": message}}}
    assert readiness.schema_from_messages([pod(initContainerStatuses=[status])]) == AT_HEAD
    assert readiness.schema_from_messages([pod()]) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"message": "no such thing"}', "no such thing"),
        ("plain words", "plain words"),
        (
            "<!DOCTYPE HTML><html><head><title>Error</title><style>p {}</style></head>"
            "<body><h1>404</h1>\n<p>File not found.</p></body></html>",
            "404 File not found.",
        ),
    ],
)
def test_an_answer_in_words(body: str, words: str) -> None:
    assert readiness._message(body).split() == words.split()


def test_meanwhile_asks_a_pod_that_waits() -> None:
    """A server that waits for its schema is asked what it waits for."""
    running = {"name": "schema-wait", "state": {"running": {}}}
    api = Helper({"tracking": {"state": "behind", "current": "a", "head": "b"}})
    found = readiness.MlflowCheck(t.cast(t.Any, api), readiness.Server())
    target, job = Target(DEPLOYMENT, "ns", "mlflow"), Target(JOB, "ns", "migrate")
    seen: t.Any = {job: (None, []), target: ({}, [pod(initContainerStatuses=[running])])}
    result = found.meanwhile(seen)
    assert result is not None
    assert reason(result) == "schema_behind"
    assert found.meanwhile({target: ({}, [pod()])}) is None


@pytest.mark.parametrize(
    "entry",
    [
        {"state": "empty", "head": "b"},
        {"state": "behind", "head": "b", "detail": "being initialised or migrated now by x"},
    ],
)
def test_a_database_that_is_being_initialised_is_no_failure(entry: dict[str, str]) -> None:
    """A first start without a migration Job: the server's own init container sees to it."""
    running = {"name": "schema-wait", "state": {"running": {}}}
    found = readiness.MlflowCheck(t.cast(t.Any, Helper({"tracking": entry})), readiness.Server())
    target = Target(DEPLOYMENT, "ns", "mlflow")
    result = found.meanwhile({target: ({}, [pod(initContainerStatuses=[running])])})
    assert result is not None
    assert result.problems == ()
    assert result.facts["schema"] == {"tracking": entry}


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("ghcr.io/mlflow/mlflow:v3.17.2-full", "3.17.2"),
        ("localhost:5000/mlops-mlflow/mlflow:3.17.2", "3.17.2"),
        ("mlflow/mlflow:3.17.2@sha256:0123", "3.17.2"),
        ("registry.example.org/mirror/mlflow/mlflow:3.18.0rc1", "3.18.0rc1"),
        # A number of somebody's own, which need not be MLflow's.
        ("registry.example.org/team/mlflow:3.17.2", ""),
        ("registry.example.org/mlflow:2026.11.24", ""),
        ("mlflow@sha256:0123", ""),
        ("mlflow:latest", ""),
        ("mlflow", ""),
    ],
)
def test_version_in_tag(image: str, version: str) -> None:
    """It is a proof where the image is MLflow's own, or a mirror of it."""
    assert images.version_in(image) == version


def test_a_tag_seems_to_name_a_version() -> None:
    assert images.version_tagged("registry.example.org/team/mlflow:3.17.2") == "3.17.2"
    for tag in ("1.4.0", "2026.11.24", "latest"):
        assert images.version_tagged(f"registry.example.org/team/mlflow:{tag}") == ""


def test_address() -> None:
    """Port and prefix come from the container itself."""
    container = {
        "ports": [{"name": "metrics", "containerPort": 1}, {"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/tracking/health"}},
    }
    assert readiness.address(container) == (8080, "/tracking")
    assert readiness.address({}) == (5000, "")


def test_same_image() -> None:
    """Digests decide where both have one."""
    assert readiness.same_image("a:1@sha256:x", "a@sha256:x")
    assert not readiness.same_image("a:1", "a:2")
