"""The board: memory in which the workers write what they do, and the master reads it, and whoever tells of the server.

One row for each worker process, one seat in it for each of its threads, all of fixed size.  Every word has one writer: the
board's head is the master's, a row's head too but for the words that say what the process found out itself, a seat is its
thread's.  Nothing is locked: a word is stored whole, and a reader that finds a seat between two words of a change finds a request a moment
older or younger than it is.  Only sums over all rows need more: while a row is being retired its requests would be counted twice, or
not at all.  The master says when it does that (`EDITION`), and a reader begins again (`Board.read`).

Rows are used again when a worker has gone; what its seats had counted is added to the totals first (`Board.retire`), and
the row's serial number changes, so that what was seen of one worker is never taken for another's.
"""

from __future__ import annotations

import mmap
import os
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

__all__ = ["BOUNDS", "Board", "Doing", "Row", "Seat", "SeatView", "Sums", "find_overdue"]

T = TypeVar("T")

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: each request is counted at the first of these that it did not exceed, or beyond the last."""
_BOUNDS = tuple(round(bound * 1e9) for bound in BOUNDS)
BUCKETS = len(BOUNDS) + 1

WORD = 8
HEAD_WORDS = 16 + BUCKETS  # of the whole board
ROW_WORDS = 16  # before the seats of a row
SEAT_WORDS = 8 + BUCKETS
TEXT = 120  # bytes of a seat that say for whom it works, and on what: a length, and UTF-8
SEAT_SIZE = SEAT_WORDS * WORD + TEXT + WORD

# Words of the head.
ALERT, SERVED, FAILED, SECONDS, STARTED, DIED, RELOADS, SINCE, WANTED, GENERATION, EDITION, MASTER, GIVEN_UP = range(13)
# Words of a row.
SERIAL, PID, BORN, ROW_GENERATION, MEMORY = range(5)
# Words of a seat.
DOING, BEGAN, REQUESTS, FAILURES, NANOSECONDS, LENGTH = range(6)
# Of the head and of a seat: requests by how long they took.
HEAD_BUCKETS, SEAT_BUCKETS = 16, 8

# What of a row is kept when it is retired: of a seat, and in the head.
_COUNTED = (REQUESTS, FAILURES, NANOSECONDS, *range(SEAT_BUCKETS, SEAT_BUCKETS + BUCKETS))
_KEPT = (SERVED, FAILED, SECONDS, *range(HEAD_BUCKETS, HEAD_BUCKETS + BUCKETS))

PATIENCE = 1000
"""So often is the board read again because a row was being retired, before it is taken as it is."""


class Doing(IntEnum):
    """What a seat is at."""

    NOTHING = 0  # no thread is there: it has not begun, or has left
    IDLE = 1
    BUSY = 2


@dataclass(frozen=True, slots=True)
class SeatView:
    """A seat at one moment.

    Attributes:
        doing: what it is at.
        began: when it began that, in seconds of ``time.monotonic``.
        requests: how many it has served.
        text: for whom it works, and on what; empty when idle.
    """

    doing: Doing
    began: float
    requests: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Sums:
    """What was served.

    Attributes:
        requests: how many were.
        failed: those of them that failed.
        seconds: how long they took, together.
        buckets: how many took so long: at each of `BOUNDS` those above the one before, at last those above all.
    """

    requests: int
    failed: int
    seconds: float
    buckets: tuple[int, ...]


class Seat:
    """The writer's side of a seat.  In the thread whose seat it is."""

    __slots__ = ("_text", "_words")

    def __init__(self, memory: memoryview) -> None:
        self._words = memory[: SEAT_WORDS * WORD].cast("q")
        self._text = memory[SEAT_WORDS * WORD :]

    def rest(self) -> None:
        """Be idle from now on."""
        words = self._words
        words[LENGTH] = 0
        words[BEGAN] = time.monotonic_ns()
        words[DOING] = Doing.IDLE

    def begin(self, text: str) -> None:
        """Work for *text* from now on."""
        words = self._words
        data = text.encode("utf-8", "replace")[:TEXT]
        self._text[: len(data)] = data
        words[LENGTH] = len(data)
        words[BEGAN] = time.monotonic_ns()
        words[DOING] = Doing.BUSY

    def end(self, *, failed: bool = False) -> None:
        """Count what `begin` began, and rest."""
        words = self._words
        now = time.monotonic_ns()
        took = now - words[BEGAN]
        words[NANOSECONDS] += took
        words[SEAT_BUCKETS + bisect_left(_BOUNDS, took)] += 1
        words[REQUESTS] += 1
        if failed:
            words[FAILURES] += 1
        words[LENGTH] = 0
        words[BEGAN] = now
        words[DOING] = Doing.IDLE

    def leave(self) -> None:
        """Nobody is here any more."""
        self._words[DOING] = Doing.NOTHING


