"""Rows of tables, as a stream.  A row whose quotes are wrong costs that row only: the next begins on the next line.

Between commas, quotes are as RFC 4180 has them.  Between tabs they are quotes where a field begins and ends with one, and
part of the text elsewhere: most programs that write such files know of no quotes.
"""

from __future__ import annotations

import csv
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

__all__ = ["NoRow", "read_rows"]

_FIELD_MOST = 1 << 26  # characters of one field: the csv module's own limit, 128 kB, is one for texts


class NoRow(NamedTuple):
    """Stands for a row that cannot be read: why, and the line that stood there."""

    why: str
    line: str


def read_rows(file: Iterable[bytes], *, tabs: bool) -> Iterator[tuple[int, list[str] | NoRow]]:
    """The rows of *file*, header included, each with the number of its last line; blank lines are none."""
    csv.field_size_limit(_FIELD_MOST)
    tape = _Tape(line.decode("utf-8", "surrogateescape") for line in file)
    reader = csv.reader(tape, delimiter="\t" if tabs else ",", strict=True)
    width: int | None = None  # columns, as the first row has them
    while True:
        tape.begin()
        row: list[str] | NoRow
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            tape.back()
            row = _part(tape.row[0]) if tabs else NoRow(_explain(error), tape.row[0].rstrip("\r\n"))
        else:
            if tabs and width is not None and (len(tape.row) > 1 or len(row) != width) and _are_rows(tape, row, width):
                tape.back()
                row = _part(tape.row[0])
        if row:
            if width is None and isinstance(row, list):
                width = len(row)
            yield tape.number, row


def _are_rows(tape: _Tape, row: list[str], width: int) -> bool:
    """Whether lines make more sense as rows of their own, without quotes, than as the one *row* that was made of them."""
    first, *others = (len(_part(line)) == width for line in tape.row)
    return first and (len(row) != width or all(others))


def _part(line: str) -> list[str]:
    """A line between tabs as a row of its own."""
    line = line.rstrip("\r\n")
    return [_unquote(field) for field in line.split("\t")] if line else []


def _unquote(field: str) -> str:
    inside = field[1:-1]
    if len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inside.replace('""', ""):
        return inside.replace('""', '"')
    return field


def _explain(error: csv.Error) -> str:
    why = str(error)
    return f"is no row: {'a quote in it is never closed' if why == 'unexpected end of data' else why}; mend its quotes"


class _Tape:
    """Lines, for the csv module to take; those behind the first of a row can be put back.

    Attributes:
        row: the lines that were taken since the row began.
        number: how many were taken in all.
    """

    def __init__(self, lines: Iterator[str]) -> None:
        first = next(lines, None)
        self._lines = itertools.chain([] if first is None else [first.removeprefix("\ufeff")], lines)
        self._again: deque[str] = deque()
        self.row: list[str] = []
        self.number = 0

    def begin(self) -> None:
        """A row begins."""
        self.row.clear()

    def back(self) -> None:
        """The row ends with its first line."""
        self._again.extendleft(reversed(self.row[1:]))
        self.number -= len(self.row) - 1
        del self.row[1:]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.row.append(line)
        self.number += 1
        return line
