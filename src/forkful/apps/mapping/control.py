"""What can be asked of a map while it runs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from forkful.apps.spellings import MOST_JOBS
from forkful.errors import PoolClosed

if TYPE_CHECKING:
    from forkful import Pool
    from forkful.pool import OutcomeIterator

__all__ = ["Control"]


class Control:
    """A map's reins, to be given to `map_file` and pulled from anywhere: by other threads, by signal handlers.

    Attributes:
        stopping: `stop` was called.
        processes: how many worker processes there may be; None before the map begins.
    """

    def __init__(self) -> None:
        self.stopping = False
        self.processes: int | None = None
        self._early = 0  # asked for before the map begins
        self._pool: Pool | None = None
        self._outcomes: OutcomeIterator | None = None

    def stop(self) -> None:
        """Start no further input; what runs may end, and is written down.  May be called again, and before the map begins."""
        self.stopping = True
        outcomes = self._outcomes
        if outcomes is not None:
            outcomes.stop()

    def resize(self, by: int) -> None:
        """So many worker processes more, or fewer; at least one stays."""
        pool, processes = self._pool, self.processes
        if pool is None or processes is None:
            self._early += by
        else:
            self.processes = min(max(1, processes + by), MOST_JOBS)
            with contextlib.suppress(PoolClosed):  # all is done, and the workers are leaving
                pool.resize(self.processes)

    def hold(self, pool: Pool, processes: int, outcomes: OutcomeIterator) -> None:
        """The map has begun."""
        self._pool, self.processes, self._outcomes = pool, processes, outcomes
        if self._early:
            self.resize(self._early)
        if self.stopping:
            outcomes.stop()

    def let_go(self) -> None:
        """The map has ended: nothing that is asked for now makes a difference."""
        self._pool = self._outcomes = None
