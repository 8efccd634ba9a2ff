"""Who waits at a door."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable

from . import _who
from ._deadlock import LOOK_S


class Ticket:
    """A thread or task that waits at a door."""

    __slots__ = (
        "_notify",
        "_sleeping",
        "began",
        "direct",
        "error",
        "granted",
        "look",
        "noted",
        "owner",
        "refused",
        "shared",
        "turn",
    )

    once = False  # whether it leaves if the lock is not free: see `_remote_door`

    def __init__(
        self,
        owner: int,
        *,
        shared: bool,
        direct: bool,
        limited: bool = False,
        notify: Callable[[], object] | None = None,
    ) -> None:
        self.owner = owner
        self.noted = owner | _who.LIMITED if limited else owner  # for those who look for circles
        self.began = time.monotonic()
        self.look = math.inf if limited else self.began + LOOK_S  # when to look whether it could wait for ever
        self.shared = shared
        self.direct = direct  # it will wait at the mechanism in its own thread
        self.turn = False  # it is to do so now
        self.granted = False
        self.refused = False  # it asked once, and the lock was not free
        self.error: BaseException | None = None
        self._notify = notify
        self._sleeping = threading.Lock()
        self._sleeping.acquire()

    def wake(self) -> None:
        """Something has changed for it."""
        if self._notify is not None:
            with contextlib.suppress(RuntimeError):  # its event loop was closed: it waits no more
                self._notify()
        elif self._sleeping.locked():
            self._sleeping.release()

    def sleep(self, seconds: float) -> None:
        """Until `wake`, at most so long."""
        self._sleeping.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))
