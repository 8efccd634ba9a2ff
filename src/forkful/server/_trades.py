"""What is done with a connection.  `Raw`: a handler of the user's has it until it returns."""

from __future__ import annotations

import contextlib
import logging
import socket
import socketserver
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forkful.errors import ServerError

from ._closing import end_our_side, ending_copies
from ._listeners import Listener
from ._parking import Parking
from ._seats import Client, Seats
from ._source import Handler, Source

if TYPE_CHECKING:
    import ssl

    from ._worker import Desk

__all__ = ["Raw", "Secure", "StandIn", "Trade"]

log = logging.getLogger("forkful.server")


@dataclass(frozen=True, slots=True)
class Secure:
    """What `_tls.make_context` needs."""

    certfile: str
    keyfile: str | None = None
    password: str | None = None
    cafile: str | None = None

    def make_context(self) -> ssl.SSLContext:
        """Raises ServerError if the files do not serve."""
        from ._tls import make_context  # its 15 ms are for those who want TLS

        return make_context(
            self.certfile,
            self.keyfile,
            password=self.password,
            cafile=self.cafile,
            require_client=self.cafile is not None,
        )


class Trade:
    """How connections are served.  One object for all workers, which each of them loads after the fork."""

    def __init__(self, source: Source, secure: Secure | None = None) -> None:
        self.source = source
        self._secure = secure
        self._context: ssl.SSLContext | None = None

    def prepare(self, listener: Listener) -> None:  # for those that want to know it
        """In the master, once: see where connections will come from.

        Raises:
            ServerError, EngineUnavailable: something that is needed is not there.
        """
        if self._secure is not None:
            self._secure.make_context()  # each worker makes its own, so that a reload takes new certificates

    def secure(self, client: Client, timeout: float) -> bool:
        """In a seat: begin TLS, if that is wanted; whether the connection can be used."""
        if self._context is None:
            return True
        from ._tls import HandshakeError, handshake

        try:
            client.conn = handshake(client.conn, self._context, timeout)
        except HandshakeError as error:
            log.info("%s: %s", client, error)
            return False
        return True

    def load(self) -> None:
        """In a worker, once: import what is to be called.  Raises whatever that raises."""
        if self._secure is not None:
            self._context = self._secure.make_context()

    def open_parking(self, seats: Seats) -> Parking | None:  # for those that have one
        """In a worker, once: where connections are put aside; None if they never are."""
        return None

    def serve(self, client: Client, desk: Desk) -> None:
        """In a seat: serve a connection, and close it or put it aside.  Raises nothing."""
        raise NotImplementedError


class StandIn:
    """What a handler class of `socketserver` finds as its ``server``: what such a server tells, and nothing to steer."""

    def __init__(self, listener: Listener) -> None:
        self.socket = listener.socket
        self.address_family = listener.socket.family
        self.socket_type = listener.socket.type
        self.server_address = listener.socket.getsockname()
        self.RequestHandlerClass: Any = None
        if isinstance(self.server_address, tuple):  # as http.server has them
            self.server_name, self.server_port = self.server_address[:2]

    def fileno(self) -> int:
        """The listener's descriptor."""
        return self.socket.fileno()


class Raw(Trade):
    """``handler(conn, address)``, or a handler class of ``socketserver``."""

    def __init__(self, source: Source, secure: Secure | None, *, head_timeout: float, io_timeout: float | None) -> None:
        super().__init__(source, secure)
        self._head_timeout = head_timeout
        self._stand_in: StandIn | None = None
        self._io_timeout = io_timeout
        self._call: Handler = _not_loaded

    def prepare(self, listener: Listener) -> None:
        super().prepare(listener)
        self._stand_in = StandIn(listener)

    def load(self) -> None:
        super().load()
        found = self.source.load()
        if isinstance(found, type) and issubclass(found, socketserver.BaseRequestHandler):
            if issubclass(found, socketserver.DatagramRequestHandler):
                raise ServerError(f"{self.source} is a handler of datagrams, and the server has connections")
            server = self._stand_in
            assert server is not None, "prepared before it is loaded"
            server.RequestHandlerClass = found
            self._call = lambda conn, address: found(conn, address, server)  # type: ignore[arg-type]  # what handlers ask of one
        else:
            self._call = found

    def serve(self, client: Client, desk: Desk) -> None:
        if not self.secure(client, self._head_timeout):
            client.conn.close()
            return
        desk.begin(str(client))
        failed = True
        try:
            failed = self._serve(client.conn, client.address)
        finally:
            desk.end(failed=failed)

    def _serve(self, conn: socket.socket, address: Any) -> bool:
        """Whether it failed."""
        try:
            conn.settimeout(self._io_timeout)
            with ending_copies():
                self._call(conn, address)
        except ConnectionError as error:
            log.info("%s: the client has gone: %s", address, error)
            return True
        except TimeoutError:
            log.info("%s: the client was silent, or read nothing, for %g s", address, self._io_timeout or 0)
            return True
        except BaseException as error:  # also SystemExit: a handler ends its connection, not its worker
            log.error("the handler failed for %s", address, exc_info=error)  # as one line says, of any kind
            return True
        finally:
            _close(conn)
        return False


def _not_loaded(_conn: socket.socket, _address: Any) -> object:
    raise RuntimeError("a handler is called before it is loaded")


def _close(conn: socket.socket) -> None:
    """Close it so that what was sent arrives: the end of our side is told before the descriptor goes."""
    if conn.fileno() >= 0:  # it has not been given away
        end_our_side(conn)
    with contextlib.suppress(OSError):  # the handler has closed its descriptor
        conn.close()
