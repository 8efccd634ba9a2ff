"""Ctrl-C, and signals from outside."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import forkful
from forkful._core.channel import MasterEnd
from forkful._core.state import State
from forkful._core.supervisor import Supervisor

from . import tasks
from .support import WATCHDOG, Program, assert_works

HEAD = """
import os, signal, sys, threading, time
import forkful
from tests.process import tasks

def started(_=None):
    os.write(1, b"started\\n")
    time.sleep(3600)  # until it is interrupted

def fail_soon():
    os.write(1, b"started\\n")
    time.sleep(3600)

if __name__ == "__main__":
    method = sys.argv[1]
"""

MIDDLES = {
    "map": "with forkful.Pool(2, context=method) as pool: pool.map(started, range(8))",
    "imap": "with forkful.Pool(2, context=method) as pool: list(pool.imap(started, iter(range(8))))",
    "apply": "with forkful.Pool(2, context=method) as pool: pool.apply(started)",
    "get": "with forkful.Pool(2, context=method) as pool: pool.apply_async(started).get()",
    "without with": "forkful.Pool(2, context=method).map(started, range(8))",
    "join": """
    pool = forkful.Pool(2, context=method)
    pool.map_async(started, range(8))
    pool.close()
    pool.join()""",
    "initializer": "with forkful.Pool(2, started, context=method) as pool: pool.map(tasks.double, range(8))",
    "start": """
    with forkful.Pool(2, context=method) as pool:
        result = pool.map_async(tasks.double, range(2))
        os.write(1, b"started\\\\n")
        result.get()
        time.sleep(3600)""",
    "elsewhere": """
    with forkful.Pool(2, context=method) as pool:
        pool.map_async(started, range(8))
        time.sleep(3600)""",
}


def program(code: str, folder: Path, method: str) -> Program:
    """`HEAD` and *code*."""
    script = folder / "program.py"
    code = code.replace("\\\\n", "\\n")
    script.write_text(f"{HEAD}    {code.strip()}\n", encoding="utf-8")
    return Program(str(script), method, cwd=folder)


@pytest.mark.parametrize("middle", MIDDLES)
def test_interrupt(middle: str, start_method: str, tmp_path: Path) -> None:
    """The program ends with at most one traceback, its own, and nothing of it stays."""
    with program(MIDDLES[middle], tmp_path, start_method) as running:
        assert running.line() == "started"
        running.interrupt()

        returncode, _ = running.finish()

        errors = running.stderr()
        assert returncode == -signal.SIGINT, errors
        assert errors.count("Traceback (most recent call last)") == 1, errors
        assert errors.rstrip().endswith("KeyboardInterrupt"), errors
        assert "bootstrap.py" not in errors, errors


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_interrupts_without_end(method: str, tmp_path: Path) -> None:
    """A user who presses Ctrl-C again and again gets his prompt too, and no worker's traceback."""
    with program(MIDDLES["map"], tmp_path, method) as running:
        assert running.line() == "started"
        for _ in range(5):
            running.interrupt()

        running.finish()

        assert "ForkfulWorker" not in running.stderr()
        assert "worker.py" not in running.stderr()


def test_program_goes_on_after_interrupt(start_method: str, tmp_path: Path) -> None:
    """Who catches ``KeyboardInterrupt`` can end that pool and use a new one."""
    code = """
    pool = forkful.Pool(2, context=method)
    try:
        pool.map(started, range(2))
    except KeyboardInterrupt:
        os.write(1, b"caught\\\\n")
    pool.terminate()
    pool.join()
    with forkful.Pool(2, context=method) as pool:
        print(pool.map(tasks.double, range(4)))"""
    with program(code, tmp_path, start_method) as running:
        assert [running.line(), running.line()] == ["started", "started"]
        running.interrupt()
        assert running.line() == "caught"

        assert running.finish() == (0, "[0, 2, 4, 6]\n")
        assert running.stderr() == ""


