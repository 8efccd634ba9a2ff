"""Programs to start and to kill, and processes to wait for."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import pytest

import forkful

from . import tasks

WATCHDOG = 20.0  # seconds that something broken is waited for; what is whole takes a fraction of one

ROOT = Path(__file__).parents[2]


def assert_works(pool: Any) -> None:
    """The pool serves every kind of call."""
    assert pool.apply_async(tasks.double, (21,)).get(WATCHDOG) == 42
    assert pool.map_async(tasks.double, range(20)).get(WATCHDOG) == list(range(0, 40, 2))
    assert pool.imap(tasks.double, [4]).next(WATCHDOG) == 8


def executions(log: Path) -> dict[int, int]:
    """How often each element was executed, as `tasks.noted` and its like have written down."""
    counts: dict[int, int] = {}
    if log.exists():
        for word in log.read_text(encoding="ascii").split():
            counts[int(word)] = counts.get(int(word), 0) + 1
    return counts


def wait_for_ends(pids: Iterable[int], timeout: float = WATCHDOG) -> list[int]:
    """Wait until the processes *pids* have ended, whoever reaps them; those that still run after *timeout* seconds."""
    if not hasattr(os, "pidfd_open"):
        processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
        return [process.pid for process in psutil.wait_procs(processes, timeout)[1]]
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        poll, running = select.poll(), {}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                stack.callback(os.close, pidfd)
                poll.register(pidfd, select.POLLIN)
                running[pidfd] = pid
        while running and (left := deadline - time.monotonic()) > 0:
            for pidfd, _ in poll.poll(left * 1000):
                poll.unregister(pidfd)
                del running[pidfd]
        return list(running.values())


def find_mold() -> int:
    """The process that forks this program's ``forkserver`` workers."""
    children = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    molds = [child.pid for child in children if "mold" in child.cmdline()]
    assert len(molds) == 1, molds
    return molds[0]


class Program:
    """A Python program in a session, and so a process group, of its own.  Nothing of it survives the ``with`` block."""

    def __init__(self, *arguments: str, cwd: Path, code: str | None = None) -> None:
        if code is not None:
            script = cwd / "program.py"
            script.write_text(code, encoding="utf-8")
            arguments = (*arguments, str(script))
        path = os.pathsep.join([str(Path(forkful.__file__).parents[1]), str(ROOT)])
        self._errors = (cwd / "stderr").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for pid in (self.pid, *self.processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def line(self) -> str:
        """The next line that the program, or one of its workers, prints."""
        assert self._process.stdout is not None
        text = self._process.stdout.readline()
        if not text:
            self._process.wait(WATCHDOG)
            pytest.fail(f"the program ended with {self._process.returncode}\n{self.stderr()}")
        return text.strip()

    def interrupt(self) -> None:
        """Ctrl-C: SIGINT to the whole foreground process group."""
        os.killpg(self.pid, signal.SIGINT)

    def send(self, signum: int) -> None:
        """Send *signum* to the program alone."""
        os.kill(self.pid, signum)

    def finish(self) -> tuple[int, str]:
        """Wait for the program and for all it has started: its exit code, and the rest of what was printed."""
        try:
            returncode = self._process.wait(WATCHDOG)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running: {self._describe(self.processes())}\n{self.stderr()}")
        left = wait_for_ends(self.processes(), 5.0)
        assert not left, self._describe(left)
        assert self._process.stdout is not None
        return returncode, self._process.stdout.read()

    def _describe(self, pids: Iterable[int]) -> list[str]:
        return [" ".join(psutil.Process(pid).cmdline()) for pid in pids]

    def processes(self) -> list[int]:
        """The processes of the program's session that run."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
                if os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
        return found

    def stderr(self) -> str:
        """What has been written to standard error."""
        self._errors.seek(0)
        return self._errors.read()
