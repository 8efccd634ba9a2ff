"""Starting a worker process, by any start method, and knowing when and how it ended.  Runs in the master.

- ``fork``: a copy of this process.
- ``spawn``: a new interpreter (``posix_spawn``).
- ``forkserver``: the mold, itself a new interpreter, forks; see ``mold.py``.  It lives as long as a pool needs it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import select
import signal
import socket
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterator
from itertools import starmap
from multiprocessing import context, get_start_method, process, reduction, resource_tracker
from multiprocessing import spawn as mp_spawn
from typing import Any, NoReturn, TypeVar

from . import bootstrap, mold
from .bootstrap import Ends, InheritedFd

R = TypeVar("R")

_PACKAGE = __package__
_HAVE_PIDFD = hasattr(os, "pidfd_open")

# How long the mold is waited for where it answers at once, unless it has been stopped: to leave, and to report the end
# of a worker that we have put down ourselves.
_MOLD_MS, _REPORT_MS = 1000, 100

# What a new interpreter runs.  It takes the package from where this process has it, not from ``sys.path``: a file of the
# user's that is called ``token.py`` must not stand for the standard library's while we are being imported.
_PROGRAM = """\
import sys
if not sys.flags.safe_path: del sys.path[0]
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location({name!r}, {file!r})
sys.modules[{name!r}] = module = module_from_spec(spec)
spec.loader.exec_module(module)
from {package}.bootstrap import main
main()
"""


def _note(into: list[Any], function: Callable[[], Any]) -> None:
    """Put what *function* returns into *into*, in one step of the interpreter.

    With an assignment, a signal's handler could run, and raise, between the return and the assignment, and nobody would
    know of the new process.  Blocked signals are no help: another thread takes them, and the handler runs in this one.
    """
    into.extend(starmap(function, [()]))


# What this process holds of its workers, so that a fork can close its copies: a copied lifeline would keep workers
# alive after the parent's death, a copied channel would hide its end.
_held: weakref.WeakSet[Any] = weakref.WeakSet()

# Held by a fork, and by whoever opens what a fork must close, from before it is open until it is known in `_held` and
# the worker's ends are closed.  So a fork by another thread sees all of it or nothing.  A lock that its thread may take
# again, because the start of a forked worker is a fork, and because a signal's handler may fork at any point.
_gate = threading.RLock()
_PATIENCE = 1.0


def hold(resource: Any) -> None:
    """Have *resource*'s ``disown`` called in every child this process forks by itself."""
    _held.add(resource)


def without_forks(function: Callable[[], R]) -> R:
    """Call *function* while no other thread of this program forks.  It must wait for nobody.

    A fork that takes longer than `_PATIENCE` is not waited for: it is in somebody's ``before`` hook, and may wait there
    for a lock that our caller has.  Then it copies nothing until we are done.  Only a hook that is so slow for another
    reason may end, and the fork be made, in our midst.
    """
    taken: list[bool] = []
    try:
        _note(taken, functools.partial(_gate.acquire, timeout=_PATIENCE))
        return function()
    finally:
        if taken == [True]:
            try:
                _gate.release()
            except RuntimeError:  # this is a child that a signal's handler has forked meanwhile: see below
                pass


def _close_held_in_child() -> None:
    # Made anew, and not just released: this may be a worker, which never comes back to where the lock was taken.
    _gate._at_fork_reinit()  # type: ignore[attr-defined]  # what the standard library calls for its own locks
    for resource in list(_held):
        with contextlib.suppress(OSError, ValueError, BufferError):
            resource.disown()
    _held.clear()
    _molds.clear()
    global _molds_lock  # another thread of the parent may have held it at the fork
    _molds_lock = threading.Lock()


# The first two are no functions of Python's: in those a signal's handler could raise, and what is raised here is lost.
os.register_at_fork(before=_gate.acquire, after_in_parent=_gate.release, after_in_child=_close_held_in_child)


# What is sent along in initargs.


