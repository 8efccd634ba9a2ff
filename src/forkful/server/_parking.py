"""Connections that have nothing to say yet, or have not said it all: they hold no seat.

Any thread of a worker parks a connection; the keeper alone reads from them, and gives those that have something to serve
back to a seat.  Three kinds of time-out: until the whole head of a request is there, counted from its first moment; how
long a kept connection may stay without one; and how long one that is over may take to read its last answer.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from enum import Enum, auto

from ._seats import Client

__all__ = ["Parking", "Verdict", "Waits"]


class Waits(Enum):
    """For what a parked connection waits."""

    HEAD = auto()  # the rest of the head of a request
    NEXT = auto()  # another request, or the end
    END = auto()  # the end: it has had its last answer, and may still be sending


class Verdict(Enum):
    """What is to become of a parked connection that has said something."""

    WAIT = auto()
    BEGUN = auto()  # likewise; but the head of a request has begun
    SERVE = auto()
    CLOSE = auto()


class Parking:
    """All that is parked in this worker.

    Args:
        hear: takes in what a parked connection has sent: in the keeper, without waiting.
        serve: called, in the keeper, with one that is to be served.
        gone: called after one was closed.
        expire: called with one that has waited too long.
        seconds: how long each kind of waiting may last.
    """

    def __init__(
        self,
        hear: Callable[[Client], Verdict],
        serve: Callable[[Client], None],
        gone: Callable[[], None],
        expire: Callable[[Client, Waits], Verdict],
        seconds: Mapping[Waits, float],
    ) -> None:
        self._hear, self._serve, self._gone, self._expire = hear, serve, gone, expire
        self._seconds = seconds
        self._epoll = select.epoll()
        self._wake_r, self._wake = socket.socketpair()
        self._wake_r.setblocking(False)
        self._wake.setblocking(False)
        self._epoll.register(self._wake_r, select.EPOLLIN)
        self._lock = threading.Lock()
        self._passed: deque[Client] = deque()
        # By descriptor; of each kind the one that was parked first is the first to be over its time.
        self._parked: dict[Waits, OrderedDict[int, tuple[Client, float]]] = {kind: OrderedDict() for kind in Waits}
        self._sleeps = False  # the keeper waits without an end

    def fileno(self) -> int:
        """Readable when `turn` has something to do."""
        return self._epoll.fileno()

    def park(self, client: Client, waits: Waits) -> None:
        """Put it here.  From any thread."""
        client.conn.setblocking(False)
        with self._lock:
            self._parked[waits][client.conn.fileno()] = client, time.monotonic() + self._seconds[waits]
            wake, self._sleeps = self._sleeps, False
        self._epoll.register(client.conn, select.EPOLLIN | select.EPOLLRDHUP)
        if wake:
            self._wake.send(b"\0")

    def pass_on(self, client: Client) -> None:
        """Have the keeper give it to a seat, in its own time.  From any thread."""
        self._passed.append(client)
        self._wake.send(b"\0")

    # In the keeper.

    def patience(self) -> float | None:
        """Seconds until one can be over its time; None: nobody is here.

        Who is parked later has at least the shortest time left, so a wait that ends by then is soon enough for all.
        """
        with self._lock:
            deadlines = [next(iter(parked.values()))[1] for parked in self._parked.values() if parked]
            self._sleeps = not deadlines
        if not deadlines:
            return None
        return min(max(0.0, min(deadlines) - time.monotonic()), *self._seconds.values())

    def turn(self) -> None:
        """Read what has come, and close what has waited too long."""
        for fd, _ in self._epoll.poll(0):
            if fd == self._wake_r.fileno():
                self._wake_r.recv(4096)
            else:
                self._read(fd)
        while self._passed:
            self._serve(self._passed.popleft())
        now = time.monotonic()
        for waits, parked in self._parked.items():
            while parked:
                with self._lock:
                    fd, (client, deadline) = next(iter(parked.items()))
                if deadline > now:
                    break
                self._act(fd, self._expire(client, waits))

    def clear(self, waits: Waits) -> None:
        """Close all that wait for this."""
        for fd in list(self._parked[waits]):
            self._close(self._take(fd))

    def _read(self, fd: int) -> None:
        client, waits = self._peek(fd)
        verdict = self._hear(client)
        if verdict is Verdict.BEGUN and waits is Waits.NEXT:
            with self._lock:
                del self._parked[waits][fd]
                self._parked[Waits.HEAD][fd] = client, time.monotonic() + self._seconds[Waits.HEAD]
        self._act(fd, verdict)

    def _act(self, fd: int, verdict: Verdict) -> None:
        if verdict is Verdict.SERVE:
            self._serve(self._take(fd))
        elif verdict is Verdict.CLOSE:
            self._close(self._take(fd))

    def _peek(self, fd: int) -> tuple[Client, Waits]:
        with self._lock:
            for waits, parked in self._parked.items():
                if fd in parked:
                    return parked[fd][0], waits
        raise KeyError(fd)

    def _take(self, fd: int) -> Client:
        client, waits = self._peek(fd)
        self._epoll.unregister(fd)
        with self._lock:
            del self._parked[waits][fd]
        return client

    def _close(self, client: Client) -> None:
        client.conn.close()
        self._gone()
