"""The body of a request, as a file that the application reads: bytes are taken from the client when it asks for them."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ._requests import Refusal, Request
from ._response import ClientGone, Response, send_all

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["BadBody", "Body", "open_body"]

CHUNK: Final = 65536


class BadBody(OSError):
    """The body of a request does not arrive as its head has said.  An `OSError`, as frameworks expect."""


class Body(io.RawIOBase):
    """What is left of a body.  Not buffered: see `open_body`."""

    def __init__(
        self, conn: socket.socket, receive: Callable[[bytes], None], request: Request, response: Response
    ) -> None:
        self._conn, self._give, self._request, self._response = conn, receive, request, response

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill *buffer* with what is there, or what comes next; 0 at the end.

        Raises:
            BadBody: it is not valid, too long, too slow or cut off; the request is refused, if it still can be.
        """
        request = self._request
        pieces = request.pieces
        while not pieces:
            if request.refusal is not None:
                raise BadBody(request.refusal.reason)
            if request.complete:
                return 0
            self._receive()
        piece = pieces.popleft()
        with memoryview(buffer) as view:
            room = len(view)
            if len(piece) > room:
                pieces.appendleft(piece[room:])
                piece = piece[:room]
            view[: len(piece)] = piece
        return len(piece)

    def _receive(self) -> None:
        request = self._request
        try:
            if request.expects and not request.received and not self._response.begun:
                send_all(self._conn, b"HTTP/1.1 100 Continue\r\n\r\n")
            request.expects = False
            data = self._conn.recv(CHUNK)
        except TimeoutError as error:
            request.refusal = Refusal(408, "the rest of the request's body did not come in time")
            raise BadBody(request.refusal.reason) from error
        except ClientGone:
            raise
        except OSError as error:
            raise ClientGone(f"the client has gone in the middle of its request: {error}") from error
        self._give(data)


def open_body(
    conn: socket.socket, receive: Callable[[bytes], None], request: Request, response: Response
) -> io.BufferedIOBase:
    """``wsgi.input`` for *request*; *receive* takes in what comes from the client."""
    if request.complete:
        return io.BytesIO(b"".join(request.pieces))
    return io.BufferedReader(Body(conn, receive, request, response), CHUNK)
