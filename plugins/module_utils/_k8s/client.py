# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one client of the Kubernetes API, over kubernetes.core's authentication.

kubernetes.core promises no stability for its module utilities, so nothing else in this collection
imports them. What is used here is checked to exist, and the collection's dependency has an upper
bound (see galaxy.yml). Every request has a time limit and is counted.
"""

from __future__ import annotations

import email.utils
import gc
import json
import os
import re
import signal
import socket
import threading
import time
import traceback
import typing as t
import urllib.parse

from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.errors import (
    ApiError,
    CredentialsError,
    first_line,
    status_message,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.kinds import KINDS, POD, Kind
from ansible_collections.mlops.mlflow.plugins.module_utils._k8s.streams import Streams

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

__all__ = ["AUTH_ARG_SPEC", "Answer", "Api", "ApiError", "CredentialsError", "require_libraries"]

# This version of the client reads NO_PROXY and then forgets it. kubernetes.core uses the client too
# for what it applies, and a correction here would not be one there.
FORGETS_NO_PROXY = "34.1.0"

# Seconds to open a connection, and to answer an ordinary request.
CONNECT_TIMEOUT = 5.0
REQUEST_TIMEOUT = 20.0
# The same for a request about a single object, which a person waits for.
OBJECT_CONNECT_TIMEOUT = 3.0
OBJECT_TIMEOUT = 15.0

# For how long to put up with 403 from a server that permitted the same before (seconds).
FIRST_REFUSALS = 5.0

_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class Answer(t.NamedTuple):
    """An HTTP status, the object that came with it, and what the API server warns of."""

    status: int
    body: dict[str, t.Any]
    warnings: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """What the API server says about it, one line."""
        return " ".join(str(self.body.get("message") or f"HTTP {self.status}").split())


def require_libraries(module: t.Any) -> None:
    """End the module with one clear line when kubernetes.core or the Python client is missing."""
    if IMPORT_ERROR is not None:
        module.fail_json(
            msg="This module needs the collection kubernetes.core (>= 6.2.0, < 7.0.0) on the "
            "controller, and the Python library kubernetes (>= 24.2.0) on the host it runs on.",
            exception=IMPORT_ERROR,
        )
    if forgets_no_proxy(kubernetes.__version__, os.environ):
        module.fail_json(
            msg=f"The Python library kubernetes {FORGETS_NO_PROXY} goes through the proxy whatever "
            "NO_PROXY says. Install another version of it, or unset HTTPS_PROXY and HTTP_PROXY."
        )


def forgets_no_proxy(version: str, environ: t.Mapping[str, str]) -> bool:
    """Whether this version of the Kubernetes client would go through a proxy that it must not."""
    present = {name.upper() for name, value in environ.items() if value}
    asked = "NO_PROXY" in present and present & {"HTTPS_PROXY", "HTTP_PROXY"}
    return version == FORGETS_NO_PROXY and bool(asked)


class Api(Streams):
    """A small client of the Kubernetes API: single objects, lists, watches, logs, streams."""

    # Asked before each write, with its path; raises where it must not be made.
    guard: t.Callable[[str], None] | None = None

    def __init__(
        self, auth: dict[str, t.Any], clock: t.Callable[[], float] = time.monotonic
    ) -> None:
        """Take kubernetes.core's authentication options; what is None comes from K8S_AUTH_*."""
        self._auth = auth
        self._now = clock
        self._lock = threading.Lock()
        self.requests = 0
        self._server_time: tuple[float, float] | None = None
        self._kinds = dict(KINDS)
        _end_in_order()
        # What the libraries consist of is never garbage. When Python ends it would be searched for
        # some, a tenth of a second and more, while whoever waits for this process waits.
        gc.freeze()
        self._connect()

    @classmethod
    def of(cls, module: t.Any, params: t.Mapping[str, t.Any] | None = None) -> Api:
        """Take a module's options, or others where some of its own mean something else."""
        require_libraries(module)
        chosen = module.params if params is None else params
        return cls({name: chosen.get(name) for name in AUTH_ARG_SPEC})

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
                f"No connection to a Kubernetes cluster can be set up: {first_line(error)}"
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

    def _headers_with(self, more: dict[str, str]) -> t.Any:
        """Return the headers of a request, with credentials that are fresh."""
        headers = urllib3.HTTPHeaderDict()
        for name, value in {**self._headers, **more}.items():
            for one in value if isinstance(value, list) else [value]:
                headers.add(name, str(one))
        for name, value in self._client.default_headers.items():
            headers.add(str(name), str(value))
        for setting in self.configuration.auth_settings().values():
            if setting["in"] == "header" and setting["value"]:
                headers.add(setting["key"], setting["value"])
        return headers

    def _send(
        self,
        method: str,
        path: str,
        query: t.Mapping[str, t.Any] | None,
        timeout: tuple[float, float],
        more: dict[str, str],
        body: bytes | None = None,
    ) -> t.Any:
        """Send one request, count it, and return the open response."""
        with self._lock:
            self.requests += 1
        response = self._pool.request(
            method,
            self.host + path + (f"?{urllib.parse.urlencode(query)}" if query else ""),
            body=body,
            headers=self._headers_with(more),
            preload_content=False,
            retries=False,
            timeout=urllib3.Timeout(connect=timeout[0], read=timeout[1]),
        )
        self._note_time(response.headers.get("Date"))
        return response

    def before_write(self, path: str = "") -> None:
        """See that a write may be made; also before one that takes another way, as exec."""
        if self.guard is not None:
            self.guard(path)

    def request(
        self,
        method: str,
        path: str,
        body: t.Any = None,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
        read_timeout: float = OBJECT_TIMEOUT,
        accept: str = "application/json",
    ) -> Answer:
        """Make one request; raise ApiError when there is no answer or it is a 401.

        Every other status is the caller's to judge.
        """
        if method != "GET" and "dryRun" not in (query or {}):
            self.before_write(path)
        more = {"Accept": accept, **({} if body is None else {"Content-Type": content_type})}
        data = None if body is None else json.dumps(body).encode()
        limits = (OBJECT_CONNECT_TIMEOUT, read_timeout)
        # An API server that is busy or being replaced misses one request. To ask twice is harmless.
        for again in (True, False) if method == "GET" else (False,):
            try:
                response = self._send(method, path, query, limits, more, data)
                # Reads it all, and gives the connection back to the pool.
                content = response.data
                break
            except (urllib3.exceptions.HTTPError, OSError) as error:
                cut_off = (urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ProtocolError)
                if not (again and isinstance(error, cut_off)):
                    why = f"cannot reach the cluster at {self.host}: {_why(error)}"
                    raise ApiError(0, why) from None
        try:
            answer = json.loads(content or b"{}")
        except ValueError:
            answer = {}
        if response.status == 401:
            raise ApiError(
                401,
                f"the cluster at {self.host} refuses the credentials (401 Unauthorized); have "
                "they expired?",
            )
        return Answer(
            response.status,
            answer if isinstance(answer, dict) else {},
            tuple(_warnings(response.headers)),
        )

    def find(self, path: str, what: str) -> dict[str, t.Any] | None:
        """Return an object, or None where it is not there.

        What cannot be read may be there: raise ApiError, which says what it is and why.
        """
        answer = self.request("GET", path)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise ApiError(0, f"{what} cannot be read: {answer.message}")
        return answer.body

    def items(self, path: str, what: str, selector: str = "") -> list[dict[str, t.Any]]:
        """Return the objects of a collection; raise ApiError where they cannot be listed."""
        query = {"labelSelector": selector} if selector else None
        answer = self.request("GET", path, query=query)
        if answer.status not in (200, 404):
            raise ApiError(0, f"{what} cannot be listed: {answer.message}")
        return answer.body.get("items") or []

    def metadata_of(self, path: str) -> Answer:
        """List the metadata of objects: the values of Secrets never leave the API server so."""
        return self.request("GET", path, accept=_METADATA)

    def _open(
        self,
        path: str,
        query: dict[str, t.Any],
        verb: str,
        resource: str,
        read_timeout: float,
    ) -> t.Any:
        """Send a GET and return the open response, or raise ApiError."""
        try:
            response = self._send("GET", path, query, (CONNECT_TIMEOUT, read_timeout), {})
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(0, _unreachable(self.host, error), verb, resource) from error
        if response.status >= 400:
            try:
                body = response.read(65536).decode("utf-8", "replace")
            except (urllib3.exceptions.HTTPError, OSError):
                body = ""
            finally:
                response.release_conn()
            raise ApiError(
                response.status,
                status_message(body) or str(response.reason or response.status),
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

    def list_all(
        self,
        kind: Kind,
        namespace: str | None,
        keep: t.Callable[[Kind, dict[str, t.Any]], dict[str, t.Any]] | None = None,
    ) -> tuple[list[dict[str, t.Any]], str]:
        """Return all objects of a kind and the resourceVersion that a watch continues from.

        keep takes from each object what is to be kept, page by page: a large namespace is never
        in memory as a whole.
        """
        items: list[dict[str, t.Any]] = []
        token = ""
        while True:
            query = {"limit": 500, "continue": token} if token else {"limit": 500}
            body = self._read(kind.path(namespace), query, "list", str(kind))
            page = _object(body, "list", str(kind))
            found = page.get("items") or []
            items.extend(found if keep is None else [keep(kind, item) for item in found])
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
        if (api_version, kind) in self._kinds:
            return self._kinds[api_version, kind]
        prefix = "/apis/" if "/" in api_version else "/api/"
        answer = self.request("GET", prefix + api_version)
        if answer.status not in (200, 404):
            raise ApiError(answer.status, answer.message, "get", kind)
        for entry in answer.body.get("resources") or []:
            if "/" in entry.get("name", "/"):
                continue
            found = Kind(api_version, entry["kind"], entry["name"], bool(entry["namespaced"]))
            self._kinds[api_version, found.kind] = found
            if kind.lower() in (found.kind.lower(), found.plural, entry.get("singularName")):
                self._kinds[api_version, kind] = found
        if (api_version, kind) not in self._kinds:
            raise ApiError(
                404,
                f"the cluster has no {kind} of {api_version}; is its CRD installed?",
                "get",
                kind,
            )
        return self._kinds[api_version, kind]

    def path_of(self, item: dict[str, t.Any], namespace: str = "") -> str:
        """Return the path of an object."""
        kind = self.find_kind(item["apiVersion"], item["kind"])
        return kind.item(item["metadata"].get("namespace") or namespace, item["metadata"]["name"])

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
        path = f"{POD.item(namespace, pod)}/log"
        text = self._read(path, query, "get", "pods/log").decode("utf-8", "replace")
        return text.splitlines()


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


def _seconds(value: str | None) -> float | None:
    try:
        return float(value) if value else None
    except ValueError:
        return None


def _unreachable(host: str, error: BaseException) -> str:
    """Say in one line why the API server did not answer, without the library's own wrapping."""
    text = first_line(getattr(error, "reason", None) or error)
    # "<urllib3.connection.HTTPSConnection object at 0x…>: Failed to … : [Errno 111] …"
    text = text.split("object at 0x")[-1].split(": ", 1)[-1] if "object at 0x" in text else text
    return f"the API server {host} does not answer: {text}"


def _warnings(headers: t.Any) -> t.Iterator[str]:
    """Yield what the API server warns of: 299 - \"text\", a header each."""
    for header in headers.getlist("Warning"):
        for text in re.findall(r'299 \S+ "((?:[^"\\]|\\.)*)"', header):
            yield re.sub(r"\\(.)", r"\1", text)


def _why(error: Exception) -> str:
    """Return the reason of a failed connection in a few words."""
    text = str(getattr(error, "reason", None) or error)
    for words, meaning in (
        ("refused", "connection refused"),
        ("Name or service not known", "its name cannot be resolved"),
        ("Temporary failure in name resolution", "its name cannot be resolved"),
        ("No address associated", "its name cannot be resolved"),
        ("Failed to resolve", "its name cannot be resolved"),
        ("No route to host", "no route to host"),
        ("Network is unreachable", "the network is unreachable"),
        ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted"),
        ("WRONG_VERSION_NUMBER", "it does not speak TLS"),
        ("SSL", "TLS fails"),
        ("Read timed out", "no answer in time"),
        ("closed connection", "it closed the connection"),
        ("Connection aborted", "it closed the connection"),
        ("reset by peer", "it closed the connection"),
        ("timed out", f"no connection within {OBJECT_CONNECT_TIMEOUT:g} s"),
    ):
        if words in text:
            return meaning
    return type(error).__name__
