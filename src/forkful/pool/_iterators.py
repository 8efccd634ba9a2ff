"""What ``imap``, ``imap_unordered`` and ``outcomes`` return."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._core.master import FOREIGN
from .._core.wheel import Slot
from ..errors import InitializerError, PoolClosed, ResultTimeout
from ._options import check_wait
from ._outcome import Outcome

if TYPE_CHECKING:
    from .._core.books import Task
    from .._core.master import Master
    from ._feed import StreamFeed

T = TypeVar("T")


class Stream:
    """Outcomes as they arrive, or in order: the end of a lazy map that the master knows.

    It must not hold the iterator the user holds, nor the pool: dropping those is how a user walks away.
    """

    def __init__(self, master: Master, *, ordered: bool) -> None:
        self._master = master
        self._ordered = ordered
        self._feed: StreamFeed | None = None
        self._lock = threading.RLock()
        self._items: deque[Outcome] = deque()
        self._early: dict[int, Outcome] = {}  # arrived before their turn
        self._next = 0  # index of the next to pass on, when ordered
        self._arrived = 0
        self._length: int | None = None  # known when the iterable has ended
        self._error: BaseException | None = None  # of the iterable itself, or of the pool: the last thing to pass on
        self._slot: Slot | None = None
        self._dropped = False
        self._watcher: Callable[[], object] | None = None
        master.pending.add(self)

    def follow(self, feed: StreamFeed) -> None:
        """*feed* makes this map's tasks."""
        self._feed = feed

    def drop(self) -> None:
        """Nobody will read the rest: read no further input.  What is at the workers ends unheard."""
        if self._master.foreign:
            return  # a thread of the parent may have held the feed's lock at the fork
        feed = self._feed
        if feed is not None:
            feed.stop()
        self._dropped = True
        self._release()

    def cut(self, error: BaseException) -> None:
        """Read no further input: after the outcomes of what was read, *error* is the last thing the reader gets."""
        feed = self._feed
        if feed is not None:
            feed.stop()
            self.end(feed.position, error)

    def when_ended(self, watcher: Callable[[], object]) -> None:
        """Have *watcher* called once every outcome is there, read or not; at once if so.  It must be quick."""
        self._watcher = watcher
        self._tell_watcher()

    def _tell_watcher(self) -> None:
        with self._lock:
            if not self._ended():
                return
            watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher()

    # The reader's side.

    def fetch(self, timeout: float | None) -> Outcome | None:
        """The next outcome, waiting for it; None at the end.  Raises the iterable's error, or a time-out."""
        if self._master.foreign:
            raise PoolClosed(FOREIGN)
        deadline: float | None = None
        while True:
            try:
                item = self._items.popleft()
            except IndexError:  # nothing there, or another thread was quicker
                item = None
            if item is not None:
                feed = self._feed
                if feed is not None and feed.fetched(1):
                    try:
                        self._master.feed()
                    except BaseException:  # Ctrl-C: it has not been passed on yet
                        self._items.appendleft(item)
                        feed.fetched(-1)
                        raise
                return item
            if timeout is not None:
                deadline = time.monotonic() + timeout if deadline is None else deadline
                timeout = max(0.0, deadline - time.monotonic())
            if not self._await_item(timeout):
                return None

    def _await_item(self, timeout: float | None) -> bool:
        """Wait for something to pass on; False at the end."""
        with self._lock:
            if self._items:
                return True
            if self._ended():
                error, self._error = self._error, None
                self._release()
                if error is not None:
                    raise error
                return False
            if self._slot is None:
                self._slot = Slot()
            slot = self._slot
        feed = self._feed
        if feed is not None and feed.starving():
            self._master.feed()
        if not self._master.wait(slot, timeout):
            raise ResultTimeout("no result within the time given; the tasks go on")
        return True

    def over(self) -> bool:
        """Whether everything has been passed on."""
        return self._feed is None and not self._items

    def _ended(self) -> bool:
        return self._length is not None and self._arrived >= self._length

    def _release(self) -> None:
        self._feed = None
        self._master.pending.discard(self)

    # The master's side (`books.Sink`, `master.Pending`).

    def accept(self, task: Task, index: int, values: list[Any], pid: int | None, size: int) -> None:
        """Some elements have returned."""
        feed = self._feed
        if feed is not None:
            feed.weigh(size)
        attempts = task.attempts + 1
        self._add([Outcome(at, True, value, None, attempts, pid) for at, value in enumerate(values, index)])

    def refuse(self, task: Task, index: int, error: BaseException, pid: int | None) -> None:
        """One element has raised."""
        self._add([Outcome(index, False, None, error, task.attempts + 1, pid)])

    def fail(self, task: Task, index: int, count: int, error: BaseException) -> None:
        """Some elements have ended with *error*."""
        if isinstance(error, InitializerError):
            self.abort(error)
            return
        pid = getattr(error, "pid", None)
        attempts = task.attempts + (pid is not None)
        self._add([Outcome(position, False, None, error, attempts, pid) for position in range(index, index + count)])

    def abort(self, error: BaseException) -> None:
        """No further element will run: *error* is the last thing the reader gets."""
        feed = self._feed
        if feed is not None:
            feed.stop()
        with self._lock:
            if self._ended():
                return
            self._error = error
            self._length = self._arrived = 0
        self._notify()

    def end(self, length: int, error: BaseException | None) -> None:
        """The iterable has ended after *length* elements, or raised *error*."""
        with self._lock:
            if self._length is None:
                self._length, self._error = length, error
        self._notify()

    def _add(self, outcomes: list[Outcome]) -> None:
        if self._dropped:
            return
        with self._lock:
            self._arrived += len(outcomes)
            if not self._ordered:
                self._items.extend(outcomes)
            else:
                early = self._early
                for outcome in outcomes:
                    early[outcome.index] = outcome
                while self._next in early:
                    self._items.append(early.pop(self._next))
                    self._next += 1
        self._notify()

    def _notify(self) -> None:
        if self._watcher is not None:
            self._tell_watcher()
        with self._lock:
            slot = self._slot
            if slot is None or not (self._items or self._ended()):
                return
            self._slot = None
        self._master.wheel.settle(slot)


