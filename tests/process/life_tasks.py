"""What the tests of a worker's life have workers do: to hold memory, to leave, to crash."""

from __future__ import annotations

import os
import time

_kept: list[bytes] = []


def keep(size: int) -> int:
    """Holds so many bytes more from now on; which process this is."""
    _kept.append(b"x" * size)
    time.sleep(0.005)  # longer than a reading of the memory holds
    return os.getpid()
