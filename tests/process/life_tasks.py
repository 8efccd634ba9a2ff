"""What the tests of a worker's life have workers do: to hold memory, to leave, to crash."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from multiprocessing import util
from pathlib import Path
from typing import Any

_kept: list[bytes] = []


def keep(size: int) -> int:
    """Holds so many bytes more from now on; which process this is."""
    _kept.append(b"x" * size)
    time.sleep(0.005)  # longer than a reading of the memory holds
    return os.getpid()


def write_line(log: str, text: str) -> None:
    """Adds a line to *log*, whole whatever happens next."""
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)


# Finalizers.  Where they log is what the initializer was told.


def begin(log: str, *, state: dict[str, Any]) -> None:
    """An initializer that fills the state, and has multiprocessing's exit functions leave a line."""
    state["log"] = log
    write_line(log, f"begin {os.getpid()}")
    util.Finalize(None, write_line, (log, f"exit {os.getpid()}"), exitpriority=100)


def work(number: int, *, state: dict[str, Any]) -> int:
    """Leaves a line, and counts in the state."""
    state["count"] = state.get("count", 0) + 1
    write_line(state["log"], f"work {os.getpid()}")
    return number * 2


def end(*, state: dict[str, Any]) -> None:
    """A finalizer that leaves a line with what it finds."""
    thread = "main" if threading.current_thread() is threading.main_thread() else "another"
    write_line(state["log"], f"end {os.getpid()} {thread} {state.get('count', 0)}")


def end_badly() -> None:
    """A finalizer that raises what could be taken for the loss of a descriptor."""
    raise OSError("the finalizer cannot")


def end_with_code() -> None:
    """A finalizer that leaves in its own way."""
    sys.exit(7)


def end_never() -> None:
    """A finalizer that hangs."""
    threading.Event().wait()


def end_in_two(*, state: dict[str, Any]) -> None:
    """A finalizer that forks, and ends in both."""
    child = os.fork()
    write_line(state["log"], f"end {os.getpid()}")
    if child:
        os.waitpid(child, 0)


# State.


def remember(item: int, *, state: dict[str, Any]) -> int:
    """How often this worker was asked, this time included."""
    state["asked"] = state.get("asked", 0) + 1
    asked: int = state["asked"]
    return asked


def remember_pair(left: int, right: int, *, state: dict[str, Any]) -> int:
    """`remember` for starmap."""
    return remember(left + right, state=state)


def show_state(*, state: Any = "unasked") -> Any:
    """Has a default, and is called as ever."""
    return state


class Asking:
    """Callable, with a method."""

    def __call__(self, item: int, *, state: dict[str, Any]) -> int:
        return remember(item, state=state)

    def method(self, item: int, *, state: dict[str, Any]) -> int:
        """`remember` as a method."""
        return remember(item, state=state)


def wait_at(gate: str) -> None:
    """Says that it runs, by opening the pipe *gate*, and waits for a byte."""
    with Path(gate).open("rb", buffering=0) as file:
        file.read(1)


def own_name(_: object = None) -> str:
    """What multiprocessing calls this process."""
    return multiprocessing.current_process().name
