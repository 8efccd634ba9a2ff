"""`SharedFile` and `SharedJSON`: a file that many processes change, one after the other, and never half.

The lock is not on the file itself, which is another one after each change, but on one beside it: see `_guard.py`.
"""

from __future__ import annotations

import contextlib
import copy
import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from ..errors import DeadlockError, LockError, LockLost, LockTimeout
from . import _who
from ._guard import Guard
from ._json_text import Style, decode, encode
from ._lock import Lock, check_timeout
from ._replace import replace_file
from ._target import check_replaceable, not_there, read_file


class _Missing:
    def __repr__(self) -> str:
        return "(the file must exist)"

    def __reduce__(self) -> str:  # there is one of it, in every process
        return "MISSING"


MISSING: Final[Any] = _Missing()


class _Opened:
    """What a thread, or task, has of a file inside its ``with`` block."""

    def __init__(self, lock: Lock, guard: Guard) -> None:
        self.lock = lock
        self.guard = guard
        self.pid = os.getpid()
        self.value: Any = None
        self.known: os.stat_result | None = None  # of the file at the start
        self.before: bytes | None = None  # the document as it would have been written at the start
        self.style: Any = None  # what `_decode` wants to know again in `_encode`


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
        spelled = os.fspath(path) if isinstance(path, os.PathLike) else path
        if not isinstance(spelled, str):
            raise TypeError(f"a file is named by a str or a Path, not by {path!r}")
        if not spelled or "\0" in spelled:
            raise ValueError(f"a file's name must not be empty, nor hold a null character: {path!r}")
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
        found = self._read(path)
        return copy.deepcopy(self._default) if found is None else self._decode(found[0], path)[0]

    def __enter__(self) -> Any:
        owner = _who.current()
        opened = self._lock(owner)
        path = opened.guard.path
        try:
            found = self._read(path)
            if found is None:
                opened.value = copy.deepcopy(self._default)
            else:
                raw, opened.known = found
                opened.value, opened.style = self._decode(raw, path)
                opened.before = self._encode(opened.value, opened.style, path)
            self._opened[owner] = opened
        except BaseException:
            opened.lock.release()
            raise
        return opened.value

    def _lock(self, owner: int) -> _Opened:
        """Take the lock of the file that the path leads to, also at the end of the wait."""
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        path = os.path.realpath(self._spelled)
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            check_replaceable(path, may_be_missing=self._default is not MISSING)
            guard = Guard(path)
            lock = guard.lock()
            if lock._door.holders and lock._door.owner == owner:
                raise DeadlockError(
                    f"{path} is open in this thread already, in a `with` block around this one; use what that one gave",
                    lock=guard.file,
                    pids=(os.getpid(),),
                )
            if not guard.acquire(lock, left):
                holder = lock.holder()
                who = "somebody" if holder is None else holder.describe()
                message = f"{path} was not free within {self._timeout:g} s: {who} has it; wait longer"
                raise LockTimeout(message, lock=guard.file)
            now = os.path.realpath(self._spelled)
            if now == path:
                return _Opened(lock, guard)
            lock.release()  # a symbolic link leads elsewhere by now
            path = now

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        opened = self._take_out()
        if opened is None:
            if kind is None:
                raise LockError(
                    f"{self._spelled} was not written: this process does not have it open; a child that was forked "
                    f"inside the block must not end it",
                    lock=self._spelled,
                )
            return
        sure = False  # that it is written, or that another error tells why not
        try:
            sure = kind is not None or self._write(opened)
        except BaseException:
            sure = True
            raise
        finally:
            try:
                opened.lock.release()
            except LockLost:
                if not sure:
                    raise

    def _take_out(self) -> _Opened | None:
        """What this thread has open; or if it has nothing, what another one had that has left the block to it."""
        opened = self._opened.pop(_who.current(), None)
        if opened is None and len(self._opened) == 1:
            _, opened = self._opened.popitem()
        return opened if opened is not None and opened.pid == os.getpid() else None

    def _write(self, opened: _Opened) -> bool:
        """Have what has become of the content take the file's place, if it has changed; whether it has."""
        guard = opened.guard
        data = self._encode(opened.value, opened.style, guard.path)
        if data == opened.before:
            return False
        guard.check()
        fresh = guard.fresh()
        with contextlib.suppress(FileNotFoundError):  # which a writer that died has left
            os.unlink(fresh)
        replace_file(guard.path, data, fresh, guard.check, opened.known)
        return True

    def _inside(self) -> _Opened:
        try:
            return self._opened[_who.current()]
        except KeyError:
            raise RuntimeError(
                f"{self._spelled}: there is a value only inside a `with` block, in the thread that entered it; "
                f"read() gives what the file holds"
            ) from None

    def _read(self, path: str) -> tuple[bytes, os.stat_result] | None:
        """The file's bytes and attributes; None if it is missing and need not be there."""
        found = read_file(path)
        if found is None and self._default is MISSING:
            raise not_there(path)
        return found

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
