"""From the bytes of a client to its requests, by httptools, which is llhttp, the parser of Node.js.  Does no I/O.

Imported late: httptools comes with the extra ``wsgi``.  What it leaves to its caller is here: how large a head may be, that
pipelined requests stay apart, and that a request which offers to change the protocol has a body like any other.
"""

from __future__ import annotations

from collections import deque

import httptools

from ._requests import Limits, Refusal, Request, judge

__all__ = ["Parser"]


class Parser:
    """All that one client says.

    Attributes:
        requests: those whose head is whole, or which are refused, oldest first; of all but the newest the body is there too.
    """

    def __init__(self, limits: Limits) -> None:
        self.requests: deque[Request] = deque()
        self._limits = limits
        self._newest: Request | None = None  # whose end has not come
        self._over = False  # nothing is understood any more: what came was wrong, or was to be the last
        self._unread = 0  # bytes that came since the head began, or since the last piece of the body
        self._resumes = False  # the head that comes now is one of ours
        self._skips = False  # nobody wants the body of the newest
        self._engine: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)

    def is_amid(self) -> bool:
        """Whether a request has begun whose head is not whole, or that is skipped."""
        return self._newest is not None and (self._skips or not self._newest.headed)

    def is_over(self) -> bool:
        """Whether no more requests will come of this client."""
        return self._over

    def feed(self, data: bytes) -> None:
        """Take in what the client has sent."""
        while data and not self._over:
            assert self._engine is not None
            self._unread += len(data)
            try:
                self._engine.feed_data(data)
                break
            except httptools.HttpParserUpgrade as pause:
                # The library takes what follows for another protocol.  It is not: that begins when the server agrees.
                data = data[pause.args[0] :]
                self._resume()
            except httptools.HttpParserInvalidMethodError:
                self._refuse(501, "the method of the request is not known")
            except httptools.HttpParserError as error:
                self._refuse(400, f"the request is not valid HTTP/1.1: {error}")
        if self._unread > self._limits.head and self._newest is not None and not self._over:
            if self._newest.headed:
                self._refuse(400, f"more than {self._limits.head} bytes of the body's framing stand in a row")
            else:
                self._refuse(431, f"the head of the request is larger than {self._limits.head} bytes")
        if self._over:
            self._engine = None  # it refers to us, and we to it

    def skip(self) -> None:
        """Drop what comes of the body of the newest request."""
        self._skips = True

    def end(self) -> None:
        """The client will send nothing any more."""
        if self._newest is not None:
            part = "body" if self._newest.headed else "head"
            self._refuse(400, f"the connection ended in the middle of the request's {part}")
        self._over = True
        self._engine = None

    def abandon(self, status: int, reason: str) -> None:
        """The newest request is waited for no longer."""
        self._refuse(status, reason)
        self._engine = None

    def _refuse(self, status: int, reason: str) -> None:
        if self._over:
            return  # what comes after a last request is nothing
        request = self._newest
        if request is None or not request.headed:
            request = request or Request()
            self.requests.append(request)
        request.headed = True
        request.refusal = request.refusal or Refusal(status, reason)
        self._newest = None
        self._over = True

    def _resume(self) -> None:
        """Begin anew, with the body of the newest request if it has one."""
        request = self._newest
        self._engine = httptools.HttpRequestParser(self)
        if request is not None:
            framing = b"Transfer-Encoding: chunked" if request.chunked else b"Content-Length: %d" % request.length
            self._resumes = True
            self._engine.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
            self._resumes = False

    # What the library calls.

    def on_message_begin(self) -> None:
        if not self._resumes and not self._over:
            self._newest = Request()

    def on_url(self, piece: bytes) -> None:
        request = self._newest
        if request is not None and not request.headed:
            request.target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._newest
        if request is None or request.headed:
            return  # a trailer: nobody asked for it
        request.fields.append((name, value.strip(b" \t")))
        request.size += len(name) + len(value) + 4

    def on_headers_complete(self) -> None:
        request, engine = self._newest, self._engine
        if request is None or engine is None or request.headed:
            return
        request.headed = True
        request.method = engine.get_method().decode("ascii")
        request.version = engine.get_http_version()
        request.keep_alive = engine.should_keep_alive()
        request.size += len(request.method) + len(request.target) + len(" HTTP/1.1\r\n ")
        self._unread = 0
        self.requests.append(request)
        request.refusal = judge(request, self._limits)
        if request.refusal is not None:
            self._newest = None
            self._over = True

    def on_body(self, piece: bytes) -> None:
        request = self._newest
        if request is None or self._over:
            return
        self._unread = 0
        request.received += len(piece)
        most = self._limits.body
        if most is not None and request.received > most:
            self._refuse(413, f"the body of a request may have {most} bytes")
        elif not self._skips:
            request.pieces.append(piece)

    def on_message_complete(self) -> None:
        request, engine = self._newest, self._engine
        if request is None or engine is None or self._over:
            return
        if engine.should_upgrade() and request.has_body():
            return  # the body comes yet: see `_resume`
        request.complete = True
        self._newest = None
        self._skips = False
        self._unread = 0
        self._over = not request.keep_alive
