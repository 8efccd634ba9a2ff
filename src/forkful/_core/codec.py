"""Objects to bytes and back: calls, functions, results, exceptions.

Plain pickle wherever it serves; ``cloudpickle`` only where it cannot (lambdas, closures, anything of a ``__main__`` that
no worker can import).  Whatever fails here is the error of one task, raised or returned as such, never of the pool.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import planted
from .messages import CALL, EACH, STAR

if TYPE_CHECKING:
    from ..errors import UnpicklableError

# What only errors need is imported where they are handled, because every program that makes a pool imports this module:
# `traceback` takes 3 ms, and our own errors have a base in ``multiprocessing.pool``, which takes 8.  See `load_late`.

PROTOCOL = 5
_REPR_LIMIT = 200

dumps = pickle.dumps
loads = pickle.loads

# What travels beside the pickle.

LARGE_BYTES = (
    64 * 1024
)  # as much as a pipe holds: more goes through shared memory; see docs/decisions/0010-shared-memory.md

# Whether `encode` and `encode_result` must be looked after: the buffers that are beside a pickle just made, by thread.
# With another key, as long as there is an object that is shared (see `lending`).
beside: dict[int | str, Any] = {}


def keep_beside(buffer: pickle.PickleBuffer) -> bool:
    """A ``buffer_callback`` of pickle's: large buffers are not copied into the pickle but noted in `beside`.

    One for all, and not one for each pickle: to make one would be felt with each small task.
    """
    try:
        view = buffer.raw()
    except BufferError:  # not in one piece: pickle knows what to do
        return True
    if view.nbytes < LARGE_BYTES:
        return True
    beside.setdefault(threading.get_ident(), []).append(view)
    return False


def keep_all_beside(buffer: pickle.PickleBuffer) -> bool:
    """The same for small ones too, if there is anything in them."""
    try:
        view = buffer.raw()
    except BufferError:
        return True
    if not view.nbytes:
        return True
    beside.setdefault(threading.get_ident(), []).append(view)
    return False


def take_beside() -> list[memoryview]:
    """The buffers beside the pickle that this thread has made last, in the order that rebuilding it needs."""
    buffers: list[memoryview] = beside.pop(threading.get_ident(), [])
    return buffers


Keep = Callable[[pickle.PickleBuffer], bool] | None

# Where there is no shared memory without a name, all buffers are copied into the pickle.
keep: Keep = keep_beside if hasattr(os, "memfd_create") else None

_STYLE_NAMES = {CALL: "arguments", EACH: "items", STAR: "items"}


def main_reference() -> dict[str, str]:
    """How a worker can import this process's ``__main__``, in the words of ``multiprocessing.spawn.prepare``.

    Empty when it cannot: at a prompt, in a notebook, under ``python -c``.
    """
    main = sys.modules.get("__main__")
    spec_name = getattr(getattr(main, "__spec__", None), "name", None)
    if isinstance(spec_name, str):
        return {"init_main_from_name": spec_name}
    path = getattr(main, "__file__", None)
    if isinstance(path, str) and os.path.isfile(path):  # it is "<stdin>" for a script that is piped in
        return {"init_main_from_path": os.path.abspath(path)}
    return {}


# In a worker: whether its master's ``__main__`` cannot be imported, so that what was defined there came by value, and
# must go back so.
by_value = False

# In a worker: its end of the socket for descriptors (`Ends.wire`).
wire = -1

# In a worker: sends frames to its master, from the midst of a task (`WorkerEnd.send_note`).
tell: Any = None

# In a worker that has to do with anything large: its account with its master (`accounts.Account`).
account: Any = None


def load_late() -> None:
    """Import what errors need, now that it holds up no first result.

    An error may be the very reason for which nothing can be imported (no descriptor, no memory), and by then a file of the
    user's may be in the way.
    """
    import traceback  # noqa: F401  # it is there from now on
    from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]  # noqa: F401  # likewise

    from ..errors import UnpicklableError  # noqa: F401  # likewise


def _dump_by_value(value: Any, keep: Keep) -> bytes:
    import cloudpickle  # costs 10 ms; most programs never need it

    if keep is not None:
        take_beside()  # of the first try
    return bytes(cloudpickle.dumps(value, PROTOCOL, buffer_callback=keep))


_importable: Any = object()  # the ``__main__`` that a worker was found to be able to import


def encode(value: Any, keep: Keep = None) -> bytes:
    """Pickle *value*, by reference where a worker can follow it, by value where not.  Runs in the master.

    With `keep` large buffers are not in it: they are then to be taken, with `take_beside`, at once.

    Raises:
        whatever pickling raises, when ``cloudpickle`` cannot do it either; then there is nothing to be taken.
    """
    global _importable
    try:
        try:
            blob = dumps(value, PROTOCOL, buffer_callback=keep)
        except RecursionError:
            raise
        except Exception:  # a pickler may raise anything; by value is the second try
            with contextlib.suppress(Exception):  # the first error is the one that speaks of the user's object
                return _dump_by_value(value, keep)
            raise
        main = sys.modules.get("__main__")
        if main is not _importable:
            if main_reference():  # asked once, and not whether the blob mentions it: the next blob need not be searched
                _importable = main
            elif mentions_main(blob):
                return _dump_by_value(value, keep)
    except BaseException:
        if keep is not None:
            take_beside()
        raise
    return blob


def mentions_main(payload: Any) -> bool:
    """Whether *payload* may name something of ``__main__``, so that reading it needs that: a worker then runs the script."""
    if type(payload) is not bytes:
        mentions: bool = payload.mentions_main  # a parcel
        return mentions
    return payload.find(b"_main__") >= 0  # __main__ or __mp_main__; half the time of `in`


def encode_result(value: Any, keep: Keep = None) -> bytes:
    """Pickle *value* for the way back; *keep* as for `encode`.  Runs in the worker.

    By value only what came by value: a lambda as a result is an error here as it is with ``multiprocessing``.
    """
    try:
        try:
            return dumps(value, PROTOCOL, buffer_callback=keep)
        except Exception:  # a pickler may raise anything; by value is the second try
            if by_value:
                with contextlib.suppress(Exception):
                    return _dump_by_value(value, keep)
            if planted.any_planted:
                with contextlib.suppress(Exception):
                    if keep is not None:
                        take_beside()
                    return planted.encode(value)
            raise
    except BaseException:
        if keep is not None:
            take_beside()
        raise


def is_by_reference(function: Any) -> bool:
    """Whether *function* is pickled as nothing but its name, so that its bytes may be kept for the next call.

    At a prompt or in a notebook it is not: there it travels with the globals that it uses, which may have changed.
    """
    kind = type(function)
    if kind is not types.FunctionType and kind is not types.BuiltinFunctionType and kind is not type:
        return False
    if "<" in getattr(function, "__qualname__", "<"):
        return False
    if getattr(function, "__module__", None) in {"__main__", "__mp_main__"} and not main_reference():
        return False
    return getattr(function, "__self__", None) is None or isinstance(function.__self__, types.ModuleType)


def describe(function: Any) -> str:
    """A short name for *function* in messages."""
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__qualname__


_cause_of = BaseException.__dict__["__cause__"].__get__
_set_cause = BaseException.__dict__["__cause__"].__set__


def is_interrupt(error: BaseException) -> bool:
    """Whether *error*, which came while user code pickled or rebuilt something, may have come from outside of that code.

    The rule: what comes then is the error of the task or result that was at work, ``SystemExit`` and ``GeneratorExit``
    included.  But the main thread may get Ctrl-C at any point, and the exception of a signal handler: those are passed
    on, once nobody can wait for ever because of them.  ``KeyboardInterrupt`` counts as Ctrl-C there, whoever raised it.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    return isinstance(error, KeyboardInterrupt) or _is_of_a_handler(error)


