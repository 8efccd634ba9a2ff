"""What the tests of this folder have workers do."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import NoReturn


def double(number: int) -> int:
    """The task that has nothing wrong with it."""
    return number * 2


def own_pid() -> int:
    """Which worker this is."""
    return os.getpid()


def leave_at_once(pid_file: str, exit_code: int) -> NoReturn:
    """Ends the worker's process, having noted which one it was."""
    Path(pid_file).write_text(str(os.getpid()), encoding="ascii")
    os._exit(exit_code)


def kill_own_process() -> NoReturn:
    """What the kernel does to a process when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a process survived SIGKILL")


def wait_for_ever() -> None:
    """Ends with its process only."""
    threading.Event().wait()


class PickyError(Exception):
    """Takes two arguments and keeps one, so that it cannot be rebuilt from its pickle."""

    def __init__(self, left: str, right: str) -> None:
        super().__init__(f"{left} and {right}")


class LockedError(Exception):
    """Holds what cannot be pickled."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


def raise_picky_error() -> NoReturn:
    """Raises what can be pickled, but not unpickled."""
    raise PickyError("salt", "pepper")


def raise_locked_error() -> NoReturn:
    """Raises what cannot be pickled."""
    raise LockedError("salt and pepper")


def raise_system_exit() -> NoReturn:
    """What ``sys.exit(3)`` does."""
    raise SystemExit(3)


def raise_keyboard_interrupt() -> NoReturn:
    """As if somebody had pressed Ctrl-C in the middle of the task."""
    raise KeyboardInterrupt


def refuse_to_start(log: str) -> NoReturn:
    """An initializer that fails; each attempt adds a line to *log*."""
    _note_attempt(log)
    raise LookupError("no database")


def die_at_start(log: str) -> NoReturn:
    """An initializer that takes its process with it; each attempt adds a line to *log*."""
    _note_attempt(log)
    os._exit(5)


def _note_attempt(log: str) -> None:
    with Path(log).open("a", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
