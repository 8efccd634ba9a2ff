"""Lenders and accounts, both sides in this process."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from forkful._core import accounts, codec, lending, segments
from forkful._core.accounts import AGAIN, ONCE, OWN_BLOCK, SHARED, Account, Received
from forkful._core.lending import Lender, Parcel, Share
from forkful._core.messages import DETACH, HEADER, RETURNED

MIB = 1024 * 1024
SMALL = codec.LARGE_BYTES  # the least that does not go in the pickle


class Pair:
    """One process that lends, another that borrows; and what they have to tell each other."""

    def __init__(self) -> None:
        self.lender = Lender()
        ours, theirs = socket.socketpair()
        self.giver = Account(ours)
        self.taker = Account(theirs)
        self.lender.add(self.giver)

    def send(self, value: Any, mode: int = ONCE) -> Received:
        """Pickle *value* on one side; what comes of it at the other."""
        packed = self.lender.encode(value, once=mode == ONCE)
        assert isinstance(packed, Parcel)
        packed._mode = mode
        return self.taker.receive(*packed.describe(self.giver))

    def settle(self) -> list[int]:
        """Deliver what each side owes; the kinds of frame there were."""
        kinds = []
        for payer, other in ((self.taker, self.giver), (self.giver, self.taker)):
            frames = b"".join(payer.pay())
            while frames:
                kind, _, number, length = HEADER.unpack_from(frames)
                body = frames[HEADER.size : HEADER.size + length]
                frames = frames[HEADER.size + length :]
                kinds.append(kind)
                if kind == RETURNED:
                    assert length == number * 16
                    other.settle(memoryview(body))
                    self.lender.reclaim()
                else:
                    other.drop_segment(number)
        return kinds

    def warm(self) -> int:
        """How much the lender keeps for the next."""
        self.lender.reclaim()
        return self.lender._arena.warm

    def close(self) -> None:
        """Both ends."""
        self.taker.close()
        self.giver.close()
        self.lender.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    """One for each test."""
    pair = Pair()
    yield pair
    pair.close()


@pytest.mark.parametrize("mode", [ONCE, AGAIN, SHARED])
@pytest.mark.parametrize("size", [SMALL, OWN_BLOCK - 1, OWN_BLOCK, 3 * MIB + 5])
def test_round_trip(mode: int, size: int, pair: Pair) -> None:
    """Equal on the other side; writable where it is the reader's own; and all of it comes back in the end."""
    array: Any = np.arange(size, dtype="u1")
    received = pair.send({"array": array, "text": "x"}, mode)
    value = received.load()
    assert value["text"] == "x"
    assert np.array_equal(value["array"], array)
    assert value["array"].flags.writeable == (mode != SHARED)
    del received
    pair.settle()
    del value
    pair.settle()
    assert not pair.giver._lent
    assert pair.warm() >= size


def test_lent_in_place(pair: Pair) -> None:
    """What is large is not copied on the reader's side, and given back with the last that looks at it."""
    received = pair.send(np.zeros(2 * MIB, dtype="u1"))
    array = received.take()
    part = array[5:10]
    view = memoryview(part)
    del received, array
    assert pair.settle() == []
    del part
    assert pair.settle() == []
    assert bytes(view) == bytes(5)
    del view
    assert pair.settle() == [RETURNED]
    assert not pair.giver._lent


def test_memory_is_used_again_only_when_nobody_sees_it(pair: Pair) -> None:
    """A thousand arrays through the same memory, some of them kept: each is what it was."""
    kept = []
    for number in range(300):
        array = pair.send(np.full(OWN_BLOCK + number, number % 251, dtype="u1")).take()
        if number % 60 == 0:
            kept.append((number, array))
        del array
        pair.settle()
    for number, array in kept:
        assert array.size == OWN_BLOCK + number
        assert (array == number % 251).all()
    assert len(pair.lender._segments) == 1


def test_the_other_try_sees_no_change(pair: Pair) -> None:
    """What a task writes to its arguments stays with it, where they may be sent again."""
    packed = pair.lender.encode([np.zeros(2 * MIB, dtype="u1"), np.zeros(SMALL, dtype="u1")], once=False)
    assert isinstance(packed, Parcel)
    for _ in range(3):
        value = pair.taker.receive(*packed.describe(pair.giver)).take()
        for array in value:
            assert not array.any()
            array[:] = 1


def test_two_loans_of_one_block(pair: Pair) -> None:
    """It is free when both are back, and the parcel has gone."""
    packed = pair.lender.encode(np.zeros(2 * MIB, dtype="u1"), once=False)
    assert isinstance(packed, Parcel)
    one, two = (pair.taker.receive(*packed.describe(pair.giver)) for _ in range(2))
    del one
    pair.settle()
    assert pair.giver._lent
    del two
    pair.settle()
    assert not pair.giver._lent
    assert pair.warm() == 0
    del packed
    assert pair.warm() == 2 * MIB


