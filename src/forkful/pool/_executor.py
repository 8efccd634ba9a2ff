"""`PoolExecutor`: a pool as a ``concurrent.futures.Executor``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, Protocol, TypeVar

from .. import errors
from .._core.messages import STAR
from ._broken import InitializerError, PoolClosed, as_both
from ._executor_maps import ExecutorMap, MapRun
from ._futures import Ledger, PoolFuture
from ._options import check_size

if TYPE_CHECKING:
    from types import TracebackType

    from .._core.master import Master
    from ._callbacks import Callbacks
    from ._calls import Calls
    from ._options import CallLimits, Options
    from ._results import AsyncResult

P = ParamSpec("P")
R = TypeVar("R")


class Host(Protocol):
    """The pool, as far as an executor knows it."""

    _master: Master
    _callbacks: Callbacks
    _calls: Calls
    _options: Options

    def apply_async(
        self,
        func: Any,
        args: Any = (),
        kwds: Any = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        priority: int | None = None,
    ) -> AsyncResult[Any]:
        """Have a call made."""

    def close(self) -> None:
        """Take no more work."""

    def join(self) -> None:
        """Wait until all is done and every worker has left."""

    def _limits(self, timeout: float | None, retries: int | None, priority: int | None) -> CallLimits:
        """The pool's limits with others in their place."""

    def _running(self) -> object:
        """Raise `errors.PoolClosed` unless it takes work."""

    def _let_go(self) -> None:
        """It may be dropped without being closed."""


class PoolExecutor(Executor):
    """A pool as a ``concurrent.futures.Executor``, made by `Pool.executor`.

    What is different from ``ProcessPoolExecutor``: a worker that dies costs the call it was running, which ends with
    `WorkerDied` (a ``BrokenProcessPool`` too), and the executor goes on; a future can be cancelled until its call
    starts, not only until it is handed to a worker; arguments are pickled by `submit`, at once.  Only a failing
    initializer breaks it: every further `submit` then raises `InitializerError`.

    ``future.result()`` runs the pool's loop in the thread that waits.  Done-callbacks run in the pool's callback thread
    (those of a future that is cancelled, in the thread that cancels it); one that is slow keeps no result from anybody.

    It may be used by several threads, and by callbacks.  It cannot be pickled.
    """

    def __init__(
        self, pool: Host, *, timeout: float | None = None, retries: int | None = None, priority: int | None = None
    ) -> None:
        self._pool: Host | None = pool
        self._limits = pool._limits(timeout, retries, priority)  # refuses what cannot be
        given = {"timeout": timeout, "retries": retries, "priority": priority}
        self._given: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        self._ledger = Ledger(pool._master, pool._callbacks, initialized=pool._options.initializer is not None)

    # Giving work.

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> PoolFuture[R]:
        """Have ``fn(*args, **kwargs)`` called in a worker; a future at once.

        What cannot be pickled is the future's error.

        Raises:
            PoolClosed: (a ``RuntimeError``) after `shutdown`, or when the pool takes no more work.
            InitializerError: (a ``BrokenProcessPool``) the initializer has failed.

        >>> from forkful import Pool
        >>> with Pool(2) as pool:
        ...     future = pool.executor().submit(divmod, 7, 2)
        ...     future.result()
        (3, 1)
        """
        pool = self._check_open()
        try:
            call: AsyncResult[R] = pool.apply_async(fn, args, kwargs, **self._given)
        except errors.PoolClosed as error:
            raise as_both(error) from None
        future: PoolFuture[R] = PoolFuture(self._ledger)
        future.follow(call)
        return future

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> ExecutorMap[R]:
        """``map(fn, *iterables)`` in parallel: an iterator of the results, in order.

        The iterables are read at once and every call is made, also where nobody reads the results; an iterator that is
        closed or dropped once it has been read from takes back the calls that have not started.  The first error ends
        it.

        Args:
            timeout: seconds from now in which each result must be there, else ``TimeoutError``.
            chunksize: the most elements that travel together.  The pool sends elements together as their duration
                allows, whatever this is; only ``maxtasksperchild`` counts by it.
            buffersize: read the iterables as results are fetched, at most so many chunks ahead: they may be endless.

        Raises:
            ValueError, TypeError: for arguments that cannot be.
            PoolClosed: as `submit`.

        >>> from forkful import Pool
        >>> with Pool(2) as pool:
        ...     list(pool.executor().map(pow, [2, 3], [5, 2]))
        [32, 9]
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        chunksize = check_size("chunksize", chunksize)
        lazy = buffersize is not None
        window = 1 if buffersize is None else check_size("buffersize", buffersize) * chunksize
        pool = self._check_open()
        elements: Any = zip(*iterables, strict=False)
        if not lazy:
            elements = list(elements)
            window = len(elements) + chunksize  # all of them, and the look that finds no more
        try:
            pool._running()
        except errors.PoolClosed as error:
            raise as_both(error) from None
        stream = pool._calls.stream(fn, elements, STAR, chunksize, window, self._limits, ordered=True)
        return ExecutorMap(MapRun(pool, self._ledger, stream, lazy=lazy), deadline)

    def _check_open(self) -> Host:
        ledger, pool = self._ledger, self._pool
        if ledger.broken:
            raise InitializerError(f"{ledger.broken}; make a new executor")
        if ledger.closed or pool is None:
            raise PoolClosed(f"cannot schedule new futures after {ledger.closed}; make a new executor")
        return pool

    # Ending.

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.  May be called again, also to wait after all.

        Args:
            wait: wait until everything given is done, and done-callbacks have run; in such a callback, until results
                are known.
            cancel_futures: take back what has not started; its futures are cancelled.
        """
        self._ledger.close("shutdown")
        if cancel_futures:
            self._ledger.cancel_all()
        if wait:
            self._ledger.wait()
        pool, self._pool = self._pool, None
        if pool is not None:
            self._leave(pool, wait=wait)

    def _leave(self, pool: Host, *, wait: bool) -> None:
        """What becomes of the pool when this executor takes no more."""
        pool._let_go()

    def kill_workers(self) -> None:
        """Take no more calls, cancel those that wait, and kill the workers that run one: it ends with `TaskCancelled`.

        The pool replaces them; what others gave it goes on.
        """
        self._ledger.close("shutdown")
        self._ledger.kill_all()
        self.shutdown(wait=False)

    terminate_workers = kill_workers  # the standard library has both from 3.14 on; nothing is asked of a worker here

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):  # Ctrl-C must end a program, not wait for its work
            self._ledger.close("shutdown")
            self._ledger.kill_all()
        self.shutdown(wait=True)

    # What programs and tests written for ``ProcessPoolExecutor`` look at.

    @property
    def _max_workers(self) -> int:
        """The most calls that run at once: dask divides its work by this."""
        limits = self._ledger.master.limits
        return limits.most * limits.threads

    @property
    def _broken(self) -> str | bool:
        """Why no call can run any more, or False."""
        return self._ledger.broken

    @property
    def _processes(self) -> dict[int, Any]:
        """The worker processes there are, by pid."""
        pool: Any = self._pool
        return {} if pool is None else {member.pid: member for member in pool._members()}

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError(
            "executors cannot be passed between processes or pickled; make one where it is used, or send a future's result"
        )

    def __repr__(self) -> str:
        state = self._ledger.closed or ("broken" if self._ledger.broken else "open")
        return f"<forkful.PoolExecutor {state}, {len(self._ledger.open())} not done, over {self._pool!r}>"
