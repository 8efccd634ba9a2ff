"""Every error forkful raises, in one tree.

::

    ForkfulError
     ├─ PoolClosed (ValueError)              yours: the pool was closed, or belongs to another process
     ├─ PoolTerminated                       the pool was terminated while this was pending
     ├─ PoolFull                             yours: back-pressure, with block=False
     ├─ ResultTimeout (TimeoutError)         get(timeout) or next(timeout) ran out; the task goes on
     ├─ InitializerError                     yours: the initializer failed, so no worker can start
     ├─ TaskError                            one task failed; the pool goes on
     │   ├─ WorkerDied                       its worker process ended under it
     │   ├─ TaskTimeout (TimeoutError)       it ran longer than timeout=
     │   ├─ TaskCancelled                    cancel() reached it
     │   ├─ RemoteError                      it raised something that cannot be rebuilt here
     │   └─ UnpicklableError (MaybeEncodingError, TypeError)   its arguments or its result cannot be pickled
     ├─ LockError                            a lock cannot be had, or be given back
     │   ├─ LockNotHeld (RuntimeError, ValueError)   yours: released by one who does not hold it
     │   ├─ LockTimeout (builtin TimeoutError)   a shared file was not free within its timeout=
     │   ├─ LockLost                         it was held, and others may have held it since
     │   ├─ DeadlockError                    who waits for it holds what its owner waits for
     │   └─ UnsafeFilesystem                 where its file is, locks are known not to exclude
     ├─ ServerError                          a server cannot begin, or be told something
     └─ EngineUnavailable                    an optional dependency is missing

``ValueError`` is the builtin; ``TimeoutError`` is ``multiprocessing.TimeoutError``; ``MaybeEncodingError`` is
``multiprocessing.pool.MaybeEncodingError``: programs that catch those today go on working.

Executors (`forkful.Pool.executor`) raise subclasses that are the standard library's errors too: a ``WorkerDied`` from
there is a ``BrokenProcessPool`` as well.

A task that *raises* fails with its own exception, the remote traceback as ``__cause__``.  The classes here are for what
has no exception of its own.  All of them survive pickling, attributes included.
"""

from __future__ import annotations

import importlib
import multiprocessing
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._unpicklable import UnpicklableError

__all__ = [
    "DeadlockError",
    "EngineUnavailable",
    "ForkfulError",
    "InitializerError",
    "LockError",
    "LockLost",
    "LockNotHeld",
    "LockTimeout",
    "PoolClosed",
    "PoolFull",
    "PoolTerminated",
    "RemoteError",
    "ResultTimeout",
    "ServerError",
    "TaskCancelled",
    "TaskError",
    "TaskTimeout",
    "UnpicklableError",
    "UnsafeFilesystem",
    "WorkerDied",
]


def __getattr__(name: str) -> Any:
    # Its base is in ``multiprocessing.pool``, which takes as long to import as all the rest of a pool.
    if name != "UnpicklableError":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = importlib.import_module("._unpicklable", __name__).UnpicklableError
    return value


class ForkfulError(Exception):
    """Base of every error of this package.

    Extra facts are given as keywords and become attributes; ``BaseException`` pickles ``args`` and ``__dict__``, so
    they travel with the error.
    """

    def __init__(self, message: str = "", /, **facts: Any) -> None:
        Exception.__init__(self, message)  # by name: MaybeEncodingError, a base of one of ours, takes other arguments
        self.__dict__.update(facts)


class PoolClosed(ForkfulError, ValueError):
    """Work was given to a pool that takes none any more."""


class PoolTerminated(ForkfulError):
    """The pool was terminated (``terminate()``, the end of its ``with`` block, or the exit of the program) first."""


class PoolFull(ForkfulError):
    """``max_pending`` calls have not ended, and the caller asked not to wait.

    Attributes:
        max_pending: how many the pool allows.
    """

    max_pending: int | None = None


class ResultTimeout(ForkfulError, multiprocessing.TimeoutError):
    """No result came within the time the caller gave; the task goes on, and can be asked for again."""


class InitializerError(ForkfulError):
    """The initializer failed in a worker; its own error is the ``__cause__``.

    Attributes:
        pid: the worker process; None when there was none.
        exitcode, memory, oom, dump: of a worker that ended in the initializer, as those of `WorkerDied`.
    """

    pid: int | None = None
    exitcode: int | None = None
    memory: int | None = None
    oom: bool | None = None
    dump: str = ""


class ServerError(ForkfulError):
    """A server cannot begin, or cannot be told something: its address, its handler or its certificate is not to be had."""


class LockError(ForkfulError):
    """A lock cannot be had, or not be given back.

    Attributes:
        lock: its name, path or URL.
    """

    lock: str = ""


