"""`Semaphore`: a number of permits, which the dead give back."""

from __future__ import annotations

import errno
import fcntl
import functools
import operator
import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from ..errors import LockError, LockLost, LockNotHeld
from . import _sysv, _who
from ._anonymous import Making, note_maker, sweep
from ._folder import identify, leads_to, lock_folder, open_file, prepare
from ._lock import AsyncBlocks, check_timeout
from ._place import ANONYMOUS, NAMED, Place, Spec, find_place
from ._record import FENCE, Entry, open_record

# The words of a semaphore's record that a lock's uses otherwise; the table of waiters is one of holders here.
_NUMBER, _VALUE, _BOOT = 1, 2, 3

_SUFFIX = "semaphore"
_FOR_EVER_S = 1e9


def _this_boot() -> int:
    """This start of the machine, in a word: a kernel's semaphores do not survive it, a file may."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return int(file.read().replace("-", ""), 16) % 2**62 + 1
    except OSError:
        return 1


class _Counter:
    """What a process has of one semaphore."""

    def __init__(self, place: Place, value: int | None) -> None:
        self.place = place
        self.fence: int | None = None
        self.recovered = False
        self.making: Making | None = None
        self._mutex = threading.RLock()
        self._held: list[tuple[int, int | None]] = []  # by which thread or task, and where that is on record
        path = self._path = os.path.join(prepare(place.folder), place.file_name(_SUFFIX))
        making = value is not None and place.kind == ANONYMOUS
        if making:
            sweep(place.folder, _SUFFIX, lambda record: _sysv.remove(record.words[_NUMBER] - 1))
        try:
            self._fd = open_file(path, create=value is not None)
        except FileNotFoundError:
            raise LockLost(
                "the process that made this anonymous semaphore has ended, and the semaphore with it; give it a name"
            ) from None
        self._record = open_record(self._fd, path, place.text if place.kind == NAMED else "")
        self.value = 0
        with self._table():
            self._begin(value)
        self.value = self._record.words[_VALUE]
        self.number: int = self._record.words[_NUMBER] - 1
        if making:
            note_maker(self._record)
            number = self.number
            self.making = Making(self, lambda: _take_away(path, number))

    def _begin(self, value: int | None) -> None:
        """Make the kernel's semaphore, unless that has been done since the machine was started."""
        words = self._record.words
        if words[_NUMBER] and words[_BOOT] == _this_boot() and _exists(words[_NUMBER] - 1):
            self.value = words[_VALUE]
            self.check_value(value)
            return
        if value is None:
            raise LockLost("this semaphore is no more: the machine was started anew, or somebody has removed it")
        try:
            words[_NUMBER] = _sysv.create(value) + 1
        except OSError as error:
            raise LockError(
                f"the system has no semaphore left ({error.strerror}); see `ipcs -s` and `ipcrm`"
            ) from error
        words[_VALUE], words[_BOOT] = value, _this_boot()

    def check_value(self, value: int | None) -> None:
        """Raises ``ValueError`` if somebody wants it to have another number of permits."""
        if value is not None and self.value != value:
            raise ValueError(f"{self.describe()} has {self.value} permits, not {value}: all who use it must agree")

    @contextmanager
    def _table(self) -> Iterator[None]:
        """Nobody else changes the record meanwhile; for moments, and a process that dies in it lets go of it."""
        with self._mutex:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def take(self, timeout: float | None) -> bool:
        """Take a permit."""
        if timeout is not None and timeout > _FOR_EVER_S:
            timeout = None
        if not self._call(lambda: _sysv.take(self.number, timeout)):
            return False
        try:
            self._check_file()
            self.note(_who.current())
        except BaseException:  # Ctrl-C: nobody will know that it was had
            _sysv.give_back(self.number)
            raise
        return True

    def note(self, owner: int) -> None:
        """A permit was had by *owner*."""
        with self._table():
            dead = self._remove_dead()
            entry = Entry(*_who.this_process(), owner, time.time_ns())
            position = self._record.add_waiter(entry, _who.is_alive)
            words = self._record.words
            words[FENCE] = max(words[FENCE] + 1, time.time_ns() // 1000)
            self.fence, self.recovered = words[FENCE], dead
            self._held.append((owner, position))

    def _remove_dead(self) -> bool:
        dead = [at for at, entry in self._record.entries() if not _who.is_alive(entry.pid, entry.start)]
        for position in dead:
            self._record.remove_waiter(position)
        return bool(dead)

    def give_back(self) -> None:
        """Give one of this process's permits back, the caller's own if it has one."""
        owner = _who.current()
        with self._mutex:
            if not self._held:
                raise LockNotHeld(f"{self.describe()} is not held by this process, so it cannot be released")
            own = next((at for at, (who, _) in enumerate(self._held) if who == owner), 0)
            with self._table():
                _, position = self._held.pop(own)
                if position is not None:
                    self._record.remove_waiter(position)
            self._call(lambda: _sysv.give_back(self.number))
        self._check_file()

    def _check_file(self) -> None:
        """See to it that others will find the same semaphore.

        Raises:
            LockLost: its file was removed or replaced.
        """
        if self.place.kind != ANONYMOUS and not leads_to(self._path, identify(self._fd)):
            raise LockLost(
                f"{self.describe()} was lost: its file, {self._path}, was removed or replaced, so that others may use another "
                f"one of that name; leave the file where it is",
                lock=self.place.text,
                fence=self.fence,
            )

    def _call(self, function: Any) -> Any:
        try:
            return function()
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EIDRM):
                raise
            raise LockLost(
                f"{self.describe()} was removed from the system", lock=self.place.text, fence=self.fence
            ) from error

    def holders(self) -> list[_who.Holder]:
        """Who has permits, alive."""
        with self._table():
            entries = [entry for _, entry in self._record.entries()]
        alive = [entry for entry in entries if _who.is_alive(entry.pid, entry.start)]
        return [_who.describe_holder(entry.pid, entry.owner, entry.since) for entry in alive]

    def describe(self) -> str:
        """In words, for messages."""
        return "an anonymous semaphore" if self.place.kind == ANONYMOUS else f"semaphore {self.place.text!r}"

    def disown(self) -> None:
        """In a forked child: the permits are the parent's, and the file is opened anew, so that its lock is not shared."""
        self._mutex = threading.RLock()
        self._held.clear()
        fd = os.open(f"/proc/self/fd/{self._fd}", os.O_RDWR | os.O_CLOEXEC)
        os.close(self._fd)
        self._fd = fd

    def __del__(self) -> None:
        if hasattr(self, "_record"):
            self._record.close()
        if hasattr(self, "_fd"):
            os.close(self._fd)


