"""The file beside a file by which that is locked: ``.a.txt.lock`` for ``a.txt``.

It is found from any spelling of the path, by every user and container that sees the directory, and by ``flock(1)``.  It is
empty and stays where it is, for whoever may use the file itself: as long as it is empty, and its own, a process that may
change its owner, group and mode has them follow the file's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat

from ..errors import LockError, LockLost
from ._file import FileLock
from ._lock import Lock
from ._replace import keep_attributes

_NAME_MOST = 180  # bytes of the file's name in the names of those beside it
_OPEN_TO = 0o666  # what of the file's mode is its guard's too; it is never run


class Guard:
    """The guard of the file at *path*, made if need be."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.file = _beside(path, "lock")
        self._identity = 0, 0
        _make(self.file, path)

    def lock(self) -> Lock:
        """The lock that it is, not held yet."""
        return Lock(self.file)

    def acquire(self, lock: Lock, timeout: float | None) -> bool:
        """Take *lock*; whether it was had within *timeout* seconds.

        Raises:
            LockError: the guard cannot be opened; the message says what to do.
        """
        try:
            had = lock.acquire(timeout=timeout)
        except LockError as error:
            if not isinstance(error.__cause__, PermissionError) or not os.path.lexists(self.file):
                raise
            raise LockError(
                f"{self.path} cannot be locked: permission for {self.file} is denied; have its owner use the file once more, "
                f"so that the lock gets the file's group and mode, or remove the lock while nobody uses the file",
                lock=self.file,
            ) from error.__cause__
        mechanism = lock._door.mechanism
        assert isinstance(mechanism, FileLock)
        self._identity = mechanism.file
        return had

    def check(self) -> None:
        """Raise if others cannot see the lock any more.

        Raises:
            LockLost: the message says that the file was not written.
        """
        try:
            found = os.stat(self.file, follow_symlinks=False)
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._identity:
            raise LockLost(
                f"{self.path} was not written: {self.file}, by which it is locked, was removed or replaced, so that others "
                f"may have changed it too; leave that file where it is, and do it again",
                lock=self.file,
            )

    def fresh(self) -> str:
        """Where the new content is written until it takes the file's place, by who has the lock.

        What is found there was left by a writer that died.  The guard's inode is in the name: while one that has lost its
        guard goes on, the guard it had is still open, and nobody else's has that number.
        """
        return _beside(self.path, f"{self._identity[1]:x}.new")


def _beside(path: str, suffix: str) -> str:
    directory, name = os.path.split(path)
    raw = os.fsencode(name)
    if len(raw) > _NAME_MOST:
        name = hashlib.sha256(raw).hexdigest()[:32]
    return os.path.join(directory, f".{name}.{suffix}")


def _make(guard: str, path: str) -> None:
    """Make the guard, or have it follow the file; `Lock` says what is wrong if it cannot be made."""
    try:
        like = os.stat(path)
    except FileNotFoundError:
        like = None
    with contextlib.suppress(OSError):
        try:
            found = os.stat(guard, follow_symlinks=False)
        except FileNotFoundError:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(guard, flags, 0o666 if like is None else _mode_for(like))
        else:
            if like is None or _follows(found, like):
                return
            fd = os.open(guard, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            found = os.fstat(fd)
            # What holds something, or has another name too, is not just a guard: who put it here may mean to have it opened.
            if like is not None and stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and not found.st_size:
                keep_attributes(fd, like, path, mode=_mode_for(like) | stat.S_IMODE(found.st_mode) & _OPEN_TO)
        finally:
            os.close(fd)


def _mode_for(like: os.stat_result) -> int:
    return like.st_mode & _OPEN_TO | 0o600


def _follows(found: os.stat_result, like: os.stat_result) -> bool:
    """Whether this process can leave a guard as it is: it need not be changed, or cannot be."""
    user = os.geteuid()
    if user not in (0, found.st_uid):
        return True
    same_owner = found.st_uid == like.st_uid or user != 0
    return same_owner and found.st_gid == like.st_gid and not _mode_for(like) & ~found.st_mode
