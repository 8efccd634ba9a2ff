"""The resident memory of this process."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


@dataclass
class Growth:
    """How far the peak rose above the start; known when the block is left."""

    bytes: int = 0


@contextmanager
def growth_of_peak() -> Iterator[Growth]:
    """Measure how far the resident size rises, at its highest, above what it is now."""
    growth = Growth()
    if CLEAR.exists():
        CLEAR.write_text("5")  # the peak of now; see proc(5)
    before = peak()
    yield growth
    growth.bytes = peak() - before


def peak() -> int:
    """The highest resident size since the start or the last reset, in bytes."""
    if STATUS.exists():
        # Not getrusage: a Linux process inherits its maximum from the one that started it.
        line = next(line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024
