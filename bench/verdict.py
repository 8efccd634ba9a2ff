"""Whether the results reach the targets.  Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .measure import BEST, US, Comparison, Measure, Target
from .results import MeasureResult, Series, Spread, compare

Grade = Literal["aim", "must", "no", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """One target held against the results.  ``spread`` is of what the target bounds, in its unit."""

    target: Target
    spread: Spread | None
    grade: Grade
    reason: str = ""  # when unknown


def times_as_fast(ours: float, theirs: float) -> float:
    return theirs / ours if ours else math.inf


def times_as_long(ours: float, theirs: float) -> float:
    return ours / theirs if theirs else math.inf


def more(ours: float, theirs: float) -> float:
    return ours - theirs


COMPARE: dict[Comparison, Callable[[float, float], float]] = {
    "times as fast": times_as_fast,
    "times as long": times_as_long,
    "more": more,
}


def judge(measure: Measure, result: MeasureResult) -> list[Verdict]:
    """A verdict for each target.  The median decides; one round in which forkful fails is a no."""
    return [judge_target(target, result) for target in measure.targets]


def judge_target(target: Target, result: MeasureResult) -> Verdict:
    ours = result.of(US)
    if ours is None or ours.absent:
        return Verdict(target, None, "unknown", f"{US} {ours.absent if ours else 'left out'}")
    spread, reason = measure_against(target, ours, result)
    if ours.failures:
        return Verdict(target, spread, "no", f"{US} {ours.failures[0]}")
    if spread is None:
        return Verdict(target, None, "unknown", reason)
    return Verdict(target, spread, grade(target, spread.median))


def measure_against(target: Target, ours: Series, result: MeasureResult) -> tuple[Spread | None, str]:
    """What the target bounds, or why that is not known."""
    if not target.against:
        return ours.spread, ""
    theirs = best_peer(result) if target.against == BEST else result.of(target.against)
    if theirs is None or not theirs.values:
        return None, f"{target.against} {theirs.absent or theirs.failures[0] if theirs else 'left out'}"
    return compare(ours, theirs, COMPARE[target.comparison]), ""


def best_peer(result: MeasureResult) -> Series | None:
    """The other pool with the least median; baselines are no pools."""
    others = [series for series in result.series if series.contestant != US and series.start_method and series.spread]
    return min(others, key=lambda series: series.spread.median if series.spread else math.inf, default=None)


def grade(target: Target, value: float) -> Grade:
    """How far *value* gets."""
    if reaches(target.comparison, value, target.aim):
        return "aim"
    return "must" if reaches(target.comparison, value, target.must) else "no"


def reaches(comparison: Comparison, value: float, bound: float) -> bool:
    return value >= bound if comparison == "times as fast" else value <= bound
