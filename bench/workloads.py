"""The functions that the pools run.  Imported in every worker, so nothing heavy is imported here."""

from __future__ import annotations

import os
import time


def identity(value: int) -> int:
    """The no-op: what is measured is everything around it."""
    return value


def pause(seconds: float) -> float:
    """Sleep; 0 is a no-op."""
    if seconds:
        time.sleep(seconds)  # the long task itself: nothing is waited for
    return seconds


def own_pid(_: None) -> int:
    """The worker's process id, by the one means that every pool has."""
    return os.getpid()
