"""`Pool`: what users hold.  It checks arguments, makes tasks, and leaves the rest to the master."""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeVar

from .._core import inheritance
from .._core.equipment import Equipment
from .._core.limits import Limits
from .._core.master import FOREIGN, Master
from .._core.messages import EACH, STAR
from .._core.supervisor import Supervisor
from ..errors import PoolClosed, PoolTerminated
from ._callbacks import Callback, Callbacks
from ._calls import Calls
from ._iterators import IMapIterator, OutcomeIterator
from ._options import IDLE_NS, CallLimits, Options, Progress, check_options, check_processes, start_method_of
from ._processors import cpu_count
from ._results import AsyncResult, MapResult

if TYPE_CHECKING:
    from ._completed import CompletedIterator
    from ._executor import PoolExecutor
    from ._shared import Shared

T = TypeVar("T")
R = TypeVar("R")

RUN, CLOSE, TERMINATE = "RUN", "CLOSE", "TERMINATE"  # multiprocessing's names: its users compare with them

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
            then something to be done in each).  ``(least, most)``: so many are started at once and stay; those beyond
            leave when they have had nothing to do for *idle_timeout*.  None: `cpu_count`.
        initializer: called with *initargs* in each worker before its first task.
        maxtasksperchild: replace a worker after so many tasks (chunks, in a map).
        context: a start method, or a context of ``multiprocessing``.  None: what
            ``multiprocessing.set_start_method`` was told, else ``"forkserver"``; ``"fork"`` where *initargs* hold
            what only a fork can hand over.
        threads: tasks that each worker process runs at once, 1 to 240, each in a thread of its own: for work that waits
            (network, disk) rather than computes.  A crash costs what ran in that process; see `WorkerDied.cause`.
        mode: ``"auto"`` measures the processor time of each function against its duration, and uses as many of the
            *threads* (then 32 unless told) as pay: one for a function that computes, all for one that waits.  `stats`
            tells what was found.
        start_method: ``"forkserver"``, ``"spawn"`` or ``"fork"``: another way to say *context*.
        idle_timeout: seconds that a worker beyond the least may have nothing to do before it leaves; 60 with
            ``(least, most)``, else None: it stays.
        max_memory_per_worker: a worker that holds more between two tasks is replaced: ``"500MB"``, or bytes.
        cpu_ids: bind each worker to a processor, or to a set of them: ``[0, 1]``, ``[[0, 1], [2, 3]]``; they are shared out
            evenly.  Linux only.
        max_pending: the most calls of `apply_async` that have not ended, queued or running; 1 or more.  Further ones
            wait in `apply_async`, or raise `PoolFull`.  A call counts until its value is known, so that its callback
            may submit the next.  `apply`, which waits itself, does not count, and a map has its window.
            None: no limit.
        block: whether they wait; every `apply_async` takes its own.  In a coroutine they must not: it would hold up the
            event loop.
        finalizer: called without arguments in each worker that leaves because it is told to (`close`, *maxtasksperchild*,
            *max_memory_per_worker*, *idle_timeout*, `resize`), after its last task and before ``multiprocessing``'s own
            exit functions; not in one that is killed.  `terminate`, and the end of a ``with`` block, gives idle workers
            half a second for it; busy ones are ended without.  What it raises is printed to standard error, with the
            worker's name, and makes that worker's exit code 1.
        capture_output: attach what a task writes to standard output and error to its result, as ``stdout`` and
            ``stderr``: to `AsyncResult` (a list of texts for a map, one for each element), to `Outcome`, and to the
            exception of a task that failed, also by the death of its worker.  It is taken at the descriptors, so that what C
            code and child processes write is there too, but for ``threads`` > 1: then it is what Python code writes to
            ``sys.stdout`` and ``sys.stderr`` in the task's own thread.  Of each the last MiB is kept, after a line that says
            how much is not.  Bytes that are no UTF-8 are replaced.  A worker then takes two descriptors more here.
        timeout: seconds any one task may run; its worker is then killed and replaced, and it ends with `TaskTimeout`.
            None: no limit.  Every method takes its own.
        retries: how often a task that fails (by exception, crash or timeout) is tried again.  Every method takes its own.
        backoff: seconds before a task is tried again, twice as many before each further time; other tasks run meanwhile.
            None: at once.
        priority: of two tasks that wait, the one with the larger number goes first.  Every method takes its own.

    Raises:
        ValueError, TypeError: for options that cannot be.

    A worker that dies costs the task it was running, nothing else: that task ends with `WorkerDied` (or is retried),
    tasks that waited behind it run elsewhere.  A task is started at most ``1 + retries`` times; the exception, in a map
    whose tasks hold several elements: those whose results were not yet safe, at most 25 µs of work, are run again.

    A function that asks for ``state``, with a keyword-only parameter of that name without a default, gets its worker's: a
    dict of its own for each worker process, empty at first, the same for *initializer*, *finalizer* and all tasks there
    (with *threads*, for all of those).  What is costly to make is made once: ``def query(text, *, state): ...``.

    Libraries that compute in threads of their own (BLAS, OpenMP, NumExpr, Numba) are told to start
    ``cpu_count() // (processes * threads)`` of them in a worker, at least one; whatever the environment says already
    (``OMP_NUM_THREADS`` and its like) stays.  Under ``"fork"`` those that are loaded already are told with
    ``threadpoolctl``, if that is installed.

    What a worker logs is handled by this process's loggers, their levels, filters and handlers, in order and before the
    task's result is there; the record has the attributes ``task`` (such as ``"task f[3]"``; ``""`` outside of a task) and
    ``worker`` (its pid).  Handlers of this process are not run in workers; those that an initializer or a task adds there
    are.  A line is not written twice to the same place.

    The caller's ``contextvars``, as of the call, are set in the task, where they can be found (at the top level of a
    module) and their values pickle.  What a task with such variables sets itself is forgotten with it.

    >>> with Pool(2) as pool:
    ...     pool.map(abs, [-1, 2, -3])
    [1, 2, 3]
    """

    _state = CLOSE  # until it can do anything, so that __del__ has nothing to say
    _dropped_by_leave = False

    def __init__(
        self,
        processes: int | tuple[int, int] | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        threads: int | None = None,
        mode: Literal["auto"] | None = None,
        start_method: str | None = None,
        finalizer: Callable[..., object] | None = None,
        idle_timeout: float | None = None,
        max_memory_per_worker: int | str | None = None,
        cpu_ids: Sequence[int] | Sequence[Sequence[int]] | None = None,
        max_pending: int | None = None,
        block: bool = True,
        capture_output: bool = False,
        timeout: float | None = None,
        retries: int = 0,
        priority: int = 0,
        backoff: float | None = None,
    ) -> None:
        options = self._options = check_options(
            processes,
            initializer,
            initargs,
            maxtasksperchild,
            context,
            threads=threads,
            mode=mode,
            start_method=start_method,
            finalizer=finalizer,
            idle_timeout=idle_timeout,
            max_memory_per_worker=max_memory_per_worker,
            cpu_ids=cpu_ids,
            max_pending=max_pending,
            block=block,
            capture_output=capture_output,
            timeout=timeout,
            retries=retries,
            priority=priority,
            backoff=backoff,
        )
        inheritance.check_not_importing_main()
        equipment = _equip(options)
        self._start_method = equipment.start_method
        self._master = Master(_bound(options), Supervisor(equipment))
        self._calls = Calls(self._master, options)
        self._callbacks = Callbacks()
        self._state = RUN
        self._finalizer = weakref.finalize(self, _end_dropped, self._master, self._calls, self._callbacks)
        at_once = options.size.most if initializer is not None and options.idle_timeout is None else options.size.least
        if at_once:
            self._master.start_workers(at_once)

    # One call.

    def apply(
        self,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        priority: int | None = None,
    ) -> R:
        """``func(*args, **kwds)`` in a worker; its value.

        Raises:
            BaseException: what the call raised.
            TaskError: see `forkful.errors`.
        """
        limits = self._limits(timeout, retries, priority)
        result: AsyncResult[R] = AsyncResult(self._running())
        task = self._calls.call(result, func, args, kwds, limits)
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
        priority: int | None = None,
        block: bool | None = None,
    ) -> AsyncResult[R]:
        """Have ``func(*args, **kwds)`` called in a worker; an `AsyncResult` at once.

        The arguments are pickled here and now: changing them later does not change the call.

        Args:
            callback: called with the value, in the pool's callback thread.
            error_callback: called with the exception instead.
            block: in a pool with *max_pending*, whether to wait for room.  None: as the pool was told.

        Raises:
            PoolFull: there is no room, and it is not to wait.
            PoolClosed: the pool takes no more work; also where that comes to be while this waits.
        """
        limits = self._limits(timeout, retries, priority)
        result: AsyncResult[R] = AsyncResult(self._running(), callback, error_callback)
        task = self._calls.call(result, func, args, kwds, limits)
        if task is not None:
            admission = self._calls.admission
            if admission is None:
                self._master.submit(task)
            else:
                admission.submit(task, result, self._running, block=block)
        return result

    # Maps.

    def map(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        priority: int | None = None,
        progress: Progress = None,
    ) -> list[R]:
        """``[func(x) for x in iterable]``, in parallel.

        All elements run, even when some fail; then the first error, by position, is raised.

        Args:
            chunksize: the most elements that travel together; None lets the pool choose from how long they take.
            timeout: seconds for each element.
            progress: shows how many elements have ended, those that failed included.  True: a bar on standard error, or
                a line now and then where that is no terminal.  A bar such as tqdm's, that is an object with
                ``update(n)``: it is told of *n* more, ten times a second, and stays yours to close.  What makes such a
                bar when it is called with ``total=`` (the number of elements, or None), such as tqdm itself: that bar
                is closed too.  A bar is told by a thread of its own; one that raises is logged, and told no more.

        Raises:
            TypeError: *progress* is none of these.
            BaseException: the first error, by position.
        """
        result = self.map_async(
            func, iterable, chunksize, timeout=timeout, retries=retries, priority=priority, progress=progress
        )
        return result.get() if progress is None else _get_with_bar(result)

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
        priority: int | None = None,
        progress: Progress = None,
    ) -> MapResult[R]:
        """`map` without waiting: a `MapResult` at once.  A callback is called once, with the whole list.

        With *progress* it is ready when the bar has been told of every element.
        """
        limits = self._limits(timeout, retries, priority)
        calls, pool = self._calls, self._running()
        return calls.map(pool, func, iterable, EACH, chunksize, limits, callback, error_callback, progress)

    def starmap(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        priority: int | None = None,
        progress: Progress = None,
    ) -> list[R]:
        """`map` with each element unpacked: ``[func(*x) for x in iterable]``."""
        result = self.starmap_async(
            func, iterable, chunksize, timeout=timeout, retries=retries, priority=priority, progress=progress
        )
        return result.get() if progress is None else _get_with_bar(result)

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
        priority: int | None = None,
        progress: Progress = None,
    ) -> MapResult[R]:
        """`starmap` without waiting: a `MapResult` at once."""
        limits = self._limits(timeout, retries, priority)
        calls, pool = self._calls, self._running()
        return calls.map(pool, func, iterable, STAR, chunksize, limits, callback, error_callback, progress)

    def imap(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        priority: int | None = None,
        progress: Progress = None,
    ) -> IMapIterator[R]:
        """`map` as a lazy iterator, in order.

        The iterable is read as results are fetched.  The bound: at most *buffersize* elements are ahead of what was
        fetched (read, running, or done).  Without it the window is 16 elements (or two chunks for each process), and
        doubles up to 2048 (or four chunks) only while the reader is faster than the workers and results are small.

        Args:
            chunksize: elements read from the iterable together; at most *buffersize*.
            progress: as for `map`; the total is known where the iterable has a length, or has been read.

        In a coroutine, loop with ``async for``.  To leave the loop early is to leave the rest: no further input is read,
        and what has not started never does.
        """
        limits = self._limits(timeout, retries, priority)
        calls = self._running()._calls
        return IMapIterator(
            self, calls.stream(func, iterable, EACH, chunksize, buffersize, limits, ordered=True, progress=progress)
        )

    def imap_unordered(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        priority: int | None = None,
        progress: Progress = None,
    ) -> IMapIterator[R]:
        """`imap` with results as they arrive."""
        limits = self._limits(timeout, retries, priority)
        calls = self._running()._calls
        return IMapIterator(
            self, calls.stream(func, iterable, EACH, chunksize, buffersize, limits, ordered=False, progress=progress)
        )

    def istarmap(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        priority: int | None = None,
        progress: Progress = None,
    ) -> IMapIterator[R]:
        """`imap` with each element unpacked: ``starmap``, as lazy as `imap`.

        >>> with Pool(2) as pool:
        ...     list(pool.istarmap(pow, [(2, 3), (3, 2)]))
        [8, 9]
        """
        limits = self._limits(timeout, retries, priority)
        calls = self._running()._calls
        return IMapIterator(
            self, calls.stream(func, iterable, STAR, chunksize, buffersize, limits, ordered=True, progress=progress)
        )

    def istarmap_unordered(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        priority: int | None = None,
        progress: Progress = None,
    ) -> IMapIterator[R]:
        """`istarmap` with results as they arrive."""
        limits = self._limits(timeout, retries, priority)
        calls = self._running()._calls
        return IMapIterator(
            self, calls.stream(func, iterable, STAR, chunksize, buffersize, limits, ordered=False, progress=progress)
        )

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
        priority: int | None = None,
        progress: Progress = None,
    ) -> OutcomeIterator:
        """`imap` that tells how each element ended instead of raising: an iterator of `Outcome`.

        Only an error of the iterable itself, and the end of the pool, are raised.

        >>> with Pool(2) as pool:
        ...     sorted((o.index, o.ok) for o in pool.outcomes(int, ["1", "x"]))
        [(0, True), (1, False)]
        """
        limits = self._limits(timeout, retries, priority)
        calls = self._running()._calls
        return OutcomeIterator(
            self, calls.stream(func, iterable, EACH, chunksize, buffersize, limits, ordered=ordered, progress=progress)
        )

    def share(self, obj: T) -> Shared[T]:
        """Make *obj* known to the workers: a handle that any task of this pool can take in its place.

        It is pickled here and now, once, and sent once to each worker that gets a task with the handle, instead of
        with every task.  The function gets the object itself.  See `Shared` for its life.

        Raises:
            BaseException: what pickling *obj* raises.
            PoolClosed: the pool takes no work any more.

        >>> with Pool(2) as pool:
        ...     table = pool.share(list(range(1000)))
        ...     pool.starmap(list.index, [(table, 3), (table, 5)])
        [3, 5]
        """
        from ._shared import Shared  # few programs share

        return Shared(self._running()._master, obj)

    def as_completed(self, results: Iterable[AsyncResult[R]], timeout: float | None = None) -> CompletedIterator[R]:
        """The *results*, each once, as they get ready: those that are ready now first.

        They may be of several pools.  The loop over them can also be an ``async for``.

        Args:
            timeout: seconds from now in which all of them must come.

        Raises:
            TypeError: one of *results* is none.
            ResultTimeout: (a ``multiprocessing.TimeoutError``) in the loop: time is up.  The tasks go on.

        >>> with Pool(2) as pool:
        ...     results = [pool.apply_async(abs, (number,)) for number in (-1, -2)]
        ...     sorted(result.get() for result in pool.as_completed(results))
        [1, 2]
        """
        from ._completed import CompletedIterator  # few programs need it

        return CompletedIterator(results, timeout)

    def _limits(self, timeout: float | None, retries: int | None, priority: int | None) -> CallLimits:
        limits = self._options.limits
        if timeout is not None or retries is not None or priority is not None:
            limits = limits.override(timeout, retries, priority)
        return limits

    # Another view.

    def executor(
        self, *, timeout: float | None = None, retries: int | None = None, priority: int | None = None
    ) -> PoolExecutor:
        """This pool as a ``concurrent.futures.Executor``: see `PoolExecutor`.

        Its ``shutdown()``, and the end of its ``with`` block, wait for what it was given and leave the pool as it is.
        A pool that nobody else holds ends with it.

        Args:
            timeout: for each of its calls, as are *retries* and *priority*; None: the pool's own.

        >>> with Pool(2).executor() as executor:
        ...     executor.submit(pow, 2, 8).result()
        256
        """
        from ._executor import PoolExecutor  # concurrent.futures costs 10 ms, and few programs use it

        return PoolExecutor(self._running(), timeout=timeout, retries=retries, priority=priority)

    def _let_go(self) -> None:
        """Whoever holds this pool by another name answers for its end: it may be dropped without `close`."""
        self._dropped_by_leave = True

    # The pool itself.

    def close(self) -> None:
        """Take no more work.  Workers leave when what was given is done; `join` waits for that."""
        if self._state == RUN:
            self._state = CLOSE
            self._master.close()
            self._wake_submitters()

    def terminate(self) -> None:
        """End at once: every pending result ends with `PoolTerminated`, every worker is stopped."""
        self._state = TERMINATE
        if self._master.foreign:
            return
        self._master.terminate(
            PoolTerminated("the pool was terminated before this was done; close() and join() let it finish")
        )
        self._wake_submitters()
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

    def _wake_submitters(self) -> None:
        admission = self._calls.admission
        if admission is not None:
            admission.wake()

    def _end(self, patience: float | None) -> None:
        if self._master.foreign:
            return  # in a forked child there is nothing to end: the workers are the parent's
        self._master.await_end()
        self._calls.await_bars(patience)
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

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        from ._awaiting import run_in_thread  # asyncio is there in a coroutine, and costs 40 ms elsewhere

        await run_in_thread(self.terminate)

    def __del__(self, _warn: Any = warnings.warn, _run: str = RUN) -> None:
        if self._state == _run and not self._dropped_by_leave:
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
            f"[workers: {stats['workers']} of {self._master.limits.most}, {stats['busy']} busy | "
            f"elements: {stats['running']} at workers, {stats['queued']} tasks queued{_tell_choices(stats)}]>"
        )

    def resize(self, processes: int | tuple[int, int]) -> None:
        """Have another number of workers from now on; or, with ``(least, most)``, bounds.

        More are started as work asks for them, or at once up to the least.  Those beyond the least leave when they have had
        nothing to do for *idle_timeout*, or 60 seconds if the pool was made without.  When there are too many, the idlest leave:
        what has started there is finished, what has not runs elsewhere.

        Raises:
            ValueError, TypeError: as for ``Pool(processes)``.
            PoolClosed: it takes no more work.

        >>> with Pool(1) as pool:
        ...     pool.resize(2)
        ...     pool.map(abs, [-1, 2, -3])
        [1, 2, 3]
        """
        size = check_processes(processes)
        idle = self._running()._master.limits.idle
        if idle is None and isinstance(processes, tuple):
            idle = IDLE_NS
        self._master.resize(size.least, size.most, idle)

    def stats(self) -> dict[str, Any]:
        """Counters since the start (``tasks``, ``failed``, ``retried``, ``requeued``, ``workers started``, ``workers
        died``) and how many there are now (``workers``, ``busy``, ``queued``, ``running``).

        With ``mode="auto"`` also ``functions``: for each, by name, what one call lately took (``seconds``), which part of
        that it was ``computing`` (0 to 1), and on how many ``threads`` of one worker it therefore runs.
        """
        return self._master.stats()

    @property
    def _pool(self) -> list[Member]:
        """The worker processes.  Reading it starts them all: whoever looks expects as many as he asked for."""
        if self._state == RUN:
            self._repopulate_pool()
        return self._members()

    def _members(self) -> list[Member]:
        """The worker processes there are now."""
        return [Member(self._master, seat, pid) for seat, pid in self._master.members()]

    @property
    def _processes(self) -> int:
        """As many workers as were asked for: programs written for ``multiprocessing.Pool`` read this."""
        return self._master.limits.most

    def _repopulate_pool(self) -> None:
        self._master.start_workers(self._master.limits.most)

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


def _tell_choices(stats: dict[str, Any]) -> str:
    return "".join(
        f" | {name}: {chosen['threads']} threads a worker, for it computes {chosen['computing']:.0%} of {chosen['seconds']:.2g} s"
        for name, chosen in stats.get("functions", {}).items()
    )


def _get_with_bar(result: MapResult[R]) -> list[R]:
    try:
        return result.get()
    except BaseException:  # perhaps Ctrl-C, and the map goes on
        result.leave_bar(_PATIENCE)
        raise


def _equip(options: Options) -> Equipment:
    """What each worker gets; decides how it is started."""
    method, chosen = start_method_of(options.context)
    equipment = Equipment(
        start_method=method,
        initializer=None if options.initializer is None else (options.initializer, options.initargs),
        finalizer=options.finalizer,
        threads=options.threads,
        inner_threads=max(1, cpu_count() // (options.size.most * (1 if options.auto else options.threads))),
        memory=options.memory,
        processors=options.processors,
        capture=options.capture,
    )
    hooks = equipment.hooks()
    if hooks is not None and method != "fork":
        try:
            inheritance.pack_inheritance(hooks)
        except Exception:
            # Such as a multiprocessing.Lock of the fork context: multiprocessing's own default on Linux before 3.14.
            if chosen:
                raise
            equipment = equipment._replace(start_method="fork")
    return equipment


def _bound(options: Options) -> Limits:
    return Limits(
        most=options.size.most,
        tasks_per_child=options.maxtasksperchild,
        least=options.size.least,
        threads=options.threads,
        auto=options.auto,
        memory=options.memory,
        idle=options.idle_timeout,
        finalizer=options.finalizer is not None,
    )


def _end_dropped(master: Master, calls: Calls, callbacks: Callbacks) -> None:
    """The pool was collected, or the program ends, without close()."""
    if master.foreign:
        return
    master.drop(PoolTerminated("the pool was dropped, or the program ended, before this was done"))
    if not sys.is_finalizing():
        calls.await_bars(_PATIENCE)
        callbacks.close(_PATIENCE)
