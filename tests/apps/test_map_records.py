"""What a worker sends back, and the line it becomes."""

from __future__ import annotations

import json
import math
import os
import pickle
from typing import Any

import pytest

from forkful import Outcome
from forkful.apps.mapping.calls import Call, CallFailed
from forkful.apps.mapping.inputs import Item, Raw
from forkful.apps.mapping.jsontext import NotJSONError, to_json
from forkful.apps.mapping.records import make_record
from forkful.errors import TaskTimeout, WorkerDied


def item_of(raw: Raw, *, line: int = 1) -> Item:
    """An input."""
    return Item("0123456789abcdef", raw, line, "in.jsonl", line)


ITEM = item_of("x")


def run(function: Any, item: Item = ITEM, *, attempts: int = 1, **options: Any) -> dict[str, Any]:
    """The record of one call, by way of the pickle that the pool makes."""
    call = Call(function, **options)
    try:
        outcome = Outcome(0, True, pickle.loads(pickle.dumps(call((item.id, item.raw)))), None, attempts, os.getpid())
    except CallFailed as error:
        outcome = Outcome(0, False, None, pickle.loads(pickle.dumps(error)), attempts, os.getpid())
    line = make_record(item, outcome, with_input=call.with_input).line
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    record: dict[str, Any] = json.loads(line, parse_constant=pytest.fail)
    return record


def test_record_of_a_result() -> None:
    """All fields are there, in the documented order, with their types."""
    record = run(lambda text: {"text": text, "list": (1, None, "ü\n\udc80")})
    assert list(record) == ["id", "input", "ok", "result", "attempts", "pid", "started", "seconds"]
    assert record["result"] == {"text": "x", "list": [1, None, "ü\n\udc80"]}
    assert (record["id"], record["input"], record["ok"]) == ("0123456789abcdef", "x", True)
    assert (record["attempts"], record["pid"]) == (1, os.getpid())
    assert record["started"] > 1_700_000_000
    assert 0 <= record["seconds"] < 10


@pytest.mark.parametrize("retries", [(), None])
def test_record_of_an_exception(retries: tuple[str, ...] | None) -> None:
    """Type, message and traceback, which begins at the user's function."""

    def fail(text: str) -> None:
        raise LookupError(f"no {text}")

    record = run(fail, attempts=2, retries=retries)
    assert list(record) == ["id", "input", "ok", "error", "attempts", "pid", "started", "seconds"]
    assert record["ok"] is False
    assert record["error"]["type"] == "LookupError"
    assert record["error"]["message"] == "no x"
    lines = record["error"]["traceback"].splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith("in fail")
    assert lines[-1] == "LookupError: no x"
    assert record["attempts"] == 2
    assert record["seconds"] >= 0


class BrokenError(Exception):
    """Cannot be pickled, nor shown."""

    def __reduce__(self) -> str:
        raise TypeError

    def __str__(self) -> str:
        raise KeyError(1)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SystemExit(3), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (BrokenError(), "BrokenError"),
        (ExceptionGroup("two", [ValueError(1), ValueError(2)]), "ExceptionGroup"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_any_exception_has_a_record(error: BaseException, kind: str) -> None:
    """Exits, interrupts and exceptions that can neither be pickled nor shown are failures like all others."""

    def fail(_text: str) -> None:
        raise error

    assert run(fail)["error"]["type"] == kind


CIRCULAR: list[Any] = []
CIRCULAR.append(CIRCULAR)
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1, 2}, "type 'set'"),
        (b"x", "type 'bytes'"),
        ([object()], "type 'object'"),
        ({(1, 2): 3}, "keys must be"),
        ({1: "a", "1": "b"}, "the keys 1 and '1' are the same in JSON; use strings that differ"),
        ([({"deep": {"null": 0, None: 1}},)], "the keys 'null' and None are the same in JSON"),
        ({"true": 0, True: 1, 2: 3}, "the keys 'true' and True are the same"),
        ({1.5: 0, "1.5": 1}, "the keys 1.5 and '1.5' are the same"),
        (math.nan, "Out of range"),
        ([math.inf], "Out of range"),
        (CIRCULAR, "Circular"),
        (DEEP, "nested too deeply"),
    ],
)
def test_result_that_is_no_json(value: object, message: str) -> None:
    """The input fails with a word on what the result held; the work was done, and its time is told."""
    with pytest.raises(NotJSONError, match=message):
        to_json(value)
    record = run(lambda _: value)
    assert record["error"]["type"] == "ResultNotJSON"
    assert message in record["error"]["message"]
    assert record["error"]["traceback"] is None
    assert record["started"] is not None


