"""What a pool and its calls can be told, checked in one place."""

# No `from __future__ import annotations` here: annotations of a NamedTuple that are strings cost each import a millisecond.

import itertools
import math
import operator
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from .._core import spawn
from .._core.books import Terms
from .._core.quantities import FOR_EVER_S, NO_SECONDS, check_duration, check_memory, check_whole, read_seconds
from ._processors import cpu_count

_SIZE_MOST = 2**40  # elements: more than memory holds, and itertools can still count to it
IDLE_NS = 60_000_000_000  # that an elastic pool keeps a worker which has nothing to do
_THREADS_MOST = 240  # of one worker: a descriptor of each crosses in one message, and the kernel takes 253
_THREADS_AUTO = 32


class Bar(Protocol):
    """What shows how far a map is: tqdm's bars, and whatever else has this method."""

    def update(self, n: int, /) -> object:
        """So many more elements have ended."""


Progress = bool | Bar | Callable[..., Bar] | None


class CallLimits(NamedTuple):
    """How long a task may run, how often it may be tried again, and which tasks it goes before."""

    timeout: int | None  # nanoseconds
    retries: int
    priority: int = 0
    backoff: int = 0  # nanoseconds before the second attempt, twice as long before each further one

    def override(self, timeout: float | None, retries: int | None, priority: int | None = None) -> "CallLimits":
        """These limits with those of one call in their place."""
        if timeout is None and retries is None and priority is None:
            return self
        other = check_limits(timeout, retries, priority)
        return CallLimits(
            self.timeout if timeout is None else other.timeout,
            self.retries if retries is None else other.retries,
            self.priority if priority is None else other.priority,
            self.backoff,
        )

    def terms(self, function: int, name: str, style: int, *, guarded: bool = True) -> Terms:
        """Of tasks that call *function*."""
        return Terms(
            function, name, style, guarded=guarded,
            timeout=self.timeout, retries=self.retries, priority=self.priority, backoff=self.backoff,
        )  # fmt: skip  # the constructor's own grouping


class Size(NamedTuple):
    """How many worker processes a pool has."""

    least: int  # they are started at once, and stay
    most: int


class Options(NamedTuple):
    """A pool's options, checked."""

    size: Size
    threads: int  # the most, of one worker
    auto: bool  # as many as a function makes use of
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    finalizer: Callable[..., object] | None
    maxtasksperchild: int | None
    memory: int | None  # bytes, between two tasks of one worker
    processors: tuple[tuple[int, ...], ...]  # that workers are bound to
    context: Any  # a start method's name, a multiprocessing context, or None
    idle_timeout: int | None  # nanoseconds
    max_pending: int | None
    block: bool
    capture: bool
    limits: CallLimits


class Call(NamedTuple):
    """What a map does with each element."""

    terms: Terms
    chunksize: int  # the most elements in one task
    exact: bool  # always that many: maxtasksperchild counts chunks
    by_name: Terms | None = None  # of the same function, for elements that need it so: `functions.register_by_name`


def check_limits(timeout: float | None, retries: int | None, priority: int | None = None) -> CallLimits:
    """Raises ``ValueError`` or ``TypeError`` for what cannot be."""
    nanoseconds = None if timeout is None else check_duration("timeout", timeout)
    retries = check_whole("retries", 0 if retries is None else retries)
    if retries < 0:
        raise ValueError(f"retries must be 0 or more, not {retries!r}")
    return CallLimits(nanoseconds, retries, check_whole("priority", 0 if priority is None else priority))


def check_wait(timeout: Any) -> float | None:
    """How many seconds to wait for a result, or None for as long as it takes; what is negative is over already.

    Raises:
        TypeError, ValueError: *timeout* is no number.
    """
    if timeout is None:
        return None
    seconds = read_seconds("timeout", timeout)
    if math.isnan(seconds):
        raise ValueError(NO_SECONDS.format("timeout", timeout))
    return max(0.0, seconds) if seconds < FOR_EVER_S else None


