"""The door to a lock: one for each lock in a process, through which all its threads and tasks go.

The lock itself (a *mechanism*: a file, a key in Redis) knows processes only.  The door lets one thread or task after the
other have it, or several that share it, and has at most one wait under way at the mechanism:

- Who finds the lock free takes it in its own thread, at once.
- Others line up as *tickets*.  The first may wait at the mechanism itself, if nothing can end its wait early: that spares a
  change of threads.  For one with a time-out, a coroutine, one that may be in a deadlock, or one that stands *aside* to hear
  signals, a thread of the door's does so (the *porter*), and the ticket sleeps meanwhile, as long as it wants.
- A porter whose ticket has gone is taken over by the next one; if there is none, what it gets is given back at once.

``_mutex`` is held for moments, never in a wait.  Nothing of a door crosses a fork: see `Door.disown`.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections import deque
from typing import Any, NoReturn, Protocol

from ..errors import DeadlockError, LockError, LockNotHeld
from . import _who
from ._anonymous import Making
from ._deaf import deaf_threads
from ._place import Place
from ._ticket import Ticket


class Mechanism(Protocol):
    """A lock that a process can have.  Used by one thread at a time."""

    fence: int | None
    recovered: bool | None
    is_patient: bool  # `take_now` may be called while a thread is in `take` for nobody any more

    def is_wanted(self) -> bool:
        """Whether somebody in another process should have it before more of this one share it."""

    def take_now(self, owner: int, *, shared: bool = False) -> bool:
        """Take it for *owner* if it is free; whether it was."""

    def take(self, *, shared: bool = False) -> None:
        """Wait until it is had.  `note` follows or, whatever is raised, `give_back`."""

    def note(self, owner: int, *, shared: bool = False) -> None:
        """It was had for *owner*."""

    def give_back(self) -> None:
        """Let others have it; harmless, and without an error, when it is not held, or was not noted."""

    def check(self) -> None:
        """Raises `LockLost` if it was held, and is known to be lost."""

    def enlist(self, owner: int) -> Any:
        """Note who waits, for those who look; what to give to `delist`."""

    def delist(self, listed: Any) -> None:
        """It waits no more."""

    def holder(self) -> _who.Holder | None:
        """Who has it."""

    def renounce(self) -> None:
        """Whoever waited here has given up, though a thread is still in `take`: nobody should give way to it."""

    def check_deadlock(self, owner: int, *, blocks: bool) -> float | None:
        """Raises `DeadlockError` if *owner*, which waits here without an end, is in a circle of waiters and the one to leave.

        Its thread stands still meanwhile, or not: *blocks*.  If it may have to leave later: in how many seconds to ask again.
        """

    def disown(self) -> None:
        """In a forked child: all of this is the parent's."""


