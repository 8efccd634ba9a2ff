"""What the tests of context variables have workers do, and the variables."""

from __future__ import annotations

import decimal
from contextvars import ContextVar, copy_context
from typing import Any

REQUEST: ContextVar[Any] = ContextVar("REQUEST", default="nothing")
OTHER: ContextVar[Any] = ContextVar("OTHER", default="nothing")


class Holder:
    """A place where nobody looks."""

    HIDDEN: ContextVar[Any] = ContextVar("HIDDEN", default="nothing")


def seen(*_: object) -> tuple[Any, Any]:
    """What the task sees, before it sets something else."""
    found = REQUEST.get(), OTHER.get()
    REQUEST.set("of another task")
    OTHER.set("of another task")
    return found


def hidden() -> Any:
    """What it sees of the other one."""
    return Holder.HIDDEN.get()


def set_other(value: Any) -> None:
    """An initializer."""
    OTHER.set(value)


def precision() -> int:
    """Of `decimal`, which keeps its context in a variable that is nowhere to be found."""
    return decimal.getcontext().prec


def size(*_: object) -> int:
    """How many variables are set."""
    return len(copy_context())


class Odd:
    """A value that cannot be rebuilt elsewhere."""

    def __reduce__(self) -> Any:
        return int, ("no number",)
