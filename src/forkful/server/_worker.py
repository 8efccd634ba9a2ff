"""A worker of the server: loads the handler, seats its threads, and keeps them until it is to leave.  Runs in the child."""

from __future__ import annotations

import faulthandler
import itertools
import secrets
import select
import signal
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from types import FrameType

from forkful._core import bootstrap
from forkful._core.gauge import Gauge
from forkful._core.signals import TRACE_SIGNAL

from ._board import Board, Seat
from ._parking import Waits
from ._seats import Client, Seats
from ._settings import Settings
from ._trades import Trade
from ._wire import Wire, Word

__all__ = ["Job", "work"]

ALERT_PAUSE = 0.05
"""Seconds between two reports of being full."""


@dataclass(frozen=True)
class Job:
    """All that a worker needs, inherited by fork.

    Attributes:
        trade: what is done with connections.
        listeners: where they come from.
        settings: the server's.
        board: the server's.
        row: the number of this worker's row there.
        wire: to the master.
        lifeline: a pipe of which only the master has the other end.
        not_ours: listeners of this server that are for other workers: closed at once.
    """

    trade: Trade
    listeners: Sequence[socket.socket]
    settings: Settings
    board: Board
    row: int
    wire: Wire
    lifeline: int
    not_ours: Sequence[socket.socket] = ()


def work(job: Job, mask: Iterable[int]) -> int:
    """Be a worker; returns the exit code."""
    return bootstrap.live(job.lifeline, mask, partial(_work, job))


def _work(job: Job, _this: bootstrap.WorkerProcess) -> None:
    if TRACE_SIGNAL is not None:
        faulthandler.register(TRACE_SIGNAL, file=sys.__stderr__ or 2, all_threads=True)
    for listener in job.not_ours:
        listener.close()
    job.board.adopt(job.row)
    try:
        job.trade.load()
    except BaseException as error:  # a handler's module may raise anything; the master says it
        job.wire.send(Word.REFUSED, job.trade.source.explain(error))
        return
    _Keeper(job).run()


class _Keeper:
    """The main thread."""

    def __init__(self, job: Job) -> None:
        self._job = job
        settings = job.settings
        row = job.board.rows[job.row]
        self._seats = Seats(job.listeners, row, settings.threads, self._serve, self._on_full, self._on_left)
        self._parking = job.trade.open_parking(self._seats)
        self._ended, self._end = socket.socketpair()  # readable when the last seat has left
        self._alerted = 0.0
        self._served = itertools.count(1)
        self._is_spent = False
        self._gauge = Gauge() if settings.max_memory is not None else None
        self._last: int | None = None  # request, of those it serves
        if settings.max_requests is not None:
            self._last = settings.max_requests + secrets.randbelow(settings.max_requests_jitter + 1)
        self.is_leaving = False

    def run(self) -> None:
        """Serve until told to leave, and the last seat has left."""
        signal.signal(signal.SIGTERM, self._on_signal)
        reading, writing = socket.socketpair()  # for signals
        writing.setblocking(False)
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        self._seats.start()
        self._job.wire.send(Word.READY)
        poll = select.poll()
        for end in (self._job.wire, self._ended, reading):
            poll.register(end, select.POLLIN)
        if self._parking is not None:
            poll.register(self._parking, select.POLLIN)
        while True:
            patience = None if self._parking is None else self._parking.patience()
            ready = {fd for fd, _ in poll.poll(None if patience is None else patience * 1000 + 1)}
            if reading.fileno() in ready:
                reading.recv(4096)
            if self._job.wire.fileno() in ready and not self._obey():
                poll.unregister(self._job.wire)
            if self._parking is not None:
                self._parking.turn()
            if self._ended.fileno() in ready:
                return

    def _obey(self) -> bool:
        """What the master says; whether it is still there."""
        try:
            messages = self._job.wire.receive()
        except EOFError:
            self._leave()  # where the kernel did not kill us with it
            return False
        for message in messages:
            self._leave(when_empty=message.word is Word.FINISH)
        return True

    def _on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        """SIGTERM to a worker alone: it leaves in good order, and the master starts another."""
        self._ask_to_leave("was told to leave by SIGTERM")

    def _leave(self, *, when_empty: bool = False) -> None:
        self.is_leaving = True
        if when_empty and self._parking is not None:
            # The server ends: a kept connection that says nothing is not waited for.  In a reload it is, because its
            # client may be sending a request at this moment.
            self._parking.clear(Waits.NEXT)
        self._seats.leave(when_empty=when_empty)
        self._on_left(self._seats.present)

    def _ask_to_leave(self, reason: str) -> None:
        if not self._is_spent:
            self._is_spent = True
            self._job.wire.send(Word.SPENT, reason)

    # In the threads of the seats.

    def _on_full(self) -> None:
        if self._job.board.wants_alerts and (now := time.monotonic()) - self._alerted >= ALERT_PAUSE:
            self._alerted = now
            self._job.wire.send(Word.FULL)

    def _on_left(self, present: int) -> None:
        if self.is_leaving:
            self._job.wire.send(Word.LEFT, str(present))
        if not present:
            self._end.send(b"\0")  # not closed: a process that a handler has forked has a copy

    def _serve(self, client: Client, seat: Seat) -> None:
        self._job.trade.serve(client, Desk(self, seat))

    def count(self) -> None:
        """One more request has been served."""
        served = next(self._served)
        if self._is_spent:
            return
        if self._last is not None and served >= self._last:
            self._ask_to_leave(f"has served {served} requests")
        elif self._gauge is not None:
            held = self._gauge.read(time.monotonic_ns())
            if held > (self._job.settings.max_memory or 0):
                self._ask_to_leave(f"holds {held // 1_000_000} MB")

    def park(self, client: Client, waits: Waits) -> None:
        """Put a connection aside."""
        assert self._parking is not None, "this trade has none"
        self._seats.put_aside()
        self._parking.park(client, waits)

    def requeue(self, client: Client) -> None:
        """Put a connection aside that is to be served as soon as others have been."""
        assert self._parking is not None, "this trade has none"
        self._seats.put_aside()
        self._parking.pass_on(client)

    @property
    def others_wait(self) -> bool:
        """Whether a client that was put aside waits for a seat."""
        return self._seats.has_ready

    @property
    def others_are_queued(self) -> bool:
        """Whether somebody waits to be accepted."""
        return self._seats.others_are_queued()


class Desk:
    """What serves a connection works at it: the way from a seat to its keeper, and to the board."""

    __slots__ = ("_keeper", "_seat", "begin")

    def __init__(self, keeper: _Keeper, seat: Seat) -> None:
        self._keeper = keeper
        self._seat = seat
        self.begin = seat.begin

    def end(self, *, failed: bool) -> None:
        """What `begin` began has been served."""
        self._seat.end(failed=failed)
        self._keeper.count()

    def requeue(self, client: Client) -> None:
        """Have *client*, which has more to be served, served again after those that wait."""
        self._keeper.requeue(client)

    @property
    def others_are_queued(self) -> bool:
        """Whether somebody waits to be accepted."""
        return self._keeper.others_are_queued

    def park(self, client: Client, waits: Waits) -> None:
        """Put *client* aside until it has said what it *waits* for."""
        self._keeper.park(client, waits)

    @property
    def is_leaving(self) -> bool:
        """Whether this worker is to take nothing new."""
        return self._keeper.is_leaving

    @property
    def others_wait(self) -> bool:
        """Whether a client that was put aside waits for a seat."""
        return self._keeper.others_wait
