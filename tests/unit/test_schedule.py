"""How much work goes out at once."""

from __future__ import annotations

import itertools

import pytest

from forkful._core.schedule import BLOCK_MOST, BLOCK_NS, WINDOW_MOST, WINDOW_NS, Pace, default_chunksize

US, MS = 1_000, 1_000_000


def pace_of(ns: float) -> Pace:
    """A pace at which an element of function 1 costs *ns*."""
    pace = Pace()
    pace.learn(1, 1000, int(ns * 1000))
    return pace


def test_nothing_is_known() -> None:
    """An unknown function goes one element at a time, and costs nothing."""
    pace = Pace()
    assert (pace.window(1), pace.block(1, 100), pace.cost(1)) == (1, 1, 0)


def test_window_is_ten_milliseconds_of_work() -> None:
    """As many elements as fit, at least the one that runs."""
    costs = [3 * WINDOW_NS, WINDOW_NS, WINDOW_NS // 2, MS, US]
    assert [pace_of(ns).window(1) for ns in costs] == [1, 1, 2, 10, 10_000]


def test_block_is_a_millisecond_of_work() -> None:
    """As many elements as fit, at least one."""
    costs = [2 * BLOCK_NS, BLOCK_NS // 4, 10 * US, US]
    assert [pace_of(ns).block(1, 10_000) for ns in costs] == [1, 4, 100, 1000]


def test_limits() -> None:
    """However little an element costs: memory is finite, and so is a chunk."""
    pace = pace_of(0)
    assert pace.window(1) == WINDOW_MOST
    assert pace.block(1, 10**9) == BLOCK_MOST
    assert pace.block(1, 7) == 7
    assert pace_of(MS).block(1, 1) == 1


def test_newest_reports_count_most() -> None:
    """A report counts twice as much as the one before it."""
    pace = Pace()
    pace.learn(1, 10, 10 * MS)
    assert pace.cost(1) == MS
    pace.learn(1, 10, 40 * MS)
    assert pace.cost(1) == pytest.approx((5 * MS + 40 * MS) / 15)
    for _ in range(50):
        pace.learn(1, 10, 20 * MS)
    assert pace.cost(1) == pytest.approx(2 * MS)


def test_elements_count_alike() -> None:
    """A first call that pays for an import does not stand for the thousand after it."""
    pace = Pace()
    pace.learn(1, 1, 500 * MS)
    pace.learn(1, 1000, 10 * MS)
    assert pace.window(1) > 30


def test_empty_reports_teach_nothing() -> None:
    """Results that were read from a journal come without times."""
    pace = Pace()
    pace.learn(1, 0, 0)
    assert pace.window(1) == 1
    pace.learn(1, 1, MS)
    pace.learn(1, 0, 5)
    assert pace.cost(1) == MS


def test_functions_have_their_own_pace() -> None:
    """One that is forgotten is unknown again, also if it was never known."""
    pace = pace_of(MS)
    pace.learn(2, 1, 5 * MS)
    assert (pace.window(1), pace.window(2)) == (10, 2)
    pace.forget(1)
    pace.forget(3)
    assert (pace.window(1), pace.window(2)) == (1, 2)


def test_chunksize_is_that_of_multiprocessing() -> None:
    """Four chunks a worker, rounded up; a chunk never holds nothing."""
    for length, processes in itertools.product([0, 1, 7, 8, 9, 100, 10_000], [1, 2, 8]):
        chunksize, extra = divmod(length, processes * 4)
        assert default_chunksize(length, processes) == max(1, chunksize + bool(extra))


# Computing and waiting.


def test_threads_for_a_function_that_is_not_known() -> None:
    """One, to find out."""
    assert Pace().width(1, 32) == 1


@pytest.mark.parametrize(
    ("cpu", "width"), [(0, 32), (1, 32), (30, 30), (100, 9), (250, 3), (450, 2), (500, 1), (900, 1), (2000, 1)]
)
def test_threads_that_pay(cpu: int, width: int) -> None:
    """As many as together compute nine tenths of the time."""
    pace = Pace()
    pace.learn_share(1, 1000, cpu, 0)
    assert pace.width(1, 32) == width


def test_a_crowd_tells_nothing() -> None:
    """Threads that wait for each other look as if they waited for something else: they become fewer until it shows."""
    pace = Pace()
    pace.learn_share(1, 1000, 100, 0)
    assert pace.width(1, 32) == 9
    widths = []
    for _ in range(8):  # from now on it computes all the time
        width = pace.width(1, 32)
        pace.learn_share(1, 1000 * width, 1000, width - 1)
        widths.append(pace.width(1, 32))
    assert widths[-1] == 1
    assert widths == sorted(widths, reverse=True)


def test_a_function_that_comes_to_wait() -> None:
    """What is measured alone is believed, newest first."""
    pace = Pace()
    pace.learn_share(1, 1000, 1000, 0)
    for _ in range(8):
        pace.learn_share(1, 1000, 10, 0)
    assert pace.width(1, 32) == 32
    pace.forget(1)
    assert pace.shares() == {}
