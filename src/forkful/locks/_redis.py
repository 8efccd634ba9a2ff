"""A lock in Redis: a key with a lease, in the manner of redis-py's own ``Lock``, so that whoever uses that contends for the same one.

Beside the key NAME, which has the owner's token, there are

- ``{NAME}:forkful``, a hash that stays: ``fence``, the number of the newest acquisition; while the lock is held, ``by``, its
  token, and ``who``.  Whoever gets the lock and finds ``by`` there knows that the owner before never gave it back.
- ``{NAME}:queue`` and ``{NAME}:seen``: who waits, in the order of arrival, and when each has looked the last time.
- ``{NAME}:turn:TOKEN``, a list that wakes the one whose turn it is.

A lease is not a mutex: a holder that was stopped, or cut off, for longer than its lease does not know that another one has
the lock by now.  It is told at the next `RedisLock.check` or release; what it does before that only a resource can refuse
which compares fence numbers.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import time
import uuid
import weakref
from typing import Final

import redis
from redis.exceptions import RedisError

from .._core.processes import is_stopped
from ..errors import LockError
from . import _server, _who
from ._place import Place
from ._redis_client import Line, open_client
from ._redis_scripts import ASK, EXTEND, GIVE_BACK, LOOK
from ._server import ServerLock, Wake
from ._url import RedisAddress

_LEAST_ANSWER_S: Final = 1.0
_AGAIN_S: Final = 0.25  # a server that is not there is tried again after so long


def _now() -> float:
    """Seconds by a clock that is never set and, where there is one, goes on while the machine sleeps: leases do."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class _Lease:
    """One acquisition, or what may have become one."""

    __slots__ = ("lost", "token", "trouble", "until")

    def __init__(self, token: bytes = b"") -> None:
        self.token = token or uuid.uuid4().hex.encode()
        self.until = 0.0  # it has not run out before; by `_now`
        self.trouble = ""  # why it was not extended the last time, in words
        self.lost = ""  # why, in words


