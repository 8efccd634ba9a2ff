"""What the servers serve.  Imported in every worker, so nothing heavy is imported here."""

from __future__ import annotations

import os
import socket
import socketserver
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

SLOW_S = 3.0  # what the slow request takes


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The smallest WSGI application: what is measured is everything around it."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"Hello, world!"]


def mixed(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """``/slow`` says that it has begun, and takes its time; all else is answered at once, with the worker's pid."""
    if environ["PATH_INFO"] == "/slow":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return slow()
    pid = b"%d" % os.getpid()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(pid)))])
    return [pid]


def slow() -> Iterator[bytes]:
    yield b"begun"
    time.sleep(SLOW_S)  # the long request itself: nothing is waited for
    yield b", done"


def tell_pid(conn: socket.socket, address: Any) -> None:
    """A raw handler that needs no word of the client's."""
    conn.sendall(b"%d" % os.getpid())


def echo(conn: socket.socket, address: Any) -> None:
    """One line, as a function."""
    conn.sendall(conn.recv(4096))


class Echo(socketserver.StreamRequestHandler):
    """One line, as the standard library's users write it."""

    def handle(self) -> None:
        self.wfile.write(self.rfile.readline())
