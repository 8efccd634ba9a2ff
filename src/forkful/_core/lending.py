"""Lending: what is large is written into shared memory by the process that sends it, and read there by the others.

The unit is the **block**: a range of a segment that the writer's `Lender` has taken for one large buffer, or for several
smaller ones together.  A pickle whose parts stand in blocks is a `Parcel`.  A block is free again when the parcel has gone
and every process that it was lent to has given it back, or has ended.  See "Big data" in ``README.md``.
"""

from __future__ import annotations

import itertools
import os
import resource
import threading
import weakref
from collections import deque
from typing import Any

from . import codec
from .accounts import AGAIN, ONCE, OWN_BLOCK, SHARED, Account, Block, Place, unpack
from .arena import Arena
from .forks import hold
from .segments import PAGE, Segment, Watch

_SEGMENT = 64 * 1024 * 1024  # the least; of addresses, not of memory: a page that was never written takes none
_ALIGN = 64  # what processors and their vector units like best

# Warm free memory is kept for the next parcel: a page that is new costs ten times what it costs to fill it.  Twice what the
# largest of the last parcels took, so that one can be filled while the other is read; and never less than this.
_KEPT_LEAST = 64 * 1024 * 1024
_REMEMBERED = 16


class Parcel:
    """A pickle whose large parts are in blocks; or here, where there is no shared memory to be had.

    In place of the bytes of a task's payload.  It is pickled as it is sent, to the process that `Lender.reader` then is.
    """

    __slots__ = ("_blob", "_blocks", "_lender", "_mode", "_parts", "_places", "mentions_main", "shares", "size")

    def __init__(
        self,
        lender: Lender,
        mode: int,
        blob: bytes | None,
        blocks: list[Block],
        places: list[Place],
        parts: list[bytes],
        shares: tuple[Share, ...],
        *,
        mentions_main: bool,
    ) -> None:
        self._lender = lender
        self._mode = mode
        self._blob = blob  # None: it is the last of the parts
        self._blocks = blocks
        self._places = places  # where each part is
        self._parts = parts  # where that is nowhere: the parts
        self.mentions_main = mentions_main
        self.shares = shares  # the shared objects that it names; they live as long
        self.size = sum(length for _, _, length in places) + sum(map(len, (blob or b"", *parts)))

    def __len__(self) -> int:
        return self.size

    def describe(self, reader: Account | None) -> tuple[Any, ...]:
        """What *reader* needs to `accounts.unpack` it."""
        if not self._blocks:
            return (self._mode, self._blob, None, None, self._parts)
        if reader is not None and reader.lend(self._blocks):
            blocks = [(block.segment.number, block.offset, block.size) for block in self._blocks]
            return (self._mode, self._blob, blocks, self._places, None)
        views = ((self._blocks[at], start, length) for at, start, length in self._places)
        parts = [bytes(block.segment.view(block.offset + start, length)) for block, start, length in views]
        return (self._mode, self._blob, None, None, parts)

    def __reduce__(self) -> tuple[Any, ...]:
        lender = self._lender
        lender.named += self.shares
        return unpack, self.describe(lender.reader)


class Share:
    """An object that tasks name by a number: pickled once, sent once to each worker whose tasks do."""

    __slots__ = ("__weakref__", "key", "lender", "parcel")

    def __init__(self, key: int, lender: Lender, parcel: Parcel) -> None:
        self.key = key
        self.lender = lender
        self.parcel = parcel


