"""How tasks flow: what a long stream of them keeps in memory, and what waits behind a slow one."""

from __future__ import annotations

import time

from ..measure import Case, Measure, Reading, Target
from ..peers import Contender, opened
from ..resident import growth_of_peak
from ..workloads import identity, pause

LONG = 2.0  # seconds
WARM_UP = 1_000  # tasks


def lazily_fed(case: Case) -> Reading:
    """How far the parent's resident memory rises above idle while a generator is worked off."""
    with opened(case) as pool:
        assert drain(pool, WARM_UP) == WARM_UP
        with growth_of_peak() as growth:
            assert drain(pool, case.size) == case.size
    return Reading(growth.bytes)


def drain(pool: Contender, tasks: int) -> int:
    """Feed from a generator, forget each result; how many there were."""
    numbers = (number for number in range(tasks))
    return sum(1 for _ in pool.imap_unordered(identity, numbers))


def behind_a_long_one(case: Case) -> Reading:
    """The time until all short tasks are done though one among them is long: the worse of two ways to submit."""
    ways = {"imap_unordered": short_through_imap, "apply_async": short_through_apply_async}
    seconds = {}
    for way, wait_for_short in ways.items():
        with opened(case) as pool:
            for get in pool.start_all(pause, [0.0] * WARM_UP):
                get()
            begun = time.perf_counter()
            wait_for_short(pool, case.size)
            seconds[way] = time.perf_counter() - begun
    worse = max(seconds, key=lambda way: seconds[way])
    return Reading(seconds[worse], f"worse: {worse}")


def one_long_among(short: int) -> list[float]:
    """The long one is in the middle: by then a pool that adapts knows that tasks are short, and is wrong."""
    return [0.0] * (short // 2) + [LONG] + [0.0] * (short - short // 2)


def short_through_imap(pool: Contender, short: int) -> None:
    results = pool.imap_unordered(pause, one_long_among(short))
    done = 0
    while done < short:
        done += next(results) == 0


def short_through_apply_async(pool: Contender, short: int) -> None:
    arguments = one_long_among(short)
    for argument, get in zip(arguments, pool.start_all(pause, arguments), strict=True):
        if argument == 0:
            get()


MEASURES = (
    Measure(
        "memory",
        "memory at {n} lazily fed tasks, over idle",
        "Two workers, no-op tasks from a generator through `imap_unordered`, results dropped as they come. The highest "
        "resident size of the parent process less that of the idle pool. The other pools get fewer tasks: "
        "with as many they would take minutes, and executors and pebble, which read the whole generator first, gigabytes.",
        lazily_fed,
        (Target("at most", 30e6, 10e6),),
        size=1_000_000,
        quick_size=25_000,
        peer_size=25_000,
        unit="bytes",
        rounds=3,
        watchdog=180,
    ),
    Measure(
        "long_task",
        f"one {LONG:g} s task among {{n}} short ones: all the short ones done",
        "Two workers; the long task is submitted in the middle. Through `imap_unordered` with chunksize 1 and through "
        "`apply_async`, each in a new pool; the worse one counts.",
        behind_a_long_one,
        (Target("at most", 0.5, 0.2),),
        size=1_000,
        quick_size=1_000,
        rounds=3,
    ),
)
