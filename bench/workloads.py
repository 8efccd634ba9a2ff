"""The functions that the pools run.  Imported in every worker, so nothing heavy is imported here."""

from __future__ import annotations

import os
import time
from typing import Any


def identity(value: int) -> int:
    """The no-op: what is measured is everything around it."""
    return value


def echo(line: str) -> str:
    """The no-op for lines of text."""
    return line


def pause(seconds: float) -> float:
    """Sleep; 0 is a no-op."""
    if seconds:
        time.sleep(seconds)  # the long task itself: nothing is waited for
    return seconds


def first_and_last(array: Any) -> tuple[float, float]:
    """Looks at an array, and no more."""
    return float(array[0]), float(array[-1])


def own_pid(_: None) -> int:
    """The worker's process id, by the one means that every pool has."""
    return os.getpid()
