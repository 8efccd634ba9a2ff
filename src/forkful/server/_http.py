"""One client's connection as HTTP/1.1 sees it.

::

    receive(data) ─▶ Parser ─▶ requests ─▶ run(conn, keep) ─▶ environ ─▶ application ─▶ Response ─▶ conn
                                              ▲    the body is read as the application asks │
                                              └──────────────── conn ◀──────────────────────┘

What leads to a request whose head is whole is pure, so that one thread can wait for many clients.  From there on it is one
thread with one client, as blocking as the application is.
"""

from __future__ import annotations

import logging
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import EngineUnavailable
from ._body import CHUNK, BadBody, open_body
from ._closing import end_our_side, ending_copies
from ._requests import Limits, Request
from ._response import ClientGone, Response
from ._wsgi import Application, FileWrapper, environ_of, run_application

if TYPE_CHECKING:
    from ._parser import Parser

__all__ = ["Answered", "Exchange", "Limits", "Phase", "Service"]

log = logging.getLogger("forkful.server")


class Phase(Enum):
    """For what a connection waits."""

    IDLE = auto()  # for a request; nothing of it has come
    HEAD = auto()  # for the rest of the head of a request, or of a body that is skipped before it
    READY = auto()  # for `Exchange.run`: there is a request, or something to refuse
    OVER = auto()  # for nothing: it is to be closed


class Answered(NamedTuple):
    """What is to be said of a request, by an access log for example.

    Attributes:
        client: the address as a text; empty for a Unix socket.
        method, target, version: as the client has sent them; empty where it was not understood.
        status: of the response; 0 if none was sent.
        sent: bytes of the response's body.
        received: bytes of the request's body.
        began: when, in seconds since 1970.
        seconds: from the whole head to the last byte.
        referer, agent: the header fields Referer and User-Agent.
        kept: the connection goes on.
        error: why the response is not what the application meant; empty if it is.
    """

    client: str
    method: str
    target: str
    version: str
    status: int
    sent: int
    received: int
    began: float
    seconds: float
    referer: str
    agent: str
    kept: bool
    error: str


