"""PEP 3333, from both sides: what an application is told, and what becomes of what it says."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from forkful.server._wsgi import FileWrapper

from .http_corpus import CHUNKED, NEXT, get, length, post
from .http_support import CLIENT, START, Got, ask, split, talk, tcp

Started = Callable[..., Callable[[bytes], None]]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "forkful.server")


def environ_of(sent: bytes, **service: Any) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: Started) -> list[bytes]:
        seen.update(environ)
        start_response("200 OK", [])
        return []

    (got,) = ask(app, sent, **service)
    assert got.status == 200
    return seen


def test_environ() -> None:
    environ = environ_of(
        b"POST /shop/caf%C3%A9?q=%20 HTTP/1.1\r\nHost: x:1\r\nContent-Type: text/x\r\nContent-Length: 0\r\n"
        b"X-Two: 1\r\nx-two: 2\r\nCookie: a=1\r\nCookie: b=2\r\nX_Two: 3\r\nProxy: evil\r\n\r\n",
        script_name="/shop",
        scheme="https",
        processes=False,
    )
    assert {key: value for key, value in environ.items() if key not in {"wsgi.input", "wsgi.errors"}} == {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "/shop",
        "PATH_INFO": "/caf\xc3\xa9",
        "QUERY_STRING": "q=%20",
        "REQUEST_URI": "/shop/caf%C3%A9?q=%20",
        "CONTENT_TYPE": "text/x",
        "CONTENT_LENGTH": "0",
        "SERVER_NAME": "forkful.test",
        "SERVER_PORT": "8080",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "forkful",
        "REMOTE_ADDR": CLIENT[0],
        "REMOTE_PORT": str(CLIENT[1]),
        "HTTP_HOST": "x:1",
        "HTTP_X_TWO": "1, 2",
        "HTTP_COOKIE": "a=1; b=2",
        "HTTPS": "on",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": FileWrapper,
    }
    assert environ["wsgi.errors"] is sys.stderr


def test_the_variables_are_a_builtin_dict_of_the_request_alone() -> None:
    seen: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Started) -> list[bytes]:
        assert "mine" not in environ
        environ["mine"] = 1
        seen.append(environ)
        start_response("200 OK", [])
        return []

    ask(app, get() + get())
    assert [type(environ) for environ in seen] == [dict, dict]


def test_values_are_the_same_wherever_they_are_parted() -> None:
    sent = get(b"X:\t v \t\r\nY:\r\nZ: 1\r\n")
    for at in range(len(sent)):
        environ = environ_of(sent[at:], first=sent[:at])
        assert [environ[key] for key in ("HTTP_X", "HTTP_Y", "HTTP_Z")] == ["v", "", "1"]


def test_a_url_as_target_says_the_host() -> None:
    assert environ_of(get(line=b"GET http://b:1/x HTTP/1.1\r\n"))["HTTP_HOST"] == "b:1"


@pytest.mark.parametrize(("path", "status"), [(b"/shop", 200), (b"/shop/", 200), (b"/shopping", 404), (b"/", 404)])
def test_script_name(path: bytes, status: int) -> None:
    (got,) = ask(hello, get(line=b"GET %b HTTP/1.1\r\n" % path), script_name="/shop")
    assert got.status == status


def test_input_is_a_file() -> None:
    found: list[Any] = []

    def app(environ: dict[str, Any], start_response: Started) -> list[bytes]:
        file = environ["wsgi.input"]
        found.extend([file.read(2), file.readline(), file.readline(3), file.read(0), next(file)])
        found.extend([file.readlines(), file.read(), file.read(1), file.readline(), list(file)])
        start_response("200 OK", [])
        return []

    body = b"abcd\nefghi\njkl\nmno\n"
    head = len(length(b" 19", b""))
    for at in (0, head, head + 1, head + 9, head + 19):
        for sent in length(b" 19", body), post(b"Content-Length: 19\r\n", body):
            found.clear()
            ask(app, sent[at:], first=sent[:at])
            assert found == [b"ab", b"cd\n", b"efg", b"", b"hi\n", [b"jkl\n", b"mno\n"], b"", b"", b"", []]


def hello(environ: dict[str, Any], start_response: Started) -> list[bytes]:
    start_response("200 OK", [*START, ("Content-Length", "5")])
    return [b"hello"]


def one(app: Any, sent: bytes = get(), **service: Any) -> Got:
    (got,) = ask(app, sent, **service)
    return got


def returning(result: Any, headers: Any = START, status: Any = "200 OK") -> Any:
    def app(environ: dict[str, Any], start_response: Started) -> Any:
        start_response(status, headers)
        return result() if callable(result) else result

    return app


def test_a_response_is_one_send() -> None:
    with talk(hello) as connection:
        connection.receive(get())
        connection.serve(most=1)
        data = connection.client.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        assert body == b"hello"
        lines = head.split(b"\r\n")
        assert lines[:4] == [b"HTTP/1.1 200 OK", b"Content-Type: text/plain", b"Content-Length: 5", b"Server: forkful"]
        assert lines[4].startswith(b"Date: ")
        assert lines[4].endswith(b" GMT")
        assert len(lines) == 5


def test_the_length_of_a_list_is_known() -> None:
    for result, size in ([], 0), ([b""], 0), ([b"abc"], 3), ((b"a", b"", b"bc"), 3):
        got = one(returning(result))
        assert (got.headers["content-length"], len(got.body)) == (str(size), size)
        assert "transfer-encoding" not in got.headers


def test_what_is_made_bit_by_bit_is_sent_in_chunks() -> None:
    got = one(returning(lambda: iter([b"ab", b"", b"c" * 50_000])))
    assert got.headers["transfer-encoding"] == "chunked"
    assert got.body == b"ab" + b"c" * 50_000


def test_each_block_is_sent_before_the_next_is_made() -> None:
    sent: list[bytes] = []

    with talk(lambda environ, start_response: produce(start_response)) as connection:

        def produce(start_response: Started) -> Iterator[bytes]:
            start_response("200 OK", START)
            yield b"one"
            sent.append(connection.client.recv(65536))
            yield b"two"
            sent.append(connection.client.recv(65536))

        connection.receive(get())
        connection.serve(most=1)
        assert sent[0].endswith(b"3\r\none\r\n")
        assert sent[1] == b"3\r\ntwo\r\n"
        assert connection.client.recv(65536) == b"0\r\n\r\n"


def test_http_1_0_gets_no_chunks() -> None:
    sent = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    got = one(returning(lambda: iter([b"ab", b"c"])), sent)
    assert "transfer-encoding" not in got.headers
    assert (got.headers["connection"], got.body) == ("close", b"abc")


def test_http_1_0_is_kept_if_it_asks() -> None:
    with talk(hello) as connection:
        connection.receive(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        connection.serve(most=1)
        assert b"\r\nConnection: keep-alive\r\n" in connection.client.recv(65536)
        assert connection.answers[0].kept


def test_http_1_0_is_not_kept_otherwise() -> None:
    assert one(hello, b"GET / HTTP/1.0\r\n\r\n" + NEXT).headers["connection"] == "close"


def test_the_worker_may_end_the_connection() -> None:
    with talk(hello) as connection:
        connection.receive(get() + get())
        connection.send(b"")
        connection.serve(keep=lambda: False)
        (got,) = split(connection.everything())
        assert got.headers["connection"] == "close"
        assert not connection.answers[0].kept


def test_it_is_asked_when_the_head_is_made() -> None:
    leaving = []

    def app(environ: dict[str, Any], start_response: Started) -> list[bytes]:
        leaving.append(True)
        return hello(environ, start_response)

    with talk(app) as connection:
        connection.receive(get())
        connection.serve(keep=lambda: not leaving, most=1)
        assert b"Connection: close" in connection.client.recv(65536)


@pytest.mark.parametrize("headers", [START, [("Content-Length", "5")]])
@pytest.mark.parametrize("result", [[], [b"hello"], lambda: iter([b"he", b"llo"])])
def test_head_has_no_body(headers: Any, result: Any) -> None:
    with talk(returning(result, headers)) as connection:
        connection.receive(get(line=b"HEAD / HTTP/1.1\r\n"), get(line=b"HEAD /2 HTTP/1.1\r\n"), b"")
        connection.serve()
        got = split(connection.everything(), "HEAD")
        assert [answer.status for answer in got] == [200, 200]
        assert got[0].headers.get("content-length") == dict(headers).get("Content-Length")
        assert connection.answers[0].error == ""


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("result", [[], [b""], [b"hello"], lambda: iter([b"hello"])])
def test_statuses_without_a_body(status: str, result: Any) -> None:
    got = ask(returning(result, status=status), get() + get())
    assert [(one.status, one.body) for one in got] == [(int(status[:3]), b"")] * 2
    assert not {"content-length", "transfer-encoding"} & got[0].headers.keys()


def test_304_may_say_a_length_and_204_may_not() -> None:
    assert one(returning([], [("Content-Length", "5")], "304 X")).headers["content-length"] == "5"
    assert "content-length" not in one(returning([], [("Content-Length", "0")], "204 X")).headers


def test_own_date_and_server() -> None:
    headers = one(returning([], [("Date", "then"), ("server", "mine")])).headers
    assert (headers["date"], headers["server"]) == ("then", "mine")


def test_write() -> None:
    def app(environ: dict[str, Any], start_response: Started) -> list[bytes]:
        write = start_response("200 OK", START)
        write(b"one ")
        write(b"")
        write(b"two ")
        return [b"three"]

    assert [got.body for got in ask(app, get() + get())] == [b"one two three"] * 2


def test_a_generator_starts_when_it_is_asked() -> None:
    def app(environ: dict[str, Any], start_response: Started) -> Iterator[bytes]:
        start_response("201 Created", START)
        yield b"made"

    assert one(app)[::2] == (201, b"made")


class Closing:
    """Counts how often it is closed."""

    def __init__(self, blocks: list[Any]) -> None:
        self.blocks = iter(blocks)
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block = next(self.blocks)
        if isinstance(block, BaseException):
            raise block
        assert isinstance(block, bytes)
        return block

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("blocks", [[b"a"], [], [b"a", ValueError("no")], [ValueError("no")]])
def test_close_is_called_once(blocks: list[Any]) -> None:
    result = Closing(blocks)
    with talk(returning(result)) as connection:
        connection.receive(get())
        connection.serve(most=1)
    assert result.closed == 1


def test_close_is_called_when_the_client_has_gone() -> None:
    result = Closing([b"x" * 100_000] * 100)
    with talk(returning(result)) as connection:
        connection.receive(get())
        connection.client.close()
        connection.serve()
        assert connection.answers[0].error.startswith("the client has gone")
    assert result.closed == 1


def torn(app: Any, sent: bytes = get(), **service: Any) -> bytes:
    """All that arrives."""
    with talk(app, **service) as connection:
        connection.send(sent)
        connection.serve()
        assert connection.answers[-1].error
        assert not connection.answers[-1].kept
        return connection.everything()


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit(3), KeyboardInterrupt(), OSError("secret")])
def test_an_application_that_fails(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: dict[str, Any], start_response: Started) -> list[bytes]:
        start_response("200 OK", START)
        raise error

    got = one(app, get() + NEXT)
    assert (got.status, got.headers["connection"]) == (500, "close")
    assert b"secret" not in got.body
    (record,) = caplog.records
    assert record.exc_info
    assert record.exc_info[1] is error


def test_an_application_that_fails_after_its_head() -> None:
    data = torn(returning(Closing([b"part", ValueError("no")])), get() + NEXT)
    assert data.endswith(b"4\r\npart\r\n")  # no last chunk: the client sees that this is not all


def test_what_only_the_close_would_end_is_reset_when_it_fails() -> None:
    with talk(returning(Closing([b"part", ValueError("no")])), ends=tcp()) as connection:
        connection.receive(b"GET / HTTP/1.0\r\n\r\n")
        connection.serve()
        with pytest.raises(ConnectionResetError):
            connection.everything()


def test_exc_info_before_the_head_replaces_it() -> None:
    def app(environ: dict[str, Any], start_response: Started) -> list[bytes]:
        start_response("200 OK", [("X", "1")])
        try:
            raise ValueError("no")
        except ValueError:
            start_response("503 Sorry", [("Y", "1")], sys.exc_info())
        return [b"sorry"]

    got = one(app)
    assert (got.status, got.body) == (503, b"sorry")
    assert "x" not in got.headers


def test_exc_info_after_the_head_raises_it(caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("no")

    def app(environ: dict[str, Any], start_response: Started) -> Iterator[bytes]:
        start_response("200 OK", START)
        yield b"part"
        try:
            raise error
        except ValueError:
            start_response("503 Sorry", START, sys.exc_info())
        yield b"never"

    assert b"never" not in torn(app)
    assert caplog.records[0].exc_info
    assert caplog.records[0].exc_info[1] is error


@pytest.mark.parametrize(
    ("app", "why"),
    [
        (returning([], START, b"200 OK"), "a status is a str"),
        (returning([], START, "200"), "a status is three digits"),
        (returning([], START, "20x OK"), "a status is three digits"),
        (returning([], START, "100 Continue"), "from 200 on"),
        (returning([], START, "200 OK\r\nX: 1"), "a status is three digits"),
        (returning([], START, "200 \u20ac"), "a status is three digits"),
        (returning([], tuple(START)), "headers are a list"),
        (returning([], [["X", "1"]]), "a header is a tuple"),
        (returning([], [("X", 1)]), "are str"),
        (returning([], [(b"X", "1")]), "are str"),
        (returning([], [("X", "1\r\nY: 2")]), "no header can have"),
        (returning([], [("X", "1\nY: 2")]), "no header can have"),
        (returning([], [("X", "\0")]), "no header can have"),
        (returning([], [("X", "\u20ac")]), "no header can have"),
        (returning([], [("X\r\nY", "1")]), "cannot have the name"),
        (returning([], [("X:", "1")]), "cannot have the name"),
        (returning([], [("", "1")]), "cannot have the name"),
        (returning([], [("Connection", "close")]), "PEP 3333 forbids it"),
        (returning([], [("transfer-encoding", "chunked")]), "PEP 3333 forbids it"),
        (returning([], [("Content-Length", "-1")]), "Content-Length is one number"),
        (returning([], [("Content-Length", "1"), ("content-length", "1")]), "Content-Length is one number"),
        (returning(b"abc"), "an iterable of bytes, not bytes"),
        (returning("abc"), "an iterable of bytes, not str"),
        (returning(["abc"]), "made of bytes, not str"),
        (returning([bytearray(b"abc")]), "made of bytes, not bytearray"),
        (returning(lambda: iter(["abc"])), "made of bytes, not str"),
        (returning(None), "not iterable"),
        (returning([], [("Content-Length", "5")]), "the body has 0 bytes"),
        (lambda environ, start_response: [b"abc"], "has not called start_response"),
        (lambda environ, start_response: [], "has not called start_response"),
        (lambda environ, start_response: [start_response("200 OK", START), start_response("200 OK", START)], "twice"),
    ],
)
def test_what_an_application_must_not_do(app: Any, why: str, caplog: pytest.LogCaptureFixture) -> None:
    got = one(app)
    assert (got.status, got.headers["connection"]) == (500, "close")
    assert "x" not in got.headers
    (record,) = caplog.records
    assert record.exc_info
    assert why in str(record.exc_info[1])


@pytest.mark.parametrize("result", [[b"hello, world"], lambda: iter([b"he", b"llo", b", world"])])
def test_more_than_its_content_length(result: Any, caplog: pytest.LogCaptureFixture) -> None:
    data = torn(returning(result, [("Content-Length", "5")]), get() + NEXT)
    assert data.endswith(b"\r\n\r\nhello")
    assert "longer than its Content-Length" in str(caplog.records[0].exc_info)


def test_less_than_its_content_length(caplog: pytest.LogCaptureFixture) -> None:
    data = torn(returning(lambda: iter([b"he"]), [("Content-Length", "5")]), get() + NEXT)
    assert data.endswith(b"\r\n\r\nhe")
    assert "the body has 2 bytes, and its Content-Length is 5" in str(caplog.records[0].exc_info)


def test_a_body_that_is_not_read_to_its_end_by_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """What is wrong with a request is its client's fault, and no failure of the application."""

    def app(environ: dict[str, Any], start_response: Started) -> list[bytes]:
        environ["wsgi.input"].read()
        return hello(environ, start_response)

    head = post(CHUNKED, b"")
    got = one(app, b"5\r\nhelloX\r\n", first=head)
    assert got.status == 400
    assert caplog.records == []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 1000)
    return path


