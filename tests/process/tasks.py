"""What the tests of this folder have workers do."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn


def double(number: int) -> int:
    """The task that has nothing wrong with it."""
    return number * 2


def own_pid(_: object = None) -> int:
    """Which worker this is."""
    return os.getpid()


def note(log: str, number: int) -> None:
    """Adds a line to *log*, whole whatever happens next."""
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{number}\n".encode("ascii"))
    os.close(fd)


def noted(log: str, number: int) -> int:
    """Doubles *number*, and leaves a line to say so."""
    note(log, number)
    return number * 2


def noted_pair(pair: tuple[str, int]) -> int:
    """`noted` for a map."""
    return noted(*pair)


def noted_large(log: str, number: int) -> bytes:
    """A result that is too large for the journal."""
    note(log, number)
    return bytes([number % 256]) * 400_000


def gated(log: str, number: int, gate: str) -> int:
    """`noted`; with a *gate*, a pipe of that name, says that it has started and waits for a byte."""
    note(log, number)
    if gate:
        with Path(gate).open("rb", buffering=0) as file:
            file.read(1)
    return number * 2


def spin(number: int) -> int:
    """Takes some tens of microseconds."""
    for _ in range(1000):
        pass
    return number * 2


def wait_for_ever(_: object = None) -> None:
    """Ends with its process only."""
    threading.Event().wait()


def nap(seconds: float) -> float:
    """Takes *seconds*."""
    time.sleep(seconds)  # the work itself, not a wait for something
    return seconds


def bound_to(seconds: float) -> tuple[int, set[int]]:
    """Which worker this is, and the processors that it may use."""
    time.sleep(seconds)  # the work itself
    return os.getpid(), os.sched_getaffinity(0)


# Long calls in C, which no Python code can end.


def derive_key(_: object = None) -> None:
    """Inside OpenSSL for hours, without the GIL."""
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 2**31 - 1)


def match_badly(_: object = None) -> None:
    """Inside the regular expression engine for years, holding the GIL."""
    re.match(r"(a+)+$", "a" * 60 + "b")


def stop_itself(_: object = None) -> int:
    """Is stopped, as by ``kill -STOP``, in the middle."""
    os.kill(os.getpid(), signal.SIGSTOP)
    return os.getpid()


def announce_and(what: Callable[[], object]) -> None:
    """Prints the worker's pid, then calls *what*."""
    os.write(1, f"worker {os.getpid()}\n".encode("ascii"))
    what()


def fork_and_derive_key() -> None:
    """Forks a child that sleeps, prints its pid, and is in a long call itself."""
    child = os.fork()
    if child == 0:
        os.close(1)  # whoever reads the program's output shall not wait for this one
        time.sleep(3600)  # to be found alive
        os._exit(0)
    os.write(1, f"child {child}\n".encode("ascii"))
    derive_key()


# Tasks that fail.


def kill_own_process(_: object = None) -> NoReturn:
    """What the kernel does to a process when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a process survived SIGKILL")


def misbehave(how: str) -> None:
    """Ends as *how* says, or does not end."""
    if how == "raise":
        raise LookupError("not yet")
    if how == "die":
        kill_own_process()
    if how == "leave":
        os._exit(7)
    if how == "hang":
        wait_for_ever()
    if how == "stop":
        stop_itself()
    if how == "match":
        match_badly()


def misbehave_at_first(log: str, number: int, how: str, times: int) -> int:
    """Misbehaves the first *times* times that *number* is run."""
    note(log, number)
    runs = Path(log).read_text(encoding="ascii").split().count(str(number))
    if runs <= times:
        misbehave(how)
    return number * 2


def misbehave_in_some(element: tuple[str, int, str]) -> int:
    """One element of a map: *log*, its number, and how it misbehaves, if at all."""
    log, number, how = element
    note(log, number)
    misbehave(how)
    return number * 2


def raise_with_cause(message: str) -> NoReturn:
    """An exception with a note, from another one."""
    try:
        raise KeyError("the cause")
    except KeyError as cause:
        error = LookupError(message)
        error.add_note("a note")
        raise error from cause


def raise_system_exit() -> NoReturn:
    """What ``sys.exit("out")`` does."""
    sys.exit("out")


def raise_keyboard_interrupt() -> NoReturn:
    """As if somebody had pressed Ctrl-C in the middle of the task."""
    raise KeyboardInterrupt


def recurse_without_end(number: int = 0) -> int:
    """Deeper than Python goes."""
    return recurse_without_end(number + 1) + 1


def nest(depth: int) -> list[Any]:
    """A list in a list in a list …, deeper than pickle goes."""
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


def return_lock() -> object:
    """What cannot be pickled."""
    return threading.Lock()


class Obstinate:
    """Can be pickled, but not unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return refuse, ("this is not to be rebuilt",)


