"""Inputs one at a time, from lines of text, lines of JSON, or rows of tables; read as a stream."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from forkful.apps.problems import JobStopped, UsageProblem

from .identity import Identities
from .jsontext import quote, to_json
from .sources import Source, reading
from .tables import NoRow, read_rows

__all__ = ["Item", "Problem", "Raw", "Unreadable", "count_inputs", "decode", "find_columns", "read_items", "show"]

_BOM = b"\xef\xbb\xbf"
_COUNTABLE = 64 * 1024 * 1024  # bytes: a total is worth a fraction of a second of reading, not more
_PACKED = 8  # how many times as large a compressed file may be


class Problem(NamedTuple):
    """Stands for an input that cannot be read: why, and what stood there."""

    kind: str
    message: str
    line: str


# An input as it was read: a line of text, a line of JSON (bytes), a row by column, or why there is none.  What it means is
# found out where it is used, in the worker: see `decode`.
Raw = str | bytes | dict[str, str] | Problem


class Item(NamedTuple):
    """One input."""

    id: str
    raw: Raw
    number: int  # of all inputs, from 1
    source: str
    line: int  # of its source, from 1


class Unreadable(Exception):
    """The input has no value.  ``args``: the type of its failure, and why."""


def decode(raw: Raw) -> tuple[Any, str]:
    """The value of an input, and the same as JSON text.  Raises `Unreadable`."""
    if type(raw) is str:
        return raw, quote(raw)
    try:
        if type(raw) is bytes:
            value = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
            return value, to_json(value)
        if type(raw) is dict:
            return raw, to_json(raw)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise Unreadable("InputNotJSON", f"is not JSON: {error}") from error
    assert isinstance(raw, Problem)
    raise Unreadable(raw.kind, raw.message)


def show(raw: Raw) -> str:
    """An input as JSON text, whatever it is: one that cannot be read, as it stood there."""
    try:
        return decode(raw)[1]
    except Unreadable:
        if isinstance(raw, Problem):
            return quote(raw.line)
        assert isinstance(raw, bytes)
        return quote(raw.decode("utf-8", "surrogateescape"))


def read_items(
    sources: Iterable[Source], identities: Identities | None = None, id_field: str | None = None
) -> Iterator[Item]:
    """Each input of *sources* that *identities* does not know as done.

    *id_field*: the field or column that names an input; None: its content does.

    Raises `JobStopped` when a file cannot be read to its end.
    """
    identities = Identities() if identities is None else identities
    number = 0
    for source in sources:
        for line, read in _read(source):
            number += 1
            raw = read
            if id_field is None:
                identity = identities.name(_content(read))
            else:
                identity, raw = _name_by_field(identities, read, id_field)
            if identity is not None:
                yield Item(identity, raw, number, source.name, line)


def _content(raw: Raw) -> bytes:
    """What the id of an input is made of."""
    if type(raw) is bytes:
        return raw
    if type(raw) is str:
        return raw.encode("utf-8", "surrogateescape")
    if type(raw) is dict:
        return to_json(dict(sorted(raw.items()))).encode()  # columns may be moved about
    assert isinstance(raw, Problem)
    return raw.line.encode("utf-8", "surrogateescape")


def _name_by_field(identities: Identities, raw: Raw, field: str) -> tuple[str | None, Raw]:
    """The id of an input (None: it is done), and the input, or why it has no id: then its content names it."""
    name: Any = None
    try:
        value = decode(raw)[0]
    except Unreadable:
        return identities.name_unnamed(_content(raw)), raw
    problem = f"has no field {field!r}; add it, or leave out --id-field"
    if isinstance(value, dict) and field in value:
        name = value[field]
        problem = f"its field {field!r} is {to_json(name)[:40]}, which is no id; write a text or a whole number"
    elif not isinstance(value, dict):
        problem = f"is no object with a field {field!r}; write one, or leave out --id-field"
    kind = "InputWithoutId"
    if isinstance(name, str | int) and not isinstance(name, bool) and name != "":
        identity, came_before = identities.name_given(str(name))
        if not came_before:
            return identity, raw
        kind = "DuplicateId"
        problem = f"has the {field} {str(name)[:40]!r} of an input before it; make them differ, or leave out --id-field"
    content = _content(raw)
    return identities.name_unnamed(content), Problem(kind, problem, content.decode("utf-8", "surrogateescape"))


def count_inputs(sources: Sequence[Source], most: int | None = None) -> int | None:
    """How many inputs there are, not counting beyond *most*.

    None when finding out is not cheap: it is for files that can be read twice, `_COUNTABLE` bytes at most.
    """
    size = 0
    for source in sources:
        if source.size is None:
            return None
        size += source.size * (_PACKED if source.packing else 1)
    if size > _COUNTABLE:
        return None
    inputs = (one for source in sources for one in _read(source))
    return sum(1 for _ in itertools.islice(inputs, most))


def find_columns(source: Source) -> list[str] | None:
    """The columns of a table, where a look at its first row costs nothing; None where it does, and of an empty one.

    Raises `UsageProblem` when that row names no columns.
    """
    if source.form not in {"csv", "tsv"} or source.size is None:
        return None
    try:
        with reading(source) as file:
            header = next(read_rows(file, tabs=source.form == "tsv"), None)
    except JobStopped as problem:
        raise UsageProblem(f"{problem}") from problem
    return None if header is None else _check_header(header[1], source)


def _check_header(names: list[str] | NoRow, source: Source) -> list[str]:
    if isinstance(names, NoRow):
        why = names.why.removeprefix("is no row: ")
        raise UsageProblem(f"{source.name}: its first line is no row of a table: {why}")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UsageProblem(
                f"{source.name}: two columns are named {name!r}; give each its own name in the first line"
            )
        seen.add(name)
    return names


def _read(source: Source) -> Iterator[tuple[int, Raw]]:
    """The inputs of *source*, each with the number of its line."""
    with reading(source) as file:
        if source.form == "text":
            for number, line in _lines(file):
                # Bytes that are no UTF-8 become what open() and os take for them: a list of files may name any file.
                yield number, line.decode("utf-8", "surrogateescape")
        elif source.form == "jsonl":
            for number, line in _lines(file):
                if line.strip():
                    yield number, line
        else:
            yield from _read_table(file, source)


def _lines(file: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines without their newlines; a byte order mark before the first is none of it."""
    for number, raw in enumerate(file, 1):
        line = raw[:-1].removesuffix(b"\r") if raw.endswith(b"\n") else raw
        yield number, line.removeprefix(_BOM) if number == 1 else line


def _read_table(file: BinaryIO, source: Source) -> Iterator[tuple[int, Raw]]:
    rows = read_rows(file, tabs=source.form == "tsv")
    header = next(rows, None)
    if header is None:
        return
    try:
        names = _check_header(header[1], source)
    except UsageProblem as refusal:  # by now, others have been run
        raise JobStopped(str(refusal)) from refusal
    for number, row in rows:
        if isinstance(row, NoRow):
            yield number, Problem("InputNotTable", *row)
        elif len(row) == len(names):
            yield number, dict(zip(names, row, strict=True))
        else:
            why = f"has {_columns(len(row))}, and the first line names {len(names)}: {', '.join(names)}; mend it"
            yield number, Problem("InputNotTable", why, ",".join(row))


def _columns(count: int) -> str:
    return "1 column" if count == 1 else f"{count} columns"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value; write null")
