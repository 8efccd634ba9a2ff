"""The board: memory in which the workers write what they do, and the master reads it.

One row for each worker process, one seat in it for each of its threads, all of fixed size.  Every word has one writer: a
row's head is the master's but for the words that say what the process found out itself, a seat is its thread's.  Nothing is
locked: a word is stored whole, and a reader that finds a seat between two words of a change finds a request a moment
older or younger than it is.

Rows are used again when a worker has gone; what its seats had counted is added to the totals first (`Board.retire`), and
the row's serial number changes, so that what was seen of one worker is never taken for another's.
"""

from __future__ import annotations

import mmap
import os
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

__all__ = ["Board", "Doing", "Row", "Seat", "SeatView", "find_overdue"]

WORD = 8
HEAD_WORDS = 32  # of the whole board
ROW_WORDS = 16  # before the seats of a row
SEAT_WORDS = 8
TEXT = 120  # bytes of a seat that say for whom it works, and on what: a length, and UTF-8
SEAT_SIZE = SEAT_WORDS * WORD + TEXT + WORD

# Words of the head.
ALERT, SERVED, FAILED, SECONDS, STARTED, DIED, RELOADS, SINCE, WANTED, GENERATION = range(10)
# Words of a row.
SERIAL, PID, BORN, ROW_GENERATION, MEMORY = range(5)
# Words of a seat.
DOING, BEGAN, REQUESTS, FAILURES, NANOSECONDS, LENGTH = range(6)


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
        words[NANOSECONDS] += now - words[BEGAN]
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

    def sums(self) -> tuple[int, int, int]:
        """Requests, failures and nanoseconds of all its seats."""
        seats = self._seat_words
        return (
            sum(words[REQUESTS] for words in seats),
            sum(words[FAILURES] for words in seats),
            sum(words[NANOSECONDS] for words in seats),
        )

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
        self.words[SINCE] = time.time_ns()

    # In the master.

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
        for word, value in zip((SERVED, FAILED, SECONDS), row.sums(), strict=True):
            self.words[word] += value
        row.clear()
        self._free.append(number)

    def totals(self) -> tuple[int, int, float]:
        """Requests served, those that failed, and the seconds they took: of all workers, the dead included."""
        sums = [row.sums() for row in self.rows]
        served, failed, nanoseconds = (
            self.words[word] + sum(one[at] for one in sums) for at, word in enumerate((SERVED, FAILED, SECONDS))
        )
        return served, failed, nanoseconds / 1e9

    def stats(self) -> dict[str, Any]:
        """As `Server.stats` tells it."""
        served, failed, seconds = self.totals()
        now = time.monotonic_ns()
        workers = []
        for row in self.rows:
            if not (pid := row.words[PID]):
                continue
            doing = [view.doing for view in row.look()]
            workers.append(
                {
                    "pid": pid,
                    "generation": row.words[ROW_GENERATION],
                    "age": (now - row.words[BORN]) / 1e9,
                    "busy": doing.count(Doing.BUSY),
                    "idle": doing.count(Doing.IDLE),
                }
            )
        return {
            "workers": workers,
            "requests": served,
            "failed": failed,
            "seconds": seconds,
            "started": self.words[STARTED],
        }

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