class Door:
    """What a process has of one lock."""

    is_remote = False  # who takes or releases it waits for a server: see `_remote_door`

    def __init__(self, mechanism: Mechanism, what: str) -> None:
        self.mechanism = mechanism
        self.what = what  # for messages
        self.owner = 0  # the thread or task that has it; of several that share it, one
        self.depth = 0  # how often, for `RLock`
        self.holders = 0  # threads and tasks that have it: more than one only where they share it
        self.making: Making | None = None  # of an anonymous lock, in the process that made it
        self._shares = False
        # What interrupts its own thread in here finds out that it has: see `_refuse_inside`.
        self._mutex: Any = threading.RLock()
        self._queue: deque[Ticket] = deque()
        self._porter: Ticket | threading.Thread | None = None  # who waits at the mechanism
        self._porter_shares = False  # how it is to have it

    # Taking.

    def take_now(self, owner: int, *, shared: bool = False) -> bool:
        """Take it if it is free; whether it was."""
        if self._mutex._is_owned():  # a signal handler, or a finalizer, has interrupted this thread in here
            return False
        had = False
        try:
            with self._mutex:
                if self.holders:
                    if not (shared and self._shares) or self._queue or self.mechanism.is_wanted():
                        return False
                elif self._queue or (self._porter is not None and not self._may_pass(shared=shared)):
                    return False
                else:
                    try:
                        if not self.mechanism.take_now(owner, shared=shared):
                            return False
                    except BaseException:  # Ctrl-C: it may have come just after the lock was had
                        self.mechanism.give_back()
                        raise
                    self._shares = shared
                    self._stay()
                self.owner = owner
                self.holders += 1
                had = True
        except BaseException:  # Ctrl-C, on the way out
            if had:
                self.give_back(shared=shared)
            raise
        return had

    def _stay(self) -> None:
        """It is held: it stays, whoever drops the lock; unless nobody else could ever name it."""
        if self.making is None or self.making.given:
            _held.add(self)

    def _may_pass(self, *, shared: bool) -> bool:
        """Whether a porter that waits for nobody any more is no obstacle: it asks for the same, which the kernel takes for one.

        If it asked for another way to hold the lock, its turn would change, or end, what is held by then.
        """
        return self.mechanism.is_patient and self._porter_shares == shared

    def take(self, owner: int, timeout: float | None, *, shared: bool = False, aside: bool = False) -> bool:
        """Take it, waiting for at most *timeout* seconds; whether it was had.

        Args:
            aside: never at the mechanism in this thread: what threads that starts, as for a lease, are deaf then.

        Raises:
            DeadlockError: it never could be; only without a *timeout*.
        """
        if not aside and self.take_now(owner, shared=shared):
            return True
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        direct = timeout is None and not aside and not _holds_any(owner) and not _who.loop_runs()
        ticket = Ticket(owner, shared=shared, direct=direct, limited=timeout is not None)
        listed: Any = None
        try:
            listed = self.line_up(ticket)
            while not ticket.granted:
                if ticket.error is not None:
                    raise ticket.error
                if ticket.turn:
                    self.mechanism.take(shared=shared)
                    with self._mutex:
                        self._let_in(shared=shared)
                    continue
                now = time.monotonic()
                if now >= deadline:
                    break
                if now >= ticket.look:
                    listed = listed or self.mechanism.enlist(ticket.noted)
                    self.look(ticket, blocks=True)
                    continue
                ticket.sleep(min(deadline, ticket.look) - now)
        except BaseException:
            self.leave(ticket, listed, wanted=False)
            raise
        return self.leave(ticket, listed)

    def look(self, ticket: Ticket, *, blocks: bool) -> None:
        """Raise if *ticket* could wait for ever; else say in it when to look again.

        Args:
            blocks: its thread stands still meanwhile, and so does the event loop that it may run.

        Raises:
            DeadlockError: it names those who stand in the way.
        """
        now = time.monotonic()
        try:
            self._check_owner()
            pause = None if ticket.direct else self.mechanism.check_deadlock(ticket.owner, blocks=blocks)
        except DeadlockError:
            with self._mutex:
                if not ticket.granted:  # else it was had while that was found out
                    raise
        else:
            ticket.look = now + (now - ticket.began if pause is None else pause)

    def _check_owner(self) -> None:
        """Raise if it is held by a thread of this process that has ended, and nobody is left who may release it."""
        with self._mutex:
            forgotten = self.holders == 1 and not self._shares and _who.has_ended(os.getpid(), self.owner)
            if forgotten and (self.depth or threading.active_count() == 1):
                raise DeadlockError(
                    f"{self.what} is held by a thread of this process that has ended without releasing it, and nobody "
                    f"else can; take it in a `with` block",
                    lock=self.what,
                    pids=(os.getpid(),),
                )

    def line_up(self, ticket: Ticket) -> Any:
        """Put *ticket* at the end of the queue; what to give to `leave`, which must follow, whatever is raised."""
        if self._mutex._is_owned():
            self._refuse_inside()
        with self._mutex:
            self._queue.append(ticket)
            listed = self.mechanism.enlist(ticket.noted)
            self._advance()
            return listed

    def _refuse_inside(self) -> NoReturn:
        """A signal handler that has interrupted its own thread in here cannot wait: what it waits for is below it."""
        raise RuntimeError(
            f"a signal handler has interrupted its own thread while that was taking or releasing {self.what}, and cannot "
            f"use that lock; have it set a flag, or try with block=False"
        )

    def leave(self, ticket: Ticket, listed: Any, *, wanted: bool = True) -> bool:
        """The end of a wait; whether the lock was had, and is still *wanted*: else it is given back."""
        with self._mutex:
            if not ticket.granted:
                self._withdraw(ticket)
            elif not wanted:  # it came as the wait was interrupted
                if self._porter is ticket:
                    self._porter = None
                self._give_back()
            if listed is not None:
                self.mechanism.delist(listed)
            return ticket.granted and wanted

    def _withdraw(self, ticket: Ticket) -> None:
        if ticket in self._queue:
            self._queue.remove(ticket)
        if self._porter is ticket:  # it was interrupted, and may have had it by then
            self._porter = None
            self.mechanism.give_back()
        elif not self._queue and self._porter is not None:
            self.mechanism.renounce()
        self._advance()

    def _advance(self) -> None:
        """See to it that the first of the queue gets on.  Under ``_mutex``."""
        while self._queue:
            first = self._queue[0]
            if self.holders:
                if not (first.shared and self._shares) or self.mechanism.is_wanted():
                    return
                self._grant()
            elif self._porter is not None:
                return
            elif first.direct:
                first.turn = True
                self._porter = first
                first.wake()
                return
            else:
                self._send_porter(shared=first.shared)
                return

    def _send_porter(self, *, shared: bool) -> None:
        thread = threading.Thread(target=self._carry, args=(shared,), daemon=True, name="forkful-lock")
        self._porter, self._porter_shares = thread, shared
        try:
            with deaf_threads():
                thread.start()
        except RuntimeError as error:  # no thread to be had
            self._porter = None
            self._refuse_all(error)
        except BaseException:  # Ctrl-C: it may never know that it was started
            if thread.ident is None:
                self._porter = None
            raise

    def _carry(self, shared: bool) -> None:
        """The porter's whole life: wait at the mechanism once."""
        failure: BaseException | None = None
        try:
            self.mechanism.take(shared=shared)
        except BaseException as error:  # whoever waits raises it
            failure = error
        with self._mutex:
            if failure is not None:
                self._porter = None
                self._refuse_all(failure)
            elif self.holders:  # somebody of this process has taken it meanwhile
                self._porter = None
            else:
                self._let_in(shared=shared, sure=not self.mechanism.is_patient)

    def _let_in(self, *, shared: bool, sure: bool = True) -> None:
        """The mechanism has been had: whose it is.  Under ``_mutex``.

        Not *sure*: somebody of this process may have taken it, and given it back, since a porter had it.
        """
        if self._queue and self._queue[0].shared == shared:
            owner = self._queue[0].owner
            if sure:
                self.mechanism.note(owner, shared=shared)
            if sure or self.mechanism.take_now(owner, shared=shared):
                self._shares = shared
                self._stay()
                self._grant()
                self._porter = None
                self._advance()
                return
        self.mechanism.give_back()
        self._porter = None
        self._advance()

    def _grant(self) -> None:
        ticket = self._queue[0]
        self.owner = ticket.owner
        self.holders += 1
        ticket.granted = True
        self._queue.popleft()
        if not ticket.turn:
            ticket.wake()

    def _refuse_all(self, error: BaseException) -> None:
        while self._queue:
            ticket = self._queue.popleft()
            ticket.error = error
            ticket.wake()

    # Giving back.

    def give_back(self, *, shared: bool = False) -> None:
        """One of those who had it, or *shared* it, has it no more.

        Raises:
            LockNotHeld: nobody here has it.
            LockLost: see the mechanism.
        """
        if self._mutex._is_owned():
            self._refuse_inside()
        with self._mutex:
            self._check_held(shared=shared)
            self._give_back()

    def _check_held(self, *, shared: bool) -> None:
        if not self.holders or shared != self._shares:
            way = "" if not self.holders else " to read" if shared else " to write"
            raise LockNotHeld(f"{self.what} is not held{way} by this process, so it cannot be released", lock=self.what)

    def _give_back(self) -> None:
        if self.holders > 1:
            self.holders -= 1
            return
        try:
            self.mechanism.give_back()
        except LockError:
            raise
        except BaseException:  # Ctrl-C in the middle
            self.mechanism.give_back()
            raise
        finally:
            self.holders = self.owner = self.depth = 0
            _held.discard(self)
            if self._queue:
                self._advance()

    def check(self) -> None:
        """Raise if it is held no more, though nobody has given it back.

        Raises:
            LockNotHeld: nobody here has it.
            LockLost: see the mechanism.
        """
        with self._mutex:
            if not self.holders:
                raise LockNotHeld(f"{self.what} is not held by this process, so it cannot be checked", lock=self.what)
            self.mechanism.check()

    def disown(self) -> None:
        """In a forked child: nothing is held here, and nobody waits."""
        self._mutex = threading.RLock()
        self._queue.clear()
        self._porter = None
        _held.discard(self)
        self.owner = self.depth = self.holders = 0
        self.mechanism.disown()


_held: set[Door] = set()  # see `Door._stay`
doors: weakref.WeakValueDictionary[Place, Door] = weakref.WeakValueDictionary()  # of this process


def _holds_any(owner: int) -> bool:
    """Whether this thread or task has a lock already, so that to wait for another one may be a deadlock."""
    return any(door is not None and door.owner == owner for door in (ref() for ref in doors.valuerefs()))
