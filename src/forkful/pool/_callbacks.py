"""Callbacks run in a thread of their own: they may be slow, may raise, may call any method of the pool."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol

Callback = Callable[[Any], object]


def check_callbacks(*callbacks: Any) -> None:
    """Raises ``TypeError`` for what cannot be called: at the call that names it, not when its value is there."""
    for callback in callbacks:
        if callback is not None and not callable(callback):
            raise TypeError(f"a callback must be a callable, not {callback!r}")


class CalledBack(Protocol):
    """A result whose value is known, and which is ready once its callback has run."""

    def run_callback(self, callback: Callback) -> None:
        """Call *callback*, then become ready."""


class Callbacks:
    """One pool's callback thread, started with its first callback."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Callback, CalledBack] | None] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def call(self, callback: Callback, result: CalledBack) -> None:
        """Call *callback* with the value of *result*, then make *result* ready."""
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="forkful-callbacks", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # no thread to be had: better here than never
                    self._thread = None
            if self._thread is not None and not self._closed:
                self._queue.put((callback, result))
                return
        result.run_callback(callback)

    def is_current(self) -> bool:
        """Whether the caller is the callback thread."""
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                return
            callback, result = item
            del item
            result.run_callback(callback)
            del callback, result  # the thread keeps nothing alive while it waits

    def close(self, patience: float | None = None) -> None:
        """Run what is queued, then end the thread; wait for that at most *patience* seconds, unless we are in it.

        A callback that takes longer goes on by itself; it cannot keep the program from ending.
        """
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._queue.put(None)
            if not self.is_current():
                try:
                    thread.join(patience)
                except RuntimeError:  # Ctrl-C came as it was started: it may never know that it was, but finds the end
                    pass
