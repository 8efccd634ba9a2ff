"""Accounts: what this process and one other have lent each other of their shared memory.

The master has an account with each worker that has had to do with anything large, the worker has one with the master.
Blocks of ours that the other has are on one side, blocks of his that we have on the other.  See "Big data" in
``README.md``.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from . import codec
from .channel import frame
from .forks import hold
from .messages import DETACH, RETURNED
from .segments import Segment, Watch, forks_so_far
from .wire import MAX_FDS, receive_fds, send_fds

# A buffer from this size on has a block of its own, which its reader looks at in place.  Smaller ones are copied by the
# reader: that costs 10 us, and the block is free at once, whatever the reader does with the copy.
OWN_BLOCK = 512 * 1024

# And as long as what is looked at in place is no more than this, or only one thing: what a program keeps is better copied,
# since a page that is used again is cheaper to write to than a new one.
_LEND_MOST = 256 * 1024 * 1024

ONCE, AGAIN, SHARED = range(3)
# ONCE    no other process, and no other try, will ever read it: it may be written to in place
# AGAIN   it may be read again: whoever writes to it writes to his own copy
# SHARED  an object for many tasks: nobody writes

Place = tuple[int, int, int]  # which block, where in it, how many bytes

_SEGMENT = struct.Struct("=QQ")  # number, size; a descriptor comes with it
# The same for descriptors that tasks have to do with: the number of their bundle; this bit, how many come with it, and why
# there are none.
_BUNDLE = 1 << 63
_COUNT_BITS = 16
_SPENT = 1  # in the offset of what is given back; offsets are those of pages


class Block:
    """A range that is in use as long as this object lives."""

    __slots__ = ("__weakref__", "offset", "segment", "size", "watch")

    def __init__(self, segment: Segment, offset: int, size: int) -> None:
        self.segment = segment
        self.offset = offset
        self.size = size
        self.watch: Watch | None = None

    def wear_out(self) -> None:
        """Somebody may look at it for ever: it will not be used again."""
        if self.watch is not None:
            self.watch.spent = True


class Loan:
    """A block that we have of the other side, until everything that looks at it has gone."""

    __slots__ = ("__weakref__", "offset", "segment", "size", "watch")

    def __init__(self, segment: Segment | None, offset: int, size: int) -> None:
        self.segment = segment
        self.offset = offset
        self.size = size
        self.watch: Watch | None = None

    def known_segment(self) -> Segment:
        """The segment.

        Raises:
            OSError: it could not be opened.
        """
        if self.segment is None:
            raise OSError(
                errno.EMFILE,
                "the shared memory of something large could not be opened, because too many files are open; "
                "raise the limit (`ulimit -n`) or close some",
            )
        return self.segment


class Account:
    """The account with one other process.

    Args:
        wire: our end of a socket to it, on which each sends descriptors of segments before it names them.
    """

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._spare: list[int] = []  # a descriptor to be given up when there is no other
        with contextlib.suppress(OSError):
            self._spare.append(os.open(os.devnull, os.O_RDONLY))
        self._lock = threading.RLock()
        # Ours that it has.
        self._known: set[int] = set()  # the segments it has been sent
        self._lent: dict[tuple[int, int], list[Any]] = {}  # segment and offset -> block, how many times
        # Its that we have.
        self._segments: dict[int, Segment] = {}
        self._watches: set[Watch] = set()
        self._descriptors: dict[int, list[int]] = {}  # of bundles, by number
        self._refusals: dict[int, int] = {}  # error numbers, likewise
        self.shared: dict[
            int, Any
        ] = {}  # in a worker: shared objects as they came, or rebuilt; in the master: their keys
        # What it is to be told: blocks that we do not need any more, and numbers of segments that are no more.
        self.owed: deque[Watch | int] = deque()
        hold(self)

    # Lending.

    def lend(self, blocks: Sequence[Block]) -> bool:
        """Note that it has *blocks*, and see to it that it can read them; False when it cannot."""
        with self._lock:
            for block in blocks:
                segment = block.segment
                if segment.number not in self._known:
                    try:
                        send_fds(self._wire, _SEGMENT.pack(segment.number, segment.size), [segment.fd])
                    except OSError:  # it is full; or the system has no more descriptors to travel
                        return False
                    self._known.add(segment.number)
            for block in blocks:
                self._lent.setdefault((block.segment.number, block.offset), [block, 0])[1] += 1
        return True

    def settle(self, body: memoryview) -> None:
        """It has given blocks back."""
        words = body.cast("Q").tolist()
        with self._lock:
            for number, offset in zip(words[::2], words[1::2], strict=True):
                key = number, offset & ~_SPENT
                entry = self._lent[key]
                if offset & _SPENT:
                    entry[0].wear_out()
                entry[1] -= 1
                if not entry[1]:
                    del self._lent[key]

    def detach(self, number: int) -> None:
        """One of our segments is no more."""
        if number in self._known:
            self._known.discard(number)
            self.owed.append(number)

    # Borrowing.

    def receive(self, mode: int, blob: bytes | None, blocks: Any, places: Any, parts: Any) -> Received:
        """What a parcel says that came from it; see `lending.Parcel.describe`."""
        if blocks is None:
            return Received(self, mode, blob, [], [(at, 0, len(part)) for at, part in enumerate(parts)], parts)
        loans = [self._borrow(*block) for block in blocks]
        return Received(self, mode, blob, loans, places, [])

    def _borrow(self, number: int, offset: int, size: int) -> Loan:
        loan = Loan(None, offset, size)
        watch = loan.watch = Watch(loan, self.owed.append, number, offset, size)
        self._watches.add(watch)
        with contextlib.suppress(OSError):  # the error of whoever rebuilds it
            loan.segment = self._attach(number)
        return loan

    def _attach(self, number: int) -> Segment | None:
        """The segment of that number, which has been sent before it was named; None for want of a descriptor."""
        with self._lock:
            while number not in self._segments:
                if not self._receive_next():
                    return None
            return self._segments[number]

    def _receive_next(self) -> bool:
        """Take what is next on the wire; False for want of a descriptor for a segment: it is still there then."""
        try:
            # A descriptor for which there is no room would be lost, so at first it is only looked at.
            data, fds = receive_fds(self._wire, _SEGMENT.size, socket.MSG_DONTWAIT | socket.MSG_PEEK)
            if data and self._spare and len(fds) < _expected(data):
                for fd in (*fds, self._spare.pop()):
                    os.close(fd)
                _, fds = receive_fds(self._wire, _SEGMENT.size, socket.MSG_DONTWAIT | socket.MSG_PEEK)
        except BlockingIOError:
            return False
        if not data:
            return False
        number, size = _SEGMENT.unpack(data)
        if size & _BUNDLE:
            self._note_descriptors(number, size, fds)
            return True
        if not fds:
            return False
        segment = Segment(number, size, fds[0])
        # It keeps its descriptor, also when it is mapped: a fork needs that, and whoever reads what could not be mapped.
        with contextlib.suppress(OSError, ValueError):  # no room for the addresses, or no descriptor: it will be copied
            segment.open_map()
        self._segments.setdefault(number, segment)  # may be there: what we do here was interrupted last time
        self._wire.recv(_SEGMENT.size, socket.MSG_DONTWAIT)
        return True

    def _note_descriptors(self, number: int, size: int, fds: list[int]) -> None:
        """Those of a bundle are next on the wire, and open as *fds*; unlike a segment they are not waited for."""
        refusal = size & ~_BUNDLE
        count = refusal & ((1 << _COUNT_BITS) - 1)
        self._wire.recv(_SEGMENT.size, socket.MSG_DONTWAIT)
        if len(fds) < count:
            for fd in fds:
                os.close(fd)
            self._refusals[number] = errno.EMFILE
        elif count:
            self._descriptors.setdefault(number, []).extend(fds)
        else:
            self._refusals[number] = refusal >> _COUNT_BITS

    def send_descriptors(self, number: int, fds: Sequence[int], *, wait: bool = False) -> None:
        """Send the descriptors of a bundle, or say that there are none.

        Args:
            wait: until there is room for them.

        Raises:
            OSError: neither could be sent.
        """
        try:
            for at in range(0, len(fds), MAX_FDS):
                some = fds[at : at + MAX_FDS]
                send_fds(self._wire, _SEGMENT.pack(number, _BUNDLE | len(some)), some, wait=wait)
        except OSError as error:
            reason = error.errno or errno.EIO
        else:
            if fds:
                return
            reason = errno.EBADF
        send_fds(self._wire, _SEGMENT.pack(number, _BUNDLE | reason << _COUNT_BITS), wait=wait)

    def await_descriptors(self, number: int, count: int) -> list[int]:
        """The descriptors of a bundle, which have been asked for.

        Raises:
            OSError: they could not be had.
        """
        poll = select.poll()
        poll.register(self._wire, select.POLLIN)
        with self._lock:  # whoever has it takes what comes for all, and all are answered in turn
            while not self._has_answer(number, count):
                poll.poll()
                if not self._receive_next() and not self._has_answer(number, count):
                    raise no_descriptors(errno.EMFILE)
            return self.take_descriptors(number, count)

    def _has_answer(self, number: int, count: int) -> bool:
        return number in self._refusals or len(self._descriptors.get(number, ())) >= count

    def take_descriptors(self, number: int, count: int) -> list[int]:
        """The same for what has been sent already.

        Raises:
            OSError: they could not be had.
        """
        with self._lock:
            while not self._has_answer(number, count):
                if not self._receive_next():
                    raise no_descriptors(errno.EMFILE)
            fds = self._descriptors.pop(number, [])
            refusal = self._refusals.pop(number, 0)
        if refusal:
            for fd in fds:
                os.close(fd)
            raise no_descriptors(refusal)
        return fds

    def drop_segment(self, number: int) -> None:
        """The other side has given up one of its segments."""
        self._segments.pop(number, None)
        self._watches -= {watch for watch in self._watches if watch.number == number and watch() is None}

    def may_lend(self, size: int) -> bool:
        """Whether *size* bytes more may be looked at in place."""
        looked_at = [watch.size for watch in list(self._watches) if watch.since is not None and watch() is not None]
        return len(looked_at) < 2 or sum(looked_at) + size <= _LEND_MOST

    # Telling.

    def pay(self) -> list[bytes | memoryview]:
        """The frames that tell what is owed."""
        frames: list[bytes | memoryview] = []
        words: list[int] = []
        later: list[Watch] = []
        while self.owed:
            try:
                item = self.owed.popleft()
            except IndexError:  # another thread was quicker
                break
            if isinstance(item, int):
                frames += frame(DETACH, item)
            elif not item.is_over():
                later.append(item)
            else:
                forked = item.was_forked()
                if not forked:  # else that range is to be kept, `_keep_only`, as long as its segment
                    self._watches.discard(item)
                words += (item.number, item.offset | (_SPENT if forked else 0))
        self.owed.extend(later)
        if words:
            frames += frame(RETURNED, len(words) // 2, struct.pack(f"={len(words)}Q", *words))
        return frames

    def close(self) -> None:
        """The other side has ended."""
        for block, _ in self._lent.values():
            block.wear_out()  # a process that it forked may have it still
        self._lent.clear()
        self._known.clear()
        for segment in self._segments.values():
            self._keep_only(segment)
        self._let_go()
        self._close_wire()

    def _close_wire(self) -> None:
        self._wire.close()
        for fds in (self._spare, *self._descriptors.values()):
            while fds:
                os.close(fds.pop())

    def _let_go(self) -> None:
        """Nothing will be given back any more: each segment goes, descriptor and all, with the last that looks at it."""
        self._segments.clear()
        for watch in self._watches:
            watch.root = None

    def _keep_only(self, segment: Segment) -> None:
        """Give back all of a segment but what is looked at, here or in a fork: nobody will use the rest again."""
        kept = sorted(
            (watch.offset, watch.size)
            for watch in self._watches
            if watch.number == segment.number and (watch.was_forked() or not watch.is_over())
        )
        at = 0
        for offset, size in (*kept, (segment.size, 0)):
            if kept and offset > at:
                segment.empty(at, offset - at)
            at = offset + size

    def disown(self) -> None:
        """In a forked child: it is the parent's.  What is looked at stays."""
        self._known.clear()
        self._lent.clear()
        for segment in self._segments.values():
            segment.unmap()
        self._let_go()
        self._close_wire()
        _forget_own(self)


