"""Each line comes back in capitals.

    python examples/upper_server.py         serve, until Ctrl-C
    nc 127.0.0.1 8080                       talk to it, in other terminals

Two processes of two threads have four slots, and a client has one for as long as it stays.  The fifth can connect and
write, and is answered as soon as one of the four leaves.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from forkful import serve


def upper(conn: socket.socket, _address: Any) -> None:
    """Serve one client, to its end; the server closes the connection."""
    for line in conn.makefile("rb"):
        conn.sendall(line.upper())


if __name__ == "__main__":
    serve(upper, sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8080", processes=2, threads=2)
