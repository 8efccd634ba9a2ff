"""Where a server listens, from what a user writes.  Pure.

- ``HOST:PORT``: one address of this machine.  A name that has several is the first of them, an IPv4 one if there is one.
- ``[::1]:PORT``: one IPv6 address, and IPv6 only.
- ``:PORT``: all interfaces, IPv4 and IPv6, by one socket.
- ``unix:/path``: a Unix socket; ``unix:@name``: one in the abstract namespace of Linux, which has no file.
- ``fd:N``: the listening socket that this process was given as descriptor N.

Port 0 is any that is free.  A port without a host and a colon is refused: whoever writes ``8080`` may mean this machine only or
all the world, and the difference matters.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Final, Literal

_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?")
_NUMBERS: Final = re.compile(r"[0-9.]+")
_LONGEST: Final = 107  # bytes of a Unix socket's name: sun_path of unix(7) without the null that ends it, or begins it
_SHAPES: Final = "HOST:PORT, [IPV6]:PORT, :PORT, unix:/PATH, unix:@NAME or fd:N"

Kind = Literal["tcp", "unix", "fd"]


@dataclass(frozen=True, slots=True)
class Address:
    """One place to listen.  ``str`` of it parses back to an equal one.

    Attributes:
        kind: which of the other fields count: ``host`` and ``port``, ``path``, or ``fd``.
        host: a name or an address, an IPv6 one without brackets; empty: all interfaces.
        path: absolute, or beginning with ``@``.

    >>> str(parse_address("[::1]:8080")), parse_address("[::1]:8080").host
    ('[::1]:8080', '::1')
    """

    kind: Kind
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1

    def __str__(self) -> str:
        if self.kind == "fd":
            return f"fd:{self.fd}"
        if self.kind == "unix":
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_abstract(self) -> bool:
        """It is a Unix socket without a file."""
        return self.kind == "unix" and self.path.startswith("@")


def parse_address(spec: str | tuple[str, int] | Address) -> Address:
    """The address that *spec* means; a pair of host and port is as `socket` takes it, an IPv6 host without brackets.

    Raises:
        TypeError: it is neither a str, a pair nor an `Address`.
        ValueError: it cannot be one; the message is one line, and says how to write what was probably meant.

    >>> parse_address(":8080")
    Address(kind='tcp', host='', port=8080, path='', fd=-1)
    """
    if isinstance(spec, Address):
        return spec
    if isinstance(spec, tuple):
        return _from_pair(spec)
    if not isinstance(spec, str):
        raise TypeError(f"an address is a str ({_SHAPES}) or a pair of host and port, not {spec!r}")
    return _from_text(spec)


def unmap(peer: Any) -> Any:
    """*peer*, as ``accept`` gives it, with an IPv4 client of a socket for both written as IPv4; any other as it is.

    >>> unmap(("::ffff:10.0.0.7", 4711, 0, 0)), unmap(("::1", 4711, 0, 0))
    (('10.0.0.7', 4711), ('::1', 4711, 0, 0))
    """
    if isinstance(peer, tuple) and len(peer) == 4 and peer[0].startswith("::ffff:") and "." in peer[0]:
        return peer[0].removeprefix("::ffff:"), peer[1]
    return peer


def _from_pair(pair: tuple[Any, ...]) -> Address:
    if len(pair) != 2 or not isinstance(pair[0], str) or isinstance(pair[1], bool) or not isinstance(pair[1], int):
        raise TypeError(f"an address as a tuple is (host, port), a str and an int, not {pair!r}")
    host, port = pair
    if not 0 <= port <= 65535:
        raise ValueError(f"there is no port {port}; a port is 0 (any that is free) to 65535")
    if ":" in host:
        _check_ipv6(host, f"{pair!r}")
    elif host:
        _check_host(host, f"{pair!r}", port=str(port))
    return Address("tcp", host=host, port=port)


def _from_text(text: str) -> Address:
    if not text:
        raise ValueError(f"an address must not be empty; write {_SHAPES}")
    if text != text.strip():
        raise ValueError(f"there is a space around the address {text!r}; leave it out")
    if not all(letter.isprintable() or "\udc80" <= letter <= "\udcff" for letter in text):  # or bytes that are no UTF-8
        raise ValueError(f"there is a character in the address {text!r} that cannot be printed; leave it out")
    if text.startswith("unix:"):
        return _from_path(text.removeprefix("unix:"))
    if text.startswith("fd:"):
        number = text.removeprefix("fd:")
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            raise ValueError(f"{text!r} names no descriptor; write its number, as in fd:3")
        return Address("fd", fd=int(number))
    if "://" in text:
        raise ValueError(f"{text!r} is a URL; an address is what is between :// and the path, such as 127.0.0.1:8080")
    if text.startswith(("/", "./", "../", "@")):
        raise ValueError(f"{text!r} looks like a Unix socket; write unix: before it, and the whole path")
    return _from_host_and_port(text)


def _from_host_and_port(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon:
        if text.isascii() and text.isdigit():
            raise ValueError(
                f"{text!r} is a port without a host; write 127.0.0.1:{text} for this machine only, :{text} for all interfaces"
            )
        raise ValueError(f"there is no port in {text!r}; write {text}:8080")
    if text.endswith("]") or (":" in host and not host.startswith("[")):
        if text.startswith("["):
            raise ValueError(f"there is no port in {text!r}; write {text}:8080")
        raise ValueError(f"{text!r} has an IPv6 address without brackets; write it as in [::1]:8080")
    if not (port.isascii() and port.isdigit()):
        raise ValueError(f"{port!r} is not a port in {text!r}; a port is a number from 0 (any that is free) to 65535")
    if len(port) > 5 or int(port) > 65535:
        raise ValueError(f"there is no port {port} as in {text!r}; a port is 0 (any that is free) to 65535")
    if host.startswith("["):
        if not host.endswith("]"):
            raise ValueError(f"the bracket in {text!r} is not closed; write [::1]:{port}")
        host = host[1:-1]
        _check_ipv6(host, repr(text))
    elif host:
        _check_host(host, repr(text), port=port)
    return Address("tcp", host=host, port=int(port))


def _from_path(path: str) -> Address:
    if not path.startswith(("/", "@")) or path == "@":
        raise ValueError(f"'unix:{path}' has no whole path; write unix:/PATH, from the root, or unix:@NAME")
    if path.startswith("//"):
        raise ValueError(f"'unix:{path}' has more than one slash at its beginning; write unix:/{path.lstrip('/')}")
    if path.endswith("/"):
        raise ValueError(f"'unix:{path}' is a folder; write the name of the socket in it too")
    length = len(path.encode("utf-8", "surrogateescape")) - path.startswith("@")
    if length > _LONGEST:
        raise ValueError(
            f"the path of a Unix socket has at most {_LONGEST} bytes, and 'unix:{path}' has {length}; choose a shorter one"
        )
    return Address("unix", path=path)


def _check_host(host: str, shown: str, *, port: str) -> None:
    if host == "*":
        raise ValueError(f"{shown} has * for a host; all interfaces are written as :{port}")
    if not _HOST.fullmatch(host):
        raise ValueError(f"{host!r} is not a host in {shown}; write a name, an address such as 127.0.0.1, or [::1]")
    if _NUMBERS.fullmatch(host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise ValueError(f"{host!r} is no IPv4 address in {shown}; write four numbers, each 0 to 255") from None


def _check_ipv6(host: str, shown: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise ValueError(f"{host!r} is no IPv6 address in {shown}; write it as in [::1]:8080") from None
