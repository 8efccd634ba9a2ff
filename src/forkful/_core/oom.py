"""Whether a worker that got SIGKILL got it from the kernel, for want of memory.  Runs in the master.

The kernel does not say whom it has killed to whoever may not read its log.  It counts, and before it sends the signal: in
each control group, and where there is none, for the whole machine.  Each death explains one step of the count.
"""

from __future__ import annotations

from . import cgroups

_KEY = "oom_kill"

# What the count was when the newest pool began, plus the deaths that it has explained since.  One for all pools: two must
# not claim the same step.  Two threads that ask at the same instant might; a lock is not worth that.
_explained: list[int | None] = [None]


def begin() -> None:
    """A pool begins: what happened before is not its workers' end."""
    _explained[0] = count()


def claim() -> bool | None:
    """Whether the kernel has killed a process of ours for want of memory; True once for each.  None: it cannot be known."""
    before, now = _explained[0], count()
    if before is None or now is None:
        return None
    if now <= before:
        return False
    _explained[0] = before + 1
    return True


def count() -> int | None:
    """How many processes the kernel has ever killed here for want of memory."""
    version, folders = cgroups.chain("memory")
    if folders:
        name = "memory.events" if version == 2 else "memory.oom_control"
        counted = cgroups.parse_number(cgroups.read(f"{folders[0]}/{name}"), _KEY)
        if counted is not None:
            return counted
    return cgroups.parse_number(cgroups.read("/proc/vmstat"), _KEY)
