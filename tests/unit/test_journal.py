"""The page between master and worker: what is committed is there for whoever looks, also when the writer is not."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest

from forkful._core.journal import (
    DATA,
    DUMP,
    LEDGER,
    RECORDS,
    SINCE,
    SIZE,
    STARTED,
    Journal,
    create_memory,
    open_journals,
    pack,
    split,
)
from forkful._core.messages import ERROR, GROUP, MIXED, VALUE


@pytest.fixture
def memory() -> Iterator[int]:
    """The descriptor of a page."""
    fd = create_memory()
    yield fd
    os.close(fd)


@pytest.fixture
def writer(memory: int) -> Iterator[Journal]:
    """The worker's view."""
    (journal,) = open_journals(memory)
    yield journal
    journal.close()


@pytest.fixture
def reader(memory: int) -> Iterator[Journal]:
    """The master's view of the same page."""
    (journal,) = open_journals(memory)
    yield journal
    journal.close()


def read(journal: Journal) -> tuple[int, list[tuple[int, int, bytes]]]:
    """What a reader finds."""
    serial, records = journal.read_records()
    return serial, [(count, kind, bytes(blob)) for count, kind, blob in records]


def test_new_page_is_empty(memory: int, reader: Journal) -> None:
    """Zeroed memory is an empty journal."""
    assert os.fstat(memory).st_size == SIZE + DUMP
    assert read(reader) == (0, [])
    assert reader.read_progress() == (0, 0)


def test_memory_has_no_name_and_is_not_inherited(memory: int) -> None:
    """It goes with its last user, and only who is given it has it."""
    assert os.fstat(memory).st_nlink == 0
    assert not os.get_inheritable(memory)


def test_memory_without_memfd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on Linux it is a file that has lost its name."""
    monkeypatch.delattr(os, "memfd_create", raising=False)
    fd = create_memory()
    try:
        assert os.fstat(fd).st_size == SIZE + DUMP
        assert os.fstat(fd).st_nlink == 0
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_records_are_seen_by_the_other_side(writer: Journal, reader: Journal) -> None:
    """All that are committed, in order, with what they are."""
    assert writer.commit(1, VALUE, b"one")
    assert read(reader) == (0, [(1, VALUE, b"one")])
    assert writer.commit(1, ERROR, b"")
    assert writer.commit(250, GROUP, b"three")
    assert writer.commit(2, MIXED, b"four")
    assert read(reader) == (
        0,
        [(1, VALUE, b"one"), (1, ERROR, b""), (250, GROUP, b"three"), (2, MIXED, b"four")],
    )


def test_records_survive_their_writer(memory: int) -> None:
    """The view is gone, as it is when a worker dies; the page is not."""
    (writer,) = open_journals(memory)
    writer.commit(3, GROUP, b"abc")
    writer.words[STARTED] = 7
    writer.close()
    (reader,) = open_journals(memory)
    assert read(reader) == (0, [(3, GROUP, b"abc")])
    assert reader.read_progress()[0] == 7
    reader.close()


def test_records_outlive_the_page(writer: Journal, reader: Journal) -> None:
    """What was read is a copy: the worker may go on writing."""
    writer.commit(1, VALUE, b"one")
    _, records = reader.read_records()
    writer.reset(1)
    writer.commit(1, VALUE, b"two")
    assert bytes(records[0][2]) == b"one"


def test_uncommitted_bytes_are_not_seen(writer: Journal, reader: Journal) -> None:
    """The ledger decides: bytes and index entry without it are nothing."""
    writer.commit(1, VALUE, b"one")
    writer.data[3:6] = b"two"
    writer.index[1] = pack(1, VALUE, 3)
    assert read(reader) == (0, [(1, VALUE, b"one")])


def test_progress(writer: Journal, reader: Journal) -> None:
    """The running element's number and its start."""
    writer.words[SINCE] = 123_456_789_012_345
    writer.words[STARTED] = 42
    assert reader.read_progress() == (42, 123_456_789_012_345)


def test_reset_numbers_on(writer: Journal, reader: Journal) -> None:
    """The page is empty again, and the next record has the next number."""
    writer.commit(1, VALUE, b"one")
    writer.commit(1, VALUE, b"two")
    writer.reset(2)
    assert read(reader) == (2, [])
    assert (writer.count, writer.used, writer.serial) == (0, 0, 2)
    writer.commit(1, VALUE, b"three")
    assert read(reader) == (2, [(1, VALUE, b"three")])
    writer.reset(1)
    assert read(reader) == (3, [])


def test_reset_for_a_record_that_never_was_in_the_page(writer: Journal, reader: Journal) -> None:
    """One too large for it is sent directly, and has a number all the same."""
    writer.reset(1)
    writer.commit(1, VALUE, b"x")
    assert read(reader) == (1, [(1, VALUE, b"x")])


def test_page_without_room_for_bytes(writer: Journal, reader: Journal) -> None:
    """A record that does not fit is refused whole; after a reset there is room."""
    assert writer.commit(1, VALUE, b"a" * (DATA - 10))
    assert not writer.commit(1, VALUE, b"b" * 11)
    assert writer.commit(1, VALUE, b"c" * 10)
    assert not writer.commit(1, VALUE, b"d")
    assert read(reader) == (0, [(1, VALUE, b"a" * (DATA - 10)), (1, VALUE, b"c" * 10)])
    writer.reset(2)
    assert writer.commit(1, VALUE, b"e" * DATA)
    assert read(reader) == (2, [(1, VALUE, b"e" * DATA)])


