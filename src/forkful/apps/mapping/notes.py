"""What a map writes besides its records: a log of jobs, a trace, what the function printed."""

from __future__ import annotations

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


class Note(Protocol):
    """One of these.  What cannot be written is a `JobStopped`."""

    def add(self, item: Item, outcome: Outcome, record: Record) -> None:
        """*item* has ended."""

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
        if not append or not self._file.file.seekable() or self._file.file.tell() == 0:
            self._file.write(self._HEAD)

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

    def close(self) -> None:
        """The map has ended."""
        self._file.close()


def _started_at(record: Record, seconds: float | None) -> float:
    """Seconds since the epoch: as the worker has told, else from now on backwards."""
    return time.time() - (seconds or 0.0) if record.started is None else record.started


class Trace:
    """When each input ran in which process, for ``chrome://tracing`` or ui.perfetto.dev.

    The Trace Event Format's array of complete events; one that was never closed is read all the same.
    """

    def __init__(self, path: str, name: str) -> None:
        self._file = _File(path, "w")
        self._name = name
        self._file.write("[")
        self._first = True

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

    def close(self) -> None:
        """The map has ended."""
        self._file.write("\n]\n")
        self._file.close()


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

    def close(self) -> None:
        """The map has ended."""


def _file_name(identity: str) -> str:
    """A name of its own for each id, that every file system takes."""
    name = urllib.parse.quote(identity.encode("utf-8", "surrogatepass"), safe="")
    if len(name) <= _NAME_MOST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: _NAME_MOST - 17]}-{digest}"
