"""From the bytes of a record to values and errors, in the process that waits for them.

Here the user's code runs (``__setstate__``, ``__reduce__``, ``__init__``), in whichever thread delivers.
"""

from __future__ import annotations

from typing import Any

from . import codec
from .books import Task
from .messages import ERROR, GROUP, LARGE, MIXED, VALUE, VALUES

Part = tuple[int, bool, Any]  # the first element's number; and its error, or the values of it and those after it


def rebuild(task: Task, index: int, count: int, kind: int, blob: Any, pid: int | None) -> list[Part]:
    """What elements *index* … *index + count - 1* have ended with, from a record that is no VALUE.

    Whatever the user's code raises is an element's error, `UnpicklableError` or `RemoteError`.

    Raises:
        BaseException: what `codec.is_interrupt` says is not of the user's code that ran here; to be tried again.
    """
    if kind == VALUES:
        return _rebuild_each(task, index, blob, pid)
    if kind == MIXED:
        return _rebuild_mixed(task, index, codec.loads(blob), pid)
    if kind == ERROR:
        return [(index, False, codec.decode_error(blob, task.describe(index), pid))]
    assert kind == GROUP or kind & LARGE, kind
    try:
        loaded = blob.load() if kind & LARGE else codec.loads(blob)
        if kind == MIXED | LARGE:
            return _rebuild_mixed(task, index, loaded, pid)
        return [(index, True, [loaded] if kind == VALUE | LARGE else loaded)]
    except BaseException as error:  # SystemExit in __setstate__ must not end the thread that others wait for
        codec.raise_if_interrupt(error)
        failure = codec.unreadable_result(task.describe_one_of(index, count), pid, error)
        return [(at, False, failure) for at in range(index, index + count)]


def _rebuild_one(task: Task, index: int, blob: Any, pid: int | None) -> tuple[bool, Any]:
    """What one element has ended with, from a VALUE record: (True, value) or (False, error).

    Raises:
        BaseException: as `rebuild`.
    """
    try:
        return True, codec.loads(blob)
    except BaseException as error:  # likewise
        return False, refuse_value(task, index, pid, error)


def refuse_value(task: Task, index: int, pid: int | None, error: BaseException) -> BaseException:
    """The error of an element whose value has raised *error* as it was rebuilt.

    Raises:
        BaseException: as `rebuild`.
    """
    codec.raise_if_interrupt(error)
    return codec.unreadable_result(task.describe(index), pid, error)


def _rebuild_each(task: Task, index: int, blobs: list[Any], pid: int | None) -> list[Part]:
    """Values that follow each other go together."""
    parts: list[Part] = []
    values: list[Any] = []
    for at, blob in enumerate(blobs, index):
        ok, what = _rebuild_one(task, at, blob, pid)
        if ok:
            values.append(what)
        else:
            if values:
                parts.append((at - len(values), True, values))
                values = []
            parts.append((at, False, what))
    if values:
        parts.append((index + len(blobs) - len(values), True, values))
    return parts


def _rebuild_mixed(task: Task, index: int, records: list[tuple[bool, bytes]], pid: int | None) -> list[Part]:
    parts: list[Part] = []
    for at, (has_value, blob) in enumerate(records, index):
        if has_value:
            ok, what = _rebuild_one(task, at, blob, pid)
            parts.append((at, ok, [what] if ok else what))
        else:
            parts.append((at, False, codec.decode_error(blob, task.describe(at), pid)))
    return parts
