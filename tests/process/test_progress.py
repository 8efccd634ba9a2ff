"""``progress=``: every element is counted, the bar is finished whatever happens, and hurts nobody."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import itertools
import os
import re
import struct
import subprocess
import sys
import termios
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import forkful
from forkful import errors
from forkful._core.wheel import Wheel
from forkful.pool import _bars

from . import tasks, view_tasks
from .support import ROOT, WATCHDOG, Program, assert_works
from .view_tasks import Gate

LISTS = ["map", "starmap", "map_async", "starmap_async"]
STREAMS = ["imap", "imap_unordered", "istarmap", "istarmap_unordered", "outcomes"]


@pytest.fixture
def pool() -> Iterator[Any]:
    with forkful.Pool(2, context="fork") as made:
        yield made


class Bar:
    """As much of tqdm's as is asked for."""

    def __init__(self, total: int | None = None) -> None:
        self.total = total
        self.n = 0
        self.events: list[Any] = []

    def update(self, n: int) -> None:
        assert n > 0
        self.n += n

    def refresh(self) -> None:
        self.events.append(("refresh", self.n))

    def close(self) -> None:
        self.events.append(("close", self.n))


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    encoding: Any = "utf-8"

    def __init__(self) -> None:
        super().__init__()
        self.drawn = threading.Event()

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        self.drawn.set()

    def frames(self) -> list[str]:
        """What was on the line, one time after the other; the last words end with a new line."""
        return [frame.replace("\x1b[K", "") for frame in self.getvalue().split("\r")[1:]]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()
    monkeypatch.setattr(_bars, "sys", SimpleNamespace(stderr=made))  # not sys.stderr, which is pytest's own to set
    monkeypatch.setenv("TERM", "xterm")
    return made


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A standard error that is no terminal."""
    made = io.StringIO()
    monkeypatch.setattr(_bars, "sys", SimpleNamespace(stderr=made))  # not sys.stderr, which is pytest's own to set
    return made


def run(pool: Any, call: str, numbers: Any, progress: Any, function: Callable[..., Any] = view_tasks.fail_at) -> Any:
    """Any map-like method, to its end: values, where there are no errors."""
    if "starmap" in call:
        numbers = (
            [(number,) for number in numbers] if hasattr(numbers, "__len__") else ((number,) for number in numbers)
        )
    made = getattr(pool, call)(function, numbers, progress=progress)
    if call.endswith("_async"):
        return made.get(WATCHDOG)
    return [getattr(item, "value", item) for item in made]


@pytest.mark.parametrize("call", LISTS + STREAMS)
@pytest.mark.parametrize("sized", [True, False])
def test_every_element_is_counted(call: str, sized: bool, start_method: str) -> None:
    """When the results are there, the bar has been told of all of them; a bar of the user's is his to close."""
    bar = Bar()
    with forkful.Pool(2, context=start_method) as pool:
        for times in (1, 2):
            numbers = range(4, 504) if sized else (number for number in range(4, 504))
            assert sorted(run(pool, call, numbers, bar)) == list(range(8, 1008, 2))
            assert bar.n == 500 * times
            assert bar.events == [("refresh", 500), ("refresh", 1000)][:times]
        assert bar.total == 500  # an iterable without a length has one when it has been read
        assert_works(pool)


@pytest.mark.parametrize("call", LISTS + STREAMS)
def test_a_bar_that_is_made_here_is_closed_here(call: str, pool: Any) -> None:
    """`progress=tqdm`: it is told the total, and closed with all of it counted."""
    made: list[Bar] = []

    class Counted(Bar):
        def __init__(self, total: int | None = None) -> None:
            super().__init__(total)
            made.append(self)

    assert sorted(run(pool, call, range(4, 104), Counted)) == list(range(8, 208, 2))
    assert [(bar.total, bar.events) for bar in made] == [(100, [("refresh", 100), ("close", 100)])]
    assert run(pool, call, [], Counted) == []
    assert (made[1].total, made[1].events) == (0, [("refresh", 0), ("close", 0)])


