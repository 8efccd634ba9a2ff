"""Connections to a Redis server.  Each is used by one thread at a time, and whatever ends an exchange but an answer ends it.

A connection on which an answer is still to come would give it to whoever asks next; so it is closed, by Ctrl-C too.
"""

from __future__ import annotations

import os
import ssl
import uuid
import weakref
from collections.abc import Sequence
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, InvalidResponse, RedisError, ResponseError
from redis.retry import Retry

from ._server import Wake, hear

_OURS: Final = {
    "protocol": 2,  # nothing that was not asked for comes in between
    "retry": Retry(NoBackoff(), 0),  # `Line.run` knows better what may be sent again
}


class Client:
    """What this process has of one server: connections, which whoever is through with one leaves to the next."""

    def __init__(self, url: str, server: str, patience: float) -> None:
        self.server = server  # for messages
        # Also: there is no such file of certificates.
        self._no_tls = (ssl.SSLError, FileNotFoundError) if url.startswith("rediss") else ssl.SSLError
        self.patience = patience  # seconds that it has to answer
        self._pool = redis.ConnectionPool.from_url(
            url, **{"socket_timeout": patience, "socket_connect_timeout": patience, **_OURS}
        )
        self._pool.max_connections = 2**31  # each lock that is held or waited for needs its own
        self._pool.connection_class(**self._pool.connection_kwargs)  # which knows what options there are
        weakref.finalize(self, self._pool.disconnect)

    def connect(self) -> Any:
        """A connection, of which `leave` or `drop` is the end."""
        return self._pool.get_connection()

    def leave(self, connection: Any) -> None:
        """The next may have it."""
        self._pool.release(connection)

    def drop(self, connection: Any) -> None:
        """Nobody may."""
        connection.disconnect()
        self._pool.release(connection)

    def explain(self, error: RedisError) -> str:
        """In words."""
        said = " ".join(str(error).split()).rstrip(".")
        at = f"Redis at {self.server}"
        if isinstance(error, AuthenticationError) or "authenticat" in said:  # Redis has several words for it
            return f"{at} refuses the user or the password ({said})"
        if isinstance(error.__cause__ or error.__context__, self._no_tls):
            return f"{at} cannot be spoken to by TLS ({said})"
        if isinstance(error, redis.ConnectionError | redis.TimeoutError):
            return f"{at} does not answer ({said})"
        return f"{at} cannot do it ({said})"


_clients: weakref.WeakValueDictionary[tuple[str, float], Client] = weakref.WeakValueDictionary()


def open_client(url: str, server: str, patience: float) -> Client:
    """The client for *url*, one for all locks that say the same.

    Raises:
        RedisError, TypeError, ValueError: options that cannot be.
    """
    client = _clients.get((url, patience))
    if client is None:
        client = _clients[url, patience] = Client(url, server, patience)
    return client


os.register_at_fork(after_in_child=_clients.clear)


class Line:
    """The connection that one thread speaks by, had when it is needed; keys and all are those of one lock."""

    def __init__(self, client: Client, keys: Sequence[bytes]) -> None:
        self._client = client
        self._keys = keys
        self._connection: Any = None
        self.was_sent = False  # the newest script may have been carried out, even if there was no answer

    def run(self, script: str, *words: bytes | int, wake: Wake | None = None) -> list[Any]:
        """The answer to *script*, without its nonce.  It is sent once more if the connection was cut: all ours may be.

        Raises:
            RedisError: there is none, or *wake* was given before there was.
        """
        self.was_sent = False
        try:
            return self._exchange(script, words, wake)
        except redis.ConnectionError:
            if not self.was_sent:  # there is no connection to be had
                raise
        return self._exchange(script, words, wake)

    def _exchange(self, script: str, words: Sequence[bytes | int], wake: Wake | None) -> list[Any]:
        nonce = uuid.uuid4().bytes
        connection = self._open()
        try:
            self.was_sent = True
            connection.send_command(b"EVAL", script.encode(), len(self._keys), *self._keys, nonce, *words)
            self._hear(wake, self._client.patience)
            answer: list[Any] = connection.read_response(disable_decoding=True)
            if not isinstance(answer, list) or answer[0] != nonce:
                raise InvalidResponse("it has answered another question")
        except ResponseError:
            raise
        except BaseException:
            self.drop()
            raise
        return answer[1:]

    def wait(self, key: bytes, seconds: float, wake: Wake) -> None:
        """Until there is something in the list at *key*, which is taken out, or *wake* is given, or time is up."""
        connection = self._open()
        try:
            connection.send_command(b"BLPOP", key, f"{seconds:.3f}".encode())
            self._hear(wake, seconds + self._client.patience)
            connection.read_response(disable_decoding=True)
        except ResponseError:
            raise
        except BaseException:
            self.drop()  # and with it ends the wait, at the server too
            raise

    def watch(self, seconds: float | None, wake: Wake) -> None:
        """Wait so long, or until *wake* is given, or the server has ended the connection."""
        if hear(None if self._connection is None else self._connection._sock.fileno(), wake, seconds):
            self.drop()

    def _hear(self, wake: Wake | None, seconds: float) -> None:
        if not hear(self._connection._sock.fileno(), wake, seconds):
            raise redis.TimeoutError("no answer in time")

    def _open(self) -> Any:
        if self._connection is None:
            self._connection = self._client.connect()
        return self._connection

    def leave(self) -> None:
        """It is not needed for now."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._client.leave(connection)

    def drop(self) -> None:
        """It is of no use any more."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._client.drop(connection)

    def disown(self) -> None:
        """In a forked child: close its copy without a word to the server."""
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None
