"""What a map writes besides its records: a log of jobs, a trace, what the function printed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import urllib.parse
from typing import IO, TYPE_CHECKING, Protocol

from forkful.apps.problems import JobStopped, UsageProblem, one_line
from forkful.errors import TaskTimeout, WorkerDied

from .inputs import Item, show
from .output import open_above
from .records import Record

if TYPE_CHECKING:
    from forkful import Outcome

__all__ = ["JobLog", "Note", "TaskLogs", "Trace"]

_SHOWN = 200  # characters of an input
_NAME_MOST = 200  # bytes of a file's name
_TAIL = 1 << 16  # bytes: more than a line of a job log has


class Note(Protocol):
    """One of these.  What cannot be written is a `JobStopped`."""

    def add(self, item: Item, outcome: Outcome, record: Record) -> None:
        """*item* has ended."""

    def flush(self) -> None:
        """What was added is safe from the end of this process, however it comes."""

    def close(self) -> None:
        """The map has ended."""


class _File:
    """A file of one's own, with errors that name it."""

    def __init__(self, path: str, mode: str) -> None:
        self.path = path
        try:
            self.file: IO[str] = open(  # noqa: SIM115  # closed by close()
                path, mode, encoding="utf-8", errors="backslashreplace", buffering=1 << 16, opener=open_above
            )
        except OSError as error:
            raise self._stopped(error) from error

    def write(self, text: str) -> None:
        try:
            self.file.write(text)
        except OSError as error:
            raise self._stopped(error) from error

    def flush(self) -> None:
        """See to it that what was written is in the file, whatever ends this process."""
        try:
            self.file.flush()
        except OSError as error:
            with contextlib.suppress(OSError):
                self.file.close()
            raise self._stopped(error) from error

    def close(self) -> None:
        try:
            self.file.close()
        except OSError as error:
            raise self._stopped(error) from error

    def _stopped(self, error: OSError) -> JobStopped:
        return JobStopped(f"cannot write {self.path}: {error.strerror}; make space and go on with --resume")


class JobLog:
    """One line for each input, in the columns of GNU parallel's ``--joblog``.

    ``Exitval`` is 0 for a result, 1 for a failure, -1 for a timeout; a worker that died has its exit code there, or its
    signal in ``Signal``.  ``Send`` and ``Receive`` are the bytes of the input and of its record.
    """

    _HEAD = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"

    def __init__(self, path: str, name: str, *, append: bool) -> None:
        self._file = _File(path, "a" if append else "w")
        self._name = name
        if append and os.path.isfile(path):
            self._cut_half_a_line(path)
        if not append or not self._file.file.seekable() or self._file.file.tell() == 0:
            self._file.write(self._HEAD)
            self._file.flush()

    def _cut_half_a_line(self, path: str) -> None:
        """Leave out the last line of a log if a killed run has not finished it: its input comes again."""
        with open(path, "rb+") as file:
            if file.read(len(self._HEAD)) != self._HEAD.encode():
                return
            start = max(0, file.seek(0, os.SEEK_END) - _TAIL)
            file.seek(start)
            tail = file.read()
            if not tail.endswith(b"\n"):
                file.truncate(start + tail.rfind(b"\n") + 1)

    def add(self, item: Item, outcome: Outcome, record: Record) -> None:
        """*item* has ended."""
        error = outcome.error
        exitval, signal = (0 if record.failure is None else 1), 0
        if isinstance(error, TaskTimeout):
            exitval = -1
        elif isinstance(error, WorkerDied) and error.exitcode is not None:
            exitval, signal = (error.exitcode, 0) if error.exitcode >= 0 else (1, -error.exitcode)
        seconds = record.took
        shown = show(item.raw)
        command = one_line(f"{self._name} {shown}", _SHOWN)
        started = _started_at(record, seconds)
        self._file.write(
            f"{item.number}\t:\t{started:.3f}\t{seconds or 0.0:.3f}\t{len(shown)}\t{len(record.line)}\t{exitval}\t{signal}\t{command}\n"
        )

    def flush(self) -> None:
        """What was added is in the file."""
        self._file.flush()

    def close(self) -> None:
        """The map has ended."""
        self._file.close()


