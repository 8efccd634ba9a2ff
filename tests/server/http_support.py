"""A connection whose both ends are here: what was sent is in the kernel's buffers, so that one thread can play both parts."""

from __future__ import annotations

import contextlib
import io
import socket
import time
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from typing import Any, NamedTuple

from forkful.server._http import Answered, Exchange, Phase, Service

CLIENT = ("192.0.2.7", 4711)
START: list[tuple[str, str]] = [("Content-Type", "text/plain")]


class Got(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Talk:
    """One connection, served until it is over or nothing is left to be done.

    Args:
        app: what answers.
        service: as `Service` has it.
        ends: the client's and the server's end.
    """

    def __init__(self, app: Any, ends: tuple[socket.socket, socket.socket] | None = None, **service: Any) -> None:
        served = Service(app, "forkful.test", 8080, **service)
        self.exchange = Exchange(served, CLIENT)
        self._linger_s = served.limits.linger
        self.client, self.conn = ends or socket.socketpair()
        self.client.settimeout(10)
        self.conn.settimeout(10)
        self.answers: list[Answered] = []

    def close(self) -> None:
        self.client.close()
        self.conn.close()

    def receive(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.exchange.receive(piece)

    def send(self, data: bytes, *, end: bool = True) -> None:
        with contextlib.suppress(BrokenPipeError):  # the server had its reasons
            self.client.sendall(data)
        if end:
            self.client.shutdown(socket.SHUT_WR)

    def serve(self, keep: Callable[[], bool] = lambda: True, *, most: int = 100) -> None:
        """As a worker does, but for the parking."""
        while (phase := self.exchange.phase) is not Phase.OVER and len(self.answers) < most:
            if phase is Phase.READY:
                self.answers.append(self.exchange.run(self.conn, keep=keep))
            else:
                self.exchange.receive(self.conn.recv(65536))
        if phase is Phase.OVER:
            if self.exchange.lingers:
                self._linger()
            self.conn.close()

    def _linger(self) -> None:
        """As the keeper does."""
        until = time.monotonic() + self._linger_s
        try:
            while (left := until - time.monotonic()) > 0:
                self.conn.settimeout(left)
                if not self.conn.recv(65536):
                    return
        except OSError:
            pass

    def everything(self) -> bytes:
        """What the client gets until the end."""
        return b"".join(iter(lambda: self.client.recv(65536), b""))


@contextlib.contextmanager
def talk(app: Any, **service: Any) -> Iterator[Talk]:
    """A `Talk`, closed at the end."""
    connection = Talk(app, **service)
    try:
        yield connection
    finally:
        connection.close()


def tcp() -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection of TCP, where what is not read when it is closed resets it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        conn, _ = listener.accept()
    client.settimeout(10)
    conn.settimeout(10)
    return client, conn


def ask(app: Any, sent: bytes, *, first: bytes = b"", **service: Any) -> list[Got]:
    """The responses to *sent*, of which *first* has come before the rest."""
    with talk(app, **service) as connection:
        if first:
            connection.receive(first)
        connection.send(sent)
        connection.serve()
        return split(connection.everything())


class _Wire:
    """As a socket, for `HTTPResponse`."""

    def __init__(self, stream: io.BytesIO) -> None:
        self.stream = stream

    def makefile(self, _mode: str) -> io.BytesIO:
        return self.stream


class _Unclosed(io.BytesIO):
    def close(self) -> None:
        pass


def split(data: bytes, method: str = "GET") -> list[Got]:
    """The responses that *data* is, as the standard library's client reads them."""
    stream = _Unclosed(data)
    found = []
    while stream.tell() < len(data):
        response = HTTPResponse(_Wire(stream), method=method)  # type: ignore[arg-type]  # makefile is all it uses
        response.begin()
        found.append(Got(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()))
    return found
