"""All doors of this process: each lock has one, however many objects name it."""

from __future__ import annotations

import os
import threading

from . import _who
from ._door import Door, doors
from ._file import FileLock
from ._place import ANONYMOUS, REMOTE, Place
from ._remote_door import RemoteDoor

_opening = threading.RLock()


def open_door(place: Place, *, create: bool = True) -> Door:
    """The door of the lock at *place*.

    Args:
        create: whether its file is made if it is not there.

    Raises:
        EngineUnavailable: what its engine needs is not installed.
        LockError: its folder cannot be used.
    """
    door = doors.get(place)
    if door is None:
        with _opening:
            door = doors.get(place)
            if door is None:
                door = doors[place] = _make_door(place, create=create)
    return door


def _make_door(place: Place, *, create: bool) -> Door:
    if place.kind == REMOTE:
        from ._remote import open_remote  # needs what few programs have installed

        return RemoteDoor(open_remote(place), place.describe())
    mechanism = FileLock(place, create=create)
    door = Door(mechanism, place.describe())
    if create and place.kind == ANONYMOUS:
        door.making = mechanism.make()
    return door


def _disown() -> None:
    """In a forked child: it holds nothing, and what it has open of its parent's locks is closed, not given back."""
    global _opening
    _opening = threading.RLock()
    _who.forget_process()
    for door in list(doors.values()):
        door.disown()


os.register_at_fork(after_in_child=_disown)
