# Copyright: (c) 2026, mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A small API server over real HTTP: lists, watches, logs, and every kind of trouble on demand."""

from __future__ import annotations

import contextlib
import http.server
import json
import pathlib
import queue
import socket
import ssl
import struct
import threading
import typing as t
import urllib.parse

END = "end"
RESET = "reset"
SILENT = "silent"


class FakeApi:
    """Holds objects by list path, and pushes watch events to whoever watches."""

    def __init__(self, tls: tuple[pathlib.Path, pathlib.Path] | None = None, port: int = 0) -> None:
        """Serve over TLS with a certificate and key if they are given; port 0 is any free one."""
        self.objects: dict[str, dict[str, t.Any]] = {}
        self.version = 100
        self.requests: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.answers: dict[tuple[str, str], list[tuple[int, dict[str, str], t.Any]]] = {}
        self.always: dict[tuple[str, str], tuple[int, t.Any]] = {}
        self.logs: dict[str, str] = {}
        self.streams: dict[str, list[queue.SimpleQueue[t.Any]]] = {}
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            """Answers one request."""

            protocol_version = "HTTP/1.1"
            wbufsize = -1
            # An event that waits for the last one's acknowledgement comes 40 ms late.
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    outer.answer(self)

            def log_message(self, format: str, *args: t.Any) -> None:
                """Stay silent."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        if tls:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    # --- What a test does ------------------------------------------------------------------------

    def put(self, path: str, item: dict[str, t.Any], event: str = "MODIFIED") -> None:
        """Store an object and tell the watchers."""
        with self._lock:
            self.version += 1
            item["metadata"]["resourceVersion"] = str(self.version)
            known = self.objects.setdefault(path, {})
            if event == "DELETED":
                known.pop(item["metadata"]["name"], None)
            else:
                known[item["metadata"]["name"]] = item
            text = json.dumps({"type": event, "object": item})
            for stream in self.streams.get(path, []):
                stream.put(text)

    def disturb(self, path: str, how: str) -> None:
        """End, reset or silence the watches of a path."""
        for stream in self.streams.get(path, []):
            stream.put((how,))

    def send(self, path: str, event: dict[str, t.Any]) -> None:
        """Send any event to the watches of a path."""
        for stream in self.streams.get(path, []):
            stream.put(json.dumps(event))

    def next_answer(
        self, verb: str, path: str, status: int, body: t.Any = None, **headers: str
    ) -> None:
        """Answer the next request of this verb and path with a status."""
        self.answers.setdefault((verb, path), []).append((status, headers, body))

    def count(self, verb: str, path: str) -> int:
        """Return how many lists or watches of a path were asked for."""
        return sum(
            1
            for where, query, _headers in self.requests
            if where == path and (verb == "watch") == ("watch" in query)
        )

    # --- What the server does --------------------------------------------------------------------

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Answer a request."""
        parts = urllib.parse.urlsplit(handler.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        verb = "watch" if "watch" in query else "list"
        self.requests.append((parts.path, query, dict(handler.headers)))
        planned = self.answers.get((verb, parts.path))
        if planned:
            status, headers, body = planned.pop(0)
            self._send(handler, status, body or _status(status), headers)
        elif (verb, parts.path) in self.always:
            status, body = self.always[verb, parts.path]
            self._send(handler, status, body or _status(status), {})
        elif parts.path.endswith("/log"):
            key = parts.path.split("/")[-2] + ("?previous" if "previous" in query else "")
            if key in self.logs:
                self._send(handler, 200, self.logs[key], {})
            else:
                self._send(handler, 400, _status(400), {})
        elif verb == "watch":
            self._watch(handler, parts.path, int(query["resourceVersion"]))
        else:
            with self._lock:
                items = list(self.objects.get(parts.path, {}).values())
                body = {"metadata": {"resourceVersion": str(self.version)}, "items": items}
            self._send(handler, 200, body, {})

    @staticmethod
    def _send(
        handler: http.server.BaseHTTPRequestHandler,
        status: int,
        body: t.Any,
        headers: dict[str, str],
    ) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def _watch(self, handler: http.server.BaseHTTPRequestHandler, path: str, version: int) -> None:
        stream: queue.SimpleQueue[t.Any] = queue.SimpleQueue()
        with self._lock:
            for item in self.objects.get(path, {}).values():
                if int(item["metadata"].get("resourceVersion", 0)) > version:
                    stream.put(json.dumps({"type": "MODIFIED", "object": item}))
            self.streams.setdefault(path, []).append(stream)
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.flush()
        try:
            self._stream(handler, stream)
        finally:
            self.streams[path].remove(stream)
            handler.close_connection = True

    def _stream(
        self, handler: http.server.BaseHTTPRequestHandler, stream: queue.SimpleQueue[t.Any]
    ) -> None:
        while not self.stopping.is_set():
            try:
                message = stream.get(timeout=0.05)
            except queue.Empty:
                continue
            if message == (END,):
                handler.wfile.write(b"0\r\n\r\n")
                handler.wfile.flush()
                return
            if message == (RESET,):
                linger = struct.pack("ii", 1, 0)
                handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                handler.connection.close()
                return
            if message == (SILENT,):
                self.stopping.wait(30)
                return
            data = message.encode() + b"\n"
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            handler.wfile.flush()


def _status(code: int) -> dict[str, t.Any]:
    return {"kind": "Status", "code": code, "message": f"planned {code}"}
