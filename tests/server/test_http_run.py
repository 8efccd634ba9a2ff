"""A connection with two ends: clients that wait, that are slow, that go, and that send what nobody reads."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from forkful.server._http import Limits

from .http_corpus import CHUNKED, get, length, post
from .http_support import START, Talk, ask, split, talk, tcp

EXPECT = b"Expect: 100-continue\r\n"


def echo(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", START)
    return iter(lambda: environ["wsgi.input"].read(10_000), b"")


def silent(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", START)
    return [b"unread"]


class Served:
    """What serves a connection in a thread of its own, until it is over."""

    def __init__(self, connection: Talk) -> None:
        self._thread = threading.Thread(target=connection.serve)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def serve() -> Iterator[Callable[[Talk], Served]]:
    running: list[Served] = []

    def start(connection: Talk) -> Served:
        running.append(Served(connection))
        return running[-1]

    yield start
    for served in running:
        served.join()


def test_who_expects_it_is_told_to_go_on(serve: Callable[[Talk], Served]) -> None:
    with talk(echo) as connection:
        served = serve(connection)
        connection.send(post(EXPECT + b"Content-Length: 5\r\n", b""), end=False)
        assert connection.client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(b"hello")
        assert split(connection.everything())[0].body == b"hello"
        served.join()


def test_who_has_begun_with_the_body_is_not_told() -> None:
    with talk(echo) as connection:
        connection.receive(post(EXPECT + b"Content-Length: 5\r\n", b"he"))
        connection.send(b"llo")
        connection.serve()
        data = connection.everything()
    assert data.startswith(b"HTTP/1.1 200 ")
    assert split(data)[0].body == b"hello"


def test_who_does_not_wait_for_it_is_not_told() -> None:
    for head in EXPECT + b"Content-Length: 5\r\n", EXPECT + CHUNKED:
        body = b"hello" if head.endswith(b"5\r\n") else b"5\r\nhello\r\n0\r\n\r\n"
        (got,) = ask(echo, b"", first=post(head, body))
        assert (got.status, got.body) == (200, b"hello")


def test_who_expects_it_in_vain_is_sent_away() -> None:
    """The client may send the body or not, so that nobody knows where its next request would begin."""
    with talk(silent) as connection:
        connection.send(post(EXPECT + b"Content-Length: 5\r\n", b""))
        connection.serve()
        (got,) = split(connection.everything())
        assert (got.status, got.body, got.headers["connection"]) == (200, b"unread", "close")


def test_http_1_0_is_not_told_to_go_on() -> None:
    head = b"POST /p HTTP/1.0\r\n" + EXPECT + b"Content-Length: 5\r\n\r\n"
    assert [got.body for got in ask(echo, b"hello", first=head)] == [b"hello"]


def test_a_body_comes_as_the_application_asks(serve: Callable[[Talk], Served]) -> None:
    with talk(echo) as connection:
        served = serve(connection)
        connection.send(post(CHUNKED, b""), end=False)
        for word in b"one", b"two", b"three":
            connection.send(b"%x\r\n%b\r\n" % (len(word), word), end=False)
        connection.send(b"0\r\n\r\n")
        assert split(connection.everything())[0].body == b"onetwothree"
        served.join()


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_large_bodies_both_ways(framing: str, serve: Callable[[Talk], Served]) -> None:
    body = bytes(range(256)) * 8192
    sent = length(b" %d" % len(body), body) if framing == "length" else post(CHUNKED, in_chunks(body))

    with talk(echo) as connection:
        served = serve(connection)
        sender = threading.Thread(target=connection.send, args=(sent,))
        sender.start()
        data = connection.everything()
        sender.join()
        assert split(data)[0].body == body
        served.join()
        assert (connection.answers[0].received, connection.answers[0].sent) == (len(body), len(body))


def in_chunks(body: bytes) -> bytes:
    parts = (body[at : at + 30_000] for at in range(0, len(body), 30_000))
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def test_a_large_block_in_one_piece(serve: Callable[[Talk], Served]) -> None:
    body = b"x" * 3_000_000

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", START)
        return [body]

    with talk(app) as connection:
        serve(connection)
        connection.send(get())
        assert split(connection.everything())[0].body == body


def test_a_body_that_does_not_come_in_time() -> None:
    with talk(echo, limits=Limits(linger=0.05)) as connection:
        connection.conn.settimeout(0.05)
        connection.receive(length(b" 9"))
        connection.serve()
        assert connection.answers[0].error == "the rest of the request's body did not come in time"


def test_408_if_it_can_still_be_told() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", START)
        return [environ["wsgi.input"].read()]

    with talk(app, limits=Limits(linger=0.05)) as connection:
        connection.conn.settimeout(0.05)
        connection.receive(length(b" 9"))
        connection.serve()
        assert [got.status for got in split(connection.everything())] == [408]


def test_who_reads_nothing_is_given_up() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", START)
        return [b"x" * 10_000_000]

    with talk(app) as connection:
        connection.conn.settimeout(0.05)
        connection.receive(get())
        connection.serve()
        (answer,) = connection.answers
        assert (answer.error, answer.kept) == ("the client reads nothing", False)


def test_an_application_that_does_not_mind_is_told_no_more() -> None:
    """After a send that was not finished nothing else may follow, whatever the application makes of it."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [("Content-Length", "10000000")])
        try:
            write(b"x" * 10_000_000)
        except OSError:
            pass
        return []

    with talk(app) as connection:
        connection.conn.settimeout(0.05)
        connection.receive(get() + get())
        connection.serve()
        assert [answer.kept for answer in connection.answers] == [False]


