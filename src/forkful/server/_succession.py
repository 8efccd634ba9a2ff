"""The same program once more, with the listeners of this one: SIGUSR2, after an upgrade.

The successor is this process's own command line, in a new process.  It finds the listeners as systemd would pass them on
(``LISTEN_FDS``, sd_listen_fds(3)), and the end of a pipe (``FORKFUL_SUCCEEDS``) on which it says that it is ready.  Until then
the predecessor goes on; if the pipe is closed without a word, it goes on for good.  No connection is lost: the listeners, and
so their queues, are the same ones all along.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial

from .._core.children import ForkedChild
from ._listeners import Listener
from ._systemd import Passed

__all__ = ["STATUS", "Successor", "announce", "claim"]

VARIABLE = "FORKFUL_SUCCEEDS"
BORROWED = "forkful-borrowed"
"""The name of a listener that the predecessor had from somebody else."""
STATUS = "forkful-status"
"""The name of the socket that is for the status address."""
FIRST = 3  # the number of the first descriptor that is passed on: sd_listen_fds(3)
ASIDE = 64  # descriptors from here on are in nobody's way


class Successor:
    """The new process, as the old one sees it.  Made when it is wanted.

    Raises:
        OSError: there is no process to be had.
    """

    def __init__(self, listeners: Sequence[Listener], status: Listener | None = None) -> None:
        self._heard, word = os.pipe()
        passed = [(BORROWED if listener.is_borrowed else "server", listener.fileno()) for listener in listeners]
        if status is not None:
            passed.append((STATUS, status.fileno()))
        self._child = ForkedChild()
        try:
            self._child.fork(partial(_become, passed, word))
        except OSError:
            os.close(self._heard)
            raise
        finally:
            os.close(word)

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._child.pid

    def fileno(self) -> int:
        """Readable when there is an `outcome`."""
        return self._heard

    def outcome(self) -> bool:
        """Whether it is ready; else it has ended, or is about to."""
        try:
            return os.read(self._heard, 1) == b"1"
        finally:
            os.close(self._heard)

    def give_up(self) -> None:
        """It has not become ready: see to it that it is no more."""
        self._child.kill()
        self._child.await_end()
        self._child.close()


def announce() -> None:
    """In a successor: say that it is ready.  Elsewhere nothing happens."""
    fd = os.environ.pop(VARIABLE, None)
    if fd is not None:
        try:
            os.write(int(fd), b"1")
        except OSError:
            pass  # the predecessor has gone
        os.close(int(fd))


def claim(passed: Sequence[Passed]) -> list[Passed]:
    """In a successor: the files of Unix sockets are this process's to remove.  Elsewhere they are systemd's."""
    if VARIABLE not in os.environ:
        return list(passed)
    os.set_inheritable(int(os.environ[VARIABLE]), False)
    return [
        Passed(
            one.name,
            Listener(
                one.listener.socket,
                one.listener.address,
                has_file=one.name != BORROWED
                and one.listener.address.kind == "unix"
                and not one.listener.address.is_abstract,
                is_borrowed=one.name == BORROWED,
            ),
        )
        for one in passed
    ]


def _become(passed: Sequence[tuple[str, int]], word: int, mask: set[int]) -> int:
    """Be the successor.  Runs in the child; does not return."""
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, ASIDE) for fd in (*(fd for _, fd in passed), word)]
    for number, fd in enumerate(moved, FIRST):
        os.dup2(fd, number)  # inheritable
    environ = os.environ | {
        "LISTEN_FDS": str(len(passed)),
        "LISTEN_FDNAMES": ":".join(name for name, _ in passed),
        "LISTEN_PID": str(os.getpid()),
        VARIABLE: str(FIRST + len(passed)),
    }
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.execve(sys.executable, sys.orig_argv, environ)  # our own command line
