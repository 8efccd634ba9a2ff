"""What signals ask of a map: an end, or another number of processes."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType, TracebackType
from typing import Any, Self

from forkful.apps.mapping import Control

__all__ = ["Steering"]

_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
_STEPS = {"SIGUSR1": 1, "SIGUSR2": -1}  # worker processes


class Steering:
    """For a ``with`` block around a map.

    The first of SIGINT (Ctrl-C), SIGTERM and SIGHUP has what runs end, and nothing more started; the second raises
    KeyboardInterrupt, which ends what runs.  SIGUSR1 and SIGUSR2 add and take away a worker process.  What the program
    was told to ignore, as by ``nohup``, it goes on ignoring.

    Attributes:
        signal: the first that asked for an end; None if none did.
    """

    def __init__(self, control: Control) -> None:
        self.signal: int | None = None
        self._control = control
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for name in _ENDING:
            self._handle(name, self._end)
        for name in _STEPS:
            self._handle(name, self._resize)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, name: str, handler: Any) -> None:
        number = getattr(signal, name)
        if signal.getsignal(number) is not signal.SIG_IGN:
            with contextlib.suppress(ValueError):  # not in the main thread, where Python has no signals
                self._before[number] = signal.signal(number, handler)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        _say("forkful: finishing what runs, and starting nothing more; once more ends it at once")
        self._control.stop()

    def _resize(self, number: int, _frame: FrameType | None) -> None:
        before = self._control.processes
        self._control.resize(_STEPS[signal.Signals(number).name])
        count = self._control.processes
        if count is None:
            _say("forkful: noted")
        else:
            processes = "1 worker process" if count == 1 else f"{count} worker processes"
            _say(f"forkful: {processes}{', as before' if count == before else ' from now on'}")


def _say(text: str) -> None:
    """Without `sys.stderr`, which may be in the middle of something else; after a bar, on a line of its own."""
    with contextlib.suppress(OSError):
        os.write(2, f"{chr(10) if os.isatty(2) else ''}{text}\n".encode())