def sending(open_file: Callable[[], Any], headers: Any = START) -> Any:
    """An application that returns a file; what is open at the end is not closed by it."""

    def app(environ: dict[str, Any], start_response: Started) -> Any:
        start_response("200 OK", headers)
        return environ["wsgi.file_wrapper"](open_file(), 4096)

    return app


def open_at(path: Path, offset: int = 0) -> BinaryIO:
    file = path.open("rb")
    file.seek(offset)
    return file


def test_a_file_is_sent_by_the_kernel(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileWrapper, "__iter__", None)
    got = ask(sending(lambda: open_at(path)), get() + get())
    assert [one.body for one in got] == [path.read_bytes()] * 2
    assert got[0].headers["content-length"] == "10000"


def test_a_file_from_the_middle_and_not_to_its_end(path: Path) -> None:
    got = ask(sending(lambda: open_at(path, 5), [("Content-Length", "7")]), get() + get())
    assert [one.body for one in got] == [b"5678901"] * 2


def test_a_file_that_is_at_its_end(path: Path) -> None:
    assert one(sending(lambda: open_at(path, 10_000))).body == b""


def test_a_file_that_is_too_short(path: Path) -> None:
    data = torn(sending(lambda: open_at(path), [("Content-Length", "10001")]))
    assert data.endswith(b"0123456789")


