"""Futures of the standard library over results of a pool, and what an executor knows of those that are not done."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from concurrent.futures import Future, InvalidStateError
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, LOGGER, PENDING
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from .._core.wheel import Slot
from ..errors import InitializerError, PoolClosed, TaskCancelled
from ._broken import as_both

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.master import Master
    from ._callbacks import Callbacks
    from ._results import AsyncResult

T = TypeVar("T")

_DONE = {CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED}


class Work(Protocol):
    """Something given to an executor that is not done."""

    def close(self, reason: str) -> None:
        """The executor takes no more."""

    def kill(self) -> None:
        """End it where it runs."""

    def cancel(self) -> bool:
        """Take back what has not started."""


class Ledger:
    """What an executor has been given and is not done; outlives the executor as long as there is any.

    It does not hold the pool: results that are to come do, and nothing else has to.
    """

    def __init__(self, master: Master, callbacks: Callbacks, *, initialized: bool) -> None:
        self.master = master
        self.callbacks = callbacks
        self.closed = ""  # why nothing more is taken, or nothing
        self.broken: str | bool = False  # as with the standard library: what broke it, or False
        self._initialized = initialized  # workers run an initializer of the user's
        self._open: set[Work] = set()
        self._lock = threading.RLock()
        self._idle: Slot | None = None  # settled when nothing is left: somebody waits for that
        _ledgers.add(self)

    def add(self, work: Work) -> None:
        """*work* has been given."""
        self._open.add(work)

    def forget(self, work: Work) -> None:
        """*work* is done, and who asked to be told of it has been."""
        self._open.discard(work)
        if self._idle is None or self._open:
            return
        with self._lock:
            slot, self._idle = self._idle, None
        if slot is not None:
            self.master.wheel.settle(slot)

    def close(self, reason: str) -> None:
        """Take no more, because of *reason*."""
        self.closed = self.closed or reason
        for work in self.open():
            work.close(reason)

    def note(self, error: BaseException) -> None:
        """A call has ended with *error*: an initializer that fails once will fail again."""
        if self._initialized and isinstance(error, InitializerError):
            self.broken = str(error)

    def open(self) -> list[Work]:
        """What is not done."""
        return list(self._open)

    def cancel_all(self) -> None:
        """Take back what has not started."""
        for work in self.open():
            work.cancel()

    def kill_all(self) -> None:
        """End everything, also where it runs."""
        for work in self.open():
            work.kill()

    def wait(self) -> None:
        """Wait until nothing is left; in a done-callback, until every value is known: the callbacks are behind it."""
        if self.callbacks.is_current():
            for work in self.open():
                if isinstance(work, PoolFuture):
                    work.await_value(None)
            return
        while self._open and not self.master.foreign:
            with self._lock:
                slot = self._idle
                if slot is None:
                    slot = self._idle = Slot()
            if self._open:  # looked at again: the last one may have left before it could see that somebody waits
                self.master.wait(slot)


_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()


def _finish_all() -> None:
    """The program ends: as with the standard library, what executors were given is done first; not after Ctrl-C."""
    ledgers = [ledger for ledger in list(_ledgers) if not ledger.master.foreign]
    for ledger in ledgers:
        ledger.close("interpreter shutdown")
    if issubclass(getattr(sys, "last_type", None) or Exception, KeyboardInterrupt):
        return
    for ledger in ledgers:
        ledger.wait()


try:
    # Before the standard library's threads are joined and before atexit, where pools end; concurrent.futures does so too.
    threading._register_atexit(_finish_all)  # type: ignore[attr-defined]  # typeshed leaves out what is private
except RuntimeError:  # imported by a program that is ending: there is nothing to finish
    pass


class PoolFuture(Future[T]):
    """A future whose waiting thread runs the pool's loop, and which knows whether its call can still be taken back.

    Its state is the standard library's, but for RUNNING: whether a call runs is not noted, it is looked up.
    """

    _done_callbacks: list[Callable[[Future[T]], object]]  # the standard library's, which typeshed leaves out

    def __init__(self, ledger: Ledger) -> None:
        self._ledger: Ledger | None = ledger
        super().__init__()
        self._call: AsyncResult[T] | None = None  # until it is done
        self._cancelling = 0  # the thread that cancels: it runs the callbacks itself, as the standard library has it
        self._calling = False  # callbacks are on their way
        ledger.add(self)

    def follow(self, call: AsyncResult[T]) -> None:
        """This is the future of *call*."""
        self._call = call
        call._when_settled(self._conclude)

    def close(self, reason: str) -> None:
        """The executor takes no more, which is nothing to a call that was made."""

    # What the standard library calls.

    @property
    def _waiters(self) -> list[Any]:
        """Who waits for this and others, in ``wait()`` and ``as_completed()``: they do not run the pool's loop."""
        self._hurry()
        return self._waiting

    @_waiters.setter
    def _waiters(self, waiters: list[Any]) -> None:
        self._waiting = waiters

    def _hurry(self) -> None:
        ledger = self._ledger
        if ledger is not None and self._state == PENDING:
            ledger.master.wheel.hand_over()

    # What users call.

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Have *fn* called with this future when it is done; at once, if it is."""
        super().add_done_callback(fn)
        self._hurry()

    def cancel(self) -> bool:
        """Take the call back, if it has not started; whether it was taken back."""
        call = self._call
        if call is None:
            return super().cancel()
        self._cancelling = threading.get_ident()
        try:
            # A call that was taken back has ended by now, unless a signal handler has interrupted the pool's books.
            return super().cancel() if call.cancel() else self.cancelled()
        finally:
            self._cancelling = -1

    def kill(self) -> None:
        """End the call: take it back or, where it runs, kill its worker, which is an error and no cancellation."""
        call = self._call
        if not self.cancel() and call is not None:
            self._cancelling = 0
            call.cancel(kill=True)

    def running(self) -> bool:
        """Whether the call is at work, as far as its worker has noted."""
        call, ledger = self._call, self._ledger
        if call is None or ledger is None or self._state in _DONE:
            return False
        task = call._task
        return task is not None and ledger.master.has_started(task)

    def result(self, timeout: float | None = None) -> T:
        """The call's value, waiting for it at most *timeout* seconds.

        Raises:
            TimeoutError: (the builtin one) it is not done by then.
            concurrent.futures.CancelledError: the call was cancelled.
            BaseException: what the call raised, its remote traceback as ``__cause__``.
            WorkerDied: its worker process ended; the other errors of `forkful.errors` likewise.
        """
        if self._state == PENDING:
            timeout = self.await_value(timeout)
        try:
            return super().result(timeout)
        finally:
            self = None  # type: ignore[assignment]  # noqa: PLW0642  # else the error would hold itself by its traceback

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raised, None if it returned; waits and raises as `result` does."""
        if self._state == PENDING:
            timeout = self.await_value(timeout)
        return super().exception(timeout)

    def await_value(self, timeout: float | None) -> float | None:
        """Run the pool's loop until the call is done, at most *timeout* seconds; how many may still be waited."""
        call = self._call
        if call is None:
            return timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            call.wait(timeout)
        except PoolClosed as error:  # this is a fork of the program that made it
            raise as_both(error) from None
        if call.settled:
            return None  # another thread may be just about to say so here
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def __repr__(self) -> str:
        text = super().__repr__()
        return text.replace("state=pending", "state=running") if self.running() else text

    def __reduce__(self) -> NoReturn:
        raise TypeError("a future cannot be pickled: it belongs to the executor of this process; send its result()")

    # What happens to it.

    def _conclude(self, call: AsyncResult[T]) -> None:
        """*call* is done.  Called once, by the thread that delivers."""
        outcome, ledger = call._outcome, self._ledger
        assert outcome is not None
        success, value = outcome
        try:
            if success:
                self.set_result(value)
            elif self._cancelling and isinstance(value, TaskCancelled):
                if super().cancel():
                    self.set_running_or_notify_cancel()
            else:
                if ledger is not None:
                    ledger.note(value)
                self.set_exception(as_both(value))
        except InvalidStateError:
            # Cancelled at this moment; or set_result() and its like were called by somebody else: what they say stands.
            if self._state == CANCELLED:
                self.set_running_or_notify_cancel()
        self._call = None
        if not self._calling and ledger is not None:
            self._leave(ledger)

    def _leave(self, ledger: Ledger) -> None:
        """All is said: the executor need not remember this."""
        self._ledger = None
        ledger.forget(self)

    def _invoke_callbacks(self) -> None:
        """Callbacks are user code: not in the thread that delivers, which others wait for."""
        ledger = self._ledger
        if not self._done_callbacks:
            return
        if ledger is None:
            self._call_back()
        elif self._cancelling == threading.get_ident():
            self._leave(ledger)  # before: a callback may shut the executor down, which waits for what is there
            self._call_back()
        else:
            self._calling = True
            ledger.callbacks.call(_nothing, self)

    def run_callback(self, callback: Callable[[Any], object]) -> None:
        """Call all who asked to be told.  Runs in the callback thread."""
        ledger = self._ledger
        self._call_back()
        if ledger is not None:
            self._leave(ledger)

    def _call_back(self) -> None:
        for callback in self._done_callbacks:
            try:
                callback(self)
            except BaseException:  # SystemExit in a callback must not end the thread that the others count on
                LOGGER.exception("exception calling callback for %r", self)


def _nothing(_: object) -> None:
    """Stands for the callback of a future, which has any number of them."""