class _FdCollector:
    """Stands in for ``multiprocessing``'s ``Popen`` while initargs are pickled, and notes the descriptors they need."""

    DupFd = InheritedFd

    def __init__(self) -> None:
        self.fds: list[int] = []

    def duplicate_for_child(self, fd: int) -> int:
        """Note *fd*; what is returned goes to ``DupFd``."""
        self.fds.append(fd)
        return len(self.fds) - 1


def pack_inheritance(value: Any) -> tuple[bytes, list[int]]:
    """Pickle *value* as for a starting child: its bytes, and the descriptors to pass with them.

    Raises:
        whatever pickling raises; ``RuntimeError`` for a lock of another start method.
    """
    collector = _FdCollector()
    before = context.get_spawning_popen()
    context.set_spawning_popen(collector)  # type: ignore[arg-type]  # it has what pickling asks of a Popen
    try:
        buffer = io.BytesIO()
        reduction.ForkingPickler(buffer, 5).dump(value)
    finally:
        context.set_spawning_popen(before)
    return buffer.getvalue(), collector.fds


def tracker_fd() -> int | None:
    """The resource tracker's descriptor, started if this program uses what it tracks and has not started it."""
    fd = getattr(resource_tracker._resource_tracker, "_fd", None)
    if fd is None and "multiprocessing.shared_memory" in sys.modules:
        fd = resource_tracker.getfd()
    return fd


def check_not_importing_main() -> None:
    """Refuse to start workers while a worker imports this program's ``__main__``.

    Raises:
        RuntimeError: saying how to guard the script.
    """
    if getattr(process.current_process(), "_inheriting", False):
        raise RuntimeError(
            "a worker imports this script to find a function in it, and the script starts a pool as it is imported; "
            'put what starts the pool under `if __name__ == "__main__":`'
        )


def flush_standard_streams() -> None:
    """Before a fork: else both processes would write what the buffers hold."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()


# Under fork the initializer is inherited as it is: put here by the parent just before, read by the child.
inherited_initializer = bootstrap.inherited_initializer


@contextlib.contextmanager
def above_standard_streams() -> Iterator[None]:
    """What is opened inside gets descriptors above 2, also where the program has closed those: tasks print there."""
    fillers: list[int] = []
    try:
        while (fd := os.open(os.devnull, os.O_RDONLY)) <= 2:
            fillers.append(fd)
        os.close(fd)
        yield
    finally:
        for fd in fillers:
            os.close(fd)


# Children.


def _fork(into: list[int]) -> None:
    into.extend(starmap(os.fork, [()]))


# `_note` for a fork.  Python 3.12 warns of forks beside threads; whoever chose ``fork`` chose that, and the pool's own
# thread is one.  A warning belongs to the module of the code that causes it, and where that has no name there is none.
# Warning filters would be no way: all threads share them, and two that change and restore them leave either's behind.
_note_fork = types.FunctionType(_fork.__code__, {"__name__": None, "os": os, "starmap": starmap})


class Child:
    """A worker process as its parent sees it."""

    def __init__(self) -> None:
        self.exitcode: int | None = None
        self.ended = False
        self.refusal: OSError | None = None  # why there has never been a process
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

    def close(self) -> None:
        """Release descriptors."""
        raise NotImplementedError

    def disown(self) -> None:
        """In a forked child: this process is the parent's child, not ours."""
        self.ended = True
        self.close()


class DirectChild(Child):
    """A child of this process."""

    def __init__(self) -> None:
        self._born: list[int] = []  # its pid, from the instant it has one: see `_note`
        self._pidfd = -1
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
            _note(self._born, run)
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
                pid, status = os.waitpid(self._born[0], flags)
            except ChildProcessError:  # somebody else in this program has reaped it: how it ended is lost
                self.ended = True
            else:
                if pid:
                    self.ended = True
                    self.exitcode = os.waitstatus_to_exitcode(status)
        return self.ended

    def collect(self) -> bool:
        return self._wait(os.WNOHANG)

    def await_end(self) -> None:
        self._wait(0)

    def ends_within(self, milliseconds: int) -> bool:
        """Wait for its end, but not for ever; whether it has come."""
        if self._pidfd >= 0 and not self.ended:
            _is_readable(self._pidfd, milliseconds)
        else:
            for _ in range(milliseconds):
                if self.collect():
                    break
                time.sleep(0.001)  # nothing tells of it
        return self.collect()

    def kill(self, signum: int = signal.SIGKILL) -> None:
        if self.ended or not self._born:
            return
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd >= 0:  # this program may have reaped it (``os.wait()``, SIGCHLD ignored): not by its number
                signal.pidfd_send_signal(self._pidfd, signum)
            else:
                os.kill(self._born[0], signum)

    def close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


