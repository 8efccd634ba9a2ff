"""Who has a file's lock by the kernel's account, which knows who asked for it, not who has it now.

A lock outlives the process that asked for it in whoever has a copy of the descriptor: in the command of a ``forkful lock``
that was killed.  The kernel goes on naming the dead one's number, which may be another's by then.
"""

from __future__ import annotations

import contextlib
import os

from . import _who
from ._record import Entry


def find_holder(file: tuple[int, int], noted: Entry | None) -> _who.Holder | None:
    """Who has the flock on *file*, device and inode; None if nobody has, as far as this user may see.  Of several, one.

    Args:
        noted: who has noted that it holds it, and may have died since.

    Returns:
        With a pid of 0 where it is held, and nobody who may be looked at has it.
    """
    pids = _find_askers(*file)
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
    heir = next((pid for pid in _processes() if _has_lock(pid, file)), None)
    return _who.describe_holder(heir) if heir is not None else _who.nobody_known() if pids else None


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
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # it was closed
                found = os.stat(f"/proc/{pid}/fd/{name}")
                if (found.st_dev, found.st_ino) == file:
                    with open(f"/proc/{pid}/fdinfo/{name}", encoding="ascii", errors="replace") as info:
                        if any(line.startswith("lock:") and " FLOCK " in line for line in info):
                            return True
    except PermissionError:
        return None
    except OSError:  # it has ended
        pass
    return False
