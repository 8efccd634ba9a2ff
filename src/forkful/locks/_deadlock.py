"""Circles of waiters: each holds what the one before it waits for, so that none will ever get on.  See README.md.

Found by those who have waited for half a second, from the records in the folder of locks; one of them gives up.  Readers of an
`RWLock` are not on record, and so in no circle that is found.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from ..errors import DeadlockError
from . import _who
from ._folder import identify
from ._place import Place
from ._record import FENCE, Entry, Record, recorded_file

LOOK_S: Final = 0.5  # a wait that lasts so long is looked into
_TURN_S: Final = 0.5  # so long after the turn of one of a circle is that of the next
_READINGS: Final = 8  # at most, of records that change meanwhile


class Node(NamedTuple):
    """A thread or task of a process."""

    pid: int
    owner: int


class Held(NamedTuple):
    """By whom a lock is held, and the number of that acquisition."""

    fence: int
    owner: Node


class Seen(NamedTuple):
    """What a record in the folder says of a lock; of processes that were alive."""

    name: str
    fence: int
    holder: Entry | None
    waiters: list[Entry]
    file: tuple[int, int]  # that is locked: device and inode
    dead: Entry | None  # who has not noted that it gave it back


class Link(NamedTuple):
    """One step of a circle: who waits, since when, for what, and who holds that."""

    node: Node
    since: int
    lock: str
    held: Held


Survey = tuple[Held | None, list[Seen]]  # who holds what this thread or task waits for, and all records


def read_holder(record: Record) -> Held | None:
    """By whom the lock is held, as the record says, if that process is alive: its pid may be somebody else's by now."""
    fence, entry = record.words[FENCE], record.holder()
    if entry is None or not _who.is_alive(entry.pid, entry.start):
        return None
    return Held(fence, Node(entry.pid, entry.owner))


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
            fence, holder, dead = record.words[FENCE], record.holder(), None
            if holder is not None and not _who.is_alive(holder.pid, holder.start):
                holder, dead = None, holder
            waiters = [entry for entry in record.waiters() if _who.is_alive(entry.pid, entry.start)]
            seen.append(Seen(record.name(), fence, holder, waiters, file, dead))
            record.close()
    return seen


def find_circle(own: Node, halted: Iterable[Node], survey: Survey) -> list[Link] | None:
    """The circle that *own* is in, from its own wait on; None if there is none.  Pure.

    Args:
        halted: those who stand still with it.
    """
    awaited, records = survey
    if awaited is None:
        return None
    waits: dict[Node, list[Link]] = {}
    begun = 0
    for seen in records:
        for entry in seen.waiters:
            node = Node(entry.pid, entry.owner)
            if node == own:
                begun = max(begun, entry.since)
            elif seen.holder is not None:
                held = Held(seen.fence, Node(seen.holder.pid, seen.holder.owner))
                waits.setdefault(node, []).append(Link(node, entry.since, seen.name, held))
    ends = {own, *halted}
    paths = [[Link(own, begun, "", awaited)]]
    visited: set[Node] = set()
    while paths:
        path = paths.pop()
        node = path[-1].held.owner
        if node in ends:
            return path
        if node not in visited:
            visited.add(node)
            paths.extend([*path, link] for link in waits.get(node, ()))
    return None


def confirm_circle(find: Callable[[], list[Link] | None]) -> list[Link] | None:
    """What *find* has found twice in turn, so that it stood at one time; None if there is no circle."""
    before = find()
    for _ in range(_READINGS):
        if before is None:
            break
        now = find()
        if now == before:
            return now
        before = now
    return None


def turn_of(circle: list[Link]) -> float:
    """When the first of *circle* is to give up, in seconds since the epoch; 0 if it is always to.  Pure."""
    own = circle[0]
    if (
        not own.since or circle[-1].held.owner != own.node
    ):  # it is not on record, or nobody else sees that it is a circle
        return 0.0
    order = sorted(((link.since, link.node) for link in circle), reverse=True)
    rank = order.index((own.since, own.node))
    return order[0][0] / 1e9 + LOOK_S + _TURN_S * rank if rank else 0.0


def explain_circle(place: Place, circle: list[Link]) -> DeadlockError:
    """The error of the first of *circle*, which waits for the lock at *place*."""
    own, last = circle[0].node, circle[-1].held.owner
    pids = (own.pid, *(link.node.pid for link in circle[1:]))
    if len(circle) == 1:
        return DeadlockError(f"{place.describe()} is held by {_explain_end(own, last)}", lock=place.text, pids=pids)
    steps = []
    for link in circle[1:]:
        who = (
            f"another {_kind(link.node)} of this process"
            if link.node.pid == own.pid
            else f"pid {link.node.pid} ({_who.shorten(_who.command_of(link.node.pid))})"
        )
        steps.append(f"{who}, which waits for lock {link.lock or '(anonymous)'!r}, held by ")
    end = f"this {_kind(own)}" if last == own else f"a {_kind(last)} that stands still while this {_kind(own)} waits"
    message = (
        f"{place.describe()} can never be had: it is held by {''.join(steps)}{end} (pid {own.pid}); "
        f"take locks in the same order everywhere, or with a timeout"
    )
    return DeadlockError(message, lock=place.text, pids=pids)


def _kind(node: Node) -> str:
    return "task" if _who.is_task(node.owner) else "thread"


def _explain_end(own: Node, holder: Node) -> str:
    """Who waits for itself, and what to do."""
    if holder == own:
        again = "use an RLock to take it again"
        if _who.is_task(own.owner):
            return f"this very task, which would wait for itself; {again}"
        return f"this very thread, and would never be released; {again}"
    if _who.is_task(holder.owner):
        return (
            "another task of the event loop that this thread runs, and that stands still while it waits; "
            "wait with `async with` or `await lock.acquire_async()`"
        )
    return "this very thread, which took it outside of the task that it runs; release it before the task takes it"
