"""The door to a lock on a server: whoever goes through it asks a thread of the door's, and none of them waits for the server.

That thread, the *porter*, is there while somebody wants the lock or has it, and is the only one to speak with the server: it
asks, waits, keeps what was had, and gives it back.  The others line up as tickets, the released lock's farewell among them, and
sleep as long as they want; so a time-out holds whatever the server does, and an event loop goes on.  README.md has the protocol.
"""

from __future__ import annotations

import math
import threading
import time
from typing import cast

from ._deaf import deaf_threads
from ._door import Door, Mechanism, _held
from ._server import ServerLock, Wake
from ._ticket import Ticket


class Question(Ticket):
    """Somebody who does not wait: it wants the lock if it is free."""

    __slots__ = ()

    once = True


class RemoteDoor(Door):
    """What a process has of one lock on a server."""

    is_remote = True

    def __init__(self, server: ServerLock, what: str) -> None:
        super().__init__(cast("Mechanism", server), what)  # the rest of a Mechanism is what this class does without
        self._server = server
        self._wake: Wake | None = None  # while there is a porter
        self._asking: Ticket | None = None  # for whom it asks at the moment
        self._farewell: Ticket | None = None  # of whoever has released it: the porter is to give it back

    # Taking.

    def take_now(self, owner: int, *, shared: bool = False) -> bool:
        """Take it if it is free; whether it was.  Waits for one answer of the server."""
        if self._mutex._is_owned():  # a signal handler, or a finalizer, has interrupted this thread in here
            return False
        return self._get(Question(owner, shared=shared, direct=False, limited=True), None)

    def take(self, owner: int, timeout: float | None, *, shared: bool = False, aside: bool = True) -> bool:
        """Take it, waiting for at most *timeout* seconds; whether it was had.  Always *aside*."""
        if self._mutex._is_owned():
            self._refuse_inside()
        if timeout == 0:
            return self.take_now(owner, shared=shared)
        return self._get(Ticket(owner, shared=shared, direct=False, limited=timeout is not None), timeout)

    def _get(self, ticket: Ticket, timeout: float | None) -> bool:
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        try:
            with self._mutex:
                if ticket.once and not all(other.once for other in self._queue):  # somebody waits
                    return False
                self._queue.append(ticket)
                self._advance()
            while not (ticket.granted or ticket.refused):
                if ticket.error is not None:
                    raise ticket.error
                now = time.monotonic()
                if now >= deadline:
                    break
                if now >= ticket.look:
                    self.look(ticket, blocks=True)
                    continue
                ticket.sleep(min(deadline, ticket.look) - now)
            return self.leave(ticket, None)
        except BaseException:  # Ctrl-C: it may have come just after the lock was had
            self.leave(ticket, None, wanted=False)
            raise

    def _withdraw(self, ticket: Ticket) -> None:
        if ticket in self._queue:
            self._queue.remove(ticket)
        if self._asking is ticket and self._wake is not None:
            self._wake.give()
        self._advance()

    def _advance(self) -> None:
        """See to it that the first of the queue gets on.  Under ``_mutex``."""
        while self._queue and self.holders:
            first = self._queue[0]
            if first.shared and self._shares:
                self._grant()
            elif first.once:
                self._refuse_first()
            else:
                return
        if self._queue and self._asking is None:
            self._call_porter()

    def _refuse_first(self) -> None:
        ticket = self._queue.popleft()
        ticket.refused = True
        ticket.wake()

    # Giving back.

    def give_back(self, *, shared: bool = False) -> None:
        """One of those who had it, or *shared* it, has it no more; returns when the server knows.

        Raises:
            LockNotHeld: nobody here has it.
            LockLost: see the mechanism.
        """
        farewell = Ticket(0, shared=shared, direct=False)
        try:
            self.part(farewell, shared=shared)
            while not farewell.granted:
                farewell.sleep(math.inf)
        except KeyboardInterrupt:  # it may have come before the porter had the word
            with self._mutex:
                if self._farewell is farewell:
                    self._call_porter()
            raise
        if farewell.error is not None:
            raise farewell.error

    def part(self, farewell: Ticket, *, shared: bool = False) -> None:
        """`give_back` without the wait: *farewell* is granted when the server knows, and has the error."""
        if self._mutex._is_owned():
            self._refuse_inside()
        with self._mutex:
            self._check_held(shared=shared)
            self._give_back(farewell)

    def _give_back(self, farewell: Ticket | None = None) -> None:
        farewell = farewell or Ticket(0, shared=False, direct=False)
        if self.holders > 1:
            self.holders -= 1
            farewell.granted = True
            farewell.wake()
            return
        self._farewell = farewell
        self.holders = self.owner = self.depth = 0
        _held.discard(self)
        self._call_porter()

    # The porter.

    def _call_porter(self) -> None:
        """There is something to do.  Under ``_mutex``."""
        if self._porter is not None:
            if self._wake is not None:  # else it has not begun yet
                self._wake.give()
            return
        thread: threading.Thread | None = None
        try:
            thread = self._porter = threading.Thread(target=self._serve, daemon=True, name="forkful-lock")
            with deaf_threads():
                thread.start()
        except RuntimeError as error:
            if thread is None or thread.ident is not None:  # of a Condition that Ctrl-C came into
                raise
            self._dismiss(error)  # no thread to be had
        except BaseException:  # Ctrl-C: it may never be started, or find that it is the porter no more
            if thread is None or thread.ident is None:
                self._dismiss()
                self._call_porter()
            raise

    def _dismiss(self, error: BaseException | None = None) -> None:
        """There is no porter any more; if for an *error*, nothing that was wanted of it will come.  Under ``_mutex``."""
        self._porter = self._wake = self._asking = None
        if error is not None:
            self._refuse_all(error)
            self._end_farewell(error)

    def _end_farewell(self, error: BaseException | None) -> None:
        farewell, self._farewell = self._farewell, None
        if farewell is not None:
            farewell.error = error
            farewell.granted = True
            farewell.wake()

    def _serve(self) -> None:
        """The porter's whole life."""
        wake: Wake | None = None
        try:
            wake = Wake()
            while self._serve_once(wake):
                pass
        except BaseException as error:
            with self._mutex:
                self._dismiss(error)
            raise
        finally:
            if wake is not None:
                wake.close()

    def _serve_once(self, wake: Wake) -> bool:
        """Do what is to be done first; whether there was something."""
        first: Ticket | None = None
        with self._mutex:
            if self._porter is not threading.current_thread():  # see `_call_porter`
                return False
            self._wake = wake
            wake.clear()
            parts, keeps = self._farewell is not None, bool(self.holders)
            if not parts and not keeps:
                if self._queue:
                    first = self._asking = self._queue[0]
                elif not self._server.owes():
                    self._dismiss()
                    return False
        if parts:
            self._say_farewell()
        elif keeps:
            self._server.keep(wake)
        elif first is not None:
            self._ask_for(first, wake)
        else:
            self._server.settle(wake)
        return True

    def _ask_for(self, first: Ticket, wake: Wake) -> None:
        had, failure = False, None
        try:
            had = self._server.ask(first.owner, shared=first.shared, wait=not first.once, wake=wake)
        except BaseException as error:  # whoever waits raises it
            failure = error
        with self._mutex:
            self._asking = None
            is_there = bool(self._queue) and self._queue[0] is first
            if had:
                self._shares = first.shared
                self._stay()
                if is_there:
                    self._grant()
                    self._advance()
                else:
                    self._give_back()
            elif failure is not None and is_there:
                self._refuse_all(failure)
            elif is_there and first.once:
                self._refuse_first()

    def _say_farewell(self) -> None:
        failure: BaseException | None = None
        try:
            self._server.give_back()
        except BaseException as error:  # whoever has released it raises it
            failure = error
        with self._mutex:
            self._end_farewell(failure)

    def disown(self) -> None:
        """In a forked child: nothing is held here, and nobody waits."""
        self._farewell = self._asking = None
        if self._wake is not None:
            self._wake.close()
            self._wake = None
        super().disown()
