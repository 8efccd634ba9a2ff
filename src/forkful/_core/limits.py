"""What bounds a pool."""

# No `from __future__ import annotations` here: annotations of a NamedTuple that are strings cost each import a millisecond.

from typing import NamedTuple


class Limits(NamedTuple):
    """What bounds a pool.  Times are nanoseconds."""

    most: int  # worker processes
    tasks_per_child: int | None = None
    least: int = 0  # worker processes that are started without being asked for, and stay
    threads: int = 1  # of one worker, the most
    auto: bool = False  # a function gets as many of those as it makes use of
    memory: int | None = None  # bytes that a worker may hold between two tasks
    idle: int | None = None  # that a worker beyond the least may have nothing to do; None: for ever
    finalizer: bool = False  # workers have something to do before they leave
    grace: int = 500_000_000  # between SIGTERM, or being told to leave when the pool is ended, and SIGKILL
