"""What ``imap``, ``imap_unordered`` and ``outcomes`` return."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._core.master import FOREIGN
from .._core.wheel import Slot
from ..errors import InitializerError, PoolClosed, PoolTerminated, ResultTimeout
from ._options import check_limits, check_wait
from ._outcome import Outcome

if TYPE_CHECKING:
    from .._core.books import Task
    from .._core.master import Master
    from ._bars import Watch
    from ._feed import StreamFeed
    from ._printed import Printed

T = TypeVar("T")

_PATIENCE_S = 0.5  # that a progress bar is waited for to say its last word
_BATCH_MOST = 512  # outcomes
_UNBROKEN_MOST = 64  # results that are there a coroutine may fetch before other tasks of its loop have their turn


class Stream:
    """Outcomes as they arrive, or in order: the end of a lazy map that the master knows.

    It must not hold the iterator the user holds, nor the pool: dropping those is how a user walks away.
    """

    def __init__(self, master: Master, *, ordered: bool, printed: Printed | None = None) -> None:
        self._master = master
        self._printed = printed  # where the pool captures what tasks write
        self._ordered = ordered
        self._feed: StreamFeed | None = None
        self.progress: Watch | None = None
        self._lock = threading.RLock()
        self._items: deque[Outcome] = deque()
        self._early: dict[int, Outcome] = {}  # arrived before their turn
        self._next = 0  # index of the next to pass on, when ordered
        self._arrived = 0
        self._length: int | None = None  # known when the iterable has ended
        self._error: BaseException | None = None  # of the iterable itself, or of the pool: the last thing to pass on
        self._slot: Slot | None = None  # what waiting threads wait for
        self._bells: list[Callable[[], object]] = []  # what rings where event loops wait
        self._dropped = False
        self._watcher: Callable[[], object] | None = None
        master.pending.add(self)

    def follow(self, feed: StreamFeed) -> None:
        """*feed* makes this map's tasks."""
        self._feed = feed

    def drop(self) -> None:
        """Nobody will read the rest: read no further input, take back what has not started.  What runs ends unheard.

        The garbage collector may call this at any point of any thread.
        """
        if self._master.foreign:
            return  # a thread of the parent may have held the feed's lock at the fork
        feed, self._feed = self._feed, None
        self._dropped = True
        if feed is not None:
            feed.stop()
            if not self._ended():
                self._master.forsake(self)
        with self._lock:
            self._error = None
            self._length = self._arrived = 0
            self._items.clear()
            self._early.clear()
        self._release()
        if self.progress is not None:
            self.progress.finish()
        self._notify()  # another thread, or task, may be waiting here

    def stop(self) -> None:
        """Start nothing more.  What runs may end; what has not started is taken back, and its outcome says so."""
        feed = self._feed
        if feed is not None and not self._master.foreign:
            feed.halt()
            self._master.forsake(self, last=True)

    def limit(self, timeout: int | None) -> None:
        """So many nanoseconds each element may run, from now on."""
        feed = self._feed
        if feed is not None:
            feed.limit(timeout)
            self._master.retime(self, timeout)

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
                    self._refill(feed, item)
                return item
            if timeout is not None:
                deadline = time.monotonic() + timeout if deadline is None else deadline
                timeout = max(0.0, deadline - time.monotonic())
            if not self._await_item(timeout):
                return None

    def take(self) -> Outcome | None:
        """The next outcome if it is there: `fetch` without waiting."""
        if self._master.foreign:
            raise PoolClosed(FOREIGN)
        try:
            item = self._items.popleft()
        except IndexError:
            return None
        feed = self._feed
        if feed is not None and feed.fetched(1):
            self._refill(feed, item)
        return item

    def _refill(self, feed: StreamFeed, item: Outcome) -> None:
        """There is room in the window again; *item* is about to be passed on."""
        try:
            self._master.feed()
        except BaseException:  # Ctrl-C: it has not been passed on yet
            self._items.appendleft(item)
            feed.fetched(-1)
            raise

    def _await_item(self, timeout: float | None) -> bool:
        """Wait for something to pass on; False at the end."""
        with self._lock:
            if self._items:
                return True
            if self.is_at_end():
                return False
            if self._slot is None:
                self._slot = Slot()
            slot = self._slot
        self._look_hungry()
        if not self._master.wait(slot, timeout):
            raise ResultTimeout("no result within the time given; the tasks go on")
        return True

    def is_at_end(self) -> bool:
        """Whether there is nothing to pass on, now or later.  Raises the iterable's error, once."""
        with self._lock:
            if self._items or not self._ended():
                return False
            error, self._error = self._error, None
            self._release()
            if error is not None:
                raise error
            return True

    def watch(self, wake: Callable[[], object]) -> bool:
        """Have *wake* called when there is something to pass on, or the end; False if that is so now."""
        with self._lock:
            if self._items or self._ended():
                return False
            self._bells.append(wake)
        self._look_hungry()
        return True

    def unwatch(self, wake: Callable[[], object]) -> None:
        """Do not call *wake*."""
        with self._lock:
            if wake in self._bells:
                self._bells.remove(wake)

    def _look_hungry(self) -> None:
        """The reader waits: perhaps for nothing but a wider window."""
        feed = self._feed
        if feed is not None and feed.starving():
            self._master.feed()

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
                if self.progress is not None and error is None:
                    self.progress.tally.total = length
        self._notify()

    def hear(self, task: Task, index: int, attempt: int, out: str, err: str) -> None:
        """An element has written something."""
        if self._printed is not None and not self._dropped:
            self._printed.add(index, attempt, out, err)

    def _with_output(self, outcome: Outcome, printed: Printed) -> Outcome:
        index, error = outcome.index, outcome.error
        if error is not None:
            printed.attach(index, error)
        out, err = printed.of(index)
        printed.drop(index)
        return outcome._replace(stdout=out, stderr=err)

    def _add(self, outcomes: list[Outcome]) -> None:
        if self._printed is not None:
            outcomes = [self._with_output(outcome, self._printed) for outcome in outcomes]
        if self._dropped:
            return
        with self._lock:
            self._arrived += len(outcomes)
            if self.progress is not None:
                errors = [outcome.error for outcome in outcomes if outcome.error is not None]
                ended_with_the_pool = sum(1 for error in errors if isinstance(error, PoolTerminated))
                self.progress.count(len(outcomes) - ended_with_the_pool, len(errors) - ended_with_the_pool)
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
        if self.progress is not None and self._ended():
            self.progress.finish()
        with self._lock:
            slot, bells = self._slot, self._bells
            if (slot is None and not bells) or not (self._items or self._ended()):
                return
            self._slot = None
            if bells:
                self._bells = []
        if slot is not None:
            self._master.wheel.settle(slot)
        for ring in bells:
            ring()


