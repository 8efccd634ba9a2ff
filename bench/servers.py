"""The servers under test, each as a program of its own, and the clients that ask them."""

from __future__ import annotations

import importlib.metadata
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .runner import ROOT

HOST = "127.0.0.1"
SETTLE_S = 1.0  # for all workers to be there: not every server says when they are
PATIENCE_S = 15.0  # of a client, for every single step; then its request has failed

FORKFUL = "from forkful.server import serve; serve({handler!r}, '127.0.0.1:0', **{options!r})"
SOCKETSERVER = """
import sys
from socketserver import {kind} as Server
from {module} import {name} as Handler
with Server(("127.0.0.1", 0), Handler) as server:
    print("listening at 127.0.0.1:%d" % server.server_address[1], file=sys.stderr, flush=True)
    server.serve_forever()
"""


@dataclass(frozen=True)
class Running:
    """A server that listens."""

    pid: int  # of its first process
    port: int
    version: str  # of what is measured, for people; empty: this project's or Python's own

    def workers(self) -> list[int]:
        """The pids of the processes that the first one has started."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def connect(self) -> socket.socket:
        return socket.create_connection((HOST, self.port), timeout=PATIENCE_S)

    def ask(self, path: str = "/") -> bytes:
        """The body of an answer, over a connection of its own."""
        with self.connect() as conn:
            conn.sendall(request(path))
            answer = read_all(conn)
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(f"the answer is {answer[:60]!r}")
        return body


def request(path: str) -> bytes:
    """A whole one, after which the connection ends."""
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()


def read_all(conn: socket.socket) -> bytes:
    """What comes, up to the end."""
    return b"".join(iter(lambda: conn.recv(65536), b""))


def forkful(handler: str, **options: Any) -> list[str]:
    """The command that serves *handler* by forkful, with `serve`'s options."""
    return ["-c", FORKFUL.format(handler=handler, options=options)]


def gunicorn(app: str, *, processes: int, threads: int) -> list[str]:
    """By gunicorn, with as many workers of threads; all else as it comes."""
    workers = ["--worker-class", "gthread", "--workers", str(processes), "--threads", str(threads)]
    return ["-m", "gunicorn", "--bind", f"{HOST}:0", *workers, app]


def socketserver(kind: str, handler: str) -> list[str]:
    """By a server class of the standard library."""
    module, _, name = handler.partition(":")
    return ["-c", SOCKETSERVER.format(kind=kind, module=module, name=name)]


@contextmanager
def started(command: list[str]) -> Iterator[Running]:
    """The server of *command*, for as long as the block lasts; what it leaves behind, the runner ends."""
    version = f"gunicorn {importlib.metadata.version('gunicorn')}" if "gunicorn" in command else ""
    with subprocess.Popen([sys.executable, *command], cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Running(process.pid, _read_port(process), version)
        finally:
            process.kill()


def _read_port(process: subprocess.Popen[str]) -> int:
    assert process.stderr is not None
    line = ""
    for line in process.stderr:
        if found := re.search(rf"{re.escape(HOST)}:([0-9]+)", line):
            time.sleep(SETTLE_S)
            return int(found[1])
    raise RuntimeError(f"the server has not begun to listen: {line.strip()}")
