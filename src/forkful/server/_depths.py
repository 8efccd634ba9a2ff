"""The queues of listeners, asked for by a process that does not have those listeners: of the kernel, by their inodes.

Whoever tells of a server must not hold its sockets: they are closed when their last descriptor is.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ._listeners import Listener
from ._queue import unix_depth

__all__ = ["Queue", "queue_of", "sum_depths"]

# sock_diag(7): a request for all listening sockets of TCP; of each comes a struct inet_diag_msg.
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST_DUMP: Final = 0x301
_LISTENING: Final = 1 << 10
_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBBxI48x")
_MESSAGE: Final = struct.Struct("=BBBB48xIIIII")  # ends with: when it expires, read queue, write queue, user, inode


@dataclass(frozen=True, slots=True)
class Queue:
    """A listener's queue: the family and the inode of its socket."""

    family: int
    inode: int


def queue_of(listener: Listener) -> Queue:
    """The queue of *listener*; in a process that has it."""
    return Queue(listener.socket.family, os.fstat(listener.fileno()).st_ino)


def sum_depths(queues: Iterable[Queue]) -> int | None:
    """How many connections wait in *queues* to be accepted; None where the kernel does not tell.

    Source: sock_diag(7); of a listening socket ``idiag_rqueue`` is that number.
    """
    if sys.platform != "linux":
        return None
    total = 0
    found: dict[int, dict[int, int]] = {}  # by family, inode
    try:
        for queue in queues:
            if queue.family == socket.AF_UNIX:
                depth = unix_depth(queue.inode)
            else:
                if queue.family not in found:
                    found[queue.family] = _list_tcp(queue.family)
                depth = found[queue.family].get(queue.inode)
            if depth is None:
                return None
            total += depth
    except OSError:
        return None
    return total


def _list_tcp(family: int) -> dict[int, int]:
    """The depth of each listening socket's queue, by its inode."""
    depths: dict[int, int] = {}
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _LISTENING)
    size = _HEADER.size + len(request)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(1)
        netlink.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0) + request)
        while _note(netlink.recv(1 << 16), depths):
            pass
    return depths


def _note(packet: bytes, depths: dict[int, int]) -> bool:
    """Take in a packet; whether there is another one."""
    at = 0
    while at + _HEADER.size <= len(packet):
        length, kind = _HEADER.unpack_from(packet, at)[:2]
        if kind != _SOCK_DIAG_BY_FAMILY:  # the end, or an error
            return False
        *_, queued, _, _, inode = _MESSAGE.unpack_from(packet, at + _HEADER.size)
        depths[inode] = queued
        at += (length + 3) & ~3
    return True
