"""`Pool`: what users hold.  It checks arguments, makes tasks, and leaves the rest to the master."""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

from .._core import codec, inheritance
from .._core.books import Task
from .._core.limits import Limits
from .._core.master import FOREIGN, Master
from .._core.messages import CALL, EACH, STAR
from .._core.schedule import default_chunksize
from .._core.supervisor import Supervisor
from ..errors import PoolClosed, PoolTerminated
from ._callbacks import Callback, Callbacks
from ._feed import (
    PLAIN,
    WINDOW_FIRST,
    WINDOW_MOST,
    PlainReader,
    SequenceFeed,
    StreamFeed,
    ThreadReader,
    explain_refusal,
)
from ._iterators import IMapIterator, OutcomeIterator, Stream
from ._options import Call, CallLimits, Options, check_limits, check_options, check_size, start_method_of
from ._results import AsyncResult, MapResult

T = TypeVar("T")
R = TypeVar("R")

RUN, CLOSE, TERMINATE = "RUN", "CLOSE", "TERMINATE"  # multiprocessing's names: its users compare with them

_SLICED = (list, tuple, range)

_PATIENCE = (
    0.5  # seconds that a callback which runs is waited for when the pool is terminated: Ctrl-C must end a program
)


class Member:
    """A worker process as ``Pool._pool`` shows it: what programs written for ``multiprocessing.Pool`` look at."""

    def __init__(self, master: Master, seat: int, pid: int | None) -> None:
        self._master = master
        self._seat = seat
        self._pid = pid

    @property
    def pid(self) -> int | None:
        """The process id; of a worker that is being started, as soon as there is one."""
        if self._pid is None:
            self._pid = self._master.await_pid(self._seat)
        return self._pid

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return not self._master.exit_of(self._seat)[0]

    @property
    def exitcode(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._master.exit_of(self._seat)[1]

    def __repr__(self) -> str:
        return f"<worker pid={self._pid} {'running' if self.is_alive() else f'exitcode={self.exitcode}'}>"


class Pool:
    """A pool of worker processes: ``multiprocessing.Pool`` that never hangs.

    Everything ``multiprocessing.Pool`` has, with its arguments in its order, and beyond it, as keywords:

    Args:
        processes: the most worker processes; they start as work arrives (all at once with an *initializer*, which is
            then something to be done in each).  None: `cpu_count`.
        initializer: called with *initargs* in each worker before its first task.
        maxtasksperchild: replace a worker after so many tasks (chunks, in a map).
        context: a start method, or a context of ``multiprocessing``.  None: what
            ``multiprocessing.set_start_method`` was told, else ``"forkserver"``; ``"fork"`` where *initargs* hold
            what only a fork can hand over.
        timeout: seconds any one task may run; its worker is then killed and replaced, and it ends with `TaskTimeout`.
            None: no limit.  Every method takes its own.
        retries: how often a task that fails (by exception, crash or timeout) is tried again.  Every method takes its own.

    Raises:
        ValueError, TypeError: for options that cannot be.

    A worker that dies costs the task it was running, nothing else: that task ends with `WorkerDied` (or is retried),
    tasks that waited behind it run elsewhere.  A task is started at most ``1 + retries`` times; the exception, in a map
    whose tasks hold several elements: those whose results were not yet safe, at most 25 µs of work, are run again.

    >>> with Pool(2) as pool:
    ...     pool.map(abs, [-1, 2, -3])
    [1, 2, 3]
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        timeout: float | None = None,
        retries: int = 0,
    ) -> None:
        self._state = CLOSE  # until it can do anything, so that __del__ has nothing to say
        limits = check_limits(timeout, retries)
        options = check_options(processes, initializer, initargs, maxtasksperchild, context, limits)
        self._options = options
        inheritance.check_not_importing_main()
        self._start_method, inherited = _choose_start_method(options)
        supervisor = Supervisor(self._start_method, inherited)
        self._master = Master(Limits(options.processes, options.maxtasksperchild), supervisor)
        self._callbacks = Callbacks()
        self._state = RUN
        self._finalizer = weakref.finalize(self, _end_dropped, self._master, self._callbacks)
        if initializer is not None:
            self._master.start_workers(options.processes)

    # One call.

    def apply(
        self,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> R:
        """``func(*args, **kwds)`` in a worker; its value.

        Raises:
            BaseException: what the call raised.
            TaskError: see `forkful.errors`.
        """
        limits = self._options.limits
        if timeout is not None or retries is not None:
            limits = limits.override(timeout, retries)
        result: AsyncResult[R] = AsyncResult(self._running())
        task = self._make_call(result, func, args, kwds, limits)
        if task is not None:
            self._master.submit_quietly(task)
            self._master.wait(result)
        return result.get()

    def apply_async(
        self,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[R], object] | None = None,
        error_callback: Callback | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> AsyncResult[R]:
        """Have ``func(*args, **kwds)`` called in a worker; an `AsyncResult` at once.

        The arguments are pickled here and now: changing them later does not change the call.

        Args:
            callback: called with the value, in the pool's callback thread.
            error_callback: called with the exception instead.
        """
        limits = self._options.limits
        if timeout is not None or retries is not None:
            limits = limits.override(timeout, retries)
        result: AsyncResult[R] = AsyncResult(self._running(), callback, error_callback)
        task = self._make_call(result, func, args, kwds, limits)
        if task is not None:
            self._master.submit(task)
        return result

    def _make_call(
        self, result: AsyncResult[Any], func: Any, args: Any, kwds: Mapping[str, Any] | None, limits: CallLimits
    ) -> Task | None:
        """The task of one call, or None when its arguments cannot be pickled: then *result* has the error.

        Raises:
            BaseException: see `codec.is_interrupt`.
        """
        try:
            call = tuple(args), dict(kwds) if kwds else {}
        except BaseException as error:  # no arguments; or an iterator, or a mapping, of the user's that raises
            _refuse(result, _explain_arguments(func, args, kwds, error))
            return None
        try:
            payload = codec.encode(call)
            # After the user's code has run: what is registered may be dropped again unless a task asks for it soon.
            key, name = self._master.functions.register(func)
        except BaseException as error:  # user code (__reduce__) may raise anything
            _refuse(result, explain_refusal(f"task {codec.describe(func)}", args, error))
            return None
        task = Task(result, key, name, CALL, payload, timeout=limits.timeout, retries=limits.retries)
        result._task = task
        return task

    # Maps.

    def map(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> list[R]:
        """``[func(x) for x in iterable]``, in parallel.

        All elements run, even when some fail; then the first error, by position, is raised.

        Args:
            chunksize: the most elements that travel together; None lets the pool choose from how long they take.
            timeout: seconds for each element.
        """
        return self.map_async(func, iterable, chunksize, timeout=timeout, retries=retries).get()

    def map_async(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int | None = None,
        callback: Callable[[list[R]], object] | None = None,
        error_callback: Callback | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> MapResult[R]:
        """`map` without waiting: a `MapResult` at once.  A callback is called once, with the whole list."""
        limits = self._options.limits.override(timeout, retries)
        return self._map(func, iterable, EACH, chunksize, limits, callback, error_callback)

    def starmap(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> list[R]:
        """`map` with each element unpacked: ``[func(*x) for x in iterable]``."""
        return self.starmap_async(func, iterable, chunksize, timeout=timeout, retries=retries).get()

    def starmap_async(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[R]], object] | None = None,
        error_callback: Callback | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> MapResult[R]:
        """`starmap` without waiting: a `MapResult` at once."""
        limits = self._options.limits.override(timeout, retries)
        return self._map(func, iterable, STAR, chunksize, limits, callback, error_callback)

    def _map(
        self,
        func: Any,
        iterable: Iterable[Any],
        style: int,
        chunksize: int | None,
        limits: CallLimits,
        callback: Callback | None,
        error_callback: Callback | None,
    ) -> MapResult[Any]:
        pool = self._running()
        if chunksize is not None:
            chunksize = check_size("chunksize", chunksize)
        failure: Exception | None = None
        if not hasattr(iterable, "__len__"):
            iterable = list(iterable)
        elif type(iterable) not in _SLICED:
            try:
                iterable = list(iterable)
            except Exception as error:  # the iterable's own error is the map's, as with multiprocessing
                failure, iterable = error, []
        elif type(iterable) is list:
            iterable = iterable.copy()  # it is read as room comes; the caller may change his list meanwhile
        items: Any = iterable
        result: MapResult[Any] = MapResult(pool, len(items), callback, error_callback)
        if failure is not None:
            result.abandon(failure)
            return result
        if not items:
            result.conclude_empty()
            return result
        try:
            key, name = self._master.functions.register(func)
        except BaseException as error:  # user code (__reduce__) may raise anything
            _refuse(result, explain_refusal(f"task {codec.describe(func)}", func, error))
            return result
        guarded = limits.timeout is not None or limits.retries > 0
        exact = self._options.maxtasksperchild is not None
        most = chunksize or default_chunksize(len(items), self._options.processes)
        call = Call(key, name, style, limits, guarded, most, exact)
        feed = SequenceFeed(call, result, self._master.block_of, items)
        result.follow(feed)
        try:
            self._master.add_source(feed)
        except BaseException as error:  # Ctrl-C: nobody will hold the result
            result.abort(error)
            raise
        return result

    def imap(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> IMapIterator[R]:
        """`map` as a lazy iterator, in order.

        The iterable is read as results are fetched.  The bound: at most *buffersize* elements are ahead of what was
        fetched (read, running, or done).  Without it the window is 16 elements (or two chunks for each process), and
        doubles up to 2048 (or four chunks) only while the reader is faster than the workers and results are small.

        Args:
            chunksize: elements read from the iterable together; at most *buffersize*.
        """
        return IMapIterator(self, self._stream(func, iterable, chunksize, buffersize, timeout, retries, ordered=True))

    def imap_unordered(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> IMapIterator[R]:
        """`imap` with results as they arrive."""
        return IMapIterator(self, self._stream(func, iterable, chunksize, buffersize, timeout, retries, ordered=False))

    def outcomes(
        self,
        func: Callable[[T], Any],
        iterable: Iterable[T],
        chunksize: int = 1,
        *,
        ordered: bool = False,
        buffersize: int | None = None,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> OutcomeIterator:
        """`imap` that tells how each element ended instead of raising: an iterator of `Outcome`.

        Only an error of the iterable itself, and the end of the pool, are raised.

        >>> with Pool(2) as pool:
        ...     sorted((o.index, o.ok) for o in pool.outcomes(int, ["1", "x"]))
        [(0, True), (1, False)]
        """
        return OutcomeIterator(
            self, self._stream(func, iterable, chunksize, buffersize, timeout, retries, ordered=ordered)
        )

    def _stream(
        self,
        func: Any,
        iterable: Iterable[Any],
        chunksize: int,
        buffersize: int | None,
        timeout: float | None,
        retries: int | None,
        *,
        ordered: bool,
    ) -> Stream:
        self._running()
        chunksize = check_size("chunksize", chunksize)
        if buffersize is not None:
            buffersize = check_size("buffersize", buffersize)
        limits = self._options.limits.override(timeout, retries)
        iterator, plain = iter(iterable), type(iterable) in PLAIN
        key, name = self._master.functions.register(func)
        exact = self._options.maxtasksperchild is not None
        most = WINDOW_MOST if chunksize == 1 and not exact else chunksize
        call = Call(key, name, EACH, limits, True, most, exact)
        stream = Stream(self._master, ordered=ordered)
        chunks = 0 if chunksize == 1 else chunksize * self._options.processes
        first = max(WINDOW_FIRST, 4 * self._options.processes, 2 * chunks)
        window = (first, max(WINDOW_MOST, 4 * chunks)) if buffersize is None else (buffersize, buffersize)
        reader = PlainReader(iterator) if plain else ThreadReader(iterator, self._master.nudge)
        feed = StreamFeed(call, stream, self._master.block_of, reader, chunksize, window, stream.end)
        stream.follow(feed)
        try:
            self._master.add_source(feed)
        except BaseException:  # Ctrl-C: nobody will hold the iterator
            stream.drop()
            raise
        return stream

    # The pool itself.

    def close(self) -> None:
        """Take no more work.  Workers leave when what was given is done; `join` waits for that."""
        if self._state == RUN:
            self._state = CLOSE
            self._master.close()

    def terminate(self) -> None:
        """End at once: every pending result ends with `PoolTerminated`, every worker is stopped."""
        self._state = TERMINATE
        if self._master.foreign:
            return
        self._master.terminate(
            PoolTerminated("the pool was terminated before this was done; close() and join() let it finish")
        )
        self._end(_PATIENCE)

    def join(self) -> None:
        """Wait until all work is done and every worker has left.

        Work that an ``imap`` still holds back for its reader is done too: its results wait, however many they are.

        Raises:
            ValueError: neither `close` nor `terminate` was called.
        """
        if self._state == RUN:
            raise ValueError("Pool is still running; call close() or terminate() before join()")
        self._master.lift_windows()
        self._end(_PATIENCE if self._state == TERMINATE else None)

    def _end(self, patience: float | None) -> None:
        if self._master.foreign:
            return  # in a forked child there is nothing to end: the workers are the parent's
        self._master.await_end()
        self._callbacks.close(patience)
        if not self._callbacks.is_current():  # there, the finalizer does what is left
            self._master.dispose()
            self._finalizer.detach()

    def __enter__(self) -> Self:
        self._running()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.terminate()

    def __del__(self, _warn: Any = warnings.warn, _run: str = RUN) -> None:
        if self._state == _run:
            _warn(
                f"unclosed running multiprocessing pool {self!r}; use `with` or close()", ResourceWarning, source=self
            )

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError(
            "pool objects cannot be passed between processes or pickled; make one where it is used"
        )

    def __repr__(self) -> str:
        if self._state == CLOSE and not hasattr(self, "_master"):
            return "<forkful.Pool, not made>"
        stats = self._master.stats()
        return (
            f"<forkful.Pool state={self._state} {self._start_method} "
            f"[workers: {stats['workers']} of {self._options.processes}, {stats['busy']} busy | "
            f"elements: {stats['running']} at workers, {stats['queued']} tasks queued]>"
        )

    def stats(self) -> dict[str, int]:
        """Counters since the start (``tasks``, ``failed``, ``retried``, ``requeued``, ``workers started``, ``workers
        died``) and how many there are now (``workers``, ``busy``, ``queued``, ``running``).
        """
        return self._master.stats()

    @property
    def _pool(self) -> list[Member]:
        """The worker processes.  Reading it starts them all: whoever looks expects as many as he asked for."""
        if self._state == RUN:
            self._repopulate_pool()
        return [Member(self._master, seat, pid) for seat, pid in self._master.members()]

    @property
    def _processes(self) -> int:
        """As many workers as were asked for: programs written for ``multiprocessing.Pool`` read this."""
        return self._options.processes

    def _repopulate_pool(self) -> None:
        self._master.start_workers(self._options.processes)

    def _running(self) -> Pool:
        if self._state != RUN or self._master.gave_up:
            if self._master.foreign:
                why = FOREIGN
            elif self._master.gave_up:
                why = "it was interrupted in its bookkeeping and gave up; make a new Pool"
            else:
                why = f"its state is {self._state}; make a new Pool"
            raise PoolClosed(f"Pool not running: {why}")
        return self


def _refuse(result: AsyncResult[Any], error: BaseException) -> None:
    """End *result* with *error*, and pass that on where it may be the user's Ctrl-C."""
    result.abandon_with(error)
    if codec.is_interrupt(error):
        raise error


def _explain_arguments(func: Any, args: Any, kwds: Any, error: BaseException) -> BaseException:
    name = codec.describe(func)
    if not isinstance(args, Iterable):
        one = codec.short_repr(args)
        return TypeError(f"args of {name} must be a sequence of arguments, such as ({one},), not {one}")
    if kwds and not isinstance(kwds, Mapping):
        return TypeError(f"kwds of {name} must be a dict of keyword arguments, not {codec.short_repr(kwds)}")
    return error


def _choose_start_method(options: Options) -> tuple[str, tuple[Any, tuple[Any, ...]] | None]:
    method, chosen = start_method_of(options.context)
    if options.initializer is None:
        return method, None
    inherited = (options.initializer, options.initargs)
    if method != "fork":
        try:
            inheritance.pack_inheritance(inherited)
        except Exception:
            # Such as a multiprocessing.Lock of the fork context: multiprocessing's own default on Linux before 3.14.
            if chosen:
                raise
            method = "fork"
    return method, inherited


def _end_dropped(master: Master, callbacks: Callbacks) -> None:
    """The pool was collected, or the program ends, without close()."""
    if master.foreign:
        return
    master.drop(PoolTerminated("the pool was dropped, or the program ended, before this was done"))
    if not sys.is_finalizing():
        callbacks.close(_PATIENCE)
