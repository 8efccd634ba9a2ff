"""What an output holds already: read at ``--resume`` and ``--status``, repaired where a run was killed as it wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from forkful.apps.problems import UsageProblem

__all__ = ["Entry", "read_entries"]

# A record as `calls.compose` writes it.  Its id needs no decoding when nothing in it is escaped.
_ID = re.compile(rb'\{"id": "([^"\\]*)", ')
_OK = b'"ok": '
_BEGIN = b'{"id": "'  # what is left of a line; or zeros, after a loss of power


class Entry(NamedTuple):
    """One whole record."""

    id: str
    ok: bool
    start: int  # where its line begins
    end: int  # and where the next begins


def read_entries(file: BinaryIO, name: str) -> Iterator[Entry]:
    """Each record of *file*.  A last line that is the beginning of one was never finished, and is left out.

    Raises `UsageProblem` for any other line that is no record: then the file is not ours.
    """
    at = 0
    torn = 0  # a line that was never finished: right, if it is the last
    for number, line in enumerate(file, 1):
        if torn:
            raise _not_ours(name, torn)
        entry = _read_entry(line, at)
        at += len(line)
        if entry is None:
            torn = number
            if not (line.startswith(_BEGIN[: len(line)]) or b"\0" in line):
                raise _not_ours(name, number)
        else:
            yield entry


def _not_ours(name: str, number: int) -> UsageProblem:
    return UsageProblem(f"{name} line {number} is no record of `forkful map`; name another output, or mend that line")


def _read_entry(line: bytes, at: int) -> Entry | None:
    end = at + len(line)
    match = _ID.match(line)
    # An input, or a result, may hold the same words: where they stand once only, they are the record's own.
    if match is not None and line.count(_OK) == 1 and line.endswith(b"}\n"):
        ok = b'"ok": true, "result": ' in line
        if ok or b'"ok": false, "error": ' in line:
            return Entry(match[1].decode("ascii", "replace"), ok, at, end)
    try:
        record = json.loads(line)
        identity, ok = record["id"], record["ok"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not isinstance(identity, str) or not isinstance(ok, bool):
        return None
    return Entry(identity, ok, at, end)
