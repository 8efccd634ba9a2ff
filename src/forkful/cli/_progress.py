"""How far a map is: a bar on a terminal, plain lines elsewhere; always on standard error."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self

from forkful.apps.mapping import Summary

from ._console import say
from ._report import spell_seconds

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["progress_line", "watching"]

_BAR_EVERY = 0.1  # seconds
_LINE_EVERY = 5.0


@contextlib.contextmanager
def watching(wanted: bool | None, *, records_on_stdout: bool) -> Iterator[Callable[[Summary], None] | None]:
    """What `map_file` is to call as ``progress``; None when nothing is to be shown.

    *wanted* None means: where it disturbs nobody, that is a terminal on which no records are printed.
    """
    terminal = sys.stderr is not None and sys.stderr.isatty()
    if wanted is None:
        wanted = terminal and not (records_on_stdout and os.isatty(1))
    if not wanted:
        yield None
        return
    with _Bar() if terminal else _Lines() as watcher:
        yield watcher


class _Bar:
    """A progress bar.  It is drawn by a thread of its own, so it moves while nothing is done."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._due = 0.0
        self._last: Summary | None = None

    def __enter__(self) -> Self:
        return self

    def __call__(self, summary: Summary) -> None:
        self._last = summary
        if (now := time.monotonic()) >= self._due:
            self._due = now + _BAR_EVERY
            self._show(summary)

    def _show(self, summary: Summary) -> None:
        if self._progress is None:
            self._progress = _rich_bar()
            self._task = self._progress.add_task("map", total=summary.total, rate="", failed="", workers="")
            self._progress.start()
        assert self._task is not None
        self._progress.update(
            self._task,
            completed=summary.done,
            rate=_spell_rate(summary),
            failed=f"[red]{summary.failed:,} failed[/red]" if summary.failed else "0 failed",
            workers=f"{summary.processes} workers",
        )

    def __exit__(self, *_error: object) -> None:
        if self._progress is not None and self._last is not None:
            self._show(self._last)
            self._progress.stop()


def _rich_bar() -> Progress:
    # Late: rich takes longer to import than --help may take.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[failed]}"),
        TextColumn("{task.fields[workers]}"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


class _Lines:
    """A plain line every few seconds, from a thread: also while one input takes long."""

    def __init__(self) -> None:
        self._summary: Summary | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._print_now_and_then, name="forkful-progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __call__(self, summary: Summary) -> None:
        self._summary = summary

    def _print_now_and_then(self) -> None:
        while not self._stop.wait(_LINE_EVERY):
            if self._summary is not None:
                say(progress_line(self._summary))

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()


def progress_line(summary: Summary) -> str:
    """How far it is, in one line."""
    total = "" if summary.total is None else f" of {summary.total:,}"
    left = ""
    if summary.total is not None and summary.done:
        left = f", {spell_seconds(summary.wall * (summary.total - summary.done) / summary.done)} left"
    return f"forkful: {summary.done:,}{total} done, {summary.failed:,} failed, {_spell_rate(summary)}{left}"


def _spell_rate(summary: Summary) -> str:
    rate = summary.done / max(summary.wall, 1e-9)
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"
