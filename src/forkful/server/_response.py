"""What goes back to a client: the head of a response, and its body as RFC 9112 §6 frames it, in as few sends as there can be.

The application's side of it is PEP 3333: ``start_response`` and ``write``.  Nothing is sent before the first byte of the body
is known, so that until then an error can still be told.
"""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Callable
from email.utils import formatdate
from http.client import responses
from types import TracebackType
from typing import Any, Final, TypeAlias

from ._headers import check_headers, check_status
from ._requests import Request

__all__ = ["ClientGone", "Response", "send_all"]

ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

_JOINED: Final = 65536  # a body up to so many bytes goes into one send with its head


class ClientGone(ConnectionError):
    """The client takes no more, or has nothing more to say."""


def send_all(conn: socket.socket, data: bytes) -> None:
    """Send it.  The connection's time-out is for each part that the client takes, not for the whole.

    Raises:
        ClientGone: it takes no more.
    """
    try:
        sent = conn.send(data)
        if sent == len(data):
            return
        with memoryview(data) as view:
            while sent < len(data):
                sent += conn.send(view[sent:])
    except TimeoutError as error:
        raise ClientGone("the client reads nothing") from error
    except OSError as error:
        raise ClientGone(f"the client has gone: {error}") from error


_dated = (0, "")


def _date(now: int) -> str:
    """The line for the second *now*.  Threads may both make it; what they keep is whole."""
    global _dated
    second, line = _dated
    if second != now:
        line = f"Date: {formatdate(now, usegmt=True)}\r\n"
        _dated = now, line
    return line