def check_options(
    processes: Any = None,
    initializer: Any = None,
    initargs: Any = (),
    maxtasksperchild: Any = None,
    context: Any = None,
    *,
    threads: Any = None,
    mode: Any = None,
    start_method: Any = None,
    finalizer: Any = None,
    idle_timeout: Any = None,
    max_memory_per_worker: Any = None,
    cpu_ids: Any = None,
    max_pending: Any = None,
    block: Any = True,
    capture_output: Any = False,
    timeout: Any = None,
    retries: Any = 0,
    priority: Any = 0,
    backoff: Any = None,
) -> Options:
    """Raises what ``multiprocessing.Pool`` raises for the same mistakes, and says what to do."""
    if mode is not None and mode != "auto":
        raise ValueError(f'mode must be "auto" or None, not {mode!r}')
    if maxtasksperchild is not None:
        if not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0:
            raise ValueError(f"maxtasksperchild must be a positive int or None, not {maxtasksperchild!r}")
        maxtasksperchild = int(maxtasksperchild)  # True is 1, as with multiprocessing
    for name, function in (("initializer", initializer), ("finalizer", finalizer)):
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be a callable, not {function!r}")
    if initargs is None and initializer is None:
        initargs = ()  # multiprocessing does not look at it either
    if not isinstance(initargs, Iterable):
        raise TypeError(f"initargs must be a sequence of arguments, such as ({initargs!r},), not {initargs!r}")
    if idle_timeout is not None:
        idle_timeout = check_duration("idle_timeout", idle_timeout)
    elif isinstance(processes, tuple):
        idle_timeout = IDLE_NS
    return Options(
        size=check_processes(processes),
        threads=_check_threads(threads, auto=mode is not None),
        auto=mode is not None,
        initializer=initializer,
        initargs=tuple(initargs),
        finalizer=finalizer,
        maxtasksperchild=maxtasksperchild,
        memory=None if max_memory_per_worker is None else check_memory("max_memory_per_worker", max_memory_per_worker),
        processors=() if cpu_ids is None else _check_processors(cpu_ids),
        context=_one_context(context, start_method),
        idle_timeout=idle_timeout,
        max_pending=None if max_pending is None else check_size("max_pending", max_pending),
        block=bool(block),
        capture=bool(capture_output),
        limits=check_limits(timeout, retries, priority)._replace(backoff=_check_backoff(backoff)),
    )


def check_processes(processes: Any) -> Size:
    """How many worker processes: a number is the most, and none is kept; a pair is the least and the most.

    Raises:
        TypeError, ValueError: it is neither, or less than one.
    """
    if processes is None:
        processes = cpu_count()
    if isinstance(processes, tuple):
        if len(processes) != 2:
            raise ValueError(f"processes must be a number or (least, most), such as (2, 8), not {processes!r}")
        least, most = check_whole("processes", processes[0]), check_whole("processes", processes[1])
        if not 0 <= least <= most or most < 1:
            raise ValueError(f"processes=(least, most) must be 0 <= least <= most and most >= 1, not {processes!r}")
        return Size(least, most)
    if not isinstance(processes, int) or isinstance(processes, bool):
        raise TypeError(f"processes must be a whole number, or (least, most) such as (2, 8), not {processes!r}")
    most = int(processes)
    if most < 1:
        raise ValueError(f"Number of processes must be at least 1, not {most}")
    return Size(0, most)


def _check_backoff(seconds: Any) -> int:
    """Nanoseconds; none where there is no backoff."""
    if seconds is None or (seconds == 0 and not isinstance(seconds, bool)):
        return 0
    nanoseconds = check_duration("backoff", seconds)
    if nanoseconds is None:
        raise ValueError(f"backoff must be a time that ends, not {seconds!r}")
    return nanoseconds


def _check_threads(threads: Any, *, auto: bool) -> int:
    if threads is None:
        return _THREADS_AUTO if auto else 1
    number = check_whole("threads", threads)
    if not 1 <= number <= _THREADS_MOST:
        raise ValueError(f"threads must be from 1 to {_THREADS_MOST}, not {number}; for more, use more processes")
    return number


def _check_processors(cpu_ids: Any) -> tuple[tuple[int, ...], ...]:
    """Processors by number, or sets of them; one for each worker in turn."""
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError("cpu_ids: this system cannot bind a process to a processor; leave it out")
    try:
        if isinstance(cpu_ids, str | bytes):
            raise TypeError
        sets = [tuple(one) if isinstance(one, Iterable) else (one,) for one in cpu_ids]
    except TypeError:
        raise TypeError(f"cpu_ids must be a list such as [0, 1] or [[0, 1], [2, 3]], not {cpu_ids!r}") from None
    allowed = os.sched_getaffinity(0)
    for number in itertools.chain.from_iterable(sets):
        if check_whole("cpu_ids", number) not in allowed:
            raise ValueError(f"cpu_ids: this process may not use processor {number}, but {sorted(allowed)}")
    if not sets or not all(sets):
        raise ValueError(f"cpu_ids must name a processor for each worker, such as [0, 1], not {cpu_ids!r}")
    return tuple(sets)


def _one_context(context: Any, start_method: Any) -> Any:
    """The start method, which may be said in two ways."""
    if start_method is None:
        return context
    if not isinstance(start_method, str):
        raise TypeError(f"start_method must be one of {', '.join(spawn.START_METHODS)}, not {start_method!r}")
    if context is not None:
        raise ValueError(f"start_method={start_method!r} and context={context!r} say the same thing: give one of them")
    return start_method


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
        if name == "chunksize":
            raise ValueError(f"Chunksize must be 1+, not {size!r}")  # in the words of multiprocessing
        raise ValueError(f"{name} must be 1 or more, not {size!r}")
    return min(number, _SIZE_MOST)
