"""Listening sockets: opened for an `Address`, or adopted from whoever opened them, and closed.

They block: ``O_NONBLOCK`` would be a flag of the open file, which every process that inherited it shares.  Where threads wait for
several of them at once that is what is wanted; docs/decisions/0014-accept.md says why.

``TCP_DEFER_ACCEPT`` is left alone.  It would hide a client that says nothing from ``accept``, but also one that waits for the
server to speak first, and what it hides is in no queue: neither counted nor drained, and reset at the end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from typing import Final

from ..errors import ServerError
from ._address import Address
from ._unix import explain, identify, open_unix

BACKLOG: Final = 1024
"""Connections that may wait for a free thread, unless the caller says otherwise; Linux allows `backlog_limit`."""

_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
_SOMAXCONN: Final = "/proc/sys/net/core/somaxconn"


class Listener:
    """A listening socket, and what is to be taken away with it.

    Attributes:
        socket: blocking, not inheritable by programs that are started.
        address: where it listens: the port that port 0 became, of an adopted one what the kernel says.
        is_borrowed: somebody else has it too, and goes on with it: its queue is not ours to empty.
    """

    def __init__(
        self, sock: socket.socket, address: Address, *, has_file: bool = False, is_borrowed: bool = False
    ) -> None:
        self.socket = sock
        self.address = address
        self.is_borrowed = is_borrowed
        self._file = identify(address.path) if has_file else None
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"<Listener {self.address}>"

    def fileno(self) -> int:
        """Its descriptor; -1 when closed."""
        return self.socket.fileno()

    def take_over(self) -> None:
        """The calling process, which has inherited it, is the one that removes the file."""
        self._pid = os.getpid()

    def remove_file(self) -> bool:
        """Unlink the file of a Unix socket: from then on nobody can find it, and those who have connected are kept.

        Nothing is done, and False returned, if this process did not make it, or if something else is there by now.
        """
        identity, self._file = self._file, None
        if identity is None or os.getpid() != self._pid or identify(self.address.path) != identity:
            return False
        with contextlib.suppress(OSError):  # the folder may have been made read-only since
            os.unlink(self.address.path)
            return True
        return False

    def close(self, *, keep_file: bool = False) -> None:
        """Close it, and remove the file of a Unix socket that is still ours; with *keep_file*, somebody else listens on."""
        if not keep_file:
            self.remove_file()
        self.socket.close()


def open_listener(address: Address, *, backlog: int = BACKLOG, mode: int | None = None) -> Listener:
    """Listen at *address*.

    A Unix socket's file that nobody answers at, left by a server that was killed, is replaced.  *mode* is for that file, such
    as ``0o660``; None leaves it to the umask.  One of ``fd:N`` is adopted.

    Raises:
        ServerError: not possible; one line says why, and what to do.
    """
    if address.kind == "fd":
        return adopt_listener(address.fd)
    if address.kind == "unix":
        return Listener(open_unix(address, backlog, mode), address, has_file=not address.is_abstract)
    return _open_tcp(address, backlog)


def adopt_listener(fd: int, *, has_file: bool = False, name: str = "") -> Listener:
    """The listening socket that is open as descriptor *fd*, which is the listener's from then on.

    *has_file*: the file of a Unix socket is to be removed at the end, as if it was opened here.  *name* is for messages.

    Raises:
        ServerError: it is not a listening stream socket.
    """
    shown = f"descriptor {fd} ({name})" if name else f"descriptor {fd}"
    try:
        status = os.fstat(fd)
    except OSError:
        raise ServerError(f"{shown} is not open; whoever starts the server must pass it on") from None
    if not stat.S_ISSOCK(status.st_mode):
        raise ServerError(f"{shown} is not a socket; pass a listening socket, or an address to listen at")
    sock = socket.socket(fileno=fd)
    try:
        _check_adopted(sock, shown)
        os.set_inheritable(fd, False)
        sock.setblocking(True)
        address = _address_of(sock)
    except BaseException:
        sock.detach()  # it stays whose it was
        raise
    has_file = has_file and address.kind == "unix" and not address.is_abstract
    return Listener(sock, address, has_file=has_file, is_borrowed=True)


def backlog_limit() -> int | None:
    """How many connections the kernel lets wait, whatever a program asks for; None where it does not say.

    Source: ``net.core.somaxconn``, listen(2).
    """
    try:
        with open(_SOMAXCONN, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _check_adopted(sock: socket.socket, shown: str) -> None:
    if sock.family not in _FAMILIES or sock.type != socket.SOCK_STREAM:
        raise ServerError(f"{shown} is not a stream socket; pass one of TCP or a Unix stream socket")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ServerError(f"{shown} does not listen; pass a listening socket (with systemd: Accept=no)")


def _address_of(sock: socket.socket) -> Address:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        if isinstance(name, bytes):  # in the abstract namespace
            return Address("unix", path="@" + name[1:].decode("utf-8", "surrogateescape"))
        return Address("unix", path=name)
    host, port = name[:2]
    if host == "::" and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        host = ""
    return Address("tcp", host=host, port=port)


# --- TCP --------------------------------------------------------------------------------------------------------------


def _open_tcp(address: Address, backlog: int) -> Listener:
    family, where = _resolve(address)
    dual = not address.host and family == socket.AF_INET6
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(None)  # whatever socket.setdefaulttimeout says
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
            sock.bind(where)
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise ServerError(_explain_tcp(address, error)) from error
    return Listener(sock, Address("tcp", host=address.host, port=sock.getsockname()[1]))


def _resolve(address: Address) -> tuple[int, tuple[object, ...]]:
    if not address.host:
        return (socket.AF_INET6, ("::", address.port)) if _has_ipv6() else (socket.AF_INET, ("0.0.0.0", address.port))  # noqa: S104  # that is what was asked for
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ServerError(
            f"cannot listen at {address}: there is no host {address.host!r}; write an address of this machine, or :{address.port} for all"
        ) from error
    family, _, _, _, where = min(
        found, key=lambda each: each[0] != socket.AF_INET
    )  # the first IPv4 one, else the first
    return family, where


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::", 0))
    except OSError:
        return False
    return True


def _explain_tcp(address: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"cannot listen at {address}: it is taken; stop the program that listens there "
            f"(ss -ltnp 'sport = :{address.port}' names it), or choose another port"
        )
    if error.errno == errno.EACCES:
        return (
            f"cannot listen at {address}: ports below 1024 need a permission that this user has not; "
            "choose a higher one, or let systemd open it"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"cannot listen at {address}: that is not an address of this machine; "
            f"`ip address` lists them, and :{address.port} means all"
        )
    if error.errno == errno.EAFNOSUPPORT:
        return (
            f"cannot listen at {address}: this machine has no IPv6; write an IPv4 address, or :{address.port} for all"
        )
    return explain(address, error)
