"""The end of a connection, and of a process that a handler has forked."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator

__all__ = ["end_our_side", "ending_copies"]


def end_our_side(conn: socket.socket) -> None:
    """Tell the client that nothing more comes; what it still sends can be read.  Never waits."""
    with contextlib.suppress(OSError, ValueError):  # it has gone
        if (unwrap := getattr(conn, "unwrap", None)) is not None:
            conn.setblocking(False)
            with contextlib.suppress(OSError, ValueError):  # what the client says to that is not waited for
                unwrap()  # TLS has an end of its own, without which a client cannot tell that it has got all
        socket.socket.shutdown(conn, socket.SHUT_WR)


@contextlib.contextmanager
def ending_copies() -> Iterator[None]:
    """Have a process that is forked inside end there, however it comes out: it is no worker, and serves nobody."""
    pid = os.getpid()
    code = 1
    try:
        yield
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        raise
    finally:
        if os.getpid() != pid:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):  # whatever they are
                    stream.flush()
            os._exit(code)