class _Reader:
    """The user's end of a stream; keeps the pool alive while there is something to read."""

    def __init__(self, pool: object, stream: Stream) -> None:
        self._pool: object = pool  # nothing is asked of it
        self._stream = stream

    def __del__(self) -> None:
        self._stream.drop()

    def _fetch(self, timeout: float | None) -> Outcome:
        try:
            outcome = self._stream.fetch(timeout)
        except ResultTimeout:
            raise
        except BaseException:
            if self._stream.over():
                self._pool = None
            raise
        if outcome is None:
            self._pool = None
            raise StopIteration
        return outcome


class IMapIterator(_Reader, Iterator[T], Generic[T]):
    """The results of ``imap`` (in order) or ``imap_unordered`` (as they arrive).

    An element that failed raises its error at its turn, and iteration can go on after it.  At most a window of elements
    is read ahead of what was fetched: see `forkful.Pool.imap`.
    """

    def __iter__(self) -> IMapIterator[T]:
        return self

    def next(self, timeout: float | None = None) -> T:
        """The next result.

        Raises:
            StopIteration: there is none.
            ResultTimeout: (a ``multiprocessing.TimeoutError``) it has not come within *timeout* seconds.
            BaseException: what the element raised, or the iterable.
        """
        outcome = self._fetch(None if timeout is None else check_wait(timeout))
        if outcome.error is not None:
            raise outcome.error
        value: T = outcome.value
        return value

    def __next__(self) -> T:
        outcome = self._fetch(None)  # not next(): a loop over many short elements feels one call more
        if outcome.error is not None:
            raise outcome.error
        value: T = outcome.value
        return value


class OutcomeIterator(_Reader, Iterator[Outcome]):
    """The outcomes of ``Pool.outcomes``: one for each element, whatever happened to it."""

    def __iter__(self) -> OutcomeIterator:
        return self

    def __next__(self) -> Outcome:
        return self._fetch(None)
