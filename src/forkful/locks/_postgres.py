"""A lock in PostgreSQL: an advisory lock of a session, which the server frees when the session ends, however it ends.

The key is ``hashtextextended(NAME, 0)``, so that ``SELECT pg_advisory_lock(hashtextextended('NAME', 0))`` contends for the
same lock; two names share one with a chance of 2**-64.  Who waits does so in the server's queue, a second at a time: for as
long, its statement keeps ``VACUUM`` from cleaning up and ``CREATE INDEX CONCURRENTLY`` from ending.

That the session was lost while the lock is held is noticed at once where the server, or its host, says so; where the network
is cut without a word, once TCP gives up: after half a minute, here and at the server.
"""

from __future__ import annotations

import re
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from .._core.processes import is_stopped
from ..errors import LockError
from . import _server, _who
from ._place import Place
from ._server import ServerLock, Wake, hear
from ._session import SLICE_S, NoAnswer, PoolerError, Session, label_of, one_line, open_database
from ._url import PostgresAddress

# The number of a transaction that begins under the lock: it grows in the whole cluster.  By `shared`.
_FENCE = "pg_current_xact_id()::text::bigint"
_KEY = "hashtextextended($1, 0)"
_SUFFIX = {False: "", True: "_shared"}
_TRY = {
    shared: f"SELECT CASE WHEN pg_try_advisory_lock{suffix}({_KEY}) THEN {_FENCE} END".encode()
    for shared, suffix in _SUFFIX.items()
}
_WAIT = {
    shared: f"SELECT CASE WHEN pg_advisory_lock{suffix}({_KEY}) IS NOT NULL THEN {_FENCE} END".encode()
    for shared, suffix in _SUFFIX.items()
}
_UNLOCK = {shared: f"SELECT pg_advisory_unlock{suffix}({_KEY})".encode() for shared, suffix in _SUFFIX.items()}
_HOLDER = f"""
    SELECT a.application_name, extract(epoch FROM a.state_change)::float8
    FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (l.classid::bigint << 32 | l.objid::bigint) = {_KEY}
    ORDER BY a.state_change LIMIT 1
""".encode()  # noqa: S608  # made of constants
_ENDED: Final = "its session has ended"