def test_keys_become_strings() -> None:
    """Of any types, as long as they stay apart."""
    value = {1: "a", "2": "b", None: [{"x": 1}, {2: 3}], 2.5: (), True + 2: {}, 'ü"': 0}
    assert json.loads(to_json(value)) == {"1": "a", "2": "b", "null": [{"x": 1}, {"2": 3}], "2.5": [], "3": {}, 'ü"': 0}


def test_names_of_files_in_other_bytes() -> None:
    """Lone surrogates are kept: the bytes can be had again."""
    name = os.fsdecode(b"caf\xe9")
    record = run(lambda text: text, item_of(name))
    assert os.fsencode(record["input"]) == os.fsencode(record["result"]) == b"caf\xe9"


def test_record_of_a_line_that_cannot_be_read() -> None:
    """The function is not called for it, and the record says so."""
    record = run(pytest.fail, item_of(b"{", line=3))
    assert record["error"]["type"] == "InputNotJSON"
    assert record["error"]["message"].startswith("in.jsonl line 3 is not JSON: ")
    assert (record["input"], record["attempts"], record["pid"], record["started"]) == ("{", 0, None, None)


def test_attempts_are_counted() -> None:
    """The worker does not know how often it was tried; what its result says of attempts is left alone."""
    record = run(lambda _: 'x, "attempts": 1, "pid": 7', attempts=3)
    assert (record["attempts"], record["result"]) == (3, 'x, "attempts": 1, "pid": 7')


def test_record_without_its_input() -> None:
    """Where that was asked for, also of a failure."""
    assert "input" not in run(str, with_input=False)
    assert "input" not in run(int, with_input=False)
    assert "input" not in run(str, item_of(b"{"), with_input=False)


def test_keyword_arguments() -> None:
    """An object's fields are arguments; what is no object is no call."""
    assert run(lambda a, b: a + b, item_of(b'{"b": 1, "a": 2}'), by_keyword=True)["result"] == 3
    assert run(lambda a: a, item_of({"a": "x"}), by_keyword=True)["result"] == "x"
    record = run(pytest.fail, item_of(b"[1]", line=9), by_keyword=True)
    assert record["error"]["type"] == "InputNotObject"
    assert record["error"]["message"].startswith("in.jsonl line 9 is no object")


@pytest.mark.parametrize(("retries", "again"), [
    ((), False), (None, True), (("KeyError",), True), (("LookupError",), True), (("ValueError",), False),
])  # fmt: skip  # a line each
def test_exceptions_that_are_worth_a_retry(retries: tuple[str, ...] | None, again: bool) -> None:
    """By the names of their classes, or of a base."""
    call = Call({}.__getitem__, retries=retries)
    if again:
        with pytest.raises(CallFailed):
            call(("id", "x"))
    else:
        assert call(("id", "x"))[3] is not None


def test_record_of_a_crash() -> None:
    """What a dead worker can no longer tell is null; what the pool knows is there."""
    outcome = Outcome(0, False, None, WorkerDied("it died; do this"), 3, 99)
    record = json.loads(make_record(ITEM, outcome).line)
    assert record["error"] == {"type": "WorkerDied", "message": "it died; do this", "traceback": None}
    assert (record["attempts"], record["pid"], record["started"], record["seconds"]) == (3, 99, None, None)


def test_messages_speak_to_a_shell() -> None:
    """The pool's words name Python's keywords and positions; the record's name options and the input."""
    for exitcode in (None, -9, -11, 1):
        outcome = Outcome(0, False, None, WorkerDied.during("work[6]", 99, exitcode), 1, 99)
        message = json.loads(make_record(ITEM, outcome).line)["error"]["message"]
        assert message.startswith(f"input {ITEM.id}: its worker (pid 99) ")
        assert message.endswith("--retries 1 runs it again")
        assert "work[6]" not in message


def test_record_of_a_timeout() -> None:
    """The line has no measured time; the summary is told what it took at least."""
    outcome = Outcome(0, False, None, TaskTimeout("too long; do this", seconds=30.0), 1, 99)
    record = make_record(ITEM, outcome)
    assert json.loads(record.line)["seconds"] is None
    assert (record.seconds, record.at_least) == (None, 30.0)


def test_call_has_the_functions_name() -> None:
    """The pool's messages speak of the user's function, not of ours."""
    assert Call(json.loads).__name__ == "loads"
