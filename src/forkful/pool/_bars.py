"""``progress=``: what shows how far a map is, and the thread that has it do so.

A bar is slow (it writes to a terminal), may be the user's code, and may be interrupted by Ctrl-C where it runs in the
main thread.  So the threads that deliver only count, and each map with a bar has a thread of its own, which draws what
has been counted a few times in a second, and once more at the end.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from .._core import codec
from .._core.wheel import Waiter, log_exception, run_quietly
from ._progress import Tally, bar_line, last_line, plain_line

_EVERY_NS = 100_000_000  # between two times that a bar is drawn
_LINE_EVERY_S = 10.0  # between two lines where there is no terminal
_CLEAR = "\x1b[K"  # the rest of the line
_COLUMNS = 80  # of a terminal that does not tell

_ACCEPTED = (
    "progress must be True, a bar such as tqdm's (an object with update(n)), or what makes such a bar when it is called "
    "with total= (tqdm itself)"
)


class Display(Protocol):
    """Shows a tally.  Used by one thread; may raise."""

    def show(self, tally: Tally) -> None:
        """Show it as it is now."""

    def close(self, tally: Tally) -> None:
        """Show it for the last time."""


class Watch:
    """One map's progress: the tally, and the thread that has it shown."""

    def __init__(self, display: Display, tally: Tally) -> None:
        self.tally = tally
        self._display: Display | None = display
        self._finished = False
        self._closed = False
        self._afterwards: deque[Callable[[], object]] = deque()
        self._waiter = Waiter()
        self._thread = threading.Thread(target=self._run, name="forkful-progress", daemon=True)
        self._run_in_caller = False
        try:
            self._thread.start()
        except RuntimeError:  # no thread to be had: it is shown once, at the end
            self._run_in_caller = True
        except BaseException:  # Ctrl-C: it may run, and nobody will have it end
            self._finished = True
            raise

    def count(self, ended: int, failed: int) -> None:
        """So many more elements have *ended*, *failed* of them without a value.  Never called by two threads at once."""
        self.tally.done += ended
        self.tally.failed += failed

    def finish(self, afterwards: Callable[[], object] | None = None) -> None:
        """There is no more to count.  *afterwards* is called when the last has been shown, by the thread that did that.

        May be called more than once, and by the garbage collector.
        """
        if afterwards is not None:
            self._afterwards.append(afterwards)
        self._finished = True
        self._waiter.release()
        if self._run_in_caller and not self._closed:
            self._close()
        elif self._closed:
            self._call_afterwards()

    def is_over(self) -> bool:
        """Whether the last has been shown."""
        return self._closed and not self._afterwards

    def await_shown(self, patience: float | None) -> None:
        """After `finish`: until the last has been shown, at most *patience* seconds."""
        if not self._run_in_caller and threading.current_thread() is not self._thread:
            self._thread.join(patience)

    def _run(self) -> None:
        while True:
            self._waiter.await_release(_EVERY_NS)
            if self._finished:
                break
            self._have_shown("show")
        self._close()

    def _close(self) -> None:
        self._have_shown("close")
        self._display = None
        self._closed = True
        self._call_afterwards()

    def _have_shown(self, how: str) -> None:
        """A display that raises is not asked again."""
        if self._display is None:
            return
        try:
            getattr(self._display, how)(self.tally)
        except BaseException:  # SystemExit in a bar must not end the thread that a result waits for
            log_exception("the progress bar of %s raised and is shown no more; the map goes on", self.tally.name)
            self._display = None

    def _call_afterwards(self) -> None:
        """Each once, also where two threads are here: a deque gives each of its items to one of them."""
        while self._afterwards:
            try:
                afterwards = self._afterwards.popleft()
            except IndexError:
                return
            run_quietly("the end of a progress bar", afterwards)


