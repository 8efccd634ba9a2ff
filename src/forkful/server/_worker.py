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
from ._handlers import Trade
from ._seats import Client, Seats
from ._settings import Settings
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
    """

    trade: Trade
    listeners: Sequence[socket.socket]
    settings: Settings
    board: Board
    row: int
    wire: Wire
    lifeline: int


def work(job: Job, mask: Iterable[int]) -> int:
    """Be a worker; returns the exit code."""
    return bootstrap.live(job.lifeline, mask, partial(_work, job))


def _work(job: Job, _this: bootstrap.WorkerProcess) -> None:
    if TRACE_SIGNAL is not None:
        faulthandler.register(TRACE_SIGNAL, file=sys.__stderr__ or 2, all_threads=True)
    job.board.adopt(job.row)
    try:
        job.trade.load()
    except BaseException as error:  # a handler's module may raise anything; the master says it
        job.wire.send(Word.REFUSED, job.trade.explain(error))
        return
    _Keeper(job).run()


class _Keeper:
    """The main thread."""

    def __init__(self, job: Job) -> None:
        self._job = job
        settings = job.settings
        self._seats = Seats(
            job.listeners,
            job.board.rows[job.row],
            settings.threads,
            self._serve,
            self._on_full,
            self._on_left,
        )
        self._ended, self._end = socket.socketpair()  # readable when the last seat has left
        self._alerted = 0.0
        self._served = itertools.count(1)
        self._is_spent = False
        self._gauge = Gauge() if settings.max_memory is not None else None
        self._last: int | None = None  # request, of those it serves
        if settings.max_requests is not None:
            self._last = settings.max_requests + secrets.randbelow(settings.max_requests_jitter + 1)
        self._leaving = False

    def run(self) -> None:
        """Serve until told to leave, and the last seat has left."""
        signal.signal(signal.SIGTERM, self._on_signal)
        reading, writing = socket.socketpair()
        writing.setblocking(False)
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        self._seats.start()
        self._job.wire.send(Word.READY)
        poll = select.poll()
        for end in (self._job.wire, self._ended, reading):
            poll.register(end, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if reading.fileno() in ready:
                reading.recv(4096)
            if self._job.wire.fileno() in ready and not self._obey():
                poll.unregister(self._job.wire)
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
        if not self._is_spent:
            self._is_spent = True
            self._job.wire.send(Word.SPENT, "was told to leave by SIGTERM")

    def _leave(self, *, when_empty: bool = False) -> None:
        self._leaving = True
        self._seats.leave(when_empty=when_empty)
        self._on_left(self._seats.present)

    # In the threads of the seats.

    def _on_full(self) -> None:
        if self._job.board.wants_alerts and (now := time.monotonic()) - self._alerted >= ALERT_PAUSE:
            self._alerted = now
            self._job.wire.send(Word.FULL)

    def _on_left(self, present: int) -> None:
        if self._leaving:
            self._job.wire.send(Word.LEFT, str(present))
        if not present:
            self._end.close()

    def _serve(self, client: Client, seat: Seat) -> None:
        seat.begin(str(client))
        failed = True
        try:
            failed = self._job.trade.serve(client.conn, client.address)
        finally:
            seat.end(failed=failed)
            self._count()

    def _count(self) -> None:
        served = next(self._served)
        if self._is_spent:
            return
        if self._last is not None and served >= self._last:
            self._ask_to_leave(f"has served {served} requests")
        elif self._gauge is not None:
            held = self._gauge.read(time.monotonic_ns())
            if held > (self._job.settings.max_memory or 0):
                self._ask_to_leave(f"holds {held // 1_000_000} MB")

    def _ask_to_leave(self, reason: str) -> None:
        self._is_spent = True
        self._job.wire.send(Word.SPENT, reason)
