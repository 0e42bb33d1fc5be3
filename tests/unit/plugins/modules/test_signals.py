# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A wait that is told to end: it does at once, and leaves no child and no file behind."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import typing as t

import pytest
import yaml
from ansible_collections.mlops.mlflow.tests.unit.plugins.fake_api import FakeApi

# As Ansible starts a module, with its arguments.
STARTER = """
import json, sys
from ansible_collections.mlops.mlflow.tests.unit.plugins.helpers.any_core import patch_module_args
from ansible_collections.mlops.mlflow.plugins.modules import wait_for_rollout
with patch_module_args(json.loads(sys.argv[1])):
    wait_for_rollout.main()
"""
DEPLOYMENTS = "/apis/apps/v1/namespaces/ns/deployments"
PODS = "/api/v1/namespaces/ns/pods"


@pytest.fixture
def pair(tmp_path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """A certificate and its key, for both ends."""
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
    subprocess.run(
        [*command.split(), "-subj", "/CN=localhost", "-out", certificate, "-keyout", key],
        check=True,
        capture_output=True,
        timeout=20,
    )
    return certificate, key


@pytest.fixture
def server(pair: tuple[pathlib.Path, pathlib.Path]) -> t.Iterator[FakeApi]:
    """A server, over TLS, on which nothing becomes ready."""
    server = FakeApi(pair)
    yield server
    server.close()


def kubeconfig(
    path: pathlib.Path, url: str, pair: tuple[pathlib.Path, pathlib.Path]
) -> pathlib.Path:
    """Write a kubeconfig whose certificate and key the client puts into temporary files."""
    certificate, key = (base64.b64encode(one.read_bytes()).decode() for one in pair)
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [
                    {"name": "c", "cluster": {"server": url, "insecure-skip-tls-verify": True}}
                ],
                "users": [
                    {
                        "name": "u",
                        "user": {"client-certificate-data": certificate, "client-key-data": key},
                    }
                ],
            }
        ),
        encoding="utf-8",
    )
    return path


def children(pid: int) -> str:
    """Return the children of a process."""
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_told_to_end(
    server: FakeApi,
    pair: tuple[pathlib.Path, pathlib.Path],
    tmp_path: pathlib.Path,
    number: signal.Signals,
) -> None:
    """At once, with the certificates and keys removed."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    arguments = {
        "kubeconfig": str(kubeconfig(tmp_path / "config", server.url, pair)),
        "resources": [{"kind": "Deployment", "name": "web", "namespace": "ns"}],
        "tolerances": {"not_found": 60},
        # The process ends by itself should this test fail, and only then.
        "timeout": 60,
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("K8S_AUTH_")}
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, json.dumps(arguments)],
        env={**environment, "TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        end = time.monotonic() + 30
        while not (server.streams.get(PODS) and server.streams.get(DEPLOYMENTS)):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, "the module did not come to wait"
            time.sleep(0.01)
        assert list(temporary.iterdir()), "the client writes no files any more: drop this test"
        assert children(process.pid) == ""
        process.send_signal(number)
        # A tenth of this on an idle machine. The wait itself, and a request of its, last longer.
        process.wait(10)
        assert process.returncode != 0
    assert list(temporary.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
