"""Threads that get no signals: those are for the threads of the program, which may wait for them in its own way."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

# All but what a thread does to itself: that must reach `faulthandler`.
_SIGNALS = signal.valid_signals() - {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}


@contextlib.contextmanager
def deaf_threads() -> Iterator[None]:
    """A thread that is started inside is deaf to signals, and so is what it starts.  This one hears them at the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
