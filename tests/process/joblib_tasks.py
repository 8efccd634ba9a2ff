"""What the tests of the joblib backend have workers do, beside `executor_tasks`."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import joblib

from .executor_tasks import open_gate


def square_all(numbers: list[int]) -> tuple[int, str, list[int]]:
    """A call of ``Parallel`` inside a worker: which worker, with which backend, and the results."""
    parallel = joblib.Parallel(n_jobs=2)
    return os.getpid(), type(parallel._backend).__name__, parallel(joblib.delayed(pow)(number, 2) for number in numbers)


def where(_: object = None) -> tuple[int, int]:
    """Which worker, and which thread of it."""
    return os.getpid(), threading.get_ident()


def use_own_workers(number: int) -> set[int]:
    """A call of ``Parallel`` inside a worker, on workers of that one's own: which they are."""
    with joblib.parallel_config(backend="forkful", n_jobs=2):
        return {os.getpid(), *joblib.Parallel(batch_size=1)(joblib.delayed(os.getpid)() for _ in range(number))}


def threads_allowed() -> str | None:
    """How many threads numerical libraries may use in this worker."""
    return os.environ.get("OMP_NUM_THREADS")


def stand_or_note(gate: str, log: str, number: int) -> int:
    """The first stands at the *gate*; the others leave a line in *log*."""
    if number == 0:
        open_gate(gate)
    else:
        with Path(log).open("a", encoding="ascii") as file:
            file.write(f"{number}\n")
    return number
