"""Times and numbers of processes, as people write them."""

from __future__ import annotations

import pytest

from forkful.apps.spellings import parse_duration, parse_jobs


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1.5", 1.5), ("1.5h", 5400), ("250ms", 0.25), (".5", 0.5), (" 2 s ", 2), ("1d", 86400)],
)
def test_duration(text: str, seconds: float) -> None:
    """Each spelling gives its seconds."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "abc", "5x", "-5", "0", "0s", "inf", "nan", "1:30", "5 m s", "1" * 400])
def test_no_duration(text: str) -> None:
    """What is no time, or no time to wait for, is refused with a word on what to write."""
    with pytest.raises(ValueError, match="; write"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "cpus", "number"), [("4", 8, 4), ("50%", 8, 4), ("100%", 3, 3), ("1%", 2, 1), ("200%", 2, 4), ("1", 64, 1)]
)
def test_jobs(text: str, cpus: int, number: int) -> None:
    """A number is itself, a share is of the CPUs and never nothing."""
    assert parse_jobs(text, cpus) == number


@pytest.mark.parametrize("text", ["4097", "1" * 5000, "1000000%"])
def test_too_many_jobs(text: str) -> None:
    """A slip of the finger does not start a million processes."""
    with pytest.raises(ValueError, match=r"' is too many processes; write 4096 or fewer"):
        parse_jobs(text, cpus=8)
    assert parse_jobs("4096", cpus=8) == 4096


@pytest.mark.parametrize("text", ["0", "-1", "abc", "", "1.5", "0%", "-5%", "%", "4x"])
def test_no_jobs(text: str) -> None:
    """Less than one process, or no number, is refused with a word on what to write."""
    with pytest.raises(ValueError, match="; write"):
        parse_jobs(text, cpus=8)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1h30m", 5400.0), ("1d 2h", 93600.0), ("1m30.5s", 90.5), ("2s250ms", 2.25)]
)
def test_durations_of_several_parts(text: str, seconds: float) -> None:
    """As people write them."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["1h30", "1 2", "1hm", "h", "1h-30m"])
def test_durations_of_parts_that_are_none(text: str) -> None:
    """Each part needs its unit."""
    with pytest.raises(ValueError, match="is not a time; write 30s, 5m, 1h30m or plain seconds"):
        parse_duration(text)