class LockNotHeld(LockError, RuntimeError, ValueError):
    """The lock was to be given back by one who does not hold it."""


class LockTimeout(LockError, TimeoutError):
    """Somebody else has the file, and has not let go of it within the time the caller gave."""


class LockLost(LockError):
    """The lock was held, and no longer is: others may have held it since.

    A lease has run out, a session has ended, or somebody has removed the lock's file.  What was done under the lock may
    have been done beside another holder; where that matters, let the resource compare `fence` numbers.

    Attributes:
        fence: the number of the acquisition that was lost.
    """

    fence: int | None = None


class DeadlockError(LockError):
    """It can never be had: its owner waits, perhaps by way of others, for what whoever waits for it holds; or has ended.

    One of a circle gets it, and only one that waits without a time-out.  Nothing was acquired; what was held is held.

    Attributes:
        pids: the processes of the cycle, the caller's own first.
    """

    pids: tuple[int, ...] = ()


class UnsafeFilesystem(LockError):
    """The lock's file would be where locks are known not to exclude other hosts, or anybody.

    Attributes:
        filesystem: its type, such as ``nfs4``.
    """

    filesystem: str = ""


class EngineUnavailable(ForkfulError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class TaskError(ForkfulError):
    """One task failed for a reason other than its own exception.

    Attributes:
        task: what ran, in words (``"census('a.py')"`` is not kept; the function's name and the position are).
        pid: the worker process, or None when it never reached one.
        stdout, stderr: what it had written there; None unless the pool has ``capture_output=True``.
    """

    task: str = ""
    pid: int | None = None
    stdout: str | None = None
    stderr: str | None = None


class Evidence:
    """What is known of a process that has ended, beyond how: immutable, and pure."""

    __slots__ = ("dump", "memory", "oom")

    def __init__(self, memory: int | None = None, oom: bool | None = None, dump: str = "") -> None:
        self.memory = memory
        self.oom = oom
        self.dump = dump

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Evidence) and self.facts() == other.facts()

    def __hash__(self) -> int:
        return hash((self.memory, self.oom, self.dump))

    def __repr__(self) -> str:
        return f"Evidence(memory={self.memory!r}, oom={self.oom!r}, dump={self.dump!r})"

    def facts(self) -> dict[str, Any]:
        """As attributes of an error."""
        return {"memory": self.memory, "oom": self.oom, "dump": self.dump}

    def crashed_thread(self) -> int | None:
        """Which thread it was that crashed, as ``threading.get_ident`` tells it; None when that is not known."""
        digits = self.dump.partition("Current thread 0x")[2].partition(" ")[0]
        try:
            return int(digits, 16)
        except ValueError:  # nothing is there, or it was cut short
            return None

    def before(self, advice: str) -> str:
        """*advice*, after the lines of the dump that say most: to go on with a message.

        They are of the thread that crashed, from the innermost frame out to the last before our own.
        """
        lines = self.dump.splitlines()
        if not lines:
            return f"; {advice}"
        shown = [f"  {lines[0]}"] if lines[0].startswith("Fatal") else []
        starts = [at for at, line in enumerate(lines) if line.startswith("Current thread")]
        frames: list[str] = []
        for line in lines[starts[0] + 1 :] if starts else ():
            if not line.startswith("  File ") or any(ours in line for ours in _OUR_FRAMES):
                break
            if _IMPORT_FRAMES not in line:
                frames.append(line)
        if len(frames) > _INNER + _OUTER:
            frames[_INNER:-_OUTER] = ["  ..."]
        shown += frames
        return "\n".join([":", *shown]) + f";\n{advice}" if shown else f"; {advice}"


NO_EVIDENCE = Evidence()

_OUR_FRAMES = ("/forkful/_core/", "/forkful/apps/")
_IMPORT_FRAMES = '"<frozen importlib'  # there are many, and they say nothing
_INNER, _OUTER = 4, 2  # frames that are shown: where it was, and what it was asked for