def _is_of_a_handler(error: BaseException) -> bool:
    """Whether a signal handler that is installed now had a part in *error*, as its traceback tells."""
    handlers = [signal.getsignal(signum) for signum in signal.valid_signals()]
    codes = {getattr(getattr(handler, "__func__", handler), "__code__", None) for handler in handlers} - {None}
    entry = error.__traceback__
    while entry is not None:
        if entry.tb_frame.f_code in codes:
            return True
        entry = entry.tb_next
    return False


def raise_if_interrupt(error: BaseException) -> None:
    """Raise *error* again if `is_interrupt`."""
    if is_interrupt(error):
        raise error


# What may come out of a ``__repr__`` or ``__str__`` that is broken.  Not KeyboardInterrupt: that is the user's own.
_BROKEN = (Exception, SystemExit, GeneratorExit)


def short_repr(value: Any) -> str:
    """``repr`` that cannot fail and is never long."""
    try:
        text = repr(value)
    except _BROKEN as error:
        text = f"<{type(value).__qualname__} whose repr raises {type(error).__qualname__}>"
    return text if len(text) <= _REPR_LIMIT else text[: _REPR_LIMIT - 1] + "…"


def message_of(error: BaseException) -> str:
    """``str`` of an exception of the user's, or its `short_repr` where that fails: it must not hide what is reported."""
    try:
        return str(error)
    except _BROKEN:
        return short_repr(error)


