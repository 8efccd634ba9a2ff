"""Where records go: a file, or standard output.  Whole lines only, one or several in one write."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from forkful.apps.problems import JobStopped, OutputClosed, UsageProblem

from .past import Entry, read_entries
from .sources import Source

__all__ = ["FSYNC", "Output", "beside", "check_notes", "check_output", "is_being_written", "look_back", "open_above"]

FSYNC = ("end", "always", "never")

_STDOUT = 1
_COPIED = 1 << 20  # bytes at a time


def check_output(path: str | None, sources: Sequence[Source], programs: Sequence[str] = ()) -> None:
    """See that *path* (None: standard output) is a place for records; changes nothing.  Raises `UsageProblem`.

    *programs* are the files of the user's functions: what has just been read as a program is no place for records.
    """
    status = _look_at_stdout() if path is None else _look_at(path)
    # Standard output too: `forkful map … in.txt >> in.txt` would read for ever what it writes.
    _check_not_used(_name(path), status, sources, programs)


def check_notes(paths: Sequence[str], output: str | None, sources: Sequence[Source], programs: Sequence[str]) -> None:
    """See that *paths* are places for files beside *output*, each its own; changes nothing.  Raises `UsageProblem`."""
    taken = {} if output is None else {os.path.realpath(output): "the output"}
    for path in paths:
        _check_not_used(path, _look_at(path), sources, programs)
        real = os.path.realpath(path)
        if real in taken:
            raise UsageProblem(f"{path}: is {taken[real]} too; write each to a file of its own")
        taken[real] = "to be written"


def _check_not_used(
    name: str, status: os.stat_result | None, sources: Sequence[Source], programs: Sequence[str]
) -> None:
    if status is None or not stat.S_ISREG(status.st_mode):
        return
    if any((source := one.status()) is not None and os.path.samestat(source, status) for one in sources):
        raise UsageProblem(f"{name}: is an input too; write the records elsewhere")
    if any(_same_file(program, status) for program in programs):
        raise UsageProblem(f"{name}: is the program of FUNC or --init; write the records elsewhere")


def beside(path: str) -> str:
    """Where what is to take the place of the file at *path* is written first."""
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.forkful")


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


def _open(path: str) -> tuple[int, bool]:
    """A descriptor of *path* that no other run has, and whether the file was made for it.  Raises `UsageProblem`."""
    while True:
        made = not os.path.exists(path)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if made else 0)
        try:
            fd = open_above(path, flags)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not made:
                continue  # removed since we looked
            raise UsageProblem(f"{path}: cannot be written: {error.strerror}; choose another place") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return fd, False
        try:
            _lock(fd)
        except BlockingIOError as error:
            os.close(fd)
            raise UsageProblem(f"{path}: another run is writing to it; wait for its end, or write elsewhere") from error
        if _same_file(path, os.fstat(fd)):
            return fd, made
        os.close(fd)  # what we have locked is no longer what stands there: the run that had it has removed it


def open_above(path: str, flags: int) -> int:
    """As `os.open`, but never as one of the standard streams: where those are closed, what is said there is no record."""
    fd = os.open(path, flags, 0o666)
    if fd > 2:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def _lock(fd: int) -> None:
    """Keep other runs out.  Raises BlockingIOError when one is there."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass  # a file system without locks: nothing tells the runs apart there


def look_back(path: str) -> Iterator[Entry]:
    """The records in *path*.  Raises `UsageProblem` when it holds something else, and OSError."""
    with open(path, "rb") as file:
        yield from read_entries(file, path)


