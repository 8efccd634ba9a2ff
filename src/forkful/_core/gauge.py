"""How much memory a process holds: what a worker measures of itself, and the peak that the kernel tells at its end."""

from __future__ import annotations

import os
import sys

_STATM = "/proc/self/statm"  # Linux's: pages in all, resident pages, …
_INTERVAL_NS = 2_000_000
_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss


class Gauge:
    """This process's resident memory; read at most every few milliseconds, because a reading is a system call."""

    def __init__(self) -> None:
        self._due = 0
        self._last = 0
        try:
            self._fd = os.open(_STATM, os.O_RDONLY | os.O_CLOEXEC)
            self._page = os.sysconf("SC_PAGE_SIZE")
        except OSError:
            self._fd = -1

    def read(self, now: int) -> int:
        """Bytes as of *now* (nanoseconds), or of a moment ago."""
        if now >= self._due:
            self._due = now + _INTERVAL_NS
            self._last = self._measure()
        return self._last

    def _measure(self) -> int:
        if self._fd >= 0:
            try:
                return int(os.pread(self._fd, 128, 0).split(maxsplit=2)[1]) * self._page
            except (OSError, IndexError, ValueError):  # a task has closed it; the number may be another file's now
                self._fd = -1
        return own_peak()


def own_peak() -> int:
    """The most that this process has held, in bytes.

    Where it was started by ``posix_spawn``, what its parent had held before counts too: see execve(2) on ``ru_maxrss``.
    """
    import resource  # late: few processes ask

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def peak_of(usage: object) -> int:
    """The most that a process has held, in bytes, from what ``os.wait4`` told of it."""
    peak: int = getattr(usage, "ru_maxrss", 0)
    return peak * _UNIT
