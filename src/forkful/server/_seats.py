"""The seats of a worker: threads that accept, serve, and can be called away.  README.md, «How a seat leaves accept()».

All that is decided here is decided under one lock, held for a few instructions and never while a thread waits or serves.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from forkful._core import forks
from forkful._core.signals import WAKE_SIGNAL, ignore

from ._address import unmap
from ._board import Row, Seat

__all__ = ["Client", "Seats", "Served"]

# What `accept` says when the system has no room for another descriptor; the connection stays in the queue.
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# And when a connection has broken before anybody took it: accept(2), «Error handling».
_GONE = {errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.EHOSTUNREACH,
         errno.EOPNOTSUPP, errno.ENETUNREACH, errno.EPERM, errno.EINTR}  # fmt: skip
ROOM_PAUSE = 0.5
"""Seconds after which `accept` is tried again though nothing was closed here: somebody else may have closed something."""


log = logging.getLogger("forkful.server")


class Client:
    """A connection, and what is known of it."""

    __slots__ = ("address", "conn", "talk")

    def __init__(self, conn: socket.socket, address: Any) -> None:
        self.conn = conn
        self.address = unmap(address)
        self.talk: Any = None  # where the protocol stands, if it has one

    def __str__(self) -> str:
        if isinstance(self.address, tuple):
            host, port = self.address[:2]
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return self.address or "unix" if isinstance(self.address, str) else "unix"


class Served(Protocol):
    """What is done with a client: in its seat's thread."""

    def __call__(self, client: Client, seat: Seat, /) -> None:
        """Serve it, and close it or put it aside; raises nothing."""


class _Post:
    """A seat's place at the listeners."""

    def __init__(self, listeners: Sequence[socket.socket], number: int) -> None:
        self.number = number
        self.thread = 0
        self.stands = False  # it is in `accept`, or about to be
        self.called = False  # away from there
        self._originals = listeners
        self._listeners = [_duplicate(listener) for listener in listeners]
        self._poll: select.poll | None = None
        if len(listeners) > 1:
            self._poll = select.poll()
            for listener in self._listeners:
                self._poll.register(listener, select.POLLIN)
            self._by_fd = {listener.fileno(): listener for listener in self._listeners}

    def accept(self) -> tuple[socket.socket, Any]:
        """Wait for a connection.

        Raises:
            OSError: there is none, because the seat was called away or something is wrong.
        """
        if self._poll is None:
            try:
                return self._listeners[0].accept()
            except BlockingIOError:  # somebody has O_NONBLOCK on, for all; to try again at once would be to spin
                wait_for(self._listeners[0])
                raise
        ready = self._poll.poll()  # wakes whoever waits: with several listeners, connections are raced for
        return self._by_fd[ready[0][0]].accept()

    def call(self, dead: socket.socket) -> None:
        """Have `accept` fail; under the lock."""
        self.called = True
        os.dup2(dead.fileno(), self._listeners[0].fileno(), inheritable=False)
        signal.pthread_kill(self.thread, WAKE_SIGNAL)

    def come_back(self) -> None:
        """Have `accept` accept again; under the lock."""
        self.called = False
        os.dup2(self._originals[0].fileno(), self._listeners[0].fileno(), inheritable=False)

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()


def _duplicate(listener: socket.socket) -> socket.socket:
    """Another descriptor of *listener*; its open file, and with that O_NONBLOCK, is the same for all, and stays as it is.

    Not ``listener.dup()``, which sets the time-out of the new object, nor with a default time-out of the program's: either
    changes the flag, for all processes.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(None)
    try:
        return socket.socket(listener.family, listener.type, listener.proto, fileno=os.dup(listener.fileno()))
    finally:
        socket.setdefaulttimeout(before)


def wait_for(listener: socket.socket, milliseconds: int | None = None) -> bool:
    """Whether a connection is queued at *listener*, waiting at most so long for one; None: for ever."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(milliseconds))


