"""The journal: one page of shared memory between the master and one worker.

It answers two questions that a channel cannot answer once its writer is dead: *which element was running, since when?*
and *which results were complete but not yet sent?*  The worker alone writes, the master alone reads, and only when the
worker is dead or has been in one element for long; so nothing here is locked.

Layout: a few 64-bit words, an index of records (64 bits each), the records' bytes, and the place where a crash is described
(`faults.watch`): text, up to the first zero byte.

- ``STARTED``: how many elements this worker has started, ever; `IN_INITIALIZER` while the initializer runs.
- ``SINCE``: when the newest started, in nanoseconds of ``time.monotonic_ns``, one clock for all processes of a machine.
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

STARTED, SINCE, LEDGER, MEMORY = range(4)
IN_INITIALIZER = -1
WORDS = 8
RECORDS = 4096
INDEX_AT = WORDS * 8
DATA_AT = INDEX_AT + RECORDS * 8
DATA = 128 * 1024
DUMP_AT = DATA_AT + DATA
DUMP = 64 * 1024
SIZE = DUMP_AT + DUMP

_SERIAL_SHIFT = 16  # RECORDS fits below it
_COUNT_MASK = (1 << _SERIAL_SHIFT) - 1
_LENGTH_BITS, _KIND_BITS = 36, 4

Record = tuple[int, int, "memoryview | bytes"]  # elements, kind (messages.VALUE …), bytes


def create_memory() -> int:
    """A descriptor of anonymous zeroed memory of `SIZE` bytes: no name, gone with its last user."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("forkful-journal", os.MFD_CLOEXEC)
    else:  # macOS: a file that loses its name at once
        import tempfile  # where it is not needed, its 5 ms are not spent

        fd, path = tempfile.mkstemp(prefix="forkful-journal-")
        os.unlink(path)
    try:
        os.ftruncate(fd, SIZE)
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
    for entry in index:
        length = entry & ((1 << _LENGTH_BITS) - 1)
        kind = (entry >> _LENGTH_BITS) & ((1 << _KIND_BITS) - 1)
        records.append((entry >> (_KIND_BITS + _LENGTH_BITS), kind, data[at : at + length]))
        at += length
    return records


class Journal:
    """One side's view of the page behind descriptor *fd*, which stays the caller's to close."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, SIZE)
        whole = memoryview(self._map)
        self.words = whole[:INDEX_AT].cast("q")
        self.index = whole[INDEX_AT:DATA_AT].cast("Q")
        self.data = whole[DATA_AT:DUMP_AT]
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
        """What ``faulthandler`` has written of the worker's end; empty when it had no reason to."""
        end = self._map.find(b"\0", DUMP_AT)
        return self._map[DUMP_AT : end if end >= 0 else SIZE].decode("utf-8", "replace")

    def close(self) -> None:
        """Unmap the page."""
        self.words.release()
        self.index.release()
        self.data.release()
        try:
            self._map.close()
        except BufferError:  # a traceback may still hold a slice; the mapping then goes with it
            pass
