"""Standard error and standard output when they may be full, closed, or read by nobody."""

from __future__ import annotations

import os
import sys

__all__ = ["say", "silence"]


def say(text: str) -> None:
    """Print *text* on standard error, or drop it: a word that cannot be said changes nothing of what was done."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):  # a full disk, a reader that went away; closed
        silence(2)


def silence(fd: int) -> None:
    """Have what is written to *fd* go nowhere: else the interpreter's own last flush fails, and is the exit code."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, fd)
    os.close(nowhere)
