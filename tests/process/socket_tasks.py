"""Tasks that have to do with sockets and connections; importable by every worker."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import resource
import signal
import socket
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from forkful._core import worker


def talk(conn: socket.socket, addr: Any = None) -> int:
    """Answer one line in capitals; the connection is left to the worker to close."""
    conn.sendall(conn.recv(100).upper())
    return os.getpid()


def talk_first(conns: dict[str, list[socket.socket]], data: bytes) -> int:
    """The same for a socket inside of something, beside something large."""
    conns["here"][0].sendall(b"%d" % len(data))
    return os.getpid()


def hang_up(conn: socket.socket, gate: str) -> str:
    """Close the connection, and stay until somebody opens *gate*, a FIFO, to write."""
    conn.close()
    return Path(gate).read_text(encoding="ascii")


def stay(gate: str) -> str:
    """Stay until somebody opens *gate* to write."""
    return Path(gate).read_text(encoding="ascii")


def stay_with(conn: socket.socket, gate: str) -> str:
    """The same with a connection in hand, which is told."""
    conn.sendall(b"here")
    return Path(gate).read_text(encoding="ascii")


def talk_and_stay(pair: tuple[socket.socket, str]) -> str:
    """Answer one line, close, and stay."""
    conn, gate = pair
    with conn:
        conn.sendall(conn.recv(100).upper())
    return Path(gate).read_text(encoding="ascii") if gate else ""


def die_once(conn: socket.socket, marker: str) -> None:
    """Say so and be killed; the second time, say so and return."""
    path = Path(marker)
    if not path.exists():
        path.touch()
        conn.sendall(b"first ")
        os.kill(os.getpid(), signal.SIGKILL)
    conn.sendall(b"second")


def die(conn: socket.socket) -> None:
    """Be killed."""
    conn.sendall(b"bye")
    os.kill(os.getpid(), signal.SIGKILL)


def fail(conn: socket.socket) -> None:
    """Raise."""
    raise RuntimeError("no answer")


def timeout_of(conn: socket.socket) -> tuple[float | None, bool]:
    """How long it waits, and whether another process may get it by mistake."""
    return conn.gettimeout(), conn.get_inheritable()


def answer(connection: Connection) -> str:
    """A message over a connection of ``multiprocessing``."""
    text: str = connection.recv()
    connection.send(text.upper())
    return text


def make_socket(text: str) -> socket.socket:
    """One end of a pair; the other has *text* sent, and ends."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(text.encode())
    return theirs


def make_both(text: str) -> dict[str, Any]:
    """The same inside of something, beside something large."""
    return {"socket": make_socket(text), "data": bytes(200_000)}


def make_some(number: int) -> Any:
    """A socket for an even number, an error for three, else a number."""
    if number == 3:
        raise ValueError(number)
    return number if number % 2 else make_socket(str(number))


def group_for_long() -> None:
    """Have this worker put the results of a map together for as long as one of its chunks lasts."""
    worker._GROUP_S = 60.0


def make_connection(text: str) -> Connection:
    """One end of a pipe in which *text* is."""
    ours, theirs = multiprocessing.Pipe()
    with ours:
        ours.send(text)
    return theirs


def make_and_refuse(text: str) -> tuple[socket.socket, Iterator[int]]:
    """A socket with something that cannot be pickled."""
    return make_socket(text), (one for one in range(3))


def count_descriptors() -> int:
    """How many descriptors this process has."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def ration() -> None:
    """Let this process open no more descriptors than it has."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), most))
    with contextlib.suppress(OSError):
        while True:
            _fillers.append(os.open(os.devnull, os.O_RDONLY))


def end_ration() -> None:
    """As before."""
    while _fillers:
        os.close(_fillers.pop())
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, most), most))


_fillers: list[int] = []
