"""What `PoolExecutor.map` returns, and what an executor can do about it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Generic, TypeVar

from ..errors import ResultTimeout, TaskCancelled
from ._broken import PoolClosed, as_both

if TYPE_CHECKING:
    from ._futures import Ledger
    from ._iterators import Stream

R = TypeVar("R")


class MapRun:
    """One map under way, as the ledger knows it.

    The iterator may be dropped while this goes on; it is held, like the pool, until every call has ended.
    """

    def __init__(self, pool: object, ledger: Ledger, stream: Stream, *, lazy: bool) -> None:
        self._pool: object | None = pool  # nothing is asked of it
        self._ledger = ledger
        self.stream = stream
        self.lazy = lazy
        self._unread = False
        ledger.add(self)
        stream.when_ended(self._conclude)

    def close(self, reason: str) -> None:
        """The executor takes no more: nor does this read further input."""
        if self.lazy:
            self.stream.cut(
                PoolClosed(f"cannot schedule new futures after {reason}; the rest of the input was not read")
            )

    def cancel(self) -> bool:
        """Take back what has not started."""
        self._give_up(kill=False)
        return True

    def kill(self) -> None:
        """End it, also where it runs."""
        self._give_up(kill=True)

    def _give_up(self, *, kill: bool) -> None:
        self.stream.cut(CancelledError())
        master = self._ledger.master
        master.cancel(master.tasks_of(self.stream), kill=kill)

    def drop(self, *, begun: bool) -> None:
        """Nobody will read the rest.  Unless it has *begun* to be read, or is lazy, all calls are made all the same."""
        self._unread = True
        if begun or self.lazy or self._pool is None:
            self.stream.drop()
            self._conclude()

    def _conclude(self) -> None:
        """Every outcome is there, or nobody cares.  Called by the thread that delivers."""
        self._pool = None
        self._ledger.forget(self)
        if self._unread:
            self.stream.drop()


class ExecutorMap(Iterator[R], Generic[R]):
    """The results of one `PoolExecutor.map`, in order; the first error ends it."""

    def __init__(self, run: MapRun, deadline: float | None) -> None:
        self._run: MapRun | None = run
        self._deadline = deadline
        self._begun = False

    def __iter__(self) -> ExecutorMap[R]:
        return self

    def __next__(self) -> R:
        run = self._run
        if run is None:
            raise StopIteration
        self._begun = True
        left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        try:
            outcome = run.stream.fetch(left)
        except ResultTimeout:
            self.close()
            raise TimeoutError("not all results came within the timeout of map(); the rest was taken back") from None
        except BaseException as error:
            self.close()
            both = as_both(error)
            if both is error:
                raise
            raise both from error.__cause__
        if outcome is None:
            self.close()
            raise StopIteration
        if outcome.error is None:
            value: R = outcome.value
            return value
        self.close()
        raise CancelledError if isinstance(outcome.error, TaskCancelled) else as_both(outcome.error)

    def close(self) -> None:
        """Read no more: calls that have not started are taken back."""
        run, self._run = self._run, None
        if run is not None:
            run.drop(begun=True)

    def __del__(self) -> None:
        run = self._run
        if run is not None:
            run.drop(begun=self._begun)
