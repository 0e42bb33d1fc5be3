"""A proxy in front of Postgres that sees each statement, and can end things at one of them."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import struct
import threading
from collections.abc import Callable
from typing import Literal

# The helper sends this on each session of a migration as such, and on no other.
MIGRATES = "SET client_connection_check_interval"


@dataclasses.dataclass(frozen=True)
class Point:
    """A moment in a migration: its statement of that number, and when with regard to it.

    before: the server does not get the statement; during: it gets it and no more; after: it has
    answered, but the answer does not arrive.
    """

    statement: int
    when: Literal["before", "during", "after"]


def read_exactly(source: socket.socket, count: int) -> bytes:
    """Return so many bytes, or raise ConnectionError."""
    parts = b""
    while len(parts) < count:
        part = source.recv(count - len(parts))
        if not part:
            raise ConnectionError
        parts += part
    return parts


def read_message(source: socket.socket) -> tuple[bytes, bytes]:
    """Return the next message's type and all its bytes."""
    head = read_exactly(source, 5)
    (length,) = struct.unpack("!I", head[1:])
    return head[:1], head + read_exactly(source, length - 4)


class Proxy:
    """Passes on what clients and server say; `act` is called at the point."""

    def __init__(
        self,
        server_port: int,
        point: Point | None = None,
        act: Callable[[], None] | None = None,
        listen: int = 0,
    ) -> None:
        self.server_port = server_port
        self.point = point
        self.act = act
        # The statements of the migration, in the order in which they came.
        self.statements: list[str] = []
        self.reached = threading.Event()
        # While it is set, clients find nobody there.
        self.away = threading.Event()
        self._guard = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", listen))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_error: object) -> None:
        # Closing alone would not end the thread that accepts.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()

    def hang_up(self) -> None:
        """End every connection."""
        with self._guard:
            sockets, self._open = self._open, set()
        for one in sockets:
            close(one)

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            if self.away.is_set():
                close(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.server_port))
            except OSError:
                close(client)
                continue
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._guard:
                self._open |= {client, server}
            Conversation(self, client, server).start()

    def statement(self, text: str) -> bool:
        """Note a statement of the migration; tell whether it is that of the point."""
        with self._guard:
            self.statements.append(text)
            return self.point is not None and len(self.statements) - 1 == self.point.statement

    def at_the_point(self) -> None:
        """Do what is to be done there; the client gets no further answer."""
        if self.act:
            self.act()
        self.reached.set()


def close(one: socket.socket) -> None:
    """End a connection in both directions."""
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


class Conversation:
    """One client's connection."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.server = server
        self.migrates = False
        self.held_back = threading.Event()

    def start(self) -> None:
        """Pass on in both directions."""
        for target in (self._from_client, self._from_server):
            threading.Thread(target=self._run, args=(target,), daemon=True).start()

    def _run(self, target: Callable[[], None]) -> None:
        try:
            target()
        except (OSError, ConnectionError):
            close(self.client)
            close(self.server)

    def _from_client(self) -> None:
        # The first message has no type. Neither TLS nor GSSAPI is asked for before it.
        head = read_exactly(self.client, 4)
        self.server.sendall(head + read_exactly(self.client, struct.unpack("!I", head)[0] - 4))
        while True:
            kind, message = read_message(self.client)
            if kind == b"Q":
                text = message[5:-1].decode(errors="replace")
                if self.migrates and self.proxy.statement(text):
                    self._come_to_the_point(message)
                    continue
                self.migrates = self.migrates or text.startswith(MIGRATES)
            self.server.sendall(message)

    def _come_to_the_point(self, message: bytes) -> None:
        assert self.proxy.point
        when = self.proxy.point.when
        if when == "after":
            self.held_back.set()
        if when != "before":
            self.server.sendall(message)
        if when != "after":
            self.proxy.at_the_point()

    def _from_server(self) -> None:
        while True:
            kind, message = read_message(self.server)
            if self.held_back.is_set():
                # Ready for the next query: the statement is done, committed if it was a COMMIT.
                if kind == b"Z":
                    self.held_back.clear()
                    self.proxy.at_the_point()
                continue
            self.client.sendall(message)