def test_pool_goes_on_after_interrupt(start_method: str, tmp_path: Path) -> None:
    """An interrupted ``get`` costs that call only: the task goes on, and so does the pool."""
    code = """
    with forkful.Pool(2, context=method) as pool:
        running = pool.apply_async(started)
        try:
            os.write(1, b"waiting\\n")
            running.get()
        except KeyboardInterrupt:
            os.write(1, b"caught\\\\n")
        print(pool.map(tasks.double, range(4)), running.ready())
        print(running.cancel(kill=True), pool.map(tasks.double, range(4)))"""
    with program(code, tmp_path, start_method) as running:
        assert {running.line(), running.line()} == {"started", "waiting"}
        running.interrupt()
        assert running.line() == "caught"

        assert running.finish() == (0, "[0, 2, 4, 6] False\nTrue [0, 2, 4, 6]\n")
        assert running.stderr() == ""


@pytest.mark.parametrize("middle", ["map", "join", "initializer", "start"])
def test_terminated_program(middle: str, start_method: str, tmp_path: Path) -> None:
    """SIGTERM of the program alone, which has no handler for it, leaves nothing."""
    with program(MIDDLES[middle], tmp_path, start_method) as running:
        assert running.line() == "started"
        running.send(signal.SIGTERM)

        returncode, _ = running.finish()

        assert returncode == -signal.SIGTERM
        assert running.stderr() == ""


def test_program_with_a_handler_for_sigterm(start_method: str, tmp_path: Path) -> None:
    """The handler is the program's alone: workers die of SIGTERM, as ``terminate()`` has to count on."""
    code = """
    import signal
    signal.signal(signal.SIGTERM, lambda number, frame: print("handled", flush=True))
    with forkful.Pool(2, context=method) as pool:
        print(pool.map(tasks.double, range(4)), flush=True)
        workers = [worker.pid for worker in pool._pool]
        result = pool.apply_async(started)"""
    with program(code, tmp_path, start_method) as running:
        assert running.line() == "[0, 2, 4, 6]"
        returncode, output = running.finish()
        assert returncode == 0
        assert "handled" not in output
        assert running.stderr() == ""


BLOCKED = """
    {how}
    with forkful.Pool(1, context=method) as pool:
        try:
            pool.apply(tasks.kill_own_process)
        except forkful.errors.WorkerDied as error:
            print(error.exitcode)
        blocked = pool.apply(tasks.blocked_signals)
        print(blocked & {{signal.SIGINT, signal.SIGTERM, signal.SIGCHLD}} or "none of ours", flush=True)
        pool.apply(started)"""

WAYS_TO_BLOCK = {
    "blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})",
    "all blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    "ignored": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
}


@pytest.mark.parametrize("how", WAYS_TO_BLOCK)
def test_program_that_takes_no_signals(how: str, start_method: str, tmp_path: Path) -> None:
    """A worker's death is noticed all the same, and workers get their signals: its own mask is the program's alone."""
    with program(BLOCKED.format(how=WAYS_TO_BLOCK[how]), tmp_path, start_method) as running:
        exitcode = "None" if how == "ignored" and start_method != "forkserver" else "-9"  # the kernel keeps it from us
        assert [running.line() for _ in range(3)] == [exitcode, "none of ours", "started"]


def test_mask_of_a_worker(start_method: str, tmp_path: Path) -> None:
    """What else the program has blocked is blocked in a worker too, as multiprocessing does it; not in the mold."""
    code = """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    with forkful.Pool(1, context=method) as pool:
        print(pool.apply(tasks.blocked_signals) == {signal.SIGUSR1})
        print(signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGUSR1, signal.SIGTERM})"""
    with program(code, tmp_path, start_method) as running:
        assert running.finish() == (0, f"{start_method != 'forkserver'}\nTrue\n"), running.stderr()


def test_signal_at_the_birth_of_a_forked_worker(tmp_path: Path) -> None:
    """It dies of SIGTERM, and the program's handlers run in the program alone."""
    code = """
    def strike():  # the first worker, at its first instant
        if not os.path.exists("struck"):
            open("struck", "x").close()
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: print("handled", flush=True))
    os.register_at_fork(after_in_child=strike)
    with forkful.Pool(1, context=method) as pool:
        print(pool.apply(tasks.double, (2,)), os.path.exists("struck"), pool.stats()["workers started"])"""
    with program(code, tmp_path, "fork") as running:
        assert running.finish() == (0, "4 True 2\n"), running.stderr()
        assert running.stderr() == ""