class _Reader:
    """The user's end of a stream; keeps the pool alive while there is something to read."""

    def __init__(self, pool: object, stream: Stream) -> None:
        self._pool: object = pool  # nothing is asked of it
        self._stream = stream
        self._unbroken = 0  # results that a coroutine has fetched without waiting

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        self._stream.drop()
        progress = self._stream.progress
        if progress is not None and not _is_finalizing():  # else its thread runs no more, and our globals may have gone
            progress.await_shown(_PATIENCE_S)

    def close(self) -> None:
        """Leave the rest: no further input is read, what has not started never does, what runs ends unheard.

        Dropping the iterator does the same.
        """
        self._stream.drop()
        self._let_go()

    async def aclose(self) -> None:
        """`close`, for ``contextlib.aclosing``."""
        self._stream.drop()
        await self._let_go_async()

    def _fetch(self, timeout: float | None) -> Outcome:
        try:
            outcome = self._stream.fetch(timeout)
        except ResultTimeout:
            raise
        except BaseException:
            if self._stream.over():
                self._let_go()
            raise
        if outcome is None:
            self._let_go()
            raise StopIteration
        return outcome

    def _let_go(self) -> None:
        """There is nothing left to read; and nothing to be drawn, when the caller writes his next line."""
        self._pool = None
        progress = self._stream.progress
        if progress is not None:
            progress.await_shown(_PATIENCE_S)

    async def _fetch_async(self) -> Outcome:
        """`_fetch` for a coroutine.  Nothing is lost when its task is cancelled meanwhile: that comes next time."""
        from ._awaiting import await_change, give_way  # asyncio is there in a coroutine, and costs 40 ms elsewhere

        stream = self._stream
        self._unbroken += 1
        if self._unbroken >= _UNBROKEN_MOST:
            self._unbroken = 0
            await give_way()
        try:
            while (outcome := stream.take()) is None:
                if stream.is_at_end():
                    raise StopAsyncIteration
                self._unbroken = 0
                await await_change(stream, [stream._master])
        except Exception:
            if stream.over():
                await self._let_go_async()
            raise
        except BaseException:  # cancelled
            del self  # the traceback holds this frame, and would hold the iterator
            raise
        return outcome

    async def _let_go_async(self) -> None:
        self._pool = None
        progress = self._stream.progress
        if progress is not None:
            from ._awaiting import await_shown

            await await_shown(progress)


