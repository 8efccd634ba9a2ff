"""What this process holds, compared before and after a test: processes, threads, descriptors, ``/dev/shm``.

``conftest.py`` does it around every test; `LeakCheck` can also be used by itself::

    check = LeakCheck()
    ...
    assert check.leaks() == []

Whatever is on its way out is waited for, up to `GRACE` seconds, and by its own end: a thread is joined, a process is
waited for through its pidfd, which neither reaps it nor hides that nobody else did.

Not seen: a process that left both our tree (its parent died) and our process group; a thread started without the
``threading`` module.  Where there is no ``/proc`` (macOS), descriptors are known by number only and orphans not at all.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import select
import threading
import time
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import psutil

GRACE = 5.0
"""Seconds that what is ending gets to end in. Only a failing test takes as long."""

SETTLE = 0.5
"""Of these, the seconds for what gives no sign of its end: a descriptor, a name, the reaping of a child."""

SHM = Path("/dev/shm")

# The standard library's own; their fields are private, and None while they do not run.
_TRACKER: Any = resource_tracker._resource_tracker
_FORKSERVER: Any = forkserver._forkserver


@dataclass(frozen=True, slots=True)
class Child:
    """A process; the time it was started at tells it from a later one with the same pid."""

    pid: int
    started: float

    def __str__(self) -> str:
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                what = "has ended, but nobody has waited for it"
            else:
                what = " ".join(process.cmdline()) or process.name()
        except psutil.Error:
            what = "has ended just now"
        return f"process {self.pid}: {what[:200]}"


@dataclass(frozen=True, slots=True)
class Holdings:
    """All that is held at one moment."""

    children: frozenset[Child]
    threads: frozenset[threading.Thread]
    descriptors: frozenset[tuple[int, str]]
    shm: frozenset[str]

    @classmethod
    def now(cls) -> Holdings:
        """Look."""
        return cls(_children(), _threads(), _descriptors(), _shm())

    def beyond(self, before: Holdings) -> Holdings:
        """What is here and was not there *before*."""
        return Holdings(
            self.children - before.children,
            self.threads - before.threads,
            self.descriptors - before.descriptors,
            frozenset(name for name in self.shm - before.shm if not _is_of_another_program(name)),
        )

    def __bool__(self) -> bool:
        return bool(self.children or self.threads or self.descriptors or self.shm)

    def lines(self) -> list[str]:
        """One line for each thing held."""
        return [
            *sorted(map(str, self.children)),
            *sorted(f"thread {thread.name!r}{' (daemon)' if thread.daemon else ''}" for thread in self.threads),
            *sorted(f"descriptor {fd}: {target}" for fd, target in self.descriptors),
            *sorted(f"{SHM}/{name}" for name in self.shm),
        ]


class LeakCheck:
    """Remembers what is held when it is made."""

    def __init__(self) -> None:
        self._before = Holdings.now()

    def leaks(self) -> list[str]:
        """What was left since, a line each, after waiting for what is ending. Processes found are killed."""
        left = Holdings.now().beyond(self._before)
        if left:
            left = self._settle(left, time.monotonic() + GRACE)
        lines = left.lines()
        for child in left.children:  # they would go on to disturb the tests after this one
            with contextlib.suppress(psutil.Error):
                psutil.Process(child.pid).kill()
            with contextlib.suppress(ChildProcessError):  # not ours, but a child's or an orphan
                os.waitpid(child.pid, 0)
        return lines

    def _settle(self, left: Holdings, deadline: float) -> Holdings:
        """What is still left once garbage is collected and what was ending has ended."""
        gc.collect()
        for thread in left.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        _wait_for_exits(left.children, deadline)
        multiprocessing.active_children()  # the standard library reaps its own finished processes in this call only
        last = time.monotonic() + (GRACE if is_one_of_several() else SETTLE)
        while (left := Holdings.now().beyond(self._before)) and time.monotonic() < last:
            time.sleep(0.01)  # no event tells that another thread has closed, unlinked or reaped something
        return left


def is_one_of_several() -> bool:
    """Whether other tests run beside ours (pytest-xdist): what is new in ``/dev/shm`` may be theirs, and goes with them."""
    return "PYTEST_XDIST_WORKER" in os.environ


def _children() -> frozenset[Child]:
    """Every process below this one, and those whose parent died but who are still in our process group."""
    us = os.getpid()
    try:
        parents = _parents_in_group() | _parents_below({us})
    except FileNotFoundError:  # no /proc, or a kernel without lists of children
        parents = {process.pid: process.ppid() for process in psutil.Process().children(recursive=True)}
    kept = _kept_processes()
    found = set()
    for pid, parent in parents.items():
        with contextlib.suppress(psutil.Error):  # it ended while we looked
            process = psutil.Process(pid)
            # A zombie is left by whoever should have waited for it; that is us only if we are the parent.
            if pid not in kept and (parent == us or process.status() != psutil.STATUS_ZOMBIE):
                found.add(Child(pid, process.create_time()))
    return frozenset(found)


def _parents_below(pids: set[int]) -> dict[int, int]:
    """Descendants of *pids*, each with its parent, from the kernel's own lists: far cheaper than reading all of /proc."""
    parents: dict[int, int] = {}
    for pid in pids:
        children: set[int] = set()
        tasks = Path(f"/proc/{pid}/task")
        for task in os.listdir(tasks):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                children.update(map(int, (tasks / task / "children").read_text().split()))
        parents |= dict.fromkeys(children, pid)
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            parents |= _parents_below(children)
    return parents


