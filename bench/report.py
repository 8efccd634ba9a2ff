"""The results as Markdown.  Pure: the same run gives the same text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .measure import US, Comparison, Measure, Planned, Target, Unit
from .results import MeasureResult, Series, Spread, compare
from .verdict import Verdict, judge, times_as_fast

TIMES = "\N{MULTIPLICATION SIGN}"  # by name: in a string it looks like an x
GRADES = {"aim": "aim", "must": "must", "no": "**no**", "unknown": "not known"}


@dataclass(frozen=True)
class Run:
    """All that a report is made of."""

    machine: Mapping[str, str]
    versions: Mapping[str, str]  # by peer
    load_before: float
    minutes: float
    quick: bool
    complete: bool  # every measure and every peer asked for
    measures: Sequence[tuple[Measure, MeasureResult]]
    planned: Sequence[Planned]


def render(run: Run) -> str:
    """The whole page."""
    return "\n".join([*head(run), "", *summary(run), "", *details(run)]) + "\n"


def head(run: Run) -> Iterator[str]:
    yield "# Benchmarks"
    yield ""
    yield "Written by `make bench` (`python -m bench --write`); run it on your machine, edits here are lost."
    if run.quick:
        yield "**A quick run**: fewer tasks and rounds than the targets are for."
    if not run.complete:
        yield "**A partial run**: measures or pools were left out."
    yield ""
    for name, fact in run.machine.items():
        yield f"- {name}: {fact}"
    yield f"- load before the run: {run.load_before:.2f}; duration: {run.minutes:.1f} min"
    yield ""
    yield (
        "Each sample is taken in a process of its own; the pools take turns within each round. Values are medians, with "
        "the least and the most in brackets; those of ratios are over pairs from the same round."
    )


def summary(run: Run) -> Iterator[str]:
    yield "## Targets"
    yield ""
    rows = []
    for measure, result in run.measures:
        for verdict in judge(measure, result):
            target = verdict.target
            met = GRADES[verdict.grade] + (f" ({verdict.reason})" if verdict.reason else "")
            rows.append(
                (
                    title(measure, result),
                    target.against or "—",
                    spell_result(measure.unit, verdict),
                    spell_bound(measure.unit, target, target.must),
                    spell_bound(measure.unit, target, target.aim),
                    met,
                )
            )
    for planned in run.planned:
        target = planned.target
        must, aim = (spell_bound(planned.unit, target, bound) for bound in (target.must, target.aim))
        rows.append((planned.title, target.against or "—", "—", must, aim, "not measured yet"))
    yield from table(("measure", "against", US, "must", "aim", "met"), rows)


def details(run: Run) -> Iterator[str]:
    for measure, result in run.measures:
        yield f"## {title(measure, result)}"
        yield ""
        yield measure.how
        yield ""
        ours = result.of(US)
        columns = ("pool", "version", "start method", "rounds", "result", *(["per task"] if measure.per_task else []))
        rows = [
            (
                series.contestant,
                run.versions.get(series.contestant, "—"),
                series.start_method or "—",
                str(len(series.outcomes)),
                spell_series(measure.unit, series),
                *([spell_per_task(series)] if measure.per_task else []),
                spell_against(ours, series),
                remarks(series, ours),
            )
            for series in result.series
            if not series.absent
        ]
        yield from table((*columns, f"times {US}'s", "remarks"), rows)
        if absent := [f"{series.contestant} ({series.absent})" for series in result.series if series.absent]:
            yield ""
            yield f"Not measured: {', '.join(absent)}."
        yield ""


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table."""
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


# --- cells ------------------------------------------------------------------------------------------------------------


def title(measure: Measure, result: MeasureResult) -> str:
    """The measure's name with the size that forkful was given."""
    ours = result.of(US)
    return measure.title.format(n=f"{ours.size if ours else measure.size:,}")


def spell_series(unit: Unit, series: Series) -> str:
    """The spread of the values, or why there are none."""
    if series.spread is None:
        return f"**{spell_failures(series)}**"
    return spell_spread(unit, series.spread)


def spell_per_task(series: Series) -> str:
    return spell("seconds", series.spread.median / series.size) if series.spread else "—"


def spell_against(ours: Series | None, theirs: Series) -> str:
    """How many times forkful's result another's is, when both did the same."""
    if ours is None or ours is theirs or ours.size != theirs.size:
        return "—"
    spread = compare(ours, theirs, times_as_fast)
    return spell_ratios(spread) if spread else "—"


def remarks(series: Series, ours: Series | None) -> str:
    """What the samples said, how many failed, and what was different."""
    said = Counter(outcome.remark for outcome in series.outcomes if outcome.remark)
    parts = [f"{remark} ({count} of {len(series.outcomes)})" for remark, count in said.most_common()]
    if series.spread is not None and series.failures:
        parts.append(f"**{spell_failures(series)}**")
    if ours is not None and ours.size != series.size:
        parts.append(f"{series.size:,} tasks")
    return "; ".join(parts)


def spell_failures(series: Series) -> str:
    counts = Counter(series.failures)
    return ", ".join(f"{failure} ({count} of {len(series.outcomes)})" for failure, count in counts.most_common())


def spell_result(unit: Unit, verdict: Verdict) -> str:
    if verdict.spread is None:
        return "—"
    if is_ratio(verdict.target.comparison):
        return spell_ratios(verdict.spread)
    plus = "+" if verdict.target.comparison == "more" and verdict.spread.median > 0 else ""
    return plus + spell_spread(unit, verdict.spread)


def spell_bound(unit: Unit, target: Target, bound: float) -> str:
    sign = "≥" if target.comparison == "times as fast" else "≤"
    more = "+" if target.comparison == "more" else ""
    return (
        f"{sign} {more}{f'{bound:g}{TIMES}' if is_ratio(target.comparison) else spell(unit, bound, round_number=True)}"
    )


def is_ratio(comparison: Comparison) -> bool:
    return comparison in {"times as fast", "times as long"}


def spell_ratios(spread: Spread) -> str:
    return f"{digits(spread.median)}{TIMES} ({digits(spread.least)} to {digits(spread.most)})"


def spell_spread(unit: Unit, spread: Spread) -> str:
    """A median with its least and most, all in the unit that suits the median."""
    scale, symbol = scale_for(unit, spread.median)
    least, most = digits(spread.least / scale), digits(spread.most / scale)
    return f"{digits(spread.median / scale)}{symbol} ({least} to {most})"


def spell(unit: Unit, value: float, *, round_number: bool = False) -> str:
    """One value with its unit.

    >>> spell("seconds", 0.0123), spell("bytes", 30e6, round_number=True)
    ('12.3 ms', '30 MB')
    """
    scale, symbol = scale_for(unit, value)
    return f"{value / scale:g}{symbol}" if round_number else f"{digits(value / scale)}{symbol}"


def scale_for(unit: Unit, value: float) -> tuple[float, str]:
    if unit == "number":
        return 1.0, ""
    if unit == "bytes":
        return 1e6, " MB"
    size = abs(value)
    return (1e-6, " µs") if size < 1e-3 else (1e-3, " ms") if size < 1 else (1.0, " s")


def digits(value: float) -> str:
    """Three digits that count, as far as they are behind the point.

    >>> digits(0.1234), digits(12.34), digits(1234.5)
    ('0.123', '12.3', '1,234')
    """
    size = abs(value)
    places = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{places}f}"
