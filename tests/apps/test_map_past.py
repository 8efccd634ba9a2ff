"""What an output holds already."""

from __future__ import annotations

import io
import json

import pytest

from forkful.apps.mapping.calls import Failure, compose
from forkful.apps.mapping.past import Entry, read_entries
from forkful.apps.problems import UsageProblem

GOOD = compose("0123456789abcdef", '"x"', "1", 1, 42, (1.0, 2.0))
BAD = compose("0123456789abcdef-2", '"x"', Failure("ValueError", "no", None), 1, 42, (1.0, 2.0))


def entries_of(data: bytes) -> list[tuple[str, bool]]:
    """Id and success of each."""
    return [(entry.id, entry.ok) for entry in read_entries(io.BytesIO(data), "out.jsonl")]


def test_records() -> None:
    """Each with its place."""
    entries = list(read_entries(io.BytesIO(GOOD + BAD), "out.jsonl"))
    assert entries == [
        Entry("0123456789abcdef", True, 0, len(GOOD)),
        Entry("0123456789abcdef-2", False, len(GOOD), len(GOOD) + len(BAD)),
    ]


@pytest.mark.parametrize("end", range(1, len(BAD) - 1))
def test_torn_last_line(end: int) -> None:
    """Whatever is left of it, it is no record."""
    assert entries_of(GOOD + BAD[:end]) == [("0123456789abcdef", True)]


def test_last_line_without_a_newline() -> None:
    """All of a record but that is a record."""
    assert entries_of(GOOD + BAD[:-1]) == entries_of(GOOD + BAD)


@pytest.mark.parametrize("line", [b"\0" * 100, b"\0" * 100 + b"\n", b"{", b'{"id": "'])
def test_rubbish_at_the_end(line: bytes) -> None:
    """As a loss of power leaves it."""
    assert entries_of(GOOD + line) == [("0123456789abcdef", True)]
    assert entries_of(line) == []


@pytest.mark.parametrize("line", [b"{}\n", b"\n", b"x\n", b'{"id": 1, "ok": true}\n', b'{"id": "x", "ok": 1}\n'])
def test_what_no_map_has_written(line: bytes) -> None:
    """The message tells where."""
    for data in (GOOD + line + GOOD, GOOD + line + b"rest"):
        with pytest.raises(UsageProblem, match=r"out\.jsonl line 2 is no record of `forkful map`"):
            entries_of(data)


def test_a_line_of_notes() -> None:
    """A file that holds one line is not ours either, whether or not that was finished."""
    for data in (b"my notes\n", b"my notes", b"\n"):
        with pytest.raises(UsageProblem, match=r"out\.jsonl line 1 is no record"):
            entries_of(data)


@pytest.mark.parametrize("ok", [True, False])
def test_inputs_that_look_like_records(ok: bool) -> None:
    """The record's own word counts, not what its input or its result say."""
    other = not ok
    text = json.dumps({"ok": other, "result": 5})
    end = text if ok else Failure("E", '", "ok": true, "result": ', None)
    assert entries_of(compose("0123456789abcdef", text, end, 1, 1, None)) == [("0123456789abcdef", ok)]


def test_ids_in_other_letters() -> None:
    """Ids are texts of any kind."""
    for name in ('a"b', "\\", "ü", "\udce9", "x y"):
        assert entries_of(compose(name, None, "1", 1, 1, None)) == [(name, True)]


def test_records_that_were_edited() -> None:
    """As by jq: other spaces, another order."""
    record = {"ok": False, "seconds": 1, "id": "x", "error": {}}
    assert entries_of(json.dumps(record, separators=(",", ":")).encode() + b"\n") == [("x", False)]