def follow(progress: Any, function: Any, total: int | None) -> Watch | None:
    """What shows the progress of a map of *function*; None if nothing does.

    Raises:
        TypeError: *progress* is nothing that could.
        BaseException: what the user's maker of bars raises.
    """
    if progress is None or progress is False:
        return None
    display = _choose_display(progress, total)
    return None if display is None else Watch(display, Tally(codec.describe(function), total, time.monotonic()))


def _choose_display(progress: Any, total: int | None) -> Display | None:
    if progress is True:
        return None if total == 0 else _choose_own(sys.stderr)
    if not isinstance(progress, type) and callable(getattr(progress, "update", None)):
        return _Told(progress, made_here=False)
    if not callable(progress):
        raise TypeError(f"{_ACCEPTED}, not {codec.short_repr(progress)}")
    bar = progress(total=total)
    if not callable(getattr(bar, "update", None)):
        raise TypeError(f"{_ACCEPTED}; {codec.short_repr(progress)} made {codec.short_repr(bar)}")
    return _Told(bar, made_here=True)


def _choose_own(stream: TextIO | None) -> Display | None:
    if stream is None:  # a program without a console
        return None
    try:
        terminal = stream.isatty()
    except (AttributeError, ValueError):  # something that can only write; closed
        terminal = False
    can_move = terminal and os.environ.get("TERM", "").lower() not in {"dumb", "unknown"}
    return _Terminal(stream) if can_move else _Lines(stream)


class _Told:
    """A bar of the user's, which is told how many more elements have ended.

    One that was made here is closed here; one that the user made is his to close, and may serve several maps.
    """

    def __init__(self, bar: Any, *, made_here: bool) -> None:
        self._bar = bar
        self._made_here = made_here
        self._told = 0

    def show(self, tally: Tally) -> None:
        if tally.total is not None and getattr(self._bar, "total", 0) is None:  # it may be known only when all is read
            self._bar.total = tally.total
        done = tally.done
        if done > self._told:
            more, self._told = done - self._told, done
            self._bar.update(more)

    def close(self, tally: Tally) -> None:
        try:
            self.show(tally)
            if hasattr(self._bar, "refresh"):
                self._bar.refresh()
        finally:
            if self._made_here and hasattr(self._bar, "close"):
                self._bar.close()


class _Lines:
    """A line now and then, where lines cannot be taken back; and the last, if anything was done."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._next = time.monotonic() + _LINE_EVERY_S

    def show(self, tally: Tally) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _LINE_EVERY_S
            _write(self._stream, f"{plain_line(tally, now)}\n")

    def close(self, tally: Tally) -> None:
        if tally.done:
            _write(self._stream, f"{last_line(tally, time.monotonic())}\n")


class _Terminal:
    """A bar that moves.  One at a time has the line: others wait until it is free, and say only their last word."""

    has_the_line: _Terminal | None = None

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._blocks = _can_write(stream, "█▏")
        self._text = ""

    def show(self, tally: Tally) -> None:
        if _Terminal.has_the_line is None:
            _Terminal.has_the_line = self
        if _Terminal.has_the_line is self:
            # One column less: a terminal may begin a new line when the last is written to.
            text = bar_line(tally, time.monotonic(), _columns_of(self._stream) - 1, blocks=self._blocks)
            if text != self._text:
                self._text = text
                _write(self._stream, f"\r{text}{_CLEAR}")

    def close(self, tally: Tally) -> None:
        holder = _Terminal.has_the_line
        if tally.done or self._text:
            _write(self._stream, f"\r{last_line(tally, time.monotonic())}{_CLEAR}\n")
        if holder is self:
            _Terminal.has_the_line = None
        elif holder is not None:
            holder._text = ""  # it is to be drawn again


def _forget_the_line() -> None:
    _Terminal.has_the_line = None


os.register_at_fork(after_in_child=_forget_the_line)  # whose thread is not in the child


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):  # the terminal has gone, a full disk; closed: nobody looks
        pass


def _can_write(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding)
    except (AttributeError, LookupError, TypeError, UnicodeError):
        return False
    return True


def _columns_of(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or _COLUMNS
    except (OSError, ValueError, AttributeError):
        return _COLUMNS
