"""What ``apply_async`` and ``map_async`` return."""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from .._core import codec
from .._core.wheel import Slot, run_quietly
from ..errors import InitializerError, PoolTerminated, ResultTimeout, TaskCancelled, TaskError
from ._callbacks import Callback, Callbacks, check_callbacks
from ._options import check_wait

if TYPE_CHECKING:
    from .._core.books import Task
    from .._core.master import Master
    from ._bars import Watch
    from ._feed import Feed
    from ._printed import Printed

T = TypeVar("T")

Watcher = Callable[["AsyncResult[Any]"], object]

_watching: Any = threading.RLock()  # held where a result gets its first watcher; few results have any
os.register_at_fork(after_in_child=_watching._at_fork_reinit)


class Home(Protocol):
    """The pool that a result belongs to, as far as results know it."""

    _master: Master
    _callbacks: Callbacks


class AsyncResult(Slot, Generic[T]):
    """The result of one call, to come.

    ``get`` and ``wait`` run the pool's loop while they wait, so that no other thread is needed for the result to
    arrive.  Callbacks run in a thread of their own, before the result is ready.

    In a coroutine, ``await`` a result instead: see `__await__`.
    """

    __slots__ = (
        "__weakref__", "_callback", "_early", "_error_callback", "_outcome", "_pool", "_printed", "_task", "_watchers",
    )  # fmt: skip  # one line a letter would be nine lines of names

    def __init__(self, pool: Home, callback: Callback | None = None, error_callback: Callback | None = None) -> None:
        if callback is not None or error_callback is not None:
            check_callbacks(callback, error_callback)
        self.settled = False
        self.waiters = None
        self._pool: Home | None = pool  # keeps the pool alive until the result is there
        self._callback = callback
        self._error_callback = error_callback
        self._outcome: tuple[bool, Any] | None = None  # (True, value) or (False, error), before it is ready
        self._task: Task | None = None
        self._early: deque[Watcher] | None = None  # told of the outcome
        self._watchers: deque[Watcher] | None = None  # told when it is ready, that is after the callback
        self._printed: Printed | None = None  # where the pool captures what tasks write
        pool._master.pending.add(self)

    def ready(self) -> bool:
        """Whether the call has ended, its callback included."""
        return self.settled

    def successful(self) -> bool:
        """Whether the call ended without an exception.

        Raises:
            ValueError: it has not ended.
        """
        if not self.settled or self._outcome is None:
            raise ValueError(f"{self!r} not ready; call wait() first")
        return self._outcome[0]

    @property
    def stdout(self) -> str | None:
        """What the call wrote to standard output, in its last attempt.

        None unless the pool has ``capture_output=True``, and until the call has ended.
        """
        return self._printed.of(0)[0] if self._printed is not None and self.settled else None

    @property
    def stderr(self) -> str | None:
        """What the call wrote to standard error; as `stdout`."""
        return self._printed.of(0)[1] if self._printed is not None and self.settled else None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the call has ended, at most *timeout* seconds; in a callback, until its value is known."""
        if timeout is not None:
            timeout = check_wait(timeout)
        pool = self._pool
        if pool is None:
            return
        if not pool._callbacks.is_current():
            pool._master.wait(self, timeout)
            return
        # The callback of this result may be behind the one that waits.
        known, wheel = Slot(), pool._master.wheel

        def tell(_: AsyncResult[Any]) -> None:
            wheel.settle(known)

        self._when_known(tell)
        try:
            pool._master.wait(known, timeout)
        finally:
            self._forget(tell)

    def get(self, timeout: float | None = None) -> T:
        """The call's value.

        Raises:
            ResultTimeout: (a ``multiprocessing.TimeoutError``) it has not ended within *timeout* seconds.
            BaseException: what the call raised, its remote traceback as ``__cause__``.
            TaskError: see `forkful.errors`.
        """
        if timeout is not None:
            timeout = check_wait(timeout)
        if not self.settled:
            self.wait(timeout)
            if not self.settled and (self._outcome is None or not self._is_in_callback()):
                raise ResultTimeout(f"no result within {timeout:g} s; the task goes on")
        assert self._outcome is not None
        success, value = self._outcome
        if success:
            result: T = value
            return result
        try:
            raise value
        finally:
            del self, value  # the error's traceback holds this frame, and would hold the error

    def __await__(self) -> Generator[Any, None, T]:
        """In a coroutine, `get` without holding up the event loop: ``await pool.apply_async(f, (x,))``.

        No thread waits: the pool's background thread runs the pool's loop, and tells the event loop.

        Cancelling the task that awaits, as ``asyncio.timeout`` and ``asyncio.wait_for`` do, cancels the work, as
        ``cancel(kill=True)`` does.  That holds for whoever else waits for this result: they get `TaskCancelled`.  To
        stop waiting and let the work go on, await ``asyncio.shield(result)``.

        Raises:
            BaseException: as `get`.
        """
        if not self.settled:
            from ._awaiting import await_result  # asyncio is there in a coroutine, and costs 40 ms elsewhere

            yield from await_result(self)
        return self.get()

    def _is_in_callback(self) -> bool:
        pool = self._pool
        return pool is None or pool._callbacks.is_current()

    def cancel(self, *, kill: bool = False) -> bool:
        """Take the call back.

        Args:
            kill: also end it where it is running, by killing its worker process (which is replaced).

        Returns:
            Whether it was taken back before it started or, with *kill*, is being ended; ``get()`` then raises
            `TaskCancelled`.  False when it has ended, or runs and may go on.
        """
        pool, tasks = self._pool, self._open_tasks()
        if self._outcome is not None or pool is None or not tasks:
            return False
        pool._master.cancel(tasks, kill=kill)
        outcome = self._outcome
        ended = outcome is not None and isinstance(outcome[1], TaskCancelled)
        return ended or any(task.cancelled for task in tasks)

    def _when_settled(self, watcher: Watcher) -> None:
        """Have *watcher* called with this result once it is ready, by whichever thread makes it so; at once if it is.

        It must be quick, and not raise.
        """
        watchers = self._watchers
        if watchers is None:
            with _watching:  # two threads may be here
                if self._watchers is None:
                    self._watchers = deque()
                watchers = self._watchers
        watchers.append(watcher)
        if self.settled:
            self._tell(watchers)

    def _when_known(self, watcher: Watcher) -> None:
        """`_when_settled`, but as soon as the outcome is known: the callback may be still to come."""
        early = self._early
        if early is None:
            with _watching:
                if self._early is None:
                    self._early = deque()
                early = self._early
        early.append(watcher)
        if self._outcome is not None:
            self._tell(early)

    def _when_had(self, watcher: Watcher) -> None:
        """Have *watcher* called when `get`, in this thread, would wait no longer."""
        pool = self._pool
        if pool is not None and pool._callbacks.is_current():
            self._when_known(watcher)
        else:
            self._when_settled(watcher)

    def _forget(self, watcher: Watcher) -> None:
        """Do not call *watcher*, unless that has been done."""
        for watchers in (self._early, self._watchers):
            if watchers:
                try:
                    watchers.remove(watcher)
                except (ValueError, IndexError):  # told meanwhile, or it is among the others
                    pass

    def _tell(self, watchers: deque[Watcher]) -> None:
        """Each is told once, also where two threads are here: a deque gives each of its items to one of them."""
        while watchers:
            try:
                watcher = watchers.popleft()
            except IndexError:  # the other thread was quicker
                return
            watcher(self)

    def _open_tasks(self) -> list[Task]:
        return [] if self._task is None else [self._task]

    def __repr__(self) -> str:
        if self._outcome is None:
            return f"<{type(self).__name__} pending>"
        success, value = self._outcome
        return f"<{type(self).__name__} {'value' if success else 'error'}: {codec.short_repr(value)}>"

    # What the master calls (`books.Sink`, `master.Pending`).

    def accept(self, task: Task, index: int, values: list[Any], pid: int | None, size: int) -> None:
        """The call has returned."""
        pool = self._pool
        if self._callback is None and pool is not None and self._outcome is None:  # the usual case, spared a call
            self._outcome = (True, values[0])
            self._settle(pool)
        else:
            self._end(True, values[0])

    def refuse(self, task: Task, index: int, error: BaseException, pid: int | None) -> None:
        """The call has raised."""
        if self._printed is not None:
            self._printed.attach(index, error)
        self._end(False, error)

    def fail(self, task: Task, index: int, count: int, error: BaseException) -> None:
        """The call has ended without either."""
        if self._printed is not None and isinstance(error, TaskError):
            self._printed.attach(index, error)
        self._end(False, error)

    def hear(self, task: Task, index: int, attempt: int, out: str, err: str) -> None:
        """An element has written something."""
        if self._printed is not None:
            self._printed.add(index, attempt, out, err)

    def abort(self, error: BaseException) -> None:
        """End with *error*, unless the call has ended; a terminated pool calls nobody back."""
        pool = self._pool
        if pool is None or self.settled:
            return
        if self._outcome is None:
            self._outcome = (False, error)
        self._settle(pool)

    def _end(self, success: bool, value: Any) -> None:
        pool = self._pool
        if pool is None or self._outcome is not None:
            return
        self._outcome = (success, value)  # in one step: another thread may be aborting this just now
        callback = self._callback if success else self._error_callback
        if callback is None:
            self._settle(pool)
        else:
            if self._early is not None:
                self._tell(self._early)
            pool._callbacks.call(callback, self)

    def abandon_with(self, error: BaseException) -> None:
        """The call cannot be made: end with *error*."""
        self._end(False, error)

    def run_callback(self, callback: Callback) -> None:
        """Call *callback*, then make this ready.  Runs in the callback thread; what *callback* raises is logged."""
        pool, outcome = self._pool, self._outcome
        if pool is None or outcome is None:
            return  # the pool was terminated meanwhile
        run_quietly(f"callback {codec.describe(callback)}", callback, outcome[1])
        self._settle(pool)

    def _settle(self, pool: Home) -> None:
        """Make it ready.  Called by the thread that delivers, or by the one that ran the callback."""
        self._callback = self._error_callback = self._task = None
        self._pool = None
        master = pool._master
        master.pending.discard(self)
        master.wheel.settle(self)
        if self._early is not None:
            self._tell(self._early)
        if self._watchers is not None:
            self._tell(self._watchers)


class MapResult(AsyncResult[list[T]]):
    """The results of one map, to come; ready when every element has ended.  ``get`` raises the first error by position."""

    __slots__ = ("_error", "_error_at", "_left", "_length", "_lock", "_source", "_values", "_watch")

    def __init__(
        self, pool: Home, length: int, callback: Callback | None = None, error_callback: Callback | None = None
    ) -> None:
        self._values: list[Any] = [None] * length
        self._left = self._length = length
        self._lock = threading.RLock()
        self._error: BaseException | None = None
        self._error_at = length
        self._source: Feed | None = None
        self._watch: Watch | None = None
        super().__init__(pool, callback, error_callback)  # last: from here on a signal handler may `abort` it

    def follow(self, source: Feed) -> None:
        """*source* makes this map's tasks; it is stopped when the map ends early."""
        self._source = source

    def accept(self, task: Task, index: int, values: list[Any], pid: int | None, size: int) -> None:
        """Some elements have returned."""
        with self._lock:
            self._values[index : index + len(values)] = values
            self._left -= len(values)
            if self._watch is not None:
                self._watch.count(len(values), 0)
        self._conclude()

    def refuse(self, task: Task, index: int, error: BaseException, pid: int | None) -> None:
        """One element has raised."""
        if self._printed is not None:
            self._printed.attach(index, error)
        self._note(index, 1, error)

    def fail(self, task: Task, index: int, count: int, error: BaseException) -> None:
        """Some elements have ended with *error*."""
        if self._printed is not None and count == 1 and isinstance(error, TaskError):
            self._printed.attach(index, error)
        self._note(index, count, error)
        if isinstance(error, InitializerError):
            self.abandon(error)

    @property
    def stdout(self) -> list[str] | None:  # type: ignore[override]  # one for each
        """What each element wrote to standard output, in its last attempt; None where `AsyncResult.stdout` is."""
        return self._written(0)

    @property
    def stderr(self) -> list[str] | None:  # type: ignore[override]  # likewise
        """What each element wrote to standard error; as `stdout`."""
        return self._written(1)

    def _written(self, which: int) -> list[str] | None:
        printed = self._printed
        return [printed.of(at)[which] for at in range(self._length)] if printed is not None and self.settled else None

    def conclude_empty(self) -> None:
        """There is nothing to wait for; as with ``multiprocessing``, then no callback is called."""
        self._callback = self._error_callback = None
        self._conclude()

    def abandon(self, error: BaseException) -> None:
        """No further element can run (or be read): end now, with *error*."""
        if self._source is not None:
            self._source.stop()
        self._end(False, error)

    def abort(self, error: BaseException) -> None:
        """End with *error*, unless the map has ended."""
        if self._source is not None:
            self._source.stop()
        super().abort(error)

    def cancel(self, *, kill: bool = False) -> bool:
        """Take back what has not started (and end what runs, with *kill*); ``get()`` then raises `TaskCancelled`."""
        source = self._source
        if self._outcome is not None or source is None:
            return False
        error = TaskCancelled(f"{source.name} was cancelled by cancel()", task=source.name)
        position, skipped = source.position, source.stop()
        cancelled = super().cancel(kill=kill)
        if skipped:
            self._note(position, skipped, error)
        return cancelled or bool(skipped)

    @property
    def _number_left(self) -> int:
        """Elements that have not ended: progress bars written for ``multiprocessing.Pool`` read this."""
        return self._left

    def _open_tasks(self) -> list[Task]:
        return [] if self._pool is None else self._pool._master.tasks_of(self)

    def _note(self, index: int, count: int, error: BaseException) -> None:
        with self._lock:
            if self._error is None or index < self._error_at:
                self._error, self._error_at = error, index
            self._left -= count
            if self._watch is not None and not isinstance(error, PoolTerminated):
                self._watch.count(count, count)
        self._conclude()

    def _conclude(self) -> None:
        if self._left == 0 and self._outcome is None:
            if self._error is None:
                self._end(True, self._values)
            else:
                self._end(False, self._error)

    def _end(self, success: bool, value: Any) -> None:
        """With a progress bar the end is when that has shown it, as it is when a callback has run."""
        if self._watch is None:
            super()._end(success, value)
        else:
            self._watch.finish(functools.partial(super()._end, success, value))

    def leave_bar(self, patience: float) -> None:
        """Whoever waited has gone: no bar is to move on his terminal."""
        if self._watch is not None:
            self._watch.finish()
            self._watch.await_shown(patience)

    def _settle(self, pool: Home) -> None:
        self._source = None
        self._values = []
        if self._watch is not None:
            self._watch.finish()  # if the map was ended from outside
        super()._settle(pool)
