"""What an application says of its response, judged before anything is sent: PEP 3333, RFC 9110 §5.  Pure."""

from __future__ import annotations

import re
from typing import Any, Final

__all__ = ["check_headers", "check_status"]

_STATUS: Final = re.compile(r"[2-9][0-9]{2} [\t\x20-\x7e\x80-\xff]*")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_NOT_IN_VALUES: Final = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
# RFC 2616 §13.5.1, which PEP 3333 refers to: they are the server's business.
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
        "proxy-connection",
    }
)
_known_names: set[str] = set()  # those that were found good; not more than a program has, lest it grows


def check_status(status: Any) -> None:
    """See that it is a status, such as ``"404 Not Found"``.

    Raises:
        TypeError, ValueError: it is none.
    """
    if not isinstance(status, str):
        raise TypeError(f"a status is a str, not {type(status).__name__}")
    if not _STATUS.fullmatch(status):
        raise ValueError(f"a status is three digits from 200 on, a space and a reason, not {status!r}")


def check_headers(headers: Any) -> int | None:
    """See that they can be sent; what Content-Length says.

    Raises:
        TypeError, ValueError: one cannot; the message says which and why.
    """
    if not isinstance(headers, list):
        raise TypeError(f"headers are a list of pairs, not {type(headers).__name__}")
    length = None
    for pair in headers:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(f"a header is a tuple of a name and a value, not {pair!r}")
        name, value = pair
        if type(name) is not str or type(value) is not str:
            raise TypeError(f"the name and the value of a header are str, not {pair!r}")
        if name not in _known_names:
            _check_name(name)
        if _NOT_IN_VALUES.search(value):
            raise ValueError(f"the value of the header {name} has a character that no header can have: {value!r}")
        if len(name) == 14 and name.lower() == "content-length":
            if length is not None or not (value.isascii() and value.isdigit()):
                raise ValueError(f"Content-Length is one number, not {value!r}")
            length = int(value)
    return length


def _check_name(name: str) -> None:
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"a header cannot have the name {name!r}")
    if name.lower() in _HOP_BY_HOP:
        raise ValueError(f"{name} is a header of the connection, which is the server's: PEP 3333 forbids it")
    if len(_known_names) < 1000:
        _known_names.add(name)