class PostgresLock(ServerLock):
    """The lock at *place*, as one process has it: a session of its own while it is held or waited for.

    ``recovered`` is None: a session leaves nothing behind that would tell how it ended.  A circle of waiters is not seen
    either, because each lock is another session.
    """

    def __init__(self, place: Place, address: PostgresAddress) -> None:
        super().__init__(place)
        self.recovered = None
        self._name = address.name
        try:
            told = conninfo_to_dict(address.url)
            int(told.get("connect_timeout") or 0)
        except (psycopg.ProgrammingError, ValueError) as error:
            detail = "" if "***" in place.shown else f" ({one_line(error)})"  # it may quote a piece of the password
            raise ValueError(f"{place.shown!r} is not a URL that libpq understands{detail}") from None
        self._database = open_database(told)
        self._session: Session | None = None
        self._is_lost = False
        self._held: bool | None = None  # None, or whether it is shared

    # By the porter.

    def ask(self, owner: int, *, shared: bool, wait: bool, wake: Wake) -> bool:
        """Take it for *owner* if it is free, or *wait* until it is or *wake* is given; whether it was had.

        Raises:
            LockError: the server cannot be reached, or refuses, or is not the server but a pooler.
        """
        was_cut = False
        while True:
            if self._session is None:
                self._session = self._connect()
            try:
                fence = self._ask_once(self._session, shared=shared, wait=wait, wake=wake)
            except psycopg.Error as error:
                is_cut = not isinstance(error, NoAnswer) and self._session.has_ended()
                self._end_session()
                if not is_cut or was_cut:
                    raise self._failed(error) from error
                was_cut = True  # the server may be well all the same
                continue
            except BaseException:
                self._end_session()
                raise
            if fence is not None:
                self.fence, self._held, self._is_lost = int(fence), shared, False
                return True
            if not wait or wake.is_given:
                self._leave_session()
                return False
            was_cut = False

    def _ask_once(self, session: Session, *, shared: bool, wait: bool, wake: Wake) -> str | None:
        if not wait:
            return session.ask(_TRY[shared], self._name, _server.ANSWER_S)[0]
        try:
            return session.ask(_WAIT[shared], self._name, SLICE_S + _server.ANSWER_S, wake)[0]
        except psycopg.errors.LockNotAvailable:  # a second has passed
            return None
        except psycopg.errors.QueryCanceled:
            if not wake.is_given:  # by somebody else
                raise
            return None

    def keep(self, wake: Wake) -> None:
        """Notice at once when the session ends, until *wake* is given."""
        while not wake.is_given:
            watched = None if self._session is None or self._is_lost else self._session.fileno()
            if hear(watched, wake, None) and self._session is not None:
                self._is_lost = self._session.has_ended()

    def give_back(self) -> None:
        """Let others have it.

        Raises:
            LockLost: the session has ended meanwhile, or the server says that it has not had the lock, or does not answer.
        """
        shared, self._held = self._held, None
        if shared is None:
            return
        if self._session is None:
            raise self._lost(_ENDED)
        try:
            row = self._session.ask(_UNLOCK[shared], self._name, _server.ANSWER_S)
        except psycopg.Error as error:
            self._end_session()  # and with it what it has
            why = "the server did not answer when it was to be given back" if isinstance(error, NoAnswer) else _ENDED
            raise self._lost(f"{why} ({one_line(error)})") from error
        except BaseException:
            self._end_session()
            raise
        if row != ["t"]:
            self._end_session()
            raise self._lost("the server says that its session has not had it")
        self._leave_session()

    # By anybody.

    def check(self) -> None:
        """Raise if the session is known to have ended.  Asks nobody: the server says so when it ends one.

        Raises:
            LockLost: others may have it.
        """
        if self._held is None:
            return
        if self._is_lost or self._session is None or self._session.has_ended():
            raise self._lost(_ENDED)

    def holder(self) -> _who.Holder | None:
        """Who holds it, by the server's list of sessions; of several readers, the one that has had it longest.

        The pid is 0 if the session is not ours; then the command is what it calls itself.  The time is known to the same
        user of the database only, and the command line on the same host only.

        Raises:
            LockError: the server cannot be reached, or refuses.
        """
        session = self._connect()
        try:
            row = session.ask(_HOLDER, self._name, _server.ANSWER_S)
        except BaseException as error:
            session.close()
            raise self._failed(error) if isinstance(error, psycopg.Error) else error from error
        self._database.leave(session)
        if not row:
            return None
        label, since = row[0] or "", None if row[1] is None else float(row[1])
        ours = re.fullmatch(r"forkful (\d+)@(.*)", label)
        if ours is None:
            return _who.Holder(0, "", None, since, label, stopped=False)
        pid, host = int(ours[1]), ours[2]
        if label != label_of(pid):
            return _who.Holder(pid, host, None, since, "", stopped=False)
        return _who.Holder(pid, host, None, since, _who.command_of(pid), is_stopped(pid))

    def disown(self) -> None:
        """In a forked child: the session is the parent's."""
        if self._session is not None:
            self._session.disown()
        self._session = self._held = None

    # The session.

    def _connect(self) -> Session:
        server = self._database.server()
        try:
            return self._database.take()
        except PoolerError as error:
            raise LockError(
                f"{self.place.describe()}: at {server} is not PostgreSQL but a pooler (pgbouncer?), behind which the locks of "
                f"a session are not kept; name the server itself",
                lock=self.place.shown,
            ) from error
        except psycopg.Error as error:
            raise self._failed(error, f"PostgreSQL at {server} cannot be reached, or refuses") from error

    def _leave_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._database.leave(session)

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _failed(self, error: psycopg.Error, what: str = "") -> LockError:
        said = "does not answer" if isinstance(error, NoAnswer) else "has ended the session, or refuses"
        what = what or f"PostgreSQL at {self._database.server()} {said}"
        return LockError(f"{self.place.describe()}: {what} ({one_line(error)})", lock=self.place.shown)
