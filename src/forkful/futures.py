"""``concurrent.futures.ProcessPoolExecutor`` over workers that may die: only the import changes.

>>> from forkful.futures import ProcessPoolExecutor
>>> with ProcessPoolExecutor(2) as executor:
...     executor.submit(pow, 2, 8).result()
256

For more options than the standard library's make a `forkful.Pool` and ask for its ``executor()``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .pool import Pool
from .pool._executor import Host, PoolExecutor

__all__ = ["ProcessPoolExecutor"]


class ProcessPoolExecutor(PoolExecutor):
    """An executor with a pool of its own, which ends with it.  What it does otherwise: `forkful.pool.PoolExecutor`.

    Args:
        max_workers: the most worker processes; they start as calls arrive.  None: `forkful.cpu_count`.
        mp_context: a context of ``multiprocessing``, or a start method's name.  None: as for `forkful.Pool`.
        initializer: called with *initargs* in each worker before its first call.
        max_tasks_per_child: replace a worker after so many calls, with any start method.

    Raises:
        ValueError, TypeError: for arguments that cannot be.

    As with the standard library, one that is dropped without `shutdown` finishes what it was given, and so does a program
    that ends (but not by Ctrl-C).
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError(f"max_workers must be greater than 0, not {max_workers}")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError(f"max_tasks_per_child must be an integer, not {max_tasks_per_child!r}")
            if max_tasks_per_child <= 0:
                raise ValueError(f"max_tasks_per_child must be >= 1, not {max_tasks_per_child}")
        pool = Pool(max_workers, initializer, initargs, max_tasks_per_child, mp_context)
        pool._let_go()  # it ends when this and the last result are gone
        super().__init__(pool)

    def _leave(self, pool: Host, *, wait: bool) -> None:
        if wait:
            pool.close()
            pool.join()
