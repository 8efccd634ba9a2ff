"""What came out of a run: values by round, and the few statistics that the report shows.  Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True)
class Spread:
    """A median and how far the values lay apart."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self | None:
        """The spread of *values*; None without any."""
        known = sorted(values)
        return cls(statistics.median(known), known[0], known[-1]) if known else None


@dataclass(frozen=True)
class Outcome:
    """How one sample ended: with a value, or with the reason why there is none."""

    value: float | None = None
    remark: str = ""
    failure: str = ""  # "hangs: nothing within 60 s", "fails: BrokenProcessPool"


@dataclass
class Series:
    """All samples of one contestant in one measure, by round; ``absent`` says why there are none."""

    contestant: str
    size: int
    start_method: str
    outcomes: list[Outcome] = field(default_factory=list)
    absent: str = ""

    @property
    def values(self) -> list[float]:
        """The values of the rounds that have one."""
        return [outcome.value for outcome in self.outcomes if outcome.value is not None]

    @property
    def failures(self) -> list[str]:
        """Why the other rounds have none."""
        return [outcome.failure for outcome in self.outcomes if outcome.failure]

    @property
    def spread(self) -> Spread | None:
        """Of the values; None without any."""
        return Spread.of(self.values)


@dataclass
class MeasureResult:
    """One measure with all who took part."""

    name: str
    series: list[Series]

    def of(self, contestant: str) -> Series | None:
        """The series of one of them."""
        return next((series for series in self.series if series.contestant == contestant), None)


def compare(ours: Series, theirs: Series, function: Callable[[float, float], float]) -> Spread | None:
    """*function* of the two medians, spread over its values for the pairs that were measured in the same round.

    The pairs are neighbours in time, so what slowed the machine down slowed both.
    """
    if ours.spread is None or theirs.spread is None:
        return None
    pairs = zip(ours.outcomes, theirs.outcomes, strict=False)  # a series that kept failing is shorter
    values = [function(a.value, b.value) for a, b in pairs if a.value is not None and b.value is not None]
    middle = function(ours.spread.median, theirs.spread.median)
    # Of few pairs, the ratio of the medians need not lie between the pairs' ratios.
    return Spread(middle, min([middle, *values]), max([middle, *values]))
