"""What it costs when a process dies."""

from __future__ import annotations

import os
import signal
import time

from ..measure import Case, Measure, Reading, Target
from ..peers import Contender, opened
from ..workloads import own_pid

GIVE_UP = 2.0  # seconds of nothing but errors: the pool is broken for good


def recover(case: Case) -> Reading:
    """The time from `kill -9` of the only worker, which is idle, to the next result."""
    with opened(case, processes=1) as pool:
        victim = pool.apply(own_pid, None)
        begun = time.perf_counter()
        os.kill(victim, signal.SIGKILL)
        errors = submit_until_served(pool, begun + GIVE_UP)
        seconds = time.perf_counter() - begun
    return Reading(seconds, f"{errors[0]} for the first task after the kill" if errors else "")


def submit_until_served(pool: Contender, deadline: float) -> list[str]:
    """The names of the errors on the way to the next result; the last error itself after *deadline*."""
    errors: list[str] = []
    while True:
        try:
            pool.apply(own_pid, None)
        except Exception as error:
            if time.perf_counter() > deadline:
                raise
            errors.append(type(error).__name__)
            time.sleep(0.001)  # a user would not spin either; only a pool that answers with errors comes here
        else:
            return errors


MEASURES = (
    Measure(
        "recovery",
        "next task served after `kill -9` of the only worker",
        "One idle worker is killed and a task submitted at once. A task that fails is submitted again; a pool that "
        f"answers with nothing but errors for {GIVE_UP:g} s fails.",
        recover,
        (Target("at most", 0.300, 0.050),),
        watchdog=6,
    ),
)