def is_being_written(path: str) -> bool:
    """Whether a run has *path* open."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


class Output:
    """An open output, for a ``with`` block.

    A file is locked, so that no other run writes into it.  Until the first line, or `complete`, it stays as it was: one
    to overwrite keeps its content, one that was made here is removed again.  So a job that cannot start costs nothing.

    Args:
        path: None for standard output.
        overwrite: replace what the file holds.
        resume: go on behind what it holds; see `look_back`.
        fsync: when what was written is to be safe from the loss of power too: at the ``end``, ``always`` (after each
            write), or ``never`` (when the system thinks fit).

    Attributes:
        name: for messages.
    """

    def __init__(self, path: str | None, *, overwrite: bool = False, resume: bool = False, fsync: str = "end") -> None:
        self.name = _name(path)
        self._begun = path is None
        self._path = path
        self._fsync = fsync
        self._fd, self._made = (_STDOUT, False) if path is None else _open(path)
        status = os.fstat(self._fd)
        self._can_cut = stat.S_ISREG(status.st_mode)  # not pipes, terminals, devices
        # Ours do: somebody may empty the file meanwhile (`: > out`), and no hole may come of it.  Standard output is
        # as its owner opened it: `>> all.jsonl` does, `> out.jsonl` does not.
        appends = fcntl.fcntl(self._fd, fcntl.F_GETFL) & os.O_APPEND
        self._end = os.SEEK_END if appends else os.SEEK_CUR
        self.holds_something = self._can_cut and path is not None and status.st_size > 0
        if self.holds_something and not overwrite and not resume:
            self._close()
            raise UsageProblem(
                f"{path}: is not empty; go on with it by --resume, replace it by --overwrite, or remove it"
            )
        if resume and path is not None and not self._can_cut:
            self._close()
            raise UsageProblem(f"{path}: is no file that could be resumed; name one, or leave out --resume")
        self._begun = self._begun or (self.holds_something and resume)

    @property
    def is_file(self) -> bool:
        """Whether it is a file of its own, that can be resumed."""
        return self._path is not None and self._can_cut

    def mend(self, end: int) -> None:
        """End the file at *end*, where its last whole record does: what follows was never finished."""
        assert self._path is not None
        with open(self._path, "rb+") as file:
            file.truncate(end)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    file.write(b"\n")

    def drop_failures(self) -> None:
        """Leave out the records of failures: their inputs are to be done once more.

        The file is replaced as a whole: killed at any moment, this leaves either all of the old one or all of the new.
        """
        assert self._path is not None
        path = os.path.realpath(self._path)
        fresh = beside(path)
        fd = open_above(fresh, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
        try:
            _lock(fd)
            os.fchmod(fd, stat.S_IMODE(os.fstat(self._fd).st_mode))
            with open(path, "rb") as old, open(fd, "wb", buffering=_COPIED, closefd=False) as new:
                for entry in look_back(path):
                    if entry.ok:
                        old.seek(entry.start)
                        new.write(old.read(entry.end - entry.start))
            os.fsync(fd)
            os.replace(fresh, path)
        except BaseException:
            os.close(fd)
            os.unlink(fresh)
            raise
        os.close(self._fd)
        self._fd = fd

    def write(self, line: bytes) -> None:
        """Write *line*, or several, whole, or nothing of it where the file allows that.

        Raises `OutputClosed` when nobody reads any more, and `JobStopped` when it cannot be written, as on a full disk.
        """
        start: int | None = None
        try:
            self.begin()
            if self._can_cut:
                start = os.lseek(self._fd, 0, self._end)
            rest = memoryview(line)
            while rest:  # once, but for pipes, and for the last bytes of a disk
                rest = rest[os.write(self._fd, rest) :]
            if self._fsync == "always":
                self._sync()
        except BrokenPipeError as error:
            raise OutputClosed(f"{self.name}: nobody reads it any more; read to its end") from error
        except OSError as error:
            self._take_back(start)
            raise self._stopped(error) from error
        except BaseException:  # a KeyboardInterrupt between two parts
            self._take_back(start)
            raise

    def complete(self) -> None:
        """All is done, even if there was no line to write.  Raises `JobStopped`."""
        try:
            self.begin()
            if self._fsync != "never":
                self._sync()
        except OSError as error:
            raise self._stopped(error) from error

    def _sync(self) -> None:
        if self._can_cut:
            os.fsync(self._fd)

    def begin(self) -> None:
        """Replace what it holds, if it is to be replaced and has not been.  Raises OSError."""
        if self._begun:
            return
        if self._can_cut:
            os.ftruncate(self._fd, 0)
        self._begun = True

    def _stopped(self, error: OSError) -> JobStopped:
        return JobStopped(
            f"cannot write {self.name}: {error.strerror}; what it holds is whole: make space and {self._how_to_go_on()}"
        )

    def _how_to_go_on(self) -> str:
        return "start again" if self._path is None or not self._can_cut else "go on with --resume"

    def _take_back(self, start: int | None) -> None:
        """Cut a line that was begun at *start* and not ended; not where somebody else has written or cut since."""
        if start is None:
            return
        here = os.lseek(self._fd, 0, os.SEEK_CUR)
        if start < here == os.fstat(self._fd).st_size:
            os.ftruncate(self._fd, start)
            os.lseek(self._fd, start, os.SEEK_SET)

    def _close(self) -> None:
        if not self._begun and self._made and self._path is not None:
            status = os.fstat(self._fd)
            if not status.st_size and _same_file(self._path, status):
                os.unlink(os.path.realpath(self._path))
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path is None:
            return
        try:
            self._close()
        except OSError as failure:  # network file systems say here that they are full
            if error is None:
                problem = f"cannot write {self.name}: {failure.strerror}; its end may be missing: start again"
                raise JobStopped(problem) from failure