def test_a_file_that_is_empty_and_should_not_be(path: Path) -> None:
    assert one(sending(lambda: open_at(path, 10_000), [("Content-Length", "5")])).status == 500


def test_a_file_after_something_else(path: Path) -> None:
    def app(environ: dict[str, Any], start_response: Started) -> Any:
        start_response("200 OK", START)(b"first ")
        return environ["wsgi.file_wrapper"](open_at(path, 9_995))

    assert [got.body for got in ask(app, get() + get())] == [b"first 56789"] * 2


def test_a_file_in_memory_is_sent_in_blocks() -> None:
    got = one(sending(lambda: io.BytesIO(b"0123456789" * 1000)))
    assert got.headers["transfer-encoding"] == "chunked"
    assert got.body == b"0123456789" * 1000


def test_a_file_is_not_sent_for_head(path: Path) -> None:
    with talk(sending(lambda: open_at(path))) as connection:
        connection.receive(get(line=b"HEAD / HTTP/1.1\r\n"), b"")
        connection.serve()
        assert connection.everything().endswith(b"\r\n\r\n")


def test_a_client_that_goes_in_the_middle_of_a_file(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(50_000_000)
    with talk(sending(lambda: open_at(large)), ends=tcp()) as connection:
        connection.conn.settimeout(0.05)
        connection.receive(get() + get())
        connection.serve()
        (answer,) = connection.answers
        assert (answer.error, answer.kept) == ("the client reads nothing", False)
