"""Who has a file's lock by the kernel's account, which knows who asked for it, not who has it now.

A lock outlives the process that asked for it in whoever has a copy of the descriptor: in the command of a ``forkful lock``
that was killed.  The kernel goes on naming the dead one's number, which may be another's by then.
"""

from __future__ import annotations

import os
from typing import Final

from . import _who
from ._record import Entry

_READINGS: Final = 8  # at most, of a lock that changes hands meanwhile


def find_holder(file: tuple[int, int], noted: Entry | None, unheld: int | None = None) -> _who.Holder | None:
    """Who has the flock on *file*, device and inode; None if nobody has, as far as this user may see.  Of several, one.

    Args:
        noted: who has noted that it holds it, and may have died since.
        unheld: a descriptor of this process by which nobody holds it, though the kernel may say so: a wait that nobody is
            left of may have got it, and is about to give it back.

    Returns:
        With a pid of 0 where it is held, and nobody who may be looked at has it.
    """
    asked, others = _find_askers(*file), list[int]()
    holder: _who.Holder | None = None
    for _ in range(_READINGS):
        passing = unheld is not None and _lives_by(os.getpid(), str(unheld), file)
        others = asked.copy()
        if passing and os.getpid() in others:
            others.remove(os.getpid())  # once: it may have it by another descriptor too
        holder = _find_among(others, file, noted, passing=passing)
        before, asked = asked, _find_askers(*file)
        is_settled = asked == before  # else it has changed hands meanwhile, maybe for what is only passing here
        if is_settled or (not others if holder is None else holder.pid != os.getpid()):
            break
    return holder or (_who.nobody_known() if others else None)


def _find_among(pids: list[int], file: tuple[int, int], noted: Entry | None, *, passing: bool) -> _who.Holder | None:
    """Who of *pids*, or in their place, has it.

    Args:
        passing: this process has it besides, and does not count.
    """
    alive = noted is not None and _who.is_alive(noted.pid, noted.start)
    if noted is not None and alive and noted.pid in pids:
        return _who.describe_holder(noted.pid, noted.owner, noted.since)
    if not pids and (noted is None or alive):  # to a container, the kernel does not tell what a dead one had asked for
        return None
    dead = noted.pid if noted is not None and not alive else None
    for pid in pids:
        has = _has_lock(pid, file)
        if has or (has is None and pid != dead):
            return _who.describe_holder(pid)
    ours = os.getpid() if passing else None
    heir = next((pid for pid in _processes() if pid != ours and _has_lock(pid, file)), None)
    return None if heir is None else _who.describe_holder(heir)


def _find_askers(device: int, inode: int) -> list[int]:
    """The processes that have asked for an flock on a file which is still there."""
    wanted = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:  # not Linux
        return []
    return [int(line[4]) for line in lines if line[1:2] == ["FLOCK"] and line[5] == wanted]


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _has_lock(pid: int, file: tuple[int, int]) -> bool | None:
    """Whether process *pid* has *file* open by a descriptor that its lock lives by; None where that may not be looked at."""
    try:
        return any(_lives_by(pid, name, file) for name in os.listdir(f"/proc/{pid}/fd"))
    except PermissionError:
        return None
    except OSError:  # it has ended
        return False


def _lives_by(pid: int, name: str, file: tuple[int, int]) -> bool:
    """Whether descriptor *name* of process *pid* is one of *file* that its lock lives by."""
    try:
        found = os.stat(f"/proc/{pid}/fd/{name}")
        if (found.st_dev, found.st_ino) == file:
            with open(f"/proc/{pid}/fdinfo/{name}", encoding="ascii", errors="replace") as info:
                return any(line.startswith("lock:") and " FLOCK " in line for line in info)
    except FileNotFoundError:  # it was closed
        pass
    return False