class Lender:
    """The shared memory that this process writes for one pool, or as a worker for its master.  Thread-safe."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._arena = Arena()
        self._segments: dict[int, Segment] = {}
        self._numbers = itertools.count(1)
        self._most = _most_segments()
        self._watches: set[Watch] = set()
        self._freed: deque[Watch] = deque()  # blocks that nobody has any more
        self._recent: deque[int] = deque(maxlen=_REMEMBERED)  # bytes of the last parcels
        self._accounts: weakref.WeakSet[Account] = weakref.WeakSet()
        self.reader: Account | None = None  # whom parcels are pickled for just now
        self.named: list[Share] = []  # by the parcels that were pickled since somebody looked
        self._keys = itertools.count(1)
        self._shares: set[Watch] = set()
        self.unshared: deque[Watch] = deque()  # shared objects that nobody names any more
        self._open = codec.keep is not None
        hold(self)

    # Packing.

    def encode(self, value: Any, *, once: bool, keep: codec.Keep = codec.keep) -> bytes | Parcel:
        """Pickle *value* for a task, large parts beside it.

        Args:
            once: whether the task will be started at most once, and has it for itself.

        Raises:
            as `codec.encode`.
        """
        thread = threading.get_ident()
        outer = codec.take_beside()  # this is inside a pickling of the same thread: a `__reduce__` uses a pool
        before = _naming.get(thread)
        _naming[thread] = naming = (self, list[Share]())
        try:
            blob = codec.encode(value, keep)
        finally:
            buffers = codec.take_beside()
            if outer:
                codec.beside[thread] = outer
            if before is None:
                del _naming[thread]
            else:
                _naming[thread] = before
        return self.pack(blob, buffers, once=once, shares=tuple(dict.fromkeys(naming[1])))

    def share(self, value: Any) -> Share:
        """Pickle *value* for all the tasks to come that name it.

        Raises:
            as `codec.encode`.
        """
        # With small buffers beside it too: a reader can then not write to any of them.
        packed = self.encode(value, once=False, keep=codec.keep_all_beside)
        parcel = (
            packed
            if isinstance(packed, Parcel)
            else Parcel(self, SHARED, packed, [], [], [], (), mentions_main=codec.mentions_main(packed))
        )
        parcel._mode = SHARED
        share = Share(next(self._keys), self, parcel)
        watch = Watch(share, self.unshared.append, share.key, 0, 0)
        with _shares_lock:
            self._shares.add(watch)
            _shares.add(watch)
            codec.beside[_SHARES] = True
        return share

    def take_unshared(self) -> list[int]:
        """The keys of the shared objects that nobody names any more."""
        watches = [self.unshared.popleft() for _ in range(len(self.unshared))]
        self._forget(watches)
        return [watch.number for watch in watches]

    def _forget(self, watches: list[Watch]) -> None:
        with _shares_lock:
            self._shares.difference_update(watches)
            _shares.difference_update(watches)
            if not _shares:
                codec.beside.pop(_SHARES, None)

    def pack(
        self, blob: bytes, buffers: list[memoryview], *, once: bool, shares: tuple[Share, ...] = ()
    ) -> bytes | Parcel:
        """*blob*, as it is if it is small and needs nothing else; else a parcel of copies."""
        mode = ONCE if once else AGAIN
        if not buffers and not shares and (len(blob) <= codec.LARGE_BYTES or not self._open):
            return blob
        mentions_main = codec.mentions_main(blob) or any(share.parcel.mentions_main for share in shares)
        parts: list[Any] = list(buffers)
        if len(blob) > codec.LARGE_BYTES:
            parts.append(blob)
        stored = self._store(parts) if parts else ([], [])
        if stored is None:
            parts = [bytes(view) for view in buffers]
            return Parcel(self, mode, blob, [], [], parts, shares, mentions_main=mentions_main)
        rest = None if len(parts) > len(buffers) else blob
        return Parcel(self, mode, rest, stored[0], stored[1], [], shares, mentions_main=mentions_main)

    def _store(self, parts: list[Any]) -> tuple[list[Block], list[Place]] | None:
        """Copy *parts* into blocks; None when there is no memory to be had for all of them."""
        blocks: list[Block] = []
        places: list[Place] = []
        together = sum(_round_up(len(part), _ALIGN) for part in parts if len(part) < OWN_BLOCK)
        wanted = [_class_of(len(part)) for part in parts if len(part) >= OWN_BLOCK]
        if together:
            wanted.insert(0, _round_up(together, PAGE))
        self._recent.append(sum(wanted))
        for size in wanted:
            block = self._take(size)
            if block is None:
                return None
            blocks.append(block)
        at, own = 0, int(together > 0)
        for part in parts:
            size = len(part)
            if size < OWN_BLOCK:
                places.append((0, at, size))
                at += _round_up(size, _ALIGN)
            else:
                places.append((own, 0, size))
                own += 1
            number, start, _ = places[-1]
            block = blocks[number]
            block.segment.view(block.offset + start, size)[:] = part
        return blocks, places

    # Blocks.

    def _take(self, size: int) -> Block | None:
        inside: bool = self.lock._is_owned()  # type: ignore[attr-defined]  # as conditions of `threading` ask
        if inside or not self._open:
            return None  # a signal's handler has interrupted its own thread in here
        try:
            with self.lock:
                self._reclaim()
                place = self._arena.take(size)
                if place is None:
                    self._grow(size)
                    place = self._arena.take(size)
                self._cool()
                if place is None:
                    return None
                number, offset = place
                block = Block(self._segments[number], offset, size)
                block.watch = Watch(block, self._freed.append, number, offset, size)
                self._watches.add(block.watch)
                return block
        except (OSError, ValueError, MemoryError):  # descriptors, addresses or memory run short
            return None

    def _grow(self, size: int) -> None:
        if len(self._segments) >= self._most:
            return
        number = next(self._numbers)
        least = _round_up(size, PAGE)
        # As large as all before together: so they stay few.
        large = max(_SEGMENT, 1 << (least - 1).bit_length(), 1 << self._arena.total().bit_length() >> 1)
        try:
            segment = Segment.create(number, large)
        except (OSError, ValueError, OverflowError):
            segment = Segment.create(number, least)
        self._segments[number] = segment
        self._arena.add(number, segment.size)

    def reclaim(self) -> None:
        """Take note of the blocks that are free; keep no more of them warm than is of use."""
        inside: bool = self.lock._is_owned()  # type: ignore[attr-defined]  # as in `_take`
        if not inside:
            with self.lock:
                self._reclaim()
                self._cool()

    def _reclaim(self) -> None:
        while self._freed:
            watch = self._freed.popleft()
            self._watches.discard(watch)
            if watch.spent:
                self._arena.spend(watch.number, watch.size)
            else:
                self._arena.give(watch.number, watch.offset, watch.size)
        for number in self._arena.worn_out():
            self._drop(number)

    def _cool(self) -> None:
        most = max(_KEPT_LEAST, 2 * max(self._recent, default=0))
        if self._arena.warm <= most:
            return
        for number in list(self._segments):
            if self._arena.warm > most and self._arena.is_idle(number):
                self._drop(number)
        for number, offset, size in self._arena.cool(most):
            self._segments[number].empty(offset, size)

    def _drop(self, number: int) -> None:
        segment = self._segments.pop(number)
        if not self._arena.drop(number):  # else somebody may look at what is spent, for as long as he likes
            segment.empty(0, segment.size)  # now, and not when its readers have heard of it
        segment.unmap()
        for account in list(self._accounts):
            account.detach(number)

    def add(self, account: Account) -> None:
        """From now on it is told of segments that are no more."""
        self._accounts.add(account)

    def disown(self) -> None:
        """In a forked child: this memory is the parent's."""
        self._open = False
        self.lock = threading.RLock()  # another thread of the parent may have held it at the fork
        for segment in self._segments.values():
            segment.unmap()
        self._segments.clear()

    def close(self) -> None:
        """Nothing will be packed any more, and what is shared cannot be named."""
        self._forget(list(self._shares))
        self.disown()


