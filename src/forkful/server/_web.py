"""A WSGI application as what is done with connections: HTTP/1.1, and nobody who has not asked yet holds a seat."""

from __future__ import annotations

import logging
import socket
import ssl
import sys
import time
from typing import TYPE_CHECKING

from ._http import Exchange, Phase, Service
from ._listeners import Listener
from ._parking import Parking, Verdict, Waits
from ._seats import Client, Seats
from ._source import Source
from ._tls import HandshakeError, Trouble, begin, go_on
from ._trades import Secure, Trade

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._access import Line
    from ._requests import Limits
    from ._worker import Desk

__all__ = ["Web"]

log = logging.getLogger("forkful.server")
access = logging.getLogger("forkful.access")

MOMENT = 0.005
"""Seconds that a seat waits for a request before it parks the connection: most clients send theirs at once."""
TURN = 0.05
"""Seconds that a client may be served for without a pause, while others wait to be accepted."""
CHUNK = 65536


class _Handshake:
    """Where a connection stands that has not agreed on TLS."""

    __slots__ = ("deadline",)

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline


class Web(Trade):
    """A WSGI application.

    Args:
        source: where it is.
        secure: TLS, if it is wanted.
        limits: how much of a request is taken in.
        script_name: the path it is at.
        line: makes lines of the access log; None: there is none.
        head_timeout: seconds until the head of a request is there, and the handshake of TLS done.
        keepalive: seconds that a connection may stay without a request.
        io_timeout: seconds that a single read of a body, or write of a response, may take.
    """

    def __init__(
        self,
        source: Source,
        *,
        secure: Secure | None,
        limits: Limits,
        script_name: str,
        line: Line | None,
        threads: bool,
        processes: bool,
        head_timeout: float,
        keepalive: float,
        io_timeout: float | None,
    ) -> None:
        super().__init__(source, secure)
        self._limits, self._script_name, self._line = limits, script_name, line
        self._threads, self._processes = threads, processes
        self._io_timeout = io_timeout
        self._seconds = {Waits.HEAD: head_timeout, Waits.NEXT: keepalive, Waits.END: limits.linger}
        self._head_timeout = head_timeout
        self._name, self._port = "localhost", 0
        self._service: Service | None = None

    def prepare(self, listener: Listener) -> None:
        super().prepare(listener)
        address = listener.address
        if address.kind == "tcp":
            self._name, self._port = address.host or socket.gethostname(), address.port
        self._make_service(_not_loaded)  # what cannot be is said before there are workers

    def load(self) -> None:
        super().load()
        if self._line is not None:
            _have_lines_written()
        self._service = self._make_service(self.source.load())

    def open_parking(self, seats: Seats) -> Parking:
        def expire(client: Client, waits: Waits) -> Verdict:
            if isinstance(client.talk, _Handshake):
                log.info("%s: %s", client, Trouble.SLOW)
                return Verdict.CLOSE
            if waits is not Waits.HEAD:
                return Verdict.CLOSE
            client.talk.expire()
            return _judge(client.talk)

        return Parking(hear, seats.hand, seats.forget, expire, self._seconds)

    def serve(self, client: Client, desk: Desk) -> None:
        try:
            if not isinstance(client.talk, Exchange) and not self._greet(client, desk):
                return
            self._converse(client, client.talk, desk)
        except OSError as error:
            log.info("%s: the client has gone: %s", client, error)
            client.conn.close()

    def _make_service(self, app: Callable[..., object]) -> Service:
        return Service(
            app,  # type: ignore[arg-type]  # whether it is one shows when it is called
            name=self._name,
            port=self._port,
            scheme="http" if self._secure is None else "https",
            script_name=self._script_name,
            threads=self._threads,
            processes=self._processes,
            limits=self._limits,
        )

    def _greet(self, client: Client, desk: Desk) -> bool:
        """Make a new connection ready to listen to; False if it was closed, or put aside because its client is slow."""
        assert self._service is not None, "loaded before it serves"
        if self._context is not None and not self._agree(client, self._context, desk):
            return False
        client.talk = Exchange(self._service, client.address)
        return True

    def _agree(self, client: Client, context: ssl.SSLContext, desk: Desk) -> bool:
        """On TLS; what the client has to say to that it may say while it is parked."""
        try:
            patience = 0.0
            if client.talk is None:
                client.conn = begin(client.conn, context)
                client.talk = _Handshake(time.monotonic() + self._head_timeout)
                patience = MOMENT
            assert isinstance(client.conn, ssl.SSLSocket), "begun above, or when it was first here"
            if go_on(client.conn, patience):
                return True
        except HandshakeError as error:
            log.info("%s: %s", client, error)
            return False
        if client.talk.deadline <= time.monotonic():
            log.info("%s: %s", client, Trouble.SLOW)
            client.conn.close()
        else:
            desk.park(client, Waits.HEAD)
        return False

    def _converse(self, client: Client, exchange: Exchange, desk: Desk) -> None:
        """Answer requests as long as they come without a pause; then park the connection, or close it."""
        conn = client.conn
        waits = Waits.HEAD
        patience = MOMENT
        turn_ends = time.monotonic() + TURN
        while True:
            if time.monotonic() >= turn_ends and waits is Waits.NEXT:
                turn_ends += TURN
                if desk.others_wait or desk.others_are_queued:
                    if exchange.phase is Phase.READY:
                        desk.requeue(client)
                        return
                    patience = 0.0
            match exchange.phase:
                case Phase.READY:
                    conn.settimeout(self._io_timeout)
                    desk.begin(str(client))
                    answered = exchange.run(conn, keep=lambda: not desk.is_leaving)
                    desk.end(failed=answered.status >= 500 or not answered.status)
                    if self._line is not None:
                        access.info("%s", self._line(answered))
                    if exchange.lingers:
                        desk.park(client, Waits.END)
                        return
                    waits = Waits.NEXT
                    patience = 0.0 if desk.others_wait else MOMENT
                case Phase.OVER:
                    conn.close()
                    return
                case phase:
                    if patience == 0.0:
                        desk.park(client, Waits.HEAD if phase is Phase.HEAD else waits)
                        return
                    conn.settimeout(patience)
                    patience = 0.0
                    try:
                        exchange.receive(conn.recv(CHUNK))
                    except TimeoutError:
                        pass


def _have_lines_written() -> None:
    """Unless the program has its own way with the access log: to standard output."""
    if access.level == logging.NOTSET:
        access.setLevel(logging.INFO)
    if not access.hasHandlers():
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        access.addHandler(handler)


def hear(client: Client) -> Verdict:
    """Take in what a parked connection has sent."""
    if isinstance(client.talk, _Handshake):
        return Verdict.SERVE
    exchange: Exchange = client.talk
    while True:
        try:
            data = client.conn.recv(CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return Verdict.WAIT
        except OSError:
            data = b""
        if exchange.lingers:
            if not data:
                return Verdict.CLOSE
            continue
        exchange.receive(data)
        verdict = _judge(exchange)
        if verdict is not Verdict.WAIT or not data:
            return verdict


def _judge(exchange: Exchange) -> Verdict:
    match exchange.phase:
        case Phase.READY:
            return Verdict.SERVE
        case Phase.OVER:
            return Verdict.CLOSE
        case Phase.HEAD:
            return Verdict.BEGUN
        case _:
            return Verdict.WAIT


def _not_loaded(*_arguments: object) -> object:
    raise RuntimeError("an application is called before it is loaded")
