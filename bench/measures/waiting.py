"""Work that waits: several tasks at once in each worker."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from ..measure import Case, Measure, Reading, Target
from ..workloads import pause

PROCESSES, THREADS, SECONDS = 2, 32, 0.05


def wait_in_threads(case: Case) -> Reading:
    """Tasks that sleep, all given at once, from workers that are there."""
    from forkful import Pool  # in the process of the sample only, as every pool

    with Pool(PROCESSES, threads=THREADS, context=case.start_method) as pool:
        pool.map(pause, [SECONDS] * PROCESSES * THREADS, chunksize=1)
        begun = time.perf_counter()
        results = pool.map(pause, [SECONDS] * case.size, chunksize=1)
        seconds = time.perf_counter() - begun
        assert results == [SECONDS] * case.size
    return Reading(seconds)


def wait_ideally(case: Case) -> Reading:
    """What it would take if nothing but the sleeping took time: computed, not measured."""
    return Reading(case.size * SECONDS / (PROCESSES * THREADS))


def wait_in_one_process(case: Case) -> Reading:
    """The standard library's thread pool with as many threads, all in one process."""
    with ThreadPoolExecutor(PROCESSES * THREADS) as pool:
        list(pool.map(pause, [SECONDS] * PROCESSES * THREADS))
        begun = time.perf_counter()
        results = list(pool.map(pause, [SECONDS] * case.size))
        seconds = time.perf_counter() - begun
        assert results == [SECONDS] * case.size
    return Reading(seconds)


MEASURES = (
    Measure(
        "threads",
        "{n} tasks of `sleep(0.05)` with 2 processes of 32 threads",
        "All submitted by one `map` with chunks of one, to workers whose threads have run before. `ideal` is computed: the "
        "number of tasks times 0.05 s, divided by 64. `ThreadPoolExecutor` has 64 threads in one process. No peer has "
        "threads in its workers.",
        wait_in_threads,
        (Target("times as long", 1.3, 1.1, "ideal"),),
        size=1_000,
        quick_size=640,
        baselines={"ideal": wait_ideally, "ThreadPoolExecutor": wait_in_one_process},
        only_us="has no threads in its workers",
    ),
)
