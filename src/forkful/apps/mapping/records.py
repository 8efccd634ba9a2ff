r"""One line of output for one input: a JSON object, whatever happened to the input.

=========  =============================================================================================
id         16 hexadecimal digits of the input line's SHA-256; a repeated line's has ``-2``, ``-3``… added
input      the function's argument
ok         whether there is a result
result     what the function returned (only when ok)
error      ``{"type", "message", "traceback"}`` (only when not ok); traceback is null when nothing was raised
attempts   how many times the function was started; 0 for a line that cannot be read
pid        the process that ran it last, or null
started    when the last attempt began, in seconds since the epoch, or null when its process could not tell
seconds    how long the last attempt took in the worker, or null likewise
=========  =============================================================================================

A line is ASCII.  Text that is no Unicode, such as a file's name in other bytes, is kept as lone surrogates, ``"\udce9"``:
Python's `json` and `os.fsencode` give the bytes back, while strict readers (jq) put U+FFFD there, or refuse the line.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from forkful.errors import TaskError, TaskTimeout

from .calls import Answer, CallFailed
from .inputs import Item

if TYPE_CHECKING:
    from forkful import Outcome

__all__ = ["Failure", "Record", "make_record"]

_TIMEOUT = re.compile(r"\btimeout=([\d.e+-]+) s\b")


class Failure(NamedTuple):
    """Why an input has no result."""

    type: str
    message: str
    traceback: str | None = None


class Record(NamedTuple):
    """A line of output, and what the summary needs of it."""

    line: bytes  # with its newline
    seconds: float | None
    failure: Failure | None
    at_least: float | None = None  # seconds that it took or more, where nobody could measure it to its end


def make_record(item: Item, outcome: Outcome) -> Record:
    """The record of *item*, to which *outcome* happened."""
    started: float | None = None
    seconds: float | None = None
    if item.problem is not None:
        return _compose(item, Failure("InputNotJSON", item.problem), attempts=0, pid=None, times=(None, None))
    if outcome.ok:
        answer: Answer = outcome.value
        started, seconds, text, problem = answer
        if text is not None:
            return _compose(item, text, outcome.attempts, outcome.pid, (started, seconds))
        failure = Failure("ResultNotJSON", f"the result cannot be written: {problem}")
    elif isinstance(error := outcome.error, CallFailed):
        started, seconds = error.started, error.seconds
        failure = Failure(error.kind, error.message, error.trace)
    else:
        failure = Failure(type(error).__name__, _put_for_a_shell(error, item))
    record = _compose(item, failure, outcome.attempts, outcome.pid, (started, seconds))
    at_least = outcome.error.seconds if isinstance(outcome.error, TaskTimeout) else None
    return record._replace(at_least=at_least)


def _put_for_a_shell(error: BaseException | None, item: Item) -> str:
    """The message of a pool's *error* in the words of ``forkful map``: options as they are typed, the input by its id.

    The pool speaks to programs in Python: of ``retries=1``, and of ``work[6]``, which nobody can find in a file.
    """
    message = str(error)
    if isinstance(error, TaskError) and error.task:
        message = message.replace(error.task, f"input {item.id}", 1)
    return _TIMEOUT.sub(r"--timeout \1s", message).replace("retries=1", "--retries 1")


def _compose(
    item: Item, end: str | Failure, attempts: int, pid: int | None, times: tuple[float | None, float | None]
) -> Record:
    """The line around *end*: the result as JSON, or the failure.  Put together as text: every part is JSON already."""
    if isinstance(end, Failure):
        failure, what = end, f'"ok": false, "error": {json.dumps(end._asdict())}'
    else:
        failure, what = None, f'"ok": true, "result": {end}'
    started, seconds = times
    line = (
        f'{{"id": "{item.id}", "input": {item.text}, {what}, "attempts": {attempts}, "pid": {_or_null(pid)}, '
        f'"started": {_or_null(started)}, "seconds": {_or_null(seconds)}}}\n'
    )
    return Record(line.encode("ascii"), seconds, failure)


def _or_null(number: Any) -> str:
    if number is None:
        return "null"
    return f"{number:.6f}" if isinstance(number, float) else str(number)