class RedisLock(ServerLock):
    """The lock at *place*, as one process has it.  Its lease is extended, at a third of it, while it is held.

    Where it is asked to be shared it is exclusive all the same: readers of different processes take turns.
    """

    def __init__(self, place: Place, address: RedisAddress) -> None:
        super().__init__(place)
        self._seconds = address.lease
        self._milliseconds = max(1, round(address.lease * 1000))
        name = address.name.encode()
        self._keys = [name, *(b"{%s}:%s" % (name, what) for what in (b"forkful", b"queue", b"seen"))]
        self._turn = b"{%s}:turn:" % name
        self._lease: _Lease | None = None  # held
        self._owed: _Lease | None = None  # nobody here has it; the server may not know
        # An extension that fails should leave time for another one.
        patience = max(_LEAST_ANSWER_S, min(_server.ANSWER_S, self._seconds / 3))
        try:
            self._client = open_client(address.url, address.server, patience)
        except (TypeError, ValueError, RedisError) as error:
            raise ValueError(f"{self.place.shown!r} is not a URL that redis-py understands ({error})") from None
        self._line = Line(self._client, self._keys)

    # By the porter.

    def ask(self, owner: int, *, shared: bool, wait: bool, wake: Wake) -> bool:
        """Take it for *owner* if it is free, or *wait* until it is or *wake* is given; whether it was had.

        Raises:
            LockError: the server does not answer, or refuses.
        """
        lease = self._owed or _Lease()  # what is owed is ours already
        try:
            while not self._take(lease, owner, wait=wait, wake=wake):
                if not wait or wake.is_given:
                    if wait:
                        self._run_give_back(lease)  # it may have been handed it just now
                    self._line.leave()
                    return False
        except RedisError as error:
            if self._line.was_sent or self._owed is not None:
                self._owe(lease)
            self._line.drop()
            raise LockError(f"{self.place.describe()}: {self._client.explain(error)}", lock=self.place.shown) from error
        self._owed, self._lease = None, lease
        _held.add(self)
        return True

    def _take(self, lease: _Lease, owner: int, *, wait: bool, wake: Wake) -> bool:
        """Ask once, and if it is not free, wait until it may be."""
        began = _now()  # before the server's clock for the lease begins
        had, *rest = self._line.run(ASK, lease.token, self._milliseconds, self._sign(owner), int(wait))
        if had:
            lease.until = began + self._seconds
            self.fence, self.recovered = int(rest[0]), bool(rest[1])
            return True
        if wait and not wake.is_given:
            try:
                self._line.wait(self._turn + lease.token, rest[0] / 1000, wake)
            except redis.ConnectionError:  # once more; where there is no server, it will be noticed
                pass
            except redis.TimeoutError:
                if not wake.is_given:
                    raise
        return False

    def keep(self, wake: Wake) -> None:
        """Extend the lease, and notice at once when the connection ends, until *wake* is given."""
        lease = self._lease
        pause = self._seconds / 3
        while lease is not None and not wake.is_given:
            self._line.watch(None if lease.lost else pause, wake)
            if wake.is_given or lease.lost:
                return
            pause = self._extend(lease, wake)

    def _extend(self, lease: _Lease, wake: Wake) -> float:
        """Seconds until it is to be extended again."""
        began = _now()
        try:
            (had,) = self._line.run(EXTEND, lease.token, self._milliseconds, wake=wake)
        except RedisError as error:
            if not wake.is_given:
                lease.trouble = self._client.explain(error)
                if _now() >= lease.until:
                    lease.lost = self._outlived(lease)
            return min(self._seconds / 10, _AGAIN_S)
        if had:
            lease.until, lease.trouble = began + self._seconds, ""
        else:
            lease.lost = self._outlived(lease)
        return self._seconds / 3

    def give_back(self) -> None:
        """Let others have it.

        Raises:
            LockLost: the lease has run out, or the server does not answer, so that it soon will have.
        """
        lease, self._lease = self._lease, None
        _held.discard(self)
        if lease is None:
            return
        lost, cause = lease.lost, None
        try:
            if not self._run_give_back(lease):
                lost = lost or self._outlived(lease)
            self._line.leave()
        except RedisError as error:
            self._line.drop()
            self._owe(lease)
            lost, cause = lost or f"{self._client.explain(error)} when it was to be given back", error
        if lost:
            raise self._lost(lost) from cause

    def _run_give_back(self, lease: _Lease, *, inside: bool = False) -> bool:
        return bool(self._line.run(GIVE_BACK, lease.token, self._turn, int(inside))[0])

    def _owe(self, lease: _Lease) -> None:
        self._owed = _Lease(lease.token)
        self._owed.until = _now() + self._seconds

    def owes(self) -> bool:
        """Whether the server may have this for ours, though nobody here has it."""
        if self._owed is not None and _now() >= self._owed.until:
            self._owed = None
        return self._owed is not None

    def settle(self, wake: Wake) -> None:
        """Try once more to give back what is owed, after a pause that *wake* ends."""
        self._line.watch(_AGAIN_S, wake)
        if wake.is_given or self._owed is None:
            return
        try:
            (_,) = self._line.run(GIVE_BACK, self._owed.token, self._turn, 0, wake=wake)
        except RedisError:
            self._line.drop()
        else:
            self._owed = None
            self._line.leave()

    # By anybody.

    def check(self) -> None:
        """Raise if the lease was lost, or has run out by our clock.  Asks nobody.

        Raises:
            LockLost: others may have it.
        """
        lease = self._lease
        if lease is None:
            return
        if not lease.lost and _now() >= lease.until:
            lease.lost = self._outlived(lease)
        if lease.lost:
            raise self._lost(lease.lost)

    def holder(self) -> _who.Holder | None:
        """Who has the lease, as it has noted itself; with pid 0 if it has not, as redis-py's own ``Lock``.

        Raises:
            LockError: the server does not answer, or refuses.
        """
        line = Line(self._client, self._keys)
        try:
            token, by, who = line.run(LOOK)
        except RedisError as error:
            raise LockError(f"{self.place.describe()}: {self._client.explain(error)}", lock=self.place.shown) from error
        finally:
            line.leave()
        if token is None:
            return None
        if by != token:
            return _who.Holder(0, "", None, None, "", stopped=False)
        noted = json.loads(who)
        pid, host, owner = noted["pid"], noted["host"], noted["owner"]
        stopped = host == socket.gethostname() and is_stopped(pid)
        return _who.Holder(pid, host, _who.thread_of(owner), noted["since"], noted["command"], stopped)

    def disown(self) -> None:
        """In a forked child: what it has of its parent's connections is closed without a word to the server."""
        self._line.disown()
        self._lease = self._owed = None
        _held.discard(self)

    def abandon(self) -> None:
        """As the program ends: let others have it, but tell the next owner that this one never gave it back."""
        if self._lease is not None:
            line = Line(self._client, self._keys)
            line.run(GIVE_BACK, self._lease.token, self._turn, 1)
            line.leave()

    # Words.

    def _sign(self, owner: int) -> bytes:
        pid = os.getpid()
        who = {"pid": pid, "host": socket.gethostname(), "owner": owner}
        return json.dumps(who | {"since": time.time(), "command": _who.command_of(pid)}).encode()

    def _outlived(self, lease: _Lease) -> str:
        if lease.trouble and _now() >= lease.until:
            return f"{lease.trouble} until the lease of {self._seconds:g} s had run out"
        return f"its lease of {self._seconds:g} s has run out, or its key was removed"


_held: weakref.WeakSet[RedisLock] = weakref.WeakSet()  # by this process


@atexit.register
def _abandon_all() -> None:
    """A lease would keep everybody out until it has run out, though its owner has ended."""
    for lock in list(_held):
        try:
            lock.abandon()
        except RedisError:  # the server is not there: to try others would take as long
            return
