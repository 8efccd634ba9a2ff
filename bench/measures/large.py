"""Large data: an array that travels, and one that many tasks take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..measure import BEST, US, Case, Measure, Reading, Target
from ..peers import PoolLike, opened
from ..workloads import first_and_last, identity

BYTES = 100_000_000
WARM = 3  # round trips before the clock starts: memory that is used again is there then
TAKES = 5  # of which the median counts


def there_and_back(case: Case) -> Reading:
    """The median round trip of one array, the first few not counted."""
    array = make_array()
    with opened(case) as pool:
        durations = []
        for number in range(WARM + TAKES):
            begun = time.perf_counter()
            result: Any = pool.apply(identity, array)
            seconds = time.perf_counter() - begun
            assert result is not array
            assert (result[0], result[-1], result.shape) == (array[0], array[-1], array.shape)
            result[0] = number  # results can be written to
            result[0] = array[0]
            if number >= WARM:
                durations.append(seconds)
    durations.sort()
    return Reading(durations[len(durations) // 2])


def argument_of_many(case: Case) -> Reading:
    """One array given to many tasks, seconds for each of them; forkful's users share it first, which counts."""
    array = make_array()
    expected = first_and_last(array)
    with opened(case) as pool:
        pool.map(identity, range(8))
        begun = time.perf_counter()
        argument = share(pool, array)
        getters: list[Callable[[], Any]] = pool.start_all(first_and_last, [argument] * case.size)
        for get in getters:
            assert get() == expected
        seconds = time.perf_counter() - begun
    return Reading(seconds / case.size)


def share(pool: Any, array: Any) -> Any:
    """What is given to each task: a handle where the pool has such, else the array."""
    if isinstance(pool, PoolLike) and hasattr(pool._pool, "share"):
        return pool._pool.share(array)
    return array


def make_array() -> Any:
    """`BYTES` of numbers that are no zeros, so that there is memory for each."""
    import numpy as np

    return np.arange(BYTES // 8, dtype=np.float64)


MEASURES = (
    Measure(
        "array",
        "100 MB NumPy array there and back",
        f"Two workers; a function that returns its argument. The median of {TAKES} round trips after {WARM}.",
        there_and_back,
        (Target("times as fast", 4, 20, BEST),),
        rounds=3,
        watchdog=180.0,
    ),
    Measure(
        "shared-array",
        "100 MB NumPy array as an argument of {n} tasks, per task",
        "Two workers; each task looks at two elements. forkful's users give the tasks what `pool.share(array)` returned, and "
        "the sharing is within the time; the others' users give the array. Those get fewer tasks, with as many they would "
        f"take minutes. {US} alone has a way to send an object once.",
        argument_of_many,
        (Target("times as fast", 20, 80, BEST),),
        size=100,
        quick_size=20,
        peer_size=10,
        rounds=3,
        watchdog=180.0,
    ),
)
