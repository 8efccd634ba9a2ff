"""Servers as programs of their own, and clients."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

WATCHDOG = 60.0
"""Seconds after which a test that waits has failed; nothing takes so long."""

HANDLERS = '''
import os, time

def upper(conn, address):
    """Each line comes back in capitals."""
    for line in conn.makefile("rb"):
        conn.sendall(line.upper())

def pid(conn, address):
    """Which process this is."""
    conn.sendall(b"%d" % os.getpid())
'''


class Program:
    """A server of its own: ``serve(<arguments>)``, in a folder where ``handlers.py`` is."""

    running: ClassVar[list[Program]] = []

    def __init__(
        self, folder: Path, arguments: str, handlers: str = HANDLERS, *, pass_fds: tuple[int, ...] = ()
    ) -> None:
        (folder / "handlers.py").write_text(handlers)
        script = f"from forkful.server import serve\nserve({arguments})\n"
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        self.running.append(self)
        self.lines: list[str] = []
        self.address = ("", 0)
        for line in self.read_until("ready"):
            if (name := line.partition("listening at ")[2]).startswith("127.0.0.1:"):
                self.address = ("127.0.0.1", int(name.rpartition(":")[2]))

    def read_until(self, text: str) -> list[str]:
        """Lines of standard error, up to the one with *text*, or the last."""
        assert self.process.stderr is not None
        lines = []
        for line in self.process.stderr:
            lines.append(line.rstrip())
            if text in line:
                break
        self.lines += lines
        return lines

    @property
    def workers(self) -> list[int]:
        """Pids."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def connect(self) -> socket.socket:
        """A client's connection."""
        return socket.create_connection(self.address, timeout=WATCHDOG)

    def ask(self, data: bytes = b"") -> bytes:
        """What comes back for *data*, with nothing after it."""
        with self.connect() as conn:
            conn.sendall(data)
            conn.shutdown(socket.SHUT_WR)
            return read_all(conn)

    def send(self, signum: int) -> None:
        """To the master."""
        self.process.send_signal(signum)

    def end(self, signum: int = signal.SIGTERM) -> int:
        """Its exit code, after *signum*."""
        self.send(signum)
        self.read_until("\0")
        return self.process.wait(WATCHDOG)

    @classmethod
    def end_all(cls) -> None:
        """Whatever is left of them."""
        while cls.running:
            process = cls.running.pop().process
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if process.stderr is not None:
                process.stderr.close()


Start = Callable[..., Program]


def read_all(conn: socket.socket) -> bytes:
    """What comes, up to the end."""
    return b"".join(iter(lambda: conn.recv(65536), b""))


def await_stop(pid: int) -> None:
    """Wait until every thread of process *pid* has been stopped."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        while stat.read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.001)  # nobody tells but its parent


def await_end(pid: int) -> None:
    """Wait until process *pid*, no child of ours, has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(WATCHDOG * 1000), f"process {pid} has not ended"
    finally:
        os.close(fd)
