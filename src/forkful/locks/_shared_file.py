"""`SharedFile` and `SharedJSON`: a file that many processes change, one after the other, and never half.

The lock is not on the file itself, which is another one after each change, but on one beside it: ``.a.txt.lock`` for
``a.txt``.  It is found from any spelling of the path, by every user and container that sees the directory, and by
``flock(1)``.  It stays where it is, and holds a random token, which is in the name of the file that will take the other's
place: ``.a.txt.TOKEN.new``.  Only who has the lock writes there, so what is found there was left by a writer that died.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from ..errors import DeadlockError, LockError, LockLost, LockTimeout
from . import _who
from ._json_text import Style, decode, encode
from ._lock import Lock, check_timeout
from ._replace import replace_file

_NAME_MOST = 180  # bytes of the file's name in the names of those beside it
_TOKEN = re.compile(rb"[0-9a-f]{32}\n")


class _Missing:
    def __repr__(self) -> str:
        return "(the file must exist)"

    def __reduce__(self) -> str:  # there is one of it, in every process
        return "MISSING"


MISSING: Final[Any] = _Missing()


class _Opened:
    """What a thread, or task, has of a file inside its ``with`` block."""

    def __init__(self, lock: Lock, path: str, guard: str) -> None:
        self.lock = lock
        self.path = path
        self.guard = guard  # the file that is locked
        self.value: Any = None
        self.before: bytes | None = None  # the document as it would have been written at the start
        self.style: Any = None  # what `_decode` wants to know again in `_encode`
        found = os.stat(guard)
        self._file = found.st_dev, found.st_ino

    def check(self) -> None:
        """Raises `LockLost` if others cannot see the lock any more."""
        try:
            found = os.stat(self.guard, follow_symlinks=False)
        except FileNotFoundError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._file:
            raise LockLost(
                f"{self.path} was not written: {self.guard}, by which it is locked, was removed or replaced, so that others "
                f"may have changed it too; leave that file where it is, and do it again",
                lock=self.guard,
                fence=self.lock.fence,
            )


class SharedFile:
    """A file that processes and threads change one after the other, each change whole or not at all.

    At the start of a ``with`` block the file is locked and read, and when the block ends without an exception, what has
    become of its content takes the file's place.  After an exception, or when the process dies in between, however it
    dies, the file is as it was.  A block that changes nothing writes nothing.

    ``as`` gives the content, and so does `value`, which may be set: the way to change what cannot be changed in place.
    Inside a block of one thread, all others wait: other threads, forked children, unrelated programs, and whoever has
    ``.NAME.lock`` beside the file, such as ``flock .NAME.lock command``.  Reading (`read`) waits for nobody.

    A symbolic link is followed: what it leads to is locked and replaced, and the link stays.  Of a file with several hard
    links, only the one that is named changes.  The directory must be writable; mode, owner and extended attributes
    are kept as far as this process may.  The object is a value: it pickles, and can be an argument of a `Pool`'s task.

    Args:
        path: the file.  A relative path starts from what is the working directory now.
        load: makes of the file's bytes what the block works on.  None: they stay bytes.
        dump: makes bytes of that again.  It is called at the start as well, to tell whether anything has changed.
        default: what the block starts with where there is no file; the file is made when the block ends.  A copy is
            used.  Without it, a missing file is a ``FileNotFoundError``.
        timeout: seconds to wait for the lock; None: as long as it takes.

    Raises (on entering the block):
        OSError: the file cannot be read or written, by its own class: ``FileNotFoundError``, ``PermissionError``, …
        LockError: it cannot be locked; `DeadlockError` where this thread has it open already; where ``timeout`` ran out,
            also a ``TimeoutError``.

    Raises (on leaving it):
        OSError: the file could not be written, as on a full disk.  It is as it was.
        TypeError: ``dump`` did not return bytes.
        LockLost: somebody has removed the lock's file meanwhile; nothing was written.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "names.txt")
    >>> names = SharedFile(path, load=bytes.split, dump=b" ".join, default=[])
    >>> with names as lines:
    ...     lines.append(b"Ada")
    >>> names.read()
    [b'Ada']
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        load: Callable[[bytes], Any] | None = None,
        dump: Callable[[Any], bytes] | None = None,
        default: Any = MISSING,
        timeout: float | None = None,
    ) -> None:
        spelled = os.fspath(path)
        if not isinstance(spelled, str) or not spelled:
            raise TypeError(f"a file is named by a str or a Path, not by {path!r}")
        if (load is None) != (dump is None):
            raise TypeError("load and dump belong together: give both, or neither to work on bytes")
        self._spelled = os.path.abspath(spelled)
        self._load = load
        self._dump = dump
        self._default = default
        self._timeout = check_timeout(timeout)
        self._opened: dict[int, _Opened] = {}  # by thread or task

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._spelled}>"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}  # what is held does not travel

    @property
    def value(self) -> Any:
        """The content, inside the block; what it is set to is written when the block ends.

        >>> import os, tempfile
        >>> number = SharedJSON(os.path.join(tempfile.mkdtemp(), "number.json"), default=1)
        >>> with number:
        ...     number.value += 1
        >>> number.read()
        2
        """
        return self._inside().value

    @value.setter
    def value(self, value: Any) -> None:
        self._inside().value = value

    def read(self) -> Any:
        """What the file holds, without waiting for anybody; it is whole, and may be old once you look at it.

        Raises:
            OSError, or what ``load`` raises.
        """
        path = os.path.realpath(self._spelled)
        raw = self._read(path)
        return copy.deepcopy(self._default) if raw is None else self._decode(raw, path)[0]

    def __enter__(self) -> Any:
        owner = _who.current()
        path = os.path.realpath(self._spelled)
        guard = _beside(path, "lock")
        _check_writable(path, may_be_missing=self._default is not MISSING)
        _make_guard(guard, path)
        lock = Lock(guard)
        if lock._door.holders and lock._door.owner == owner:
            raise DeadlockError(
                f"{path} is open in this thread already, in a `with` block around this one; use what that one gave",
                lock=guard,
                pids=(os.getpid(),),
            )
        if not lock.acquire(timeout=self._timeout):
            holder = lock.holder()
            who = "somebody" if holder is None else holder.describe()
            raise LockTimeout(f"{path} was not free within {self._timeout:g} s: {who} has it; wait longer", lock=guard)
        try:
            opened = _Opened(lock, path, guard)
            raw = self._read(path)
            if raw is None:
                opened.value = copy.deepcopy(self._default)
            else:
                opened.value, opened.style = self._decode(raw, path)
                opened.before = self._encode(opened.value, opened.style, path)
            self._opened[owner] = opened
        except BaseException:
            lock.release()
            raise
        return opened.value

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        opened = self._opened.pop(_who.current(), None)
        if opened is None:
            if kind is None:
                raise LockError(
                    f"{self._spelled} was not written: it is not this thread that has it open; a child that was forked "
                    f"inside the block must not end it",
                    lock=self._spelled,
                )
            return
        written = False
        try:
            if kind is None:
                self._write(opened)
                written = True
        finally:
            try:
                opened.lock.release()
            except LockLost:
                if written:  # else the error at hand says more
                    raise

    def _write(self, opened: _Opened) -> None:
        """Have what has become of the content take the file's place, if it has changed."""
        data = self._encode(opened.value, opened.style, opened.path)
        if data != opened.before:
            opened.check()
            fresh = _beside(opened.path, f"{_read_token(opened.guard)}.new")
            with contextlib.suppress(FileNotFoundError):  # which a writer that died has left
                os.unlink(fresh)
            replace_file(opened.path, data, fresh, opened.check)

    def _inside(self) -> _Opened:
        try:
            return self._opened[_who.current()]
        except KeyError:
            raise RuntimeError(
                f"{self._spelled}: there is a value only inside a `with` block, in the thread that entered it; "
                f"read() gives what the file holds"
            ) from None

    def _read(self, path: str) -> bytes | None:
        """The file's bytes; None if it is missing and need not be there."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except FileNotFoundError:
            if self._default is MISSING:
                raise _not_there(path) from None
            return None
        try:
            _check_kind(os.fstat(fd), path)
            with open(fd, "rb", buffering=0, closefd=False) as file:
                return file.readall()
        finally:
            os.close(fd)

    # What a format is: overridden by `SharedJSON`.

    def _decode(self, raw: bytes, path: str) -> tuple[Any, Any]:
        """The content, and what `_encode` is to be given with it."""
        return (raw if self._load is None else self._load(raw)), None

    def _encode(self, value: Any, style: Any, path: str) -> bytes:
        data = value if self._dump is None else self._dump(value)
        if not isinstance(data, bytes):
            what = "the value" if self._dump is None else "what dump returned"
            raise TypeError(f"{path} was left as it is: {what} is a {type(data).__name__}; it must be bytes")
        return data


class SharedJSON(SharedFile):
    """A JSON file that processes and threads change one after the other, each change whole or not at all.

    A `SharedFile` whose content is the JSON document, in UTF-8, written as it was before: with its indent, its separators
    and its last newline.  A number, a text or null is changed by way of `value`, and so is a document that is to be
    replaced by another.

    Args:
        path, default, timeout: as those of `SharedFile`.

    Raises (beside what `SharedFile` raises; the file is as it was):
        ValueError: it is not JSON in UTF-8 (mostly ``json.JSONDecodeError``); the message names the line and the column.
        TypeError: the block has put something into it that is not JSON; the message names the key.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "a.txt")
    >>> _ = path.write_text('{"count": 1}')
    >>> with SharedJSON(path) as doc:
    ...     doc["count"] -= 1
    >>> path.read_text()
    '{"count": 0}'
    """

    def __init__(self, path: str | os.PathLike[str], *, default: Any = MISSING, timeout: float | None = None) -> None:
        super().__init__(path, default=default, timeout=timeout)

    def _decode(self, raw: bytes, path: str) -> tuple[Any, Style]:
        return decode(raw, path)

    def _encode(self, value: Any, style: Style | None, path: str) -> bytes:
        return encode(value, style or Style(), path)


# The files beside the file.


def _beside(path: str, suffix: str) -> str:
    directory, name = os.path.split(path)
    raw = os.fsencode(name)
    if len(raw) > _NAME_MOST:
        name = hashlib.sha256(raw).hexdigest()[:32]
    return os.path.join(directory, f".{name}.{suffix}")


def _make_guard(guard: str, path: str) -> None:
    """Make the lock's file, for whoever may write the file itself; `Lock` says what is wrong if it cannot be made."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode) & 0o666 | 0o600
    except FileNotFoundError:
        mode = None
    with contextlib.suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(guard, flags, 0o666 if mode is None else mode)
        try:
            if mode is not None:
                os.fchmod(fd, mode)
        finally:
            os.close(fd)


