"""What the tests of views, awaiting and back-pressure have workers do; and gates, which tell when a task runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any


class Gate:
    """A task that is given ``gate.path`` waits there until `open`."""

    def __init__(self, folder: Path, name: object = "gate") -> None:
        self._file = folder / str(name)
        os.mkfifo(self._file)
        self.path = str(self._file)

    def open(self) -> None:
        """Let the task go on; waits until it has come there."""
        with self._file.open("wb") as file:
            file.write(b"x")


def pass_gate(path: str, value: Any = None) -> Any:
    """*value*, once the gate is open; nobody else has it."""
    with Path(path).open("rb", buffering=0) as file:
        file.read(1)
    return value


def note_and_pass(log: str, number: int, path: str) -> int:
    """Twice the number, after all gates; leaves a line in *log* that says it has started."""
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{number}\n".encode("ascii"))
    os.close(fd)
    for gate in path.split():
        pass_gate(gate)
    return number * 2


def add(left: int, right: int) -> int:
    """Takes two arguments."""
    return left + right


def fail_at(number: int, *, at: int = 3) -> int:
    """Twice the number, but for one."""
    if number == at:
        raise LookupError(f"no {number}")
    return number * 2


def kill(pid: int) -> None:
    """End a worker."""
    os.kill(pid, signal.SIGKILL)
