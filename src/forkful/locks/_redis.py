"""A lock in Redis: a key with a lease, by redis-py's own ``Lock``, so that whoever uses that contends for the same one.

Beside the key NAME, which is redis-py's, there are

- ``{NAME}:forkful``, a hash that stays: ``fence``, the number of the newest acquisition; while the lock is held, ``by``, its
  token, and ``who``.  Whoever gets the lock and finds ``by`` there knows that the owner before never gave it back.
- ``{NAME}:free``, a list that wakes one of those who wait: they neither ask again and again nor wait for a message that
  came before they listened.

A lease is not a mutex: a holder that was stopped, or cut off, for longer than its lease does not know that another one has
the lock by now.  It is told at the next `RedisLock.check` or release; what it does before that only a resource can refuse
which compares fence numbers.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Iterator
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, LockNotOwnedError, RedisError
from redis.lock import Lock
from redis.retry import Retry

from .._core.processes import is_stopped
from ..errors import LockError, LockLost
from . import _who
from ._place import Place
from ._url import RedisAddress

_ANSWER_S: Final = 5.0  # a server that takes longer does not answer
_LEAST_ANSWER_S: Final = 1.0  # a wait that has a limit ends up to 0.1 s late
_LOOK_S: Final = 1.0  # who waits looks again after so long: redis-py's own Lock wakes nobody
_KEPT_MS: Final = 10_000  # a call that nobody waited for is forgotten

# KEYS: the lock, the record.  ARGV: the token, who.  Nothing, if the lease has run out between the acquisition and now.
# The fence number begins with the server's time, so that it grows even where the record was lost, as with a restart.
_NOTE = """
if redis.call('get', KEYS[1]) ~= ARGV[1] then return false end
local now = redis.call('time')
local fence = now[1] * 1000000 + now[2]
local last = tonumber(redis.call('hget', KEYS[2], 'fence') or '0')
if fence <= last then fence = last + 1 end
local recovered = redis.call('hexists', KEYS[2], 'by')
fence = string.format('%.0f', fence)
redis.call('hset', KEYS[2], 'fence', fence, 'by', ARGV[1], 'who', ARGV[2])
return {fence, recovered}
"""
_NAME_OWNER = """
if redis.call('hget', KEYS[2], 'by') == ARGV[1] then redis.call('hset', KEYS[2], 'who', ARGV[2]) end
"""
_CLEAR = """
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('hdel', KEYS[2], 'by', 'who')
return 1
"""


def _now() -> float:
    """Seconds by a clock that is never set and, where there is one, goes on while the machine sleeps: leases do."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class _Lease:
    """One acquisition."""

    __slots__ = ("lock", "lost", "noted", "over", "token", "until")

    def __init__(self, lock: Lock, until: float) -> None:
        self.lock = lock
        self.token = uuid.uuid4().hex
        self.until = until  # it has not run out before; by `_now`
        self.lost = ""  # why, in words
        self.noted = False  # somebody was told that they have it
        self.over = threading.Event()  # it was given back, or nearly


