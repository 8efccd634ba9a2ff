"""What a pool and its calls can be told, checked in one place."""

# No `from __future__ import annotations` here: annotations of a NamedTuple that are strings cost each import a millisecond.

import math
import operator
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .._core import spawn

_NO_SECONDS = "timeout must be a number of seconds, or None for no limit, not {!r}"
_FOR_EVER_S = 1e18  # seconds: twice the age of the universe, and nanoseconds can still count to it
_SIZE_MOST = 2**40  # elements: more than memory holds, and itertools can still count to it


def cpu_count() -> int:
    """How many processors this process may use.

    ``FORKFUL_CPU_COUNT`` in the environment overrides what the system says; else the processors this process is bound
    to count, not those of the machine.

    Raises:
        ValueError: ``FORKFUL_CPU_COUNT`` is not a positive whole number.

    >>> cpu_count() >= 1
    True
    """
    override = os.environ.get("FORKFUL_CPU_COUNT")
    if override:
        if not override.isdecimal() or int(override) < 1:
            raise ValueError(f"FORKFUL_CPU_COUNT is {override!r}; set it to a whole number from 1 up, or unset it")
        return int(override)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class CallLimits(NamedTuple):
    """How long a task may run and how often it may be tried again."""

    timeout: int | None  # nanoseconds
    retries: int

    def override(self, timeout: float | None, retries: int | None) -> "CallLimits":
        """These limits with those of one call in their place."""
        if timeout is None and retries is None:
            return self
        other = check_limits(timeout, retries)
        return CallLimits(
            self.timeout if timeout is None else other.timeout, self.retries if retries is None else other.retries
        )


class Options(NamedTuple):
    """A pool's options, checked."""

    processes: int
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    maxtasksperchild: int | None
    context: Any  # a start method's name, a multiprocessing context, or None
    limits: CallLimits


class Call(NamedTuple):
    """What a map does with each element."""

    function: int  # key at the workers
    name: str
    style: int
    limits: CallLimits
    guarded: bool  # each element counts for itself: its result is safe before the next starts
    chunksize: int  # the most elements in one task
    exact: bool  # always that many: maxtasksperchild counts chunks


def check_limits(timeout: float | None, retries: int | None) -> CallLimits:
    """Raises ``ValueError`` or ``TypeError`` for what cannot be."""
    nanoseconds: int | None = None
    if timeout is not None:
        if isinstance(timeout, bool):
            raise TypeError(_NO_SECONDS.format(timeout))
        seconds = _seconds(timeout)
        if math.isnan(seconds) or seconds <= 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {timeout!r}; leave it out for no limit")
        if seconds < _FOR_EVER_S:
            nanoseconds = int(seconds * 1e9)
    if retries is None:
        retries = 0
    if isinstance(retries, bool) or not isinstance(retries, int):
        raise TypeError(f"retries must be a whole number, not {retries!r}")
    if retries < 0:
        raise ValueError(f"retries must be 0 or more, not {retries!r}")
    return CallLimits(nanoseconds, retries)


def check_wait(timeout: Any) -> float | None:
    """How many seconds to wait for a result, or None for as long as it takes; what is negative is over already.

    Raises:
        TypeError, ValueError: *timeout* is no number.
    """
    if timeout is None:
        return None
    seconds = _seconds(timeout)
    if math.isnan(seconds):
        raise ValueError(_NO_SECONDS.format(timeout))
    return max(0.0, seconds) if seconds < _FOR_EVER_S else None


def _seconds(timeout: Any) -> float:
    """A number of seconds, whichever class it is of."""
    try:
        return float(timeout + 0)  # float() alone would read a text
    except OverflowError:  # an int with more digits than a float can count
        return math.inf if timeout > 0 else -math.inf
    except TypeError:
        raise TypeError(_NO_SECONDS.format(timeout)) from None


def check_options(
    processes: int | None,
    initializer: Callable[..., object] | None,
    initargs: Any,
    maxtasksperchild: int | None,
    context: Any,
    limits: CallLimits,
) -> Options:
    """Raises what ``multiprocessing.Pool`` raises for the same mistakes, and says what to do."""
    if processes is None:
        processes = cpu_count()
    if isinstance(processes, bool) or not isinstance(processes, int):
        raise TypeError(f"processes must be a whole number, not {processes!r}")
    if processes < 1:
        raise ValueError(f"Number of processes must be at least 1, not {processes}")
    if maxtasksperchild is not None:
        if not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0:
            raise ValueError(f"maxtasksperchild must be a positive int or None, not {maxtasksperchild!r}")
        maxtasksperchild = int(maxtasksperchild)  # True is 1, as with multiprocessing
    if initializer is not None and not callable(initializer):
        raise TypeError(f"initializer must be a callable, not {initializer!r}")
    if initargs is None and initializer is None:
        initargs = ()  # multiprocessing does not look at it either
    if not isinstance(initargs, Iterable):
        raise TypeError(f"initargs must be a sequence of arguments, such as ({initargs!r},), not {initargs!r}")
    return Options(processes, initializer, tuple(initargs), maxtasksperchild, context, limits)


def start_method_of(context: Any) -> tuple[str, bool]:
    """The start method that *context* asks for, and whether the user has chosen it.

    A name, a context of ``multiprocessing``, or None: then what ``multiprocessing.set_start_method`` was told, else
    ``forkserver``.
    """
    if context is None:
        chosen = spawn.chosen_start_method()
        return (chosen, True) if chosen is not None else ("forkserver", False)
    name = context
    if not isinstance(context, str):
        if isinstance(context, type) or not hasattr(context, "get_start_method"):
            raise TypeError(
                f"context must be one of {', '.join(spawn.START_METHODS)}, a context of multiprocessing, or None, "
                f"not {context!r}"
            )
        name = context.get_start_method()
    if name not in spawn.START_METHODS:
        raise ValueError(f"cannot find context for {name!r}; use one of {', '.join(spawn.START_METHODS)}")
    return name, True


def check_size(name: str, size: Any) -> int:
    """How many elements *size* is, for the argument *name*; whatever is a whole number will do, numpy's too.

    Raises:
        TypeError, ValueError: it is none, or less than one.
    """
    try:
        number = operator.index(size)
    except TypeError:
        raise TypeError(f"{name} must be a whole number from 1 up, not {size!r}") from None
    if number < 1:
        raise ValueError(f"{name.capitalize()} must be 1+, not {size!r}")  # in the words of multiprocessing
    return min(number, _SIZE_MOST)
