"""What a progress bar says, given the counts, the time and the room there is."""

from __future__ import annotations

import pytest

from forkful.pool._progress import Tally, bar_line, last_line, plain_line, spell_seconds


def tally(done: int, total: int | None = 1000, failed: int = 0, name: str = "census") -> Tally:
    made = Tally(name, total, started=100.0)
    made.done, made.failed = done, failed
    return made


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 ms"),
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (1, "1.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 0 s"),
        (3725, "1 h 2 min"),
        (4e6, "1,111 h 6 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert spell_seconds(seconds) == text


def test_a_bar_with_room_says_everything() -> None:
    line = bar_line(tally(450, failed=2), 110.0, 100)
    assert line == "census  45%|██████████████████                      | 450/1,000  2 failed  ETA 12.2 s  45/s"
    assert bar_line(tally(450, failed=2), 110.0, 100, blocks=False) == line.replace("█", "#")


def test_before_the_first_and_after_the_last() -> None:
    assert bar_line(tally(0), 100.0, 79) == f"census   0%|{' ' * 40}| 0/1,000"
    assert bar_line(tally(1000), 102.0, 79) == f"census 100%|{'█' * 40}| 1,000/1,000  500/s"


def test_parts_of_a_block() -> None:
    assert bar_line(tally(1, total=320), 100.0, 79).count("▏") == 1
    assert "#" not in bar_line(tally(1, total=320), 100.0, 79, blocks=False)


def test_not_quite_all_is_not_all() -> None:
    assert " 99%|" in bar_line(tally(99_999, total=100_000), 110.0, 79)


def test_more_than_was_said() -> None:
    """An iterable may give more than its ``__len__``."""
    assert "100%|" in bar_line(tally(1001), 110.0, 79)


def test_an_unknown_total() -> None:
    assert bar_line(tally(450, None, failed=1), 110.0, 79) == "census 450 done  1 failed  45/s"
    assert bar_line(tally(0, None), 100.0, 79) == "census 0 done"


@pytest.mark.parametrize("done", [0, 1, 999, 1_000_000])
@pytest.mark.parametrize("total", [None, 1_000_000])
def test_it_fits(done: int, total: int | None) -> None:
    for columns in range(120):
        assert len(bar_line(tally(done, total, failed=done // 2), 7000.0, columns)) <= columns


def test_what_matters_least_is_left_out_first() -> None:
    lines = [bar_line(tally(450, failed=2), 110.0, columns) for columns in range(10, 90)]
    for less, more in [("45/s", "census"), ("census", "ETA"), ("ETA", "failed"), ("failed", "450/1,000")]:
        assert all(more in line for line in lines if less in line)
        assert any(more in line and less not in line for line in lines)
    assert "|" not in lines[0]
    assert "|" in lines[-1]


@pytest.mark.parametrize(
    ("done", "seconds", "rate"),
    [(1000, 0.5, "2,000/s"), (10, 10, "1.0/s"), (2, 60, "30.0 s each"), (5, 0, ""), (0, 9, "")],
)
def test_rates(done: int, seconds: float, rate: str) -> None:
    assert bar_line(tally(done, None), 100.0 + seconds, 79) == f"census {done:,} done{'  ' if rate else ''}{rate}"


def test_lines_of_a_log() -> None:
    assert plain_line(tally(450, failed=2), 110.0) == "census: 450 of 1,000 done (45%), 2 failed, 45/s, 12.2 s left"
    assert plain_line(tally(450, None), 110.0) == "census: 450 done, 45/s"


def test_last_words() -> None:
    assert last_line(tally(1000, failed=2), 110.0) == "census: 1,000 done in 10.0 s, 2 failed, 100/s"
    assert last_line(tally(450), 110.0) == "census: stopped after 450 of 1,000 in 10.0 s, 45/s"
    assert last_line(tally(450, None), 110.0) == "census: stopped after 450 in 10.0 s, 45/s"
