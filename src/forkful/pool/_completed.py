"""`Pool.as_completed`: results of any pools, as they get ready."""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._core import codec
from .._core.wheel import Slot
from ..errors import ResultTimeout
from ._options import check_wait
from ._results import AsyncResult

if TYPE_CHECKING:
    from .._core.master import Master

T = TypeVar("T")


class _Arrivals:
    """What is ready and what is not.  The results that are not hold this; it must not hold the user's iterator."""

    def __init__(self, results: Iterable[AsyncResult[Any]]) -> None:
        self.total = 0
        self.ready: deque[AsyncResult[Any]] = deque()
        self.pending: dict[AsyncResult[Any], Master] = {}
        self._lock = threading.RLock()
        self._wakers: list[Callable[[], object]] = []
        unique = dict.fromkeys(_checked(results))
        self.total = len(unique)
        for result in unique:
            pool = result._pool
            if pool is None:  # it is ready, or will be in a moment
                self.ready.append(result)
            else:
                self.pending[result] = pool._master
        for result in list(self.pending):
            result._when_had(self.arrive)

    def arrive(self, result: AsyncResult[Any]) -> None:
        """Called by whichever thread makes *result* ready."""
        with self._lock:
            del self.pending[result]
            self.ready.append(result)
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    def take(self) -> AsyncResult[Any] | None:
        """The next that is ready."""
        try:
            return self.ready.popleft()
        except IndexError:
            return None

    def masters(self) -> list[Master]:
        """Of what is not ready."""
        with self._lock:
            return list(dict.fromkeys(self.pending.values()))

    def watch(self, wake: Callable[[], object]) -> bool:
        """Have *wake* called at the next arrival; False when there is something to see now: one that is ready, or the end."""
        with self._lock:
            if self.ready or not self.pending:
                return False
            self._wakers.append(wake)
            return True

    def unwatch(self, wake: Callable[[], object]) -> None:
        """Do not call *wake*."""
        with self._lock:
            if wake in self._wakers:
                self._wakers.remove(wake)

    def is_over(self) -> bool:
        """Whether nothing is ready, and nothing will be."""
        with self._lock:
            return not self.ready and not self.pending

    def forsake(self) -> None:
        """Nobody will look: leave nothing behind at the results."""
        for result in list(self.pending):
            result._forget(self.arrive)


class CompletedIterator(Iterator[AsyncResult[T]], AsyncIterator[AsyncResult[T]], Generic[T]):
    """Results as they get ready; see `forkful.Pool.as_completed`."""

    def __init__(self, results: Iterable[AsyncResult[T]], timeout: float | None) -> None:
        self._timeout = check_wait(timeout)
        self._deadline = None if self._timeout is None else time.monotonic() + self._timeout
        self._arrivals = _Arrivals(results)

    def __del__(self) -> None:
        try:
            arrivals = self._arrivals
        except AttributeError:  # it was never made
            return
        arrivals.forsake()

    def __iter__(self) -> CompletedIterator[T]:
        return self

    def __next__(self) -> AsyncResult[T]:
        arrivals = self._arrivals
        while (result := arrivals.take()) is None:
            if arrivals.is_over():
                raise StopIteration
            left = self._left()
            # One pool's loop is driven here.  Those of the others have their own threads, if nobody waits there.
            master = next(iter(arrivals.masters()), None)
            if master is None:
                continue  # the last has arrived just now
            slot = Slot()
            wake = functools.partial(master.wheel.settle, slot)
            if arrivals.watch(wake):
                try:
                    master.wait(slot, left)
                finally:
                    arrivals.unwatch(wake)
        return result

    def __aiter__(self) -> CompletedIterator[T]:
        return self

    async def __anext__(self) -> AsyncResult[T]:
        arrivals = self._arrivals
        while (result := arrivals.take()) is None:
            if arrivals.is_over():
                raise StopAsyncIteration
            from ._awaiting import await_change  # asyncio is there in a coroutine, and costs 40 ms elsewhere

            await await_change(arrivals, arrivals.masters(), self._left())
        return result

    def _left(self) -> float | None:
        """Seconds.  Raises `ResultTimeout` when there are none."""
        if self._deadline is None:
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            missing = len(self._arrivals.pending)
            raise ResultTimeout(
                f"{missing} of {self._arrivals.total} results did not come within {self._timeout:g} s; their tasks go on"
            )
        return left


def _checked(results: Iterable[AsyncResult[Any]]) -> Iterator[AsyncResult[Any]]:
    for result in results:
        if not isinstance(result, AsyncResult):
            raise TypeError(
                f"as_completed takes results of apply_async, map_async or starmap_async, not {codec.short_repr(result)}"
            )
        yield result
