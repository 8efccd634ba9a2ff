"""What a server is doing: read from the board, for `Server.stats` and for whoever asks at the status address."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ._board import (
    BORN,
    BOUNDS,
    DIED,
    GENERATION,
    GIVEN_UP,
    MASTER,
    PID,
    RELOADS,
    ROW_GENERATION,
    SINCE,
    STARTED,
    WANTED,
    Board,
    Doing,
    Row,
    SeatView,
)
from ._depths import Queue, sum_depths

__all__ = ["Facts", "gather", "tell_durations"]

NAMES = {Doing.NOTHING: "absent", Doing.IDLE: "idle", Doing.BUSY: "busy"}
"""What each seat does, in a word."""


class Facts:
    """The board of a server and the queues of its listeners, as a process that has neither made can read them.

    Args:
        board: the server's.
        queues: of its listeners.
        addresses: of its listeners, to be shown.
    """

    def __init__(self, board: Board, queues: Sequence[Queue], addresses: Sequence[str]) -> None:
        self._board = board
        self._queues = queues
        self._addresses = list(addresses)

    def stats(self) -> dict[str, Any]:
        """As `Server.stats` tells it."""
        return self._gather(seats=False)

    def all(self) -> dict[str, Any]:
        """The same, with each seat of each worker."""
        return {"addresses": self._addresses, **self._gather(seats=True)}

    def _gather(self, *, seats: bool) -> dict[str, Any]:
        board = self._board
        return board.read(lambda: gather(board, time.monotonic(), seats=seats)) | {"queued": sum_depths(self._queues)}


def gather(board: Board, now: float, *, seats: bool) -> dict[str, Any]:
    """What the board says at *now*, in seconds of ``time.monotonic``."""
    words = board.words
    workers = [_tell_worker(row, now, seats=seats) for row in board.rows if row.words[PID]]
    sums = board.sums()
    return {
        "pid": words[MASTER],
        "uptime": now - words[SINCE] / 1e9,
        "workers": workers,
        "busy": sum(worker["busy"] for worker in workers),
        "idle": sum(worker["idle"] for worker in workers),
        "wanted": words[WANTED],
        "generation": words[GENERATION],
        "started": words[STARTED],
        "died": words[DIED],
        "reloads": words[RELOADS],
        "reloads_given_up": words[GIVEN_UP],
        "requests": sums.requests,
        "failed": sums.failed,
        "seconds": sums.seconds,
        "durations": tell_durations(sums.buckets),
    }


def tell_durations(buckets: Sequence[int]) -> list[tuple[float | None, int]]:
    """How many requests took at most so many seconds, by bound, each with those before it; None: all of them.

    >>> tell_durations([1] + [0] * 14 + [2])[0], tell_durations([1] + [0] * 14 + [2])[-1]
    ((0.001, 1), (None, 3))
    """
    told, total = [], 0
    for bound, number in zip((*BOUNDS, None), buckets, strict=True):
        total += number
        told.append((bound, total))
    return told


def _tell_worker(row: Row, now: float, *, seats: bool) -> dict[str, Any]:
    views = row.look(texts=seats)
    doing = [view.doing for view in views]
    told = {
        "pid": row.words[PID],
        "generation": row.words[ROW_GENERATION],
        "age": now - row.words[BORN] / 1e9,
        "busy": doing.count(Doing.BUSY),
        "idle": doing.count(Doing.IDLE),
    }
    return told | {"seats": [_tell_seat(view, now) for view in views]} if seats else told


def _tell_seat(view: SeatView, now: float) -> dict[str, Any]:
    """Of a thread: what it does, for how many seconds, for whom, and how many requests it has served."""
    return {
        "doing": NAMES[view.doing],
        "seconds": max(0.0, now - view.began) if view.doing is not Doing.NOTHING else 0.0,
        "client": view.text,
        "requests": view.requests,
    }