@dataclass(frozen=True)
class Service:
    """An application, and what it is told of the server.  One object for all connections of a listener.

    Attributes:
        app: a WSGI application (PEP 3333).
        name, port: what it is told as SERVER_NAME and SERVER_PORT.
        scheme: ``http`` or ``https``.
        script_name: the path it is at; empty for all paths.
        threads, processes: whether it may be called by several at once.
        limits: how much of a request is taken in.

    Raises:
        EngineUnavailable: httptools is not installed.
        ValueError: *scheme* or *script_name* is none.
    """

    app: Application
    name: str = "localhost"
    port: int | str = ""
    scheme: str = "http"
    script_name: str = ""
    threads: bool = True
    processes: bool = True
    limits: Limits = field(default_factory=Limits)
    base: dict[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.scheme not in {"http", "https"}:
            raise ValueError(f"a scheme is http or https, not {self.scheme!r}")
        if self.script_name and (not self.script_name.startswith("/") or self.script_name.endswith("/")):
            raise ValueError(f"a script name begins with a slash and does not end with one: {self.script_name!r}")
        load_parser()
        base = {
            "SERVER_NAME": self.name,
            "SERVER_PORT": str(self.port),
            "SERVER_SOFTWARE": "forkful",
            "SCRIPT_NAME": self.script_name,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": self.scheme,
            "wsgi.multithread": self.threads,
            "wsgi.multiprocess": self.processes,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "wsgi.file_wrapper": FileWrapper,
        }
        if self.scheme == "https":
            base["HTTPS"] = "on"
        object.__setattr__(self, "base", base)


def load_parser() -> type[Parser]:
    """The class that needs httptools.

    Raises:
        EngineUnavailable: it is not installed.
    """
    try:
        from ._parser import Parser
    except ImportError as missing:
        raise EngineUnavailable(
            f'a server of WSGI applications needs httptools ({missing}); install it with: pip install "forkful[wsgi]"'
        ) from missing
    return Parser


class Exchange:
    """One client's connection.  For one thread at a time.

    Attributes:
        lingers: it is over, but its client may still be sending.  What comes is to be read for a while, and dropped: were
            the connection closed at once, the client's system would drop the answer (RFC 9112 §9.6).

    Args:
        service: what answers.
        client: the address that ``accept`` has told.

    Raises:
        EngineUnavailable: httptools is not installed.

    Example::

        exchange = Exchange(service, address)
        while exchange.phase is not Phase.OVER:
            if exchange.phase is Phase.READY:
                print(exchange.run(conn, keep=lambda: True))
            else:
                exchange.receive(conn.recv(65536))
        conn.close()
    """

    def __init__(self, service: Service, client: object) -> None:
        self._service = service
        self._client = client
        self._parser = load_parser()(service.limits)
        self._ended = False  # the client has shut down its side
        self._over = False
        self.lingers = False

    @property
    def phase(self) -> Phase:
        """For what the connection waits."""
        if self._over:
            return Phase.OVER
        parser = self._parser
        if parser.requests:
            return Phase.READY
        if parser.is_over():
            return Phase.OVER
        return Phase.HEAD if parser.is_amid() else Phase.IDLE

    def receive(self, data: bytes) -> None:
        """Take in what the client has sent; ``b""`` when it has shut down its side."""
        if data:
            self._parser.feed(data)
        else:
            self._ended = True
            self._parser.end()

    def expire(self) -> None:
        """Nothing is waited for any longer: a head that has begun is answered with 408, silence with nothing."""
        if self.phase is Phase.HEAD:
            self._parser.abandon(408, "the head of the request did not come in time")
        elif self.phase is Phase.IDLE:
            self._parser.end()

    def run(self, conn: socket.socket, *, keep: Callable[[], bool]) -> Answered:
        """Answer the oldest request.  In phase READY only.  Raises nothing that the application or the client causes.

        Args:
            conn: blocks, with a time-out, which is for each read of the body and each send.  When the connection is over it
                may block no longer.
            keep: asked just before the head of the response is made; False: the connection ends with it.
        """
        began, start = time.time(), time.perf_counter()
        request = self._parser.requests.popleft()
        response = Response(conn, request, lambda: self._may_go_on(request) and keep())
        error = ""
        try:
            error = self._serve(conn, request, response)
        except ClientGone as gone:
            error = str(gone)
            response.closes = response.gone = True
        seconds = time.perf_counter() - start
        kept = self._finish(conn, request, response, failed=bool(error))
        referer = agent = ""
        for name, value in request.fields:
            if len(name) == 7 and name.lower() == b"referer":
                referer = value.decode("latin-1")
            elif len(name) == 10 and name.lower() == b"user-agent":
                agent = value.decode("latin-1")
        client = self._client
        return Answered(
            str(client[0]) if isinstance(client, tuple) else "",
            request.method,
            request.target.decode("latin-1"),
            request.version,
            response.status if response.begun else 0,
            response.sent,
            request.received,
            began,
            seconds,
            referer,
            agent,
            kept,
            error,
        )

    def _may_go_on(self, request: Request) -> bool:
        """Whether there may be another request, as far as the client goes."""
        if request.complete:
            return not self._ended or bool(self._parser.requests)
        return not request.expects  # it may send the body after all, or the next request: nobody could tell

    def _serve(self, conn: socket.socket, request: Request, response: Response) -> str:
        """Have the application answer; what went wrong, in words."""
        service = self._service
        if request.refusal is not None:
            response.answer(*request.refusal)
            return request.refusal.reason
        environ = environ_of(request, service.base, service.script_name, self._client)
        if environ is None:
            response.answer(404, f"the application is at {service.script_name}")
            return ""
        body = open_body(conn, self.receive, request, response)
        try:
            with ending_copies():
                run_application(service.app, environ, body, response)
        except ClientGone:
            raise
        except BaseException as error:  # also SystemExit: an application ends its request, not its worker
            response.closes = True
            if isinstance(error, BadBody) and request.refusal is not None:
                if not response.begun:
                    response.answer(*request.refusal)
                return request.refusal.reason
            what = f"{type(error).__name__}: {error}"
            log.error("the application failed at %s %r", request.method, request.target, exc_info=error)
            if not response.begun:
                response.answer(500, "the application failed; the server's log says why")
            return what
        return ""

    def _finish(self, conn: socket.socket, request: Request, response: Response, *, failed: bool) -> bool:
        """Leave the connection as the next request needs it; whether there can be one."""
        going = not response.closes and request.refusal is None
        if going and not request.complete:
            going = not request.chunked and request.length - request.received <= CHUNK
            if going:
                self._parser.skip()
        if going:
            return self.phase is not Phase.OVER
        self._over = True
        parser = self._parser
        read_all = request.complete and request.refusal is None and not parser.requests
        parser.end()
        if failed and response.ends_by_close():
            _reset(conn)
        elif not (response.gone or self._ended):
            end_our_side(conn)
            self.lingers = _has_unread(conn) or not read_all
        return False


def _has_unread(conn: socket.socket) -> bool:
    """Whether the client has sent something that nobody has read."""
    try:
        conn.settimeout(0)
        return bool(conn.recv(CHUNK))
    except (OSError, ValueError):
        return False  # nothing is there, or the client has gone


def _reset(conn: socket.socket) -> None:
    """Have the close be a reset: the client is to see that what it got is not all."""
    try:
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass  # it has gone
