"""Back-pressure: at most ``max_pending`` calls of a pool that have not ended; a further one waits for its turn, or fails.

A call is *open* from its admission until its outcome is known, callback or not.  Who waits drives the pool's loop
meanwhile, and is admitted by whoever ends a call, first come, first served.

Not held back is a call that is made where waiting could be for ever: by a thread that has a result in hand (user code
that runs as it is unpickled), for that result may be the one to wait for; and inside a submission of the same thread (a
signal handler, a finalizer), for that one may have been admitted already, and cannot go on meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._core.wheel import Slot
from ..errors import PoolFull

if TYPE_CHECKING:
    from .._core.books import Task
    from .._core.master import Master
    from ._results import AsyncResult


class Admission:
    """Submits the calls of one pool, at most *most* at a time.

    Args:
        block: whether calls wait that do not say so themselves.
    """

    def __init__(self, master: Master, most: int, *, block: bool) -> None:
        self._master = master
        self._most = most
        self._block = block
        self._lock = threading.RLock()
        self._open: set[AsyncResult[Any]] = set()
        self._waiting: deque[tuple[Slot, AsyncResult[Any]]] = deque()
        self._submitting: list[int] = []  # threads that are in `submit`

    def submit(
        self, task: Task, result: AsyncResult[Any], check: Callable[[], object], *, block: bool | None = None
    ) -> None:
        """Have *task* run, whose result goes to *result*, once there is room.

        Args:
            check: raises if the pool takes no more work; asked after a wait.

        Raises:
            PoolFull: there is none, and *block* (or the pool's default) says not to wait.
            BaseException: what *check* raises; or Ctrl-C.  Then *result* has ended, and the task with it.
        """
        result._when_known(self._leave)
        us = threading.get_ident()
        outermost = us not in self._submitting
        given = False
        try:
            if outermost:
                self._submitting.append(us)
            if outermost and not self._master.is_delivering():
                self._enter(result, check, block=self._block if block is None else block)
            else:
                self._open.add(result)
            given = True
            self._master.submit(task)
        except BaseException as error:
            if given:  # or not quite: it is found where it is, or skipped where it comes
                result.cancel()
            self._withdraw(result)
            result.abort(error)
            raise
        finally:
            if outermost and us in self._submitting:
                self._submitting.remove(us)

    def _enter(self, result: AsyncResult[Any], check: Callable[[], object], *, block: bool) -> None:
        slot = Slot()
        with self._lock:
            # Added before it is counted: a signal handler may submit between the two.
            self._open.add(result)
            if len(self._open) <= self._most and not self._waiting:
                return
            self._open.discard(result)
            if not block:
                raise PoolFull(
                    f"the pool has {len(self._open)} calls that have not ended, and max_pending={self._most}: wait for "
                    f"one of them, or let apply_async wait (block=True), or raise max_pending",
                    max_pending=self._most,
                )
            self._waiting.append((slot, result))
        self._master.wait(slot)
        check()

    def _withdraw(self, result: AsyncResult[Any]) -> None:
        """It is not to be submitted, or nobody is to wait for it."""
        with self._lock:
            for entry in self._waiting:
                if entry[1] is result:
                    self._waiting.remove(entry)
                    break
        self._leave(result)

    def _leave(self, result: AsyncResult[Any]) -> None:
        """It has ended: admit whoever is next."""
        admitted = []
        with self._lock:
            self._open.discard(result)
            while self._waiting and len(self._open) < self._most:
                slot, heir = self._waiting.popleft()
                self._open.add(heir)
                admitted.append(slot)
        for slot in admitted:
            self._master.wheel.settle(slot)

    def wake(self) -> None:
        """The pool takes no more work: whoever waits is to find out."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
        for slot, _ in waiting:
            self._master.wheel.settle(slot)
