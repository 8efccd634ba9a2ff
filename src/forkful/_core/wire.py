"""Descriptors over Unix sockets (``SCM_RIGHTS``).  Both sides import it."""

from __future__ import annotations

import array
import fcntl
import os
import socket
from collections.abc import Sequence

MAX_FDS = 250
_FD_SIZE = array.array("i").itemsize
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_NOSIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)  # a program may have SIGPIPE back at its default, where it would end it


def send_fds(sock: socket.socket, data: bytes, fds: Sequence[int] = (), *, wait: bool = False) -> None:
    """Send *data* with copies of *fds*, or fail: never wait for a reader that may have been stopped, unless told to."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], ancillary, _NOSIGNAL | (0 if wait else socket.MSG_DONTWAIT))


def receive_fds(sock: socket.socket, size: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """Up to *size* bytes and the descriptors that came with them."""
    data, ancillary, _, _ = sock.recvmsg(size, socket.CMSG_SPACE(MAX_FDS * _FD_SIZE), flags | _CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % _FD_SIZE])
    received = [fd if fd > 2 else _move_up(fd) for fd in fds]
    for fd in received:
        os.set_inheritable(fd, False)
    return data, received


def _move_up(fd: int) -> int:
    """The same under a number above 2: a program may have closed those, and open them again."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return moved
