"""The workers' side of a map: set a worker up, run the function on one argument, measure it.  Runs in the workers.

What goes back is small and can always be pickled: the result as JSON text, a failure as three strings.  So no result
and no exception of the user's can break the way back.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from forkful.apps.functions import FunctionRef

from .jsontext import NotJSONError, to_json

__all__ = ["UNREADABLE", "Answer", "Call", "CallFailed", "Prepare", "SetUpFailed"]

UNREADABLE = ("forkful", "unreadable input")  # stands for the argument of a line that has none

# When the call began (seconds since the epoch), how long it took (seconds), its result as JSON or None, and why there
# is none.  A plain tuple: one is pickled for each input.
Answer = tuple[float, float, str | None, str | None]


class CallFailed(Exception):
    """The function raised.  Raised again, and not returned, so that the pool's ``retries=`` sees it.

    ``args``: when the call began, how long it took, the exception's type, message and traceback.
    """

    def __init__(self, started: float, seconds: float, kind: str, message: str, trace: str) -> None:
        super().__init__(started, seconds, kind, message, trace)
        self.started = started
        self.seconds = seconds
        self.kind = kind
        self.message = message
        self.trace = trace


class SetUpFailed(Exception):
    """A worker could not be set up.  Tells what of, because the two have different remedies.

    ``args``: whether it was the import of the function; the exception's type and message.
    """

    def __init__(self, importing: bool, kind: str, message: str) -> None:
        super().__init__(importing, kind, message)
        self.importing = importing
        self.kind = kind
        self.message = message


@dataclass(frozen=True)
class Call:
    """The function as the pool calls it: takes an argument, gives an `Answer`, raises nothing but `CallFailed`."""

    target: FunctionRef | Callable[[Any], Any]

    @property
    def __name__(self) -> str:
        """The name of the user's function, for the pool's messages."""
        target = self.target
        return target.attribute if isinstance(target, FunctionRef) else getattr(target, "__name__", repr(target))

    def __call__(self, argument: Any) -> Answer:
        """Run the function; see the module."""
        if argument == UNREADABLE:
            return 0.0, 0.0, None, None
        target = self.target
        function = target.load() if isinstance(target, FunctionRef) else target
        started, begun = time.time(), time.perf_counter()
        try:
            result = function(argument)
        except BaseException as error:  # SystemExit and KeyboardInterrupt are the input's errors too
            seconds = time.perf_counter() - begun
            raise CallFailed(started, seconds, *_describe(error)) from None
        finally:
            _flush()
        seconds = time.perf_counter() - begun
        try:
            return started, seconds, to_json(result), None
        except NotJSONError as error:
            return started, seconds, None, str(error)


@dataclass(frozen=True)
class Prepare:
    """What each worker does before its first input: the pool's initializer.

    Attributes:
        call: its function is imported here, so that the import counts neither as work nor against a timeout.
        init: a function to call without arguments, or None.
        stdout_is_taken: standard output carries the records, so what a function prints must go elsewhere.
    """

    call: Call
    init: FunctionRef | Callable[[], object] | None
    stdout_is_taken: bool

    def __call__(self) -> None:
        """Set this worker up; raises `SetUpFailed`, which stops the job."""
        if self.stdout_is_taken:
            _send_stdout_to_stderr()
        importing = True
        try:
            if isinstance(self.call.target, FunctionRef):
                self.call.target.load()
            importing = False
            if self.init is not None:
                init = self.init.load() if isinstance(self.init, FunctionRef) else self.init
                init()
        except BaseException as error:  # SystemExit too
            kind, message, _ = _describe(error)
            raise SetUpFailed(importing, kind, message) from None
        finally:
            _flush()


def _send_stdout_to_stderr() -> None:
    """By descriptor, not as ``sys.stdout``: so that it holds for what C code and child processes write too."""
    try:
        os.dup2(2, 1)
    except OSError:  # standard error is closed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)


def _describe(error: BaseException) -> tuple[str, str, str]:
    """Type, message and traceback of *error*, the traceback without this module's own frame."""
    kind = type(error).__qualname__
    try:
        message = str(error)
    except Exception as again:  # a broken __str__ must not hide the error
        message = f"(its message cannot be shown: {type(again).__name__})"
    below = error.__traceback__.tb_next if error.__traceback__ else None
    try:
        trace = "".join(traceback.format_exception(type(error), error, below))
    except Exception as again:  # likewise
        trace = f"{kind}: (its traceback cannot be shown: {type(again).__name__})\n"
    return kind, message, trace


def _flush() -> None:
    """Let out what the function printed: the worker may be killed before its buffer is full."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: S110  # closed, replaced, or nobody reads it: not this input's failure
            pass