def test_page_without_room_for_a_record(writer: Journal, reader: Journal) -> None:
    """The index is full before the bytes are."""
    for number in range(RECORDS):
        assert writer.commit(1, VALUE, number.to_bytes(2, "big"))
    assert not writer.commit(1, VALUE, b"")
    serial, records = read(reader)
    assert (serial, len(records)) == (0, RECORDS)
    assert [int.from_bytes(blob, "big") for _, _, blob in records] == list(range(RECORDS))


def test_record_larger_than_the_page(writer: Journal, reader: Journal) -> None:
    """It never fits."""
    assert not writer.commit(1, VALUE, bytes(DATA + 1))
    assert read(reader) == (0, [])


class Interrupted:
    """The index, which a worker disturbs when it is read."""

    def __init__(self, index: Any, disturb: Any) -> None:
        self._index = index
        self._disturb = disturb

    def __getitem__(self, key: Any) -> Any:
        self._disturb()
        return self._index[key]


def read_while(reader: Journal, disturb: Any) -> tuple[int, list[tuple[int, int, bytes]]]:
    """Read, *disturb* being called after the ledger was looked at and before anything was copied."""
    view: Any = reader
    index, view.index = view.index, Interrupted(view.index, disturb)
    try:
        return read(reader)
    finally:
        view.index = index


def test_reset_while_it_is_read(writer: Journal, reader: Journal) -> None:
    """The records are on their way through the channel: here they are none."""
    writer.commit(1, VALUE, b"one")
    assert read_while(reader, lambda: writer.reset(1)) == (0, [])
    assert read(reader) == (1, [])


def test_reset_and_new_records_while_it_is_read(writer: Journal, reader: Journal) -> None:
    """What stands there now is not what the ledger spoke of."""
    writer.commit(1, VALUE, b"one")
    writer.commit(1, VALUE, b"two")

    def go_on() -> None:
        writer.reset(2)
        writer.commit(9, GROUP, b"something much longer")
        writer.commit(1, VALUE, b"x")
        writer.commit(1, VALUE, b"y")

    assert read_while(reader, go_on) == (0, [])


def test_commit_while_it_is_read(writer: Journal, reader: Journal) -> None:
    """The records that were there are found; the new one is for the next time."""
    writer.commit(1, VALUE, b"one")
    assert read_while(reader, lambda: writer.commit(1, VALUE, b"two")) == (0, [(1, VALUE, b"one")])


def test_index_torn_by_a_new_page(writer: Journal, reader: Journal) -> None:
    """Lengths that add up to more than the page holds are read past nothing."""
    writer.commit(1, VALUE, b"one")

    def tear() -> None:
        writer.reset(1)
        writer.index[0] = pack(1, VALUE, 2**35)

    assert read_while(reader, tear) == (0, [])


def test_ledger_is_one_word(writer: Journal) -> None:
    """Serial number and count change together, also where the number is large."""
    writer.serial = 2**40
    writer.commit(1, VALUE, b"")
    assert writer.words[LEDGER] == 2**40 << 16 | 1
    writer.reset(RECORDS)
    assert writer.words[LEDGER] == (2**40 + RECORDS) << 16


def test_copy_stores_nothing(writer: Journal, reader: Journal) -> None:
    """Also through a view that was taken before; what was there stays."""
    writer.commit(1, VALUE, b"one")
    words = writer.words
    writer.disown()
    with pytest.raises(ValueError, match="released"):
        words[STARTED] = 7
    with pytest.raises(ValueError, match="released"):
        writer.commit(1, VALUE, b"two")
    writer.disown()  # a copy of the copy
    assert reader.read_progress() == (0, 0)
    assert read(reader) == (0, [(1, VALUE, b"one")])


def test_copy_of_a_worker_that_was_writing(writer: Journal, reader: Journal) -> None:
    """A view that another thread held at the fork stands in nobody's way."""
    held = writer.data[:3]
    writer.disown()
    with pytest.raises(ValueError, match="released"):
        writer.words[STARTED] = 7
    held.release()


def test_entries_of_the_index() -> None:
    """Count, kind and length come back as they went in, and records are cut at their lengths."""
    text = b"abcdefgh"
    for count, kind, length in itertools.product([1, 4096, 2**20], [VALUE, ERROR, GROUP, MIXED], [0, 1, 5]):
        records = split([pack(count, kind, length), pack(1, VALUE, 2)], memoryview(text))
        assert [(c, k, bytes(blob)) for c, k, blob in records] == [
            (count, kind, text[:length]),
            (1, VALUE, text[length : length + 2]),
        ]


def test_entry_of_a_large_record() -> None:
    """A length beyond four gigabytes fits."""
    entry = pack(3, GROUP, 2**33 + 5)
    assert entry < 2**64
    assert entry & (2**36 - 1) == 2**33 + 5


def test_close_while_a_record_is_held(memory: int) -> None:
    """A slice in somebody's traceback keeps the memory, and no error is made of it."""
    (journal,) = open_journals(memory)
    held = memoryview(journal._map)
    journal.close()
    assert held[0] == 0
    held.release()
    journal._map.close()