class SpawnedChild(DirectChild):
    """A worker that is a new interpreter."""

    def start(self, ends: Ends, extra: list[int]) -> None:
        self.execute("worker", [*ends, *extra])


class ForkedChild(DirectChild):
    """A worker that is a copy of this process."""

    def start(self, ends: Ends, extra: list[int]) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            # The child must not run this program's handlers: it gets no signal until it has dispositions of its own.
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            _note_fork(self._born)
            if self._born == [0]:
                _be_forked(ends, extra, before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._watch()


def _be_forked(ends: Ends, extra: list[int], mask: set[int]) -> NoReturn:
    """Runs in the child."""
    code = 1
    try:
        bootstrap.forget_parent()
        code = bootstrap.run_child(ends, extra, mask)
    finally:
        bootstrap.leave(code)


class MoldChild(Child):
    """A child of the mold, known through its status socket; through its pidfd, should the mold not tell.

    The mold may have died, or have been stopped.  Nothing here waits for it, but `await_end` of a worker that is not
    put down, and `_read` for a moment.
    """

    def __init__(self) -> None:
        self._status: socket.socket | None = None
        self._mold: DirectChild | None = None
        self._pid: int | None = None
        self._pidfd = -1
        self._by_pidfd = False  # its end is looked for there
        self._due = 0  # the signal it gets as soon as it is known
        super().__init__()

    def start(self, ends: Ends, extra: list[int]) -> None:
        self.ended = True  # unless the mold is asked for it
        self._status, theirs = socket.socketpair()
        with theirs:
            self._mold = _molds[0].request([theirs.fileno(), *ends, *extra])
        self.ended = False

    @property
    def pid(self) -> int | None:
        if self._pid is None and not self.ended:
            self._read(socket.MSG_DONTWAIT)
        return self._pid

    def fileno(self) -> int:
        if self._by_pidfd or self._status is None:
            return self._pidfd
        return self._status.fileno()

    def _read(self, flags: int) -> None:
        assert self._status is not None
        try:
            data, fds = mold.receive_fds(self._status, mold.STATUS.size, flags)
        except BlockingIOError:
            return
        except ConnectionError:
            data, fds = b"", []
        if len(data) < mold.STATUS.size:
            self._lose_mold()
            return
        kind, pid, number = mold.STATUS.unpack(data)
        if kind == mold.BORN:
            self._pid = pid
            self._pidfd = fds[0] if fds else -1
            if self._due:
                self.kill(self._due)
            return
        if kind == mold.DIED:
            self._pid = pid
            self.exitcode = number
        else:
            self.refusal = OSError(number, os.strerror(number))
        self.ended = True

    def _lose_mold(self) -> None:
        assert self._mold is not None
        self._by_pidfd = self._pidfd >= 0
        self.ended = not self._by_pidfd  # one we cannot watch is given up; its lifeline ends it
        if self._pid is None:
            if self._mold.ends_within(_MOLD_MS):
                self.exitcode = self._mold.exitcode
            else:  # it lives, and could not even take the socket to answer on
                self.refusal = OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def _look_at_pidfd(self, milliseconds: int | None) -> None:
        """Whether it has ended; how, only its parent was told."""
        if not _is_readable(self._pidfd, milliseconds):
            return
        if self._status is not None and _is_readable(self._status.fileno(), _REPORT_MS):
            self._read(socket.MSG_DONTWAIT)
        self.ended = True

    def collect(self) -> bool:
        if not self.ended and not self._by_pidfd:
            self._read(socket.MSG_DONTWAIT)
        if not self.ended and self._by_pidfd:
            self._look_at_pidfd(0)
        return self.ended

    def await_end(self) -> None:
        while not self.ended and not self._by_pidfd:
            self._read(0)
        if not self.ended:
            self._look_at_pidfd(None)

    def kill(self, signum: int = signal.SIGKILL) -> None:
        if self.ended:
            return
        pid = self.pid
        if pid is None:
            self._due = signum
            return
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, signum)
            else:
                os.kill(pid, signum)

    def put_down(self) -> None:
        self.kill()
        if self.ended:
            return
        if self._pid is None:  # if it is ever born, it finds its lifeline closed
            self.ended = True
        else:
            self._by_pidfd = self._pidfd >= 0

    def close(self) -> None:
        if self._status is not None:
            self._status.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def _is_readable(fd: int, milliseconds: int | None) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(milliseconds))


