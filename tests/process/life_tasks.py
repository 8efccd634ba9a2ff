"""What the tests of a worker's life have workers do: to hold memory, to leave, to crash."""

from __future__ import annotations

import ctypes
import faulthandler
import hashlib
import mmap
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from multiprocessing import util
from pathlib import Path
from typing import Any

import forkful

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
    state.setdefault("done", []).append(number)
    write_line(state["log"], f"work {os.getpid()}")
    return number * 2


def end(*, state: dict[str, Any]) -> None:
    """A finalizer that leaves a line with what it finds."""
    thread = "main" if threading.current_thread() is threading.main_thread() else "another"
    write_line(state["log"], f"end {os.getpid()} {thread} {len(state.get('done', ()))}")


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


# Crashes.


def crash(_: object = None) -> None:
    """A segmentation fault, in C."""
    ctypes.string_at(0)


def crash_in_child() -> int:
    """A child that the task forks crashes, and then the worker is killed."""
    child = os.fork()
    if child == 0:
        crash()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGSEGV
    os.kill(os.getpid(), signal.SIGKILL)
    return child


def crash_from_the_second_on(log: str) -> None:
    """An initializer that a pool outlives, and cannot replace a worker with."""
    write_line(log, "begin")
    if Path(log).read_text(encoding="ascii").count("begin") > 1:
        crash()


def describe_crashes_in(path: str) -> None:
    """An initializer that has a use of its own for faulthandler."""
    faulthandler.enable(open(path, "wb"))  # noqa: SIM115  # it must stay open


def hold_and_die(size: int) -> None:
    """Is killed with so many bytes in hand."""
    ballast = bytearray(size)
    ballast[:: mmap.PAGESIZE] = bytes(len(range(0, size, mmap.PAGESIZE)))  # has every page
    os.kill(os.getpid(), signal.SIGKILL)


def eat_memory(_: object = None) -> int:
    """Takes all that there is."""
    eaten = []
    while True:
        eaten.append(b"x" * 2**22)


def eat_every_crumb(_: object = None) -> None:
    """Takes all that there is, down to what an error's text would take."""
    eaten = []
    size = 2**22
    while True:
        try:
            eaten.append(b"x" * size)
        except MemoryError:
            if size < 200:
                raise
            size //= 4


def bound_own_memory(size: int) -> None:
    """An initializer that leaves the process this much more address space than it has."""
    held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (held + size, held + size))


def ignore_and_wait(signum: int) -> None:
    """Has other plans for a signal, and then hangs."""
    signal.signal(signum, signal.SIG_IGN)
    threading.Event().wait()


# Processes of a task's own.


def use_own_pool(method: str, count: int) -> tuple[list[int], list[str]]:
    """Doubles numbers in a pool of its own; and what its worker is called."""
    with forkful.Pool(1, context=method) as pool:
        values = pool.map(double, range(count))
        return values, [pool.apply(own_name)]


def double(number: int) -> int:
    """The task that has nothing wrong with it."""
    return number * 2


def use_own_process(method: str, number: int) -> int:
    """Doubles a number in a process of its own."""
    context = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    child: Any = context.Process(target=_send_double, args=(sender, number))  # type: ignore[attr-defined]
    child.start()
    sender.close()
    with receiver:
        value: int = receiver.recv()
    child.join()
    return value


def _send_double(sender: Any, number: int) -> None:
    sender.send(number * 2)
    sender.close()


def hang_in_own_pool(method: str, pids: str, gate: str) -> None:
    """Has two workers of its own in a long call in C; leaves their pids and opens *gate* when they are."""
    with forkful.Pool(2, context=method) as pool:
        results = [pool.apply_async(_note_and_compute, (pids, gate)) for _ in range(2)]
        for result in results:
            result.wait()


def _note_and_compute(pids: str, gate: str) -> None:
    write_line(pids, str(os.getpid()))
    if len(Path(pids).read_text(encoding="ascii").split()) == 2:
        with Path(gate).open("wb"):
            pass
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 2**31 - 1)


def pid_and_name() -> tuple[int, str]:
    """Which process this is."""
    return os.getpid(), own_name()