class IMapIterator(_Reader, Iterator[T], AsyncIterator[T], Generic[T]):
    """The results of ``imap`` (in order) or ``imap_unordered`` (as they arrive): for ``for``, and for ``async for``.

    An element that failed raises its error at its turn, and iteration can go on after it.  At most a window of elements
    is read ahead of what was fetched: see `forkful.Pool.imap`.  Leaving the loop, and so dropping the iterator, leaves
    the rest undone, as `close` does.
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
            try:
                raise outcome.error
            finally:
                del self, outcome  # the error's traceback holds this frame: it would hold the error, and the iterator
        value: T = outcome.value
        return value

    def __next__(self) -> T:
        outcome = self._fetch(None)  # not next(): a loop over many short elements feels one call more
        if outcome.error is not None:
            try:
                raise outcome.error
            finally:
                del self, outcome  # the error's traceback holds this frame: it would hold the error, and the iterator
        value: T = outcome.value
        return value

    def __aiter__(self) -> IMapIterator[T]:
        return self

    async def __anext__(self) -> T:
        outcome: Outcome | None = None
        try:
            outcome = await self._fetch_async()
            if outcome.error is not None:
                raise outcome.error
        except BaseException:
            del self, outcome  # as above: the loop that was cancelled here has let go of the iterator
            raise
        value: T = outcome.value
        return value


class OutcomeIterator(_Reader, Iterator[Outcome], AsyncIterator[Outcome]):
    """The outcomes of ``Pool.outcomes``: one for each element, whatever happened to it.  Also for ``async for``."""

    def __iter__(self) -> OutcomeIterator:
        return self

    def stop(self) -> None:
        """Start nothing more, read no further input, and let what runs end: its outcomes are the last to come.

        What was read and has not started has an outcome too, with `TaskCancelled` as its error; so has what failed and
        would have been tried again by a new worker.  A signal handler may call this.
        """
        self._stream.stop()

    def limit(self, timeout: float | None) -> None:
        """From now on, *timeout* seconds for each element (None: no limit), also for those that run.

        Raises:
            ValueError, TypeError: as for ``Pool.outcomes(timeout=)``.
        """
        self._stream.limit(check_limits(timeout, 0).timeout)

    def batches(self) -> Iterator[list[Outcome]]:
        """The outcomes in lists: waits for one, and gives what is there by then, at most 512.

        For what is done better for many than for each: to write a file, to fill a database.

        >>> from forkful import Pool
        >>> with Pool(2) as pool:
        ...     sum(len(batch) for batch in pool.outcomes(abs, range(100)).batches())
        100
        """
        stream = self._stream
        for outcome in self:
            batch = [outcome]
            while len(batch) < _BATCH_MOST and (more := stream.take()) is not None:
                batch.append(more)
            yield batch

    def __next__(self) -> Outcome:
        return self._fetch(None)

    def __aiter__(self) -> OutcomeIterator:
        return self

    async def __anext__(self) -> Outcome:
        try:
            return await self._fetch_async()
        except BaseException:
            del self  # as above
            raise
