"""A lock in the kernel: ``flock(2)`` on a file that stays open.  See README.md for the protocol.

An instance belongs to one process and is used by one thread at a time, which `_door.Door` sees to.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import threading
import time
from fcntl import flock
from os import fstat
from typing import Final

from .._core.forks import without_forks
from ..errors import LockLost
from . import _who
from ._anonymous import Making, note_maker, sweep
from ._deadlock import (
    LOOK_S,
    Node,
    Survey,
    confirm_circle,
    explain_circle,
    find_circle,
    read_holder,
    survey_folder,
    turn_of,
)
from ._folder import generation_of, identify, leads_to, open_file, prepare
from ._kernel import find_holder
from ._place import ANONYMOUS, PATH, Place
from ._record import FENCE, HEIR, OWNER, PID, SHARED, SINCE, START, Entry, Record, open_record, record_name

# Byte ranges for ``fcntl`` locks of an open file description: far beyond what the file holds, and nothing to do with flock.
_TURNSTILE: Final = 1 << 40
TABLE: Final = _TURNSTILE + 1

_TRUSTED_NS = 1_000_000  # so long a path that led to our file is taken to lead there still
_FENCE_MOST = 1 << 62  # what is greater was never ours
_EXCLUSIVE_NOW = fcntl.LOCK_EX | fcntl.LOCK_NB
_SHARED_NOW = fcntl.LOCK_SH | fcntl.LOCK_NB
_LOCK_UN = fcntl.LOCK_UN

_clock = time.monotonic_ns
_since_epoch = time.time_ns

_SET = getattr(fcntl, "F_OFD_SETLK", None)  # None: not Linux; then there is neither turnstile nor table
_SET_AND_WAIT = getattr(fcntl, "F_OFD_SETLKW", None)


def _range_lock(fd: int, byte: int, *, wait: bool) -> bool:
    """Take the kernel's lock on *byte* of the open file behind *fd*; whether it was free."""
    command = _SET_AND_WAIT if wait else _SET
    if command is None:
        return False
    try:
        fcntl.fcntl(fd, command, _pack(fcntl.F_WRLCK, byte))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EBADF):  # the last: it is open for reading only
            return False
        raise
    return True


def _range_unlock(fd: int, byte: int) -> None:
    if _SET is not None:
        fcntl.fcntl(fd, _SET, _pack(fcntl.F_UNLCK, byte))


def _pack(kind: int, byte: int) -> bytes:
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, byte, 1, 0)


def _remove_quietly(path: str) -> None:
    with contextlib.suppress(OSError):  # it has gone, or cannot be: it is an empty page
        os.unlink(path)


