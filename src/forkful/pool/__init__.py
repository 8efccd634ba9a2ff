"""The pool: `Pool`, its results, its iterators and its executor."""

from typing import TYPE_CHECKING, Any

from .._core.inheritance import check_not_importing_main
from ._iterators import IMapIterator, OutcomeIterator
from ._outcome import Outcome
from ._pool import Pool
from ._processors import cpu_count
from ._results import AsyncResult, MapResult

if TYPE_CHECKING:
    from ._executor import PoolExecutor
    from ._shared import Shared

__all__ = [
    "AsyncResult",
    "IMapIterator",
    "MapResult",
    "Outcome",
    "OutcomeIterator",
    "Pool",
    "PoolExecutor",
    "Shared",
    "check_not_importing_main",
    "cpu_count",
]


def __getattr__(name: str) -> Any:
    # Few programs use these.
    if name == "PoolExecutor":
        from ._executor import PoolExecutor  # concurrent.futures costs 10 ms

        return PoolExecutor
    if name == "Shared":
        from ._shared import Shared

        return Shared
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
