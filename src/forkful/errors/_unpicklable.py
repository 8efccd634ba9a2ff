"""`UnpicklableError`, in a module of its own: see ``__getattr__`` in the package."""

from __future__ import annotations

from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]  # typeshed has forgotten it

from . import TaskError


class UnpicklableError(TaskError, MaybeEncodingError, TypeError):  # type: ignore[misc]  # see the import
    """The arguments or the result of a task cannot be pickled.

    Also a ``TypeError``, which is what ``pickle`` itself raises for most of what it cannot take.

    Attributes:
        exc: ``repr`` of the pickling error.
        value: ``repr`` of what could not be pickled (cut when long).
    """

    exc: str = ""
    value: str = ""

    __str__ = Exception.__str__
    __repr__ = Exception.__repr__


UnpicklableError.__module__ = __package__  # where it is to be imported from, and what tracebacks show
