"""The names of inputs: made from their content, so that a line keeps its name wherever it moves."""

from __future__ import annotations

import hashlib
from array import array

__all__ = ["Identities"]

_SMALLEST = 1 << 10


class Identities:
    """Gives each line its id: 16 hexadecimal digits of its SHA-256; the second time the same line comes, ``…-2``.

    Memory: 16 to 32 bytes a line (a table of the 64 bits themselves; a ``set`` of numbers takes 80), so that ten
    million lines fit into 135 MB.

    >>> identities = Identities()
    >>> identities.name(b"a"), identities.name(b"a")
    ('ca978112ca1bbdca', 'ca978112ca1bbdca-2')
    """

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 * _SMALLEST))  # open addressing; 0 = free
        self._mask = _SMALLEST - 1
        self._used = 0
        self._repeats: dict[int, int] = {}  # only lines that came more than once

    def name(self, line: bytes) -> str:
        """The id of *line* (without its newline)."""
        digest = hashlib.sha256(line).digest()[:8]
        key = int.from_bytes(digest, "big")
        if self._add(key or 1):  # the one line in 2**64 whose key is 0 shares the place of 1
            return digest.hex()
        count = self._repeats.get(key, 1) + 1
        self._repeats[key] = count
        return f"{digest.hex()}-{count}"

    def _add(self, key: int) -> bool:
        """Put *key* into the table; False when it was there."""
        table, mask = self._table, self._mask
        place = key & mask
        while (there := table[place]) != 0:
            if there == key:
                return False
            place = (place + 1) & mask
        table[place] = key
        self._used += 1
        if self._used * 3 > mask * 2:  # beyond two thirds full, searches grow long
            self._grow()
        return True

    def _grow(self) -> None:
        old = self._table
        self._table = table = array("Q", bytes(16 * len(old)))
        self._mask = mask = len(table) - 1
        for key in old:
            if key:
                place = key & mask
                while table[place]:
                    place = (place + 1) & mask
                table[place] = key
