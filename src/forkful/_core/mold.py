"""The mold: a small single-threaded process that forks workers (the ``forkserver`` start method).

It has imported what every worker needs and nothing of the user's, has one thread and so forks safely, and starts a
worker in about a millisecond where a new interpreter takes fifty.  It holds no state but its children's status sockets.

Protocol, over a stream socket to the one parent process:

- Each request is one byte carrying descriptors: a status socket, then a worker's `Ends`, then extra ones.
- On the status socket the worker itself tells its pid, with its pidfd (where the kernel has them), before it does
  anything else: so whoever has heard of a worker by its channel can read its pid without waiting, even if the mold has
  been stopped meanwhile.  When the worker has ended, the mold tells its exit code and the most memory that it has held;
  or at once why there is no worker.  Then it closes the socket; end-of-file without either means that the mold died.
- When the parent's end is closed the mold kills what is left and goes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import struct
from collections.abc import Sequence

from . import bootstrap
from .ends import ENDS, Ends
from .gauge import peak_of
from .signals import ignore
from .wire import receive_fds, send_fds

STATUS = struct.Struct("=cqqq")  # kind, pid, number, the most memory that it has held (bytes)
BORN, DIED, UNBORN = b"P", b"X", b"E"  # number: 0, exit code, errno


class _Mold:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._status: dict[int, socket.socket] = {}  # by pid
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_r, False)
        os.set_blocking(self._wake_w, False)
        signal.signal(signal.SIGCHLD, ignore)
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)

    def serve(self) -> int | None:
        """Fork and reap until the parent has gone.  In a forked child: its exit code."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake_r, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._wake_r in ready:
                os.read(self._wake_r, 4096)
                self._reap()
            if self._control.fileno() in ready:
                data, fds = receive_fds(self._control, 1)
                if not data:
                    break
                code = self._fork(fds)
                if code is not None:
                    return code
        self._control.close()
        for pid, status in self._status.items():
            status.close()
            os.kill(pid, signal.SIGKILL)  # ours and not reaped: the number cannot be another's
        return None

    def _fork(self, fds: list[int]) -> int | None:
        pid = -1
        status = socket.socket(fileno=fds[0]) if fds else None
        try:
            if len(fds) <= ENDS:  # not all that were sent have arrived
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            pid = os.fork()
        except OSError as error:  # no process to be had
            if status is not None:
                self._tell(status, UNBORN, 0, error.errno or 0)
        if pid == 0:
            assert status is not None
            return self._become_worker(status, fds[1:])
        for fd in fds[1:]:
            os.close(fd)
        if status is not None:
            if pid > 0:
                self._status[pid] = status
            else:
                status.close()
        return None

    @staticmethod
    def _tell(
        status: socket.socket, kind: bytes, pid: int, number: int, memory: int = 0, fds: Sequence[int] = ()
    ) -> None:
        try:
            send_fds(status, STATUS.pack(kind, pid, number, memory), fds)
        except OSError:
            pass  # the parent has given up this worker, or is gone: the lifeline ends it

    def _become_worker(self, status: socket.socket, fds: list[int]) -> int:
        """Runs in the child."""
        bootstrap.forget_parent()
        signal.set_wakeup_fd(-1)
        for sock in (self._control, *self._status.values()):
            sock.close()
        os.close(self._wake_r)
        os.close(self._wake_w)
        pid = os.getpid()
        pidfds: list[int] = []
        with contextlib.suppress(AttributeError, OSError):
            pidfds.append(os.pidfd_open(pid))
        self._tell(status, BORN, pid, 0, fds=pidfds)
        for fd in (status.detach(), *pidfds):
            os.close(fd)
        return bootstrap.run_child(Ends(*fds[:ENDS]), fds[ENDS:], ())

    def _reap(self) -> None:
        while self._status:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            sock = self._status.pop(pid)
            self._tell(sock, DIED, pid, os.waitstatus_to_exitcode(status), peak_of(usage))
            sock.close()


def main(control_fd: int) -> None:
    """Run the mold on the socket *control_fd*.  Called in the process that is to be the mold."""
    bootstrap.fill_standard_streams()
    bootstrap.empty_stdin()
    signal.signal(signal.SIGINT, ignore)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    mold = _Mold(socket.socket(fileno=control_fd))
    # Nothing of what the thread that needed a mold first had blocked: without SIGCHLD it would never reap.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    code = mold.serve()
    if code is not None:
        bootstrap.leave(code)
