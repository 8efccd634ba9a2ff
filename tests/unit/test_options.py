"""What a pool and its calls can be told."""

from __future__ import annotations

import math
import multiprocessing
import os
import re
import sys
from fractions import Fraction
from typing import Any

import pytest

from forkful._core import spawn
from forkful.pool._options import (
    CallLimits,
    Options,
    Size,
    check_limits,
    check_options,
    check_size,
    check_wait,
    start_method_of,
)


def options(**changes: Any) -> Options:
    """Checked options, *changes* made to the defaults."""
    return check_options(**({"processes": 3} | changes))


def shown(value: object) -> str:
    """How *value* looks in a message, as a pattern."""
    return re.escape(repr(value))


# Limits of a task.


def test_timeouts() -> None:
    """Seconds become nanoseconds; for ever is no limit."""
    seconds = (None, 1, 0.25, 1e-9, math.inf)
    assert [check_limits(timeout, None).timeout for timeout in seconds] == [None, 10**9, 250_000_000, 1, None]


def test_timeouts_that_cannot_be() -> None:
    """The message says how to have none."""
    for timeout in (0, -1, -0.5, math.nan, -math.inf):
        with pytest.raises(ValueError, match=r"timeout must be more than 0 seconds, not .*; leave it out for no limit"):
            check_limits(timeout, None)


def test_timeouts_of_another_kind() -> None:
    """The message shows what was given."""
    wrong: Any
    for wrong in ("5", True, [1], 1j):
        with pytest.raises(
            TypeError, match=f"timeout must be a number of seconds, or None for no limit, not {shown(wrong)}"
        ):
            check_limits(wrong, 0)


def test_timeouts_of_unusual_numbers() -> None:
    """What no clock will see the end of is no limit."""
    assert [check_limits(seconds, None).timeout for seconds in (1e300, 10**400)] == [None, None]
    half: Any = Fraction(1, 2)
    assert check_limits(half, None).timeout == 500_000_000


# Waiting.


def test_waits() -> None:
    """Any number; None and what is endless are no limit, and what is negative is over, as with ``multiprocessing``."""
    assert [check_wait(timeout) for timeout in (0, 1.5, True, Fraction(1, 4), -2)] == [0, 1.5, 1, 0.25, 0]
    assert [check_wait(timeout) for timeout in (None, math.inf, 1e300, 10**400)] == [None] * 4
    assert [check_wait(timeout) for timeout in (-math.inf, -(10**400))] == [0, 0]


def test_waits_that_cannot_be() -> None:
    """The message says what would do, and shows what was given."""
    for wrong in ("1", b"1", [1], 1j, object):
        with pytest.raises(TypeError, match=f"seconds, or None for no limit, not {shown(wrong)}$"):
            check_wait(wrong)
    with pytest.raises(ValueError, match=r"timeout must be a number of seconds, or None for no limit, not nan$"):
        check_wait(math.nan)


def test_retries() -> None:
    """None is none."""
    assert [check_limits(None, retries).retries for retries in (None, 0, 7)] == [0, 0, 7]


def test_retries_that_cannot_be() -> None:
    """Less than none, or half a one."""
    with pytest.raises(ValueError, match="retries must be 0 or more, not -1"):
        check_limits(None, -1)
    wrong: Any
    for wrong in (1.5, "2", True):
        with pytest.raises(TypeError, match="retries must be a whole number, not "):
            check_limits(None, wrong)


def test_limits_of_a_call() -> None:
    """They take the place of the pool's, each for itself."""
    limits = CallLimits(5, 2)
    assert limits.override(None, None) is limits
    assert limits.override(1, None) == CallLimits(1_000_000_000, 2)
    assert limits.override(None, 0) == CallLimits(5, 0)
    assert limits.override(2, 9) == CallLimits(2_000_000_000, 9)
    assert limits.override(None, None, 7) == CallLimits(5, 2, 7)
    assert limits.override(math.inf, None) == CallLimits(None, 2)
    with pytest.raises(ValueError, match="timeout"):
        limits.override(0, None)


# A pool's own.


def test_options_as_given() -> None:
    """Initializer's arguments become a tuple; the rest is kept."""
    checked = check_options(
        2, print, iter("ab"), 7, "spawn", timeout=1, retries=2, priority=3, threads=4, max_pending=5
    )
    assert checked[:6] == (Size(0, 2), 4, False, print, ("a", "b"), None)
    assert checked[6:] == (7, None, (), "spawn", None, 5, True, False, CallLimits(1_000_000_000, 2, 3))
    assert options(maxtasksperchild=True).maxtasksperchild == 1


