"""What the tests of executors have workers do, beside `tasks`."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NoReturn

MARK = "unset"


def set_mark(mark: str) -> None:
    """An initializer."""
    global MARK
    MARK = mark


def get_mark() -> str:
    """What the initializer left."""
    return MARK


def fail_to_start() -> NoReturn:
    """An initializer that fails."""
    raise LookupError("nothing to start from")


def describe(*args: object, **kwargs: object) -> str:
    """All that it was called with."""
    return f"{args} {sorted(kwargs.items())}"


def fail(what: str) -> NoReturn:
    """Raises."""
    raise LookupError(what)


def die(_: object = None) -> NoReturn:
    """Ends its process."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a process survived SIGKILL")


def die_at(number: int, at: int) -> int:
    """Ends its process for one number."""
    if number == at:
        die()
    return number


def die_at_first(marker: str) -> str:
    """Ends its process the first time it is called."""
    if not Path(marker).exists():
        Path(marker).touch()
        die()
    return "second"


def open_gate(gate: str) -> str:
    """Says that it has started and waits for a byte; *gate* is a pipe."""
    with Path(gate).open("rb", buffering=0) as file:
        return file.read(1).decode()


class Text(str):  # noqa: SLOT000  # it must take a weak reference
    """A result that can be referred to weakly."""


def make_text(number: int) -> Text:
    """A `Text`."""
    return Text(number)


class Unreadable:
    """Can be pickled, and not be rebuilt."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return fail, ("as it is rebuilt",)


def make_unreadable() -> Unreadable:
    """A result that cannot be rebuilt."""
    return Unreadable()
