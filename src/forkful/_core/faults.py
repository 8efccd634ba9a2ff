"""A worker that crashes, or is ended for a time-out, leaves word of where it was.  Runs in the worker.

``faulthandler`` writes every thread's stack, from inside the signal, to a descriptor: here that of the journal's memory,
at the place for it behind the records.  Nobody has to be there to read it: the master does when the worker is dead.
"""

from __future__ import annotations

import faulthandler
import os

from .journal import find_dump
from .signals import TRACE_SIGNAL


def watch(memory: int) -> None:
    """Have a crash of this process described in the journal behind *memory*, which must stay open from now on.

    An initializer that enables ``faulthandler`` for a file of its own takes that over.
    """
    os.lseek(memory, find_dump(memory), os.SEEK_SET)  # nothing else reads or writes there by position
    asked = faulthandler.is_enabled()  # python -X faulthandler
    faulthandler.enable(memory)
    if TRACE_SIGNAL is not None:
        faulthandler.register(TRACE_SIGNAL, memory, chain=True)  # on to what it does by itself: end the process
    os.register_at_fork(after_in_child=lambda: _forget(memory, asked))


def _forget(memory: int, asked: bool) -> None:
    """In a copy of the worker that a task has forked: its crash is not the worker's.

    The descriptor is kept, on another file: ``faulthandler`` may still write to it, and a number that is free would soon
    be one of the user's files.
    """
    other = 2
    try:
        if not asked:
            other = os.open(os.devnull, os.O_WRONLY)
        os.dup2(other, memory, inheritable=False)
        if not asked:
            os.close(other)
    except OSError:  # it has closed all it could find
        pass
