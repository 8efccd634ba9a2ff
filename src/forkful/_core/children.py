"""A worker process as its parent sees it: to start it, to signal it, to know when and how it ended.  Runs in the master."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing import spawn as mp_spawn
from typing import NoReturn

from . import bootstrap
from .ends import Ends
from .forks import hold, note, note_fork
from .gauge import own_peak, peak_of

_PACKAGE = __package__
_HAVE_PIDFD = hasattr(os, "pidfd_open")

# What a new interpreter runs.  It takes the package from where this process has it, not from ``sys.path``: a file of the
# user's that is called ``token.py`` must not stand for the standard library's while we are being imported.
_PROGRAM = """\
import sys
if sys.path[:1] == ['']: del sys.path[0]
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location({name!r}, {file!r})
sys.modules[{name!r}] = module = module_from_spec(spec)
spec.loader.exec_module(module)
from {package}.bootstrap import main
main()
"""


class Child:
    """A worker process as its parent sees it."""

    def __init__(self) -> None:
        self.exitcode: int | None = None
        self.memory = 0  # the most that it has held, in bytes, when the system has told
        self.ended = False
        self.refusal: OSError | None = None  # why there has never been a process
        self._pidfd = -1  # once it is known, where the kernel has them
        hold(self)

    def start(self, ends: Ends, extra: list[int]) -> None:
        """Start it; whatever interrupts this, it is known from here on whether there is a process.

        Raises:
            OSError: the system gives none.
        """
        raise NotImplementedError

    @property
    def pid(self) -> int | None:
        """The process id; None as long as there is no process.  Never waits."""
        raise NotImplementedError

    def fileno(self) -> int:
        """A descriptor that becomes readable when the process changes state; -1 when there is none."""
        raise NotImplementedError

    def collect(self) -> bool:
        """Called when `fileno` is readable: whether the process has ended; then ``exitcode`` is set."""
        raise NotImplementedError

    def await_end(self) -> None:
        """Wait until it has ended (for one that was killed, or has closed its channel)."""
        raise NotImplementedError

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Send *signum*, to this very process and no other that may have got its number."""
        raise NotImplementedError

    def put_down(self) -> None:
        """SIGKILL, for good: whether it ended otherwise is no longer asked, nor what somebody else knows of its end."""
        self.kill()

    def _signal(self, pid: int, signum: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd >= 0:  # it may have been reaped (``os.wait()``, SIGCHLD ignored): not by its number
                signal.pidfd_send_signal(self._pidfd, signum)
            else:
                os.kill(pid, signum)

    def close(self) -> None:
        """Release descriptors."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def disown(self) -> None:
        """In a forked child: this process is the parent's child, not ours."""
        self.ended = True
        self.close()


class DirectChild(Child):
    """A child of this process."""

    def __init__(self) -> None:
        self._born: list[int] = []  # its pid, from the instant it has one: see `forks.note`
        super().__init__()

    @property
    def pid(self) -> int | None:
        return self._born[0] if self._born else None

    def execute(self, program: str, fds: list[int]) -> None:
        """Start ``python`` on ``bootstrap.main`` with *program* and *fds*, which it inherits."""
        executable = os.fsdecode(mp_spawn.get_executable())
        name = _PACKAGE.partition(".")[0]
        code = _PROGRAM.format(name=name, file=sys.modules[name].__file__, package=_PACKAGE)
        arguments = [executable, *_interpreter_options(), "-c", code, program, *map(str, fds)]
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        run = functools.partial(
            os.posix_spawn,
            executable,
            arguments,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, fd) for fd in fds],  # onto itself: inherited in spite of O_CLOEXEC
            setsigmask={*before, signal.SIGINT},  # else Ctrl-C would have the interpreter print its own traceback
        )
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            note(self._born, run)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._watch()

    def _watch(self) -> None:
        if _HAVE_PIDFD:
            self._pidfd = os.pidfd_open(self._born[0])

    def fileno(self) -> int:
        return self._pidfd

    def _wait(self, flags: int) -> bool:
        if not self._born:
            self.ended = True
        if not self.ended:
            try:
                pid, status, usage = os.wait4(self._born[0], flags)
            except ChildProcessError:  # somebody else in this program has reaped it: how it ended is lost
                self.ended = True
            else:
                if pid:
                    self.ended = True
                    self.exitcode = os.waitstatus_to_exitcode(status)
                    self.memory = peak_of(usage)
        return self.ended

    def collect(self) -> bool:
        return self._wait(os.WNOHANG)

    def await_end(self) -> None:
        self._wait(0)

    def ends_within(self, milliseconds: int) -> bool:
        """Wait for its end, but not for ever; whether it has come."""
        if self._pidfd >= 0 and not self.ended:
            is_readable(self._pidfd, milliseconds)
        else:
            for _ in range(milliseconds):
                if self.collect():
                    break
                time.sleep(0.001)  # nothing tells of it
        return self.collect()

    def kill(self, signum: int = signal.SIGKILL) -> None:
        if not self.ended and self._born:
            self._signal(self._born[0], signum)


class SpawnedChild(DirectChild):
    """A worker that is a new interpreter."""

    def start(self, ends: Ends, extra: list[int]) -> None:
        self.execute("worker", [*ends, *extra])

    def _wait(self, flags: int) -> bool:
        if super()._wait(flags) and self.memory <= own_peak():
            self.memory = (
                0  # what is told is at least what this process had held when it started that one: our own peak
            )
        return self.ended


class ForkedChild(DirectChild):
    """A worker that is a copy of this process."""

    def start(self, ends: Ends, extra: list[int]) -> None:
        self.fork(lambda mask: bootstrap.run_child(ends, extra, mask))

    def fork(self, run: Callable[[set[int]], int]) -> None:
        """Start it with *run*, in the child: called with the signals it is to block, it returns the exit code.

        All signals are blocked there at first: none must find this program's handlers.

        Raises:
            OSError: the system gives no process.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            note_fork(self._born)
            if self._born == [0]:
                _be_forked(run, before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._watch()


def _be_forked(run: Callable[[set[int]], int], mask: set[int]) -> NoReturn:
    """Runs in the child."""
    code = 1
    try:
        bootstrap.forget_parent()
        code = run(mask)
    except BaseException:  # of ours, before it is dressed as a child: nobody else would print it
        sys.excepthook(*sys.exc_info())
    finally:
        bootstrap.leave(code)


def is_readable(fd: int, milliseconds: int | None) -> bool:
    """Whether *fd* has something to tell, waiting at most so long for it; None waits for ever."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(milliseconds))


def _interpreter_options() -> list[str]:
    """The options this interpreter was started with, for a child of the same kind."""
    flags = sys.flags
    if not (sys.warnoptions or sys._xoptions or any(flags[:9]) or flags.dev_mode):
        return []  # the usual case, without the import below
    from multiprocessing import util

    return list(util._args_from_interpreter_flags())  # type: ignore[attr-defined]