@pytest.mark.parametrize("sent", [get(), length(b" 9"), post(EXPECT + CHUNKED, b"")])
def test_who_has_gone_is_no_failure(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with talk(echo, ends=tcp()) as connection:
        connection.receive(sent)
        connection.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.client.close()
        connection.serve()
        assert connection.answers[0].error
    assert caplog.records == []


@pytest.mark.parametrize("status", [200, 413])
def test_an_answer_arrives_though_the_body_is_not_read(status: int, serve: Callable[[Talk], Served]) -> None:
    """A close with something unread would reset the connection, and the client's system drop the answer."""
    body = b"x" * 2_000_000
    limits = Limits(body=100 if status == 413 else None, linger=5)
    with talk(silent, ends=tcp(), limits=limits) as connection:
        serve(connection)
        connection.send(length(b" %d" % len(body), body))  # all of it, before the client looks
        assert [got.status for got in split(connection.everything())] == [status]


def test_a_client_that_never_stops_is_not_waited_for_for_ever() -> None:
    with talk(silent, limits=Limits(body=5, linger=0.05)) as connection:
        connection.receive(length(b" 9", b""))
        connection.serve()  # nothing comes, and it is over all the same
        assert [got.status for got in split(connection.everything())] == [413]


@pytest.mark.parametrize("more", [b"", get()])
def test_a_client_is_waited_for_only_if_it_has_sent_more(more: bytes) -> None:
    """A worker that leaves ends a kept connection at once, unless that would take back the answer."""
    with talk(silent, ends=tcp()) as connection:
        connection.receive(get())
        connection.send(more, end=False)
        connection.answers.append(connection.exchange.run(connection.conn, keep=lambda: False))
        assert connection.exchange.lingers is bool(more)
        connection.send(b"")
        connection.serve()
        assert [got.status for got in split(connection.everything())] == [200]


def test_facts() -> None:
    sent = length(b" 5\r\nReferer: from\r\nUser-Agent: agent/1")
    with talk(echo) as connection:
        connection.receive(sent)
        connection.serve(most=1)
        (answer,) = connection.answers
        assert answer._replace(began=0, seconds=0) == (
            "192.0.2.7",
            "POST",
            "/p",
            "1.1",
            200,
            5,
            5,
            0,
            0,
            "from",
            "agent/1",
            True,
            "",
        )
        assert answer.began > 1_700_000_000
        assert 0 < answer.seconds < 60
