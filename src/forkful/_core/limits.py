"""What bounds a pool."""

# No `from __future__ import annotations` here: annotations of a NamedTuple that are strings cost each import a millisecond.

from typing import NamedTuple


class Limits(NamedTuple):
    """What bounds a pool."""

    processes: int
    tasks_per_child: int | None = None
    grace: int = 500_000_000  # between SIGTERM and SIGKILL