def _parents_in_group() -> dict[int, int]:
    """Orphans of our process group, each with its parent: a process in it whose parent is not, and not its leader."""
    group = os.getpgrp()
    members = set()
    for name in os.listdir("/proc"):
        try:  # not suppress(): this runs twice for each test and process
            if name.isdigit() and os.getpgid(int(name)) == group:
                members.add(int(name))
        except (ProcessLookupError, PermissionError):
            pass
    parents = {}
    for pid in members - {group, os.getpid()}:
        with contextlib.suppress(psutil.Error):
            parents[pid] = psutil.Process(pid).ppid()
    return {pid: parent for pid, parent in parents.items() if parent not in members}


def _kept_processes() -> set[int]:
    """Kept on purpose: multiprocessing starts these two once and lets them live as long as the program."""
    return {_TRACKER._pid, _FORKSERVER._forkserver_pid}


def _kept_descriptors() -> set[int]:
    """Kept on purpose: what holds those two alive."""
    return {_TRACKER._fd, _FORKSERVER._forkserver_alive_fd}


def _threads() -> frozenset[threading.Thread]:
    # A thread that Python did not start but has seen once is a "dummy", listed for ever and never joined.
    return frozenset(thread for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread))


def _descriptors() -> frozenset[tuple[int, str]]:
    folder = "/proc/self/fd" if os.path.exists("/proc/self/fd") else "/dev/fd"
    kept = _kept_descriptors()
    found = set()
    for fd in os.listdir(folder):
        try:
            found.add((int(fd), os.readlink(f"{folder}/{fd}") if folder.startswith("/proc") else ""))
        except FileNotFoundError:  # the one that listdir itself used
            pass
    return frozenset((fd, target) for fd, target in found if fd not in kept)


def _shm() -> frozenset[str]:
    return frozenset(os.listdir(SHM)) if SHM.exists() else frozenset()


def _is_of_another_program(name: str) -> bool:
    """Whether a process that is none of ours has this entry of /dev/shm open or mapped: browsers and others do."""
    path = str(SHM / name)
    ours = {os.getpid()} | {child.pid for child in _children()}
    for process in psutil.process_iter():
        if process.pid not in ours:
            with contextlib.suppress(psutil.Error, OSError):
                if any(file.path == path for file in process.open_files()):
                    return True
                if any(area.path == path for area in process.memory_maps()):
                    return True
    return False


def _wait_for_exits(children: frozenset[Child], deadline: float) -> None:
    if not hasattr(os, "pidfd_open"):
        processes = [psutil.Process(child.pid) for child in children if psutil.pid_exists(child.pid)]
        psutil.wait_procs(processes, timeout=max(0.0, deadline - time.monotonic()))
        return
    with contextlib.ExitStack() as stack:
        poll, running = select.poll(), set()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(child.pid)
                stack.callback(os.close, pidfd)
                poll.register(pidfd, select.POLLIN)
                running.add(pidfd)
        while running and (left := deadline - time.monotonic()) > 0:
            for pidfd, _ in poll.poll(left * 1000):
                poll.unregister(pidfd)
                running.discard(pidfd)
