"""The master's side of the status process: it is forked, replaced when it dies, and ended, and the fleet knows nothing of it.

It is a worker like any other, with a board of its own, so that nothing it does counts as the server's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from ._board import Board
from ._crew import Worker, describe_end
from ._events import Say
from ._facts import Facts
from ._fleet import PAUSES
from ._listeners import Listener
from ._settings import Settings
from ._source import Source
from ._status import IO_TIMEOUT, Status, is_loopback
from ._trades import Raw
from ._wire import Word
from ._worker import Job

__all__ = ["Lookout"]

SETTINGS = Settings(threads=2, drain_timeout=2 * IO_TIMEOUT)
ROWS = 3  # the one that is there, and those that leave
STABLE = 10.0
"""Seconds after which a death does not count as one more in a row."""


class Lookout:
    """Sees to it that there is a status process.

    Args:
        listener: the status address.
        facts: what is told there.
        others: the server's listeners, which are not the status process's.
        watch: have a function called when a descriptor is readable.
        forget: watch it no more.
        say: a line for whoever runs the server.
    """

    def __init__(
        self,
        listener: Listener,
        facts: Facts,
        others: Sequence[Listener],
        *,
        watch: Callable[[int, Callable[[], None]], None],
        forget: Callable[[int], None],
        say: Callable[[Say], None],
    ) -> None:
        self.listener = listener
        self.wake_at: float | None = None  # when the next one is to be started
        self._others = others
        self._watch, self._forget, self._say = watch, forget, say
        self._board = Board(ROWS, SETTINGS.threads)
        source = Source(Status(facts, guarded=is_loopback(listener.socket)))
        self._trade = Raw(source, None, head_timeout=IO_TIMEOUT, io_timeout=IO_TIMEOUT)
        self._trade.prepare(listener)
        self._numbers = count(1)
        self._current: Worker | None = None
        self._since = 0.0  # when it was started
        self._leaving: list[Worker] = []
        self._failures = 0  # in a row

    def start(self) -> None:
        """Fork one."""
        self.wake_at = None
        self._since = time.monotonic()
        row = self._board.take_row(0)
        assert row is not None, "no more than two are there at a time"
        try:
            worker = Worker(next(self._numbers), row)
            job = Job(
                self._trade,
                [self.listener.socket],
                SETTINGS,
                self._board,
                row,
                worker.theirs,
                worker.lifeline,
                not_ours=[other.socket for other in self._others],
            )
            worker.start(job)
        except OSError as error:
            self._board.retire(row)
            self._pause(f"could not be started ({error.strerror})")
            return
        self._current = worker
        self._watch(worker.wire.fileno(), partial(self._on_message, worker))
        self._watch(worker.child.fileno(), partial(self._on_end, worker))

    def replace(self) -> None:
        """Start another, which takes what comes from now on; the one that is there finishes what it is telling."""
        for worker in list(self._leaving):  # since the last time
            worker.child.kill()
            worker.child.await_end()
            self._on_end(worker)
        old, self._current = self._current, None
        self.start()
        if old is not None:
            self._leaving.append(old)
            old.wire.send(Word.DRAIN)

    def end(self) -> None:
        """There is to be none; returns when there is none."""
        current, self._current = self._current, None
        for worker in [*self._leaving, *([current] if current is not None else [])]:
            worker.child.kill()
            worker.child.await_end()
            self._on_end(worker)
        self.wake_at = None

    def _on_message(self, worker: Worker) -> None:
        try:
            messages = worker.wire.receive()
        except EOFError:
            self._forget(worker.wire.fileno())  # its end tells the rest
            return
        if worker is self._current and any(message.word is Word.SPENT for message in messages):
            self.replace()  # somebody sent it SIGTERM

    def _on_end(self, worker: Worker) -> None:
        if not worker.child.collect():
            return
        self._forget(worker.child.fileno())
        self._forget(worker.wire.fileno())
        worker.close()
        self._board.retire(worker.row)
        if worker is self._current:
            self._current = None
            self._pause(describe_end(worker.child.exitcode) or "has ended")
        elif worker in self._leaving:
            self._leaving.remove(worker)

    def _pause(self, how: str) -> None:
        self._failures = self._failures + 1 if time.monotonic() - self._since < STABLE else 1
        pause = PAUSES[min(self._failures, len(PAUSES)) - 1]
        self.wake_at = time.monotonic() + pause
        self._say(Say(f"the status process {how}; the next one is started in {pause:g} s", is_trouble=True))