# Naming shared objects.

_SHARES = "shares"  # the key in `codec.beside`, there as long as there is any
_shares: set[Watch] = set()  # of all pools
_shares_lock = threading.RLock()
_naming: dict[int, tuple[Lender, list[Share]]] = {}  # by thread: whose task is being pickled, and what it names


def name(share: Share) -> int | None:
    """The number under which the task that is being pickled may name *share*; None when none is, or another pool's."""
    naming = _naming.get(threading.get_ident())
    if naming is None or naming[0] is not share.lender:
        return None
    naming[1].append(share)
    return share.key


# Sizes.


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _class_of(size: int) -> int:
    """*size*, rounded up to one of sixteen sizes for each power of two: what is nearly as large then fits, too.

    A type is made for each size (`Segment.lend`), so there should not be many.
    """
    return _round_up(size, max(PAGE, 1 << (size.bit_length() - 5)))


def _most_segments() -> int:
    """Each takes two descriptors, in each process that has it: they must not be what a program runs short of."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 64 if limit < 0 else max(4, min(64, limit // 16))


# In a worker.

_own: list[Lender] = []
_own_lock = threading.Lock()


def own_lender(account: Account) -> Lender:
    """What this process, a worker, lends to its master."""
    with _own_lock:
        if not _own:
            lender = Lender()
            lender.add(account)
            _own.append(lender)
        return _own[0]


def _forget_own() -> None:
    global _own_lock
    _own.clear()
    _own_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_own)  # it is the parent's