def describe_error(error: BaseException) -> str:
    """``Type: message`` of an exception of the user's; cannot fail."""
    return f"{type(error).__name__}: {message_of(error)}"


# Exceptions.


def encode_error(error: BaseException, *, skip_frames: int = 1) -> bytes:
    """*error* with its traceback as text, in a form `decode_error` always understands.

    The exception is pickled *and rebuilt* here: one whose ``__init__`` does not take what ``args`` holds would
    otherwise break whoever receives it.
    """
    frames = error.__traceback__
    for _ in range(skip_frames):  # our own frames say nothing to the user
        if frames is not None and frames.tb_next is not None:
            frames = frames.tb_next
    try:
        import traceback

        text = "".join(traceback.format_exception(type(error), error, frames))
    except Exception as failure:  # it imports what it needs as it goes, which may have gone or be somebody else's file
        text = f"{describe_error(error)}\n(its traceback cannot be shown: {describe_error(failure)})\n"
    blob: bytes | None
    try:
        blob = encode_result(error)
        if type(loads(blob)) is not type(error):
            blob = None
    except BaseException:  # user code runs here (__reduce__, __init__); SystemExit included
        blob = None
    return dumps((blob, _full_name(error), message_of(error), text), PROTOCOL)


def empty_frames(error: BaseException) -> None:
    """Let go of what the functions that *error* has left were working on: where there is no memory, most of it is there."""
    entry = error.__traceback__
    while entry is not None:  # as `traceback.clear_frames`, which might not be there yet
        with contextlib.suppress(RuntimeError):  # it still runs
            entry.tb_frame.clear()
        entry = entry.tb_next


def encode_unreadable_error(error: BaseException) -> bytes:
    """The same for one that `encode_error` breaks on: the name of its class is left."""
    message = "its text cannot be had"
    return dumps((None, _full_name(error), message, f"{_full_name(error)}: {message}\n"), PROTOCOL)


def _full_name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")


def decode_error(blob: bytes | memoryview, task: str, pid: int | None) -> BaseException:
    """The exception that `encode_error` packed, its ``__cause__`` a ``RemoteTraceback``; a `RemoteError` failing that."""
    from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]  # typeshed has forgotten it

    from ..errors import RemoteError

    packed, name, message, text = loads(blob)
    error: BaseException
    try:
        if packed is None:
            raise pickle.UnpicklingError
        error = loads(packed)
        # Not by assignment: a frozen dataclass refuses that, and a property of the user's could do anything.
        _set_cause(error, RemoteTraceback(f'\n"""\n{text}"""'))
    except BaseException as failure:  # user code runs here; its failure is reported as RemoteError
        raise_if_interrupt(failure)
        error = RemoteError(
            f"{task}: {name}: {message} (raised in worker {pid}; this exception cannot be rebuilt from its pickle, "
            f"give it a __reduce__ or an __init__ that takes its args)",
            task=task,
            pid=pid,
            type_name=name,
            message=message,
            traceback=text,
        )
        error.__cause__ = RemoteTraceback(f'\n"""\n{text}"""')
    return error


def recast_traceback(error: BaseException, kind: Callable[[Any], BaseException]) -> None:
    """Make the remote traceback of *error*, if it has one, of class *kind* instead of that of ``multiprocessing``."""
    from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]  # typeshed has forgotten it

    cause = _cause_of(error)
    if type(cause) is RemoteTraceback:
        _set_cause(error, kind(cause.tb))


def unpicklable_result(value: Any, error: BaseException) -> UnpicklableError:
    """The error of a task whose result cannot be pickled."""
    from ..errors import UnpicklableError

    return UnpicklableError(
        f"the result {short_repr(value)} cannot be pickled ({describe_error(error)}); return plain data instead",
        exc=short_repr(error),
        value=short_repr(value),
    )


def unreadable_result(task: str, pid: int | None, error: BaseException) -> UnpicklableError:
    """The error of a task whose result was pickled there but cannot be rebuilt here."""
    from ..errors import UnpicklableError

    return UnpicklableError(
        f"{task}: its result, from worker {pid}, cannot be rebuilt in this process "
        f"({describe_error(error)}); check __reduce__ or __setstate__ of its class",
        task=task,
        pid=pid,
        exc=short_repr(error),
        value="",
    )


def name_payload(style: int) -> str:
    """What a payload of *style* holds, for messages."""
    return _STYLE_NAMES[style]
