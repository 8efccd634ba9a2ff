"""What the locks on servers have in common: what a `RemoteDoor` asks them for, and how to wait for a server and for more."""

from __future__ import annotations

import contextlib
import os
import select

from ..errors import LockLost
from . import _who
from ._place import Place

ANSWER_S = 5.0  # a server that takes longer does not answer


class Wake:
    """A word to the thread that waits for a server: there is something else to do.  Given and cleared under the door's mutex."""

    def __init__(self) -> None:
        self.is_given = False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def fileno(self) -> int:
        """Readable while the word is given."""
        return self._reader

    def give(self) -> None:
        """Say it; again, where Ctrl-C may have come in between."""
        self.is_given = True  # before whoever waits looks at it
        with contextlib.suppress(BlockingIOError):  # said often enough
            os.write(self._writer, b"x")

    def clear(self) -> None:
        """It was heard."""
        self.is_given = False
        with contextlib.suppress(BlockingIOError):  # nothing was said
            os.read(self._reader, 1 << 16)

    def close(self) -> None:
        """Nobody waits any more."""
        os.close(self._reader)
        os.close(self._writer)


def hear(server: int | None, wake: Wake | None, seconds: float | None) -> bool:
    """Wait until the *server*'s socket has something to read, or the word is given, or time is up; whether it was the first."""
    poll = select.poll()
    for fd in (server, None if wake is None else wake.fileno()):
        if fd is not None:
            poll.register(fd, select.POLLIN)
    ready = poll.poll(None if seconds is None else max(0.0, seconds) * 1000)
    return any(fd == server for fd, _ in ready)


class ServerLock:
    """One lock on a server, as one process has it.

    All that speaks to the server is called by one thread, the porter of its `RemoteDoor`; `check` and `holder` by any.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.fence: int | None = None
        self.recovered: bool | None = False

    # By the porter.

    def ask(self, owner: int, *, shared: bool, wait: bool, wake: Wake) -> bool:
        """Take it for *owner* if it is free, or *wait* until it is or *wake* is given; whether it was had.

        Raises:
            LockError: the server does not answer, or refuses.
        """
        raise NotImplementedError

    def keep(self, wake: Wake) -> None:
        """See to it that it stays ours, and notice if it does not, until *wake* is given."""
        raise NotImplementedError

    def give_back(self) -> None:
        """Let others have it.

        Raises:
            LockLost: it was not ours any more, or the server does not answer.
        """
        raise NotImplementedError

    def owes(self) -> bool:
        """Whether the server may have this for ours, though nobody here has it."""
        return False

    def settle(self, wake: Wake) -> None:
        """Try once more to give back what is owed, after a pause that *wake* ends."""

    # By anybody.

    def check(self) -> None:
        """Raise if it was held, and is known to be lost.  Asks nobody.

        Raises:
            LockLost: others may have it.
        """
        raise NotImplementedError

    def holder(self) -> _who.Holder | None:
        """Who has it, by the server's account.

        Raises:
            LockError: the server does not answer, or refuses.
        """
        raise NotImplementedError

    def disown(self) -> None:
        """In a forked child: all of this is the parent's."""
        raise NotImplementedError

    def enlist(self, owner: int) -> None:
        """Who waits is not noted here: a circle of waiters is not seen."""

    def delist(self, listed: None) -> None:
        """As `enlist`."""

    def check_deadlock(self, owner: int, *, blocks: bool) -> None:
        """As `enlist`."""

    def _lost(self, why: str) -> LockLost:
        return LockLost(
            f"{self.place.describe()} was lost: {why}; others may have held it since, fence numbers tell who came later",
            lock=self.place.shown,
            fence=self.fence,
        )
