"""Workers of the mold, as their parent sees them, and the mold itself.  Runs in the master; ``mold.py`` is the other side."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading

from . import mold
from .children import Child, DirectChild, is_readable
from .ends import ENDS, Ends
from .forks import hold
from .wire import MAX_FDS, receive_fds, send_fds

# How long the mold is waited for where it answers at once, unless it has been stopped: to leave, and to report the end
# of a worker that we have put down ourselves.
_MOLD_MS, _REPORT_MS = 1000, 100


class MoldChild(Child):
    """A child of the mold, known through its status socket; through its pidfd, should the mold not tell.

    The mold may have died, or have been stopped.  Nothing here waits for it, but `await_end` of a worker that is not
    put down, and `_read` for a moment.
    """

    def __init__(self) -> None:
        self._status: socket.socket | None = None
        self._mold: DirectChild | None = None
        self._pid: int | None = None
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
            data, fds = receive_fds(self._status, mold.STATUS.size, flags)
        except BlockingIOError:
            return
        except ConnectionError:
            data, fds = b"", []
        if len(data) < mold.STATUS.size:
            self._lose_mold()
            return
        kind, pid, number, memory = mold.STATUS.unpack(data)
        if kind == mold.BORN:
            self._pid = pid
            self._pidfd = fds[0] if fds else -1
            if self._due:
                self.kill(self._due)
            return
        if kind == mold.DIED:
            self._pid = pid
            self.exitcode = number
            self.memory = memory
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
        if not is_readable(self._pidfd, milliseconds):
            return
        if self._status is not None and is_readable(self._status.fileno(), _REPORT_MS):
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
        else:
            self._signal(pid, signum)

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
        super().close()


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
        own = 1 + ENDS
        if len(fds) > MAX_FDS:
            raise ValueError(f"initargs hold {len(fds) - own} descriptors; the most is {MAX_FDS - own}")
        send_fds(self._control, b"F", fds)

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


def _forget_molds() -> None:
    """In a forked child: they are the parent's, and another thread of it may have held the lock."""
    global _molds_lock
    _molds_lock = threading.Lock()
    _molds.clear()


os.register_at_fork(after_in_child=_forget_molds)