class FileLock:
    """The lock at *place*, as one process has it; its file is opened when it is first needed."""

    is_patient = True  # the kernel takes two requests by one open file for one

    def __init__(self, place: Place, *, create: bool = True) -> None:
        self.place = place
        self.fence: int | None = None  # of the newest acquisition by this process
        self.recovered: bool | None = False  # the owner before that died while it held the lock
        self._create = create
        self._fd = -1
        self._record: Record | None = None
        self.file: tuple[int, int] = (0, 0)  # device and inode of what `_fd` is open on
        self._noted = False  # that this process holds it
        self._alone = False  # and nobody beside it
        self._compared = 0  # when the file's path was last found to lead to `_file`
        self._changing = threading.RLock()  # held where the file is opened or closed, and by those who only look
        prepare(place.folder)
        self._path = place.text if place.kind == PATH else os.path.join(place.folder, place.file_name("lock"))

    def make(self) -> Making:
        """This process is the one that makes an anonymous lock: do so; what takes it away again."""
        sweep(self.place.folder, ".lock")
        record = self._open()
        note_maker(record)
        path = self._path
        return Making(self, lambda: _remove_quietly(path))

    # What a door asks for.

    def is_wanted(self) -> bool:
        """Whether a waiter of another process is the next to have it, so that nobody should go before."""
        return self._record is not None and self._is_heir_able(self._record)

    def take_now(self, owner: int, *, shared: bool = False) -> bool:
        """Take it for *owner* if it is free, and nobody is to go before."""
        while True:
            record = self._record or self._open()
            if record.words[HEIR] and self._is_heir_able(record):
                return False
            try:
                flock(self._fd, _SHARED_NOW if shared else _EXCLUSIVE_NOW)
            except BlockingIOError:
                return False
            if self._is_there():
                self.note(owner, shared=shared)
                return True
            self._reopen()

    def take(self, *, shared: bool = False) -> None:
        """Wait in the kernel until it is had.  `note` must follow or, whatever is raised, `give_back`."""
        self._wait(self._open(), shared=shared)
        while not self._is_there():
            self._wait(self._reopen(), shared=shared)

    def _wait(self, record: Record, *, shared: bool) -> None:
        """Wait in line."""
        if shared:
            record.words[SHARED] = 1
        heir = _range_lock(self._fd, _TURNSTILE, wait=False)
        if not heir:  # there is one, who is the next: it may be about to take what is free at this moment
            try:
                flock(self._fd, _SHARED_NOW if shared else _EXCLUSIVE_NOW)
            except BlockingIOError:  # it is held: wait beside the heir
                # But where there are readers, no writer gets through who is not the heir, for whom they stand back.
                if not shared and record.words[SHARED] and (not record.words[HEIR] or self._is_heir_able(record)):
                    heir = _range_lock(self._fd, _TURNSTILE, wait=True)
            else:
                if not self._is_heir_able(record):
                    return
                flock(self._fd, _LOCK_UN)
                heir = _range_lock(self._fd, _TURNSTILE, wait=True)
        try:
            if heir:
                record.words[HEIR] = os.getpid()
            flock(self._fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        finally:
            if heir:
                self.renounce()
                _range_unlock(self._fd, _TURNSTILE)

    def renounce(self) -> None:
        """Who waited here does so no more, whatever a thread of ours still does: nobody is to give way to it."""
        record = self._record
        if record is not None and record.words[HEIR] == _who.this_process()[0]:
            record.words[HEIR] = 0

    def give_back(self) -> None:
        """Let others have it.  Harmless when it is not held, and when called again after it was interrupted.

        Raises:
            LockLost: somebody has removed or replaced the file, so that others may have held the lock meanwhile.
        """
        record = self._record
        if record is None:
            return
        lost = self._noted and _clock() - self._compared > _TRUSTED_NS and not self._is_there()
        if self._alone:
            record.words[PID] = 0
        self._noted = self._alone = False
        flock(self._fd, _LOCK_UN)
        if lost:
            self.close()  # not opened anew yet: that may be what cannot be done
            raise self._lost()

    def check(self) -> None:
        """Raise if others may have the lock, though it is held here.

        Raises:
            LockLost: as `give_back`.
        """
        self._compared = 0  # whoever asks wants to know it now
        if self._record is not None and not self._is_there():
            raise self._lost()

    def _lost(self) -> LockLost:
        return LockLost(
            f"{self.place.describe()} was lost: its file, {self._path}, was removed or replaced while it was held, so that "
            f"others may have held it too; leave the file where it is",
            lock=self.place.text,
            fence=self.fence,
        )

    def note(self, owner: int, *, shared: bool = False) -> None:
        """It was had: note by whom."""
        words = (self._record or self._open()).words
        self.recovered = words[PID] != 0
        self._noted = True
        if shared:  # others hold it too: nothing is written, and a dead writer stays on record for the next one
            words[SHARED] = 1
            self.fence = words[FENCE]
            return
        pid, start = _who.own or _who.this_process()
        now = _since_epoch()
        words[START] = start
        words[OWNER] = owner
        words[SINCE] = now
        words[PID] = pid
        self._alone = True
        # Never behind the time, so that it grows even where a record was lost, as with a restart of the machine, or where
        # others who use the same file have a record of their own.
        fence, least = words[FENCE] + 1, now // 1000
        self.fence = words[FENCE] = fence if least <= fence < _FENCE_MOST else least

    # Who waits, for those who look.

    def enlist(self, owner: int) -> tuple[Record, int] | None:
        """Note that *owner* waits; what to give to `delist`."""
        with self._changing:
            record = self._open()
            if not _range_lock(self._fd, TABLE, wait=False):
                return None  # somebody else is at it, or was stopped there: it is no reason to wait
            try:
                entry = Entry(*_who.this_process(), owner, time.time_ns())
                position = record.add_waiter(entry, _who.is_alive)
            finally:
                _range_unlock(self._fd, TABLE)
            return None if position is None else (record, position)

    def delist(self, listed: tuple[Record, int] | None) -> None:
        """It waits no more."""
        with self._changing:
            if listed is not None and listed[0] is self._record:
                self._record.remove_waiter(listed[1])

    def holder(self) -> _who.Holder | None:
        """Who holds it, alive; None if nobody does.  Of several readers, one."""
        with self._changing:
            record = self._open()
            # What a porter has got for nobody is free, here, and about to be free for all.  Read before the record: who
            # takes it meanwhile is then found there.
            unheld = None if self._noted else self._fd
            file, noted = self.file, record.holder()
        return find_holder(file, noted, unheld)

    def check_deadlock(self, owner: int, *, blocks: bool) -> float | None:
        """Raise if *owner*, which waits here, is in a circle of waiters, and is the one to give up.

        Returns:
            If it is in one, and another one is to: in how many seconds to look again.

        Raises:
            DeadlockError: it names the others.
        """
        pid = os.getpid()
        own = Node(pid, owner)
        halted = [Node(pid, other) for other in _who.halted()] if blocks else []
        circle = confirm_circle(lambda: find_circle(own, halted, self._survey()))
        if circle is None:
            return None
        holder = circle[0].held.owner
        if len(circle) == 1 and not _who.is_task(holder.owner) and threading.active_count() > 1:
            return None  # it holds the lock itself; but another thread may give it back
        pause = turn_of(circle) - time.time()
        if pause > 0:
            return min(pause, LOOK_S)
        raise explain_circle(self.place, circle)

    def _survey(self) -> Survey:
        with self._changing:
            awaited = read_holder(self._open())
        return awaited, survey_folder(self.place.folder)

    # The file.

    def _open(self) -> Record:
        if self._record is not None:
            return self._record
        with self._changing:
            # A child that another thread forks must not get a descriptor that it knows nothing of.
            return without_forks(self._open_all)

    def _open_all(self) -> Record:
        if self.place.kind != PATH:
            prepare(self.place.folder)
        try:
            self._fd = open_file(self._path, create=self._create)
        except FileNotFoundError:
            raise LockLost(
                "the process that made this anonymous lock has ended, and the lock with it; give the lock a name"
            ) from None
        try:
            self.file = identify(self._fd)
            self._compared = 0
            self._record = self._open_record()
        except BaseException:
            self.close()
            raise
        return self._record

    def _open_record(self) -> Record:
        if self.place.kind != PATH:
            return open_record(self._fd, self._path, self.place.text if self.place.kind != ANONYMOUS else "")
        path = os.path.join(self.place.folder, record_name(self.file))
        fd = open_file(path)
        try:
            record = open_record(fd, path, self._path)
            record.tell_of(fd, self._path, generation_of(self._fd), lambda name: leads_to(name, self.file))
            return record
        finally:
            os.close(fd)

    def _is_there(self) -> bool:
        """Whether the file that we have open is the one that others will find.

        That it was removed, or another one put in its place, is seen at once; that it was moved away, a moment later.
        """
        if self.place.kind == ANONYMOUS:  # whoever has it open goes on using it, though its maker has ended
            return True
        if not fstat(self._fd).st_nlink:
            return False
        now = _clock()
        if now - self._compared > _TRUSTED_NS:
            if not leads_to(self._path, self.file):
                return False
            self._compared = now
        return True

    def _reopen(self) -> Record:
        with self._changing:
            self.close()
            return self._open()

    def close(self) -> None:
        """Let go of the file; if the lock is held, it is given back by that."""
        with self._changing:
            if self._record is not None:
                self._record.close()
                self._record = None
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def disown(self) -> None:
        """In a forked child: the lock is the parent's, and stays with it."""
        self._changing = threading.RLock()
        self.close()

    __del__ = close

    @staticmethod
    def _is_heir_able(record: Record) -> bool:
        """Whether there is an heir who will take the lock when it is free: one that is stopped, or dead, holds nobody up."""
        heir: int = record.words[HEIR]
        return heir not in (0, _who.this_process()[0]) and _who.is_able(heir)
