"""A worker process as the master sees it, with the master's ends of what they share."""

from __future__ import annotations

import os
import signal
from functools import partial

from forkful._core import forks
from forkful._core.children import ForkedChild

from ._wire import Message, open_wire
from ._worker import Job, work

__all__ = ["Worker", "describe_end"]


class Worker:
    """A worker that has not been started yet."""

    def __init__(self, number: int, row: int) -> None:
        self.number = number
        self.row = row
        self.child = ForkedChild()
        self.wire, self.theirs = open_wire()
        try:
            self.lifeline, self._hold = os.pipe()
        except OSError:
            self.wire.close()
            self.theirs.close()
            raise
        forks.hold(self)

    def start(self, job: Job) -> None:
        """Fork, and have it do *job*, which was made with `theirs` and `lifeline`.

        Raises:
            OSError: the system gives no process; nothing is left of the worker.
        """
        forks.flush_standard_streams()
        try:
            self.child.fork(partial(work, job))
        except OSError:
            self._settle()
            self.close()
            raise
        self._settle()

    def last_words(self) -> list[Message]:
        """What it has said before it ended."""
        try:
            return self.wire.receive()
        except EOFError:
            return []

    def _settle(self) -> None:
        """After the fork, in the master: close what is the worker's."""
        self.theirs.close()
        os.close(self.lifeline)
        self.lifeline = -1

    def disown(self) -> None:
        """In a process that is forked: our ends are not its own.  Those of the worker itself it keeps."""
        self.wire.close()
        os.close(self._hold)

    def close(self) -> None:
        """It has ended."""
        self.wire.close()
        os.close(self._hold)
        self._hold = -1  # the number may be another's by the next fork, which has us disown it
        self.child.close()


def describe_end(exitcode: int | None) -> str | None:
    """How a worker has ended, if that was not its own doing."""
    if exitcode == 0:
        return None
    if exitcode is None:
        return "has ended, and somebody else in this program has been told how"
    if exitcode < 0:
        return f"was killed by {signal.Signals(-exitcode).name}"
    return f"has ended with exit code {exitcode}"
