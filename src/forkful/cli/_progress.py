"""How far a map is: a bar on a terminal, plain lines elsewhere; always on standard error."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, Self

from forkful.apps.mapping import Summary

from ._console import say, silence
from ._report import spell_seconds

if TYPE_CHECKING:
    from rich.progress import BarColumn, Progress, TaskID, TextColumn

__all__ = ["fit", "progress_line", "watching"]

_BAR_EVERY = 0.1  # seconds
_LINE_EVERY = 5.0
_NARROWEST, _WIDEST = 10, 40  # columns of the bar


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
    can_move = terminal and os.environ.get("TERM", "").lower() not in {"dumb", "unknown"}
    with _Watch(_Bar(), _BAR_EVERY) if can_move else _Watch(_Lines(), _LINE_EVERY) as watch:
        yield watch


class _Display(Protocol):
    """A way to show a summary.  Used by one thread."""

    def show(self, summary: Summary) -> None:
        """Show it as it is now."""

    def close(self, summary: Summary) -> None:
        """Show it for the last time."""


class _Watch:
    """Has a summary shown every few moments, by a thread: also while one input takes long, and no update comes."""

    def __init__(self, display: _Display, seconds: float) -> None:
        self._display = display
        self._seconds = seconds
        self._summary: Summary | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="forkful-progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __call__(self, summary: Summary) -> None:
        self._summary = summary  # always the same one, which the map goes on counting in

    def _watch(self) -> None:
        try:
            while not self._stop.wait(self._seconds):
                if self._summary is not None:
                    self._display.show(self._summary)
            if self._summary is not None:
                self._display.close(self._summary)
        except (OSError, ValueError):  # the terminal has gone: nobody looks
            silence(2)

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()


class _Lines:
    """A plain line each time."""

    def show(self, summary: Summary) -> None:
        say(progress_line(summary))

    def close(self, summary: Summary) -> None:
        """The report follows, and says more."""


class _Bar:
    """A bar that moves, and beside it what there is room for."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._columns: tuple[BarColumn, TextColumn]
        self._task: TaskID

    def show(self, summary: Summary) -> None:
        if self._progress is None:
            self._start()
        assert self._progress is not None
        width, text = fit(self._progress.console.width, summary)
        bar, _ = self._columns
        bar.bar_width = width
        self._progress.update(self._task, total=summary.total, completed=summary.done + summary.skipped, text=text)
        self._progress.refresh()

    def close(self, summary: Summary) -> None:
        self.show(summary)
        assert self._progress is not None
        self._progress.stop()

    def _start(self) -> None:
        # Late: rich takes longer to import than --help may take.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._columns = BarColumn(), TextColumn("{task.fields[text]}", markup=False)
        self._progress = Progress(*self._columns, console=Console(stderr=True), auto_refresh=False)
        self._task = self._progress.add_task("map", total=None, text="")
        self._progress.start()


def fit(columns: int, summary: Summary) -> tuple[int, str]:
    """The width of a bar, and the text beside it, that fit into one line of so many *columns*.

    Where there is little room, what matters least is left out first: the rate, the workers, the time left, failures.
    """
    total = "?" if summary.total is None else f"{summary.total:,}"
    left = _spell_left(summary)
    parts = {
        "count": f"{summary.done + summary.skipped:,}/{total}",
        "failed": f"{summary.failed:,} failed",
        "left": f"ETA {left}" if left else "",
        "workers": _spell_workers(summary),
        "rate": _spell_rate(summary),
        "took": spell_seconds(summary.wall),
    }
    for least in ("took", "rate", "workers", "left", "failed"):
        text = "  ".join(filter(None, parts.values()))
        if _NARROWEST + 1 + len(text) < columns:
            break
        del parts[least]
    text = "  ".join(filter(None, parts.values()))
    return max(1, min(_WIDEST, columns - len(text) - 2)), text


def progress_line(summary: Summary) -> str:
    """How far it is, in one line."""
    total = "" if summary.total is None else f" of {summary.total:,}"
    left = _spell_left(summary)
    return (
        f"forkful: {summary.done + summary.skipped:,}{total} done, {summary.failed:,} failed, {_spell_rate(summary)}"
        f"{f', {left} left' if left else ''}"
    )


def _spell_left(summary: Summary) -> str:
    """How long the rest will take if it goes on like this; empty when nobody knows, and when there is no rest."""
    if summary.total is None or not 0 < summary.done < summary.total - summary.skipped:
        return ""
    return spell_seconds(summary.wall * (summary.total - summary.skipped - summary.done) / summary.done)


def _spell_workers(summary: Summary) -> str:
    busy = summary.ask_busy
    return f"{summary.processes} workers" if busy is None else f"{busy()}/{summary.processes} busy"


def _spell_rate(summary: Summary) -> str:
    rate = summary.done / max(summary.wall, 1e-9)
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"
