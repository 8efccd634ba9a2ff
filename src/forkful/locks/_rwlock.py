"""`RWLock`: many readers, or one writer."""

from __future__ import annotations

from typing import Any, NoReturn

from . import _who
from ._door import Door
from ._lock import Base, Blocks, check_timeout
from ._place import Spec


class Side(Blocks):
    """One of the two ways to hold an `RWLock`; used as a lock."""

    __slots__ = ("_door", "_shared")

    def __init__(self, door: Door, *, shared: bool) -> None:
        self._door = door
        self._shared = shared

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take it; whether it was had.  As `Lock.acquire`."""
        owner = _who.current()
        timeout = check_timeout(timeout)
        if not block:
            return self._door.take_now(owner, shared=self._shared)
        return self._door.take(owner, timeout, shared=self._shared)

    async def acquire_async(self) -> bool:
        """`acquire` in a coroutine; as `Lock.acquire_async`."""
        from ._waiting import take_async  # asyncio is there in a coroutine, and costs 40 ms elsewhere

        return await take_async(self._door, shared=self._shared)

    def release(self) -> None:
        """Give it back.

        Raises:
            LockError: this process does not hold it in this way; also a ``RuntimeError`` and a ``ValueError``.
        """
        self._door.give_back(shared=self._shared)

    async def release_async(self) -> None:
        """`release` in a coroutine, as `Lock.release_async`."""
        from ._waiting import give_back_async  # as above

        await give_back_async(self._door, shared=self._shared)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("one side of an RWLock cannot be pickled: send the RWLock, and call read() or write() there")


class RWLock(Base):
    """A lock that many may hold to read, or one to write, between processes, threads and tasks.

    A writer that waits goes before readers that come after it, so that it is not kept waiting for ever.  Not reentrant, and
    a reader cannot become a writer: to try is a deadlock, which is found only where a writer is part of it.

    ``recovered`` tells readers and writers that the last *writer* died inside; for readers it stays so until somebody has
    written.  ``fence`` grows with each writer.  With the same name, `Lock` and ``flock`` exclude it as a writer does.

    Args:
        name: as for `Lock`; Redis has no shared locks, PostgreSQL does.

    >>> table = RWLock("table")
    >>> with table.read():
    ...     print("beside other readers")
    beside other readers
    >>> with table.write():
    ...     print("alone")
    alone
    """

    __slots__ = ()

    def __init__(self, name: Spec = None) -> None:  # as in `Lock`
        super().__init__(name)

    def read(self) -> Side:
        """The side of readers: ``with lock.read():``."""
        return Side(self._door, shared=True)

    def write(self) -> Side:
        """The side of writers: ``with lock.write():``."""
        return Side(self._door, shared=False)

    def __enter__(self) -> NoReturn:
        raise TypeError("an RWLock is held in one of two ways: write `with lock.read():` or `with lock.write():`")

    def __exit__(self, *_: object) -> None:
        """Never called."""

    async def __aenter__(self) -> NoReturn:
        self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        """Never called."""