class Seats:
    """All seats of this worker.

    Args:
        listeners: inherited from the master.
        row: of the board, where each seat writes what it does.
        threads: how many seats.
        serve: what a seat does with a client.
        on_full: called when the last idle seat has got a client.
        on_left: called with the number of seats that are still there, after each that has left.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        row: Row,
        threads: int,
        serve: Served,
        on_full: Callable[[], None],
        on_left: Callable[[int], None],
    ) -> None:
        self._listeners = listeners
        self._row = row
        self._serve = serve
        self._on_full, self._on_left = on_full, on_left
        # Never to be connected: `accept` on it fails with EINVAL, and poll(2) says that it is hung up.
        self._dead = socket.socket(listeners[0].family, socket.SOCK_STREAM)
        self._posts = [_Post(listeners, number) for number in range(threads)]
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._ready: deque[Client] = deque()  # those that were put aside, and have something to say
        self._idle = 0
        self._present = threads
        self._is_leaving = False
        self._is_finishing = False
        forks.hold(self)
        self.aside = 0  # clients that were put aside; as long as there are some, seats are needed

    def disown(self) -> None:
        """In a process that a handler has forked: it listens to nobody, and holds no port."""
        for post in self._posts:
            post.close()
        for listener in (*self._listeners, self._dead):
            listener.close()

    def start(self) -> None:
        """Begin to accept.  In the main thread."""
        signal.signal(WAKE_SIGNAL, ignore)
        signal.siginterrupt(WAKE_SIGNAL, False)  # whatever else it meets goes on, in C too
        for post in self._posts:
            thread = threading.Thread(target=self._run, args=(post,), name=f"seat-{post.number}", daemon=True)
            thread.start()

    @property
    def present(self) -> int:
        """How many seats have not left."""
        return self._present

    @property
    def has_ready(self) -> bool:
        """Whether a client that was put aside waits for a seat."""
        return bool(self._ready)

    def others_are_queued(self) -> bool:
        """Whether a connection waits to be accepted."""
        return any(wait_for(listener, 0) for listener in self._listeners)

    def hand(self, client: Client) -> None:
        """Have a seat serve *client*, which was put aside: an idle one at once, else the next that becomes idle."""
        with self._lock:
            self.aside -= 1
            self._ready.append(client)
            self._call_somebody()
            self._changed.notify_all()  # whoever leaves waits for the last that was put aside, too

    def put_aside(self) -> None:
        """A client was put aside: it will come back by `hand`, or by `forget`."""
        with self._lock:
            self.aside += 1

    def forget(self) -> None:
        """A client that was put aside will not come back."""
        with self._lock:
            self.aside -= 1
            self._changed.notify_all()

    def leave(self, *, when_empty: bool = False) -> None:
        """Have all seats leave, once they have served what they serve; with *when_empty*, and what is queued.

        Returns when none stands in `accept` any more: one that was called away takes what comes before it is woken.
        """
        with self._lock:
            if when_empty:
                self._is_finishing = True
            else:
                self._is_leaving = True
            for post in self._posts:
                if post.stands and not post.called:
                    post.call(self._dead)
            self._changed.notify_all()
            while any(post.stands for post in self._posts):
                self._changed.wait()

    # In the threads.

    def _run(self, post: _Post) -> None:
        seat = self._row.seat(post.number)
        post.thread = threading.get_ident()
        seat.rest()
        try:
            while (client := self._take(post)) is not None:
                try:
                    self._serve(client, seat)
                except Exception:
                    log.exception("serving %s failed in the server itself", client)
                    seat.rest()
        finally:
            seat.leave()
            post.close()
            with self._lock:
                self._present -= 1
                present = self._present
            self._on_left(present)

    def _take(self, post: _Post) -> Client | None:
        """The next client for this seat; None when it is to leave."""
        while True:
            with self._lock:
                while self._is_leaving or self._is_finishing:
                    if self._ready:
                        return self._ready.popleft()
                    if self._is_finishing and not self._is_leaving and (client := self._take_queued()):
                        return client
                    if not self.aside:
                        return None
                    self._changed.wait()
                if self._ready:
                    return self._ready.popleft()
                post.stands = True
                self._idle += 1
            accepted: tuple[socket.socket, Any] | None = None
            problem: OSError | None = None
            try:
                accepted = post.accept()
            except OSError as error:
                problem = error
            with self._lock:
                post.stands = False
                self._idle -= 1
                is_full = not self._idle
                was_called = post.called
                if was_called:
                    post.come_back()
                if accepted is not None and self._ready:
                    self._call_somebody()
                if self._is_leaving or self._is_finishing:
                    self._changed.notify_all()
            if accepted is not None:
                if is_full:
                    self._on_full()
                return Client(*accepted)
            if problem is not None and not was_called:
                self._bear(problem)

    def _take_queued(self) -> Client | None:
        """A client from the queue, without waiting: the master has put O_NONBLOCK on the listeners.  Under the lock."""
        for listener in self._listeners:
            while True:
                try:
                    return Client(*listener.accept())
                except OSError as error:
                    if error.errno not in _GONE:  # of those that were queued, one has gone
                        break
        return None

    def _call_somebody(self) -> None:
        """Away from `accept`, to take what is ready; under the lock."""
        for post in self._posts:
            if post.stands and not post.called:
                post.call(self._dead)
                return

    def _bear(self, problem: OSError) -> None:
        """What `accept` has met: wait if there is no room, else nothing is to be done."""
        if problem.errno in _NO_ROOM:
            with self._lock:
                self._changed.wait(ROOM_PAUSE)  # no other process tells when it closes a descriptor
        elif problem.errno not in _GONE and not isinstance(problem, BlockingIOError):
            raise problem
