# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes an MLflow server ready beyond its rollout: HTTP answers, version, database, schema."""

from __future__ import annotations

import base64
import concurrent.futures
import http.client
import json
import re
import ssl
import time
import typing as t
import urllib.parse

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.client import Api, ApiError
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import DEPLOYMENT, JOB
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.redact import redact
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow.images import version_in
from ansible_collections.mlops.mlflow.plugins.module_utils._wait import schema as _schema
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.engine import CheckResult, Seen
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.reasons import Problem
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.state import (
    Object,
    condition,
    container_statuses,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._wait.verdict import one_line

# Seconds that a server may take for one answer, and the schema helper for its verdict.
HTTP_TIMEOUT = 15.0
SCHEMA_TIMEOUT = 60.0
DEFAULT_PORT = 5000
# How many servers are asked at the same time.
ASKED_AT_ONCE = 4

_DENIED = re.compile(
    r"password authentication failed|no password supplied|role \S+ does not exist"
    r"|permission denied for|no pg_hba\.conf entry",
    re.IGNORECASE,
)
_UNREACHABLE = re.compile(
    r"OperationalError|connection refused|could not (?:connect|translate)|server closed the"
    r"|timeout expired|the database system is|too many clients|TEMPORARILY_UNAVAILABLE",
    re.IGNORECASE,
)


class _Tunnelled(http.client.HTTPConnection):
    """A connection to a pod. A server that closes it after an answer is reached by a new tunnel."""

    def __init__(self, open_tunnel: t.Callable[[], t.Any], port: int) -> None:
        super().__init__("localhost", port, timeout=HTTP_TIMEOUT)
        self._open_tunnel = open_tunnel

    def connect(self) -> None:
        """Open a tunnel; never a connection to a port of this machine."""
        self.sock = self._open_tunnel()
        self.sock.settimeout(HTTP_TIMEOUT)


class Server(t.NamedTuple):
    """What to ask, and what to expect."""

    image: str = ""
    version: str = ""
    url: str = ""
    username: str = ""
    password: str = ""
    ca_cert: str = ""
    schema: str = "at_head"


class Answer(t.NamedTuple):
    """The status and the beginning of the body of one HTTP answer."""

    status: int
    body: str


class Ask(t.Protocol):
    """Send one request to a server."""

    def __call__(self, method: str, path: str, body: str | None) -> Answer:
        """Return the answer, or raise OSError or HTTPException."""


def same_image(asked: str, runs: str) -> bool:
    """Say whether two image references mean the same (by digest where both have one)."""
    if "@" in asked and "@" in runs:
        return asked.rpartition("@")[2] == runs.rpartition("@")[2]
    return asked == runs


def main_container(pod: Object) -> Object:
    """Return the container of a pod that is the MLflow server."""
    containers: list[Object] = (pod.get("spec") or {}).get("containers") or [{}]
    for container in containers:
        if container.get("name") == "mlflow":
            return container
    for container in containers:
        if any(port.get("name") == "http" for port in container.get("ports") or []):
            return container
    return containers[0]


def address(container: Object) -> tuple[int, str]:
    """Return the port and path prefix of a server, as its ports and probes tell."""
    ports = container.get("ports") or []
    named = [port for port in ports if port.get("name") == "http"] or ports
    number = int(named[0]["containerPort"]) if named else DEFAULT_PORT
    probe = (container.get("readinessProbe") or {}).get("httpGet") or {}
    path = str(probe.get("path") or "")
    prefix = path[: -len("/health")] if path.endswith("/health") else ""
    return number, prefix


def judge_answers(
    ask: Ask, expected_version: str, with_credentials: bool
) -> tuple[dict[str, t.Any], tuple[str, str] | None]:
    """Ask a server for its health, version and data; return what it said, and what is wrong.

    What is wrong is a failure's reason and a message.
    """
    facts: dict[str, t.Any] = {"health": None, "version": None, "search": None}
    health = ask("GET", "/health", None)
    facts["health"] = health.status
    if health.status != 200:
        return facts, ("http_unready", f"/health answers {health.status}: {_message(health.body)}")
    version = ask("GET", "/version", None)
    if version.status == 200:
        facts["version"] = version.body.strip()
        if expected_version and facts["version"] != expected_version:
            return facts, (
                "http_unready",
                f"it answers as MLflow {facts['version']}, not {expected_version}",
            )
    body = json.dumps({"max_results": 1})
    search = ask("POST", "/api/2.0/mlflow/experiments/search", body)
    facts["search"] = search.status
    return facts, _judge_search(search, with_credentials)


def _judge_search(answer: Answer, with_credentials: bool) -> tuple[str, str] | None:
    if answer.status == 200:
        try:
            if isinstance(json.loads(answer.body or "{}"), dict):
                return None
        except ValueError:
            pass
        return "http_unready", f"a search is not answered with JSON: {_message(answer.body)[:120]}"
    words = f"a search for experiments is answered with {answer.status}: {_message(answer.body)}"
    if answer.status == 403 and "host" in answer.body.lower():
        return "http_unready", words
    if answer.status in (401, 403):
        which = "the credentials given" if with_credentials else "requests without credentials"
        return "unauthorized", f"MLflow refuses {which}: {words}"
    if _DENIED.search(answer.body):
        return "database_denied", words
    if _UNREACHABLE.search(answer.body):
        return "database_unreachable", words
    return "http_unready", words


_NOT_READ = re.compile(r"<(style|script|title)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)


def _message(body: str) -> str:
    try:
        value = json.loads(body)
    except ValueError:
        # Of a page for people, what they would read.
        return one_line(_NOT_READ.sub(" ", body))[:300]
    text = value.get("message") or value.get("error_code") if isinstance(value, dict) else None
    return one_line(str(text or body))[:300]


def schema_from_messages(pods: t.Iterable[Object]) -> _schema.Verdict | None:
    """Return the latest verdict that the schema helper left in a pod's termination messages."""
    found: tuple[str, _schema.Verdict] | None = None
    for pod in pods:
        for status in container_statuses(pod):
            ended = (status.get("state") or {}).get("terminated") or {}
            verdict = _schema.parse(ended.get("message"))
            at = str(ended.get("finishedAt") or "")
            if verdict and (found is None or at >= found[0]):
                found = (at, verdict)
    return found[1] if found else None


class MlflowCheck:
    """The check that wait_for_mlflow adds to the engine."""

    def __init__(self, api: Api, server: Server) -> None:
        self._api = api
        self._server = server

    @staticmethod
    def nothing() -> dict[str, t.Any]:
        """Return the facts of a server that nothing is known about yet."""
        return {
            "server": {"version": None, "image": None, "url": None, "pods": []},
            "http": [],
            "schema": None,
        }

    def __call__(self, seen: Seen) -> CheckResult:
        """Ask every server of the current revision, and the schema helper in one of them."""
        facts = self.nothing()
        deployment, pods, job_pods = _parts(seen)
        if not pods or deployment is None:
            return CheckResult(False, "no server runs", (self._scaled_down(seen),), facts)
        image = str(main_container(pods[0]).get("image") or "")
        facts["server"].update(
            image=image,
            url=redact(self._server.url) or None,
            pods=[pod["metadata"]["name"] for pod in pods],
        )
        with concurrent.futures.ThreadPoolExecutor(ASKED_AT_ONCE + 1) as pool:
            schema = pool.submit(self._read_schema, pods[0], [*pods, *job_pods])
            asked = list(pool.map(self._ask_pod, [pods[0]] if self._server.url else pods))
            verdict, schema_problem = schema.result()
        problems = [schema_problem] if schema_problem else []
        facts["schema"] = verdict
        for entry, problem in asked:
            facts["http"].append(entry)
            facts["server"]["version"] = facts["server"]["version"] or entry["version"]
            if problem:
                problems.append(problem)
        if problems:
            return CheckResult(False, problems[0].message, tuple(problems), facts)
        version = facts["server"]["version"]
        words = f"MLflow {version}" if version else "MLflow"
        count = len(asked)
        words += " answers from the database" if self._server.url else f" answers in {count} pod"
        words += "s" if count > 1 and not self._server.url else ""
        if verdict:
            revision = (verdict.get("tracking") or {}).get("current")
            words += f", schema at head {revision}"
        return CheckResult(True, words, (), facts)

    def meanwhile(self, seen: Seen) -> CheckResult | None:
        """Find out what a pod that waits for its schema waits for; None if none does."""
        _deployment, pods, _job_pods = _parts(seen)
        for pod in pods:
            container = _schema.helper_runs_in(pod, init=True)
            if not container:
                continue
            verdict, _trouble = self._run_helper(pod, container)
            explained = _schema.explain(verdict) if verdict else None
            if explained is None:
                return None
            facts = {**self.nothing(), "schema": verdict}
            under_way = _schema.under_way(verdict) if verdict else ""
            # It will be there in a moment: for a wait, that is no failure.
            if under_way and explained[0] in _schema.MIGRATABLE:
                return CheckResult(False, under_way, (), facts)
            problem = _pod_problem(pod, container, *explained)
            return CheckResult(False, problem.message, (problem,), facts)
        return None

    def _scaled_down(self, seen: Seen) -> Problem:
        target = next(target for target in seen if target.kind == DEPLOYMENT)
        message = f"Deployment {target.name} runs no server (it is scaled to 0)"
        return Problem(
            "http_unready", "Deployment", target.namespace, target.name, message, str(target)
        )

    # --- HTTP ------------------------------------------------------------------------------------

    def _ask_pod(self, pod: Object) -> tuple[dict[str, t.Any], Problem | None]:
        """Ask one server; return what it said and what is wrong with it."""
        container = main_container(pod)
        name = str(pod["metadata"]["name"])
        image = str(container.get("image") or "")
        began = time.monotonic()
        entry: dict[str, t.Any] = {"pod": name, "health": None, "version": None, "search": None}
        wrong: tuple[str, str] | None
        forbidden = False
        if self._server.image and not same_image(self._server.image, image):
            wrong = ("http_unready", f"it runs image {image}, not {self._server.image}")
        else:
            try:
                connection, prefix, host = self._connect(pod, container)
                try:
                    ask = self._asker(connection, prefix, host)
                    expected = self._server.version or version_in(image)
                    told, wrong = judge_answers(ask, expected, bool(self._server.username))
                    entry.update(told)
                finally:
                    connection.close()
            except (OSError, http.client.HTTPException) as error:
                text = one_line(str(error)) or type(error).__name__
                wrong = ("http_unready", f"it does not answer: {text}")
            except ApiError as error:
                wrong = ("http_unready", f"it cannot be reached: {error.message}")
                forbidden = error.status == 403
        entry["seconds"] = round(time.monotonic() - began, 2)
        if wrong is None:
            return entry, None
        who = (
            f"MLflow at {redact(self._server.url)}" if self._server.url else f"MLflow in pod {name}"
        )
        words = f"{who}: {wrong[1]}"
        if forbidden:
            words += " (the account needs get and create on pods/portforward)"
            problem = _pod_problem(pod, "", wrong[0], words)
            return entry, problem._replace(pod="", tolerance=0.0)
        return entry, _pod_problem(pod, str(container.get("name")), wrong[0], words)

    def _connect(
        self, pod: Object, container: Object
    ) -> tuple[http.client.HTTPConnection, str, str]:
        """Return a connection to a server, its path prefix and the Host header to send."""
        connection: http.client.HTTPConnection
        if self._server.url:
            parts = urllib.parse.urlsplit(self._server.url)
            if parts.scheme == "https":
                context = ssl.create_default_context(cafile=self._server.ca_cert or None)
                connection = http.client.HTTPSConnection(
                    parts.hostname or "", parts.port, timeout=HTTP_TIMEOUT, context=context
                )
            else:
                connection = http.client.HTTPConnection(
                    parts.hostname or "", parts.port, timeout=HTTP_TIMEOUT
                )
            return connection, parts.path.rstrip("/"), parts.netloc.rpartition("@")[2]
        port, prefix = address(container)
        metadata = pod["metadata"]
        connection = _Tunnelled(
            lambda: self._api.port_forward(metadata["namespace"], metadata["name"], port), port
        )
        return connection, prefix, "localhost"

    def _asker(self, connection: http.client.HTTPConnection, prefix: str, host: str) -> Ask:
        headers = {"Host": host, "Accept": "application/json, text/plain"}
        if self._server.username:
            pair = f"{self._server.username}:{self._server.password}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()

        def ask(method: str, path: str, body: str | None) -> Answer:
            more = {"Content-Type": "application/json"} if body else {}
            connection.request(method, prefix + path, body=body, headers={**headers, **more})
            response = connection.getresponse()
            return Answer(response.status, response.read(65536).decode("utf-8", "replace"))

        return ask

    # --- Schema ----------------------------------------------------------------------------------

    def _read_schema(
        self, pod: Object, pods: list[Object]
    ) -> tuple[_schema.Verdict | None, Problem | None]:
        """Return the schema verdict and what is wrong with it."""
        if self._server.schema == "any":
            return schema_from_messages(pods), None
        container = str(main_container(pod).get("name"))
        verdict, trouble = self._run_helper(pod, container)
        if verdict is None:
            verdict = schema_from_messages(pods)
        if verdict is None:
            return None, _pod_problem(pod, container, *trouble)
        explained = _schema.explain(verdict)
        if explained is None and not _schema.at_head(verdict):
            explained = ("schema_unknown", f"the schema helper says {json.dumps(verdict)}")
        return verdict, _pod_problem(pod, container, *explained) if explained else None

    def _run_helper(
        self, pod: Object, container: str
    ) -> tuple[_schema.Verdict | None, tuple[str, str]]:
        """Run the schema helper in a pod; return its verdict, or why there is none."""
        metadata = pod["metadata"]
        name = metadata["name"]
        command = ["python3", _schema.HELPER, "status"]
        try:
            _code, output, errors = self._api.execute(
                metadata["namespace"], name, container, command, SCHEMA_TIMEOUT
            )
        except ApiError as error:
            if error.status == 403:
                return None, (
                    "schema_unknown",
                    f"the schema cannot be read in pod {name}: {error.message} (the account needs "
                    "get and create on pods/exec; with schema=any it is not asked for)",
                )
            # The pod may be going away: worth another look.
            return None, ("http_unready", f"the schema of pod {name}: {error.message}")
        verdict = _schema.parse(output)
        if verdict:
            return verdict, ("", "")
        last = (errors.strip() or output.strip() or "it said nothing").splitlines()[-1]
        return None, (
            "schema_unknown",
            f"the schema cannot be told: {_schema.HELPER} in pod {name} gave no verdict ({last}); "
            "with schema=any it is not asked for",
        )


def _parts(seen: Seen) -> tuple[Object | None, list[Object], list[Object]]:
    """Return the Deployment, its current pods and the migration Job's pods."""
    deployment: Object | None = None
    pods: list[Object] = []
    job_pods: list[Object] = []
    for target, (item, found) in seen.items():
        if target.kind == DEPLOYMENT:
            deployment, pods = item, found
        elif target.kind == JOB:
            job_pods = found
    pods.sort(key=lambda pod: condition(pod, "Ready", "True") is None)
    return deployment, pods, job_pods


def _pod_problem(pod: Object, container: str, reason: str, message: str) -> Problem:
    metadata = pod["metadata"]
    return Problem(
        reason,
        "Pod",
        str(metadata["namespace"]),
        str(metadata["name"]),
        one_line(message),
        identity=str(metadata.get("uid")),
        container=container,
        pod=str(metadata["name"]),
    )
