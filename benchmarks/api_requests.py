# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How often is the API server asked in a long wait?"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from typing import IO, Any, cast

from benchmarks.harness import (
    ENVIRONMENT,
    BenchError,
    Ended,
    Object,
    apply,
    deployment,
    module,
    namespaces,
)
from benchmarks.report import Row

# Deployment, ReplicaSet, Pod, volume claims and Events: what a wait for a Deployment follows.
KINDS = 5
# Of its own: others are measured meanwhile.
NAMESPACE = "bench-requests"


class Counter(http.server.ThreadingHTTPServer):
    """A proxy on loopback that counts requests, in front of `kubectl proxy`."""

    daemon_threads = True

    def __init__(self, upstream: int) -> None:
        self.count = 0
        self.upstream = upstream
        super().__init__(("127.0.0.1", 0), Forward)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Forward(http.server.BaseHTTPRequestHandler):
    """Passes one request on, and its answer back as it comes."""

    server: Counter
    # The end of the connection is the end of the answer.
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        # What ours reads once, when the wait has failed, is not the wait.
        self.server.count += "/log?" not in self.path
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=600)
        headers = {name: value for name, value in self.headers.items() if name != "Host"}
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        connection.request(self.command, self.path, body=body, headers=headers)
        answer = connection.getresponse()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError, http.client.HTTPException):
            while piece := answer.read1(65536):
                self.wfile.write(piece)
                self.wfile.flush()
        connection.close()

    do_POST = do_PATCH = do_GET

    def log_message(self, format: str, *arguments: Any) -> None:
        """Stay silent."""


@contextlib.contextmanager
def proxy() -> Iterator[int]:
    """Let kubectl stand in for the API server on loopback; give its port."""
    process = subprocess.Popen(
        ["kubectl", "proxy", "--port=0"], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    try:
        line = cast(IO[str], process.stdout).readline()
        if not line:
            raise BenchError("kubectl proxy does not start")
        yield int(line.strip().rpartition(":")[2])
    finally:
        process.kill()
        process.wait()


def _has_lasted(who: str, wait: Ended, seconds: float) -> None:
    """See that a wait for what never comes ended because its time was up."""
    code = wait.wait(seconds + 120)
    if code == 0 or wait.seconds < seconds:
        raise BenchError(
            f"{who} did not wait: it ended with {code} after {wait.seconds:.0f} s: "
            f"{wait.words()[-500:]}"
        )


def measure(quick: bool) -> list[Row]:
    """Wait with both for the same Deployment, which does not become ready."""
    seconds = 50 if quick else 300
    never: Object = {"readinessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 5}}
    # No kubeconfig: each goes to its own counter.
    bare = {"KUBECONFIG": "", "K8S_AUTH_KUBECONFIG": ""}
    with proxy() as port, namespaces(NAMESPACE):
        mine, theirs = Counter(port), Counter(port)
        apply(deployment("slow", NAMESPACE, **never))
        our_arguments = {
            "namespace": NAMESPACE, "timeout": seconds, "host": mine.url, "api_key": "none",
            "resources": [{"kind": "Deployment", "name": "slow"}],
        }  # fmt: skip
        their_arguments = {
            "kind": "Deployment", "api_version": "apps/v1", "name": "slow",
            "namespace": NAMESPACE, "wait": True, "wait_timeout": seconds,
            "host": theirs.url, "api_key": "none",
        }  # fmt: skip
        our_wait = module("wait_for_rollout", our_arguments, **bare)
        their_wait = Ended(
            ["ansible", "localhost", "-m", "kubernetes.core.k8s_info", "-a",
             json.dumps(their_arguments)],
            **bare,
        )  # fmt: skip
        _has_lasted("wait_for_rollout", our_wait, seconds)
        _has_lasted("kubernetes.core", their_wait, seconds)
        result = json.loads(our_wait.output())
        if (result.get("failure") or {}).get("reason") != "timeout":
            raise BenchError(f"the wait did not last: {result.get('msg')}")
    return [
        Row(
            f"API requests in a wait of {seconds} s",
            "kubernetes.core wait",
            f"≤ 2 for each kind, so ≤ {2 * KINDS}",
            (float(mine.count),),
            (float(theirs.count),),
            mine.count <= 2 * KINDS,
            "requests",
            f"{KINDS} kinds are watched: Deployment, ReplicaSet, Pod, volume claims and Events. "
            "Counted by a proxy; the logs that the report of the failure ends with are not.",
        )
    ]
