"""What a task costs: throughput of each way to submit, and the latency of one round trip."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from ..measure import Case, Measure, Reading, Target
from ..peers import opened
from ..pingpong import PingPong
from ..workloads import identity


def warm_up_size(size: int) -> int:
    """Tasks before the clock starts: enough for pools that start workers on demand, or adapt to what tasks cost."""
    return min(1_000, size // 4)


def submit_and_get(case: Case) -> Reading:
    """`apply_async` for each task, then `get` for each."""
    with opened(case) as pool:
        wait_all(pool.start_all(identity, range(warm_up_size(case.size))))
        begun = time.perf_counter()
        results = wait_all(pool.start_all(identity, range(case.size)))
        seconds = time.perf_counter() - begun
        assert results == list(range(case.size))
    return Reading(seconds)


def wait_all(getters: list[Callable[[], int]]) -> list[int]:
    """Every result, in order."""
    return [get() for get in getters]


def round_trip(case: Case) -> Reading:
    """The median `apply`."""
    with opened(case) as pool:
        return Reading(median_round_trip(pool.apply, case.size))


def ping_pong(case: Case) -> Reading:
    """The median round trip over a bare socket pair: the floor that no pool can go below."""
    with PingPong() as player:
        return Reading(median_round_trip(player.apply, case.size))


def median_round_trip(apply: Callable[[Callable[[int], int], int], int], times: int) -> float:
    """The median time of one call, each timed by itself."""
    for number in range(warm_up_size(times)):
        apply(identity, number)
    durations = []
    for number in range(times):
        begun = time.perf_counter()
        result = apply(identity, number)
        durations.append(time.perf_counter() - begun)
        assert result == number
    return statistics.median(durations)


def one_by_one(case: Case) -> Reading:
    """`imap_unordered` with chunks of one."""
    warm = warm_up_size(case.size)
    with opened(case) as pool:
        assert len(list(pool.imap_unordered(identity, range(warm)))) == warm
        begun = time.perf_counter()
        results = list(pool.imap_unordered(identity, range(case.size)))
        seconds = time.perf_counter() - begun
        assert sorted(results) == list(range(case.size))
    return Reading(seconds)


def map_many(case: Case) -> Reading:
    """`map` with the pool's own chunks."""
    with opened(case) as pool:
        pool.map(identity, range(warm_up_size(case.size)))
        begun = time.perf_counter()
        results = pool.map(identity, range(case.size))
        seconds = time.perf_counter() - begun
        assert results == list(range(case.size))
    return Reading(seconds)


MEASURES = (
    Measure(
        "apply_async",
        "`apply_async` of {n} tasks, then `get` all",
        "Two workers, one no-op task at a time submitted, all results then taken in order.",
        submit_and_get,
        (
            Target("times as fast", 5, 10, "multiprocessing"),
            Target("times as fast", 15, 30, "concurrent.futures"),
            Target("times as fast", 15, 30, "loky"),
        ),
        size=20_000,
        quick_size=2_000,
        per_task=True,
    ),
    Measure(
        "apply",
        "`apply` round trip, median of {n}",
        "Two workers, one no-op task under way at a time. `socket pair` is the floor: a forked process that reads a "
        "pickled function and argument from a socket, calls, and writes the pickled result, with nothing else.",
        round_trip,
        (
            Target("times as long", 0.7, 0.5, "multiprocessing"),
            Target("times as long", 3, 1.5, "socket pair"),
        ),
        size=3_000,
        quick_size=500,
        baselines={"socket pair": ping_pong},
    ),
    Measure(
        "imap_unordered",
        "`imap_unordered` of {n} tasks, chunksize 1",
        "Two workers. Executors: `submit` for each, then `as_completed`.",
        one_by_one,
        (Target("times as fast", 4, 8, "multiprocessing"),),
        size=20_000,
        quick_size=2_000,
        per_task=True,
    ),
    Measure(
        "map",
        "`map` of {n} tasks",
        "Two workers, each pool's own chunks; executors and pebble, whose default is chunks of one, get those of "
        "`multiprocessing.Pool`.",
        map_many,
        (Target("times as fast", 0.8, 1.2, "multiprocessing"),),
        size=200_000,
        quick_size=50_000,
        per_task=True,
    ),
)
