"""The floor under a round trip: a forked process at the other end of a socket pair, and pickle.

No framing, no errors, no death of the other side: whatever a pool takes longer than this is what a pool costs.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

ROOM = 65536  # bytes; a message here has under a hundred, and a socket pair hands such a one over whole


class PingPong:
    """One process that calls what it is sent."""

    def __enter__(self) -> Self:
        self._socket, other = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            self._socket.close()
            serve(other)
            os._exit(0)
        other.close()
        self._pid = pid
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        os.waitpid(self._pid, 0)

    def apply(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """One round trip."""
        self._socket.send(pickle.dumps((function, argument), pickle.HIGHEST_PROTOCOL))
        return pickle.loads(self._socket.recv(ROOM))


def serve(connection: socket.socket) -> None:
    """The child's side: until end of file."""
    while message := connection.recv(ROOM):
        function, argument = pickle.loads(message)
        connection.send(pickle.dumps(function(argument), pickle.HIGHEST_PROTOCOL))