def refuse(reason: str) -> NoReturn:
    """Raises."""
    raise ZeroDivisionError(reason)


class Raising:
    """Raises *error* as it is pickled."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> NoReturn:
        raise self.error


def return_raising(error: BaseException | None) -> Raising | None:
    """What raises *error* as it is pickled for the way back, or None."""
    return None if error is None else Raising(error)


def return_obstinate() -> Obstinate:
    """What can be pickled and not unpickled."""
    return Obstinate()


def be_obstinate(number: int) -> int | Obstinate:
    """Below 0: what can be pickled and not unpickled."""
    return number if number >= 0 else Obstinate()


def accept(value: object) -> str:
    """The type of an argument that has arrived."""
    return type(value).__name__


def blob(size: int) -> bytes:
    """A result of *size* bytes."""
    return b"x" * size


def read_stdin() -> str:
    """What a worker finds at its standard input."""
    return sys.stdin.read() + os.read(0, 10).decode("ascii")


def environment_of_worker() -> tuple[str, list[str]]:
    """Where a worker is, and its arguments."""
    return str(Path.cwd()), sys.argv


def close_descriptors(_: object = None) -> int:
    """What a library does that makes a daemon of its process."""
    os.closerange(3, 1000)
    return os.getpid()


def close_descriptors_and_wait(_: object = None) -> None:
    """The same, in a task that does not end."""
    close_descriptors()
    wait_for_ever()


def block_signals_and_close_descriptors() -> None:
    """The same, where only SIGKILL arrives."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    close_descriptors_and_wait()


def close_descriptors_if(log: str, number: int) -> int:
    """Some elements of a map do so; each leaves a line."""
    note(log, number)
    if number % 100 == 50:
        close_descriptors()
    return number


def unblock_descriptors() -> None:
    """What an event loop does to each descriptor that it is given; here it is given all."""
    for fd in range(3, 1000):
        with contextlib.suppress(OSError):
            os.set_blocking(fd, False)


def block_descriptors() -> None:
    """The opposite, as a program does that sees a non-blocking descriptor for the first time."""
    for fd in range(3, 1000):
        with contextlib.suppress(OSError):
            os.set_blocking(fd, True)


def blocked_signals() -> set[int]:
    """What the worker's main thread has blocked."""
    return {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())}


# Initializers.


def kill_at_start(log: str) -> NoReturn:
    """An initializer that takes its process with it; each attempt adds a line to *log*."""
    note(log, os.getpid())
    kill_own_process()


def close_at_start(log: str) -> None:
    """An initializer that closes what its process needs; each attempt adds a line to *log*."""
    note(log, os.getpid())
    close_descriptors()


def refuse_to_start() -> NoReturn:
    """An initializer that fails."""
    raise LookupError("no database")


_kept: list[Any] = []


def keep(*values: Any) -> None:
    """An initializer that keeps its arguments for tasks."""
    _kept[:] = values


def kept() -> list[Any]:
    """What the initializer has kept."""
    return _kept


def add_under_lock(path: str) -> None:
    """Reads a number, adds 1 and writes it, under the lock that the initializer was given."""
    with _kept[0]:
        number = int(Path(path).read_text(encoding="ascii"))
        Path(path).write_text(str(number + 1), encoding="ascii")


# Tasks that make processes.


def map_in_nested_pool(numbers: list[int]) -> list[int]:
    """A pool in a worker."""
    import forkful  # here: workers that need it not start sooner

    with forkful.Pool(2) as pool:
        return pool.map(double, numbers)


def fork_and_return(number: int) -> int:
    """Forks a child that goes on into the rest of the worker, as a careless library does."""
    child = os.fork()
    if child == 0:
        return -1  # it must not speak for the worker
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)
    return number * 2


def fork_and_die(log: str, number: int) -> int:
    """Below 0: forks a child that goes on into the rest of the worker, and dies when that has ended."""
    if number < 0:
        note(log, number)
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            kill_own_process()
    return number


def fork_as_initializer() -> None:
    """An initializer that forks a child which goes on into the rest of the worker."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        keep(os.waitstatus_to_exitcode(status))


def fork_in_a_thread() -> int:
    """Forks a child, which leaves at once, in a thread that is not the worker's main one; how the child left."""
    ends: list[int] = []

    def fork() -> None:
        child = os.fork()
        if child == 0:
            os._exit(0)
        ends.append(os.waitpid(child, 0)[1])

    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
    return ends[0]
