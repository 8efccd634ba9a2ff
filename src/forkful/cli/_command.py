"""A command as a child of this program: it gets the signals that this program gets, and ends before it does."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import signal
from typing import Any

from ._console import say

__all__ = ["end_likewise", "run_command"]

_PASSED_ON = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_DEADLY_KEYS = (signal.SIGINT, signal.SIGQUIT)  # what a terminal sends
_NOT_FOUND, _NOT_STARTED = 127, 126  # as shells have it
_OUT_OF_THE_WAY = 20  # scripts use descriptors from 3 to 9


def run_command(words: list[str], keep: int | None = None) -> int:
    """Run the command *words*, and wait for it; its exit code, or minus the signal that ended it.

    What was sent to this process alone is passed on.  What the terminal sends (Ctrl-C) reaches both anyway.  Signals that
    this program was told to ignore, as by ``nohup``, both ignore.  Other threads of this process must have them blocked.

    Args:
        keep: a descriptor that the command inherits a copy of.

    Returns:
        126 where it could not be started, 127 where it was not found; standard error says why.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it was ignored, the kernel would keep no exit status for us
    # Waited for with sigwait, not handled: thus none is lost between two steps, or gets in the way of what is done then.
    waited = {signal.SIGCHLD, *(number for number in _PASSED_ON if signal.getsignal(number) is not signal.SIG_IGN)}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    try:
        return _wait(_start(words, before, keep), waited)
    except FileNotFoundError:
        if words[0] and shutil.which(words[0]) is not None:
            say(
                f"forkful: {words[0]}: cannot be started (there is no such interpreter as its first line names); mend that"
            )
            return _NOT_STARTED
        say(f"forkful: {words[0]}: there is no such command; check the spelling, and PATH")
        return _NOT_FOUND
    except OSError as error:
        say(f"forkful: {words[0]}: cannot be started ({error.strerror}); name a program that can")
        return _NOT_STARTED
    finally:
        while late := signal.sigpending() & waited:  # the command has ended; so do we, in a moment, and in order
            signal.sigwait(late)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(words: list[str], mask: set[int] | set[signal.Signals], keep: int | None) -> int:
    if not words[0]:
        raise FileNotFoundError
    # Not a fork: in a forked child forkful gives up its parent's locks, the descriptor included.
    kept = None if keep is None else _copy(keep)
    settings: Any = {"setsigmask": mask, "setsigdef": [signal.SIGPIPE, signal.SIGXFSZ]}  # Python ignores these two
    try:
        try:
            return os.posix_spawnp(words[0], words, os.environ, **settings)
        except OSError as error:
            path = shutil.which(words[0])
            if error.errno != errno.ENOEXEC or path is None:
                raise
            return os.posix_spawn("/bin/sh", ["sh", path, *words[1:]], os.environ, **settings)  # a script without #!
    finally:
        if kept is not None:
            os.close(kept)


def _copy(fd: int) -> int:
    """A copy of *fd* that the command inherits."""
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD, _OUT_OF_THE_WAY)
    except OSError:  # there are no such numbers: see `ulimit -n`
        return fcntl.fcntl(fd, fcntl.F_DUPFD, 0)


def _wait(child: int, waited: set[signal.Signals]) -> int:
    while True:
        number, to_all = _next_signal(waited)
        if number == signal.SIGCHLD:
            pid, status = os.waitpid(child, os.WNOHANG)  # it may have been stopped only
            if pid:
                return os.waitstatus_to_exitcode(status)
        elif not to_all:
            os.kill(child, number)


def _next_signal(waited: set[signal.Signals]) -> tuple[int, bool]:
    """The next signal, and whether it came from the terminal, which sends it to all.

    But of its end (SIGHUP) a terminal tells the leader of the session alone.
    """
    if hasattr(signal, "sigwaitinfo"):
        found = signal.sigwaitinfo(waited)
        alone = found.si_signo == signal.SIGHUP and os.getsid(0) == os.getpid()
        return found.si_signo, found.si_code > 0 and not alone
    number = signal.sigwait(waited)  # macOS does not tell whom it is from
    return number, number in _DEADLY_KEYS


def end_likewise(code: int) -> int:
    """The exit code of this process that says how the command ended; *code* is `run_command`'s.

    Where that was by SIGINT or SIGQUIT, this process dies of it too: shells look at how their child has died, and end a loop
    or a script only if it was by the signal.
    """
    if -code in _DEADLY_KEYS and signal.getsignal(-code) is not signal.SIG_IGN:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it was not we that failed
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code if code >= 0 else 128 - code
