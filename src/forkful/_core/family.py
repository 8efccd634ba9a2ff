"""What a worker's task has started: processes that nobody else will end once the worker is killed.  Runs in the master.

Only where the worker is killed for what runs there (a time-out, a cancel, the end of a pool whose grace is over).  What a
task has started and left behind on purpose, with a worker that lives on or is told to leave, is left alone; so is what has
made itself independent (a daemon's parent is gone).
"""

from __future__ import annotations

import contextlib
import os
import signal

from . import cgroups
from .processes import start_of

Relative = tuple[int, int]  # a pid, and when that process began


def find_family(pid: int | None) -> list[Relative]:
    """The processes that descend from process *pid*, which is not ended; empty where the system does not tell."""
    family: list[Relative] = []
    parents = [] if pid is None else [pid]
    while parents:
        for child in _children_of(parents.pop()):
            began = start_of(child)
            if began is not None:
                family.append((child, began))
                parents.append(child)
    return family


def end_family(family: list[Relative]) -> None:
    """SIGKILL for those of *family* that have not ended."""
    for pid, began in family:
        if start_of(pid) == began:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # the latter: it has become another user's
                os.kill(pid, signal.SIGKILL)


def _children_of(pid: int) -> list[int]:
    """Each thread's own: a process is the child of the thread that started it."""
    children: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            children += map(int, cgroups.read(f"/proc/{pid}/task/{thread}/children").split())
    return children
