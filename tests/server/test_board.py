"""The board: what is written by one side is read by the other."""

from __future__ import annotations

import os
import time

from forkful.server._board import Board, Doing, SeatView, find_overdue


def test_what_a_seat_does() -> None:
    """From nothing to its end, with its sums."""
    board = Board(rows=2, threads=2)
    number = board.take_row(0)
    assert number is not None
    row = board.adopt(number)
    assert [view.doing for view in row.look()] == [Doing.NOTHING] * 2
    seat = row.seat(1)
    seat.rest()
    before = time.monotonic()
    seat.begin("127.0.0.1:80")
    (_, view) = row.look(texts=True)
    assert (view.doing, view.text) == (Doing.BUSY, "127.0.0.1:80")
    assert before <= view.began <= time.monotonic()
    seat.end()
    seat.begin("x" * 500)
    assert row.look(texts=True)[1].text == "x" * 120
    seat.end(failed=True)
    assert row.look()[1].requests == 2
    assert board.totals()[:2] == (2, 1)
    seat.leave()
    assert row.look()[1].doing is Doing.NOTHING


def test_rows_are_used_again() -> None:
    """What was counted there stays counted, and nothing else is left."""
    board = Board(rows=1, threads=1)
    for turn in range(3):
        number = board.take_row(turn)
        assert number == 0
        assert board.take_row(turn) is None
        seat = board.adopt(number).seat(0)
        seat.begin("a")
        seat.end()
        assert board.totals()[0] == turn + 1
        board.retire(number)
        assert board.rows[0].look() == [SeatView(Doing.NOTHING, 0.0, 0)]
    assert board.totals()[0] == 3


def test_over_a_fork() -> None:
    """A child writes, the parent reads."""
    board = Board(rows=1, threads=1)
    board.take_row(0)
    pid = os.fork()
    if not pid:
        board.adopt(0).seat(0).begin("kid")
        os._exit(0)
    os.waitpid(pid, 0)
    assert board.rows[0].look(texts=True)[0].text == "kid"


def test_overdue() -> None:
    """Who is late, and when the next can be: not before that of those who run, nor before a new one could be."""
    seats = [
        SeatView(Doing.IDLE, 0.0, 0),
        SeatView(Doing.BUSY, 10.0, 0),
        SeatView(Doing.BUSY, 17.0, 0),
        SeatView(Doing.NOTHING, 0.0, 0),
    ]
    assert find_overdue(seats, 5, 14.0) == ([], 15.0)
    assert find_overdue(seats, 5, 15.0) == ([1], 20.0)
    assert find_overdue(seats[:1], 5, 15.0) == ([], 20.0)
    assert find_overdue(seats, 50, 16.0) == ([], 60.0)
