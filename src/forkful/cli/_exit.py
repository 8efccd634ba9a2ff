"""What the exit codes of every command mean."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Exit"]


class Exit(IntEnum):
    """An exit code."""

    OK = 0  # all that was asked for is done
    FAILED = 1  # some inputs failed, or the job could not go on (disk full, nobody reads the output)
    USAGE = 2  # what was asked for cannot be done; nothing was started or written
    HALTED = 3  # stopped early because too many inputs failed, as asked
    INTERRUPTED = 130  # Ctrl-C: 128 + SIGINT, as shells have it