def test_interrupt_at_the_birth_of_a_worker(start_method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at the instant when there is a process: the pool knows of it, and leaves nothing."""
    name = "fork" if start_method == "fork" else "posix_spawn"
    original: Callable[..., int] = getattr(os, name)
    born = []

    def interrupted(*args: Any, **kwds: Any) -> int:
        pid = original(*args, **kwds)
        if pid:
            born.append(pid)
            signal.raise_signal(signal.SIGINT)
        return pid

    monkeypatch.setattr(os, name, interrupted)
    pool = forkful.Pool(1, context=start_method)
    with pytest.raises(KeyboardInterrupt):
        pool.apply(tasks.double, (1,))
    pool.terminate()
    assert len(born) == 1
    with pytest.raises(ChildProcessError):
        os.waitpid(born[0], 0)


def test_interrupt_by_another_thread_at_the_birth_of_a_worker(tmp_path: Path) -> None:
    """The signal is blocked in the thread that forks, so another one takes it; the handler runs in the first all the same."""
    code = """
    import _thread
    pool = forkful.Pool(1, context=method)
    os.register_at_fork(after_in_parent=_thread.interrupt_main)
    try:
        pool.apply(tasks.double, (1,))
    except KeyboardInterrupt:
        print("interrupted")
    pool.terminate()
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        print("nothing left")"""
    with program(code, tmp_path, "fork") as running:
        assert running.finish() == (0, "interrupted\nnothing left\n"), running.stderr()


def test_forks_touch_no_warning_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.12 warns of a fork beside threads, which is the user's choice; filters are shared by all threads."""
    original = os.fork
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        filters = warnings.filters
        seen = []

        def fork() -> int:
            seen.append(warnings.filters is filters)
            pid = original()
            if pid:
                warnings.warn("multi-threaded, use of fork() may lead to deadlocks", DeprecationWarning, stacklevel=2)
            return pid

        if sys.version_info < (3, 12):  # where Python does not warn, this does, and as it does
            monkeypatch.setattr(os, "fork", fork)
        with forkful.Pool(1, context="fork") as pool, forkful.Pool(1, context="fork") as another:
            assert pool.apply_async(tasks.double, (2,)).get(WATCHDOG) == 4  # its thread is one more
            assert another.apply(tasks.double, (2,)) == 4
    assert seen == ([True] * 2 if sys.version_info < (3, 12) else [])
    assert [str(warning.message) for warning in caught] == []


POINTS: list[tuple[type, str]] = [
    (Supervisor, "start"),
    (State, "handle"),
    (MasterEnd, "send"),
    (MasterEnd, "receive"),
]


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("owner", "name"), POINTS, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_interrupt_in_the_books(
    method: str, owner: type, name: str, when: str, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C at a step of the loop itself: the pool may give up its work, but it ends, and leaves nothing."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    @functools.wraps(original)
    def interrupted(*args: Any, **kwds: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth and when == "before":
            _press_ctrl_c()
        value = original(*args, **kwds)
        if calls == nth and when == "after":
            _press_ctrl_c()
        return value

    monkeypatch.setattr(owner, name, interrupted)
    pool = forkful.Pool(6, context=method)
    pending = []
    try:
        for _ in range(100):
            pending.append(pool.apply_async(tasks.nap, (0.001,)))
        for result in pending:
            result.get(WATCHDOG)
    except KeyboardInterrupt:
        pass
    ender = threading.Thread(target=pool.terminate, daemon=True)  # so that a hang fails this test and not all
    ender.start()
    ender.join(WATCHDOG)
    assert not ender.is_alive(), "terminate() hangs"
    assert calls >= nth
    for result in pending:
        try:
            result.get(WATCHDOG)
        except forkful.errors.PoolTerminated:
            pass
    monkeypatch.undo()
    with forkful.Pool(2, context=method) as another:
        assert_works(another)


def _press_ctrl_c() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.raise_signal(signal.SIGINT)
