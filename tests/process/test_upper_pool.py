"""The example of a server on a pool, with six clients for its four slots."""

from __future__ import annotations

import contextlib
import select
import socket
from pathlib import Path
from typing import BinaryIO

from .support import ROOT, WATCHDOG, Program


def test_six_clients_for_four_slots(tmp_path: Path) -> None:
    example = str(ROOT / "examples" / "upper_pool.py")
    with Program(example, "127.0.0.1:0", cwd=tmp_path) as program, contextlib.ExitStack() as stack:
        host, _, port = program.line().removeprefix("listening on ").rpartition(":")
        clients = []
        streams: list[BinaryIO] = []
        for number in range(6):
            client = stack.enter_context(socket.create_connection((host, int(port)), WATCHDOG))
            clients.append(client)
            streams.append(stack.enter_context(client.makefile("rb")))
            client.sendall(b"Client %d\n" % number)
        for number in range(4):
            assert streams[number].readline() == b"CLIENT %d\n" % number
            clients[number].sendall(b"more of it\n")
            assert streams[number].readline() == b"MORE OF IT\n"
        assert not select.select(clients[4:], [], [], 0)[0]  # these wait
        for done, next_one in ((2, 4), (0, 5)):
            clients[done].shutdown(socket.SHUT_WR)
            assert streams[done].read() == b""
            assert streams[next_one].readline() == b"CLIENT %d\n" % next_one
        for number in (1, 3, 4, 5):
            clients[number].sendall(b"last words\n")
            clients[number].shutdown(socket.SHUT_WR)
            assert streams[number].read() == b"LAST WORDS\n"
        program.interrupt()
        code, output = program.finish()
        assert code == 0
        # A client sees its end before the parent hears of it: those that it had not heard of it tells.
        assert all("the pool was terminated" in line for line in output.splitlines())
        assert program.stderr() == ""
