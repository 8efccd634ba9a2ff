"""Where records go: a file, or standard output.  Whole lines only, each in one write."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from forkful.apps.problems import JobStopped, OutputClosed, UsageProblem

from .inputs import Source

__all__ = ["Output", "check_output"]

_STDOUT = 1


def check_output(
    path: str | None, sources: Sequence[Source], programs: Sequence[str] = (), *, overwrite: bool = False
) -> None:
    """See that records can be written to *path* (None: standard output); changes nothing.  Raises `UsageProblem`.

    *programs* are files of the user's functions: what has just been read as a program is no place for records.
    """
    status = _look_at_stdout() if path is None else _look_at(path)
    if status is None or not stat.S_ISREG(status.st_mode):
        return
    name = _name(path)
    # Standard output too: `forkful map … in.txt >> in.txt` would read for ever what it writes.
    if any((source := one.status()) is not None and os.path.samestat(source, status) for one in sources):
        raise UsageProblem(f"{name}: is an input too; write the records elsewhere")
    if any(_same_file(program, status) for program in programs):
        raise UsageProblem(f"{name}: is the program of FUNC or --init; write the records elsewhere")
    if path is not None and status.st_size and not overwrite:
        raise UsageProblem(f"{path}: has records in it already; remove it, or say --overwrite")


def _name(path: str | None) -> str:
    return "standard output" if path is None else path


def _look_at_stdout() -> os.stat_result:
    try:
        return os.fstat(_STDOUT)
    except OSError as error:
        raise UsageProblem("standard output is closed; name a file with -o") from error


def _look_at(path: str) -> os.stat_result | None:
    """What is at *path*, None when nothing is; raises `UsageProblem` when no file can be written there."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        _check_directory(os.path.dirname(path) or ".", path)
        return None
    except OSError as error:
        raise UsageProblem(f"{path}: cannot be written: {error.strerror}; choose another place") from error
    if stat.S_ISDIR(status.st_mode):
        raise UsageProblem(f"{path}: is a directory; name a file in it, such as {os.path.join(path, 'out.jsonl')}")
    if not os.access(path, os.W_OK):
        raise UsageProblem(f"{path}: cannot be written: Permission denied; change its mode, or choose another place")
    return status


def _check_directory(directory: str, path: str) -> None:
    if not os.path.isdir(directory):
        raise UsageProblem(f"{path}: there is no directory {directory}; make it first")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise UsageProblem(f"{path}: the directory {directory} cannot be written; change its mode, or choose another")


def _same_file(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), status)
    except OSError:
        return False


class Output:
    """An open output.  In a ``with`` block; a file that exists is emptied (see `check_output`).

    Attributes:
        name: for messages.
    """

    def __init__(self, path: str | None) -> None:
        self.name = _name(path)
        self._path = path
        if path is None:
            self._fd = _STDOUT
        else:
            try:
                self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise UsageProblem(f"{path}: cannot be written: {error.strerror}; choose another place") from error
        self._end = self._find_end()

    def _find_end(self) -> int | None:
        """Where the next line begins; None where nothing can be taken back: pipes, terminals, devices."""
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            return None
        appends = fcntl.fcntl(self._fd, fcntl.F_GETFL) & os.O_APPEND  # as in `forkful map … >> all.jsonl`
        return os.lseek(self._fd, 0, os.SEEK_END if appends else os.SEEK_CUR)

    def write(self, line: bytes) -> None:
        """Write *line* whole, or nothing of it where the file allows that.

        Raises `OutputClosed` when nobody reads any more, and `JobStopped` when it cannot be written, as on a full disk.
        """
        try:
            rest = memoryview(line)
            while rest:  # once, but for pipes, and for the last bytes of a disk
                rest = rest[os.write(self._fd, rest) :]
        except BrokenPipeError as error:
            raise OutputClosed(f"{self.name}: nobody reads it any more; read to its end") from error
        except OSError as error:
            self._take_back()
            problem = f"cannot write {self.name}: {error.strerror}; what it holds is whole: make space and start again"
            raise JobStopped(problem) from error
        except BaseException:  # a KeyboardInterrupt between two parts
            self._take_back()
            raise
        if self._end is not None:
            self._end += len(line)

    def _take_back(self) -> None:
        """Cut a line that was begun and not ended."""
        if self._end is not None:
            os.ftruncate(self._fd, self._end)
            os.lseek(self._fd, self._end, os.SEEK_SET)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path is None:
            return
        try:
            os.close(self._fd)
        except OSError as failure:  # network file systems say here that they are full
            if error is None:
                problem = f"cannot write {self.name}: {failure.strerror}; its end may be missing: start again"
                raise JobStopped(problem) from failure
