"""When a map is to stop early."""

from __future__ import annotations

import pytest

from forkful.apps.mapping.halting import parse_halt


@pytest.mark.parametrize(
    ("policy", "done", "failed", "reached"),
    [
        ("now,fail=1", 5, 0, False),
        ("now,fail=1", 5, 1, True),
        ("soon,fail=3", 100, 2, False),
        ("soon,fail=3", 3, 3, True),
        ("soon,fail=10%", 9, 9, False),
        ("soon,fail=10%", 10, 1, True),
        ("soon,fail=10%", 11, 1, False),
        ("soon, fail = 100%", 10, 10, True),
        ("now,success=2", 5, 4, False),
        ("now,success=2", 5, 3, True),
        ("now,success=50%", 10, 5, True),
        ("soon,done=7", 6, 6, False),
        ("soon,done=7", 7, 0, True),
    ],
)
def test_policies(policy: str, done: int, failed: int, reached: bool) -> None:
    """Counts, and shares from the tenth input on."""
    halt = parse_halt(policy)
    assert halt is not None
    assert halt.is_reached(done, failed) is reached


def test_never() -> None:
    """As without any: for scripts that always say it."""
    assert parse_halt("never") is parse_halt(" never ") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "fail=1",
        "later,fail=1",
        "now,fail=0",
        "now,fail=-1",
        "now,fail=101%",
        "now,fail=x",
        "now,fail=1.5",
    ],
)
def test_policies_that_cannot_be(text: str) -> None:
    """The message shows how to write one."""
    with pytest.raises(ValueError, match="write now,fail=1 or soon,fail=10%"):
        parse_halt(text)


def test_share_of_what_is_done() -> None:
    """How many inputs there are is not known, so only failures and successes can be a share."""
    with pytest.raises(ValueError, match=r"'soon,done=5%' is a share of those that are done, .*; write soon,done=5 or"):
        parse_halt("soon,done=5%")


@pytest.mark.parametrize("text", ["now,fail=3", "soon,fail=10%"])
def test_spelled_as_it_is_written(text: str) -> None:
    """In messages."""
    assert str(parse_halt(text)) == text
