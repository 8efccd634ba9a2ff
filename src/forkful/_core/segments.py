"""Segments: anonymous shared memory that two processes map, and views of it whose end is known exactly.

A segment is a memfd: it has no name, and is gone with the last process that has it.  Its owner writes, another process
reads; a number that the owner gave says which one is meant.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import mmap
import os
import pickle
import weakref
from collections.abc import Callable
from typing import Any, Self

HAVE_MEMFD = hasattr(os, "memfd_create")
PAGE = mmap.PAGESIZE
_REMOVE = getattr(mmap, "MADV_REMOVE", None)

# Counts the forks of this process, each twice: a child goes on to see what was lent before.  It is no function of
# Python's, in which a signal's handler could raise: see `forks`.
_forks = itertools.count()
os.register_at_fork(before=_forks.__next__, after_in_parent=_forks.__next__)


def forks_so_far() -> str:
    """What has changed if this process was forked between two calls."""
    return repr(_forks)  # to ask it otherwise would be to count


# What is to be done to each range that is looked at here and may be written to, before this process is forked: it is
# mapped anew, copy on write.  So neither side sees what the other writes from then on, as with all other memory.  Each
# value gives its call once; and no function of Python's takes part, as above.
_parting: dict[weakref.ref[Any], Any] = {}
os.register_at_fork(
    before=functools.partial(max, _parting.values(), key=any, default=None),
    after_in_child=_parting.clear,  # what came too late names descriptors that are closed there
)


@functools.cache
def _map_anew() -> Any:
    """The system's ``mmap``, which can put a mapping in the place of another."""
    import ctypes

    function = ctypes.PyDLL(None).mmap  # one that keeps other threads from running: they could end a loan meanwhile
    function.restype = ctypes.c_ssize_t
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    return function


_MAP_FIXED = 0x10


class Segment:
    """One segment as this process has it."""

    def __init__(self, number: int, size: int, fd: int) -> None:
        """Segment *number*, open as *fd*, which is ours from now on."""
        self.number = number
        self.size = size
        self.fd = fd  # open as long as anything is lent
        self.map: mmap.mmap | None = None

    def open_map(self) -> None:
        """Map it.

        Raises:
            OSError, ValueError: there is no descriptor, or no room for so many addresses.
        """
        self.map = mmap.mmap(self.fd, self.size)

    @classmethod
    def create(cls, number: int, size: int) -> Segment:
        """New memory, without a page yet.

        Raises:
            OSError, ValueError: there is no descriptor, or no room for so many addresses.
        """
        fd = os.memfd_create("forkful", os.MFD_CLOEXEC)
        segment = cls(number, size, fd)
        try:
            os.ftruncate(fd, size)
            segment.open_map()
        except BaseException:
            segment.close()
            raise
        return segment

    def close(self) -> None:
        """Give up the descriptor.  The mapping goes with whoever is the last to look at it."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):  # a task has closed what it did not open
                os.close(fd)

    def unmap(self) -> None:
        """Give up the mapping too, unless it is being looked at."""
        self.close()
        if self.map is not None:
            with contextlib.suppress(BufferError):
                self.map.close()

    def empty(self, offset: int, size: int) -> None:
        """Give the pages of a range back to the system."""
        if _REMOVE is not None and self.map is not None:
            with contextlib.suppress(OSError):
                self.map.madvise(_REMOVE, offset, size)

    def view(self, offset: int, size: int) -> memoryview:
        """A range, for as long as nobody else can be using it."""
        if self.map is None:  # there was no room for it: a copy does as well, for those who read
            return memoryview(self.copy(offset, size))
        return memoryview(self.map)[offset : offset + size]

    def copy(self, offset: int, size: int) -> bytearray:
        """What a range holds now."""
        if self.map is not None:
            return bytearray(memoryview(self.map)[offset : offset + size])
        copied = bytearray(size)
        at = 0
        while at < size:  # the system reads no more than 2 GiB at once
            at += os.preadv(self.fd, [memoryview(copied)[at:]], offset + at)
        return copied

    def lend(self, watch: Watch, keeper: object) -> memoryview:
        """A writable view of the range of *watch*; *keeper* lives as long as anything does that was made of that view.

        Views made from a view hold on to the object that gave the first one.  Here that is an array of ``ctypes``,
        which keeps *keeper*.  A ``memoryview`` itself would not do: those made from it may outlive it.

        Raises:
            OSError: it is not mapped.
            ImportError: this Python was built without ``ctypes``.
        """
        if self.map is None:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        memory = self._lend(watch, self.map, watch.offset, keeper)
        import ctypes

        flags = mmap.MAP_PRIVATE | _MAP_FIXED, self.fd, watch.offset
        call = ctypes.addressof(memory), watch.size, mmap.PROT_READ | mmap.PROT_WRITE, *flags
        _parting[_Key(memory, _parting.__delitem__)] = itertools.starmap(_map_anew(), [call])
        return memoryview(memory).cast("B")

    def lend_copy(self, watch: Watch, keeper: object) -> memoryview:
        """The same, but what is written there stays with the writer (copy on write).

        Raises:
            OSError: there is no descriptor for it.
        """
        private = mmap.mmap(self.fd, watch.size, flags=mmap.MAP_PRIVATE, offset=watch.offset)
        return memoryview(self._lend(watch, private, 0, keeper)).cast("B")

    def _lend(self, watch: Watch, of: mmap.mmap, offset: int, keeper: object) -> Any:
        import ctypes  # 4 ms; only where there is something large

        # A buffer that a memoryview gives to another memoryview is not counted; this one is.  See `Watch.is_over`.
        watch.root = memoryview(of)[offset : offset + watch.size]
        memory: Any = (ctypes.c_ubyte * watch.size).from_buffer(pickle.PickleBuffer(watch.root))
        memory.keeper = keeper
        return memory

    def __del__(self) -> None:
        self.close()


class _Key(weakref.ref[Any]):
    __slots__ = ()
    # As any object: those of a reference are its referent's, which may have gone.
    __hash__ = object.__hash__
    __eq__ = object.__eq__


class Watch(_Key):
    """Tells of the end of an object that stands for a range: it is given to a function, best an ``append``.

    That may be at any point of any thread.
    """

    __slots__ = ("number", "offset", "root", "since", "size", "spent")

    def __init__(self, of: object, tell: Callable[[Any], object], number: int, offset: int, size: int) -> None:
        self.number = number  # of the segment
        self.offset = offset
        self.size = size
        self.since: str | None = None  # `forks_so_far` when it was first looked at
        self.spent = False  # never to be used again
        self.root: memoryview | None = None  # what all that is looked at was made of

    def __new__(cls, of: object, tell: Callable[[Any], object], *_: int) -> Self:
        return super().__new__(cls, of, tell)

    def is_over(self) -> bool:
        """Whether nothing looks at the range any more.

        That the object has gone is not enough: where it was part of a cycle the collector has told of its end before
        it called any ``__del__``, and one of those may have brought back what looks at the range.
        """
        if self() is not None:
            return False
        if self.root is not None:
            try:
                self.root.release()
            except BufferError:
                return False
            self.root = None
        return True

    def was_forked(self) -> bool:
        """Whether a fork of this process may see the range."""
        return self.since is not None and self.since != forks_so_far()
