"""A connection as far as it is pure: for what it waits, what is too much, and what comes of silence."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import weakref
from typing import Any

import pytest

from forkful.errors import EngineUnavailable
from forkful.server._http import Exchange, Limits, Phase, Service

from .http_corpus import CHUNKED, HOST, NEXT, get, length, post
from .http_support import START, ask, split, talk

SMALL = Limits(head=1000, fields=10, body=20, linger=0.2)


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", START)
    return [environ["wsgi.input"].read()]


def silent(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", START)
    return [environ["wsgi.input"].read() if "HTTP_READ" in environ else b"unread"]


def exchange(limits: Limits = SMALL) -> Exchange:
    return Exchange(Service(app, limits=limits), "")


def test_phases_of_a_head() -> None:
    one = exchange()
    phases = [one.phase]
    for piece in b"\r\n", b"G", get()[1:-1], b"\n":
        one.receive(piece)
        phases.append(one.phase)
    assert phases == [Phase.IDLE, Phase.IDLE, Phase.HEAD, Phase.HEAD, Phase.READY]


def test_a_head_is_enough_and_the_body_may_come_later() -> None:
    one = exchange()
    one.receive(length(b" 9", b""))
    assert one.phase is Phase.READY


def test_phases_of_a_kept_connection() -> None:
    with talk(app) as connection:
        connection.receive(get() + get()[:5])
        connection.serve(most=1)
        assert connection.answers[0].kept
        phases = [connection.exchange.phase]
        connection.receive(get()[5:])
        phases.append(connection.exchange.phase)
        connection.serve(most=2)
        phases.append(connection.exchange.phase)
        assert phases == [Phase.HEAD, Phase.READY, Phase.IDLE]


def test_who_says_nothing_and_leaves_is_not_answered() -> None:
    one = exchange()
    one.receive(b"")
    assert one.phase is Phase.OVER


def test_who_leaves_in_the_middle_of_a_head_is_told() -> None:
    one = exchange()
    one.receive(b"GET / HT")
    one.receive(b"")
    assert one.phase is Phase.READY


def test_who_shuts_down_their_side_is_answered() -> None:
    with talk(app) as connection:
        connection.receive(get() + NEXT, b"")
        connection.serve()
        first, last = split(connection.everything())
    assert (first.status, last.status) == (200, 200)
    assert "connection" not in first.headers
    assert last.headers["connection"] == "close"  # there can be no other request


def test_silence_expires_without_an_answer() -> None:
    one = exchange()
    one.expire()
    assert one.phase is Phase.OVER


def test_half_a_head_expires_with_408() -> None:
    with talk(app) as connection:
        connection.receive(b"GET / HTTP/1.1\r\nHo")
        connection.exchange.expire()
        connection.receive(b"st: a\r\n\r\n")  # too late
        connection.send(b"")
        connection.serve()
        assert [got.status for got in split(connection.everything())] == [408]
        assert connection.answers[0].error == "the head of the request did not come in time"


def test_what_is_ready_does_not_expire() -> None:
    one = exchange()
    one.receive(get())
    one.expire()
    assert one.phase is Phase.READY


@pytest.mark.parametrize("step", [1, 7, 5000])
@pytest.mark.parametrize(
    "sent",
    [
        get(b"X: " + b"v" * 1000 + b"\r\n"),
        get(line=b"GET /" + b"v" * 1000 + b" HTTP/1.1\r\n"),
        b"GET /" + b"v" * 1000,
        b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"v" * 1000,
        get(b"".join(b"X-%d: 1\r\n" % i for i in range(10))),
    ],
    ids=["a value", "the target", "a target without an end", "a value without an end", "the number of fields"],
)
def test_a_head_that_is_too_large(sent: bytes, step: int) -> None:
    with talk(app, limits=SMALL) as connection:
        connection.receive(*(sent[at : at + step] for at in range(0, len(sent), step)))
        assert connection.exchange.phase is Phase.READY
        connection.send(b"")
        connection.serve()
        assert [got.status for got in split(connection.everything())] == [431]


def test_a_head_at_its_limits() -> None:
    fields = b"".join(b"X-%d: 1\r\n" % i for i in range(9))
    sent = get(fields, line=b"GET /" + b"v" * (1000 - len(get(fields))) + b" HTTP/1.1\r\n")
    assert len(sent) == 1000
    assert ask(app, sent, limits=SMALL)[0].status == 200


@pytest.mark.parametrize("at", [0, 60, 90])
def test_a_body_that_is_too_large(at: int) -> None:
    for sent in (
        length(b" 21", b"v" * 21),
        post(CHUNKED, b"b\r\n" + b"v" * 11 + b"\r\na\r\n" + b"v" * 10 + b"\r\n0\r\n\r\n"),
    ):
        assert [got.status for got in ask(app, sent[at:], first=sent[:at], limits=SMALL)] == [413]


def test_a_body_at_its_limit() -> None:
    assert ask(app, length(b" 20", b"v" * 20), limits=SMALL)[0].body == b"v" * 20
    assert ask(app, post(CHUNKED, b"14\r\n" + b"v" * 20 + b"\r\n0\r\n\r\n"), limits=SMALL)[0].body == b"v" * 20


@pytest.mark.parametrize("endless", [b"1;" + b"x" * 1100, b"0\r\nX: " + b"x" * 1100, b"0\r\n" + b"X: y\r\n" * 200])
@pytest.mark.parametrize("step", [1, 5000])
def test_framing_without_a_body_does_not_go_on_for_ever(endless: bytes, step: int) -> None:
    with talk(app, limits=SMALL) as connection:
        connection.receive(post(CHUNKED, b""))
        connection.receive(*(endless[at : at + step] for at in range(0, len(endless), step)))
        connection.send(b"")
        connection.serve()
        assert [got.status for got in split(connection.everything())] == [400]


def test_a_body_that_nobody_reads_is_skipped() -> None:
    sent = length(b" 5") + NEXT
    for at in range(len(sent)):
        assert [got.body for got in ask(silent, sent[at:], first=sent[:at])] == [b"unread", b"unread"]


def test_it_is_skipped_without_a_thread_and_without_being_kept() -> None:
    with talk(silent) as connection:
        phases = []
        connection.receive(length(b" 9", b""))
        connection.serve(most=1)
        assert connection.answers[0].kept
        for piece in b"hell", b"o, yo", b"G":
            phases.append(connection.exchange.phase)
            connection.receive(piece)
        assert phases == [Phase.HEAD, Phase.HEAD, Phase.IDLE]
        connection.receive(length(b" 5\r\nRead: me").replace(b"POST", b"GET")[1:])
        connection.serve(most=2)
        connection.client.shutdown(socket.SHUT_WR)
        connection.serve()
        assert [got.body for got in split(connection.everything())] == [b"unread", b"hello"]


@pytest.mark.parametrize("ending", ["expire", "end"])
def test_a_body_that_is_skipped_and_does_not_come_ends_without_an_answer(ending: str) -> None:
    with talk(silent) as connection:
        connection.receive(length(b" 9", b"he"))
        connection.serve(most=1)
        if ending == "expire":
            connection.exchange.expire()
        else:
            connection.receive(b"")
        assert connection.exchange.phase is Phase.OVER


def test_a_body_without_a_known_end_is_not_skipped() -> None:
    head, body = post(CHUNKED, b""), b"5\r\nhello\r\n0\r\n\r\n"
    for at in range(len(body) + 1):
        got = [one.body for one in ask(silent, body[at:] + NEXT, first=head + body[:at])]
        assert got == [b"unread"] * (1 if at < len(body) else 2)


def test_a_body_that_nobody_reads_and_that_is_wrong_ends_the_connection() -> None:
    sent = post(CHUNKED, b"5\r\nhelloX\r\n0\r\n\r\n") + NEXT
    head = len(post(CHUNKED, b""))
    assert [got.status for got in ask(silent, sent[head:], first=sent[:head])] == [200]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("last", [get(b"Connection: close\r\n"), b"what?\r\n\r\n", get(), b""])
def test_what_is_over_leaves_nothing_for_the_collector(last: bytes, keep: bool) -> None:
    gc.collect()
    gc.disable()
    try:
        with talk(app) as connection:
            connection.receive(*filter(None, [get() + last, b"" if not keep else None]))
            connection.send(b"")
            connection.serve(keep=lambda: keep)
            parser = weakref.ref(connection.exchange._parser)
            del connection.exchange
        assert parser() is None
    finally:
        gc.enable()


def test_two_clients_do_not_mix() -> None:
    one, other = exchange(), exchange()
    one.receive(b"GET / HTTP/1.1\r\n")
    other.receive(get())
    assert (one.phase, other.phase) == (Phase.HEAD, Phase.READY)


def test_without_the_library_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httptools", None)
    monkeypatch.delitem(sys.modules, "forkful.server._parser")
    monkeypatch.setattr("forkful.server._parser", None, raising=False)
    with pytest.raises(EngineUnavailable, match=r'pip install "forkful\[wsgi\]"'):
        Service(app)


def test_the_server_is_imported_without_the_library() -> None:
    program = "import sys; sys.modules['httptools'] = None; import forkful.server._http, forkful.server._access"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("wrong", [{"scheme": "ftp"}, {"script_name": "shop"}, {"script_name": "/shop/"}])
def test_a_service_that_cannot_be(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        Service(app, **wrong)  # type: ignore[arg-type]  # one of them at a time
