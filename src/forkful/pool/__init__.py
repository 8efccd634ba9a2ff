"""The pool: `Pool`, its results, its iterators and its executor."""

from typing import TYPE_CHECKING, Any

from ._iterators import IMapIterator, OutcomeIterator
from ._outcome import Outcome
from ._pool import Pool
from ._processors import cpu_count
from ._results import AsyncResult, MapResult

if TYPE_CHECKING:
    from ._executor import PoolExecutor

__all__ = [
    "AsyncResult",
    "IMapIterator",
    "MapResult",
    "Outcome",
    "OutcomeIterator",
    "Pool",
    "PoolExecutor",
    "cpu_count",
]


def __getattr__(name: str) -> Any:
    if name != "PoolExecutor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ._executor import PoolExecutor  # concurrent.futures costs 10 ms, and few programs use it

    return PoolExecutor
