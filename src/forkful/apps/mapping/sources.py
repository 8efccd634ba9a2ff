"""Where inputs come from: files, compressed or not, patterns of files, standard input; opened as streams of bytes."""

from __future__ import annotations

import glob
import os
import stat
import sys
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

from forkful.apps.problems import JobStopped, UsageProblem

from .unpacking import PACKINGS, find_zstd, open_packed

__all__ = ["FORMS", "Source", "find_sources", "reading"]

FORMS = ("text", "jsonl", "csv", "tsv")

_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv"}


class Source(NamedTuple):
    """One file of inputs, or standard input when `path` is None."""

    path: str | None
    form: str  # one of `FORMS`
    packing: str  # one of `PACKINGS`, or "" for none
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

    def open(self) -> BinaryIO:
        """Its bytes, unpacked."""
        if self.path is None:
            return open(sys.stdin.fileno(), "rb", closefd=False)
        return open_packed(self.path, self.packing) if self.packing else open(self.path, "rb")


def find_sources(inputs: Sequence[str], form: str | None = None) -> list[Source]:
    """The files that *inputs* name, in this order; a pattern's files sorted.  Opens nothing.

    *form* is what all of them hold; None: what the name of each says, and lines of text where it says nothing.

    Raises `UsageProblem`.
    """
    if form is not None and form not in FORMS:
        raise UsageProblem(f"{form!r} is no format of inputs; write one of {', '.join(FORMS)}")
    sources = [source for name in inputs for source in _find(name, form)]
    if not sources:
        raise UsageProblem("no inputs; name a file, a pattern such as 'in/*.jsonl', or - for standard input")
    if sum(source.path is None for source in sources) > 1:
        raise UsageProblem("standard input is named twice; write - once")
    return sources


def _find(name: str, form: str | None) -> Iterator[Source]:
    if not name:
        raise UsageProblem("an input has no name (an empty shell variable?); name a file, or - for standard input")
    if name == "-":
        if sys.stdin is None:
            raise UsageProblem("standard input is closed; name a file instead of -")
        yield Source(None, form or "text", packing="", size=None)
        return
    paths = [name]
    if not os.path.exists(name) and glob.has_magic(name):  # a file named in[1].txt is a file first
        paths = sorted(glob.glob(name, recursive=True))
        if not paths:
            raise UsageProblem(f"{name}: no file matches; check the pattern")
    for path in paths:
        yield _look_at(path, form)


def _look_at(path: str, form: str | None) -> Source:
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
    name, packing = path.lower(), ""
    for suffix in PACKINGS:
        if name.endswith(suffix):
            name, packing = name.removesuffix(suffix), suffix
    if packing == ".zst" and find_zstd() is None:
        raise UsageProblem(f"{path}: is compressed with Zstandard; install forkful[zstd], or unpack it first")
    return Source(path, form or _SUFFIXES.get(os.path.splitext(name)[1], "text"), packing, size)


class reading:  # noqa: N801  # used as `with reading(source) as file`, like contextlib's
    """Open *source*; what goes wrong as it is read is a `JobStopped` that names it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._file: BinaryIO | None = None

    def __enter__(self) -> BinaryIO:
        try:
            self._file = self._source.open()
        except (OSError, EOFError) as error:
            raise self._stopped(error) from error
        return self._file

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._file is not None:
            self._file.close()
        if error is not None and self._is_of_the_file(error):
            raise self._stopped(error) from error

    def _is_of_the_file(self, error: BaseException) -> bool:
        # A library's own error for what is no Zstandard; of the others, EOFError is a file that was cut off.
        packed = bool(self._source.packing) and type(error).__name__ in {"ZstdError", "EOFError"}
        return isinstance(error, OSError | zlib.error) or packed

    def _stopped(self, error: BaseException) -> JobStopped:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return JobStopped(f"cannot read {self._source.name}: {reason}; see to it and start again")
