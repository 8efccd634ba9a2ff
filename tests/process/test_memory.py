"""What a worker tells of the memory that it holds, while it lives."""

from __future__ import annotations

import os
from typing import Any

import psutil

import forkful
from forkful._core.journal import MEMORY

from . import life_tasks
from .support import WATCHDOG

SIZE = 64 * 2**20


def readings(pool: forkful.Pool) -> list[int]:
    """What the workers have told last."""
    return [post.journals[0].words[MEMORY] for post in pool._master._crew.posts.values()]


def test_worker_tells_its_memory(start_method: str) -> None:
    """With the result of whatever changed it: each task is longer than the pause between two readings."""
    with forkful.Pool(1, context=start_method, max_memory_per_worker="100GB") as pool:
        pid = pool.apply_async(life_tasks.keep, (0,)).get(WATCHDOG)
        before = readings(pool)
        pool.apply_async(life_tasks.keep, (SIZE,)).get(WATCHDOG)
        after = readings(pool)
        [held] = after

        assert held - before[0] > SIZE // 2
        assert abs(held - psutil.Process(pid).memory_info().rss) < SIZE // 2


def test_worker_measures_nothing_unasked() -> None:
    """A pool without a limit pays for no reading."""
    with forkful.Pool(1, context="fork") as pool:
        pool.apply_async(life_tasks.keep, (0,)).get(WATCHDOG)
        assert readings(pool) == [0]


def hoard(size: int, *, state: dict[str, Any]) -> int:
    """Keeps *size* bytes more in this worker."""
    state.setdefault("kept", []).append(b"\1" * size)
    return os.getpid()


def test_worker_that_leaks_is_replaced(start_method: str) -> None:
    """Between two tasks: every task has its result, and no worker had more than the limit and one task."""
    with forkful.Pool(2, max_memory_per_worker="150MB", start_method=start_method) as pool:
        pids = pool.map(hoard, [20_000_000] * 40, chunksize=1)  # type: ignore[arg-type]  # the pool gives it its state
        assert len(pids) == 40
        shares = [pids.count(pid) for pid in set(pids)]
        assert len(shares) >= 5
        assert max(shares) <= 9  # with 20 MB each; the interpreter itself has some
        assert pool.stats()["workers died"] == 0
        assert pool.stats()["failed"] == 0
