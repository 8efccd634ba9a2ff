"""What a starting worker is sent along: the initializer with its arguments, and the descriptors they need."""

from __future__ import annotations

import io
import sys
import threading
from multiprocessing import context, process, reduction
from typing import Any

from . import codec
from .bootstrap import InheritedFd, importing_main

_IMPORT_S = 10.0  # that the import of a script by another thread is waited for


class _FdCollector:
    """Stands in for ``multiprocessing``'s ``Popen`` while initargs are pickled, and notes the descriptors they need."""

    DupFd = InheritedFd

    def __init__(self) -> None:
        self.fds: list[int] = []

    def duplicate_for_child(self, fd: int) -> int:
        """Note *fd*; what is returned goes to ``DupFd``."""
        self.fds.append(fd)
        return len(self.fds) - 1


def pack_inheritance(value: Any) -> tuple[bytes, list[int]]:
    """Pickle *value* as for a starting child: its bytes, and the descriptors to pass with them.

    Raises:
        whatever pickling raises; ``RuntimeError`` for a lock of another start method.
    """
    collector = _FdCollector()
    before = context.get_spawning_popen()
    context.set_spawning_popen(collector)  # type: ignore[arg-type]  # it has what pickling asks of a Popen
    try:
        blob = _dump(value, collector)
    finally:
        context.set_spawning_popen(before)
    return blob, collector.fds


def _dump(value: Any, collector: _FdCollector) -> bytes:
    buffer = io.BytesIO()
    try:
        reduction.ForkingPickler(buffer, 5).dump(value)
    except Exception:  # a pickler may raise anything
        if codec.main_reference():
            raise
    else:
        blob = buffer.getvalue()
        if not codec.mentions_main(blob) or codec.main_reference():
            return blob
    from . import prompt  # costs 10 ms; most programs never need it

    collector.fds.clear()  # of the first try
    return prompt.dumps(value)


def tracker_fd() -> int | None:
    """The resource tracker's descriptor, started if this program uses what it tracks and has not started it."""
    if "multiprocessing.resource_tracker" not in sys.modules:
        return None
    from multiprocessing import resource_tracker  # for programs that have it already

    fd = getattr(resource_tracker._resource_tracker, "_fd", None)
    if fd is None and "multiprocessing.shared_memory" in sys.modules:
        fd = resource_tracker.getfd()
    return fd


def check_not_importing_main() -> None:
    """Refuse to start workers while a worker imports this program's ``__main__``; wait where another thread does that.

    A task in that other thread needs the script, and this one knows nothing of it.  But the script may itself have
    started this thread, and wait for it: so not for ever.

    Raises:
        RuntimeError: saying how to guard the script.
    """
    if getattr(process.current_process(), "_inheriting", False):
        for thread, ended in list(importing_main):
            if thread != threading.get_ident() and ended.wait(_IMPORT_S):
                return
        raise RuntimeError(
            "a worker imports this script to find a function in it, and the script starts a pool as it is imported; "
            'put what starts the pool under `if __name__ == "__main__":`, or use start_method="fork", which imports nothing'
        )
