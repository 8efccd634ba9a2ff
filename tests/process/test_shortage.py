"""Large things while descriptors run short: the error of what needed one, and of nothing that comes later."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from forkful._core import accounts
from forkful._core.accounts import Account, Received
from forkful._core.lending import Lender, Parcel
from forkful._core.messages import HEADER

MIB = 1024 * 1024

PROGRAM = """
import os, resource
import numpy as np
from forkful import Pool

def make(n):
    return np.full(1 << 21, n, "u1")

if __name__ == "__main__":
    with Pool(1) as pool:
        pool.apply(abs, (1,))
        first = pool.apply_async(make, (1,))
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            first.get(30)
        except Exception as error:
            print(type(error).__name__, "Errno 24" in str(error))
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        print([int(pool.apply(make, (n,))[0]) for n in range(3)])
"""


def test_the_first_large_result_comes_when_nothing_can_be_opened(tmp_path: Any) -> None:
    """Nor can a module be imported then: that is one result's error, and the pool goes on."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["UnpicklableError True", "[0, 1, 2]"], done.stderr


class Wire(socket.socket):
    """One whose reader is interrupted, once."""

    interrupt = False

    def recv(self, *args: Any) -> bytes:
        """As a signal's handler may do it."""
        if self.interrupt:
            self.interrupt = False
            raise KeyboardInterrupt
        return super().recv(*args)


class Two:
    """Two that have an account with each other, and what sends an array from one to the other."""

    def __init__(self) -> None:
        self.lender = Lender()
        ours, theirs = socket.socketpair()
        self.wire = Wire(fileno=theirs.detach())
        self.giver, self.taker = Account(ours), Account(self.wire)
        self.lender.add(self.giver)

    def send(self, size: int = 2 * MIB) -> Received:
        """What has arrived."""
        packed = self.lender.encode(np.full(size, 7, dtype="u1"), once=True)
        assert isinstance(packed, Parcel)
        return self.taker.receive(*packed.describe(self.giver))

    def settle(self) -> None:
        """What was given back is taken note of."""
        gc.collect()  # a traceback may have it
        self.giver.settle(memoryview(b"".join(self.taker.pay())[HEADER.size :]))

    def close(self) -> None:
        """Both, and what was lent."""
        for account in (self.taker, self.giver):
            account.close()
        self.lender.close()


def test_a_descriptor_for_which_there_is_no_room_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader had none free as it arrived, nor one to spare; the parcels after that are read."""
    two = Two()
    with monkeypatch.context() as patch:
        patch.setattr(accounts, "receive_fds", lambda sock, size, flags: (sock.recv(size, flags), []))
        received = two.send()
    with pytest.raises(OSError, match="ulimit -n"):
        received.load()
    del received
    two.settle()
    assert (two.send().take() == 7).all()
    two.close()


def test_a_descriptor_is_not_lost_where_its_reader_is_interrupted() -> None:
    """It is known before it is taken from where it waits; so it may come twice, which does no harm."""
    two = Two()
    two.wire.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        two.send()
    two.settle()
    assert not two.wire.interrupt
    for size in (2 * MIB, 65 * MIB):  # the second needs a segment of its own
        assert (two.send(size).take() == 7).all()
    with pytest.raises(BlockingIOError):
        two.wire.recv(1, socket.MSG_DONTWAIT)
    two.close()
