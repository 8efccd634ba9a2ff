"""`Lock` and `RLock`: what users hold in their hands."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any

from ..errors import LockNotHeld
from . import _who
from ._doors import open_door
from ._folder import lock_folder
from ._place import ANONYMOUS, REMOTE, Place, Spec, find_place


def check_timeout(timeout: Any) -> float | None:
    """Seconds, or None for as long as it takes; as with ``multiprocessing``, what is negative is 0."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be a number of seconds, or None for no limit, not {timeout!r}")
    try:
        seconds = float(timeout)
    except OverflowError:
        raise ValueError("timeout is more seconds than a float can tell; say None for no limit") from None
    if math.isnan(seconds):
        raise ValueError("timeout must be a number of seconds, not nan")
    return max(0.0, seconds)


class AsyncBlocks:
    """``async with`` for what has `acquire_async` and `release`."""

    __slots__ = ()

    async def acquire_async(self) -> bool:
        """Wait in a coroutine until it is had."""
        raise NotImplementedError

    def release(self) -> None:
        """Give it back."""
        raise NotImplementedError

    async def release_async(self) -> None:
        """`release` in a coroutine: where a server is to be told of it, the event loop goes on meanwhile."""
        self.release()

    async def __aenter__(self) -> bool:
        return await self.acquire_async()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.release_async()


