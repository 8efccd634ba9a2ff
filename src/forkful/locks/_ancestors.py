"""Whether the holder of a lock is a process that this one was started by, and that will go on only when this one has ended.

Such a wait would last for ever: ``forkful lock x -- forkful lock x -- command``.  But a process of whom one is a child may
give the lock back meanwhile, as where a shell has put us in the background.  Therefore each between the holder and us must be
seen to sleep in a wait for children, and have no other child than the one that leads to us.
"""

from __future__ import annotations

import os

from .._core import processes

_MOST = 64  # generations


def waits_for_us(holder: int) -> bool:
    """Whether process *holder* waits for the end of this one, by way of its children."""
    child = os.getpid()
    for _ in range(_MOST):
        parent = processes.parent_of(child)
        if not parent or not _waits_for(parent, child):
            return False
        if parent == holder:
            return True
        child = parent
    return False


def _waits_for(parent: int, child: int) -> bool:
    """Whether *parent* sleeps until *child* has ended, for all that can be seen."""
    try:
        with open(f"/proc/{parent}/wchan", encoding="ascii") as file:
            place = file.read()
        threads = os.listdir(f"/proc/{parent}/task")
        children: list[int] = []
        for thread in threads:
            with open(f"/proc/{parent}/task/{thread}/children", encoding="ascii") as file:
                children += map(int, file.read().split())
    except OSError:
        return False
    # In sigwait is `forkful lock` itself, beside whose command there are threads of ours only.
    sleeps = place.startswith("do_sigtimedwait") or (place.startswith("do_wait") and len(threads) == 1)
    return sleeps and children == [child]
