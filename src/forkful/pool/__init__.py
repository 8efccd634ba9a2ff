"""The pool: `Pool`, its results and its iterators."""

from ._iterators import IMapIterator, OutcomeIterator
from ._outcome import Outcome
from ._pool import Pool
from ._processors import cpu_count
from ._results import AsyncResult, MapResult

__all__ = ["AsyncResult", "IMapIterator", "MapResult", "Outcome", "OutcomeIterator", "Pool", "cpu_count"]