class Row:
    """A worker's part of the board, as either side sees it."""

    def __init__(self, memory: memoryview, threads: int) -> None:
        self.words = memory[: ROW_WORDS * WORD].cast("q")
        start = ROW_WORDS * WORD
        self._seats = [memory[start + at * SEAT_SIZE : start + (at + 1) * SEAT_SIZE] for at in range(threads)]
        self._seat_words = [seat[: SEAT_WORDS * WORD].cast("q") for seat in self._seats]

    def seat(self, number: int) -> Seat:
        """The writer's side of a seat."""
        return Seat(self._seats[number])

    def look(self, *, texts: bool = False) -> list[SeatView]:
        """All its seats; what they work on only if *texts* are asked for."""
        views = []
        for words, memory in zip(self._seat_words, self._seats, strict=True):
            text = ""
            if texts and words[DOING] == Doing.BUSY:
                at = SEAT_WORDS * WORD
                text = bytes(memory[at : at + words[LENGTH]]).decode("utf-8", "replace")
            views.append(SeatView(Doing(words[DOING]), words[BEGAN] / 1e9, words[REQUESTS], text))
        return views

    def sums(self) -> list[int]:
        """Of all its seats, word by word: requests, failures, nanoseconds, and requests by how long they took."""
        return [sum(words[at] for words in self._seat_words) for at in _COUNTED]

    def clear(self) -> None:
        """As before its first worker, but for the serial number."""
        for words in (self.words[PID:], *self._seat_words):
            for at in range(len(words)):
                words[at] = 0


class Board:
    """All of it.  Made by the master before it forks; the workers inherit the memory."""

    def __init__(self, rows: int, threads: int) -> None:
        row_size = ROW_WORDS * WORD + threads * SEAT_SIZE
        self._memory = mmap.mmap(-1, HEAD_WORDS * WORD + rows * row_size)  # shared, and without a name
        whole = memoryview(self._memory)
        self.words = whole[: HEAD_WORDS * WORD].cast("q")
        start = HEAD_WORDS * WORD
        self.rows = [Row(whole[start + at * row_size : start + (at + 1) * row_size], threads) for at in range(rows)]
        self._free = list(range(rows - 1, -1, -1))

    # In the master.

    def open(self) -> None:
        """The calling process is the master, from now on."""
        self.words[MASTER] = os.getpid()
        self.words[SINCE] = time.monotonic_ns()

    def count(self, word: int) -> None:
        """One more, in a word of the head."""
        self.words[word] += 1

    def note_plan(self, wanted: int, generation: int) -> None:
        """How many workers there are to be, and of which generation."""
        self.words[WANTED] = wanted
        self.words[GENERATION] = generation

    def take_row(self, generation: int) -> int | None:
        """The number of a row for a new worker; None while there is none."""
        if not self._free:
            return None
        number = self._free.pop()
        words = self.rows[number].words
        words[SERIAL] += 1
        words[BORN] = time.monotonic_ns()
        words[ROW_GENERATION] = generation
        self.words[STARTED] += 1
        return number

    def retire(self, number: int) -> None:
        """Add up what the worker of this row has done, and have the row free."""
        row = self.rows[number]
        self.words[EDITION] += 1  # odd: no sums now
        for word, value in zip(_KEPT, row.sums(), strict=True):
            self.words[word] += value
        row.clear()
        self.words[EDITION] += 1
        self._free.append(number)

    # In whatever process tells of the server.

    def sums(self) -> Sums:
        """Of all workers, those that have ended included.  Outside the master, inside `read`."""
        rows = [row.sums() for row in self.rows if row.words[PID]]
        served, failed, nanoseconds, *buckets = (
            self.words[word] + sum(one[at] for one in rows) for at, word in enumerate(_KEPT)
        )
        return Sums(served, failed, nanoseconds / 1e9, tuple(buckets))

    def read(self, function: Callable[[], T]) -> T:
        """What *function* finds here at a moment when no row was being retired."""
        for _ in range(PATIENCE):
            edition = self.words[EDITION]
            found = function()
            if edition % 2 == 0 and self.words[EDITION] == edition:
                return found
            time.sleep(0)  # the master is at it, and needs a few microseconds
        return function()  # it was stopped, or killed, in the middle

    # In a worker.

    def adopt(self, number: int) -> Row:
        """The row of the calling worker."""
        row = self.rows[number]
        row.words[PID] = os.getpid()
        return row

    @property
    def wants_alerts(self) -> bool:
        """Whether the master wants to be told that a worker has no idle seat."""
        return bool(self.words[ALERT])

    @wants_alerts.setter
    def wants_alerts(self, wanted: bool) -> None:
        self.words[ALERT] = wanted


def find_overdue(seats: list[SeatView], timeout: float, now: float) -> tuple[list[int], float]:
    """The numbers of the seats that are over their time, and when the next can be: no look before then finds more.

    What begins after *now* is over its time after ``now + timeout`` at the earliest; of what runs now its own beginning counts.
    """
    late, following = [], now + timeout
    for number, seat in enumerate(seats):
        if seat.doing is not Doing.BUSY:
            continue
        due = seat.began + timeout
        if due <= now:
            late.append(number)
        else:
            following = min(following, due)
    return late, following
