"""The summary at the end of a map, in words."""

from __future__ import annotations

import time
from collections.abc import Iterator

from forkful.apps.mapping import Status, Summary
from forkful.apps.problems import one_line

from ._console import say

__all__ = ["print_report", "report", "report_status", "spell_seconds"]

_INPUT, _MESSAGE = 60, 160  # characters of an example
_SLOW = 0.01  # seconds: what takes less is not worth a line


def print_report(summary: Summary) -> None:
    """Print `report` on standard error."""
    say("\n".join(report(summary)))


def report(summary: Summary) -> Iterator[str]:
    """The summary's lines: what was done, how long it took, what failed, what was slow."""
    wall = spell_seconds(summary.wall)
    head = f"{summary.done:,} done in {wall}"
    if summary.interrupted:
        total = "" if summary.total is None else f" of {summary.total:,}"
        head = f"interrupted after {wall}: {summary.done:,}{total} done"
    elif summary.halted is not None:
        head = f"halted ({summary.halted}) after {wall}: {summary.done:,} done"
    where = summary.output if summary.done or not summary.interrupted else "nothing written"
    yield f"forkful: {head}: {summary.done - summary.failed:,} ok, {summary.failed:,} failed -> {where}"
    p50, p95 = summary.durations.quantile(0.5), summary.durations.quantile(0.95)
    if p50 is not None and p95 is not None:
        workers = "1 worker" if summary.processes == 1 else f"{summary.processes} workers"
        yield (
            f"  an input took {spell_seconds(p50)} (p50), {spell_seconds(p95)} (p95); "
            f"{workers} {summary.utilisation:.0%} busy"
        )
    if summary.before:
        failed = f", {summary.failed_before:,} of them failed" if summary.failed_before else ""
        yield f"  before  {summary.before:>6,} were done by an earlier run{failed}"
    for kind, group in sorted(summary.errors.items(), key=lambda pair: -pair[1].count):
        # Of a message the end matters most: it says what to do.
        example = f"{_cut(group.input)}: {one_line(group.message, _MESSAGE)}"
        yield f"  failed  {group.count:>6,} x {kind}, such as {group.id} {example}"
    for slow in summary.slowest if summary.done > 1 else []:
        if slow.seconds >= _SLOW:
            took = f"{'> ' if slow.is_least else ''}{spell_seconds(slow.seconds)}"
            yield f"  slowest {took:>8}  {slow.id} {_cut(slow.input)}"
    if summary.can_resume and (hint := _how_to_go_on(summary)):
        yield f"  {hint}"


def _how_to_go_on(summary: Summary) -> str:
    """What to say next, where something is left; --overwrite must not be said again with it."""
    instead = " instead of --overwrite" if summary.overwrites else ""
    if summary.interrupted or summary.halted is not None:
        if summary.overwrites and not summary.done:
            return f"{summary.output} is as it was; the same command begins again"
        return f"the same command with --resume{instead} does the rest"
    if summary.failed or summary.failed_before:
        return f"the same command with --retry-failed{instead} tries those again"
    return ""


def report_status(status: Status) -> Iterator[str]:
    """What `forkful map --status` says."""
    job = status.job
    yield f"{status.output}: {status.state}"
    total = "" if job is None or job.total is None else f" of {job.total:,}"
    yield f"  done    {status.done:>9,}{total}"
    yield f"  failed  {status.failed:>9,}"
    for kind, count in sorted(status.kinds.items(), key=lambda pair: -pair[1]):
        yield f"  {'':7} {count:>9,} x {kind}"
    if job is not None:
        file = "" if job.function.file is None else f"{job.function.file}:"
        yield f"  function {file}{job.function.name}"
        yield f"  inputs   {' '.join(job.inputs)}"
        yield f"  begun    {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(job.begun))}, process {job.pid}"


def spell_seconds(seconds: float) -> str:
    """A duration for people.

    >>> spell_seconds(0.0123), spell_seconds(3.21), spell_seconds(3725)
    ('12 ms', '3.2 s', '1 h 2 min')
    """
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds / 60)
    return f"{minutes} min {seconds % 60:.0f} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _cut(text: str) -> str:
    return text if len(text) <= _INPUT else f"{text[: _INPUT - 1]}…"
