"""Lines of the access log."""

from __future__ import annotations

import json

from forkful.server._access import FORMATS, combined_line, common_line, json_line
from forkful.server._http import Answered

FACTS = Answered(
    client="192.0.2.7",
    method="GET",
    target="/tickets?page=2",
    version="1.1",
    status=200,
    sent=5120,
    received=0,
    began=1795546303.25,
    seconds=0.0123456789,
    referer="http://a/",
    agent="curl/8",
    kept=True,
    error="",
)
HOSTILE = FACTS._replace(target='/"\\\r\n\x1b[2J\xe9', agent='"x"\n')


def test_common() -> None:
    line = common_line(FACTS)
    assert line == '192.0.2.7 - - [24/Nov/2026:18:51:43 +0000] "GET /tickets?page=2 HTTP/1.1" 200 5120'


def test_what_is_not_known_is_a_dash() -> None:
    nothing = FACTS._replace(client="", method="", target="", version="", status=0, sent=0, referer="", agent="")
    assert combined_line(nothing) == '- - - [24/Nov/2026:18:51:43 +0000] "-" - - "-" "-"'


def test_combined() -> None:
    assert combined_line(FACTS) == common_line(FACTS) + ' "http://a/" "curl/8"'


def test_a_line_stays_a_line() -> None:
    line = combined_line(HOSTILE)
    assert r'"GET /\"\\\x0d\x0a\x1b[2J\xe9 HTTP/1.1"' in line
    assert line.endswith(r' "\"x\"\x0a"')


def test_json() -> None:
    line = json_line(HOSTILE)
    assert "\n" not in line
    assert line.isascii()
    facts = json.loads(line)
    assert facts["time"] == "2026-11-24T18:51:43.250Z"
    assert facts["seconds"] == 0.012346
    assert {key: facts[key] for key in ("client", "method", "target", "status", "sent", "kept")} == {
        "client": "192.0.2.7",
        "method": "GET",
        "target": HOSTILE.target,
        "status": 200,
        "sent": 5120,
        "kept": True,
    }


def test_each_format_has_a_name() -> None:
    assert sorted(FORMATS) == ["combined", "common", "json"]
