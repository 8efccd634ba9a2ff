"""Where inputs come from: files of lines, ``.jsonl`` files, patterns of files, standard input; read as a stream."""

from __future__ import annotations

import glob
import itertools
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from forkful.apps.problems import JobStopped, UsageProblem

from .identity import Identities
from .jsontext import to_json

__all__ = ["Item", "Source", "count_lines", "find_sources", "read_items"]

_BOM = b"\xef\xbb\xbf"
_COUNTABLE = 64 * 1024 * 1024  # bytes: a total is worth a fraction of a second of reading, not more


class Source(NamedTuple):
    """One file of inputs, or standard input when `path` is None."""

    path: str | None
    is_json: bool
    size: int | None  # bytes; None for what can be read only once: pipes, devices, standard input

    @property
    def name(self) -> str:
        """For messages."""
        return "standard input" if self.path is None else self.path

    def status(self) -> os.stat_result | None:
        """What the system says of the file; None when it says nothing: it has gone, or is no file of the system."""
        try:
            return os.fstat(sys.stdin.fileno()) if self.path is None else os.stat(self.path)
        except (OSError, ValueError):
            return None


class Item(NamedTuple):
    """One input."""

    id: str
    argument: Any
    text: str  # the argument as JSON; for a line that cannot be read, the line as a JSON string
    problem: str | None = None  # why the line has no argument


def find_sources(inputs: Sequence[str]) -> list[Source]:
    """The files that *inputs* name, in this order; a pattern's files sorted.  Opens nothing.  Raises `UsageProblem`."""
    sources = [source for name in inputs for source in _find(name)]
    if not sources:
        raise UsageProblem("no inputs; name a file, a pattern such as 'in/*.jsonl', or - for standard input")
    if sum(source.path is None for source in sources) > 1:
        raise UsageProblem("standard input is named twice; write - once")
    return sources


def _find(name: str) -> Iterator[Source]:
    if not name:
        raise UsageProblem("an input has no name (an empty shell variable?); name a file, or - for standard input")
    if name == "-":
        if sys.stdin is None:
            raise UsageProblem("standard input is closed; name a file instead of -")
        yield Source(None, is_json=False, size=None)
        return
    paths = [name]
    if not os.path.exists(name) and glob.has_magic(name):  # a file named in[1].txt is a file first
        paths = sorted(glob.glob(name, recursive=True))
        if not paths:
            raise UsageProblem(f"{name}: no file matches; check the pattern")
    for path in paths:
        yield _look_at(path)


def _look_at(path: str) -> Source:
    try:
        status = os.stat(path)
    except OSError as error:
        raise UsageProblem(f"{path}: cannot be read: {error.strerror}; check the path") from error
    if stat.S_ISDIR(status.st_mode):
        raise UsageProblem(f"{path}: is a directory; name its files, such as '{path.rstrip(os.sep)}/*.txt'")
    # Not by opening it: the writer of a pipe would see its reader come and go.
    if not os.access(path, os.R_OK):
        raise UsageProblem(f"{path}: cannot be read: Permission denied; change its mode, or run as its owner")
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    return Source(path, is_json=path.lower().endswith(".jsonl"), size=size)


def read_items(sources: Iterable[Source]) -> Iterator[Item]:
    """Each input of *sources*, one line at a time.  Raises `JobStopped` when a file cannot be read to its end."""
    identities = Identities()
    for source in sources:
        make = _item_from_json if source.is_json else _item_from_text
        for number, line in _numbered_lines(source):
            yield make(identities.name(line), line, source, number)


def count_lines(sources: Sequence[Source], most: int | None = None) -> int | None:
    """How many inputs there are, not counting beyond *most*.

    None when finding out is not cheap: it is for files that can be read twice, `_COUNTABLE` bytes at most.
    """
    sizes = [source.size for source in sources]
    if None in sizes or sum(size or 0 for size in sizes) > _COUNTABLE:
        return None
    lines = (line for source in sources for line in _numbered_lines(source))
    return sum(1 for _ in itertools.islice(lines, most))


def _numbered_lines(source: Source) -> Iterator[tuple[int, bytes]]:
    """The lines that are inputs, without their newlines.  Blank lines are none in JSON; in text, they are."""
    try:
        with _open(source) as file:
            for number, raw in enumerate(file, 1):
                line = raw[:-1].removesuffix(b"\r") if raw.endswith(b"\n") else raw
                if number == 1:
                    line = line.removeprefix(_BOM)
                if source.is_json and not line.strip():
                    continue
                yield number, line
    except OSError as error:
        raise JobStopped(f"cannot read {source.name}: {error.strerror}; see to it and start again") from error


def _open(source: Source) -> BinaryIO:
    if source.path is None:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    return open(source.path, "rb")


def _item_from_text(identity: str, line: bytes, _source: Source, _number: int) -> Item:
    # Bytes that are no UTF-8 become what open() and os take for them: a list of files may name any file.
    text = line.decode("utf-8", "surrogateescape")
    return Item(identity, text, json.dumps(text))


def _item_from_json(identity: str, line: bytes, source: Source, number: int) -> Item:
    try:
        argument = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
        return Item(identity, argument, to_json(argument))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        problem = f"{source.name} line {number} is not JSON: {error}"
        return Item(identity, None, json.dumps(line.decode("utf-8", "surrogateescape")), problem)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value; write null")
