"""Another program that takes and gives back a lock as it is told; and forked children."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import ClassVar

WATCHDOG = 60.0
"""Seconds after which a test that waits has failed; nothing takes so long."""

_PROGRAM = """
import os, sys, time
from forkful import Lock, RLock, RWLock, Semaphore
from forkful.errors import LockError

locks = {}

def lock(spec):
    if spec not in locks:
        locks[spec] = eval(spec)
    return locks[spec]

def answer(*words):
    print(*words, flush=True)

answer("ready", os.getpid())
for line in sys.stdin:
    command, *rest = line.rstrip("\\n").split(" ", 1)
    rest = rest[0] if rest else ""
    try:
        if command == "take":
            answer(lock(rest).acquire())
        elif command == "try":
            answer(lock(rest).acquire(False))
        elif command == "give":
            answer(lock(rest).release())
        elif command == "tell":
            answer(lock(rest).recovered, lock(rest).fence)
        elif command == "fork":
            pid = os.fork()
            if not pid:
                os.close(0), os.close(1), os.close(2)
                time.sleep(3600)
            answer(pid)
        elif command == "run":
            answer(eval(rest))
    except (LockError, ValueError) as error:
        answer(type(error).__name__, str(error))
"""


class Contender:
    """A program of its own; ``contender("take Lock('a')")`` is its answer."""

    running: ClassVar[list[Contender]] = []

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.running.append(self)
        self.forked: list[int] = []
        word, pid = self.answer().split()
        assert word == "ready"
        self.pid = int(pid)

    def __call__(self, command: str) -> str:
        """What it says to *command*."""
        self.tell(command)
        return self.answer()

    def tell(self, command: str) -> None:
        """Have it do *command*, whose answer is read later."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")

    def answer(self) -> str:
        """Its next answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the other program has ended"
        return line.rstrip("\n")

    def fileno(self) -> int:
        """For ``select``: there is an answer."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def fork(self) -> int:
        """Have it fork a child that sleeps; the child's pid."""
        pid = int(self("fork"))
        self.forked.append(pid)
        return pid

    def await_waiter(self, spec: str, count: int = 1) -> None:
        """Until so many wait for what it holds."""
        while int(self(f"run len(lock({spec!r})._door.mechanism._record.waiters())")) < count:
            time.sleep(0.001)  # nothing else tells of it

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and to what it has forked at the end of the test."""
        if self in self.running:
            self.running.remove(self)
            self._process.kill()
            self._process.wait(WATCHDOG)
            for pid in self.forked:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for stream in (self._process.stdin, self._process.stdout):
                assert stream is not None
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def die(self) -> None:
        """SIGKILL; what it has forked lives on."""
        self._process.kill()
        self._process.wait(WATCHDOG)


@contextlib.contextmanager
def forked(work: Callable[[], object]) -> Iterator[int]:
    """A forked child that does *work*; its exit code is 0, or 1 where that raised, or -n where signal n ended it."""
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    try:
        yield pid
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise


def end_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(work: Callable[[], object]) -> int:
    """Do *work* in a forked child."""
    with forked(work) as pid:
        return end_of(pid)
