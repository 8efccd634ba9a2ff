"""The examples of servers, run as a reader runs them."""

from __future__ import annotations

import http.client
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .support import WATCHDOG

EXAMPLES = Path(__file__).parents[2] / "examples"


class Example:
    """One that runs, at a port of its own."""

    def __init__(self, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, EXAMPLES / name, "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.port = 0
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "listening at" in line:
                self.port = int(line.rpartition(":")[2])
            if "ready" in line:
                return

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=WATCHDOG)

    def end(self) -> tuple[int, str]:
        """By Ctrl-C: its exit code, and its last line."""
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=WATCHDOG)
        return self.process.returncode, said.splitlines()[-1]


@pytest.fixture
def example() -> Iterator[Callable[[str], Example]]:
    with ExitStack() as stack:

        def start(name: str) -> Example:
            started = Example(name)
            stack.enter_context(started.process)
            stack.callback(started.process.kill)
            return started

        yield start


def test_upper_server(example: Callable[[str], Example]) -> None:
    """Four are served; the fifth waits for one to leave, and what it has sent is not lost."""
    server = example("upper_server.py")
    with ExitStack() as stack:
        served = [stack.enter_context(server.connect()) for _ in range(4)]
        for client in served:
            client.sendall(b"hello\n")
            assert client.recv(99) == b"HELLO\n"
        fifth = stack.enter_context(server.connect())
        fifth.sendall(b"me too\n")
        served[0].sendall(b"again\n")
        assert served[0].recv(99) == b"AGAIN\n"
        assert not select.select([fifth], [], [], 0)[0]
        served[0].close()
        assert fifth.recv(99) == b"ME TOO\n"
    assert server.end() == (0, "forkful: ended")


def test_flask_tls(example: Callable[[str], Example]) -> None:
    """Clients that know the certificate trust it, for both of its names."""
    pytest.importorskip("flask")
    server = example("flask_tls.py")
    assert server.process.stdout is not None
    cert = server.process.stdout.readline().split()[2]
    for host in ("localhost", "127.0.0.1"):
        context = ssl.create_default_context(cafile=cert)
        client = http.client.HTTPSConnection(host, server.port, timeout=WATCHDOG, context=context)
        client.request("GET", "/")
        assert client.getresponse().read().startswith(b"Hello over https, from process ")
        client.request("POST", "/upper", body=b"small")
        assert client.getresponse().read() == b"SMALL"
        client.close()
    assert server.end() == (0, "forkful: ended")
    assert not os.path.exists(cert)


def test_flask_is_not_installed(tmp_path: Path) -> None:
    """The example says how to get it."""
    (tmp_path / "flask.py").write_text("raise ImportError\n")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "flask_tls.py"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "flask_tls: Flask is not installed; install it with: pip install flask\n"
