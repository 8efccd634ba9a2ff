"""Circles of waiters: each holds what the one before it waits for, so that none will ever get on.

Found by whoever has waited for a second, from the records in the folder of locks.  A circle is complete with the wait that
began last, whose waiter finds it at the latest.  Readers of an `RWLock` are not on record, and so in no circle that is found.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import DeadlockError
from . import _who
from ._folder import identify
from ._place import Place
from ._record import Entry, Record, recorded_file


class Node(NamedTuple):
    """A thread or task of a process."""

    pid: int
    owner: int


class Seen(NamedTuple):
    """What a record in the folder says of a lock; of processes that were alive."""

    name: str
    holder: Entry | None
    waiters: list[Entry]
    file: tuple[int, int]  # that is locked: device and inode
    dead: Entry | None  # who has not noted that it gave it back


class Link(NamedTuple):
    """One step of a circle: who waits, for what."""

    node: Node
    lock: str


def survey_folder(folder: str) -> list[Seen]:
    """What all records there say."""
    seen = []
    for name in os.listdir(folder):
        if name.endswith(".lock"):
            try:
                fd = os.open(os.path.join(folder, name), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:  # an anonymous lock that has gone
                continue
            try:
                record = Record(fd, "")
                file = recorded_file(name) or identify(fd)
            finally:
                os.close(fd)
            holder, dead = record.holder(), None
            if holder is not None and not _who.is_alive(holder.pid, holder.start):
                holder, dead = None, holder
            waiters = [entry for entry in record.waiters() if _who.is_alive(entry.pid, entry.start)]
            seen.append(Seen(record.name(), holder, waiters, file, dead))
            record.close()
    return seen


def find_circle(start: Node, awaited: Entry | None, survey: Iterable[Seen]) -> list[Link] | None:
    """The circle that *start* is in, which waits for what *awaited* holds: the others in turn, from that owner on.

    Pure.  None if there is none.
    """
    if awaited is None:
        return None
    waits: dict[Node, list[tuple[str, Node]]] = {}
    for seen in survey:
        if seen.holder is not None:
            owner = Node(seen.holder.pid, seen.holder.owner)
            for entry in seen.waiters:
                waits.setdefault(Node(entry.pid, entry.owner), []).append((seen.name, owner))
    first = Node(awaited.pid, awaited.owner)
    paths: list[list[Link]] = [[Link(first, "")]]
    visited = {first}
    while paths:
        path = paths.pop()
        node = path[-1].node
        if node == start:
            return path
        for lock, owner in waits.get(node, ()):
            if owner not in visited:
                visited.add(owner)
                paths.append([*path[:-1], Link(node, lock), Link(owner, "")])
    return None


def explain_circle(place: Place, circle: list[Link]) -> DeadlockError:
    """The error of whoever waits for the lock at *place*, and is the last of *circle*."""
    own = os.getpid()
    if len(circle) == 1:
        message = f"{place.describe()} is held by this very thread, and would never be released; use an RLock to take it again"
        return DeadlockError(message, lock=place.text, pids=(own,))
    steps = []
    for link in circle[:-1]:
        who = (
            "another thread of this process"
            if link.node.pid == own
            else f"pid {link.node.pid} ({_who.shorten(_who.command_of(link.node.pid))})"
        )
        steps.append(f"{who}, which waits for lock {link.lock or '(anonymous)'!r}, held by ")
    message = (
        f"{place.describe()} can never be had: it is held by {''.join(steps)}this thread (pid {own}); "
        f"take locks in the same order everywhere, or with a timeout"
    )
    pids = (own, *(link.node.pid for link in circle[:-1]))
    return DeadlockError(message, lock=place.text, pids=pids)
