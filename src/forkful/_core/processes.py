"""What ``/proc`` tells of a process, whoever started it.  On a system without one nothing is told."""

from __future__ import annotations

_EXITING = 4  # PF_EXITING, among the flags: it has begun to end, and gives back what it holds


def _stat(pid: int | None) -> list[str]:
    """The fields of ``/proc/PID/stat`` behind the command's name, which may hold anything; none if there is no such process.

    Source: proc(5); the first is the state, the second the parent, the seventh the flags, the twentieth the start.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].decode("ascii").split()
    except OSError:
        return []


def state_of(pid: int | None) -> str:
    """The letter of its state; Z and X for one that has ended; empty if there is none."""
    fields = _stat(pid)
    return fields[0] if fields else ""


def start_of(pid: int | None) -> int | None:
    """When it began, in ticks since the machine did; None if it has ended.  With the pid, this names one process for ever."""
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] not in "ZX" and not int(fields[6]) & _EXITING else None


def parent_of(pid: int | None) -> int:
    """Its parent; 0 if there is none."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def is_stopped(pid: int | None) -> bool:
    """Whether it was stopped by a signal, or a debugger."""
    return state_of(pid) in {"T", "t"}
