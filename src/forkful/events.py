"""Facts about a pool, for observers: frozen values, from which nothing can be steered.

A pool reports to any number of observers, functions that take one fact.  An observer that raises is logged and goes on
being told; it can neither stop nor delay the pool's decisions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class WorkerStarted(NamedTuple):
    """A worker process was asked for."""

    worker: int


class WorkerReady(NamedTuple):
    """A worker has run its initializer and takes tasks."""

    worker: int
    pid: int | None


class WorkerEnded(NamedTuple):
    """A worker process has ended; *expected* when the pool had told it to."""

    worker: int
    pid: int | None
    exitcode: int | None
    expected: bool


Fact = WorkerStarted | WorkerReady | WorkerEnded
Observer = Callable[[Fact], object]