class Response:
    """One response.

    Args:
        request: what is answered.
        keep: whether the connection may go on; asked as the head is made.

    Attributes:
        status: its number; 0 before there is one.
        begun: its head is on its way, and cannot be changed.
        sent: bytes of the body.
        closes: the connection ends with this response.
        gone: the client takes no more.
    """

    def __init__(self, conn: socket.socket, request: Request, keep: Callable[[], bool]) -> None:
        self.status = 0
        self.begun = False
        self.sent = 0
        self.closes = False
        self.gone = False
        self._conn, self._request, self._keep = conn, request, keep
        self._line = ""
        self._headers: list[tuple[str, str]] = []
        self._length: int | None = None
        self._chunks = False
        self._bodiless = request.method == "HEAD"

    # For the application.

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None, /
    ) -> Callable[[bytes], None]:
        """``start_response`` of PEP 3333.

        Raises:
            TypeError, ValueError: the status or a header cannot be sent; the message says which and why.
            RuntimeError: it was called before, and not to report an error.
        """
        if exc_info:
            try:
                if self.begun:
                    error = exc_info[1] or RuntimeError("start_response was called when the head had been sent")
                    raise error.with_traceback(exc_info[2])
            finally:
                exc_info = None  # it refers to this frame
        elif self._line:
            raise RuntimeError("start_response was called twice; a second time it takes exc_info")
        check_status(status)
        length = check_headers(headers)
        self._line, self._headers, self._length = status, headers, length
        self.status = int(status[:3])
        if self.status in {204, 304}:
            self._bodiless = True
        return self.write

    def write(self, data: bytes, /) -> None:
        """Send a part of the body, after the head if that has not been sent.

        Raises:
            ClientGone: the client takes no more.
            ValueError: that is more than Content-Length says.
        """
        if not isinstance(data, bytes):
            raise TypeError(f"a body is made of bytes, not {type(data).__name__}")
        if not data:
            return
        head = b"" if self.begun else self._begin()
        if self._bodiless:
            if head:
                self._send(head)
            return
        more = None if self._length is None else self._length - self.sent
        excess = more is not None and len(data) > more
        if excess:
            data = data[:more]
        self.sent += len(data)
        if self._chunks:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if head and len(data) > _JOINED:
            self._send(head)
            self._send(data)
        elif head or data:
            self._send(head + data)
        if excess:
            self.closes = True
            raise ValueError(f"the body is longer than its Content-Length, which is {self._length}")

    # For the server.

    def write_whole(self, body: bytes) -> None:
        """Send *body*, which is all there is, and end."""
        if self._length is None and not self.begun and self._request.method != "HEAD":
            self._length = len(body)
            if self._line and not self._bodiless:
                self._headers = [*self._headers, ("Content-Length", str(len(body)))]
        self.write(body)
        self.end()

    def write_file(self, file: Any) -> bool:
        """Send *file* from where it is by the kernel, at most Content-Length, if it is one on a disk; whether it is.

        Raises:
            ClientGone: the client takes no more.
        """
        try:
            status = os.fstat(file.fileno())
            offset = file.tell()
        except (AttributeError, OSError):
            return False
        size = status.st_size - offset
        if self.begun or not self._line or size <= 0 or not stat.S_ISREG(status.st_mode):
            return False
        if self._length is None:
            self._length = size
            if not self._bodiless:
                self._headers = [*self._headers, ("Content-Length", str(size))]
        self._send(self._begin())
        if not self._bodiless and self._length:
            try:
                self.sent += self._conn.sendfile(file, offset, min(size, self._length))
            except OSError as error:
                silent = isinstance(error, TimeoutError)
                raise ClientGone("the client reads nothing" if silent else f"the client has gone: {error}") from error
        return True

    def end(self) -> None:
        """There is no more of the body.

        Raises:
            ClientGone: the client takes no more.
            ValueError: that is less than Content-Length says.
        """
        if not self.begun:
            if self._length is None and self._line and not self._bodiless:
                self._headers = [*self._headers, ("Content-Length", "0")]
                self._length = 0
            if not self._length or self._bodiless:
                self._send(self._begin())
        elif self._chunks:
            self._send(b"0\r\n\r\n")
        if self._length is not None and self.sent < self._length and not self._bodiless:
            self.closes = True
            raise ValueError(f"the body has {self.sent} bytes, and its Content-Length is {self._length}")

    def answer(self, status: int, text: str) -> None:
        """Send a response of the server's own, which is the last one of the connection.

        Raises:
            ClientGone: the client takes no more.
        """
        self.closes = True
        line = f"{status} {responses.get(status, 'Error')}"
        body = f"{line}: {text}\n".encode("latin-1", "replace")
        self._line, self.status, self._length = line, status, len(body)
        self._headers = [("Content-Type", "text/plain; charset=latin-1"), ("Content-Length", str(len(body)))]
        self._bodiless = self._request.method == "HEAD"
        self.write(body)
        if not self.begun:
            self.end()

    def ends_by_close(self) -> bool:
        """Whether nothing but the end of the connection tells the end of the body."""
        return self.begun and self._length is None and not self._chunks and not self._bodiless

    def _send(self, data: bytes) -> None:
        try:
            send_all(self._conn, data)
        except ClientGone:
            self.closes = self.gone = True
            raise

    def _begin(self) -> bytes:
        if not self._line:
            raise RuntimeError("the application has not called start_response before its body")
        request = self._request
        modern = request.version != "1.0"
        if not self._bodiless and self._length is None:
            self._chunks = modern
            self.closes = self.closes or not modern
        self.closes = self.closes or not request.keep_alive or not self._keep()
        lines = ["HTTP/1.1 ", self._line, "\r\n"]
        own = {"date", "server"}
        for name, value in self._headers:
            if len(name) in {4, 6} and name.lower() in own:
                own.discard(name.lower())
            elif self.status == 204 and name.lower() == "content-length":
                continue  # RFC 9110 §8.6
            lines += name, ": ", value, "\r\n"
        if "server" in own:
            lines.append("Server: forkful\r\n")
        if "date" in own:
            lines.append(_date(int(time.time())))
        if self._chunks:
            lines.append("Transfer-Encoding: chunked\r\n")
        if self.closes:
            lines.append("Connection: close\r\n")
        elif not modern:
            lines.append("Connection: keep-alive\r\n")
        lines.append("\r\n")
        self.begun = True
        return "".join(lines).encode("latin-1")
