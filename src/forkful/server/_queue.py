"""The queue of a listener, in the kernel: how long it is, and how to let it run empty."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from typing import Final

from ._listeners import Listener

_LINUX: Final = sys.platform == "linux"

_UNACKED: Final = (
    24  # where tcpi_unacked is in struct tcp_info: of a listener, the connections that nobody has accepted
)

# sock_diag(7).  A request is struct nlmsghdr and struct unix_diag_req; the answer, nlmsghdr, unix_diag_msg and attributes.
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_UDIAG_SHOW_RQLEN: Final = 0x10
_UNIX_DIAG_RQLEN: Final = 4
_ANY: Final = 0xFFFFFFFF
_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBHIIIII")
_ATTRIBUTES: Final = _HEADER.size + 16
_ATTRIBUTE: Final = struct.Struct("=HH")

# A filter of the kernel (socket(7), SO_ATTACH_FILTER) for the packets that reach a listener: the byte of the flags; of them
# SYN and ACK; SYN alone, a new client, is dropped; all others pass, among them the last packet of a handshake under way.
_NO_NEW_CLIENT: Final = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, _ANY))
_SO_ATTACH_FILTER: Final = 26


def queue_depth(listener: Listener) -> int | None:
    """How many connections wait to be accepted; None where the kernel does not tell.

    Source: tcp(7), ``TCP_INFO``; sock_diag(7), ``UNIX_DIAG_RQLEN``.
    """
    if not _LINUX:
        return None
    try:
        if listener.socket.family == socket.AF_UNIX:
            return _unix_depth(listener.fileno())
        info = listener.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED + 4)
    except OSError:
        return None
    return int(struct.unpack_from("=I", info, _UNACKED)[0])


def shrink(listener: Listener) -> bool:
    """Let nobody else into the queue, for all processes that share the listener; whoever is in it stays, to be accepted.

    For the last processes that listen there; they may then accept until the queue is empty, and close.  There is no way back.

    - TCP: a new client hears nothing, and tries again after a second, when it is refused, or gets a successor.  Clients whose
      handshake is under way still come in.
    - A Unix socket with a file of ours: the file goes, and a new client finds nothing.
    - Else the queue's length becomes 0, which lets *one* in whenever it is empty.

    Returns:
        Whether really nobody can come in: not so in the last case.
    """
    if listener.socket.family == socket.AF_UNIX:
        if listener.remove_file():
            return True
    elif _LINUX and _drop_new(listener.socket):
        return True
    listener.socket.listen(0)
    return False


def _drop_new(sock: socket.socket) -> bool:
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in _NO_NEW_CLIENT))
    try:
        program = struct.pack("HP", len(_NO_NEW_CLIENT), ctypes.addressof(code))
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError:  # a kernel that is not quite Linux
        return False
    return True


def _unix_depth(fd: int) -> int | None:
    inode = os.fstat(fd).st_ino
    request = _REQUEST.pack(socket.AF_UNIX, 0, 0, _ANY, inode, _UDIAG_SHOW_RQLEN, _ANY, _ANY)
    size = _HEADER.size + len(request)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(1)
        netlink.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + request)
        answer = netlink.recv(4096)
    if _HEADER.unpack_from(answer)[1] != _SOCK_DIAG_BY_FAMILY:  # an error
        return None
    at = _ATTRIBUTES
    while at + _ATTRIBUTE.size <= len(answer):
        length, kind = _ATTRIBUTE.unpack_from(answer, at)
        if kind == _UNIX_DIAG_RQLEN:
            return int(struct.unpack_from("=I", answer, at + _ATTRIBUTE.size)[0])
        at += max((length + 3) & ~3, _ATTRIBUTE.size)
    return None
