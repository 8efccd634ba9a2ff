"""A request as HTTP/1.1 frames it, and what is refused of those that the parser lets pass.  Pure.

The parser (`_parser`) sees to the grammar: characters, line ends, chunks, lengths that contradict each other.  Here is what
takes the whole head to judge: RFC 9112 §2.3 (versions), §3.2 (target and Host), §6.1 (transfer codings), RFC 9110 §10.1.1
(Expect).  Whoever could be understood in two ways is refused, never guessed at.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["Limits", "Refusal", "Request", "judge"]

# What a Host may be made of, beside its port: RFC 3986 §3.2.2 without the characters that have a meaning in lists.
_HOST: Final = re.compile(rb"[A-Za-z0-9._~%!$&'()*+;=:\[\]-]*")
_ABSOLUTE: Final = re.compile(rb"https?://[^/?]", re.IGNORECASE)


class Refusal(NamedTuple):
    """Why a request is answered by the server itself."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a request is taken in.

    Attributes:
        head: bytes of the request line and all header fields; also of what may stand between two pieces of a body.
        fields: header fields.
        body: bytes of the body as the application sees it; None: as many as come.
        linger: seconds that a connection is still read from after an answer that its client may not be waiting for
            (RFC 9112 §9.6), so that the answer arrives.
    """

    head: int = 65536
    fields: int = 100
    body: int | None = None
    linger: float = 1.0


class Request:
    """What a client asks for.  The parser fills it in; *pieces* of the body are taken from it as they are read."""

    __slots__ = (
        "chunked",
        "complete",
        "expects",
        "fields",
        "headed",
        "keep_alive",
        "length",
        "method",
        "pieces",
        "received",
        "refusal",
        "size",
        "target",
        "version",
    )

    def __init__(self) -> None:
        self.method = ""
        self.target = b""
        self.version = ""
        self.fields: list[tuple[bytes, bytes]] = []
        self.size = 0  # of the head, nearly
        self.headed = False  # the head is whole
        self.keep_alive = False
        self.expects = False  # the client waits for "100 Continue" before it sends the body
        self.length = 0  # what Content-Length says
        self.chunked = False
        self.pieces: deque[bytes] = deque()
        self.received = 0  # bytes of the body
        self.complete = False  # so is the body
        self.refusal: Refusal | None = None

    def values(self, name: bytes) -> list[bytes]:
        """Of the fields of that name, in lower case."""
        return [value for field, value in self.fields if field.lower() == name]

    def has_body(self) -> bool:
        return self.chunked or self.length > 0


def judge(request: Request, limits: Limits) -> Refusal | None:
    """Fill in what follows from the header fields of *request*; the reason not to serve it, if there is one."""
    hosts: list[bytes] = []
    codings: list[bytes] = []
    expectation = b""
    for name, value in request.fields:
        length = len(name)  # most names are told apart by it
        if length == 4 and name.lower() == b"host":
            hosts.append(value)
        elif length == 14 and name.lower() == b"content-length":
            request.length = int(value)
        elif length == 17 and name.lower() == b"transfer-encoding":
            codings.append(value.lower())
        elif length == 6 and name.lower() == b"expect":
            expectation = value.lower()
    request.chunked = bool(codings)
    modern = request.version == "1.1"
    if not modern and request.version != "1.0":
        return Refusal(505, "the server speaks HTTP/1.1 and HTTP/1.0")
    if request.size > limits.head:
        return Refusal(431, f"the head of the request is larger than {limits.head} bytes")
    if len(request.fields) > limits.fields:
        return Refusal(431, f"the request has more than {limits.fields} header fields")
    if codings and not modern:
        return Refusal(400, "HTTP/1.0 has no Transfer-Encoding")
    if codings and codings != [b"chunked"]:
        return Refusal(501, "the only Transfer-Encoding that is understood is chunked")
    if len(hosts) > 1 or (modern and not hosts):
        return Refusal(400, "a request has one Host")
    if hosts and not _HOST.fullmatch(hosts[0]):
        return Refusal(400, "the Host is not the name of a host")
    if refusal := _judge_target(request.method, request.target):
        return refusal
    if modern and expectation:
        if expectation != b"100-continue":
            return Refusal(417, "the only expectation that is understood is 100-continue")
        request.expects = True
    if limits.body is not None and request.length > limits.body:
        return Refusal(413, f"the body of a request may have {limits.body} bytes")
    return None


def _judge_target(method: str, target: bytes) -> Refusal | None:
    if method == "CONNECT":
        return Refusal(501, "the server is not a proxy")
    if b"#" in target:
        return Refusal(400, "a request target has no fragment")
    if target.startswith(b"/") or _ABSOLUTE.match(target) or (target == b"*" and method == "OPTIONS"):
        return None
    return Refusal(400, "the request target is neither a path nor an http URL")