def _read_token(guard: str) -> str:
    """The token in the lock's file, put there by the first who writes.  Only for who has the lock."""
    fd = os.open(guard, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        found = os.read(fd, 64)
    finally:
        os.close(fd)
    if _TOKEN.fullmatch(found):
        return found[:-1].decode()
    if found.strip(b"\0"):
        raise LockError(f"{guard} is not forkful's: it should hold a token only; move it away", lock=guard)
    token = secrets.token_hex(16)
    fd = os.open(guard, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if os.pwrite(fd, f"{token}\n".encode(), 0) != len(token) + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), guard)
        os.fsync(fd)  # before there is a file that only the token tells from others
    finally:
        os.close(fd)
    return token


# What must be so for a block to begin.


def _check_writable(path: str, *, may_be_missing: bool) -> None:
    """See to it that the file is one, and that this process might write it: to replace it is not to get round that."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        directory = os.path.dirname(path)
        if not os.path.isdir(directory):
            message = f"there is no directory {directory}; make it first"
            raise FileNotFoundError(errno.ENOENT, message, path) from None
        if not may_be_missing:
            raise _not_there(path) from None
        return
    _check_kind(found, path)
    if not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, "it may not be written; read() does not need to", path)


def _check_kind(found: os.stat_result, path: str) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a directory; name a file in it", path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "is not a regular file; name another one", path)


def _not_there(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "there is no such file; make it, or say default= to begin with", path)
