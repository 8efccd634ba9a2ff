"""Ctrl-C, and signals from outside."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from .support import Program

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
    """Who catches ``KeyboardInterrupt`` can use the same pool, if it was only waiting, and a new one."""
    code = """
    pool = forkful.Pool(2, context=method)
    for attempt in range(3):
        try:
            pool.map(started, range(2))
        except KeyboardInterrupt:
            os.write(1, b"caught\\\\n")
    pool.terminate()
    pool.join()
    with forkful.Pool(2, context=method) as pool:
        print(pool.map(tasks.double, range(4)))"""
    code = code.replace("range(3)", "range(1)")
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
            running.get()
        except KeyboardInterrupt:
            os.write(1, b"caught\\\\n")
        print(pool.map(tasks.double, range(4)), running.ready())
        print(running.cancel(kill=True), pool.map(tasks.double, range(4)))"""
    with program(code, tmp_path, start_method) as running:
        assert running.line() == "started"
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
