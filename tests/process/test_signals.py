"""Ctrl-C, and signals from outside."""

from __future__ import annotations

import functools
import signal
import threading
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
import os, sys, threading, time
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
