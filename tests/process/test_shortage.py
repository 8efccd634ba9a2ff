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
from forkful._core.accounts import Account
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


def test_a_descriptor_for_which_there_is_no_room_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader had none free as it arrived, nor one to spare; the parcels after that are read."""
    lender = Lender()
    ours, theirs = socket.socketpair()
    giver, taker = Account(ours, copies=False), Account(theirs, copies=True)
    lender.add(giver)

    def send() -> Any:
        packed = lender.encode(np.full(2 * MIB, 7, dtype="u1"), once=True)
        assert isinstance(packed, Parcel)
        return taker.receive(*packed.describe(giver))

    with monkeypatch.context() as patch:
        patch.setattr(accounts, "receive_fds", lambda sock, size, flags: (sock.recv(size, flags), []))
        received = send()
    with pytest.raises(OSError, match="ulimit -n"):
        received.load()
    del received
    gc.collect()  # the traceback
    giver.settle(memoryview(b"".join(taker.pay())[HEADER.size :]))
    value = send().take()
    assert (value == 7).all()
    for account in (taker, giver):
        account.close()
    lender.close()
