"""What ``forkful lock`` needs of a lock beyond what a program does: handing it to a command, listing all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from . import _who
from ._deadlock import Seen, survey_folder
from ._deaf import deaf_threads
from ._file import FileLock
from ._folder import leads_to, lock_folder
from ._kernel import find_holder
from ._lock import Base
from ._place import REMOTE
from ._record import is_cut
from ._rwlock import RWLock


class Waiter(NamedTuple):
    """Who waits for a lock; it was alive when that was found."""

    pid: int
    since: float  # seconds since the epoch
    command: str


class Listed(NamedTuple):
    """A lock that somebody holds or waits for."""

    name: str  # its name or path; empty for an anonymous one
    holder: _who.Holder | None  # None where only readers share it, or its holder could not be told
    waiters: list[Waiter]


def acquire(lock: RWLock, timeout: float | None, *, shared: bool) -> bool:
    """Take *lock*, as the ``acquire`` of one of its sides; whatever threads that needs, they get no signals.

    Thus signals can be waited for while it is held: no thread that keeps it, as a lease, takes one away.
    """
    owner, is_remote = _who.current(), lock._place.kind == REMOTE
    if timeout != 0:
        return lock._door.take(owner, timeout, shared=shared, aside=is_remote)
    if not is_remote:
        return lock._door.take_now(owner, shared=shared)
    return _call_aside(lambda: lock._door.take_now(owner, shared=shared))


def _call_aside(function: Callable[[], bool]) -> bool:
    """*function* in a deaf thread; this one can be interrupted meanwhile, however long a server takes."""
    results: list[bool] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:  # raised below
            failures.append(error)

    with deaf_threads():
        thread = threading.Thread(target=run, daemon=True, name="forkful-lock")
        thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def descriptor_of(lock: Base) -> int | None:
    """The descriptor that a held lock lives by: it lives as long as a copy of it; None where it is no file's."""
    mechanism = lock._door.mechanism
    return mechanism._fd if isinstance(mechanism, FileLock) else None


def list_locks() -> list[Listed]:
    """Every lock of this user on this machine that somebody alive holds or waits for, by name."""
    listed = []
    for seen in survey_folder(lock_folder()):
        waiters = [Waiter(entry.pid, entry.since / 1e9, _who.command_of(entry.pid)) for entry in seen.waiters]
        noted = seen.holder
        holder = _ask_kernel(seen) if noted is None else _who.describe_holder(noted.pid, noted.owner, noted.since)
        if holder is not None or waiters:
            listed.append(Listed(seen.name, holder, waiters))
    return sorted(listed, key=lambda lock: lock.name)


def _ask_kernel(seen: Seen) -> _who.Holder | None:
    """Who holds a lock that is not on record: a reader, ``flock(1)``, a command whose ``forkful lock`` was killed."""
    if seen.name.startswith("/") and not is_cut(seen.name) and not leads_to(seen.name, seen.file):
        return None  # its file has gone
    return find_holder(seen.file, seen.dead)
