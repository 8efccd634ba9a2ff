"""Every request of the corpus: whole, in two parts wherever they are parted, and byte by byte; under the validator."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any
from wsgiref.validate import validator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkful.server._http import Phase

from .http_corpus import BAD, GOOD, Bad, Good
from .http_support import START, Talk, ask, split, talk


class Echo:
    """Notes what it was asked, and answers with the body."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str, bytes]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        pieces = list(iter(lambda: environ["wsgi.input"].read(4), b""))
        body = b"".join(pieces)
        self.seen.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"], body))
        start_response("200 OK", START)
        return [body]


def check_good(case: Good, connection: Talk, echo: Echo) -> None:
    connection.serve()
    assert echo.seen == case.seen
    got = split(connection.everything())
    assert [(one.status, one.body) for one in got] == [(200, body) for *_, body in case.seen]
    assert all(answer.error == "" for answer in connection.answers)


def check_bad(case: Bad, connection: Talk, echo: Echo) -> None:
    connection.serve()
    got = split(connection.everything())
    assert got[-1].status == case.status
    assert got[-1].headers["connection"] == "close"
    assert got[-1].body.startswith(b"%d " % case.status)
    assert [one.status for one in got[:-1]] == [200] * (len(got) - 1)
    assert len(echo.seen) == len(got) - 1  # what is refused has not been served
    assert connection.exchange.phase is Phase.OVER


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.what)
def test_good_requests_wherever_they_are_parted(case: Good) -> None:
    for at in range(len(case.sent) + 1):
        echo = Echo()
        with talk(validator(echo)) as connection:
            connection.receive(*filter(None, [case.sent[:at]]))
            connection.send(case.sent[at:])
            check_good(case, connection, echo)


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.what)
def test_bad_requests_wherever_they_are_parted(case: Bad) -> None:
    for at in range(len(case.sent) + 1):
        echo = Echo()
        with talk(validator(echo)) as connection:
            connection.receive(*filter(None, [case.sent[:at]]))
            connection.send(case.sent[at:])
            check_bad(case, connection, echo)


ALL: list[Good | Bad] = [*GOOD, *BAD]


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.what)
def test_byte_by_byte(case: Good | Bad) -> None:
    echo = Echo()
    with talk(validator(echo)) as connection:
        connection.receive(*(case.sent[at : at + 1] for at in range(len(case.sent))), b"")
        if isinstance(case, Good):
            check_good(case, connection, echo)
        else:
            check_bad(case, connection, echo)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_the_parts_make_no_difference(data: st.DataObject) -> None:
    """Any mixture of requests, a byte of which may be another one: what becomes of it does not depend on its parts."""
    sent = b"".join(case.sent for case in data.draw(st.lists(st.sampled_from(ALL), min_size=1, max_size=3)))
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(sent) - 1))
        sent = sent[:at] + bytes([data.draw(st.sampled_from(b"\r\n\0 :,;05aH"))]) + sent[at + 1 :]
    whole, parted = Echo(), Echo()
    expected = [(one.status, one.body) for one in ask(whole, sent)]
    with talk(parted) as connection:
        rest = io.BytesIO(sent)
        for size in data.draw(st.lists(st.integers(1, 40), max_size=20)):
            connection.receive(*filter(None, [rest.read(size)]))
        connection.send(rest.read())
        connection.serve()
        assert [(one.status, one.body) for one in split(connection.everything())] == expected
    assert parted.seen == whole.seen
