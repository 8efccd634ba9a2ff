"""What a map has done so far, in constant memory however many inputs there are."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from forkful.apps.problems import one_line

from .inputs import Item, show
from .records import Record

__all__ = ["Durations", "ErrorGroup", "Slow", "Summary"]

_SLOWEST = 5
_SHOWN = 200  # characters of an input, and of a message, that are kept as an example


class Durations:
    """Quantiles of many durations: a histogram whose buckets are 0.5 % wide, so that answers are as near.

    >>> durations = Durations()
    >>> for seconds in (1.0, 2.0, 3.0):
    ...     durations.add(seconds)
    >>> round(durations.quantile(0.5), 1)
    2.0
    """

    _WIDTH = math.log(1.005)
    _LEAST = 1e-7  # seconds: the clock's own grain

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._count = 0

    def add(self, seconds: float) -> None:
        """Count one."""
        bucket = int(math.log(max(seconds, self._LEAST) / self._LEAST) / self._WIDTH)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self._count += 1

    def quantile(self, share: float) -> float | None:
        """The duration in seconds that *share* (0 to 1) of all do not exceed; None when there are none."""
        wanted = max(1, math.ceil(share * self._count))
        for bucket in sorted(self._buckets):
            wanted -= self._buckets[bucket]
            if wanted <= 0:
                return self._LEAST * math.exp((bucket + 0.5) * self._WIDTH)
        return None


@dataclass
class ErrorGroup:
    """Inputs that failed with the same type of error: how many, and the first of them, its message in one line."""

    count: int
    id: str
    input: str
    message: str


@dataclass(frozen=True, order=True)
class Slow:
    """One of the slowest inputs."""

    seconds: float
    id: str
    input: str
    is_least: bool = False  # it was stopped then


@dataclass
class Summary:
    """What a map has done so far; complete when `map_file` returns it.

    Attributes:
        processes: how many worker processes it may use: no more than there are inputs, where that is known.
        output: the name of what the records went to.
        threads: how many inputs each of them may work on at once.
        total: how many inputs there are to do, None when that is not known.
        done: records written, failed ones included.
        failed: records written with ``"ok": false``.
        before: records that an earlier run has written, and that stay.
        failed_before: those of them with ``"ok": false``.
        interrupted: Ctrl-C, or a signal, ended it before its time.
        halted: the policy that ended it before its time; None if none did.
        skipped: inputs that were found to be among those; nothing is done for them.
        can_resume: what was written can be gone on with.
        overwrites: it was asked to replace what its output holds, which it does with the first record.
        busy: seconds that workers spent in the function, as far as is known: those of a crash are not.
        errors: failed inputs by type of error.
        durations: of all calls that could be measured; a call that ran out of time counts as long as it was given.
        ask_busy: how many workers have something to do; None when there are none.
    """

    processes: int
    output: str
    threads: int = 1
    total: int | None = None
    done: int = 0
    failed: int = 0
    before: int = 0
    failed_before: int = 0
    interrupted: bool = False
    halted: str | None = None
    skipped: int = 0
    can_resume: bool = False
    overwrites: bool = False
    busy: float = 0.0
    errors: dict[str, ErrorGroup] = field(default_factory=dict)
    durations: Durations = field(default_factory=Durations)
    ask_busy: Callable[[], int] | None = None
    _slowest: list[Slow] = field(default_factory=list)  # a heap, the quickest of them first
    _begun: float = field(default_factory=time.monotonic)
    _ended: float | None = None

    def add(self, item: Item, record: Record) -> None:
        """Count one written record."""
        self.done += 1
        seconds = record.took
        if seconds is not None:
            self.busy += seconds
            self.durations.add(seconds)
            if len(self._slowest) < _SLOWEST or seconds > self._slowest[0].seconds:
                self._keep(Slow(seconds, item.id, show(item.raw)[:_SHOWN], is_least=record.seconds is None))
        failure = record.failure
        if failure is None:
            return
        self.failed += 1
        group = self.errors.get(failure.type)
        if group is None:
            message = one_line(failure.message, _SHOWN)
            self.errors[failure.type] = ErrorGroup(1, item.id, show(item.raw)[:_SHOWN], message)
        else:
            group.count += 1

    def _keep(self, slow: Slow) -> None:
        if len(self._slowest) < _SLOWEST:
            heapq.heappush(self._slowest, slow)
        else:
            heapq.heapreplace(self._slowest, slow)

    def forget_pool(self) -> None:
        """Its workers are about to leave."""
        self.ask_busy = None

    def end(self) -> None:
        """Stop the clock."""
        self._ended = time.monotonic()

    @property
    def slowest(self) -> list[Slow]:
        """The slowest inputs, the slowest first."""
        return sorted(self._slowest, reverse=True)

    @property
    def wall(self) -> float:
        """Seconds from the start to the end, or to now."""
        return (self._ended if self._ended is not None else time.monotonic()) - self._begun

    @property
    def utilisation(self) -> float:
        """The share of its processes' time that was spent in the function, 0 to 1."""
        return min(1.0, self.busy / (self.wall * self.processes * self.threads)) if self.wall > 0 else 0.0
