"""The workers' side of a map: set a worker up, run the function on one input, measure it, write its record.

Runs in the workers: there are more of them than of the process that feeds them, so what can be done here is done here.
What goes back is small and can always be pickled: the record as bytes, a failure as three strings.  So no result and no
exception of the user's can break the way back.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from forkful.apps.functions import FunctionRef

from .inputs import Raw, Unreadable, decode
from .jsontext import NotJSONError, quote, to_json
from .retrying import names_of

__all__ = ["Answer", "Call", "CallFailed", "Failure", "Prepare", "SetUpFailed", "compose"]


class Failure(NamedTuple):
    """Why an input has no result."""

    type: str
    message: str
    traceback: str | None = None


# The record, as if the first attempt had made it, or None where there is none; when the call began (seconds since the epoch)
# and how long it took; why there is no result.  Plain tuples: one is pickled for each input.
Answer = tuple[bytes | None, float, float, tuple[str, str, str | None] | None]


class CallFailed(Exception):
    """The function raised.  Raised again, and not returned, so that the pool's ``retries=`` sees it.

    ``args``: when the call began, how long it took, why it has no result.
    """

    def __init__(self, started: float, seconds: float, failure: Failure) -> None:
        super().__init__(started, seconds, failure)
        self.started = started
        self.seconds = seconds
        self.failure = failure


class SetUpFailed(Exception):
    """A worker could not be set up.  Tells what of, because the two have different remedies.

    ``args``: whether it was the import of the function; the exception's type and message.
    """

    def __init__(self, importing: bool, kind: str, message: str) -> None:
        super().__init__(importing, kind, message)
        self.importing = importing
        self.kind = kind
        self.message = message


def compose(
    identity: str,
    text: str | None,
    end: str | Failure,
    attempts: int,
    pid: int | None,
    times: tuple[float, float] | None,
) -> bytes:
    """The line around *end*: the result as JSON, or the failure.  Put together as text: every part is JSON already.

    *text* is the input as JSON, None to leave it out; *times*: when the last attempt began, and how long it took.
    """
    shown = "" if text is None else f'"input": {text}, '
    if isinstance(end, str):
        what = f'"ok": true, "result": {end}'
    else:
        kind, message, trace = end
        shown_trace = "null" if trace is None else quote(trace)
        error = f'{{"type": {quote(kind)}, "message": {quote(message)}, "traceback": {shown_trace}}}'
        what = f'"ok": false, "error": {error}'
    started, seconds = ("null", "null") if times is None else (f"{times[0]:.6f}", f"{times[1]:.6f}")
    return (
        f'{{"id": {quote(identity)}, {shown}{what}, "attempts": {attempts}, "pid": {"null" if pid is None else pid}, '
        f'"started": {started}, "seconds": {seconds}}}\n'
    ).encode("ascii")


@dataclass(frozen=True)
class Call:
    """The function as the pool calls it: takes an input's id and what was read, gives an `Answer`.

    Attributes:
        target: the function.
        by_keyword: an object, or a row, is its keyword arguments.
        with_input: a record holds its input.
        retries: the names of the exceptions for which another attempt is worth it: then `CallFailed` is raised; an empty
            tuple for none; None for all.
    """

    target: FunctionRef | Callable[..., Any]
    by_keyword: bool = False
    with_input: bool = True
    retries: tuple[str, ...] | None = ()

    @property
    def __name__(self) -> str:
        """The name of the user's function, for the pool's messages."""
        target = self.target
        return target.attribute if isinstance(target, FunctionRef) else getattr(target, "__name__", repr(target))

    def __call__(self, element: tuple[str, Raw]) -> Answer:
        """Run the function; see the module."""
        identity, raw = element
        try:
            value, text = decode(raw)
            if self.by_keyword and not isinstance(value, dict):
                raise Unreadable("InputNotObject", "is no object, whose fields --kwargs could pass as arguments")
        except Unreadable as problem:
            return None, 0.0, 0.0, (*problem.args, None)
        function = self.target.load() if isinstance(self.target, FunctionRef) else self.target
        started, begun = time.time(), time.perf_counter()
        try:
            result = function(**value) if self.by_keyword else function(value)
        except BaseException as error:  # SystemExit and KeyboardInterrupt are the input's errors too
            seconds = time.perf_counter() - begun
            failure = Failure(*_describe(error))
            if self._is_worth_a_retry(error):
                raise CallFailed(started, seconds, failure) from None
        else:
            seconds = time.perf_counter() - begun
            try:
                end = to_json(result)
            except NotJSONError as error:
                failure = Failure("ResultNotJSON", f"the result cannot be written: {error}")
            else:
                shown = text if self.with_input else None
                line = compose(identity, shown, end, 1, os.getpid(), (started, seconds))
                return line, started, seconds, None
        finally:
            _flush()
        shown = text if self.with_input else None
        line = compose(identity, shown, failure, 1, os.getpid(), (started, seconds))
        return line, started, seconds, (failure.type, failure.message, failure.traceback)

    def _is_worth_a_retry(self, error: BaseException) -> bool:
        if self.retries is None:
            return True
        return any(name in self.retries for kind in type(error).__mro__ for name in names_of(kind))


_LEFT_TO_THE_PARENT = (signal.SIGTERM, signal.SIGHUP)


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
        for number in _LEFT_TO_THE_PARENT:
            if signal.getsignal(number) is signal.SIG_DFL:
                # Sent to the whole group, as by `timeout` or a terminal that closes: the parent decides what comes of it.
                # Not SIG_IGN, which programs that the function starts would inherit.
                signal.signal(number, _leave_to_the_parent)
        os.register_at_fork(before=_hold_signals, after_in_parent=_let_signals, after_in_child=_take_signals_again)
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


def _leave_to_the_parent(_number: int, _frame: object) -> None:
    """A signal handler."""


# Around a fork that the function makes.  Such a process is the function's to end, as ``multiprocessing.Pool`` does by
# SIGTERM; one that is sent before the process has its own disposition must wait for that.

_masks: dict[int, set[int]] = {}  # that each thread which forks had before


def _hold_signals() -> None:
    _masks[threading.get_ident()] = {*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_THE_PARENT))}


def _let_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop(threading.get_ident(), set()))


def _take_signals_again() -> None:
    for number in _LEFT_TO_THE_PARENT:
        if signal.getsignal(number) is _leave_to_the_parent:
            signal.signal(number, signal.SIG_DFL)
    _let_signals()


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
