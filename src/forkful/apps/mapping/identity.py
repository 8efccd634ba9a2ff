"""The names of inputs, made from their content, so that a line keeps its name wherever it moves; and which are done."""

from __future__ import annotations

import hashlib
import re
from array import array

__all__ = ["Identities"]

_SMALLEST = 1 << 10
_DONE, _SEEN = 1, 2  # in a run before this one; in this run
_CONTENT = re.compile(r"(\??)([0-9a-f]{16})(?:-(\d{1,9}))?")


class Identities:
    """Gives each line its id: 16 hexadecimal digits of its SHA-256; the second time the same line comes, ``…-2``.

    What `mark_done` has been told of gets None instead: nothing is to be done for it.

    Memory: 14 to 27 bytes a line (a table of the 64 bits themselves, and a byte of marks; a ``set`` of numbers takes 80),
    so that ten million lines, done or to be done, fit into 150 MB.  Two lines that differ share their 64 bits with a
    chance of one in 370,000 among ten million lines; the second then counts as a repetition of the first.

    Attributes:
        skipped: how many were found to be done.

    >>> identities = Identities()
    >>> identities.name(b"a"), identities.name(b"a")
    ('ca978112ca1bbdca', 'ca978112ca1bbdca-2')
    """

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 * _SMALLEST))  # open addressing; 0 = free
        self._marks = bytearray(_SMALLEST)
        self._mask = _SMALLEST - 1
        self._used = 0
        self._repeats: dict[int, int] = {}  # only lines that came more than once
        self._done_repeats: set[tuple[int, int]] = set()  # such lines that are done: which line, which time
        self.skipped = 0  # how often something was done

    def name(self, line: bytes) -> str | None:
        """The id of *line* (without its newline); None if it is done."""
        digest = hashlib.sha256(line).digest()[:8]
        times, done = self._see(int.from_bytes(digest, "big"))
        if done:
            return None
        return digest.hex() if times == 1 else f"{digest.hex()}-{times}"

    def name_given(self, name: str) -> tuple[str | None, bool]:
        """The id of an input that is called *name*, which is that; None if it is done.  And whether it came before."""
        times, done = self._see(_key_of_name(name))
        return None if done else name, times > 1

    def name_unnamed(self, line: bytes) -> str | None:
        """The id of an input among those that have names, and which has none, or another's: made from its content."""
        name = self.name(line)
        return None if name is None else f"?{name}"

    def mark_done(self, identity: str, *, given: bool) -> None:
        """The input with this id is done; *given*: ids are names that inputs have, or those of `name_unnamed`.

        Raises ValueError for an id of the other kind.
        """
        key, times = _key_of_id(identity, given=given)
        if times == 1:
            place = self._find(key)  # first: it may make a new table
            self._marks[place] |= _DONE
        else:
            self._done_repeats.add((key, times))

    def is_done(self, identity: str, *, given: bool) -> bool:
        """Whether the input with this id is done; *given*, and what is raised, as in `mark_done`."""
        key, times = _key_of_id(identity, given=given)
        done = bool(self._marks[self._find(key)] & _DONE) if times == 1 else (key, times) in self._done_repeats
        self.skipped += done
        return done

    def _see(self, key: int) -> tuple[int, bool]:
        """Which time *key* is seen, and whether it is done, this time."""
        place = self._find(key)
        mark = self._marks[place]
        if not mark & _SEEN:
            self._marks[place] = mark | _SEEN
            times, done = 1, bool(mark & _DONE)
        else:
            times = self._repeats[key] = self._repeats.get(key, 1) + 1
            done = (key, times) in self._done_repeats
        self.skipped += done
        return times, done

    def _find(self, key: int) -> int:
        """The place of *key*, which is put there if it is new."""
        key = key or 1  # the one line in 2**64 whose key is 0 shares the place of 1
        table, mask = self._table, self._mask
        place = key & mask
        while (there := table[place]) != 0:
            if there == key:
                return place
            place = (place + 1) & mask
        if self._used * 3 > mask * 2:  # beyond two thirds full, searches grow long
            self._grow()
            return self._find(key)
        table[place] = key
        self._used += 1
        return place

    def _grow(self) -> None:
        old, marks = self._table, self._marks
        size = 2 * len(old)
        self._table = table = array("Q", bytes(8 * size))
        self._marks = new_marks = bytearray(size)
        self._mask = mask = size - 1
        for key, mark in zip(old, marks, strict=True):
            if key:
                place = key & mask
                while table[place]:
                    place = (place + 1) & mask
                table[place] = key
                new_marks[place] = mark


def _key_of_id(identity: str, *, given: bool) -> tuple[int, int]:
    """The key of an input with this id, and which time it came; see `Identities.mark_done`."""
    match = _CONTENT.fullmatch(identity)
    if match is not None and bool(match[1]) == given:
        return int(match[2], 16), int(match[3] or 1)
    if not given:
        raise ValueError(f"{identity!r} is not made from the content of an input")
    return _key_of_name(identity), 1


def _key_of_name(name: str) -> int:
    # Apart from the keys of contents: a line may hold what another is called.
    return int.from_bytes(hashlib.sha256(b"name " + name.encode("utf-8", "surrogatepass")).digest()[:8], "big")
