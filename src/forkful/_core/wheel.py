"""The wheel: which thread runs the loop.

One thread at a time waits for all workers: it has *the wheel*.  A caller in ``get()`` takes it if it is free, else
sleeps until its own slot is settled or the wheel is handed to it.  A thread that leaves hands the wheel to a sleeper.
Where there is none and work is under way, it leaves the background thread *on watch*: that takes the wheel when nobody
else has for `_WATCH_NS` (at once, if it is told to hurry, because nobody will wait here), and gives it up as soon as a
caller wants it.  So a program that waits, or submits in a burst, runs the loop in its own thread, with no thread switch
between a result and its reader.

Rules, all under ``_gate`` unless said otherwise:

- ``_driver`` is the waiter that has the wheel; exactly that one has ``driving`` set.
- A thread has one `Waiter`, however deep it waits: user code may run inside a turn (a signal handler, a class that
  calls the pool while it is unpickled) and wait in its turn.  The inner wait drives if the outer did; the wheel is
  given up by the outermost only.
- A waiter asks for the wheel before each sleep.  If it is not free the waiter is among ``_sleepers`` first, so that
  whoever gives the wheel up finds it.
- A slot's waiters are registered before it is looked at, and it is settled before they are looked at (the latter
  without the gate): one of the two sees the other, so nobody sleeps on a settled slot.
- Whoever has the wheel looks at what could end its wait *after* announcing that it is about to wait; see
  ``Master._wait_for_descriptors``.
- Once ``over`` is settled nobody drives any more: what is still waited for (a callback that runs) is settled without.
- Ctrl-C may raise at any call.  `_leave` and `_pass_on` can be interrupted anywhere and called again, and are.

``_gate`` is re-entrant for the sake of signal handlers and of the garbage collector; it is never held in a sleep.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

_clock = time.monotonic_ns
_WATCH_NS = 2_000_000


def log_exception(message: str, *args: object) -> None:
    """Log the exception being handled, to the logger ``forkful``."""
    import logging  # costs 8 ms, and is needed only when something has gone wrong

    logging.getLogger("forkful").error(message, *args, exc_info=True)  # noqa: LOG014  # callers are handlers


def run_quietly(what: str, function: Callable[..., object], *args: object) -> None:
    """Call user code that must not hurt the pool; an exception is logged."""
    try:
        function(*args)
    except BaseException:  # SystemExit in a callback must not end the thread that others wait for
        log_exception("%s raised; the pool goes on", what)


class Slot:
    """Something a thread can wait for: ``settled`` becomes true once and stays so."""

    __slots__ = ("settled", "waiters")

    def __init__(self) -> None:
        self.settled = False
        self.waiters: list[Waiter] | None = None


class Waiter:
    """One thread that waits: asleep on ``lock``, or at the wheel."""

    __slots__ = ("driving", "lock", "waiting")

    def __init__(self) -> None:
        self.driving = False
        self.waiting = False  # a wait of this thread is under way: any other one is inside it
        self.lock = threading.Lock()
        self.lock.acquire()

    def await_release(self, left: int | None) -> None:
        """Until `release`, at most *left* nanoseconds; or at once, if it was released since the last time."""
        if left is None:
            self.lock.acquire()
        else:
            self.lock.acquire(timeout=min(left / 1e9, threading.TIMEOUT_MAX))

    def release(self) -> None:
        """Wake it, now or when it next sleeps."""
        try:
            self.lock.release()
        except RuntimeError:  # it was released already
            pass


_NEVER = Slot()
_NOBODY = Waiter()  # has the wheel of a pool that has ended


class Wheel:
    """Gives one thread at a time the right to call *turn*.

    Args:
        turn: runs the loop once: ``turn(nanoseconds or None, slot)`` waits at most so long, or until *slot* is settled.
        needed: whether work is under way that needs somebody at the wheel.
        wake: brings the thread that waits inside *turn* out of it.
        over: settled when there will never be work again; the background thread then ends.
    """

    def __init__(
        self,
        turn: Callable[[int | None, Slot], None],
        needed: Callable[[], bool],
        wake: Callable[[], None],
        over: Slot,
    ) -> None:
        self._turn = turn
        self._needed = needed
        self._wake = wake
        self._over = over
        self._gate: Any = threading.RLock()
        self._own = threading.local()  # .waiter
        self._driver: Waiter | None = None
        self._sleepers: deque[Waiter] = deque()
        self._thread: threading.Thread | None = None  # the background thread, started when first needed
        self._background: Waiter | None = None
        self._background_busy = False  # it is in a turn: whoever wants the wheel waits for the end of it
        self._watching = False  # it will look in `_WATCH_NS` after `_left_at`
        self._left_at = 0
        self.on_exit: Callable[[], None] | None = None  # called by the background thread as its last act

    # Waiting.

    def wait(self, slot: Slot, timeout: float | None = None) -> bool:
        """Wait until *slot* is settled, taking the wheel if it is free; whether it is settled.

        Args:
            timeout: seconds; None waits for ever.
        """
        if slot.settled:
            return True
        deadline = None if timeout is None else _clock() + max(0, int(timeout * 1e9))
        waiter = self._waiter()
        inner = waiter.waiting
        waiter.waiting = True  # nothing can raise between these two lines and the next
        try:
            with self._gate:
                if slot.waiters is None:
                    slot.waiters = [waiter]
                else:
                    slot.waiters.append(waiter)
                if self._driver is None and not self._over.settled:  # the usual case, spared a second turn at the gate
                    self._driver = waiter
                    waiter.driving = True
            while not slot.settled:
                left = None if deadline is None else deadline - _clock()
                if left is not None and left <= 0:
                    break
                if self._take(waiter):
                    self._turn(left, slot)
                elif not slot.settled:  # looked at again: whoever settles it may have seen this thread still driving
                    waiter.await_release(left)
        finally:
            try:
                self._leave(waiter, slot, inner=inner)
            except BaseException:  # Ctrl-C at this very moment; the wheel must be given up all the same
                self._leave(waiter, slot, inner=inner)
                raise
        return slot.settled

    def settle(self, slot: Slot) -> None:
        """Settle *slot* and wake whoever waits for it.  Called by whichever thread made it so."""
        slot.settled = True
        if slot.waiters is None:
            return
        with self._gate:
            waiters, slot.waiters = slot.waiters, None
        for waiter in waiters or ():
            if waiter.driving:
                self._wake()
            else:
                waiter.release()

    def turn_once(self) -> bool:
        """Run one turn without waiting, if the wheel is free; whether it was."""
        if self._driver is not None or self._over.settled:
            return False
        waiter = self._waiter()
        if waiter.waiting:
            return False
        waiter.waiting = True
        try:
            with self._gate:
                if self._driver is not None:
                    return False
                self._driver = waiter
                waiter.driving = True
            self._turn(0, _NEVER)
        finally:
            try:
                self._leave(waiter, _NEVER, inner=False)
            except BaseException:  # Ctrl-C at this very moment; the wheel must be given up all the same
                self._leave(waiter, _NEVER, inner=False)
                raise
        return True

    def ensure(self) -> None:
        """See to it that work under way has somebody at the wheel, or on watch."""
        if self._driver is None and not self._watching:
            with self._gate:
                if self._driver is None and self._needed():
                    self._set_watch()

    def hand_over(self) -> bool:
        """Somebody waits who cannot drive, such as an event loop: the background thread is to take the wheel now.

        Returns:
            Whether somebody drives, or will; else there is no thread to be had.
        """
        if self._driver is None:
            with self._gate:
                if self._driver is None and self._needed():
                    self._set_watch()
                    self._left_at -= _WATCH_NS
                    if self._background is None:
                        return False
                    self._background.release()
        return True

    def is_background(self) -> bool:
        """Whether the caller is the background thread."""
        return threading.current_thread() is self._thread

    def is_inside(self) -> bool:
        """Whether the caller has interrupted its own thread at the gate, and so must not sleep."""
        inside: bool = self._gate._is_owned()
        return inside

    def join(self) -> None:
        """After ``over`` is settled: take the wheel for good, and wait for the background thread, unless that is us."""
        waiter = self._waiter()
        inner = waiter.waiting
        waiter.waiting = True  # a signal handler that waits here is inside this wait
        try:
            while not self._retire(waiter):
                waiter.await_release(None)
        finally:
            waiter.waiting = inner
        if self._thread is not None and not self.is_background():
            if self._background is not None:
                self._background.release()
            try:
                self._thread.join()
            except (
                RuntimeError
            ):  # Ctrl-C came as it was started: it may never know that it was, but finds `over` settled
                pass

    def disown(self) -> None:
        """In a forked child: nobody is at the wheel, and nobody will be."""
        self._gate = threading.RLock()
        self._own = threading.local()
        self._driver = self._thread = self._background = None
        self._sleepers.clear()

    def _waiter(self) -> Waiter:
        try:
            waiter: Waiter = self._own.waiter
        except AttributeError:
            waiter = self._own.waiter = Waiter()
        return waiter

    def _take(self, waiter: Waiter) -> bool:
        """Whether *waiter* has the wheel, which it gets if it can be had; else it may sleep."""
        if waiter.driving and not self._over.settled:
            return True
        with self._gate:
            if self._over.settled:
                if waiter.driving:
                    self._pass_on(waiter)
                return False
            if waiter.driving:
                return True
            driver = self._driver
            if driver is None or (driver is self._background and not self._background_busy):
                if driver is not None:
                    driver.driving = False
                if waiter in self._sleepers:
                    self._sleepers.remove(waiter)
                self._driver = waiter
                waiter.driving = True
                return True
            if waiter not in self._sleepers:
                self._sleepers.append(waiter)
        if driver is self._background:
            self._wake()
        return False

    def _retire(self, waiter: Waiter) -> bool:
        """Keep the wheel for ever, once it is free; whether it was."""
        with self._gate:
            if self._driver in {None, waiter, _NOBODY}:
                self._driver = _NOBODY
                waiter.driving = False
                for sleeper in self._sleepers:  # another thread may be here for the same
                    sleeper.release()
                return True
            if waiter not in self._sleepers:
                self._sleepers.append(waiter)
        self._wake()
        return False

    def _leave(self, waiter: Waiter, slot: Slot, *, inner: bool) -> None:
        """The end of a wait.  May be interrupted and called again."""
        with self._gate:
            if slot.waiters is not None and waiter in slot.waiters:
                slot.waiters.remove(waiter)
            if inner:  # the outer wait may have missed what this one has seen
                waiter.release()
                if waiter.driving:
                    self._wake()
                return
            if waiter in self._sleepers:
                self._sleepers.remove(waiter)
            if waiter.driving:
                self._pass_on(waiter)
            waiter.waiting = False

    def _pass_on(self, waiter: Waiter) -> None:
        """The thread of *waiter* gives up the wheel.  Under ``_gate``; may be interrupted and called again."""
        if self._driver is waiter:
            if self._sleepers:
                heir = self._sleepers[0]
                heir.driving = True
                self._driver = heir
            else:
                self._driver = None
                if self._needed():
                    self._set_watch()
        if self._driver is not None:
            self._driver.release()
            if self._driver in self._sleepers:
                self._sleepers.remove(self._driver)
        waiter.driving = False

    # The background thread.

    def _set_watch(self) -> None:
        """The background thread is to take the wheel if nobody does.  Under ``_gate``."""
        self._left_at = _clock()
        if self._watching:
            return
        self._watching = True
        if self._background is not None:
            self._background.release()
            return
        waiter = Waiter()
        thread = threading.Thread(target=self._run, args=(waiter,), name="forkful-pool", daemon=True)
        self._background, self._thread = waiter, thread
        try:
            thread.start()
        except RuntimeError:  # no thread to be had: the loop runs whenever somebody waits, and this is tried again
            self._background = self._thread = None
            self._watching = False

    def _run(self, waiter: Waiter) -> None:
        self._own.waiter = waiter
        while not self._over.settled:
            if waiter.driving:
                self._drive(waiter)
            elif self._watching:
                left = self._left_at + _WATCH_NS - _clock()
                if left > 0:
                    waiter.await_release(left)
                    continue
                with self._gate:
                    self._watching = False
                    if self._driver is None and self._needed():
                        self._driver = waiter
                        waiter.driving = True
            else:
                waiter.await_release(None)
        with self._gate:
            if waiter.driving:
                self._pass_on(waiter)
        if self.on_exit is not None:
            self.on_exit()

    def _drive(self, waiter: Waiter) -> None:
        """One turn of the background thread."""
        with self._gate:
            if not waiter.driving:  # a caller took the wheel before this turn began
                return
            self._background_busy = waiter.waiting = True
        try:
            self._turn(None, self._over)
        except BaseException:  # a finalizer of the user's may raise anything: others count on this thread
            log_exception("an error in the background thread; the pool has given up its work")
        with self._gate:
            self._background_busy = waiter.waiting = False
            if self._sleepers or not self._needed():
                self._pass_on(waiter)