def _started_at(record: Record, seconds: float | None) -> float:
    """Seconds since the epoch: as the worker has told, else from now on backwards."""
    return time.time() - (seconds or 0.0) if record.started is None else record.started


class Trace:
    """When each input ran in which process, for ``chrome://tracing`` or ui.perfetto.dev.

    The Trace Event Format's array of complete events; one that was never closed is read all the same.  To go on with one,
    what closes it is taken away.
    """

    def __init__(self, path: str, name: str, *, append: bool = False) -> None:
        self._first = True
        if append and os.path.isfile(path):
            try:
                self._first = not _open_again(path)
            except OSError as error:
                raise JobStopped(
                    f"cannot go on with {path}: {error.strerror}; name another file for the trace"
                ) from error
        self._file = _File(path, "a" if append else "w")
        self._name = name
        if not append or not self._file.file.seekable() or self._file.file.tell() == 0:
            self._file.write("[")
            self._file.flush()

    def add(self, item: Item, outcome: Outcome, record: Record) -> None:
        """*item* has ended."""
        seconds = record.took
        if seconds is None or outcome.pid is None:
            return
        event = {
            "name": self._name,
            "cat": "ok" if record.failure is None else "failed",
            "ph": "X",
            "ts": round(_started_at(record, seconds) * 1e6),
            "dur": round(seconds * 1e6),
            "pid": outcome.pid,
            "tid": outcome.pid,
            "args": {"id": item.id, "input": show(item.raw)[:_SHOWN], "attempts": outcome.attempts},
        }
        self._file.write(f"{'' if self._first else ','}\n{json.dumps(event)}")
        self._first = False

    def flush(self) -> None:
        """What was added is in the file."""
        self._file.flush()

    def close(self) -> None:
        """The map has ended."""
        self._file.write("\n]\n")
        self._file.close()


def _open_again(path: str) -> bool:
    """Have the trace at *path* end behind its last whole event; whether it has one.  Raises `UsageProblem` and OSError."""
    with open(path, "rb+") as file:
        begin = file.readline().rstrip(b"\n")
        if begin not in {b"", b"["}:
            raise UsageProblem(f"{path}: is no trace that could be gone on with; name another file, or remove it")
        at = end = len(begin)
        at += 1
        for line in file:
            event = line.rstrip(b"\n").removesuffix(b",")
            if event.startswith(b"{") and (line.endswith(b"\n") or _is_json(event)):
                end = at + len(event)
            at += len(line)
        file.truncate(end)
    return end > len(begin)


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


class TaskLogs:
    """What the function wrote to its standard streams, in files named by the input's id: ``ID.out`` and ``ID.err``.

    There is none where nothing was written.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        try:
            os.makedirs(directory, exist_ok=True)
        except OSError as error:
            raise UsageProblem(f"{directory}: cannot be made: {error.strerror}; choose another place") from error

    def add(self, item: Item, outcome: Outcome, _record: Record) -> None:
        """*item* has ended."""
        for text, suffix in ((outcome.stdout, "out"), (outcome.stderr, "err")):
            path = os.path.join(self._directory, f"{_file_name(item.id)}.{suffix}")
            if text:
                file = _File(path, "w")
                file.write(text)
                file.close()
                continue
            try:
                os.unlink(path)  # of an attempt in an earlier run
            except FileNotFoundError:
                pass
            except OSError as error:
                raise JobStopped(f"cannot write {path}: {error.strerror}; see to it and go on with --resume") from error

    def flush(self) -> None:
        """Each is written as it is added."""

    def close(self) -> None:
        """The map has ended."""


def _file_name(identity: str) -> str:
    """A name of its own for each id, that every file system takes."""
    name = urllib.parse.quote(identity.encode("utf-8", "surrogatepass"), safe="")
    if len(name) <= _NAME_MOST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: _NAME_MOST - 17]}-{digest}"
