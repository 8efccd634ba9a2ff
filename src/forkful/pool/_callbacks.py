"""Callbacks run in a thread of their own: they may be slow, may raise, may call any method of the pool."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._results import AsyncResult, Callback


class Callbacks:
    """One pool's callback thread, started with its first callback."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Callback, AsyncResult[Any]] | None] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def call(self, callback: Callback, result: AsyncResult[Any]) -> None:
        """Call *callback* with the value of *result*, then make *result* ready."""
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="forkful-callbacks", daemon=True)
                self._thread.start()
        self._queue.put((callback, result))

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
                thread.join(patience)
