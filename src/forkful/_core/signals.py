"""Signals around the start of a worker and inside it.  Here no handler does more than exist."""

from __future__ import annotations

import fcntl
import os
import select
import signal
from collections.abc import Iterable
from types import FrameType

# Asks the kernel which signal an O_ASYNC descriptor sends; `fcntl` names it on Linux, where alone it exists.
_F_SETSIG = getattr(fcntl, "F_SETSIG", None)


# Has a worker write down where it is, and end: see `faults`.  A number that nobody else uses; where there is none to
# spare (macOS), a worker ends without a word.
TRACE_SIGNAL: int | None = signal.SIGRTMAX - 4 if hasattr(signal, "SIGRTMAX") else None

# Calls a thread away from a system call that it waits in, and does nothing else: see the server's README.md.
WAKE_SIGNAL: int = signal.SIGRTMAX - 5 if hasattr(signal, "SIGRTMAX") else signal.SIGURG

# Those a worker must get, whatever the thread that started it had blocked.
WORKERS_OWN = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, *([TRACE_SIGNAL] if TRACE_SIGNAL is not None else []))


def ignore(_signum: int, _frame: FrameType | None) -> None:
    """The SIGINT handler of a worker: the parent owns Ctrl-C.

    A function and not SIG_IGN, because the programs a task starts would inherit SIG_IGN and could not be interrupted.
    """


def settle_worker(mask: Iterable[int]) -> None:
    """Give the calling process the signal dispositions of a worker, then *mask*.  Runs in the child, in its main thread.

    In this order: a signal that has come since the process began finds the worker's disposition, never the parent's.
    """
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, ignore)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set(mask).difference(WORKERS_OWN))


def die_with(lifeline: int) -> bool:
    """Have the kernel kill this process when the other end of the pipe *lifeline* is closed.  Runs in the child.

    The parent alone holds that other end, so this is its death, seen by the kernel: no thread, no Python, and no return
    from a long call in C is needed.  Where the kernel cannot do it (other than Linux), returns False: the worker then
    leaves at the end of its task, by end-of-file.

    Source: fcntl(2), O_ASYNC, F_SETOWN, F_SETSIG; unlike PR_SET_PDEATHSIG it does not depend on the *thread* that
    forked, and holds for a worker whose parent process is the mold.
    """
    if _F_SETSIG is None:
        return False
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    # The parent may have gone before the line above: then no signal comes, but the pipe says so.
    poll = select.poll()
    poll.register(lifeline, 0)
    if poll.poll(0):
        os.kill(os.getpid(), signal.SIGKILL)
    return True
