"""What every worker of a pool is equipped with."""

# No `from __future__ import annotations` here: annotations of a NamedTuple that are strings cost each import a millisecond.

from collections.abc import Callable
from typing import Any, NamedTuple

Hooks = tuple[Callable[..., object] | None, tuple[Any, ...], Callable[..., object] | None]


class Equipment(NamedTuple):
    """What every worker of a pool is equipped with; all of it by keyword."""

    start_method: str  # fork, forkserver or spawn
    initializer: tuple[Callable[..., object], tuple[Any, ...]] | None = None  # with its arguments; the first thing run
    finalizer: Callable[..., object] | None = None  # the last thing run, by a worker that was told to leave
    threads: int = 1  # tasks that it runs at once
    inner_threads: int = 0  # for each of those, to compute with (BLAS, OpenMP); 0: as the libraries please
    memory: int | None = None  # bytes that are its limit between two tasks: it keeps a record of what it holds
    processors: tuple[
        tuple[int, ...], ...
    ] = ()  # that workers are bound to: each to one set of these, shared out evenly
    capture: bool = False  # what a task prints comes back with its result

    def hooks(self) -> Hooks | None:
        """The initializer with its arguments, and the finalizer, as a worker gets them; None when there are neither."""
        if self.initializer is None:
            return None if self.finalizer is None else (None, (), self.finalizer)
        return (*self.initializer, self.finalizer)
