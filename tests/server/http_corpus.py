"""Requests as clients send them, and as they should not: what each is, its bytes, and what becomes of it."""

from __future__ import annotations

from typing import NamedTuple

HOST = b"Host: a\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
NEXT_SEEN = ("GET", "/next", "", b"")


class Good(NamedTuple):
    what: str
    sent: bytes
    seen: list[tuple[str, str, str, bytes]]  # method, path, query and body of each request


class Bad(NamedTuple):
    what: str
    sent: bytes
    status: int  # of the last response


def get(more: bytes = b"", line: bytes = b"GET / HTTP/1.1\r\n", host: bytes = HOST) -> bytes:
    return line + host + more + b"\r\n"


def post(more: bytes, body: bytes) -> bytes:
    return b"POST /p HTTP/1.1\r\n" + HOST + more + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return post(CHUNKED, body)


def length(value: bytes, body: bytes = b"hello") -> bytes:
    return post(b"Content-Length:" + value + b"\r\n", body)


def coding(value: bytes) -> bytes:
    return post(b"Transfer-Encoding:" + value + b"\r\n", b"5\r\nhello\r\n0\r\n\r\n")


ROOT = ("GET", "/", "", b"")
HELLO = ("POST", "/p", "", b"hello")

GOOD = [
    Good("plain", get(), [ROOT]),
    Good("ten fields", get(b"".join(b"X-%d: v%d\r\n" % (i, i) for i in range(10))), [ROOT]),
    Good("empty lines first", b"\r\n\r\n" + get(), [ROOT]),
    Good("a length", length(b" 5"), [HELLO]),
    Good("a length of 0", length(b" 0", b""), [("POST", "/p", "", b"")]),
    Good("chunks", chunked(b"5\r\nhello\r\n3\r\nabc\r\n0\r\n\r\n"), [("POST", "/p", "", b"helloabc")]),
    Good("chunk extensions", chunked(b'5;a=b;c="d"\r\nhello\r\n0\r\n\r\n'), [HELLO]),
    Good("trailers", chunked(b"5\r\nhello\r\n0\r\nX-T: 1\r\nHost: b\r\n\r\n"), [HELLO]),
    Good("trailers, then another", chunked(b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n") + NEXT, [HELLO, NEXT_SEEN]),
    Good("a chunk size with zeros", chunked(b"0005\r\nhello\r\n0\r\n\r\n"), [HELLO]),
    Good("Chunked", coding(b" Chunked"), [HELLO]),
    Good("three at once", get() + length(b" 5") + NEXT, [ROOT, HELLO, NEXT_SEEN]),
    Good("after chunks", coding(b" chunked") + NEXT, [HELLO, NEXT_SEEN]),
    Good("a URL", get(line=b"GET http://b:1/x%20y?z HTTP/1.1\r\n"), [("GET", "/x y", "z", b"")]),
    Good("a URL without a path", get(line=b"GET http://b?z HTTP/1.1\r\n"), [("GET", "/", "z", b"")]),
    Good("two slashes", get(line=b"GET //b/c HTTP/1.1\r\n"), [("GET", "//b/c", "", b"")]),
    Good("percent", get(line=b"GET /%C3%A9%2f%zz?%41 HTTP/1.1\r\n"), [("GET", "/\xc3\xa9/%zz", "%41", b"")]),
    Good("the server itself", get(line=b"OPTIONS * HTTP/1.1\r\n"), [("OPTIONS", "", "", b"")]),
    Good("HTTP/1.0 without a host", b"GET / HTTP/1.0\r\n\r\n", [ROOT]),
    Good("HTTP/1.0, kept", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + NEXT, [ROOT, NEXT_SEEN]),
    Good("the last", get(b"Connection: close\r\n") + NEXT, [ROOT]),
    Good("a value in Latin-1", get(b"X: caf\xe9\r\n"), [ROOT]),
    Good("no value", get(b"X:\r\nY: \r\n"), [ROOT]),
    Good("space around a value", get(b"X:\t v\t \r\n"), [ROOT]),
    Good("no name of a host", get(host=b"Host:\r\n"), [ROOT]),
    Good("a host by number", get(host=b"Host: [::1]:80\r\n"), [ROOT]),
    Good(
        "another protocol offered, with a body",
        post(b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n", b"hello") + NEXT,
        [HELLO, NEXT_SEEN],
    ),
    Good(
        "another protocol offered, with chunks",
        post(b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + CHUNKED, b"5\r\nhello\r\n0\r\n\r\n") + NEXT,
        [HELLO, NEXT_SEEN],
    ),
    Good("another protocol offered", get(b"Connection: Upgrade\r\nUpgrade: websocket\r\n") + NEXT, [ROOT, NEXT_SEEN]),
]

BAD = [
    Bad("a length and chunks", post(b"Content-Length: 6\r\n" + CHUNKED, b"0\r\n\r\nG"), 400),
    Bad("chunks and a length", post(CHUNKED + b"Content-Length: 4\r\n", b"5\r\nhello\r\n0\r\n\r\n"), 400),
    Bad("two lengths", post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!"), 400),
    Bad("a length twice", post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"), 400),
    Bad("a list of lengths", length(b" 5, 5"), 400),
    Bad("length +5", length(b" +5"), 400),
    Bad("length -1", length(b" -1"), 400),
    Bad("length 0x5", length(b" 0x5"), 400),
    Bad("length 5_0", length(b" 5_0", b"hello" * 10), 400),
    Bad("no length", length(b""), 400),
    Bad("length 5 0", length(b" 5 0"), 400),
    Bad("length 2**64 + 5", length(b" 18446744073709551621"), 400),
    Bad("length in other digits", length(b" \xd9\xa5"), 400),
    Bad("length ²", length(b" \xb2", b"he"), 400),
    Bad("coding xchunked", coding(b" xchunked"), 501),
    Bad("coding identity", post(b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n", b"hello"), 400),
    Bad("coding chunked, identity", coding(b" chunked, identity"), 400),
    Bad("chunked twice", coding(b" chunked, chunked"), 400),
    Bad("chunked in two fields", coding(b" chunked\r\nTransfer-Encoding: chunked"), 400),
    Bad("x, then chunked in another field", coding(b" x\r\nTransfer-Encoding: chunked"), 501),
    Bad("coding gzip, chunked", coding(b" gzip, chunked"), 501),
    Bad("coding with a vertical tab", coding(b" \x0bchunked"), 400),
    Bad("coding with a hard space", coding(b" chunked\xa0"), 501),
    Bad("coding in quotes", coding(b' "chunked"'), 501),
    Bad("coding with a parameter", coding(b" chunked;q=1"), 501),
    Bad("no coding", post(b"Transfer-Encoding:\r\nContent-Length: 5\r\n", b"hello"), 400),
    Bad("space before the colon of a coding", post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"), 400),
    Bad("chunks in HTTP/1.0", b"POST /p HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n", 400),
    Bad("a folded value", get(b"X: a\r\n b\r\n"), 400),
    Bad("a folded coding", coding(b"\r\n chunked"), 400),
    Bad("a first line that goes on", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    Bad("lines end with LF", b"GET / HTTP/1.1\nHost: a\n\n", 400),
    Bad("a field ends with LF", get(b"X: a\nContent-Length: 5\r\n") + b"hello", 400),
    Bad("the head ends with LF", b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    Bad("CR in a value", get(b"X: a\rContent-Length: 5\r\n"), 400),
    Bad("lines end with CR", b"GET / HTTP/1.1\rHost: a\r\r\r\n\r\n", 400),
    Bad("CR CR LF", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400),
    Bad("NUL in a value", get(b"X: a\0b\r\n"), 400),
    Bad("NUL in a name", get(b"X\0: b\r\n"), 400),
    Bad("NUL in the target", get(line=b"GET /\0 HTTP/1.1\r\n"), 400),
    Bad("a control character in the target", get(line=b"GET /\x7f HTTP/1.1\r\n"), 400),
    Bad("UTF-8 in the target", get(line=b"GET /\xc3\xa9 HTTP/1.1\r\n"), 400),
    Bad("a space in the target", get(line=b"GET /a b HTTP/1.1\r\n"), 400),
    Bad("a space after the version", get(line=b"GET / HTTP/1.1 \r\n"), 400),
    Bad("a space before the colon", get(b"X : y\r\n"), 400),
    Bad("no name", get(b": y\r\n"), 400),
    Bad("no colon", get(b"abc\r\n"), 400),
    Bad("a name in brackets", get(b"X(a): y\r\n"), 400),
    Bad("a name in Latin-1", get(b"X\xe9: y\r\n"), 400),
    Bad("a control character in a value", get(b"X: a\x01b\r\n"), 400),
    Bad("no host", get(host=b""), 400),
    Bad("two hosts", get(b"Host: b\r\n"), 400),
    Bad("a host twice", get(b"Host: a\r\n"), 400),
    Bad("two hosts in HTTP/1.0", get(b"Host: b\r\n", line=b"GET / HTTP/1.0\r\n"), 400),
    Bad("a host with a path", get(host=b"Host: a/b\r\n"), 400),
    Bad("a host with a user", get(host=b"Host: x@a\r\n"), 400),
    Bad("a list of hosts", get(host=b"Host: a, b\r\n"), 400),
    Bad("no version", b"GET /\r\n\r\n", 505),
    Bad("HTTP/0.9", get(line=b"GET / HTTP/0.9\r\n"), 505),
    Bad("HTTP/1.2", get(line=b"GET / HTTP/1.2\r\n"), 400),
    Bad("HTTP/2.0", get(line=b"GET / HTTP/2.0\r\n"), 505),
    Bad("http/1.1", get(line=b"GET / http/1.1\r\n"), 400),
    Bad("HTTP/2 from the beginning", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    Bad("TLS", bytes.fromhex("16030100a1010000a1") + b"\r\n\r\n", 501),
    Bad("a method in brackets", get(line=b"G(T / HTTP/1.1\r\n"), 501),
    Bad("an unknown method", get(line=b"BREW / HTTP/1.1\r\n"), 501),
    Bad("a tunnel", get(line=b"CONNECT a:1 HTTP/1.1\r\n"), 501),
    Bad("a fragment", get(line=b"GET /#f HTTP/1.1\r\n"), 400),
    Bad("a URL of another kind", get(line=b"GET ftp://a/ HTTP/1.1\r\n"), 400),
    Bad("a target without a slash", get(line=b"GET foo HTTP/1.1\r\n"), 400),
    Bad("* for GET", get(line=b"GET * HTTP/1.1\r\n"), 400),
    Bad("an unknown expectation", post(b"Expect: 200-ok\r\nContent-Length: 5\r\n", b"hello"), 417),
    Bad("a chunk of 2**64 + 5", chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), 400),
    Bad("a chunk of 0x5", chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), 400),
    Bad("a chunk of -5", chunked(b"-5\r\nhello\r\n0\r\n\r\n"), 400),
    Bad("a chunk of +5", chunked(b"+5\r\nhello\r\n0\r\n\r\n"), 400),
    Bad("a chunk of 0_5", chunked(b"0_5\r\nhello\r\n0\r\n\r\n"), 400),
    Bad("a space before a chunk size", chunked(b" 5\r\nhello\r\n0\r\n\r\n"), 400),
    Bad("no chunk size", chunked(b"\r\nhello\r\n0\r\n\r\n"), 400),
    Bad("an extension without a size", chunked(b";a\r\nhello\r\n0\r\n\r\n"), 400),
    Bad("chunks with LF", chunked(b"5\nhello\n0\n\n"), 400),
    Bad("LF after a chunk size", chunked(b"5\nhello\r\n0\r\n\r\n"), 400),
    Bad("LF after a chunk", chunked(b"5\r\nhello\n0\r\n\r\n"), 400),
    Bad("a chunk is longer than it says", chunked(b"5\r\nhelloX\r\n0\r\n\r\n"), 400),
    Bad("nothing after a chunk", chunked(b"5\r\nhello0\r\n\r\n"), 400),
    Bad("CR in an extension", chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), 400),
    Bad("LF in an extension", chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), 400),
    Bad("NUL in an extension", chunked(b"5;a\0b\r\nhello\r\n0\r\n\r\n"), 400),
    Bad("LF after the last chunk", chunked(b"5\r\nhello\r\n0\n\r\n"), 400),
    Bad("LF after a trailer", chunked(b"5\r\nhello\r\n0\r\nX: 1\n\r\n"), 400),
    Bad("a trailer without a colon", chunked(b"5\r\nhello\r\n0\r\nX\r\n\r\n"), 400),
    Bad("LF after the trailers", chunked(b"5\r\nhello\r\n0\r\n\n"), 400),
    Bad("a folded trailer", chunked(b"5\r\nhello\r\n0\r\nX: 1\r\n y\r\n\r\n"), 400),
    Bad("more than the length", length(b" 5", b"helloXX\r\n\r\n"), 501),
    Bad("half a body", length(b" 9"), 400),
    Bad("half the chunks", chunked(b"5\r\nhello\r\n"), 400),
    Bad("half a head", b"GET / HTTP/1.1\r\nHost: a\r\n", 400),
    Bad("half a first line", b"GE", 400),
]
