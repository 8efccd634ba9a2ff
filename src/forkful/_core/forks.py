"""Forks of this process: what they must close, and who may fork when.  Runs in the master, and in every child it forks.

A child that user code forks, or a worker that is forked, has copies of all that this process holds of its workers.  A
copied lifeline would keep workers alive after the parent's death, a copied channel would hide its end.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from itertools import starmap
from typing import Any, TypeVar

R = TypeVar("R")

# What is to be closed in a child.
_held: weakref.WeakSet[Any] = weakref.WeakSet()

# Held by a fork, and by whoever opens what a fork must close, from before it is open until it is known in `_held` and
# the worker's ends are closed.  So a fork by another thread sees all of it or nothing.  A lock that its thread may take
# again, because the start of a forked worker is a fork, and because a signal's handler may fork at any point.
_gate = threading.RLock()
_PATIENCE = 1.0


def hold(resource: Any) -> None:
    """Have *resource*'s ``disown`` called in every child this process forks by itself."""
    _held.add(resource)


def without_forks(function: Callable[[], R]) -> R:
    """Call *function* while no other thread of this program forks.  It must wait for nobody.

    A fork that takes longer than `_PATIENCE` is not waited for: it is in somebody's ``before`` hook, and may wait there
    for a lock that our caller has.  Then it copies nothing until we are done.  Only a hook that is so slow for another
    reason may end, and the fork be made, in our midst.
    """
    taken: list[bool] = []
    try:
        note(taken, functools.partial(_gate.acquire, timeout=_PATIENCE))
        return function()
    finally:
        if taken == [True]:
            try:
                _gate.release()
            except RuntimeError:  # this is a child that a signal's handler has forked meanwhile: see below
                pass


def _close_held_in_child() -> None:
    # Made anew, and not just released: this may be a worker, which never comes back to where the lock was taken.
    _gate._at_fork_reinit()  # type: ignore[attr-defined]  # what the standard library calls for its own locks
    for resource in list(_held):
        with contextlib.suppress(OSError, ValueError, BufferError):
            resource.disown()
    _held.clear()


# The first two are no functions of Python's: in those a signal's handler could raise, and what is raised here is lost.
os.register_at_fork(before=_gate.acquire, after_in_parent=_gate.release, after_in_child=_close_held_in_child)


# Making a process known.


def note(into: list[Any], function: Callable[[], Any]) -> None:
    """Put what *function* returns into *into*, in one step of the interpreter.

    With an assignment, a signal's handler could run, and raise, between the return and the assignment, and nobody would
    know of the new process.  Blocked signals are no help: another thread takes them, and the handler runs in this one.
    """
    into.extend(starmap(function, [()]))


def _fork(into: list[int]) -> None:
    into.extend(starmap(os.fork, [()]))


# `note` for a fork.  Python 3.12 warns of forks beside threads; whoever chose ``fork`` chose that, and the pool's own
# thread is one.  A warning belongs to the module of the code that causes it, and where that has no name there is none.
# Warning filters would be no way: all threads share them, and two that change and restore them leave either's behind.
note_fork = types.FunctionType(_fork.__code__, {"__name__": None, "os": os, "starmap": starmap})


# Around a fork, or a start.


def flush_standard_streams() -> None:
    """Before a fork: else both processes would write what the buffers hold."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()


@contextlib.contextmanager
def above_standard_streams() -> Iterator[None]:
    """What is opened inside gets descriptors above 2, also where the program has closed those: tasks print there."""
    fillers: list[int] = []
    try:
        while (fd := os.open(os.devnull, os.O_RDONLY)) <= 2:
            fillers.append(fd)
        os.close(fd)
        yield
    finally:
        for fd in fillers:
            os.close(fd)