class WorkerDied(TaskError):
    """The worker process ended while it ran this task.

    Attributes:
        exitcode: as in ``multiprocessing``: negative for a signal, None when the system did not tell.
        memory: the most that the process has held, in bytes (resident, as ``ru_maxrss``); where that is not known, what it
            held when it last looked; None where that is not known either.
        oom: True when the kernel says that it has killed a process for want of memory, which no other death explains;
            False when it says that it has not; None when nobody asked, or it does not say.
        dump: what ``faulthandler`` wrote as the process crashed: every thread's stack, the full text; else empty.
        cause: the task that is known to have brought the worker down, where that is another one: it ran beside this one,
            in a pool with ``threads=``.
    """

    exitcode: int | None = None
    memory: int | None = None
    oom: bool | None = None
    dump: str = ""
    cause: str = ""

    @classmethod
    def during(
        cls,
        task: str,
        pid: int | None,
        exitcode: int | None,
        because: str = "",
        cause: str = "",
        evidence: Evidence = NO_EVIDENCE,
    ) -> WorkerDied:
        """The error for *task*, whose worker *pid* ended with *exitcode* (*because* of something we know)."""
        message = f"{task}: its worker (pid {pid}) {describe_exit(exitcode, NO_EVIDENCE if cause else evidence)}"
        message += f" {because}" if because else ""
        message += "; retries=1 runs it again" if cause else evidence.before(_advice(exitcode, evidence))
        return cls(message, task=task, pid=pid, exitcode=exitcode, cause=cause, **evidence.facts())


class TaskTimeout(TaskError, multiprocessing.TimeoutError):
    """The task ran longer than its ``timeout=``; its worker was killed and replaced.

    Attributes:
        seconds: how long it might have run.
        memory: the most that the worker has held, in bytes; None when that is not known.
        dump: where it was, as ``faulthandler`` wrote it: every thread's stack; empty when the process was stopped.
    """

    seconds: float | None = None
    memory: int | None = None
    dump: str = ""


class TaskCancelled(TaskError):
    """``cancel()`` took the task back before it started, or ``cancel(kill=True)`` ended it."""


class RemoteError(TaskError):
    """The task raised an exception that cannot be pickled, or cannot be rebuilt in this process.

    Attributes:
        type_name: the qualified name of the exception's class.
        message: its text.
        traceback: the remote traceback, as text.
    """

    type_name: str = ""
    message: str = ""
    traceback: str = ""


# How a worker ends that has lost the descriptors which join it to its master: it leaves with this code if it finds out
# itself, and dies of this signal if the master does.  Nothing else sends that signal, so that the exit status tells.
LOST_CODE = 113
LOST_SIGNAL = getattr(signal, "SIGSTKFLT", signal.SIGKILL)  # Linux's; elsewhere it looks like any killing
_LOST_CURE = "(os.closerange?): close only what it has opened itself"
_LOST = frozenset({LOST_CODE, -LOST_SIGNAL} - {-signal.SIGKILL})


def describe_exit(exitcode: int | None, evidence: Evidence = NO_EVIDENCE) -> str:
    """How a process ended, in words: ``"was killed by SIGKILL"``, ``"left with exit code 1"``."""
    if exitcode is None:
        return "ended, how is not known"
    if exitcode in _LOST:
        return "had its descriptors closed or broken under it"
    if exitcode >= 0:
        return f"left with exit code {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    if exitcode != -signal.SIGKILL:
        return f"was killed by {name}"
    who = f"{name} by the kernel's out-of-memory killer" if evidence.oom else name
    peak = f" (peak memory {_spell_size(evidence.memory)})" if evidence.memory else ""
    return f"was killed by {who}{peak}"


def _spell_size(size: int) -> str:
    for power, unit in ((9, "GB"), (6, "MB")):
        if size >= 10**power:
            return f"{size / 10**power:.3g} {unit}"
    return f"{size / 1000:.0f} kB"


def advise_start(exitcode: int | None, evidence: Evidence = NO_EVIDENCE) -> str:
    """What to do about a worker that ended in this way before it was ready."""
    if evidence.oom:
        return _LESS_MEMORY
    if exitcode in _LOST:
        return f"the initializer, or a module that it imports, did that {_LOST_CURE}"
    return "run the initializer and the imports of the task's module by hand to see why"


_LESS_MEMORY = "use fewer processes, or give the program more memory"


def _advice(exitcode: int | None, evidence: Evidence) -> str:
    if exitcode is None:
        return "whoever started it ended before it could tell; retries=1 runs it again"
    if exitcode in _LOST:
        return f"the task, or one before it in that process, did that {_LOST_CURE}; retries=1 runs it again"
    if evidence.oom:
        return f"{_LESS_MEMORY}; retries=1 runs it again"
    if exitcode == -signal.SIGKILL and evidence.oom is False:
        return "somebody killed it, and not the kernel for want of memory; retries=1 runs it again"
    if exitcode == -signal.SIGKILL:
        return "if nobody killed it, the kernel ran out of memory: use fewer processes; retries=1 runs it again"
    if exitcode < 0 and evidence.dump:
        return "it crashed outside Python, called from there (`dump` has the whole of it); retries=1 runs it again"
    if exitcode < 0:
        return "it crashed outside Python: run it alone under `python -X faulthandler`; retries=1 runs it again"
    return "the task ended the whole process (os._exit?): raise an exception instead; retries=1 runs it again"