def _exists(number: int) -> bool:
    try:
        _sysv.value_of(number)
    except OSError:
        return False
    return True


def _take_away(path: str, number: int) -> None:
    try:
        _sysv.remove(number)
        os.unlink(path)
    except OSError:  # somebody else was quicker
        pass


_counters: weakref.WeakValueDictionary[Place, _Counter] = weakref.WeakValueDictionary()
_opening = threading.RLock()


def _open_counter(place: Place, value: int | None) -> _Counter:
    with _opening:
        counter = _counters.get(place)
        if counter is None:
            counter = _counters[place] = _Counter(place, value)
        else:
            counter.check_value(value)
        return counter


def _disown() -> None:
    global _opening
    _opening = threading.RLock()
    for counter in list(_counters.values()):
        counter.disown()


os.register_at_fork(after_in_child=_disown)


class Semaphore(AsyncBlocks):
    """A number of permits, between processes, threads and tasks of one machine; as many may be inside at once.

    It is a value, as `Lock` is.  The permits of a process that dies, however it dies, come back; whoever takes one next
    finds ``recovered`` true.  First come, first served.

    Args:
        value: how many permits there are, 0 to 32,767; all who use it must give the same.
        name: a name, for all processes of this user on this machine; None for one that nobody else can name.

    Raises:
        ValueError, TypeError: *value* or *name* cannot be, or it has another number of permits.
        LockError: the system has no semaphore left, or the folder of locks cannot be used.

    >>> seats = Semaphore(2, "seats")
    >>> with seats:
    ...     print("one of two")
    one of two
    """

    __slots__ = ("__weakref__", "_counter", "_place")

    def __init__(self, value: int = 1, name: Spec = None) -> None:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"value must be a whole number of permits, not {value!r}")
        value = operator.index(value)
        if not 0 <= value <= _sysv.MOST:
            raise ValueError(f"value must be 0 to {_sysv.MOST} permits, not {value}")
        self._place = find_place(name)
        if self._place.kind not in (NAMED, ANONYMOUS):
            raise ValueError(
                f"a semaphore has a name, no path and no URL: the kernel, which counts its permits, knows those of this "
                f"machine only; {self._place.shown!r} is none"
            )
        self._place = self._place._replace(folder=lock_folder())
        self._counter = _open_counter(self._place, value)

    @classmethod
    def _at(cls, place: Place, value: int) -> Semaphore:
        """The same in another process, or by another object."""
        semaphore = cls.__new__(cls)
        semaphore._place = place
        semaphore._counter = _open_counter(place, None if place.kind == ANONYMOUS else value)
        return semaphore

    def __reduce__(self) -> tuple[Any, ...]:
        if self._counter.making is not None:
            self._counter.making.given = True
        return Semaphore._at, (self._place, self._counter.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Semaphore) and other._place == self._place

    def __hash__(self) -> int:
        return hash((Semaphore, self._place))

    @property
    def name(self) -> str | None:
        """Its name; None for an anonymous one."""
        return None if self._place.kind == ANONYMOUS else self._place.text

    @property
    def value(self) -> int:
        """How many permits there are, taken ones included."""
        return self._counter.value

    def get_value(self) -> int:
        """How many permits are free at this moment."""
        free: int = self._counter._call(lambda: _sysv.value_of(self._counter.number))
        return free

    @property
    def recovered(self) -> bool:
        """Whether a holder had died when this process took its newest permit, since somebody took one before."""
        return self._counter.recovered

    @property
    def fence(self) -> int | None:
        """The number of this process's newest acquisition, greater than that of any before it; None before the first."""
        return self._counter.fence

    def holder(self) -> _who.Holder | None:
        """One of those who have a permit, the first on record; None if nobody has."""
        return next(iter(self.holders()), None)

    def holders(self) -> list[_who.Holder]:
        """All who have permits, seen alive; at most 112 are on record."""
        return self._counter.holders()

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take a permit; whether it was had.  As `Lock.acquire`, but that no deadlock is looked for."""
        timeout = check_timeout(timeout)
        return self._counter.take(timeout if block else 0.0)

    async def acquire_async(self) -> bool:
        """`acquire` in a coroutine, as `Lock.acquire_async`; a thread waits for it meanwhile."""
        from ._waiting import take_in_thread  # asyncio is there in a coroutine, and costs 40 ms elsewhere

        counter = self._counter
        take, give_back = functools.partial(_sysv.take, timeout=None), _sysv.give_back
        await take_in_thread(functools.partial(take, counter.number), functools.partial(give_back, counter.number))
        counter.note(_who.current())
        return True

    def release(self) -> None:
        """Give a permit back.  Any thread of a process that has one may.

        Raises:
            LockError: this process has none; also a ``RuntimeError`` and a ``ValueError``.
        """
        self._counter.give_back()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Semaphore {self.name or '(anonymous)'} of {self.value}>"
