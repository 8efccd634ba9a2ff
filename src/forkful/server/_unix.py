"""Unix sockets as files: made where nobody answers, told from those that take their place."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator

from ..errors import ServerError
from ._address import Address


def identify(path: str) -> tuple[int, int, int] | None:
    """What tells a file from one that takes its place; an inode's number alone is used again at once."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def open_unix(address: Address, backlog: int, mode: int | None) -> socket.socket:
    """A socket that listens at *address*; its file, if it has one, replaces one that nobody answers at.

    Raises:
        ServerError: not possible.
    """
    if address.is_abstract:
        with _made(address) as sock:
            sock.bind("\0" + address.path[1:])
            sock.listen(backlog)
        return sock
    with _made(address) as sock, _alone_in(os.path.dirname(address.path)):
        _clear(address)
        if mode is not None:
            with contextlib.suppress(OSError):  # never more than asked for, from the first moment on: Linux only
                os.fchmod(sock.fileno(), mode)
        sock.bind(address.path)
        try:
            if mode is not None:
                os.chmod(address.path, mode)  # what the umask took
            sock.listen(backlog)
        except BaseException:
            os.unlink(address.path)  # nobody has replaced it: they wait for this folder
            raise
    return sock


@contextlib.contextmanager
def _made(address: Address) -> Iterator[socket.socket]:
    """A socket for *address*, closed if what is done with it fails; what the kernel refuses is explained."""
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(None)
            yield sock
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise ServerError(_explain_unix(address, error)) from error


@contextlib.contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """No other forkful opens a socket in *folder* meanwhile.

    Between its bind and its listen a socket cannot be told from one that was left behind, and must not be replaced.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _clear(address: Address) -> None:
    """Remove a socket file that nobody answers at; refuse anything else that is there."""
    try:
        status = os.lstat(address.path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ServerError(
            f"cannot listen at {address}: there is something else than a socket; remove it, or choose another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full queue is an answer, too
        refusal = probe.connect_ex(address.path)
    if refusal == errno.ECONNREFUSED:
        os.unlink(address.path)
    elif refusal == errno.EPROTOTYPE:
        raise ServerError(f"cannot listen at {address}: there is a socket of another kind; choose another path")
    elif refusal in {errno.EACCES, errno.EPERM}:
        raise ServerError(
            f"cannot listen at {address}: the socket there is another user's; remove it, or choose another path"
        )
    elif refusal != errno.ENOENT:
        raise ServerError(f"cannot listen at {address}: another program answers there; stop it, or choose another path")


def _explain_unix(address: Address, error: OSError) -> str:
    folder = os.path.dirname(address.path)
    if error.errno == errno.ENOENT:
        return f"cannot listen at {address}: there is no folder {folder}; make it first"
    if error.errno == errno.ENOTDIR:
        return f"cannot listen at {address}: {folder} is not a folder; choose another path"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"cannot listen at {address}: no permission to make a file in {folder}; choose another folder"
    if error.errno == errno.EADDRINUSE:
        return f"cannot listen at {address}: another program answers there; stop it, or choose another name"
    return explain(address, error)


def explain(address: Address, error: OSError) -> str:
    """What there is to say about *error* wherever *address* is."""
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return f"cannot listen at {address}: no descriptor is left; raise the limit of open files (ulimit -n)"
    return f"cannot listen at {address}: {error.strerror or error}; choose another address"