def test_pickle_without_buffers(pair: Pair) -> None:
    """A large pickle goes the same way."""
    value = [b"x" * SMALL, "y" * 3 * MIB, list(range(1000))]
    assert pair.send(value).load() == value


def test_small_things_stay_as_they_are(pair: Pair) -> None:
    """Small buffers are in the pickle, and that is plain bytes."""
    packed = pair.lender.encode(np.arange(100), once=True)
    assert isinstance(packed, bytes)
    assert pickle.loads(packed).tolist() == list(range(100))


def fork_and_end() -> None:
    """A fork of this process, over at once."""
    if pid := os.fork():
        os.waitpid(pid, 0)
    else:
        os._exit(0)


def test_what_a_fork_may_see_is_not_used_again(pair: Pair) -> None:
    """Its child keeps the array: nobody writes there any more, and the memory goes when it has gone."""
    array = pair.send(np.ones(2 * MIB, dtype="u1")).take()
    fork_and_end()
    del array
    assert pair.settle() == [RETURNED, DETACH]  # the segment held nothing else
    assert pair.warm() == 0
    assert not pair.lender._segments
    assert not pair.taker._segments
    pair.send(np.ones(2 * MIB, dtype="u1")).take()
    assert pair.settle() == [RETURNED]
    assert pair.warm() == 2 * MIB


def test_what_was_not_looked_at_survives_a_fork(pair: Pair) -> None:
    """A fork can see no more than its parent."""
    received = pair.send(np.ones(2 * MIB, dtype="u1"))
    fork_and_end()
    del received
    pair.settle()
    assert pair.warm() == 2 * MIB


def test_a_borrower_that_dies(pair: Pair) -> None:
    """What it had may be seen by a process that it has forked."""
    array = pair.send(np.ones(2 * MIB, dtype="u1")).take()
    pair.giver.close()
    assert pair.warm() == 0
    assert not pair.lender._segments
    assert array.all()


def test_a_lender_that_dies(pair: Pair) -> None:
    """What it has lent lives as long as it is looked at; the rest of its memory goes."""
    kept = pair.send(np.full(2 * MIB, 3, dtype="u1")).take()
    other = pair.send(np.full(20 * MIB, 4, dtype="u1")).take()
    segment = pair.taker._segments[1]
    del other
    before = os.stat(segment.fd).st_blocks * 512
    fd = os.dup(segment.fd)
    pair.taker.close()
    assert before >= 22 * MIB
    assert os.fstat(fd).st_blocks * 512 < 3 * MIB
    os.close(fd)
    assert (kept == 3).all()


