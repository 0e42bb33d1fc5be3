# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one adapter over kubernetes.core and the Kubernetes client.

kubernetes.core promises no stability for its module utilities, so nothing else in this collection
imports them. What is used here is checked to exist, and the collection's dependency has an upper
bound (see galaxy.yml). Every request has a time limit and is counted.
"""

from __future__ import annotations

import email.utils
import gc
import json
import re
import signal
import socket
import threading
import time
import traceback
import typing as t
import urllib.parse

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import Kind

IMPORT_ERROR: str | None = None
try:
    from ansible_collections.kubernetes.core.plugins.module_utils import args_common
    from ansible_collections.kubernetes.core.plugins.module_utils.k8s.client import (
        _create_auth_spec,
        _create_configuration,
        _create_headers,
    )

    AUTH_ARG_SPEC: dict[str, t.Any] = args_common.AUTH_ARG_SPEC
except ImportError:  # pragma: no cover - reported by require_libraries
    AUTH_ARG_SPEC = {}
    IMPORT_ERROR = traceback.format_exc()

try:
    import kubernetes
    import urllib3
    import urllib3.exceptions
except ImportError:  # pragma: no cover - reported by require_libraries
    IMPORT_ERROR = IMPORT_ERROR or traceback.format_exc()

# Seconds to open a connection, and to answer an ordinary request.
CONNECT_TIMEOUT = 5.0
REQUEST_TIMEOUT = 20.0


class ApiError(Exception):
    """The API server answered with an error, or could not be reached (status 0)."""

    def __init__(
        self,
        status: int,
        message: str,
        verb: str = "",
        resource: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.verb = verb
        self.resource = resource
        self.retry_after = retry_after


class CredentialsError(Exception):
    """The connection options do not make a usable client."""


def require_libraries(module: t.Any) -> None:
    """End the module with one clear line when kubernetes.core or the Python client is missing."""
    if IMPORT_ERROR is not None:
        module.fail_json(
            msg="This module needs the collection kubernetes.core (>= 5.0.0, < 7.0.0) on the "
            "controller, and the Python library kubernetes (>= 24.2.0) on the host it runs on.",
            exception=IMPORT_ERROR,
        )


class Api:
    """A small client of the Kubernetes API: lists, watches, logs, exec and port-forward."""

    def __init__(
        self, auth: dict[str, t.Any], clock: t.Callable[[], float] = time.monotonic
    ) -> None:
        """Take kubernetes.core's authentication options; what is None comes from K8S_AUTH_*."""
        self._auth = auth
        self._now = clock
        self._lock = threading.Lock()
        self.requests = 0
        self._server_time: tuple[float, float] | None = None
        _end_in_order()
        # What the libraries consist of is never garbage. When Python ends it would be searched for
        # some, a tenth of a second and more, while whoever waits for this process waits.
        gc.freeze()
        self._connect()

    def _connect(self) -> None:
        try:
            self.configuration = _create_configuration(_create_auth_spec(None, **self._auth))
            # Retries are this engine's business: the library's would hide an outage.
            self.configuration.retries = False
            # Older clients do not have it, nor do they look for it.
            if getattr(self.configuration, "socket_options", None) is None:
                self.configuration.socket_options = _keepalive_options()
            self._headers = {"Accept": "application/json"}
            self._client = kubernetes.client.ApiClient(self.configuration)
            self._headers.update(_create_headers(None, **self._auth))
            self._pool = self._client.rest_client.pool_manager
        except Exception as error:  # the client raises a dozen unrelated types here
            raise CredentialsError(
                f"No connection to a Kubernetes cluster can be set up: {_first_line(error)}"
            ) from error

    def reload_credentials(self) -> None:
        """Read the credentials again (a token that was rotated, an exec plugin)."""
        self._connect()

    @property
    def host(self) -> str:
        """The API server's address."""
        return str(self.configuration.host)

    def server_wall(self, now: float) -> float:
        """Return the API server's wall clock, as far as its answers told it, at monotonic now."""
        if self._server_time is None:
            return time.time()
        wall, at = self._server_time
        return wall + now - at

    def _request_headers(self) -> list[tuple[str, str]]:
        """Return the headers of a request, with credentials that are fresh."""
        pairs: list[tuple[str, str]] = []
        for name, value in self._headers.items():
            for one in value if isinstance(value, list) else [value]:
                pairs.append((name, str(one)))
        for name, value in self._client.default_headers.items():
            pairs.append((str(name), str(value)))
        for setting in self.configuration.auth_settings().values():
            if setting["in"] == "header" and setting["value"]:
                pairs.append((setting["key"], setting["value"]))
        return pairs

    def _open(
        self,
        path: str,
        query: dict[str, t.Any],
        verb: str,
        resource: str,
        read_timeout: float,
    ) -> t.Any:
        """Send a GET and return the open response, or raise ApiError."""
        with self._lock:
            self.requests += 1
        url = self.host + path
        if query:
            url += "?" + urllib.parse.urlencode(query)
        headers = urllib3.HTTPHeaderDict()
        for name, value in self._request_headers():
            headers.add(name, value)
        try:
            response = self._pool.request(
                "GET",
                url,
                headers=headers,
                preload_content=False,
                retries=False,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=read_timeout),
            )
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(0, _unreachable(self.host, error), verb, resource) from error
        self._note_time(response.headers.get("Date"))
        if response.status >= 400:
            try:
                body = response.read(65536).decode("utf-8", "replace")
            except (urllib3.exceptions.HTTPError, OSError):
                body = ""
            finally:
                response.release_conn()
            raise ApiError(
                response.status,
                _status_message(body) or str(response.reason or response.status),
                verb,
                resource,
                _seconds(response.headers.get("Retry-After")),
            )
        return response

    def _note_time(self, date: str | None) -> None:
        parsed = email.utils.parsedate_tz(date) if date else None
        if parsed is not None:
            self._server_time = (float(email.utils.mktime_tz(parsed)), self._now())

    def _read(self, path: str, query: dict[str, t.Any], verb: str, resource: str) -> bytes:
        response = self._open(path, query, verb, resource, REQUEST_TIMEOUT)
        try:
            return bytes(response.read())
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(0, _unreachable(self.host, error), verb, resource) from error
        finally:
            response.release_conn()

    def get(self, path: str, resource: str = "", verb: str = "get") -> dict[str, t.Any]:
        """Return one JSON document of the API."""
        return _object(self._read(path, {}, verb, resource), verb, resource)

    def list_all(self, kind: Kind, namespace: str | None) -> tuple[list[dict[str, t.Any]], str]:
        """Return all objects of a kind and the resourceVersion that a watch continues from."""
        items: list[dict[str, t.Any]] = []
        token = ""
        while True:
            query = {"limit": 500, "continue": token} if token else {"limit": 500}
            body = self._read(kind.path(namespace), query, "list", str(kind))
            page = _object(body, "list", str(kind))
            items.extend(page.get("items") or [])
            metadata = page.get("metadata") or {}
            token = metadata.get("continue") or ""
            if not token:
                break
        for item in items:
            item.setdefault("kind", kind.kind)
            item.setdefault("apiVersion", kind.api_version)
        return items, str(metadata.get("resourceVersion") or "")

    def watch(
        self,
        kind: Kind,
        namespace: str | None,
        version: str,
        seconds: float,
        silence: float,
    ) -> t.Iterator[dict[str, t.Any]]:
        """Yield watch events from a resourceVersion on, until the server ends the stream.

        The server ends it after C(seconds); the client gives up after C(silence) seconds without
        a byte, which is how a connection whose other end is gone is noticed.
        """
        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": max(1, int(seconds)),
        }
        response = self._open(kind.path(namespace), query, "watch", str(kind), silence)
        # The first, empty item says that the stream is open.
        yield {}
        buffer = b""
        try:
            for chunk in response.stream(65536, decode_content=True):
                buffer += chunk
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    if line.strip():
                        yield _object(line, "watch", str(kind))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(0, _unreachable(self.host, error), "watch", str(kind)) from error
        finally:
            response.close()

    def find_kind(self, api_version: str, kind: str) -> Kind:
        """Look up how the API spells a kind; raise ApiError (404) when it does not serve it."""
        root = "/apis/" if "/" in api_version else "/api/"
        listing = self.get(root + api_version, kind)
        for entry in listing.get("resources") or []:
            names = {str(entry.get(key, "")).lower() for key in ("kind", "name", "singularName")}
            if "/" not in entry.get("name", "") and kind.lower() in names:
                return Kind(api_version, entry["kind"], entry["name"], bool(entry["namespaced"]))
        raise ApiError(404, f"the cluster has no kind {kind} in {api_version}", "get", kind)

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        lines: int,
        previous: bool = False,
    ) -> list[str]:
        """Return the last lines that a container wrote (its previous instance's if asked)."""
        query: dict[str, t.Any] = {
            "container": container,
            "tailLines": lines,
            "limitBytes": 262144,
        }
        if previous:
            query["previous"] = "true"
        path = f"{_pod_path(namespace, pod)}/log"
        text = self._read(path, query, "get", "pods/log").decode("utf-8", "replace")
        return text.splitlines()

    def _stream_client(self) -> t.Any:
        """Return a client for one stream.

        The library exchanges a client's methods while it opens a stream, so that two at the same
        time must not share one.
        """
        return kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(self.configuration))

    def port_forward(self, namespace: str, pod: str, port: int) -> t.Any:
        """Return a connected socket to a pod's port, tunnelled through the API server."""
        with self._lock:
            self.requests += 1
        from kubernetes.stream import portforward

        _bound_websockets()
        core = self._stream_client()
        try:
            forward = portforward(
                core.connect_get_namespaced_pod_portforward,
                pod,
                namespace,
                ports=str(port),
            )
        except Exception as error:  # websocket-client and the client raise unrelated types
            raise _stream_error(error, "create", "pods/portforward") from error
        tunnel = forward.socket(port)
        tunnel.setblocking(True)
        return tunnel

    def open_session(
        self, namespace: str, pod: str, container: str, command: list[str], stdin: bool
    ) -> t.Any:
        """Start a command in a container, to talk with it; the caller reads and writes."""
        with self._lock:
            self.requests += 1
        from kubernetes.stream import stream

        _bound_websockets()
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
            raise _stream_error(error, "create", "pods/exec") from error

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
        with self._lock:
            self.requests += 1
        from kubernetes.stream import stream

        _bound_websockets()
        core = self._stream_client()
        end = time.monotonic() + seconds
        try:
            session = stream(
                core.connect_get_namespaced_pod_exec,
                pod,
                namespace,
                container=container,
                command=command,
                stderr=True,
                stdin=bool(stdin),
                stdout=True,
                tty=False,
                _preload_content=False,
            )
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
            raise _stream_error(error, "create", "pods/exec") from error
        if not finished:
            raise ApiError(
                0,
                f"the command took longer than {seconds:.0f} s",
                "create",
                "pods/exec",
            )
        return (1 if code is None else code), output, errors


