"""Sessions of PostgreSQL.  Each is used by one thread at a time, and none is asked anything without a limit."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import weakref
from typing import Any, Final

import psycopg
from psycopg.pq import ExecStatus

from . import _server
from ._server import Wake, hear

SLICE_S: Final = 1.0  # so long at a time a session waits for a lock: see README.md

# For libpq; the URL may say otherwise.  Together: a server that vanishes is missed after half a minute.
_CONNECTION: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": "30000",
}
# For the session, from its first moment: a role's time-outs are for its work, and would end our set-up too.
_SETTINGS: Final = {
    "statement_timeout": "0",
    "lock_timeout": f"{SLICE_S * 1000:.0f}",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
    "tcp_user_timeout": "30000",
}
# And as far as the server knows them: nothing but TCP ends an idle holder, and a client that vanishes is missed as soon; the
# system's own two hours would be long for those who wait.
_LATER: Final = "{transaction_timeout,idle_session_timeout}"
_SET: Final = b"""
    SELECT pg_backend_pid(), count(set_config(s.name, '0', false))
    FROM unnest($1::text[]) AS wanted(name) JOIN pg_settings AS s ON s.name = wanted.name
"""
_MOST_IDLE: Final = 4
_NAME_BYTES: Final = 63  # of a session that the server keeps


class PoolerError(Exception):
    """What answers is not the server itself."""


class NoAnswer(psycopg.OperationalError):
    """The server has not answered in time."""


class Session:
    """A connection to the server."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._reading = threading.Lock()  # libpq's own state; held for moments
        _sessions.add(self)

    def ask(self, query: bytes, name: str, seconds: float, wake: Wake | None = None) -> list[str | None]:
        """The first row of the answer to *query*, whose ``$1`` is *name*; empty if there is none.

        When *wake* is given the query is cancelled.

        Raises:
            psycopg.Error: the server refuses, or has ended the session, or was silent for so many *seconds*.
        """
        pgconn = self._connection.pgconn
        until = time.monotonic() + seconds
        pgconn.send_query_params(query, [name.encode()])
        result = None
        while True:
            while pgconn.flush() or pgconn.is_busy():
                if not hear(pgconn.socket, wake, until - time.monotonic()):
                    if wake is None or not wake.is_given:
                        raise NoAnswer("no answer in time")
                    wake, until = None, time.monotonic() + _server.ANSWER_S
                    self._connection.cancel_safe(timeout=_server.ANSWER_S)
                pgconn.consume_input()
            following = pgconn.get_result()
            if following is None:
                break
            result = following
        if result is None or result.status != ExecStatus.TUPLES_OK:
            raise psycopg.OperationalError("no answer") if result is None else psycopg.errors.error_from_result(result)
        if not result.ntuples:
            return []
        values = [result.get_value(0, column) for column in range(result.nfields)]
        return [None if value is None else value.decode() for value in values]

    def fileno(self) -> int:
        """For `hear`: what the server says unasked."""
        return self._connection.pgconn.socket

    def has_ended(self) -> bool:
        """Whether the server has ended it, as far as it has told us."""
        with self._reading:
            pgconn = self._connection.pgconn
            try:
                while hear(pgconn.socket, None, 0):
                    pgconn.consume_input()  # a farewell, and then the end, which is an error
            except psycopg.OperationalError:
                return True
            return self._connection.closed

    def close(self) -> None:
        """The end, also of what it has locked."""
        self._connection.close()

    def disown(self) -> None:
        """In a forked child: the session is the parent's.

        libpq says goodbye to the server when it lets go of a connection, which would end the session: it says so to nobody.
        """
        if not self._connection.closed:
            nobody = os.open(os.devnull, os.O_RDWR)
            with contextlib.suppress(psycopg.Error):
                os.dup2(nobody, self._connection.pgconn.socket, inheritable=False)
            os.close(nobody)
        self._connection.close()


class Database:
    """One database, and the sessions there that this process has and does not use: the next lock has one of them."""

    def __init__(self, told: dict[str, Any]) -> None:
        options = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
        theirs = told.get("options", os.environ.get("PGOPTIONS", ""))
        self._parameters = {
            **_CONNECTION,
            **told,
            "options": f"{theirs} {options}".strip(),
            "client_encoding": "utf8",
        }
        self._idle: list[Session] = []
        weakref.finalize(self, _close_all, self._idle)

    def connect(self) -> Session:
        """A session that waits for nothing but locks.

        Raises:
            PoolerError: it would be a pooler's, which may give each transaction to another session: locks would stay with
                any of them.  The server names its process when a connection begins, for requests to cancel.  A pooler, which
                has to tell such requests of many clients apart, names one that it has made up.
            psycopg.Error: the server cannot be reached, or refuses.
        """
        try:
            connection = psycopg.connect(
                **{**self._parameters, "application_name": label_of(os.getpid())},
                autocommit=True,
                prepare_threshold=None,
            )
        except psycopg.Error as error:
            if "unsupported startup parameter" in str(error):  # the server has none
                raise PoolerError from error
            raise
        session = Session(connection)
        try:
            row = session.ask(_SET, _LATER, _server.ANSWER_S)
            if row[0] != str(connection.info.backend_pid):
                raise PoolerError
        except BaseException:
            session.close()
            raise
        return session

    def take(self) -> Session:
        """A session that is idle, or else a new one; as `connect`."""
        while self._idle:
            session = self._idle.pop()
            if not session.has_ended():
                return session
            session.close()
        return self.connect()

    def leave(self, session: Session) -> None:
        """It has no lock, and the next may have it."""
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(session)
        else:
            session.close()

    def server(self) -> str:
        """For messages."""
        hosts = str(self._parameters.get("host") or os.environ.get("PGHOST", "the local socket")).split(",")
        ports = str(self._parameters.get("port") or os.environ.get("PGPORT", "")).split(",")
        shown = (
            f"{f'[{host}]' if ':' in host else host}:{ports[min(at, len(ports) - 1)] or 5432}"
            for at, host in enumerate(hosts)
        )
        return ", ".join(shown)


def _close_all(idle: list[Session]) -> None:
    while idle:
        idle.pop().close()


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()
_databases: weakref.WeakValueDictionary[tuple[tuple[str, str], ...], Database] = weakref.WeakValueDictionary()


def open_database(told: dict[str, Any]) -> Database:
    """What libpq was *told*: one for all locks that say the same."""
    key = tuple(sorted((name, str(value)) for name, value in told.items()))
    database = _databases.get(key)
    if database is None:
        database = _databases[key] = Database(told)
    return database


def _disown() -> None:
    for session in list(_sessions):
        session.disown()
    for database in list(_databases.values()):
        database._idle.clear()


os.register_at_fork(after_in_child=_disown)


def label_of(pid: int) -> str:
    """What the session of our process *pid* is called, for whoever looks into ``pg_stat_activity``."""
    return f"forkful {pid}@{socket.gethostname()}"[:_NAME_BYTES]


def one_line(error: Exception) -> str:
    """What an error says."""
    return " ".join(str(error).split())
