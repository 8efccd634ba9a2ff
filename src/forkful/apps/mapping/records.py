r"""One line of output for one input: a JSON object, whatever happened to the input.

=========  =============================================================================================
id         16 hexadecimal digits of the input line's SHA-256; a repeated line's has ``-2``, ``-3``… added;
           with an id field, what that holds
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

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from forkful.errors import TaskError, TaskTimeout

from .calls import Answer, CallFailed, Failure, compose
from .inputs import Item, show

if TYPE_CHECKING:
    from forkful import Outcome

__all__ = ["Record", "make_record"]

_TIMEOUT = re.compile(r"\btimeout=([\d.e+-]+) s\b")
_FIRST = b'"attempts": 1, "pid": '


class Record(NamedTuple):
    """A line of output, and what the summary needs of it."""

    line: bytes  # with its newline
    started: float | None  # seconds since the epoch
    seconds: float | None
    failure: Failure | None
    at_least: float | None = None  # seconds that it took or more, where nobody could measure it to its end

    @property
    def took(self) -> float | None:
        """Seconds, as far as anybody knows."""
        return self.at_least if self.seconds is None else self.seconds


def make_record(item: Item, outcome: Outcome, *, with_input: bool = True) -> Record:
    """The record of *item*, to which *outcome* happened."""
    error = outcome.error
    if error is None:
        answer: Answer = outcome.value
        line, started, seconds, why = answer
        failure = None if why is None else Failure(*why)
        if line is not None:
            line = line if outcome.attempts == 1 else _count(line, outcome.attempts)
            return Record(line, started, seconds, failure)
        assert failure is not None
        failure = failure._replace(message=f"{item.source} line {item.line} {failure.message}")
        return Record(compose(item.id, _shown(item, with_input), failure, 0, None, None), None, None, failure)
    if isinstance(error, CallFailed):
        times = error.started, error.seconds
        line = compose(item.id, _shown(item, with_input), error.failure, outcome.attempts, outcome.pid, times)
        return Record(line, *times, error.failure)
    failure = Failure(type(error).__name__, _put_for_a_shell(error, item))
    line = compose(item.id, _shown(item, with_input), failure, outcome.attempts, outcome.pid, None)
    return Record(line, None, None, failure, at_least=error.seconds if isinstance(error, TaskTimeout) else None)


def _shown(item: Item, with_input: bool) -> str | None:
    return show(item.raw) if with_input else None


def _count(line: bytes, attempts: int) -> bytes:
    """The worker did not know which attempt it was.  After the last place that says so there are only numbers."""
    before, _, after = line.rpartition(_FIRST)
    return before + b'"attempts": %d, "pid": ' % attempts + after


def _put_for_a_shell(error: Any, item: Item) -> str:
    """The message of a pool's *error* in the words of ``forkful map``: options as they are typed, the input by its id.

    The pool speaks to programs in Python: of ``retries=1``, and of ``work[6]``, which nobody can find in a file.
    """
    message = str(error)
    if isinstance(error, TaskError) and error.task:
        message = message.replace(error.task, f"input {item.id}", 1)
    return _TIMEOUT.sub(r"--timeout \1s", message).replace("retries=1", "--retries 1")