def _end_in_order() -> None:
    """Let this process run its clean-up when it is told to end.

    The kubernetes client writes a kubeconfig's certificates and keys to temporary files, and
    removes them when Python ends, which a signal alone does not let it do.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, _frame: t.Any) -> t.NoReturn:
    # A second signal must not interrupt the clean-up.
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _pod_path(namespace: str, pod: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods/{pod}"


def _bound_websockets() -> None:
    """Give exec and port-forward, which take no time limit, one for connecting and reading."""
    import websocket

    websocket.setdefaulttimeout(REQUEST_TIMEOUT)


def _keepalive_options() -> list[tuple[int, int, int]]:
    """Let the kernel notice within about half a minute that the other end is gone."""
    options = [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    ]
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


def _object(body: bytes, verb: str, resource: str) -> dict[str, t.Any]:
    try:
        value = json.loads(body)
    except ValueError as error:
        raise ApiError(0, "the API server's answer is not JSON", verb, resource) from error
    if not isinstance(value, dict):
        raise ApiError(0, "the API server's answer is not an object", verb, resource)
    return value


def _status_message(body: str) -> str:
    """Return the message of a Status object, or the start of any other text."""
    try:
        value = json.loads(body)
    except ValueError:
        return body.strip()[:300]
    return str(value.get("message") or "") if isinstance(value, dict) else ""


def _seconds(value: str | None) -> float | None:
    try:
        return float(value) if value else None
    except ValueError:
        return None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _unreachable(host: str, error: BaseException) -> str:
    """Say in one line why the API server did not answer, without the library's own wrapping."""
    text = _first_line(getattr(error, "reason", None) or error)
    # "<urllib3.connection.HTTPSConnection object at 0x…>: Failed to … : [Errno 111] …"
    text = text.split("object at 0x")[-1].split(": ", 1)[-1] if "object at 0x" in text else text
    return f"the API server {host} does not answer: {text}"


def _stream_error(error: BaseException, verb: str, resource: str) -> ApiError:
    """Turn an error of exec or port-forward into an ApiError with the server's own words."""
    if isinstance(error, ApiError):
        return error
    status = getattr(error, "status", None) or getattr(error, "status_code", None) or 0
    message = getattr(error, "reason", None) or _first_line(error)
    body = getattr(error, "body", None) or getattr(error, "resp_body", None)
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    if body:
        message = _status_message(body) or message
    text = str(message)
    # websocket-client puts the answer into its message: "Handshake status 403 … -+-+- {…}"
    handshake = re.match(r"Handshake status (\d{3})", text)
    if handshake:
        status = int(handshake[1])
        text = _status_message(text.rpartition("-+-+-")[2].strip()) or text
    return ApiError(int(status), _first_line(Exception(text)), verb, resource)
