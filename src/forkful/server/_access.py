"""Lines of an access log: what is known of a request, in the formats that other programs read.  Pure."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ._http import Answered

__all__ = ["FORMATS", "Line", "combined_line", "common_line", "json_line"]

Line = Callable[["Answered"], str]
"""What makes a line of the log."""

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# What would end a field or a line, or steer a terminal, is written as Apache httpd writes it.
_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 256))} | {34: '\\"', 92: "\\\\"}


def common_line(answered: Answered) -> str:
    r"""The Common Log Format, with the time in UTC.

    >>> print(common_line(example))  # doctest: +SKIP
    192.0.2.7 - - [24/Nov/2026:18:51:43 +0000] "GET /tickets?page=2 HTTP/1.1" 200 5120

    Source: https://httpd.apache.org/docs/2.4/logs.html#common
    """
    method, target, version = answered.method, answered.target, answered.version
    asked = f"{method} {target} HTTP/{version}".translate(_ESCAPES) if target else "-"
    status = answered.status or "-"
    return f'{answered.client or "-"} - - [{_stamp(answered.began)}] "{asked}" {status} {answered.sent or "-"}'


def combined_line(answered: Answered) -> str:
    """The Combined Log Format: `common_line`, then Referer and User-Agent."""
    referer = answered.referer.translate(_ESCAPES) or "-"
    agent = answered.agent.translate(_ESCAPES) or "-"
    return f'{common_line(answered)} "{referer}" "{agent}"'


def json_line(answered: Answered) -> str:
    """One JSON object, in ASCII: the fields of `Answered`, with the time as RFC 3339 has it."""
    facts = answered._asdict()
    began = facts.pop("began")
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(began))
    facts["seconds"] = round(facts["seconds"], 6)
    return json.dumps({"time": f"{moment}.{int(began % 1 * 1000):03d}Z", **facts})


def _stamp(moment: float) -> str:
    """As in ``24/Nov/2026:18:51:43 +0000``; not by strftime, which takes the name of the month from the locale."""
    year, month, day, hour, minute, second, *_ = time.gmtime(moment)
    return f"{day:02d}/{_MONTHS[month - 1]}/{year}:{hour:02d}:{minute:02d}:{second:02d} +0000"


FORMATS: Final[dict[str, Line]] = {
    "common": common_line,
    "combined": combined_line,
    "json": json_line,
}
