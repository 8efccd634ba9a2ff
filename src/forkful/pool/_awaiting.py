"""Results, iterators and pools in an event loop.

The loop's thread never waits for the pool.  The pool's background thread runs the pool's loop meanwhile, and whichever
thread delivers rings a bell that the event loop hears.  Imported by what runs in a coroutine only: asyncio is dear.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .._core.master import FOREIGN
from .._core.wheel import Slot
from ..errors import PoolClosed

if TYPE_CHECKING:
    from .._core.master import Master
    from .._core.wheel import Wheel
    from ._bars import Watch


class Watched(Protocol):
    """Something that a reader waits at until there is more to read."""

    def watch(self, wake: Callable[[], object]) -> bool:
        """Have *wake* called at the next change; False when there is something to see now."""

    def unwatch(self, wake: Callable[[], object]) -> None:
        """Do not call *wake*."""


class Awaited(Protocol):
    """A result, as far as it is awaited here."""

    _pool: Any  # a `_results.Home`; None once it is settled

    def cancel(self, *, kill: bool = False) -> bool:
        """Take the call back."""

    def _when_had(self, watcher: Callable[[Any], object]) -> None:
        """Have *watcher* called when it can be had."""

    def _forget(self, watcher: Callable[[Any], object]) -> None:
        """Do not call *watcher*."""


class Bell:
    """Wakes the task that awaits it, once, from any thread."""

    __slots__ = ("_future", "_loop", "_slot", "_wheel")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()
        self._slot = Slot()
        self._wheel: Wheel | None = None  # of the pool whose loop is run here

    def ring(self, _: object = None) -> None:
        """Wake it.  Nothing happens when it was woken, was cancelled, or its loop has been closed."""
        self._slot.settled = True
        if self._wheel is not None:
            self._wheel.settle(self._slot)
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # the loop is closed: nobody waits there any more
            pass

    def _wake(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def has_rung(self) -> bool:
        """Whether the task has been woken."""
        return self._future.done()

    def have_driven(self, masters: Iterable[Master]) -> None:
        """See to it that somebody runs the loops of *masters* until this rings.

        Where no thread is to be had for one of them, that is us, and the event loop stands still: better than for ever.
        """
        for master in masters:
            if not master.wheel.hand_over():
                self._wheel = master.wheel
                master.wait(self._slot)

    def __await__(self) -> Generator[Any, None, None]:
        return self._future.__await__()


def await_result(result: Awaited) -> Generator[Any, None, None]:
    """Until *result* can be had.  To cancel the task that is here is to cancel the work.

    Raises:
        PoolClosed: in a forked child, where it never could.
    """
    pool = result._pool
    if pool is None:
        return  # it is just being settled
    master = pool._master
    if master.foreign:
        raise PoolClosed(FOREIGN)
    bell = Bell()
    result._when_had(bell.ring)
    try:
        bell.have_driven([master])
        yield from bell.__await__()
    except asyncio.CancelledError:
        result.cancel(kill=True)
        raise
    finally:
        result._forget(bell.ring)


async def await_change(watched: Watched, masters: Sequence[Master], seconds: float | None = None) -> None:
    """Until there is something to see at *watched*, at most so many *seconds*, while *masters* bring it about.

    Raises:
        PoolClosed: in a forked child, where it never will be.
    """
    if any(master.foreign for master in masters):
        raise PoolClosed(FOREIGN)
    bell = Bell()
    if not watched.watch(bell.ring):
        return
    alarm = None if seconds is None else asyncio.get_running_loop().call_later(seconds, bell.ring)
    try:
        bell.have_driven(masters)
        await bell
    finally:
        watched.unwatch(bell.ring)
        if alarm is not None:
            alarm.cancel()


async def await_shown(progress: Watch) -> None:
    """Until the bar of a map that is over has said its last word."""
    bell = Bell()
    progress.finish(bell.ring)
    await bell


async def give_way() -> None:
    """Let the other tasks of the loop have their turn."""
    await asyncio.sleep(0)


async def run_in_thread(function: Callable[[], object]) -> None:
    """Call *function*, which may block, in a thread of its own, and wait for its end, also when cancelled meanwhile.

    Not in the event loop's own threads: all of those may be waiting for what *function* is to end.
    """
    bell = Bell()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)
        bell.ring()

    try:
        threading.Thread(target=run, name="forkful-end", daemon=True).start()
    except RuntimeError:  # no thread to be had
        function()
        return
    cancelled: asyncio.CancelledError | None = None
    while not bell.has_rung():
        try:
            await asyncio.shield(bell._future)
        except asyncio.CancelledError as error:
            cancelled = error
    if raised:
        raise raised[0]
    if cancelled is not None:
        raise cancelled