def test_no_memory_to_be_had(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then all of it goes in the message."""

    def refuse(*_: Any) -> None:
        raise OSError

    monkeypatch.setattr(segments.Segment, "create", refuse)
    array = np.arange(2 * MIB)
    received = pair.send([array, b"x" * SMALL])
    assert not received._loans
    value = received.load()
    assert np.array_equal(value[0], array)
    value[0][0] = 5
    assert received.size >= array.nbytes
    assert pair.settle() == []


def test_no_descriptor_can_be_sent(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor then; and nothing is noted as lent."""

    def refuse(*_: Any) -> None:
        raise OSError

    monkeypatch.setattr(accounts, "send_fds", refuse)
    received = pair.send(np.arange(2 * MIB))
    assert received.load()[-1] == 2 * MIB - 1
    assert not pair.giver._lent
    assert pair.warm() >= 2 * MIB


def test_no_descriptor_can_be_received(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what is missing; the block is given back."""

    def lose(sock: socket.socket, size: int, flags: int) -> tuple[bytes, list[int]]:
        return sock.recv(size, flags), []

    monkeypatch.setattr(accounts, "receive_fds", lose)
    received = pair.send(np.arange(2 * MIB))
    with pytest.raises(OSError, match="ulimit -n"):
        received.load()
    del received
    gc.collect()  # the traceback
    pair.settle()
    assert not pair.giver._lent


def test_what_is_kept_is_copied_beyond_a_bound(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the memory that is written to is used again, and few segments are needed."""
    monkeypatch.setattr(accounts, "_LEND_MOST", 8 * MIB)
    kept = []
    for number in range(100):
        kept.append(pair.send(np.full(2 * MIB, number, dtype="u1")).take())
        pair.settle()
    assert [int(array[0]) for array in kept] == list(range(100))
    assert len(pair.giver._lent) == 4
    assert len(pair.lender._segments) == 1


def test_free_memory_is_bounded(pair: Pair) -> None:
    """Twice what the largest of the last took is kept, and never less than a segment."""
    for size in (300, 300, 1):
        values = [pair.send(np.ones(size * MIB // 3, dtype="u1")).take() for _ in range(3)]
        del values
        pair.settle()
    assert pair.warm() == pytest.approx(200 * MIB, rel=0.1)  # a hundred twice
    for _ in range(lending._REMEMBERED):
        pair.send(np.ones(MIB, dtype="u1"))
        pair.settle()
    assert pair.warm() <= lending._KEPT_LEAST
    assert sum(os.fstat(s.fd).st_blocks * 512 for s in pair.lender._segments.values()) <= lending._KEPT_LEAST + 2 * MIB


def test_segments_are_bounded(pair: Pair) -> None:
    """A program's descriptors are its own: beyond so many segments, in the message."""
    pair.lender._most = 2
    parcels = [pair.lender.encode(np.ones(50 * MIB, dtype="u1"), once=True) for _ in range(4)]
    assert [bool(parcel._blocks) for parcel in parcels if isinstance(parcel, Parcel)] == [True, True, False, False]


def test_many_buffers(pair: Pair) -> None:
    """More than the system takes in one call, large and small in turn."""
    arrays: list[Any] = [
        np.full((SMALL if number % 3 else OWN_BLOCK) + number, number % 256, dtype="u1") for number in range(600)
    ]
    for mine, theirs in zip(arrays, pair.send(arrays).take(), strict=True):
        assert np.array_equal(mine, theirs)
    pair.settle()
    assert not pair.giver._lent


def test_pickling_that_fails(pair: Pair) -> None:
    """Nothing is left of it for the next."""
    broken = [np.ones(MIB), threading.Lock()]
    encoders: list[Callable[[], object]] = [
        lambda: pair.lender.encode(broken, once=True),
        lambda: codec.encode(broken, codec.keep),
        lambda: codec.encode_result(broken, codec.keep),
    ]
    for encode in encoders:
        with pytest.raises(TypeError):
            encode()
        assert codec.beside == {}


class Nesting:
    """Pickles something large of its own as it is pickled."""

    def __init__(self, lender: Lender) -> None:
        self.lender = lender
        self.inner: Any = None

    def __reduce__(self) -> Any:
        self.inner = self.lender.encode(np.full(MIB, 9, dtype="u1"), once=True)
        return str, ("nested",)


def test_pickling_inside_pickling(pair: Pair) -> None:
    """Each gets its own buffers."""
    nesting = Nesting(pair.lender)
    one, text, two = pair.send([np.full(MIB, 1, dtype="u1"), nesting, np.full(MIB, 2, dtype="u1")]).take()
    assert (text, int(one[0]), int(two[-1])) == ("nested", 1, 2)
    inner = pair.taker.receive(*nesting.inner.describe(pair.giver)).take()
    assert (inner == 9).all()


class Naming:
    """Names a shared object as it is pickled."""

    def __init__(self, share: Share) -> None:
        self.share = share
        self.key: int | None = None

    def __reduce__(self) -> Any:
        self.key = lending.name(self.share)
        return str, ("named",)


def test_shared_objects_are_named(pair: Pair) -> None:
    """Only while a task of the same pool is pickled; they live as long as the task."""
    share = pair.lender.share("x")
    assert lending.name(share) is None
    naming = Naming(share)
    packed = pair.lender.encode(naming, once=True)
    assert isinstance(packed, Parcel)
    assert naming.key == share.key
    assert packed.shares == (share,)
    other = Lender()
    assert isinstance(other.encode(naming, once=True), bytes)
    assert naming.key is None
    other.close()
    key = share.key
    del share, naming
    assert pair.lender.take_unshared() == []
    del packed
    assert pair.lender.take_unshared() == [key]
    assert codec.beside == {}


def test_disowned(pair: Pair) -> None:
    """In a forked child, nothing is lent any more; the parent's memory is left alone."""
    array = pair.send(np.ones(2 * MIB, dtype="u1")).take()
    read, write = os.pipe()
    if pid := os.fork():
        os.close(write)
        assert os.waitpid(pid, 0)[1] == 0
        with os.fdopen(read, "rb") as result:
            assert result.read() == b"True True"
    else:
        code = 1
        with contextlib.suppress(BaseException):
            packed = pair.lender.encode(np.ones(2 * MIB, dtype="u1"), once=True)
            in_band = isinstance(packed, Parcel) and not packed._blocks
            os.write(write, f"{bool(array.all())} {in_band}".encode())
            pair.close()
            del array
            code = 0
        os._exit(code)
    assert array.all()
    again = pair.send(np.zeros(2 * MIB, dtype="u1")).take()
    assert not again.any()
    assert array.all()


def test_share_class_is_what_parcels_name() -> None:
    """A parcel keeps its shares alive, and they their parcels."""
    lender = Lender()
    share = lender.share([1])
    assert isinstance(share, Share)
    assert share.parcel.describe(None)[0] == SHARED
    assert codec.beside
    lender.close()
    assert codec.beside == {}