def _expected(data: bytes) -> int:
    """How many descriptors come with a message."""
    _, size = _SEGMENT.unpack(data)
    return size & ((1 << _COUNT_BITS) - 1) if size & _BUNDLE else 1


def no_descriptors(reason: int) -> OSError:
    """The error of whoever rebuilds what is without them."""
    return OSError(
        reason,
        f"the sockets or connections that go with it could not be handed over ({os.strerror(reason)}); where too many files "
        f"are open raise the limit (`ulimit -n`), or have fewer tasks wait (max_pending=)",
    )


class Received:
    """A parcel at its reader's: it gives its blocks back when it has gone, and all that was built from it."""

    __slots__ = ("_account", "_blob", "_loans", "_mode", "_parts", "_places", "size")

    def __init__(
        self,
        account: Account,
        mode: int,
        blob: bytes | None,
        loans: list[Loan],
        places: list[Place],
        parts: list[bytes],
    ) -> None:
        self._account = account
        self._mode = mode
        self._blob = blob
        self._loans = loans
        self._places = places
        self._parts = parts
        self.size = sum(length for _, _, length in places) + len(blob or b"")

    def __len__(self) -> int:
        return self.size

    def load(self) -> Any:
        """Rebuild the object.

        Raises:
            OSError: its memory could not be had.
            BaseException: user code (``__setstate__``) may raise anything.
        """
        places = self._places
        if self._blob is not None:
            return codec.loads(self._blob, buffers=[self._buffer(place) for place in places])
        buffers = [self._buffer(place) for place in places[:-1]]
        return codec.loads(self._look(places[-1]), buffers=buffers)

    def take(self) -> Any:
        """`load` for the last time: what is not looked at any more is given back at once."""
        try:
            return self.load()
        finally:
            self._loans = []

    def _look(self, place: Place) -> memoryview:
        """A part, for the moment."""
        at, start, length = place
        if not self._loans:
            return memoryview(self._parts[at])
        loan = self._loans[at]
        return loan.known_segment().view(loan.offset + start, length)

    def _buffer(self, place: Place) -> Any:
        """A part, for as long as somebody holds it."""
        at, start, length = place
        shared = self._mode == SHARED
        if not self._loans:
            return self._parts[at] if shared else bytearray(self._parts[at])
        loan = self._loans[at]
        segment = loan.known_segment()
        if length >= OWN_BLOCK and (shared or self._account.may_lend(length)):
            assert loan.watch is not None
            loan.watch.since = forks_so_far()
            try:
                lend = segment.lend_copy if self._mode == AGAIN else segment.lend
                view = lend(loan.watch, loan)[:length]
            except (OSError, ValueError, ImportError):  # no descriptor, no addresses; Python without ctypes
                pass
            else:
                return view.toreadonly() if shared else view
        copied = segment.copy(loan.offset + start, length)
        return memoryview(copied).toreadonly() if shared else copied


# In a worker.

_own_lock = threading.Lock()


def own_account() -> Account:
    """This process's, a worker's, account with its master."""
    with _own_lock:
        if codec.account is None:
            wire = socket.socket(fileno=codec.wire)
            codec.account = Account(wire)
            atexit.register(wire.close)  # else an interpreter that leaves would warn of it
        account: Account = codec.account
        return account


def _forget_own(account: Account) -> None:
    """In a forked child."""
    global _own_lock
    if account is codec.account:
        codec.account = None
        codec.wire = -1
        _own_lock = threading.Lock()


def unpack(*described: Any) -> Received:
    """What a pickled `lending.Parcel` becomes in a worker."""
    return own_account().receive(*described)


def fetch(key: int) -> Any:
    """The shared object of that number.  Called as a task's arguments are rebuilt."""
    account = own_account()
    with _fetching:
        if key not in account.shared:
            raise LookupError(f"shared object {key} is not in this process: its handle was pickled for another one")
        found = account.shared[key]
        if type(found) is Received:
            found = account.shared[key] = found.load()
    return found


_fetching = threading.RLock()  # may be taken again: what is shared may name what is shared
