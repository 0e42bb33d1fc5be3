"""Host names, origins, prefix, TLS, sizes and time-outs, through a proxy as the Ingress asks."""

from __future__ import annotations

import concurrent.futures
import http.client
import os
import re
import subprocess
from pathlib import Path

import pytest

from ..schema_helper.conftest import PYTHON, Postgres
from .conftest import HOST, Site

MEBI = 2**20
EXPERIMENT = "/api/2.0/mlflow/experiments/get?experiment_id=0"
ARTIFACT = "/api/2.0/mlflow-artifacts/artifacts/{}"

# The name leads to the loopback here; else this is a user's program.
CLIENT = """
import os, pathlib, socket, tempfile
real = socket.getaddrinfo
host = os.environ["TEST_HOST"]
socket.getaddrinfo = lambda name, *more, **options: real(
    "127.0.0.1" if name == host else name, *more, **options
)
import mlflow

mlflow.set_experiment("behind a proxy")
content = bytes(range(256)) * 8192
with tempfile.TemporaryDirectory() as folder, mlflow.start_run() as run:
    mlflow.log_metric("loss", 0.25)
    source = pathlib.Path(folder, "model.bin")
    source.write_bytes(content)
    mlflow.log_artifact(str(source))
assert mlflow.get_run(run.info.run_id).data.metrics == {"loss": 0.25}
path = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="model.bin")
assert pathlib.Path(path).read_bytes() == content
"""


@pytest.mark.parametrize("host", [HOST, "tracking.example.org"])
def test_every_name_that_was_given_is_served(plain: Site, host: str) -> None:
    assert plain.ask("GET", EXPERIMENT, host=host).status == 200


@pytest.mark.parametrize("host", ["evil.example.com", "sub.mlflow.example.org"])
def test_another_name_is_refused(plain: Site, host: str) -> None:
    answer = plain.ask("GET", EXPERIMENT, host=host)
    assert answer.status == 403
    assert b"Invalid Host header" in answer.body


def test_a_page_may_change_things_from_its_own_origin_only(plain: Site, secure: Site) -> None:
    for site in (plain, secure):
        assert site.search(Origin=site.origin).status == 200
        answer = site.search(Origin="https://evil.example.com")
        assert answer.status == 403
        assert b"Cross-origin request blocked" in answer.body
    # What is reached by TLS takes nothing from a page that was not.
    assert secure.search(Origin=secure.origin.replace("https", "http")).status == 403


def test_no_other_page_may_frame_it(plain: Site, secure: Site) -> None:
    for site in (plain, secure):
        headers = site.ask("GET", "/").headers
        assert headers["X-Frame-Options"] == "SAMEORIGIN"
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_pages_and_what_they_load_are_under_the_prefix(secure: Site) -> None:
    page = secure.ask("GET", "/")
    assert page.status == 200
    text = page.body.decode()
    assert "<title>MLflow</title>" in text
    loaded = re.findall(r"(?:src|href)=\"([^\"]+\.(?:js|css))\"", text)
    assert loaded
    for path in loaded:
        # As a browser reads it on a page of that address.
        relative = path.removeprefix("./")
        assert not relative.startswith(("/", "http")), path
        assert secure.ask("GET", f"/{relative}").status == 200, path


@pytest.mark.parametrize("which", ["plain", "secure"])
def test_mlflows_client_logs_a_run_with_a_large_artifact(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Of 2 MB: nginx by itself takes one."""
    site: Site = request.getfixturevalue(which)
    trusted = {"MLFLOW_TRACKING_SERVER_CERT_PATH": str(site.certificate)}
    done = subprocess.run(
        [PYTHON, "-c", CLIENT],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "TEST_HOST": HOST,
            "MLFLOW_TRACKING_URI": site.origin + site.prefix,
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            **(trusted if site.certificate else {}),
        },
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_an_upload_above_the_limit_is_refused_at_the_door(hasty: Site) -> None:
    small, large = bytes(3 * MEBI), bytes(5 * MEBI)
    octets = {"Content-Type": "application/octet-stream"}
    assert hasty.ask("PUT", ARTIFACT.format("small.bin"), small, **octets).status == 200
    assert hasty.ask("GET", ARTIFACT.format("small.bin")).body == small
    assert hasty.ask("PUT", ARTIFACT.format("large.bin"), large, **octets).status == 413
    assert hasty.ask("GET", ARTIFACT.format("large.bin")).status != 200


def test_without_a_limit_any_size_passes(plain: Site) -> None:
    octets = {"Content-Type": "application/octet-stream"}
    answer = plain.ask("PUT", ARTIFACT.format("free.bin"), bytes(32 * MEBI), **octets)
    assert answer.status == 200, answer.body


def test_a_long_request_is_cut_when_the_proxy_was_told_to_and_else_not(
    plain: Site, hasty: Site, database_server: Postgres, database: str
) -> None:
    """The table is locked until the hasty proxy has given up; the other one still waits then."""
    connection = database_server.connect(database)
    connection.autocommit = False
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        try:
            connection.cursor().execute("LOCK TABLE experiments IN ACCESS EXCLUSIVE MODE")
            patient = pool.submit(plain.search)
            assert hasty.search().status == 504
            assert not patient.done()
        finally:
            connection.rollback()
            connection.close()
        assert patient.result(timeout=60).status == 200


def test_tls_ends_at_the_proxy(secure: Site) -> None:
    assert secure.search(Origin=secure.origin).status == 200
    # Plain HTTP on the same port is told so, and not served.
    connection = http.client.HTTPConnection("127.0.0.1", secure.port, timeout=10)
    connection.request("GET", "/tracking/health")
    assert connection.getresponse().status == 400
    connection.close()
