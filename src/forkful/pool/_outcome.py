"""`Outcome`: how one element of a map ended."""

# No `from __future__ import annotations` here: annotations of a NamedTuple that are strings cost each import a millisecond.

from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """How one element of a map ended.

    Attributes:
        index: its position in the iterable, from 0.
        ok: whether it has a value.
        value: what the function returned; None when it did not.
        error: what it raised, or the `TaskError` it ended with; None when it has a value.
        attempts: how often it was started; 0 when it never was.
        pid: the worker that ended it; None when none did.
        stdout, stderr: what it wrote there in its last attempt; None unless the pool has ``capture_output=True``.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody wants of it
    ok: bool
    value: Any
    error: BaseException | None
    attempts: int
    pid: int | None
    stdout: str | None = None
    stderr: str | None = None
