"""The status address: what a server is doing, told by a process of its own that only reads the board.

``/`` (or ``/status``) is for people, ``/status.json`` for programs, ``/metrics`` for Prometheus.  Nothing can be changed here.
HTTP is `http.server`'s, on seats of ours.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import re
import socket
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BufferedReader
from typing import Any, cast

from forkful.errors import EngineUnavailable

from . import _status_page
from ._facts import Facts

__all__ = ["Status", "is_loopback", "is_trusted"]

log = logging.getLogger("forkful.server")

IO_TIMEOUT = 5.0
"""Seconds that a client has to send its request, and to take the answer."""

_PORT = re.compile(r":[0-9]*\Z")

# Other pages that a browser shows can neither read this one, nor put it into a frame, nor take it for a script.
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Status:
    """Serves a connection to the status address.

    Args:
        facts: what is told.
        guarded: only those are answered that ask for an address of this machine, or for localhost.
    """

    def __init__(self, facts: Facts, *, guarded: bool) -> None:
        self.facts = facts
        self.guarded = guarded

    def __call__(self, conn: socket.socket, address: Any) -> None:
        """In a seat."""
        _Request(conn, address, cast("Any", self))  # where other handlers have a server, this one has us


def is_loopback(sock: socket.socket) -> bool:
    """Whether only programs of this machine reach a listening socket, by TCP."""
    if sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return False
    return ipaddress.ip_address(sock.getsockname()[0]).is_loopback


def is_trusted(host: str) -> bool:
    """Whether *host*, of a Host header, is an address or localhost.

    A browser that was lured here by a name, which its owner has made to mean this machine, sends that name: with it the owner's
    page could read what is told here (DNS rebinding).

    >>> is_trusted("127.0.0.1:9000"), is_trusted("[::1]"), is_trusted("rebound.example:9000")
    (True, True, False)
    """
    host = _PORT.sub("", host.strip())
    try:
        if host.startswith("[") and host.endswith("]"):
            ipaddress.IPv6Address(host[1:-1])
        elif host.lower() != "localhost":
            ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


class _Hurried(socket.SocketIO):
    """Reads that are over at the same time, however many there are: else a byte now and then would hold a seat for hours."""

    def __init__(self, conn: socket.socket) -> None:
        super().__init__(conn, "r")
        self._conn = conn
        self._due = time.monotonic() + IO_TIMEOUT

    def readinto(self, buffer: Any) -> int | None:
        left = self._due - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long")
        self._conn.settimeout(left)
        try:
            return super().readinto(buffer)
        finally:
            self._conn.settimeout(IO_TIMEOUT)  # for the answer


class _Request(BaseHTTPRequestHandler):
    """One request, one answer (HTTP/1.0)."""

    server: Any  # a Status
    server_version, sys_version = "forkful", ""
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = BufferedReader(_Hurried(self.connection))

    def log_message(self, format: str, *args: Any) -> None:  # as it is in the base
        log.debug("status: %s", format % args)

    def end_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if self.command not in {"GET", "HEAD"}:
            self._answer(HTTPStatus.METHOD_NOT_ALLOWED, "nothing can be changed here\n", allow="GET, HEAD")
            return False
        return True

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if self.server.guarded and not all(map(is_trusted, self.headers.get_all("Host", []))):
            self._answer(HTTPStatus.FORBIDDEN, "ask for this page by the machine's address, or as localhost\n")
        elif path in {"/", "/status"}:
            self._answer(HTTPStatus.OK, _status_page.render(self.server.facts.all()), "text/html; charset=utf-8")
        elif path == "/status.json":
            text = json.dumps(self.server.facts.all(), indent=1)
            self._answer(HTTPStatus.OK, f"{text}\n", "application/json")
        elif path == "/metrics":
            self._answer_metrics()
        else:
            self._answer(HTTPStatus.NOT_FOUND, "there are /, /status.json and /metrics\n")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer_metrics(self) -> None:
        try:
            content_type, text = _expose(self.server.facts)
        except EngineUnavailable as error:
            self._answer(HTTPStatus.NOT_IMPLEMENTED, f"{error}\n")
        else:
            self._answer(HTTPStatus.OK, text, content_type)

    def _answer(
        self, status: HTTPStatus, text: str, content_type: str = "text/plain; charset=utf-8", allow: str = ""
    ) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if allow:
            self.send_header("Allow", allow)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _expose(facts: Facts) -> tuple[str, str]:
    """The type and the text of `/metrics`.

    Raises:
        EngineUnavailable: prometheus_client is not installed.
    """
    try:
        from . import _metrics
    except ImportError as missing:
        raise EngineUnavailable(
            f'/metrics needs prometheus-client ({missing}); install it with: pip install "forkful[metrics]"'
        ) from missing
    return _metrics.CONTENT_TYPE, _metrics.expose(facts.all()).decode()