def test_as_many_processes_as_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing is said."""
    monkeypatch.setenv("FORKFUL_CPU_COUNT", "5")
    assert options(processes=None).size == (0, 5)


def test_a_range_of_processes() -> None:
    """The least and the most; what is idle beyond the least leaves after a minute, unless told otherwise."""
    assert options(processes=(2, 8)).size == (2, 8)
    assert options(processes=(0, 1)).size == (0, 1)
    assert options(processes=(2, 8)).idle_timeout == 60_000_000_000
    assert options(processes=(2, 8), idle_timeout=0.5).idle_timeout == 500_000_000
    assert options(processes=(2, 8), idle_timeout=math.inf).idle_timeout is None
    assert options(processes=8).idle_timeout is None
    for processes in ((3, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="0 <= least <= most and most >= 1, not "):
            options(processes=processes)
    with pytest.raises(ValueError, match=r"\(least, most\), such as \(2, 8\), not \(1, 2, 3\)"):
        options(processes=(1, 2, 3))
    for pair in ((1.0, 2), (1, "2"), (True, 2)):
        with pytest.raises(TypeError, match="processes must be a whole number, not "):
            options(processes=pair)


def test_sizes_that_are_none() -> None:
    """By the names they have."""
    with pytest.raises(ValueError, match=r"^max_pending must be 1 or more, not 0"):
        options(max_pending=0)


def test_threads_and_mode() -> None:
    """One thread unless told; as many as are of use in mode auto."""
    assert (options().threads, options().auto) == (1, False)
    assert (options(mode="auto").threads, options(mode="auto").auto) == (32, True)
    assert options(mode="auto", threads=8).threads == 8
    for threads in (0, 241):
        with pytest.raises(ValueError, match=f"threads must be from 1 to 240, not {threads}"):
            options(threads=threads)
    for wrong in (2.0, "2", True):
        with pytest.raises(TypeError, match="threads must be a whole number"):
            options(threads=wrong)
    with pytest.raises(ValueError, match="mode must be \"auto\" or None, not 'threads'"):
        options(mode="threads")
    with pytest.raises(ValueError, match='mode must be "auto" or None, not \\[\\]'):
        options(mode=[])


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("500MB", 500_000_000),
        ("1.5 GiB", 3 * 2**29),
        ("64k", 64_000),
        ("10", 10),
        (" 2 tb ", 2 * 10**12),
        (4096, 4096),
        (1e9, 10**9),
        ("7B", 7),
    ],
)
def test_memory_sizes(size: object, count: int) -> None:
    """In bytes."""
    assert options(max_memory_per_worker=size).memory == count


def test_memory_that_is_no_size() -> None:
    """The message has an example."""
    for size in ("", "MB", "5 parsecs", "0", "-1MB", 0, -5, math.nan, math.inf, "nan", "infB"):
        with pytest.raises(ValueError, match="max_memory_per_worker must be"):
            options(max_memory_per_worker=size)
    for wrong in (True, b"5MB", [5]):
        with pytest.raises(TypeError, match="max_memory_per_worker must be a size such as"):
            options(max_memory_per_worker=wrong)


def test_start_method_by_its_own_name() -> None:
    """The same as a context; not both."""
    assert options(start_method="spawn").context == "spawn"
    with pytest.raises(ValueError, match="say the same thing: give one of them"):
        options(start_method="spawn", context="fork")
    with pytest.raises(TypeError, match="start_method must be one of forkserver, spawn, fork, not 5"):
        options(start_method=5)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to a processor")
def test_processors_to_be_bound_to() -> None:
    """Those this process may use, one by one or in sets."""
    first = min(os.sched_getaffinity(0))
    assert options(cpu_ids=[first]).processors == ((first,),)
    assert options(cpu_ids=[[first], {first}]).processors == ((first,), (first,))
    cannot: tuple[Any, ...] = ([], [[]], [99_999], [[first, -1]])
    for wrong in cannot:
        with pytest.raises(ValueError, match="cpu_ids"):
            options(cpu_ids=wrong)
    wrong_kinds: tuple[Any, ...] = (5, ["0"], [1.5], [True])
    for wrong_kind in wrong_kinds:
        with pytest.raises(TypeError, match="cpu_ids must be"):
            options(cpu_ids=wrong_kind)
    with pytest.raises(TypeError, match=r"cpu_ids must be a list such as \[0, 1\].*, not '01'"):
        options(cpu_ids="01")


def test_priority_that_is_no_number() -> None:
    """Any whole number is one."""
    assert options(priority=-3).limits.priority == -3
    for wrong in (1.5, "high", True):
        with pytest.raises(TypeError, match="priority must be a whole number, not "):
            options(priority=wrong)


def test_too_few_processes() -> None:
    """In the words of ``multiprocessing``, and with the number."""
    for processes in (0, -1):
        with pytest.raises(ValueError, match=f"Number of processes must be at least 1, not {processes}"):
            options(processes=processes)


def test_processes_of_another_kind() -> None:
    """A number, in so many words."""
    for processes in ("2", 2.0, True, [2], [1, 2]):
        with pytest.raises(
            TypeError, match=r"processes must be a whole number, or \(least, most\) such as \(2, 8\), not "
        ):
            options(processes=processes)


def test_tasks_per_child_that_cannot_be() -> None:
    """As with ``multiprocessing``: one error for all."""
    for maxtasks in (0, -1, "5", 2.5):
        with pytest.raises(ValueError, match="maxtasksperchild must be a positive int or None, not "):
            options(maxtasksperchild=maxtasks)


def test_initializer_that_cannot_be_called() -> None:
    """As with ``multiprocessing``."""
    with pytest.raises(TypeError, match="initializer must be a callable, not 5"):
        options(initializer=5)


def test_initargs_that_are_none() -> None:
    """A single argument is the usual mistake; without an initializer nobody looks at None."""
    for initializer in (None, print):
        with pytest.raises(TypeError, match=r"initargs must be a sequence of arguments, such as \(5,\), not 5"):
            options(initializer=initializer, initargs=5)
    with pytest.raises(TypeError, match="initargs must be"):
        options(initializer=print, initargs=None)
    assert options(initargs=None).initargs == ()


# Start methods.


@pytest.mark.parametrize("method", spawn.START_METHODS)
def test_start_method_by_name_or_context(method: str) -> None:
    """Either says what the user has chosen."""
    assert start_method_of(method) == (method, True)
    assert start_method_of(multiprocessing.get_context(method)) == (method, True)


@pytest.mark.parametrize(("chosen", "answer"), [(None, ("forkserver", False)), ("spawn", ("spawn", True))])
def test_start_method_by_default(monkeypatch: pytest.MonkeyPatch, chosen: str | None, answer: tuple[str, bool]) -> None:
    """What ``set_start_method`` was told, else ours, which nobody has chosen."""
    monkeypatch.setattr(spawn, "chosen_start_method", lambda: chosen)
    assert start_method_of(None) == answer


def test_start_method_that_is_none() -> None:
    """The message has all there are."""
    with pytest.raises(ValueError, match=r"cannot find context for 'thread'; use one of .*spawn"):
        start_method_of("thread")


def test_start_method_of_another_kind() -> None:
    """As with a name that is none: what there is to choose from."""
    for wrong in (5, b"fork", multiprocessing.context.SpawnContext, ["fork"]):
        with pytest.raises(TypeError, match=f"context must be one of .*spawn.* or None, not {shown(wrong)}"):
            start_method_of(wrong)


class Seven:
    """A whole number of another library's."""

    def __index__(self) -> int:
        return 7


def test_sizes() -> None:
    """Whatever is a whole number, ``True`` included, as with ``multiprocessing``; more than memory holds is cut."""
    assert [check_size("chunksize", size) for size in (1, 99, True, Seven())] == [1, 99, 1, 7]
    assert 2**32 < check_size("chunksize", 2**100) < sys.maxsize


def test_sizes_that_cannot_be() -> None:
    """The message names the argument, shows what was given, and says what would do."""
    for size in (0, -3, False):
        with pytest.raises(ValueError, match=rf"^Chunksize must be 1\+, not {size}$"):
            check_size("chunksize", size)
    for wrong in (2.5, 2.0, "3", None, [1]):
        message = rf"^buffersize must be a whole number from 1 up, not {shown(wrong)}$"
        with pytest.raises(TypeError, match=message):
            check_size("buffersize", wrong)
