"""The record of a lock: one page of shared memory that says who holds it, how often it was held, and who waits.

It never decides who holds the lock: the kernel does.  Everything is written by whoever holds what guards it, so that no
reader can be misled for longer than that takes:

- ``FENCE``, ``PID`` … ``SINCE``: by the exclusive holder, between taking the kernel's lock and giving it back.
  ``PID`` is cleared just before it is given back: who finds it set upon taking the lock knows that the last owner died.
- ``HEIR``: by whoever holds the kernel's *turnstile* (see ``_file.py``).
- ``MAKER``, ``MAKER_START``: by the process that has made an anonymous lock.
- ``GENERATION``: of a path's lock: which of all files that have had its inode this is about.  By who has the record's own lock.
- ``SHARED``: 1 from the first reader on, by any of them.
- The waiters' table: under a kernel lock of its own, `TABLE` in ``_file.py``.

Layout: 64-bit words; the lock's name, as text for whoever lists locks; the table, four words for each waiter.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Callable
from typing import NamedTuple

from ..errors import LockError
from ._folder import VARIABLE, refuse

FENCE, PID, START, OWNER, SINCE, HEIR, NAME_LENGTH, MAKER, MAKER_START, SHARED = range(10)
SIZE = 4096
_NAME_AT, _NAME_MOST = 10 * 8, 424
GENERATION = 63  # behind the name: where the words before it are is what other versions of forkful know
_TABLE_AT = 64  # words
_ENTRY = 4  # words
ROOM = (SIZE // 8 - _TABLE_AT) // _ENTRY  # waiters that are shown


def _allocate(fd: int) -> None:
    """Have the page on the disk: a hole could not be filled on a full one, and writing there would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, SIZE)
    else:
        os.ftruncate(fd, SIZE)


class Entry(NamedTuple):
    """A thread or task that holds or awaits a lock."""

    pid: int
    start: int  # when the process began, in the kernel's ticks: with the pid, it names one process for ever
    owner: int  # which thread or task: see `_who.current`
    since: int  # nanoseconds of ``time.time_ns``


class Record:
    """A view of the page in the file behind *fd*, which stays the caller's to close."""

    def __init__(self, fd: int, name: str) -> None:
        if os.fstat(fd).st_size < SIZE:
            _allocate(fd)
        self._map = mmap.mmap(fd, SIZE)
        self.words = memoryview(self._map).cast("q")
        if not self.words[NAME_LENGTH] and name:  # whoever comes at the same time writes the same
            self._write_name(_encode(name))

    def _write_name(self, text: bytes) -> None:
        self._map[_NAME_AT : _NAME_AT + len(text)] = text
        self.words[NAME_LENGTH] = len(text)

    def name(self) -> str:
        """The lock's name or path, or what there was room for; empty for one that has none."""
        return self._read_name().decode("utf-8", "surrogateescape")

    def _read_name(self) -> bytes:
        length = min(self.words[NAME_LENGTH], _NAME_MOST)
        return self._map[_NAME_AT : _NAME_AT + length]

    def tell_of(self, fd: int, path: str, generation: int, leads_there: Callable[[str], bool]) -> None:
        """See to it that this is about the file at *path*, and not about one that had its inode before, and has gone.

        Where the file system does not tell those apart, it is another one if the path on record does not lead to it: a
        file with two hard links is one file.

        Args:
            fd: what the record is in: only one process at a time is to look.
            generation: what the file system tells; else 0.
            leads_there: whether a path leads to the file.
        """
        name = _encode(path)
        if self.words[GENERATION] == generation and self._read_name() == name:
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until the caller closes it
        except BlockingIOError:  # somebody else is at it
            return
        is_other = self.words[GENERATION] != generation
        if is_other or not leads_there(self.name()):
            if is_other or not generation:
                for word in (*range(NAME_LENGTH), SHARED, *range(_TABLE_AT, SIZE // 8)):
                    self.words[word] = 0
            self._write_name(name)
            self.words[GENERATION] = generation

    def holder(self) -> Entry | None:
        """Who has noted that it holds the lock, and not that it has given it back; it may have died since."""
        pid, start, owner, since = self.words[PID : SINCE + 1].tolist()
        return Entry(pid, start, owner, since) if pid else None

    # The table.  Whoever writes holds its lock.

    def entries(self) -> list[tuple[int, Entry]]:
        """Who is in the table, and where; some may have died since."""
        numbers = self.words[_TABLE_AT:].tolist()
        entries = (Entry(*numbers[at : at + _ENTRY]) for at in range(0, ROOM * _ENTRY, _ENTRY))
        return [(at, entry) for at, entry in enumerate(entries) if entry.pid]

    def waiters(self) -> list[Entry]:
        """Who has noted that it waits; some may have died since."""
        return [entry for _, entry in self.entries()]

    def add_waiter(self, entry: Entry, is_alive: Callable[[int, int], bool]) -> int | None:
        """Note a waiter; where, for `remove_waiter`.  Without room it is not shown: None."""
        words = self.words
        pids = words[_TABLE_AT::_ENTRY].tolist()
        if 0 in pids:
            position: int | None = pids.index(0)
        else:  # those who died while they waited have left their places taken
            starts = words[_TABLE_AT + 1 :: _ENTRY].tolist()
            dead = (at for at, one in enumerate(zip(pids, starts, strict=True)) if not is_alive(*one))
            position = next(dead, None)
        if position is not None:
            at = _TABLE_AT + position * _ENTRY
            words[at + 1], words[at + 2], words[at + 3] = entry[1:]
            words[at] = entry.pid
        return position

    def remove_waiter(self, position: int) -> None:
        """It waits no more."""
        self.words[_TABLE_AT + position * _ENTRY] = 0

    def close(self) -> None:
        """Let go of the page."""
        self.words.release()
        self._map.close()


def record_name(file: tuple[int, int]) -> str:
    """What the record of a path's lock is called; *file* is device and inode."""
    return f"path-{file[0]:x}-{file[1]:x}.lock"


def recorded_file(name: str) -> tuple[int, int] | None:
    """The file whose record is called *name*; None if it is another lock's."""
    kind, *numbers = name.removesuffix(".lock").split("-")
    try:
        device, inode = (int(number, 16) for number in numbers)
    except ValueError:
        return None
    return (device, inode) if kind == "path" else None


def _encode(name: str) -> bytes:
    """As much of *name* as there is room for; what is not UTF-8 in a command's arguments stays as it was there."""
    try:
        text = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        text = name.encode("utf-8", "replace")
    if len(text) > _NAME_MOST:
        end = _NAME_MOST
        while text[end] & 0xC0 == 0x80:  # in the middle of a letter
            end -= 1
        text = text[:end]
    return text


def is_cut(name: str) -> bool:
    """Whether there may have been no room for all of what is on record as *name*."""
    return len(_encode(name)) > _NAME_MOST - 4


def open_record(fd: int, path: str, name: str) -> Record:
    """The record in the file behind *fd*, which is at *path*.

    Raises:
        LockError: there is no room for it; the message says what to do.
    """
    try:
        return Record(fd, name)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):  # it is mapped by a descriptor of its own
            raise refuse(path, error) from error
        raise LockError(
            f"the record of a lock, {path}, cannot be written ({error.strerror}); make room there, raise the limit, or set "
            f"{VARIABLE} to another folder",
            lock=name,
        ) from error
