"""The file that is to be read and replaced: what must be so, and how its user is told that it is not."""

from __future__ import annotations

import errno
import os
import stat

_EFFECTIVE = os.access in os.supports_effective_ids


def read_file(path: str) -> tuple[bytes, os.stat_result] | None:
    """What the file at *path* holds, and its attributes; None if there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(fd)
        _check_kind(found, path)
        with open(fd, "rb", buffering=0, closefd=False) as file:
            return file.readall(), found
    finally:
        os.close(fd)


def check_replaceable(path: str, *, may_be_missing: bool) -> None:
    """See to it that the file is one, and that this process may write and replace it.

    That it may be replaced is not enough: to replace a file that may not be written would be a way round that.

    Raises:
        OSError: by its own class; the message says what to do.
    """
    directory = os.path.dirname(path)
    try:
        found: os.stat_result | None = os.stat(path)
    except FileNotFoundError:
        if not os.path.isdir(directory):
            message = f"there is no directory {directory}; make it first"
            raise FileNotFoundError(errno.ENOENT, message, path) from None
        if not may_be_missing:
            raise not_there(path) from None
        found = None
    if found is not None:
        _check_kind(found, path)
        if not os.access(path, os.W_OK, effective_ids=_EFFECTIVE):
            raise PermissionError(errno.EACCES, "it may not be written; read() does not need to", path)
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=_EFFECTIVE):
        message = "its directory may not be written, where its new content begins; read() does not need to"
        raise PermissionError(errno.EACCES, message, path)
    where = os.stat(directory)
    if found is not None and where.st_mode & stat.S_ISVTX and os.geteuid() not in (0, where.st_uid, found.st_uid):
        message = (
            "it is somebody else's, and its directory is sticky, so it may not be replaced; move it to another one"
        )
        raise PermissionError(errno.EPERM, message, path)


def _check_kind(found: os.stat_result, path: str) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a directory; name a file in it", path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "is not a regular file; name another one", path)


def not_there(path: str) -> FileNotFoundError:
    """The error where there is no file, and there should be one."""
    return FileNotFoundError(errno.ENOENT, "there is no such file; make it, or say default= to begin with", path)
