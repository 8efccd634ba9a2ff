"""The journal: one page of shared memory between the master and one worker.

It answers two questions that a channel cannot answer once its writer is dead: *which element was running, since when?*
and *which results were complete but not yet sent?*  The worker alone writes, the master alone reads, and only when the
worker is dead or has been in one element for long; so nothing here is locked.

Layout: a few 64-bit words, an index of records (64 bits each), the records' bytes.  A worker with several threads has a
page for each of them, one behind the other in the same memory.  Behind the last is the place where a crash of the process is
described (`faults.watch`): text, up to the first zero byte.

- ``STARTED``: how many elements this worker has started, ever; `IN_INITIALIZER` while the initializer runs.
- ``SINCE``: when the newest started, in nanoseconds of ``time.monotonic_ns``, one clock for all processes of a machine.
- ``THREAD``: which thread of the worker this is (``threading.get_ident``), where it has several.
- ``MEMORY``: bytes that the worker's process held when it was last measured; 0 where nobody asks for that.
- ``LEDGER``: serial number of the first record in the page, shifted, plus how many records the page holds.  One word,
  one store: a reader that finds the same serial number before and after copying has copied whole records.

Guarantee: a result is *committed* by the store to ``LEDGER``, after its bytes and its index entry were written.  From
then on it survives the worker.  `Journal.reset` comes only after the records were handed to the channel in full.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import Any

STARTED, SINCE, LEDGER, THREAD, MEMORY = range(5)
IN_INITIALIZER = -1
WORDS = 8
RECORDS = 4096
INDEX_AT = WORDS * 8
DATA_AT = INDEX_AT + RECORDS * 8
DATA = 128 * 1024
SIZE = DATA_AT + DATA
DUMP = 64 * 1024

_SERIAL_SHIFT = 16  # RECORDS fits below it
_COUNT_MASK = (1 << _SERIAL_SHIFT) - 1
_LENGTH_BITS, _KIND_BITS = 36, 4
_SMALL = 512  # bytes of a record, on average

Record = tuple[int, int, Any]  # elements, kind (messages.VALUE …), bytes or, in the master, what came in shared memory


def create_memory(pages: int = 1) -> int:
    """A descriptor of anonymous zeroed memory for so many *pages*, and a dump: no name, gone with its last user."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("forkful-journal", os.MFD_CLOEXEC)
    else:  # macOS: a file that loses its name at once
        import tempfile  # where it is not needed, its 5 ms are not spent

        fd, path = tempfile.mkstemp(prefix="forkful-journal-")
        os.unlink(path)
    try:
        os.ftruncate(fd, pages * SIZE + DUMP)
    except BaseException:
        os.close(fd)
        raise
    return fd


def pack(count: int, kind: int, length: int) -> int:
    """An index entry."""
    return (count << (_KIND_BITS + _LENGTH_BITS)) | (kind << _LENGTH_BITS) | length


def split(index: memoryview | list[int], data: memoryview) -> list[Record]:
    """The records whose entries are *index* and whose bytes stand one after the other in *data*."""
    records: list[Record] = []
    at = 0
    parts: memoryview | bytes = data
    if len(data) < _SMALL * len(index):  # to copy twice is then cheaper than a view of each, for the collector too
        parts = bytes(data)
    for entry in index:
        length = entry & ((1 << _LENGTH_BITS) - 1)
        kind = (entry >> _LENGTH_BITS) & ((1 << _KIND_BITS) - 1)
        records.append((entry >> (_KIND_BITS + _LENGTH_BITS), kind, parts[at : at + length]))
        at += length
    return records


def open_journals(fd: int, pages: int = 1) -> list[Journal]:
    """One side's view of the pages in the memory behind descriptor *fd*, which stays the caller's to close."""
    memory = mmap.mmap(fd, pages * SIZE + DUMP)
    return [Journal(memory, page) for page in range(pages)]


def find_dump(fd: int) -> int:
    """Where in the memory behind descriptor *fd* a dump goes."""
    return os.fstat(fd).st_size - DUMP


class Journal:
    """One side's view of one page of *memory*."""

    def __init__(self, memory: mmap.mmap, page: int = 0) -> None:
        self._map = memory
        whole = memoryview(memory)[page * SIZE : (page + 1) * SIZE]
        self.words = whole[:INDEX_AT].cast("q")
        self.index = whole[INDEX_AT:DATA_AT].cast("Q")
        self.data = whole[DATA_AT:]
        self.serial = 0  # worker: of the first record in the page
        self.count = 0  # worker: records in the page
        self.used = 0  # worker: bytes in the page

    # In the worker.

    def commit(self, count: int, kind: int, blob: bytes) -> bool:
        """Make a record durable; False when the page has no room for it (send what it holds, `reset`, try again)."""
        at, used = self.count, self.used
        end = used + len(blob)
        if end > DATA or at == RECORDS:
            return False
        self.data[used:end] = blob
        self.index[at] = pack(count, kind, end - used)
        self.used = end
        self.count = at = at + 1
        self.words[LEDGER] = (self.serial << _SERIAL_SHIFT) | at
        return True

    def reset(self, sent: int) -> None:
        """Forget the records, the next one is *sent* further; called when they are in the channel in full."""
        self.serial += sent
        self.count = self.used = 0
        self.words[LEDGER] = self.serial << _SERIAL_SHIFT

    def disown(self) -> None:
        """In a copy of the worker that a task has forked: nothing can be stored any more, by whoever holds a view.

        Storing is a ``ValueError`` from now on.
        """
        for view in (self.words, self.index, self.data):
            with contextlib.suppress(BufferError):  # another thread, which was not copied, was using it
                view.release()

    # In the master.

    def read_progress(self) -> tuple[int, int]:
        """How many elements the worker has started, and when the newest (monotonic nanoseconds)."""
        return self.words[STARTED], self.words[SINCE]

    def read_records(self) -> tuple[int, list[Record]]:
        """Serial number of the first record and copies of all, or nothing when the worker is just sending them."""
        ledger = self.words[LEDGER]
        serial, count = ledger >> _SERIAL_SHIFT, ledger & _COUNT_MASK
        index = self.index[:count].tolist()
        total = sum(entry & ((1 << _LENGTH_BITS) - 1) for entry in index)
        data = bytes(self.data[: min(total, DATA)])
        if self.words[LEDGER] >> _SERIAL_SHIFT != serial or total > DATA:
            return serial, []
        return serial, split(index, memoryview(data))

    def read_dump(self) -> str:
        """What ``faulthandler`` has written of the worker's end; empty when it had no reason to.  Of the whole process."""
        size = len(self._map)
        end = self._map.find(b"\0", size - DUMP)
        return self._map[size - DUMP : end if end >= 0 else size].decode("utf-8", "replace")

    def close(self) -> None:
        """Let go of the page; with the last one the memory is unmapped."""
        self.words.release()
        self.index.release()
        self.data.release()
        try:
            self._map.close()
        except BufferError:  # by another page, or a slice that a traceback holds; the mapping then goes with it
            pass
