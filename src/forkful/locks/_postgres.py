"""A lock in PostgreSQL: an advisory lock of a session, which the server frees when the session ends, however it ends.

The key is ``hashtextextended(NAME, 0)``, so that ``SELECT pg_advisory_lock(hashtextextended('NAME', 0))`` contends for the
same lock; two names share one with a chance of 2**-64.  Who waits does so in the server's queue.

That the session was lost while the lock is held is noticed at `PostgresLock.check` and at the release; where the network is
cut without a word, once TCP gives up: after half a minute, here and at the server.
"""

from __future__ import annotations

import os
import re
import select
import socket
import weakref
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from .._core.processes import is_stopped
from ..errors import LockError, LockLost
from . import _who
from ._place import Place
from ._url import PostgresAddress

# For libpq; the URL may say otherwise.  Together: a server that vanishes is missed after half a minute.
_CONNECTION: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": "30000",
}
# For the session, as far as the server knows them: nothing but TCP ends a wait or an idle holder, and a client that vanishes
# is missed as soon; the system's own two hours would be long for those who wait.
_SESSION: Final = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "transaction_timeout": "0",
    "idle_session_timeout": "0",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
    "tcp_user_timeout": "30000",
}
_SET = """
    SELECT count(set_config(s.name, wanted.setting, false))
    FROM unnest(%s::text[], %s::text[]) AS wanted(name, setting) JOIN pg_settings AS s ON s.name = wanted.name
"""
# The number of a transaction that begins under the lock: it grows in the whole cluster.  By `shared`.
_FENCE = "pg_current_xact_id()::text::bigint"
_KEY = "hashtextextended(%s, 0)"
_SUFFIX = {False: "", True: "_shared"}
_TRY = {
    shared: f"SELECT CASE WHEN pg_try_advisory_lock{suffix}({_KEY}) THEN {_FENCE} END"
    for shared, suffix in _SUFFIX.items()
}
_WAIT = {
    shared: f"SELECT CASE WHEN pg_advisory_lock{suffix}({_KEY}) IS NOT NULL THEN {_FENCE} END"
    for shared, suffix in _SUFFIX.items()
}
_UNLOCK = {shared: f"SELECT pg_advisory_unlock{suffix}({_KEY})" for shared, suffix in _SUFFIX.items()}
_HOLDER = f"""
    SELECT a.application_name, extract(epoch FROM a.state_change)::float8
    FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (l.classid::bigint << 32 | l.objid::bigint) = {_KEY}
    ORDER BY a.state_change LIMIT 1
"""  # noqa: S608  # made of constants
_NAME_BYTES: Final = 63  # of a session that the server keeps