class RedisLock:
    """The lock at *place*, as one process has it.  A thread extends its lease, at a third of it, while it is held.

    Where it is asked to be shared it is exclusive all the same: readers of different processes take turns.
    """

    is_patient = False

    def __init__(self, place: Place, address: RedisAddress) -> None:
        self.place = place
        self.fence: int | None = None
        self.recovered: bool | None = False
        self._address = address
        self._keys = [address.name, f"{{{address.name}}}:forkful"]
        self._queue = f"{{{address.name}}}:free"
        self._lease: _Lease | None = None
        self._client: Any = None
        self._closing: weakref.finalize[..., RedisLock] | None = None  # as this lock goes

    # What a door asks for.

    def is_wanted(self) -> bool:
        """Never known."""
        return False

    def take_now(self, owner: int, *, shared: bool = False) -> bool:
        """Take it for *owner* if it is free.

        Raises:
            LockError: the server does not answer, or refuses.
        """
        if not self._acquire(owner):
            return False
        self._noted()
        return True

    def take(self, *, shared: bool = False) -> None:
        """Wait until it is had.

        Raises:
            LockError: the server does not answer, or refuses; also when it goes away during the wait.
        """
        try:
            while not self._acquire(None):
                self._wait()
        except BaseException:
            self.give_back()
            raise

    def note(self, owner: int, *, shared: bool = False) -> None:
        """It was had for *owner*."""
        lease = self._noted()
        with contextlib.suppress(RedisError):  # for those who look, and no more
            self._run(_NAME_OWNER, lease.token, self._sign(owner))

    def give_back(self) -> None:
        """Let others have it.

        Raises:
            LockLost: the lease has run out, or the server does not answer, so that it soon will have.
        """
        lease = self._lease
        if lease is None:
            return
        quiet = not lease.noted or lease.over.is_set()  # nobody was told, or Ctrl-C came in the middle of this
        lease.over.set()
        lost, cause = lease.lost, None
        try:
            lost = lost or self._leave(lease)
        except RedisError as error:
            lost, cause = f"{self._explain(error)} when it was to be given back", error
        self._lease = None
        if lost and not quiet:
            raise self._lost(lost) from cause

    def check(self) -> None:
        """Raise if the lease was lost, or has run out by our clock.  Asks nobody.

        Raises:
            LockLost: others may have it.
        """
        lease = self._lease
        if lease is None:
            return
        if not lease.lost and _now() >= lease.until:
            lease.lost = self._outlived()
        if lease.lost:
            raise self._lost(lease.lost)

    def enlist(self, owner: int) -> None:
        """Who waits is not noted: a circle of waiters is not seen."""

    def delist(self, listed: None) -> None:
        """As `enlist`."""

    def renounce(self) -> None:
        """Nobody gives way to a waiter here."""

    def check_deadlock(self, owner: int, *, blocks: bool) -> None:
        """As `enlist`."""

    def holder(self) -> _who.Holder | None:
        """Who has the lease, as it has noted itself; with pid 0 if it has not, as redis-py's own ``Lock``.

        Raises:
            LockError: the server does not answer, or refuses.
        """
        with self._asking():
            pipe = self._open().pipeline()
            pipe.get(self._keys[0])
            pipe.hmget(self._keys[1], "by", "who")
            token, (by, who) = pipe.execute()
        if token is None:
            return None
        if by != token:
            return _who.Holder(0, "", None, None, "", stopped=False)
        noted = json.loads(who)
        pid, host, owner = noted["pid"], noted["host"], noted["owner"]
        thread = None if owner is None else _who.thread_of(owner)
        stopped = host == socket.gethostname() and is_stopped(pid)
        return _who.Holder(pid, host, thread, noted["since"], noted["command"], stopped)

    def disown(self) -> None:
        """In a forked child: redis-py closes the child's copies of its connections without a word to the server."""
        self._lease = self._client = None
        if self._closing is not None:
            self._closing.detach()

    # The lease.

    def _acquire(self, owner: int | None) -> bool:
        address = self._address
        client = self._open()
        began = _now()  # before the server's clock for it begins
        lock = Lock(client, address.name, timeout=address.lease, blocking=False, thread_local=False)
        lease = self._lease = _Lease(lock, began + address.lease)
        try:
            with self._asking():
                had = lock.acquire(token=lease.token) and self._run(_NOTE, lease.token, self._sign(owner))
        except LockError:
            self._lease = None  # what it may have got of a server that does not answer will run out
            raise
        if not had:
            self._lease = None
            return False
        self.fence, self.recovered = int(had[0]), bool(had[1])
        threading.Thread(target=self._keep, args=(lease,), daemon=True, name="forkful-lease").start()
        return True

    def _noted(self) -> _Lease:
        assert self._lease is not None
        self._lease.noted = True
        return self._lease

    def _keep(self, lease: _Lease) -> None:
        """The life of the thread that extends *lease*."""
        seconds = self._address.lease
        pause = seconds / 3
        while not lease.over.wait(pause):
            began = _now()
            try:
                lease.lock.extend(seconds, replace_ttl=True)
            except LockNotOwnedError:
                lease.lost = lease.lost or self._outlived()
                return
            except RedisError as error:
                if _now() >= lease.until:
                    lease.lost = f"{self._explain(error)} until the lease of {seconds:g} s had run out"
                    return
                pause = seconds / 10
            else:
                lease.until = began + seconds
                pause = seconds / 3

    def _leave(self, lease: _Lease) -> str:
        """Give *lease* back; why that could not be."""
        lease.lock.local.token = lease.token.encode()  # Ctrl-C may have come before redis-py had it there
        try:
            if not self._run(_CLEAR, lease.token):
                return self._outlived()
            lease.lock.release()
        except LockNotOwnedError:
            return self._outlived()
        with contextlib.suppress(RedisError):
            pipe = self._open().pipeline()
            pipe.lpush(self._queue, 1)
            pipe.ltrim(self._queue, 0, 0)
            pipe.pexpire(self._queue, _KEPT_MS)
            pipe.execute()
        return ""

    def _wait(self) -> None:
        """Until it is given back, or may have run out."""
        with self._asking():
            left = self._open().pttl(self._keys[0])
            if left != -2:  # it is there; -1: for ever
                look = min(_LOOK_S, self._patience() / 2)
                self._open().blpop([self._queue], timeout=min(look, (left + 1) / 1000) if left >= 0 else look)

    def _sign(self, owner: int | None) -> str:
        pid = os.getpid()
        who = {"pid": pid, "host": socket.gethostname(), "owner": owner}
        return json.dumps(who | {"since": time.time(), "command": _who.command_of(pid)})

    # The server.

    def _patience(self) -> float:
        """Seconds that it has to answer: an extension that fails should leave time for another one."""
        return max(_LEAST_ANSWER_S, min(_ANSWER_S, self._address.lease / 3))

    def _open(self) -> Any:
        if self._client is None:
            patience = self._patience()
            self._client = redis.Redis.from_url(
                self._address.url,
                socket_timeout=patience,
                socket_connect_timeout=patience,
                retry=Retry(NoBackoff(), 0),  # a command whose answer was lost must not be sent again
            )
            self._closing = weakref.finalize(self, self._client.close)
        return self._client

    def _run(self, script: str, *arguments: str) -> Any:
        return self._open().eval(script, len(self._keys), *self._keys, *arguments)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except RedisError as error:
            raise LockError(f"{self.place.describe()}: {self._explain(error)}", lock=self.place.shown) from error

    def _explain(self, error: RedisError) -> str:
        said = str(error).rstrip(".")
        if isinstance(error, AuthenticationError):
            return f"Redis at {self._address.server} refuses the user or the password ({said})"
        if isinstance(error, redis.ConnectionError | redis.TimeoutError):
            return f"Redis at {self._address.server} does not answer ({said})"
        return f"Redis at {self._address.server} cannot do it ({said})"

    def _outlived(self) -> str:
        return f"its lease of {self._address.lease:g} s has run out, or its key was removed"

    def _lost(self, why: str) -> LockLost:
        return LockLost(
            f"{self.place.describe()} was lost: {why}; others may have held it since, fence numbers tell who came later",
            lock=self.place.shown,
            fence=self.fence,
        )
