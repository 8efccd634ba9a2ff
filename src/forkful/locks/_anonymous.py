"""The files of anonymous locks: nobody can find one by name, so their maker removes them, and only it makes them.

A lock that was never given away goes with its last user.  One that was (pickled, or copied by a fork) may still be on its way
to somebody, and stays until its maker ends.  What a maker that was killed has left is removed by the next process that makes
one, unless somebody holds it; whoever has it open goes on using it.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import weakref
from collections.abc import Callable

from . import _who
from ._record import MAKER, MAKER_START, Record

_PREFIX = "anonymous-"


class Making:
    """What this process has made for one anonymous lock, and what takes it away again."""

    def __init__(self, owner: object, remove: Callable[[], object]) -> None:
        self.given = False
        self._pid = os.getpid()
        self._remove = remove
        weakref.finalize(owner, self._let_go)  # at the end of the program too
        _makings.add(self)

    def _let_go(self) -> None:
        if os.getpid() != self._pid:
            return
        if self.given:
            _leftovers.append((self._pid, self._remove))
        else:
            self._remove()


_makings: weakref.WeakSet[Making] = weakref.WeakSet()
_leftovers: list[tuple[int, Callable[[], object]]] = []
_swept: set[tuple[str, str]] = set()


def note_maker(record: Record) -> None:
    """This process has made the file behind *record*."""
    record.words[MAKER], record.words[MAKER_START] = _who.this_process()


def sweep(folder: str, suffix: str, discard: Callable[[Record], object] = lambda _: None) -> None:
    """Remove what makers that were killed have left in *folder*; once in a process.  *discard* does what else is to be done."""
    if (folder, suffix) in _swept:
        return
    _swept.add((folder, suffix))
    for name in os.listdir(folder):
        if name.startswith(_PREFIX) and name.endswith(suffix):
            _remove_if_left(os.path.join(folder, name), discard)


def _remove_if_left(path: str, discard: Callable[[Record], object]) -> None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # its maker was quicker
        return
    try:
        record = Record(fd, "")
        maker, start = record.words[MAKER], record.words[MAKER_START]
        if maker and not _who.is_alive(maker, start):  # without a maker it is being made
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # it is held, by a child that has outlived its maker
                pass
            else:
                discard(record)
                os.unlink(path)
        record.close()
    except OSError:  # another process is doing the same
        pass
    finally:
        os.close(fd)


@atexit.register
def _remove_leftovers() -> None:
    for pid, remove in _leftovers:
        if pid == os.getpid():
            remove()


def _note_fork() -> None:
    """A child has a copy of each, by which it may ask for the lock later."""
    for making in list(_makings):
        making.given = True


os.register_at_fork(after_in_parent=_note_fork)
