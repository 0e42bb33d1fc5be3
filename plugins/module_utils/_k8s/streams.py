# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands in containers, and ports of pods, through the API server."""

from __future__ import annotations

import contextlib
import re
import threading
import time
import typing as t

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import (
    ApiError,
    first_line,
    status_message,
)

with contextlib.suppress(ImportError):  # reported by require_libraries
    import kubernetes

# Seconds to connect, and between two signs of life.
STREAM_TIMEOUT = 20.0


class Streams:
    """What of a client goes over a stream of its own; the rest of the client is in client.py."""

    configuration: t.Any
    requests: int
    _lock: threading.Lock

    def port_forward(self, namespace: str, pod: str, port: int) -> t.Any:
        """Return a connected socket to a pod's port, tunnelled through the API server."""
        from kubernetes.stream import portforward

        core = self._stream_client()
        try:
            forward = portforward(
                core.connect_get_namespaced_pod_portforward,
                pod,
                namespace,
                ports=str(port),
            )
        except Exception as error:  # websocket-client and the client raise unrelated types
            raise _stream_error(error, "pods/portforward") from error
        tunnel = forward.socket(port)
        tunnel.setblocking(True)
        return tunnel

    def open_session(
        self, namespace: str, pod: str, container: str, command: list[str], stdin: bool
    ) -> t.Any:
        """Start a command in a container, to talk with it; the caller reads and writes."""
        from kubernetes.stream import stream

        core = self._stream_client()
        try:
            return stream(
                core.connect_get_namespaced_pod_exec,
                pod,
                namespace,
                container=container,
                command=command,
                stderr=True,
                stdin=stdin,
                stdout=True,
                tty=False,
                _preload_content=False,
            )
        except Exception as error:  # websocket-client and the client raise unrelated types
            raise _stream_error(error, "pods/exec") from error

    def execute(
        self,
        namespace: str,
        pod: str,
        container: str,
        command: list[str],
        seconds: float,
        stdin: str = "",
    ) -> tuple[int, str, str]:
        """Run a command in a container; return its exit code, stdout and stderr.

        What is given as standard input must say itself where it ends: it is not closed.
        """
        end = time.monotonic() + seconds
        session = self.open_session(namespace, pod, container, command, bool(stdin))
        try:
            if stdin:
                session.write_stdin(stdin)
            while session.is_open() and time.monotonic() < end:
                session.update(timeout=min(1.0, max(0.0, end - time.monotonic())))
            finished = not session.is_open()
            output = session.read_stdout(timeout=0)
            errors = session.read_stderr(timeout=0)
            code = session.returncode if finished else None
            session.close()
        except Exception as error:  # websocket-client and the client raise unrelated types
            raise _stream_error(error, "pods/exec") from error
        if not finished:
            raise ApiError(
                0, f"the command took longer than {seconds:.0f} s", "create", "pods/exec"
            )
        return (1 if code is None else code), output, errors

    def _stream_client(self) -> t.Any:
        """Return a client for one stream, and count the request.

        The library exchanges a client's methods while it opens a stream, so that two at the same
        time must not share one. Exec and port-forward take no time limit: they get one here.
        """
        import websocket

        with self._lock:
            self.requests += 1
        websocket.setdefaulttimeout(STREAM_TIMEOUT)
        return kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(self.configuration))


def _stream_error(error: BaseException, resource: str) -> ApiError:
    """Turn an error of exec or port-forward into an ApiError with the server's own words."""
    if isinstance(error, ApiError):
        return error
    status = getattr(error, "status", None) or getattr(error, "status_code", None) or 0
    message = getattr(error, "reason", None) or first_line(error)
    body = getattr(error, "body", None) or getattr(error, "resp_body", None)
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    if body:
        message = status_message(body) or message
    text = str(message)
    # websocket-client puts the answer into its message: "Handshake status 403 … -+-+- {…}"
    handshake = re.match(r"Handshake status (\d{3})", text)
    if handshake:
        status = int(handshake[1])
        text = status_message(text.rpartition("-+-+-")[2].strip()) or text
    return ApiError(int(status), first_line(Exception(text)), "create", resource)
