"""forkful: processes for Python that never hang, lose or oversell.

>>> from forkful import Pool
>>> with Pool(2) as pool:
...     pool.map(len, ["a", "bb"])
[1, 2]
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":
    raise ImportError(
        "forkful needs a POSIX system, such as Linux or macOS: Windows has no fork, and no descriptors that cross between "
        "processes; use it under WSL"
    )

if TYPE_CHECKING:
    from multiprocessing import Process, TimeoutError  # noqa: A004  # multiprocessing's own, under its own name

    from .apps.mapping import map_file
    from .errors import ForkfulError
    from .locks import Lock, RLock, RWLock, Semaphore, SharedFile, SharedJSON
    from .pool import AsyncResult, Outcome, Pool, Shared, cpu_count
    from .server import Server, serve

__all__ = [
    "AsyncResult",
    "ForkfulError",
    "Lock",
    "Outcome",
    "Pool",
    "Process",
    "RLock",
    "RWLock",
    "Semaphore",
    "Server",
    "Shared",
    "SharedFile",
    "SharedJSON",
    "TimeoutError",
    "cpu_count",
    "map_file",
    "serve",
]
__version__ = "0.1.0"

# What is imported when it is first asked for: every worker that is a new interpreter imports this package, and needs
# none of it until a task does.
_HOMES = {
    "AsyncResult": ".pool",
    "ForkfulError": ".errors",
    "Lock": ".locks",
    "Outcome": ".pool",
    "Pool": ".pool",
    "Process": "multiprocessing",
    "RLock": ".locks",
    "RWLock": ".locks",
    "Semaphore": ".locks",
    "Server": ".server",
    "Shared": ".pool",
    "SharedFile": ".locks",
    "SharedJSON": ".locks",
    "TimeoutError": "multiprocessing",
    "cpu_count": ".pool",
    "map_file": ".apps.mapping",
    "serve": ".server",
}
_MODULES = {"errors", "events", "futures", "locks", "pool", "server"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