# Start methods.


def _interpreter_options() -> list[str]:
    """The options this interpreter was started with, for a child of the same kind."""
    flags = sys.flags
    if not (sys.warnoptions or sys._xoptions or any(flags[:9]) or flags.dev_mode):
        return []  # the usual case, without the import below
    from multiprocessing import util

    return list(util._args_from_interpreter_flags())  # type: ignore[attr-defined]


class _MoldClient:
    """The parent's end of a mold, shared by the pools of this process."""

    def __init__(self) -> None:
        self.users: set[object] = set()
        self._lock = threading.Lock()
        self._process: DirectChild | None = None
        self._control: socket.socket | None = None

    def request(self, fds: list[int]) -> DirectChild:
        """Have the mold fork a worker with *fds*; a mold that has died is replaced.  The mold's process."""
        with self._lock:
            if self._control is None:
                self._launch()
            try:
                self._request(fds)
            except ConnectionError:  # it has died; any other error is the system's, and passes
                self.stop()
                self._launch()
                self._request(fds)
            assert self._process is not None
            return self._process

    def _launch(self) -> None:
        self._control, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = process = DirectChild()
                process.execute("mold", [theirs.fileno()])
        except BaseException:
            self.stop()
            raise

    def _request(self, fds: list[int]) -> None:
        assert self._control is not None
        own = 1 + bootstrap.ENDS
        if len(fds) > mold.MAX_FDS:
            raise ValueError(f"initargs hold {len(fds) - own} descriptors; the most is {mold.MAX_FDS - own}")
        mold.send_fds(self._control, b"F", fds)

    def stop(self) -> None:
        """Close the control socket and wait for the mold, which leaves at once; one that does not is killed."""
        if self._control is not None:
            self._control.close()
            self._control = None
        process = self._process
        if process is not None:
            if not process.ends_within(_MOLD_MS):
                process.kill()
                process.await_end()
            process.close()
            self._process = None

    def disown(self) -> None:
        """In a forked child: this mold is the parent's."""
        if self._control is not None:
            self._control.close()
            self._control = None


_molds: list[_MoldClient] = []
_molds_lock = threading.Lock()


def acquire_mold(user: object) -> None:
    """A pool begins to use the mold, or goes on."""
    with _molds_lock:
        if not _molds:
            client = _MoldClient()
            hold(client)
            _molds.append(client)
        _molds[0].users.add(user)


def release_mold(user: object) -> None:
    """A pool has ended; with the last one goes the mold."""
    with _molds_lock:
        if not _molds:
            return  # it was never used; or, in a forked child, it was the parent's
        _molds[0].users.discard(user)
        if not _molds[0].users:
            _molds[0].stop()
            _molds.clear()


START_METHODS: dict[str, type[Child]] = {"forkserver": MoldChild, "spawn": SpawnedChild, "fork": ForkedChild}


def chosen_start_method() -> str | None:
    """What this program told ``multiprocessing.set_start_method``; None when it said nothing."""
    return get_start_method(allow_none=True)
