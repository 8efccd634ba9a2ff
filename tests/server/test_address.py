"""Addresses: what each spelling means, and what is said about the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkful.server._address import Address, parse_address, unmap


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("tcp", "127.0.0.1", 8080)),
        ("localhost:0", Address("tcp", "localhost", 0)),
        ("my-host.example.:65535", Address("tcp", "my-host.example.", 65535)),
        (":8080", Address("tcp", "", 8080)),
        ("[::1]:80", Address("tcp", "::1", 80)),
        ("[fe80::1%eth0]:80", Address("tcp", "fe80::1%eth0", 80)),
        ("[::]:80", Address("tcp", "::", 80)),
        ("unix:/run/a b.sock", Address("unix", path="/run/a b.sock")),
        ("unix:@name", Address("unix", path="@name")),
        ("fd:3", Address("fd", fd=3)),
    ],
)
def test_each_spelling_is_read_and_written_back(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


def test_a_pair_is_as_sockets_take_it() -> None:
    assert parse_address(("::1", 80)) == parse_address("[::1]:80")
    assert parse_address(("", 80)) == parse_address(":80")
    assert parse_address(Address("fd", fd=4)).fd == 4


@pytest.mark.parametrize(
    ("spec", "cure"),
    [
        ("", "must not be empty; write HOST:PORT"),
        (" 127.0.0.1:80", "leave it out"),
        ("127.0.0.1:80\n", "leave it out"),
        ("8080", "write 127.0.0.1:8080 for this machine only, :8080 for all interfaces"),
        ("localhost", "write localhost:8080"),
        ("localhost:http", "a port is a number"),
        ("localhost:", "a port is a number"),
        ("localhost:-1", "a port is a number"),
        ("localhost:65536", "0 (any that is free) to 65535"),
        ("localhost:" + "9" * 5000, "0 (any that is free) to 65535"),
        ("localhost:\uff18\uff10", "a port is a number"),
        ("::1:8080", "write it as in [::1]:8080"),
        ("::1", "write it as in [::1]:8080"),
        ("[::1]", "write [::1]:8080"),
        ("[::1:80", "write [::1]:80"),
        ("[127.0.0.1]:80", "write it as in [::1]:8080"),
        ("*:80", "written as :80"),
        ("a b:80", "write a name, an address"),
        ("-a:80", "write a name, an address"),
        ("300.0.0.1:80", "four numbers, each 0 to 255"),
        ("127.1:80", "four numbers, each 0 to 255"),
        ("http://127.0.0.1:80", "such as 127.0.0.1:8080"),
        ("/run/a.sock", "write unix: before it"),
        ("unix:a.sock", "write unix:/PATH"),
        ("unix:", "write unix:/PATH"),
        ("unix:@", "write unix:/PATH"),
        ("unix:///run/a.sock", "write unix:/run/a.sock"),
        ("unix:/run/", "name of the socket"),
        ("unix:/run/\0", "cannot be printed"),
        ("unix:/" + "a" * 107, "at most 107 bytes"),
        ("unix:/" + "ä" * 54, "at most 107 bytes"),
        ("unix:@" + "a" * 108, "at most 107 bytes"),
        ("fd:", "as in fd:3"),
        ("fd:-1", "as in fd:3"),
        (("127.0.0.1", 65536), "0 (any that is free) to 65535"),
        (("[::1]", 80), "write it as in [::1]:8080"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_that_names_the_cure(spec: str | tuple[str, int], cure: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_address(spec)
    assert cure in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", [8080, None, b":80", ("a",), ("a", "80"), ("a", True), (1, 2), ["a", 80]])
def test_wrong_types(spec: object) -> None:
    with pytest.raises(TypeError, match="an address"):
        parse_address(spec)  # type: ignore[arg-type]  # that is the test


def test_the_longest_paths() -> None:
    for path in ("/" + "a" * 106, "@" + "a" * 107):
        assert parse_address(f"unix:{path}").path == path


@given(st.text(max_size=30))
def test_whatever_is_written_parses_back_or_is_refused_in_one_line(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert parse_address(str(address)) == address


def test_an_ipv4_client_of_a_socket_for_both_is_shown_as_one() -> None:
    assert unmap(("::ffff:10.0.0.7", 1, 0, 0)) == ("10.0.0.7", 1)
    for peer in (("::1", 1, 0, 0), ("10.0.0.7", 1), "", b"\0a", ("::ffff:0:1", 1, 0, 0)):
        assert unmap(peer) == peer
