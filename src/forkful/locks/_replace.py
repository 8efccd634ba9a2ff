"""A file that is replaced as a whole: whoever reads it, and whenever its writer dies, finds the old content or the new."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable

_NOT_FOR_DIRECTORIES = {errno.EINVAL, errno.ENOTSUP, errno.EROFS}  # what file systems say that cannot fsync one


def replace_file(path: str, data: bytes, fresh: str, check: Callable[[], None]) -> None:
    """Have the file at *path* hold *data*, now or not at all, and after a loss of power too.

    Mode, owner and extended attributes are those of the file that was there, as far as this process may give them.

    Args:
        path: the file itself, not a symbolic link to it.
        fresh: what the new file is called until it takes the other's place: in the same directory, and nobody else's.
        check: called just before that; raises if it must not happen.

    Raises:
        OSError: it could not be written.  The file is as it was, and nothing is left at *fresh*.
    """
    try:
        _write(fresh, data, like=path)
        check()
        os.replace(fresh, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        if isinstance(error, OSError):
            raise OSError(error.errno, f"{error.strerror}; the file is as it was", path) from error
        raise
    _sync_directory(os.path.dirname(path))


def _write(fresh: str, data: bytes, *, like: str) -> None:
    try:
        old = os.stat(like)
    except FileNotFoundError:
        old = None
    # Until it has its owner and mode, it is nobody else's to read.
    fd = os.open(
        fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666 if old is None else 0o600
    )
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        if old is not None:
            _keep_attributes(fd, old, like)
        os.fsync(fd)
    finally:
        os.close(fd)


def _keep_attributes(fd: int, old: os.stat_result, like: str) -> None:
    """Owner before mode, because a new owner takes away what lets a program run as its owner."""
    new = os.fstat(fd)
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        try:
            os.fchown(fd, old.st_uid, old.st_gid)
        except OSError:  # only root gives files away; a group one is in, anybody may
            with contextlib.suppress(OSError):
                os.fchown(fd, -1, old.st_gid)
    os.fchmod(fd, stat.S_IMODE(old.st_mode))
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):  # there are none here, or some are not ours to set
            for name in os.listxattr(like):
                with contextlib.suppress(OSError):
                    os.setxattr(fd, name, os.getxattr(like, name))


def _sync_directory(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NOT_FOR_DIRECTORIES:
            raise
    finally:
        os.close(fd)
