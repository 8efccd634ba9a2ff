"""A server on a Pool: every line that a client sends comes back in capitals.

    python examples/upper_pool.py 127.0.0.1:8765 --processes 2 --threads 2
    nc 127.0.0.1 8765                                                          in other terminals, as many as you like

The parent accepts and does nothing else; the accepted socket is an argument like any other.  Here four clients are served
at a time, each by a thread of a worker process.  A fifth is connected at once and answered when one of the four has gone:
its task waits in the pool's queue.  Where a client crashes its worker, the clients beside it lose their connection, and
the pool goes on with a new one.  Ctrl-C ends all of it.
"""

from __future__ import annotations

import argparse
import socket

from forkful import Pool


def talk(conn: socket.socket) -> None:
    """One client, from its first line to its last.  Runs in a worker."""
    with conn, conn.makefile("rwb") as stream:
        for line in stream:
            stream.write(line.upper())
            stream.flush()


def serve(address: tuple[str, int], processes: int, threads: int) -> None:
    """Accept for ever.  Runs in the parent."""
    with socket.create_server(address) as listener, Pool(processes, threads=threads, max_pending=500) as pool:
        print("listening on {}:{}".format(*listener.getsockname()), flush=True)
        while True:
            conn, _ = listener.accept()
            with conn:  # the task has a copy of its own
                pool.apply_async(talk, (conn,), error_callback=lambda error: print(error, flush=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="An upper-case echo server.")
    parser.add_argument("address", nargs="?", default="127.0.0.1:8765", help="HOST:PORT; with port 0 any that is free")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2, help="clients at a time, in each process")
    options = parser.parse_args()
    host, _, port = options.address.rpartition(":")
    try:
        serve((host, int(port)), options.processes, options.threads)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
