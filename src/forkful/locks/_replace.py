"""A file that is replaced as a whole: whoever reads it, and whenever its writer dies, finds the old content or the new."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable

_ACL = "system.posix_acl_access"


def replace_file(
    path: str, data: bytes, fresh: str, check: Callable[[], None], known: os.stat_result | None = None
) -> None:
    """Have the file at *path* hold *data*, now or not at all, and after a loss of power too.

    Mode, owner and extended attributes are those of the file that was there, as far as this process may give them.

    Args:
        path: the file itself, not a symbolic link to it.
        fresh: what the new file is called until it takes the other's place: in the same directory, and nobody else's.
        check: called just before that; raises if it must not happen.
        known: the attributes of the file, in case it has been removed.

    Raises:
        OSError: it could not be written.  The file is as it was, and nothing is left at *fresh*.
    """
    try:
        directory = _open_directory(os.path.dirname(path))
    except OSError as error:
        raise _unchanged(error, path) from error
    try:
        try:
            _write(fresh, data, path, known)
            check()
            os.replace(fresh, path)
        except BaseException as error:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)
            if isinstance(error, OSError):
                raise _unchanged(error, path) from error
            raise
        # It is done.  Whoever was told of an error now would do it again.
        if directory is not None:
            with contextlib.suppress(OSError):
                os.fsync(directory)
    finally:
        if directory is not None:
            with contextlib.suppress(OSError):
                os.close(directory)


def _unchanged(error: OSError, path: str) -> OSError:
    return OSError(error.errno, f"{error.strerror}; the file is as it was", path)


def _open_directory(directory: str) -> int | None:
    try:
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # it may be written, but not read: who gets so little cannot have it synced
        return None


def _write(fresh: str, data: bytes, like: str, known: os.stat_result | None) -> None:
    try:
        old: os.stat_result | None = os.stat(like)
    except FileNotFoundError:
        old = known
    # Until it has its owner and mode, it is nobody else's to read.
    fd = os.open(
        fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666 if old is None else 0o600
    )
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        if old is not None:
            keep_attributes(fd, old, like, mode=stat.S_IMODE(old.st_mode))
        os.fsync(fd)
    finally:
        os.close(fd)


def keep_attributes(fd: int, old: os.stat_result, like: str, *, mode: int) -> None:
    """Give the file behind *fd* the owner and the extended attributes of the one at *like*, and this *mode*.

    Owner before mode, because a new owner takes away what lets a program run as its owner.  Access lists before it too:
    what a directory gives to new files would be in force from the mode on.
    """
    new = os.fstat(fd)
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        try:
            os.fchown(fd, old.st_uid, old.st_gid)
        except OSError:  # only root gives files away; a group one is in, anybody may
            with contextlib.suppress(OSError):
                os.fchown(fd, -1, old.st_gid)
    if hasattr(os, "listxattr"):
        if _ACL in _list_attributes(fd):
            os.removexattr(fd, _ACL)
        for name in _list_attributes(like):
            with contextlib.suppress(OSError):  # it is not ours to set
                os.setxattr(fd, name, os.getxattr(like, name))
    os.fchmod(fd, mode)


def _list_attributes(file: int | str) -> list[str]:
    try:
        return os.listxattr(file)
    except OSError:  # there are none here
        return []
