"""MLflow on a Postgres of its own, behind nginx as the rendered Ingress asks for."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import shlex
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.mlflow.plugins.action import release_render as action
from ansible_collections.mlops.mlflow.plugins.plugin_utils._inventory import overlays
from ansible_collections.mlops.mlflow.plugins.plugin_utils._render import kustomization
from ansible_collections.mlops.mlflow.tests.integration.schema_helper.conftest import (
    PYTHON,
    Postgres,
    Server,
    free_port,
    server_folder,
    tool,
    unprepared,
    wait_until,
)
from ansible_collections.mlops.mlflow.tests.manifests.tree import kustomize

HOST = "mlflow.example.org"
NGINX = "nginx.ingress.kubernetes.io/"
# Seconds that an answer may take: longer than any time-out of the proxies.
TIMEOUT = 90.0
Object = dict[str, Any]


def rendered(folder: Path, **settings: Any) -> list[Object]:
    """Return what the collection renders for an inventory with the component ingress."""
    defaults = {name: option.get("default") for name, option in action._OPTIONS.items()}
    arguments = {
        **defaults,
        "kustomize": {"binary": kustomize()[0]},
        "overlay": str(overlays.KUSTOMIZE / "overlays/production"),
        "components": [str(overlays.KUSTOMIZE / "components/ingress")],
        "smoke_test": False,
        **settings,
    }
    folder.mkdir()
    return action.render(arguments, str(folder))


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclasses.dataclass
class Site:
    """One MLflow server behind nginx."""

    folder: Path
    objects: list[Object]
    port: int
    server_port: int
    certificate: Path | None = None

    @property
    def ingress(self) -> Object:
        """Return the Ingress that nginx's configuration is made from."""
        found = kustomization.find(self.objects, "Ingress", "mlflow")
        assert found
        return found

    @property
    def prefix(self) -> str:
        """Return the path that MLflow lies under."""
        path: str = self.ingress["spec"]["rules"][0]["http"]["paths"][0]["path"]
        return path.rstrip("/")

    @property
    def origin(self) -> str:
        """Return the origin of MLflow's pages, as a browser tells it."""
        return f"{'https' if self.certificate else 'http'}://{HOST}:{self.port}"

    def environment(self) -> dict[str, str]:
        """Return what the rendered server finds in its environment."""
        server = kustomization.container(
            kustomization.find(self.objects, "Deployment", "mlflow"), "mlflow"
        )
        name = server["envFrom"][0]["configMapRef"]["name"]
        config = kustomization.find(self.objects, "ConfigMap", name)
        assert config
        return dict(config["data"])

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        host: str = HOST,
        **headers: str,
    ) -> Answer:
        """Send a request through nginx; the path is the one under the prefix."""
        connection: http.client.HTTPConnection
        if self.certificate:
            context = ssl.create_default_context(cafile=str(self.certificate))
            connection = _Tls("127.0.0.1", self.port, timeout=TIMEOUT, context=context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        with contextlib.closing(connection):
            sent = {"Host": f"{host}:{self.port}", **headers}
            if body is not None and "Content-Type" not in sent:
                sent["Content-Type"] = "application/json"
            connection.request(method, self.prefix + path, body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def search(self, **headers: str) -> Answer:
        """Ask for something that is in the database, as a page does."""
        body = json.dumps({"max_results": 5}).encode()
        return self.ask("POST", "/ajax-api/2.0/mlflow/experiments/search", body, **headers)


class _Tls(http.client.HTTPSConnection):
    """TLS to the loopback, in the name of HOST."""

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        context: ssl.SSLContext = self._context  # type: ignore[attr-defined]
        self.sock = context.wrap_socket(self.sock, server_hostname=HOST)


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for HOST that vouches for itself; return it and its key."""
    made = folder / "tls.crt", folder / "tls.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"),
            *("-out", str(made[0]), "-keyout", str(made[1])),
        ],
        check=True,
        capture_output=True,
    )
    return made


def nginx_configuration(site: Site, key: Path | None) -> str:
    """Return the configuration that ingress-nginx's annotations on the Ingress stand for."""
    notes: dict[str, str] = site.ingress["metadata"]["annotations"]
    spec = site.ingress["spec"]
    names = " ".join(rule["host"] for rule in spec["rules"])
    assert bool(spec.get("tls")) == bool(key)
    tls = f"ssl_certificate {site.certificate}; ssl_certificate_key {key};" if key else ""
    listen = f"listen 127.0.0.1:{site.port}{' ssl' if key else ''}"
    upstream = f"http://127.0.0.1:{site.server_port}"
    paths = {path["path"] for rule in spec["rules"] for path in rule["http"]["paths"]}
    locations = "\n".join(
        f"""
        location {path} {{
            client_max_body_size {notes[NGINX + "proxy-body-size"]};
            proxy_read_timeout {notes[NGINX + "proxy-read-timeout"]}s;
            proxy_send_timeout {notes[NGINX + "proxy-send-timeout"]}s;
            proxy_request_buffering {notes[NGINX + "proxy-request-buffering"]};
            proxy_buffering {notes[NGINX + "proxy-buffering"]};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_pass {upstream};
        }}"""
        for path in sorted(paths)
    )
    # A controller answers 404 itself to a name that it does not know. This one lets it through, as
    # a load balancer would, to see what MLflow says.
    stranger = f"server {{ {listen} default_server; {tls} location / {{ proxy_pass {upstream};"
    stranger += " proxy_set_header Host $http_host; } }"
    temporary = "\n".join(
        f"    {name}_temp_path {site.folder}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Its workers are to enter a folder that belongs to whoever runs the tests.
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""
{user}
daemon off;
pid {site.folder}/nginx.pid;
error_log {site.folder}/nginx.log;
worker_processes 1;
events {{}}
http {{
    access_log off;
{temporary}
    {stranger}
    server {{
        {listen};
        server_name {names};
        {tls}
        {locations}
    }}
}}
"""


@contextlib.contextmanager
def running(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the end, and end it in order."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            **options,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()


def answers(port: int, path: str) -> bool:
    """Tell whether a server on loopback answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def mlflow(site: Site, postgres: Postgres, database: str) -> Iterator[None]:
    """Run the server that the render describes, on this machine's database and folders."""
    server = kustomization.container(
        kustomization.find(site.objects, "Deployment", "mlflow"), "mlflow"
    )
    arguments = shlex.split(" ".join(server["args"]).replace("5000", str(site.server_port)))
    environment = {
        **site.environment(),
        **postgres.environment(database),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgres.port),
        # The bundled Postgres has TLS; this one listens on loopback only, and has none.
        "PGCHANNELBINDING": "disable",
        "MLFLOW_ARTIFACTS_DESTINATION": str(site.folder / "artifacts"),
        "MLFLOW_WORKERS": "1",
        # In a cluster the proxy is another machine, whose headers MLflow does not trust.
        "FORWARDED_ALLOW_IPS": "192.0.2.1",
    }
    command = [PYTHON, "-m", "mlflow", "server", *arguments]
    log = site.folder / "mlflow.log"
    with running(command, log, env=environment, cwd=site.folder) as process:
        health = server["readinessProbe"]["httpGet"]["path"]

        def up() -> bool:
            assert process.poll() is None, log.read_text()
            return answers(site.server_port, health)

        wait_until(up, 180)
        yield


@contextlib.contextmanager
def nginx(site: Site, key: Path | None = None) -> Iterator[Site]:
    """Run nginx before the server."""
    file = site.folder / "nginx.conf"
    file.write_text(nginx_configuration(site, key), encoding="utf-8")
    command = [tool("nginx"), "-p", str(site.folder), "-e", str(site.folder / "log"), "-c"]
    with running([*command, str(file)], site.folder / "out") as process:

        def up() -> bool:
            assert process.poll() is None, (site.folder / "out").read_text()
            with contextlib.suppress(OSError):
                return site.ask("GET", "/health").status == 200
            return False

        wait_until(up, 60)
        yield site


@pytest.fixture(scope="session")
def database_server() -> Iterator[Postgres]:
    """Start a Postgres with nothing in it."""
    if not Path(PYTHON).exists():
        unprepared(PYTHON)
    with server_folder() as folder:
        server = Server(folder)
        server.initialise()
        server.start()
        try:
            yield Postgres(server)
        finally:
            server.stop("immediate")


@pytest.fixture(scope="session")
def database(database_server: Postgres) -> str:
    """Return an initialised database."""
    name = database_server.create()
    done = database_server.helper("wait", name, python=PYTHON)
    assert done.state == "at_head", done.stderr
    return name


@pytest.fixture(scope="session")
def plain(
    database_server: Postgres, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Two names, and all else as the component has it."""
    folder = tmp_path_factory.mktemp("plain")
    objects = rendered(folder / "render", hosts=[HOST, "tracking.example.org"])
    site = Site(folder, objects, free_port(), free_port())
    with mlflow(site, database_server, database), nginx(site):
        yield site


@pytest.fixture(scope="session")
def hasty(plain: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same server behind a proxy that has little patience and takes little."""
    folder = tmp_path_factory.mktemp("hasty")
    objects = rendered(folder / "render", hosts=[HOST], proxy_timeout=1, upload_limit="4Mi")
    with nginx(Site(folder, objects, free_port(), plain.server_port)) as site:
        yield site


@pytest.fixture(scope="session")
def secure(
    database_server: Postgres, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """TLS and a prefix."""
    folder = tmp_path_factory.mktemp("secure")
    objects = rendered(
        folder / "render", hosts=[HOST], tls_secret="mlflow-tls", static_prefix="/tracking"
    )
    made, key = certificate(folder)
    site = Site(folder, objects, free_port(), free_port(), made)
    with mlflow(site, database_server, database), nginx(site, key):
        yield site