class PostgresLock:
    """The lock at *place*, as one process has it: a session of its own, kept from its first use to the end of the object.

    ``recovered`` is None: a session leaves nothing behind that would tell how it ended.  A circle of waiters is not seen
    either, because each lock is another session.
    """

    is_patient = False

    def __init__(self, place: Place, address: PostgresAddress) -> None:
        self._connection: psycopg.Connection[Any] | None = None
        self._closing: weakref.finalize[..., PostgresLock] | None = None  # as this lock goes
        self.place = place
        self.fence: int | None = None
        self.recovered: bool | None = None
        self._name = address.name
        try:
            told = conninfo_to_dict(address.url)
        except psycopg.ProgrammingError as error:
            detail = "" if "***" in place.shown else f" ({str(error).strip()})"  # it may quote a piece of the password
            raise ValueError(f"{place.shown!r} is not a URL that libpq understands{detail}") from None
        self._parameters: dict[str, Any] = {**_CONNECTION, **told}
        self._held = False  # somebody was told that they have it
        self._shared = False

    # What a door asks for.

    def is_wanted(self) -> bool:
        """Never known; who asks at the server is behind those who wait there."""
        return False

    def take_now(self, owner: int, *, shared: bool = False) -> bool:
        """Take it for *owner* if it is free.

        Raises:
            LockError: the server cannot be reached, or refuses, or is not the server but a pooler.
        """
        fence = self._ask(_TRY[shared])
        if fence is None:
            return False
        self.fence = fence
        self.note(owner, shared=shared)
        return True

    def take(self, *, shared: bool = False) -> None:
        """Wait until it is had.

        Raises:
            LockError: as `take_now`, and when the session ends during the wait.
        """
        try:
            self.fence = self._ask(_WAIT[shared])
        except BaseException:
            self.close()
            raise

    def note(self, owner: int, *, shared: bool = False) -> None:
        """It was had."""
        self._held, self._shared = True, shared

    def give_back(self) -> None:
        """Let others have it.

        Raises:
            LockLost: the session has ended meanwhile, or the server says that it has not had the lock.
        """
        held, self._held = self._held, False
        if not held:  # nobody was told, or Ctrl-C came in the middle of this: with the session ends what it may have
            self.close()
            return
        if self._connection is None:
            raise self._lost("its session has ended")
        try:
            row = self._connection.execute(_UNLOCK[self._shared], [self._name]).fetchone()
        except psycopg.Error as error:
            self.close()
            raise self._lost(f"its session has ended ({_one_line(error)})") from error
        if row != (True,):
            self.close()
            raise self._lost("the server says that its session has not had it")

    def check(self) -> None:
        """Raise if the session is known to have ended.  Asks nobody: the server says so when it ends one.

        Raises:
            LockLost: others may have it.
        """
        if self._held and (self._connection is None or _has_ended(self._connection)):
            self.close()
            raise self._lost("its session has ended")

    def enlist(self, owner: int) -> None:
        """The server notes who waits."""

    def delist(self, listed: None) -> None:
        """As `enlist`."""

    def renounce(self) -> None:
        """Nobody gives way to a waiter here."""

    def check_deadlock(self, owner: int, *, blocks: bool) -> None:
        """Not seen."""

    def holder(self) -> _who.Holder | None:
        """Who holds it, by the server's list of sessions; of several readers, the one that has had it longest.

        The pid is 0 if the session is not ours; then the command is what it calls itself.  The time is known to the same
        user of the database only, and the command line on the same host only.

        Raises:
            LockError: the server cannot be reached, or refuses.
        """
        connection = self._connect()
        try:
            row = connection.execute(_HOLDER, [self._name]).fetchone()
        except psycopg.Error as error:
            raise self._failed(error) from error
        finally:
            connection.close()
        if row is None:
            return None
        label, since = row
        ours = re.fullmatch(r"forkful (\d+)@(.*)", label or "")
        if ours is None:
            return _who.Holder(0, "", None, since, label or "", stopped=False)
        pid, host = int(ours[1]), ours[2]
        if label != _label(pid):
            return _who.Holder(pid, host, None, since, "", stopped=False)
        return _who.Holder(pid, host, None, since, _who.command_of(pid), is_stopped(pid))

    def disown(self) -> None:
        """In a forked child: the session is the parent's.

        libpq says goodbye to the server when it lets go of a connection, which would end the session: it says so to nobody.
        """
        self._held = False
        if self._connection is not None and not self._connection.closed:
            nobody = os.open(os.devnull, os.O_RDWR)
            os.dup2(nobody, self._connection.pgconn.socket, inheritable=False)
            os.close(nobody)
        self.close()

    def close(self) -> None:
        """End the session; if the lock is held, it is given back by that."""
        self._connection = None
        if self._closing is not None:
            self._closing()

    # The session.

    def _ask(self, query: str) -> int | None:
        if self._connection is not None and _has_ended(self._connection):
            self.close()
        if self._connection is None:
            self._connection = self._connect()
            self._closing = weakref.finalize(self, self._connection.close)
        try:
            row = self._connection.execute(query, [self._name]).fetchone()
        except psycopg.Error as error:
            self.close()
            raise self._failed(error) from error
        assert row is not None
        fence: int | None = row[0]
        return fence

    def _connect(self) -> psycopg.Connection[Any]:
        try:
            connection = psycopg.connect(
                **{**self._parameters, "application_name": _label(os.getpid())}, autocommit=True, prepare_threshold=None
            )
        except psycopg.Error as error:
            raise self._failed(error, f"PostgreSQL at {self._server()} cannot be reached, or refuses") from error
        try:
            self._insist_on_session(connection)
            connection.execute(_SET, [list(_SESSION), list(_SESSION.values())])
        except psycopg.Error as error:
            connection.close()
            raise self._failed(error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _insist_on_session(self, connection: psycopg.Connection[Any]) -> None:
        """Refuse a pooler, which may give each transaction to another session: locks would stay with any of them.

        The server names its process when a connection begins, for requests to cancel.  A pooler, which has to tell such
        requests of many clients apart, names one that it has made up.
        """
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        if row != (connection.info.backend_pid,):
            raise LockError(
                f"{self.place.describe()}: at {self._server()} is not PostgreSQL but a pooler (pgbouncer?), behind which "
                f"the locks of a session are not kept; name the server itself",
                lock=self.place.shown,
            )

    def _server(self) -> str:
        hosts = str(self._parameters.get("host") or os.environ.get("PGHOST", "the local socket")).split(",")
        ports = str(self._parameters.get("port") or os.environ.get("PGPORT", "5432")).split(",")
        return ", ".join(f"{host}:{ports[min(at, len(ports) - 1)]}" for at, host in enumerate(hosts))

    def _failed(self, error: psycopg.Error, what: str = "") -> LockError:
        what = what or f"PostgreSQL at {self._server()} has ended the session, or refuses"
        return LockError(f"{self.place.describe()}: {what} ({_one_line(error)})", lock=self.place.shown)

    def _lost(self, why: str) -> LockLost:
        return LockLost(
            f"{self.place.describe()} was lost: {why}; others may have held it since, fence numbers tell who came later",
            lock=self.place.shown,
            fence=self.fence,
        )


def _has_ended(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server has ended the session, as far as it has told us."""
    poll = select.poll()
    try:
        poll.register(connection.pgconn.socket, select.POLLIN)
        while poll.poll(0):
            connection.pgconn.consume_input()  # a farewell, and then the end, which is an error
    except psycopg.OperationalError:
        return True
    return connection.closed


def _label(pid: int) -> str:
    """What the session of our process *pid* is called, for whoever looks into ``pg_stat_activity``."""
    return f"forkful {pid}@{socket.gethostname()}"[:_NAME_BYTES]


def _one_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())