def test_the_least_that_a_bar_needs(pool: Any) -> None:
    class Least:
        n = 0

        def update(self, n: int) -> None:
            self.n += n

    bar = Least()
    assert pool.map(tasks.double, range(10), progress=bar) == list(range(0, 20, 2))
    assert bar.n == 10
    assert pool.map(tasks.double, range(10), progress=lambda total: bar) == list(range(0, 20, 2))
    assert bar.n == 20


def test_nothing_is_shown_unless_asked_for(pool: Any, terminal: Terminal) -> None:
    for progress in (None, False):
        assert pool.map(tasks.double, range(10), progress=progress) == list(range(0, 20, 2))
    assert list(pool.imap(tasks.double, [], progress=True)) == pool.map(tasks.double, [], progress=True) == []
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("call", ["map", "map_async", "imap", "outcomes"])
@pytest.mark.parametrize("wrong", [1, "tqdm", 0.5, object(), [], lambda total: None, lambda total: "bar"])
def test_what_cannot_show_progress_is_refused(call: str, wrong: Any, pool: Any) -> None:
    with pytest.raises(TypeError, match=r"progress must be True, a bar such as tqdm's \(an object with update\(n\)\)"):
        getattr(pool, call)(tasks.double, range(10), progress=wrong)
    with pytest.raises(ZeroDivisionError):
        getattr(pool, call)(tasks.double, range(10), progress=lambda total: 1 // 0)
    assert not pool._master.pending
    assert_works(pool)


# What counts


def test_failures_count_as_done(pool: Any, pipe: io.StringIO) -> None:
    """Errors, crashes, time-outs, what cannot be pickled, what was cancelled."""
    bar = Bar()
    with pytest.raises(LookupError):
        pool.map(view_tasks.fail_at, range(10), progress=bar)
    assert bar.n == 10
    ends = list(pool.outcomes(tasks.misbehave, ["", "raise", "die", "hang", ""], timeout=0.3, progress=True))
    assert sum(not end.ok for end in ends) == 3
    assert re.search(r"^misbehave: 5 done in .*, 3 failed", pipe.getvalue())
    with pytest.raises(errors.UnpicklableError):
        pool.map(tasks.accept, [1, threading.Lock(), 2], progress=bar)
    assert bar.n == 13


def test_cancelled_elements_count_as_done(pool: Any, pipe: io.StringIO, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    result = pool.map_async(view_tasks.pass_gate, [gate.path] * 300, chunksize=1, progress=True)
    gate.open()
    assert result.cancel(kill=True)
    with pytest.raises(errors.TaskCancelled):
        result.get(WATCHDOG)
    assert re.search(r"^pass_gate: 300 done in .*, (299|298|300) failed", pipe.getvalue())


def test_it_is_shown_before_the_result_is_ready_or_a_callback_called(pool: Any) -> None:
    bar, seen = Bar(), list[Any]()
    result = pool.map_async(
        tasks.double, range(100), callback=lambda values: seen.append((len(values), bar.n, *bar.events)), progress=bar
    )
    assert len(result.get(WATCHDOG)) == 100
    assert seen == [(100, 100, ("refresh", 100))]


def test_join_waits_for_bars_and_their_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, seen = threading.Event(), list[Any]()

    class Slow(Bar):
        def refresh(self) -> None:
            shown.wait(WATCHDOG)

    def await_shown(watch: _bars.Watch, patience: float | None) -> None:
        assert patience is None
        shown.set()
        original(watch, patience)

    original = _bars.Watch.await_shown
    monkeypatch.setattr(_bars.Watch, "await_shown", await_shown)
    bar = Slow()
    pool = forkful.Pool(2, context="fork")
    pool.map_async(tasks.double, range(100), callback=lambda _: seen.append(bar.n), progress=bar)
    pool.close()
    pool.join()
    shown.set()
    assert seen == [100]


# Bars that misbehave


@pytest.mark.parametrize("call", ["map", "imap"])
@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_a_bar_that_raises(call: str, error: type[BaseException], pool: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is reported once, told no more, and all results are right."""
    calls: list[str] = []

    class Broken(Bar):
        def update(self, n: int) -> None:
            calls.append("update")
            raise error

        def refresh(self) -> None:
            calls.append("refresh")
            raise error

    assert run(pool, call, range(4, 104), Broken()) == list(range(8, 208, 2))
    assert calls == ["update"]
    reports = [record.getMessage() for record in caplog.records]
    assert reports == ["the progress bar of fail_at raised and is shown no more; the map goes on"]
    assert_works(pool)


def test_a_bar_that_hangs(tmp_path: Path) -> None:
    """It holds up the map that it belongs to, as a callback would; nothing else, and not the end of the pool."""
    stay = threading.Event()

    class Hanging(Bar):
        def update(self, n: int) -> None:
            stay.wait()

    pool = forkful.Pool(2, context="fork")
    try:
        hanging = pool.map_async(tasks.double, range(10), progress=Hanging())
        assert pool.map(tasks.double, range(10), progress=Bar()) == list(range(0, 20, 2))
        assert list(pool.imap(tasks.double, range(10), progress=Hanging())) == list(range(0, 20, 2))
        with pytest.raises(forkful.TimeoutError):
            hanging.get(0.05)
        pool.terminate()
        with pytest.raises(errors.PoolTerminated):
            hanging.get(WATCHDOG)
    finally:
        stay.set()


def test_no_thread_to_be_had(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then a bar is told once, at the end."""
    pool.map(tasks.double, range(10))
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "forkful-progress":
            raise RuntimeError("can't start new thread")
        start(thread)

    bar = Bar()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert pool.map(tasks.double, range(100), progress=bar) == list(range(0, 200, 2))
        assert list(pool.imap(tasks.double, range(100), progress=bar)) == list(range(0, 200, 2))
    assert bar.n == 200
    assert bar.events == [("refresh", 100), ("refresh", 200)]


# Leaving early


@pytest.mark.parametrize("how", ["break", "close", "terminate", "error", "async break", "aclose"])
def test_a_stream_that_is_left(how: str, terminal: Terminal) -> None:
    """The bar says its last word, which ends the line, before the program goes on."""

    async def leave(pool: Any) -> None:
        stream = pool.imap(view_tasks.fail_at, itertools.count(), progress=True)
        async with contextlib.aclosing(stream) if how == "aclose" else contextlib.nullcontext():
            async for _ in stream:
                break

    with forkful.Pool(2, context="fork") as pool:
        if how.startswith("a"):
            asyncio.run(leave(pool))
        else:
            stream = pool.imap(view_tasks.fail_at, itertools.count(), progress=True)
            assert next(stream) == 0
            if how == "close":
                stream.close()
            if how == "terminate":
                pool.terminate()
            if how == "error":
                with pytest.raises(LookupError):
                    list(stream)
            del stream
        if how == "async break":
            return  # the garbage collector may come later; the end of the pool is soon enough
        assert re.fullmatch(r"fail_at: stopped after [\d,]+ in .*\n", terminal.frames()[-1])
    assert terminal.getvalue().endswith("\n")


@pytest.mark.parametrize("call", ["map", "starmap"])
def test_ctrl_c_in_a_map(call: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """No bar goes on moving on the terminal of who has left, though the map does."""
    with forkful.Pool(1, context="fork") as pool:
        with monkeypatch.context() as patch:
            patch.setattr(Wheel, "_take", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                getattr(pool, call)(tasks.wait_for_ever, [(1,)], progress=True)
        assert "forkful-progress" not in {thread.name for thread in threading.enumerate()}
    assert terminal.getvalue()[-1:] in {"", "\n"}


def _interrupted(_wheel: Wheel, _waiter: Any) -> bool:
    raise KeyboardInterrupt


@pytest.mark.parametrize("end", ["terminate", "initializer"])
def test_the_end_of_the_pool_ends_the_bar(end: str, terminal: Terminal) -> None:
    """What the pool's end has cut off is no failure of an element."""
    if end == "initializer":
        with forkful.Pool(1, tasks.misbehave, ("raise",), context="fork") as pool:
            with pytest.raises(errors.InitializerError):
                pool.map(tasks.double, range(10), progress=True)
            with pytest.raises(errors.InitializerError):
                list(pool.imap(tasks.double, range(10), progress=True))
        return
    pool = forkful.Pool(2, context="fork")
    result = pool.map_async(tasks.wait_for_ever, range(10), progress=True)
    stream = pool.imap(tasks.wait_for_ever, range(10), progress=True)
    pool.terminate()
    with pytest.raises(errors.PoolTerminated):
        result.get()
    with pytest.raises(errors.PoolTerminated):
        next(stream)
    assert "failed" not in terminal.getvalue()


# Our own


def test_where_there_is_no_terminal(pool: Any, pipe: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line now and then, and the last."""
    assert pool.map(tasks.double, range(1000), progress=True)[-1] == 1998
    assert re.fullmatch(r"double: 1,000 done in [\d.]+ m?s, [\d,.]+/s\n", pipe.getvalue())
    pipe.truncate(0)
    pipe.seek(0)
    monkeypatch.setattr(_bars, "_LINE_EVERY_S", 0.0)
    assert pool.map(tasks.nap, [0.1] * 8, chunksize=1, progress=True) == [0.1] * 8
    lines = pipe.getvalue().splitlines()
    assert all(re.match(r"nap: \d of 8 done \(\d+%\)", line) for line in lines[:-1])
    assert len(lines) > 1
    assert re.match("nap: 8 done in ", lines[-1])


def test_on_a_terminal(pool: Any, terminal: Terminal) -> None:
    assert pool.map(tasks.nap, [0.05] * 16, chunksize=1, progress=True) == [0.05] * 16
    frames = terminal.frames()
    assert all(re.match(r"nap +\d+%\|[█▏▎▍▌▋▊▉ ]{10,40}\| \d+/16", frame) for frame in frames[:-1])
    assert len(frames) > 1
    assert len(set(frames)) == len(frames)  # it is drawn when there is something new
    assert re.fullmatch(r"nap: 16 done in [\d.]+ m?s, [\d.]+/s\n", frames[-1])


@pytest.mark.parametrize("encoding", ["ascii", None, "no such"])
def test_a_terminal_without_blocks(
    encoding: Any, pool: Any, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Terminal, "encoding", encoding)
    assert pool.map(tasks.nap, [0.05] * 16, chunksize=1, progress=True) == [0.05] * 16
    assert terminal.getvalue().isascii()
    assert "|##" in terminal.getvalue()


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_move(term: str, pool: Any, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    assert pool.map(tasks.nap, [0.05] * 8, chunksize=1, progress=True) == [0.05] * 8
    assert re.fullmatch(r"nap: 8 done in [^\r\x1b]*\n", terminal.getvalue())


def test_two_bars_share_a_line(pool: Any, terminal: Terminal, tmp_path: Path) -> None:
    """One moves; the other says its last word on a line of its own."""
    gate = Gate(tmp_path)
    slow = pool.imap(view_tasks.pass_gate, [gate.path], progress=True)
    assert terminal.drawn.wait(WATCHDOG)
    assert pool.map(tasks.nap, [0.05] * 8, chunksize=1, progress=True) == [0.05] * 8
    gate.open()
    assert list(slow) == [None]
    text = terminal.getvalue()
    assert re.search(r"\rnap: 8 done in [^\n]*\n", text)
    assert "nap  " not in text
    assert re.search(r"\rpass_gate: 1 done in [^\n]*\n$", text)


@pytest.mark.parametrize("how", ["closed", "full", "none", "write only"])
def test_a_standard_error_that_takes_nothing(how: str, pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Terminal):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    class WriteOnly:
        def write(self, text: str) -> None: ...

        def flush(self) -> None: ...

    stream = {"closed": Terminal(), "full": Broken(), "none": None, "write only": WriteOnly()}[how]
    if how == "closed" and isinstance(stream, Terminal):
        stream.close()
    monkeypatch.setattr(_bars, "sys", SimpleNamespace(stderr=stream))
    assert pool.map(tasks.nap, [0.05] * 8, chunksize=1, progress=True) == [0.05] * 8
    assert list(pool.imap(tasks.double, range(8), progress=True)) == list(range(0, 16, 2))


PROGRAM = """
{first}
import forkful
from tests.process import tasks
if __name__ == "__main__":
    with forkful.Pool(2, context="fork") as pool:
        {work}
"""


def run_on_terminal(folder: Path, work: str, columns: int, first: str = "") -> str:
    """What a program writes to a real terminal, so wide."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    (folder / "program.py").write_text(PROGRAM.format(work=work, first=first), encoding="utf-8")
    path = os.pathsep.join([str(Path(forkful.__file__).parents[1]), str(ROOT)])
    env = {**os.environ, "PYTHONPATH": path, "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    process = subprocess.Popen([sys.executable, str(folder / "program.py")], env=env, stderr=slave)
    os.close(slave)
    written = b""
    with contextlib.suppress(OSError):  # its last process has ended
        while piece := os.read(master, 65536):
            written += piece
    os.close(master)
    assert process.wait(WATCHDOG) == 0
    return written.decode("utf-8")


@pytest.mark.parametrize("columns", [15, 50, 200])
def test_a_real_terminal(columns: int, tmp_path: Path) -> None:
    """No line is wider than it, so that each replaces the one before."""
    written = run_on_terminal(tmp_path, "pool.map(tasks.nap, [0.05] * 16, chunksize=1, progress=True)", columns)
    *frames, last = (frame.replace("\x1b[K", "") for frame in written.rstrip("\r\n").split("\r")[1:])
    assert frames
    assert max(map(len, frames)) < columns
    assert ("|" in frames[0]) == (columns > 15)
    assert last.startswith("nap: 16 done in ")


def test_a_program_that_ends_in_the_middle(tmp_path: Path) -> None:
    """Its last line is ended all the same."""
    work = "kept = pool.imap(tasks.nap, iter(lambda: 0.01, 1), progress=True); list(zip(kept, range(50)))"
    written = run_on_terminal(tmp_path, work, 80)
    assert re.search(r"\rnap: stopped after \d+ in [^\n]*\n$", written)


def test_an_iterator_that_outlives_the_modules(tmp_path: Path) -> None:
    """An interpreter that leaves may have emptied our modules before the user's: his iterator ends in silence."""
    # The first to be registered is the last to be called: by then the pool has ended.
    work = """
from forkful.pool import _bars
kept = pool.imap(tasks.nap, iter(lambda: 0.01, 1), progress=True); list(zip(kept, range(5)))
"""
    first = "import atexit; atexit.register(lambda: setattr(_bars, 'threading', None))"
    written = run_on_terminal(tmp_path, textwrap.indent(work, " " * 8).strip(), 80, first=first)
    assert re.search(r"\rnap: stopped after \d+ in [^\n]*\n$", written)


def test_in_a_forked_child(tmp_path: Path) -> None:
    """A pool of its own has a bar of its own, whatever was drawn in the parent at the fork."""
    code = """
import os, sys, threading, forkful
from tests.process import tasks
drawn = threading.Event()
class Terminal:
    encoding = "utf-8"
    def isatty(self): return True
    def flush(self): pass
    def write(self, text):
        print(os.getpid() == parent, text.count("|"), flush=True)
        drawn.set()
parent = os.getpid()
if __name__ == "__main__":
    os.environ["TERM"] = "xterm"
    sys.stderr = Terminal()
    pool = forkful.Pool(1, context="fork")
    pool.imap_kept = pool.imap(tasks.wait_for_ever, [1], progress=True)
    drawn.wait()
    pid = os.fork()
    if pid == 0:
        with forkful.Pool(1, context="fork") as own:
            own.map(tasks.nap, [0.1] * 4, chunksize=1, progress=True)
        os._exit(0)
    os.waitpid(pid, 0)
    pool.terminate()
"""
    with Program("-W", "ignore", cwd=tmp_path, code=code) as program:
        returncode, printed = program.finish()
    assert returncode == 0
    assert "False 2" in printed.splitlines()
    assert "False 0" in printed.splitlines()


def test_no_cost_where_it_is_not_used(tmp_path: Path) -> None:
    """Nothing of it is imported, nor of what coroutines need."""
    code = """
import sys, forkful
from tests.process import tasks
if __name__ == "__main__":
    with forkful.Pool(1) as pool:
        pool.map(tasks.double, [1]); list(pool.imap(tasks.double, [1])); pool.apply_async(tasks.double, (1,)).get()
    print([name for name in ("asyncio", "forkful.pool._bars", "forkful.pool._awaiting") if name in sys.modules])
"""
    with Program(cwd=tmp_path, code=code) as program:
        assert program.finish() == (0, "[]\n"), program.stderr()