class Blocks(AsyncBlocks):
    """``with`` and ``async with`` for what has `acquire` too."""

    __slots__ = ()

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Wait until it is had."""
        raise NotImplementedError

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.release()
        except LockNotHeld:  # in a child forked inside the block; what it ends with, if anything, says more
            if kind is None:
                raise


class Base:
    """What all locks have in common: a value that names a place; whoever has an equal one contends for the same lock."""

    __slots__ = ("__weakref__", "_door", "_place")

    def __init__(self, name: Spec = None) -> None:
        place = find_place(name)
        self._place = place if place.kind == REMOTE else place._replace(folder=lock_folder())
        self._door = open_door(self._place)

    @classmethod
    def _at(cls, place: Place) -> Any:
        """The same lock in another process, or by another object."""
        lock = cls.__new__(cls)
        lock._place = place
        lock._door = open_door(place, create=place.kind != ANONYMOUS)
        return lock

    def __reduce__(self) -> tuple[Any, ...]:
        if self._door.making is not None:
            self._door.making.given = True
        return type(self)._at, (self._place,)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._place == self._place

    def __hash__(self) -> int:
        return hash((type(self), self._place))

    @property
    def name(self) -> str | None:
        """Its name, absolute path or URL, the latter with stars for a password; None for an anonymous one."""
        return None if self._place.kind == ANONYMOUS else self._place.shown

    @property
    def recovered(self) -> bool | None:
        """Whether the owner before the newest acquisition of this process ended while it held the lock, or lost it.

        It was killed, or left without a release.  An owner that is no forkful program, as ``flock(1)``, neither sets nor clears it.

        None over PostgreSQL, which cannot tell.

        What the lock protects may then be half done: look, and mend it, before you rely on it.
        """
        return self._door.mechanism.recovered

    @property
    def fence(self) -> int | None:
        """The number of this process's newest acquisition, greater than that of any before it; None before the first.

        Give it to what you change under the lock, and let that refuse a smaller number than it has seen: then not even a
        holder that was stopped for longer than its lease can do harm.
        """
        return self._door.mechanism.fence

    def holder(self) -> _who.Holder | None:
        """Who holds it now, seen alive; None if nobody does.

        Over Redis and PostgreSQL, whoever holds it by the server's account; a pid of 0 is somebody who has not said who it is.
        """
        return self._door.mechanism.holder()

    def locked(self) -> bool:
        """Whether anybody holds it, this process or another."""
        return bool(self._door.holders) or self.holder() is not None

    def check(self) -> None:
        """Raise if this process, which holds the lock, is known to have lost it.

        Costs microseconds and asks nobody: for a lease, whether it was extended in time; for a session, whether the server
        has ended it; for a file, whether it is still in its place.  Call it before a step that cannot be taken back.

        Raises:
            LockLost: others may hold it by now.
            LockError: this process does not hold it; also a ``RuntimeError`` and a ``ValueError``.

        >>> lock = Lock("stock")
        >>> with lock:
        ...     lock.check()
        """
        self._door.check()

    def __repr__(self) -> str:
        state = "locked" if self._door.holders else "unlocked"  # by this process, as far as a repr may look
        return f"<{state} forkful.{type(self).__name__} object {self.name or '(anonymous)'} at {id(self):#x}>"


class Lock(Base, Blocks):
    """A lock between processes, threads and tasks, on one machine or many.  Not reentrant: see `RLock`.

    It is a value: it can be pickled, be an argument of a `Pool`'s task or of a ``Process``, and any other process that
    names the same place contends for the same lock.  When a process that holds it dies, however it dies, the next one
    gets it, and finds ``recovered`` true.  A forked child neither holds nor frees what its parent holds.

    Args:
        name: a name, for all processes of this user on this machine; a path (absolute, or beginning with ``./``), for
            whoever can open the file, such as ``flock(1)``; a URL (``redis://host/name``, ``postgresql://host/db?lock=name``),
            for all hosts.  None: a lock of its own, for whoever is given it.

    Raises:
        ValueError, TypeError: *name* names nothing.
        LockError: the file of locks cannot be had; `UnsafeFilesystem` where locks do not exclude.
        EngineUnavailable: what the URL needs is not installed.

    >>> lock = Lock("stock")
    >>> with lock:
    ...     print("one at a time", lock.recovered)
    one at a time False
    """

    __slots__ = ()

    def __init__(self, name: Spec = None) -> None:  # its own, so that help() and errors show what a name is
        super().__init__(name)

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take the lock; whether it was had.  Arguments as those of ``multiprocessing.Lock``.

        Args:
            block: wait for it.
            timeout: seconds to wait, to within 20 ms; None: as long as it takes.

        Raises:
            DeadlockError: it would never be had, as its owner waits for what this thread holds; only without a *timeout*.
            LockError: its file cannot be opened any more.
        """
        timeout = check_timeout(timeout)
        if not block:
            return self._door.take_now(_who.current())
        return self._door.take(_who.current(), timeout)

    def release(self) -> None:
        """Give it back.  Any thread of the process that holds it may.

        Raises:
            LockError: this process does not hold it; also a ``RuntimeError`` and a ``ValueError``.
            LockLost: it was held, but others may have held it meanwhile.
        """
        self._door.give_back()

    async def release_async(self) -> None:
        """`release` in a coroutine: where a server is to be told of it, the event loop goes on meanwhile."""
        from ._waiting import give_back_async  # asyncio is there in a coroutine, and costs 40 ms elsewhere

        await give_back_async(self._door)

    async def acquire_async(self) -> bool:
        """`acquire` in a coroutine: the event loop goes on meanwhile, and other tasks of it are excluded too.

        For a limit, use ``asyncio.timeout``: a wait that is cancelled leaves nothing behind.
        """
        from ._waiting import take_async  # as above

        return await take_async(self._door)

    def __enter__(self) -> bool:
        return self._door.take(_who.current(), None)  # not by `acquire`: this is where the cost of a lock shows


class RLock(Base, Blocks):
    """A `Lock` that the thread, or task, which holds it may take again; it is free when each ``acquire`` was released.

    Who holds it is the thread or task, whichever of several equal objects it used.

    >>> lock = RLock("stock")
    >>> with lock, lock:
    ...     print("twice")
    twice
    """

    __slots__ = ()

    def __init__(self, name: Spec = None) -> None:  # as in `Lock`
        super().__init__(name)

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take the lock, once more if it is this thread's; as `Lock.acquire`."""
        if self._take_again():
            return True
        door, owner = self._door, _who.current()
        had = door.take(owner, check_timeout(timeout)) if block else door.take_now(owner)
        if had:
            door.depth = 1
        return had

    def _take_again(self) -> bool:
        """Once more, if this thread or task has it; whether it has."""
        door = self._door
        if not door.depth or door.owner != _who.current():
            return False
        door.depth += 1
        return True

    async def acquire_async(self) -> bool:
        """`acquire` in a coroutine: whose it is, is the task's that calls."""
        from ._waiting import take_async  # as in `Lock`

        if self._take_again():
            return True
        had = await take_async(self._door)
        if had:
            self._door.depth = 1
        return had

    def release(self) -> None:
        """Give it back, once.

        Raises:
            LockError: this thread, or task, does not hold it; also a ``RuntimeError`` and a ``ValueError``.
        """
        if self._leave():
            self._door.give_back()

    async def release_async(self) -> None:
        """`release` in a coroutine, as `Lock.release_async`."""
        from ._waiting import give_back_async  # as in `Lock`

        if self._leave():
            await give_back_async(self._door)

    def _leave(self) -> bool:
        """Once less; whether that was the last time."""
        door = self._door
        if not door.depth or door.owner != _who.current():
            raise LockNotHeld(f"{door.what} is not held by this thread, so it cannot be released", lock=door.what)
        door.depth -= 1
        return not door.depth
