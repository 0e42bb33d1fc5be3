# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster that is not there: it answers what preflight asks and writes down every request."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import os
import pathlib
import subprocess
import threading
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import KINDS

ROOT = pathlib.Path(__file__).resolve().parents[2]
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
DEFAULT_CLASS = {
    "metadata": {
        "name": "standard",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    "provisioner": "rancher.io/local-path",
}
TOKEN = "token-of-the-test"
COLLECTIONS = {kind.plural for kind in KINDS.values() if kind.namespaced} | {"controllerrevisions"}


@dataclasses.dataclass
class FakeCluster:
    """What the API server answers, and what it was asked."""

    denied: set[str] = dataclasses.field(default_factory=set)
    is_admin: bool = True
    version: tuple[int, str] = (200, json.dumps({"gitVersion": "v1.37.2"}))
    namespace: dict[str, t.Any] | None = None
    requests: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    # The same with what was sent along, in order: what a request is about, its body may say.
    heard: list[str] = dataclasses.field(default_factory=list)
    url: str = ""

    def writes(self) -> list[tuple[str, str]]:
        """Return every request that could have changed something."""
        return [
            (method, path)
            for method, path in self.requests
            if method not in ("GET", "HEAD") and path != REVIEWS
        ]

    def answer(self, method: str, path: str, body: dict[str, t.Any]) -> tuple[int, str]:
        """Answer one request."""
        self.requests.append((method, path))
        self.heard.append(f"{method} {path} {json.dumps(body)}")
        if path == "/version":
            return self.version
        if path == REVIEWS:
            return 201, json.dumps({"status": {"allowed": self._allows(body["spec"])}})
        if path.startswith("/api/v1/namespaces/") and path.count("/") == 4 and self.namespace:
            return 200, json.dumps(self.namespace)
        if path == "/apis/storage.k8s.io/v1/storageclasses":
            return 200, json.dumps({"items": [DEFAULT_CLASS]})
        if method == "GET" and path.rpartition("/")[2] in COLLECTIONS:
            # Also of a namespace that is not there.
            return 200, json.dumps({"metadata": {"resourceVersion": "1"}, "items": []})
        return 404, json.dumps({"kind": "Status", "code": 404, "message": "not found"})

    def _allows(self, spec: dict[str, t.Any]) -> bool:
        asked = spec["resourceAttributes"]
        if asked["resource"] == "*":
            return self.is_admin
        name = "/".join(part for part in (asked["resource"], asked.get("subresource")) if part)
        return f"{asked['verb']} {name}" not in self.denied


class _Handler(http.server.BaseHTTPRequestHandler):
    cluster: FakeCluster

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        path = self.path.split("?", 1)[0]
        status, text = self.cluster.answer(
            self.command, path, json.loads(body) if body.startswith(b"{") else {}
        )
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def log_message(self, format: str, *args: object) -> None:  # the base class's signature
        pass


@contextlib.contextmanager
def serve(fake: FakeCluster) -> t.Iterator[FakeCluster]:
    """Serve a fake cluster on the loopback."""
    handler = type("Handler", (_Handler,), {"cluster": fake})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()


def kubeconfig(url: str, **changes: t.Any) -> str:
    """Return a kubeconfig for the URL; it is JSON, which is YAML."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": url}}],
        "users": [{"name": "fake", "user": {"token": TOKEN}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
    }
    return json.dumps({**document, **changes})


@dataclasses.dataclass
class Outcome:
    """How a run of the playbook ended."""

    status: int
    output: str


class Site:
    """Runs site.yml against the fake cluster, as a person would."""

    def __init__(self, cluster: FakeCluster, folder: pathlib.Path) -> None:
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
            "ANSIBLE_REMOTE_TEMP": str(folder / "tmp"),
            "KUBECONFIG": str(folder / "kubeconfig"),
        }
        (folder / "kubeconfig").write_text(kubeconfig(cluster.url), encoding="utf-8")

    def write(self, name: str, text: str) -> str:
        """Write a file into the test's folder and return its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    def run(
        self,
        inventory: str,
        variables: dict[str, t.Any],
        *options: str,
        playbook: str = "site.yml",
        timeout: float = 300,
    ) -> Outcome:
        """Run site.yml, or another playbook, with the variables on top of an inventory."""
        given = self.write("variables.json", json.dumps(variables))
        command = ["ansible-playbook", playbook, "-e", f"@{given}", *options]
        if inventory:
            # One of the repository's, or any other by its path.
            command += ["-i", f"inventories/{inventory}" if "/" not in inventory else inventory]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return Outcome(done.returncode, done.stdout + done.stderr)
