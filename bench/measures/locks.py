"""What a lock between processes costs when nobody wants it, and what it is worth when everybody does."""

from __future__ import annotations

import importlib
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from ..measure import Case, Measure, Reading, Target

PROCESSES, HOLDS, HOLD_S = 4, 25, 0.001

# Each library's way to a lock on a file, kept open as its users keep it.
Maker = Callable[[str], Any]


def ours(path: str) -> Any:
    """forkful's."""
    return importlib.import_module("forkful").Lock(path)


def filelock(path: str) -> Any:
    """What most programs use."""
    return importlib.import_module("filelock").FileLock(path)


def fasteners(path: str) -> Any:
    """OpenStack's."""
    return importlib.import_module("fasteners").InterProcessLock(path)


def portalocker(path: str) -> Any:
    """The one with an engine for Redis."""
    return importlib.import_module("portalocker").Lock(path, timeout=60)


def multiprocessing_lock(_: str) -> Any:
    """No file: it must be inherited, and stays locked when its holder dies."""
    return multiprocessing.get_context("fork").Lock()


def uncontended(make: Maker) -> Callable[[Case], Reading]:
    """An acquire and a release that nobody is in the way of."""

    def sample(case: Case) -> Reading:
        with tempfile.TemporaryDirectory(dir=_memory()) as folder:
            lock = make(str(Path(folder, "lock")))
            _take_and_give(lock, 100)
            begun = time.perf_counter()
            _take_and_give(lock, case.size)
            return Reading((time.perf_counter() - begun) / case.size)

    return sample


def _take_and_give(lock: Any, times: int) -> None:
    for _ in range(times):
        with lock:
            pass


def _memory() -> str | None:
    """The peers' files are where their users would have them for speed: in memory."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # of a name of our own


def contended(make: Maker, what: str) -> Callable[[Case], Reading]:
    """Several processes that hold it for a millisecond, again and again: *what* is ``total`` or ``longest``."""

    def sample(_: Case) -> Reading:
        context = multiprocessing.get_context("fork")
        with tempfile.TemporaryDirectory(dir=_memory()) as folder:
            shared = make(str(Path(folder, "lock"))) if make is multiprocessing_lock else None
            barrier, queue = context.Barrier(PROCESSES), context.SimpleQueue()
            processes = [
                context.Process(target=_hold, args=(make, folder, shared, barrier, queue)) for _ in range(PROCESSES)
            ]
            for process in processes:
                process.start()
            found = [queue.get() for _ in processes]
            for process in processes:
                process.join()
        begun, ended, longest = zip(*found, strict=True)
        return Reading(max(ended) - min(begun) if what == "total" else max(longest))

    return sample


def _hold(make: Maker, folder: str, shared: Any, barrier: Barrier, queue: Any) -> None:
    lock = shared or make(str(Path(folder, "lock")))
    with lock:  # whatever it does at first
        pass
    barrier.wait()
    longest = 0.0
    begun = time.monotonic()
    for _ in range(HOLDS):
        asked = time.monotonic()
        with lock:
            longest = max(longest, time.monotonic() - asked)
            time.sleep(HOLD_S)
    queue.put((begun, time.monotonic(), longest))


_PEERS: dict[str, Maker] = {
    "filelock": filelock,
    "fasteners": fasteners,
    "portalocker": portalocker,
    "multiprocessing.Lock": multiprocessing_lock,
}
_WHY = "has no lock on a file"

MEASURES = (
    Measure(
        "lock",
        "`Lock` on a file: acquire and release, uncontended",
        "One process, one lock that nobody else wants, `with lock: pass`; files in memory. `multiprocessing.Lock` is no lock on "
        "a file: it must be inherited, and stays locked when its holder is killed.",
        uncontended(ours),
        (Target("times as fast", 15, 30, "filelock"), Target("times as fast", 4, 8, "fasteners")),
        size=20_000,
        quick_size=2_000,
        baselines={name: uncontended(make) for name, make in _PEERS.items()},
        only_us=_WHY,
    ),
    Measure(
        "lock-contended",
        f"`Lock` on a file: {PROCESSES} processes, {HOLDS} holds of 1 ms each: total",
        "From the first one's begin to the last one's end; the holds alone take 100 ms, and what `sleep` adds to each.",
        contended(ours, "total"),
        (Target("at most", 0.130, 0.115),),
        baselines={name: contended(make, "total") for name, make in _PEERS.items()},
        only_us=_WHY,
    ),
    Measure(
        "lock-fairness",
        f"`Lock` on a file: {PROCESSES} processes, {HOLDS} holds of 1 ms each: longest wait",
        "The longest time that any of them waited for any of its holds. Were they to take turns, each would wait for three.",
        contended(ours, "longest"),
        (Target("at most", 0.015, 0.005),),
        baselines={name: contended(make, "longest") for name, make in _PEERS.items()},
        only_us=_WHY,
    ),
)
