"""What the URL of a lock on a server says.  Pure.

Messages of errors never repeat a password: whatever quotes a URL goes through `mask`.
"""

from __future__ import annotations

import math
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ._place import mask

LEASE_S = 30.0
_LEAST_LEASE_S = 0.1
_MOST_LEASE_S = 1e6


class RedisAddress(NamedTuple):
    """A lock in Redis."""

    url: str  # for the client: without what is ours
    server: str  # for messages
    name: str
    lease: float  # seconds


class PostgresAddress(NamedTuple):
    """A lock in PostgreSQL."""

    url: str  # for libpq: without what is ours
    name: str


def split_redis(url: str) -> RedisAddress:
    """What ``redis[s]://[USER:PASSWORD@]HOST[:PORT]/[DB/]NAME[?lease=SECONDS]`` says, or ``unix://…/SOCKET?lock=NAME``.

    The name is the last segment of the path, the database's number the one before it, 0 if there is none; characters that
    have a meaning in a URL are percent-encoded.  The other options are for redis-py.

    Raises:
        ValueError: there is no name, or something else is wrong; the message says how to write it.
    """
    shown = mask(url)
    try:
        parts = urlsplit(url)
        port = 6379 if parts.port is None else parts.port
    except ValueError:  # its text may have a piece of the password
        raise ValueError(f"{shown!r} is not a URL: {_QUOTING}") from None
    if not port:
        raise ValueError(f"{shown!r}: there is no port 0")
    _check_text(url, shown)
    ours, rest = _take_options(shown, parts.query, "lease", "lock")
    lease = _read_lease(ours["lease"], shown) if "lease" in ours else LEASE_S
    if parts.scheme == "unix":
        if not ours.get("lock"):
            raise ValueError(f"{shown!r} has no name for the lock; write unix:///path/of/the/socket?lock=NAME")
        client = f"unix://{parts.netloc}{parts.path}{rest}"
        return RedisAddress(client, f"unix:{unquote(parts.path)}", ours["lock"], lease)
    if "lock" in ours:
        raise ValueError(
            f"{shown!r}: a lock in Redis is named by the end of the path: {parts.scheme}://HOST/{ours['lock']}"
        )
    if "@" in parts.path + rest or parts.fragment:
        raise ValueError(f"{shown!r} is not clear: {_QUOTING}")
    database, _, name = parts.path.removeprefix("/").rpartition("/")
    if not name or (name.isdecimal() and not database):
        raise ValueError(
            f"{shown!r} has no name for the lock (a number alone is a database's); "
            f"write {parts.scheme}://HOST/NAME or {parts.scheme}://HOST/DB/NAME"
        )
    if database and not (database.isdecimal() and database.isascii()):
        raise ValueError(f"{shown!r}: before the lock's name comes the number of a database; write / in a name as %2F")
    host = parts.hostname or "localhost"
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError(f"{shown!r}: {host!r} is no name of a host") from None
    server = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return RedisAddress(f"{parts.scheme}://{parts.netloc}/{database or 0}{rest}", server, _unquote(name, shown), lease)


def split_postgres(url: str) -> PostgresAddress:
    """What ``postgresql://[USER:PASSWORD@]HOST[:PORT]/DB?lock=NAME`` says.  The other options are for libpq.

    Raises:
        ValueError: there is no name, or it cannot be one.
    """
    _check_text(url, mask(url))
    base, _, query = url.partition("?")
    ours, rest = _take_options(mask(url), query, "lock")
    if not ours.get("lock"):
        raise ValueError(f"{mask(url)!r} has no name for the lock; write postgresql://HOST/DB?lock=NAME")
    return PostgresAddress(base + rest, ours["lock"])


_QUOTING = "in a name or a password, write @ as %40, / as %2F, : as %3A, # as %23 and ? as %3F"


def _check_text(text: str, shown: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{shown!r} cannot be sent: it is not UTF-8") from None


def _unquote(name: str, shown: str) -> str:
    try:
        name = unquote(name, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(f"{shown!r}: what it quotes by % is not UTF-8") from None
    if "\0" in name:
        raise ValueError(f"{shown!r}: a lock's name must not hold a null character")
    return name


def _take_options(shown: str, query: str, *names: str) -> tuple[dict[str, str], str]:
    """Those of *query* that are called so, and the others as they were, with their question mark."""
    ours: dict[str, str] = {}
    others = []
    for option in filter(None, query.split("&")):
        key, _, value = option.partition("=")
        if key in names:
            ours[key] = _unquote(value.replace("+", " "), shown)
        else:
            others.append(option)
    return ours, f"?{'&'.join(others)}" if others else ""


def _read_lease(text: str, shown: str) -> float:
    try:
        lease = float(text)
    except ValueError:
        lease = math.nan
    if not _LEAST_LEASE_S <= lease <= _MOST_LEASE_S:
        raise ValueError(
            f"{shown!r}: lease is a number of seconds, {_LEAST_LEASE_S} to {_MOST_LEASE_S:,.0f}, not {text!r}"
        )
    return lease
