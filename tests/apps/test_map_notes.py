"""What is written besides the records."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from forkful import Outcome
from forkful.apps.mapping.calls import Failure
from forkful.apps.mapping.inputs import Item
from forkful.apps.mapping.notes import JobLog, TaskLogs, Trace
from forkful.apps.mapping.records import Record
from forkful.apps.problems import JobStopped, UsageProblem
from forkful.errors import TaskTimeout, WorkerDied

ITEM = Item("id1", "a\tb\nc", 7, "in.txt", 3)
DONE = Record(b"0123456789", 100.5, 2.25, None)
FAILED = Record(b"0123456789", 100.5, 2.25, Failure("ValueError", "no", None))
LOST = Record(b"0123456789", None, None, Failure("WorkerDied", "no", None))
LATE = Record(b"0123456789", None, None, Failure("TaskTimeout", "no", None), at_least=30.0)


def outcome(error: BaseException | None = None, **facts: object) -> Outcome:
    """One of worker 42."""
    return Outcome(0, error is None, None, error, 1, 42, **facts)  # type: ignore[arg-type]  # as it is said


def test_joblog(tmp_path: Path) -> None:
    """GNU parallel's nine columns; an input takes one line, whatever is in it."""
    path = tmp_path / "log.tsv"
    log = JobLog(str(path), "work", append=False)
    log.add(ITEM, outcome(), DONE)
    log.add(ITEM, outcome(), FAILED)
    log.add(ITEM, outcome(WorkerDied("x", exitcode=-9)), LOST)
    log.add(ITEM, outcome(WorkerDied("x", exitcode=3)), LOST)
    log.add(ITEM, outcome(TaskTimeout("x", seconds=30.0)), LATE)
    log.close()
    head, *lines = [line.split("\t") for line in path.read_text().splitlines()]
    assert head == ["Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command"]
    assert lines[0] == ["7", ":", "100.500", "2.250", "9", "10", "0", "0", 'work "a\\tb\\nc"']
    assert [(line[3], line[6], line[7]) for line in lines] == [
        ("2.250", "0", "0"), ("2.250", "1", "0"), ("0.000", "1", "9"), ("0.000", "3", "0"), ("30.000", "-1", "0"),
    ]  # fmt: skip  # runtime, exit value and signal of each


def test_joblog_goes_on(tmp_path: Path) -> None:
    """Behind what it holds, or from the beginning."""
    path = tmp_path / "log.tsv"
    for append, count in ((True, 2), (True, 3), (False, 2)):
        log = JobLog(str(path), "work", append=append)
        log.add(ITEM, outcome(), DONE)
        log.close()
        assert len(path.read_text().splitlines()) == count


def test_trace(tmp_path: Path) -> None:
    """An array of complete events in microseconds; what nobody could measure has none."""
    path = tmp_path / "trace.json"
    trace = Trace(str(path), "work")
    trace.add(ITEM, outcome(), DONE)
    trace.add(ITEM, outcome(WorkerDied("x")), LOST)
    trace.add(ITEM, outcome(), FAILED)
    trace.close()
    first, second = json.loads(path.read_text())
    assert (first["name"], first["ph"], first["ts"], first["dur"], first["pid"]) == (
        "work",
        "X",
        100_500_000,
        2_250_000,
        42,
    )
    assert (first["cat"], second["cat"]) == ("ok", "failed")


def test_trace_of_nothing(tmp_path: Path) -> None:
    """It can be read all the same."""
    path = tmp_path / "trace.json"
    Trace(str(path), "work").close()
    assert json.loads(path.read_text()) == []


def test_trace_goes_on(tmp_path: Path) -> None:
    """Behind what earlier runs have written, however they ended; what was never finished goes."""
    path = tmp_path / "trace.json"
    for left, count in ((None, 1), ("\n]\n", 2), ("", 3), (',\n{"name": "wo', 4), (",\n", 5), ("\n]", 6)):
        if left is not None:
            path.write_text(path.read_text().removesuffix("\n]\n") + left)
        trace = Trace(str(path), "work", append=True)
        trace.add(ITEM, outcome(), DONE)
        trace.close()
        assert len(json.loads(path.read_text())) == count
    for begun in ("", "[", "[\n", "[\n]\n"):
        path.write_text(begun)
        trace = Trace(str(path), "work", append=True)
        trace.add(ITEM, outcome(), DONE)
        trace.close()
        assert len(json.loads(path.read_text())) == 1
    Trace(str(path), "work").close()
    assert json.loads(path.read_text()) == []


def test_trace_does_not_go_on_with_anything(tmp_path: Path) -> None:
    """What is no trace is left as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n")
    with pytest.raises(UsageProblem, match=r"notes\.txt: is no trace that could be gone on with; name another file"):
        Trace(str(path), "work", append=True)
    assert path.read_text() == "my notes\n"


@pytest.mark.parametrize("note", [JobLog, Trace])
def test_notes_are_there_before_the_end(tmp_path: Path, note: type[JobLog | Trace]) -> None:
    """What was flushed no kill takes back; the head of a log is there from the start."""
    path = tmp_path / "note"
    opened = note(str(path), "work", append=False)
    head = path.read_text()
    assert head
    opened.add(ITEM, outcome(), DONE)
    opened.flush()
    assert path.read_text().startswith(head)
    assert "work" in path.read_text()
    opened.close()


def test_joblog_without_half_a_line(tmp_path: Path) -> None:
    """What a kill has left of a line goes: its input has no record, and comes again."""
    path = tmp_path / "log.tsv"
    for _ in range(2):
        log = JobLog(str(path), "work", append=True)
        log.add(ITEM, outcome(), DONE)
        log.close()
        path.write_text(path.read_text() + "7\t:\t10")
    JobLog(str(path), "work", append=True).close()
    assert [line.count("\t") for line in path.read_text().splitlines()] == [8, 8, 8]
    path.write_text("somebody's")
    JobLog(str(path), "work", append=True).close()
    assert path.read_text() == "somebody's"


def test_task_logs(tmp_path: Path) -> None:
    """A file for what was written, in the place that the id names, and in no other."""
    logs = TaskLogs(str(tmp_path / "logs"))
    logs.add(Item("../x/y", "", 1, "in", 1), outcome(stdout="out", stderr=""), DONE)
    logs.add(ITEM, outcome(stdout="", stderr="err\n"), FAILED)
    assert {path.name: path.read_text() for path in (tmp_path / "logs").iterdir()} == {
        "..%2Fx%2Fy.out": "out", "id1.err": "err\n",
    }  # fmt: skip
    logs.add(ITEM, outcome(stdout="", stderr=""), DONE)
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["..%2Fx%2Fy.out"]


def test_places_that_cannot_be(tmp_path: Path) -> None:
    """The message names it, before anything is started."""
    for make in (lambda path: JobLog(path, "x", append=False), lambda path: Trace(path, "x")):
        with pytest.raises(JobStopped, match=r"cannot write .*no/log: No such file or directory"):
            make(str(tmp_path / "no" / "log"))
    (tmp_path / "file").touch()
    with pytest.raises(UsageProblem, match="cannot be made"):
        TaskLogs(str(tmp_path / "file"))


def test_full_disk() -> None:
    """The job stops, and says which file it was."""
    with pytest.raises(JobStopped, match="cannot write /dev/full: No space left on device"):
        JobLog("/dev/full", "work", append=False)
    assert os.path.exists("/dev/full")


def test_task_logs_that_cannot_be_written(tmp_path: Path) -> None:
    """The job stops, and says where."""
    logs = TaskLogs(str(tmp_path / "logs"))
    (tmp_path / "logs" / "id1.out").mkdir()
    for text in ("out", ""):
        with pytest.raises(JobStopped, match=r"cannot write .*id1\.out: Is a directory"):
            logs.add(ITEM, outcome(stdout=text, stderr=""), DONE)


def test_names_of_task_logs(tmp_path: Path) -> None:
    """Each id has its own, however long or odd it is."""
    logs = TaskLogs(str(tmp_path))
    for identity in ("\u65e5" * 100 + "a", "\u65e5" * 100 + "b", "\ud800", "x" * 300):
        logs.add(Item(identity, "", 1, "in", 1), outcome(stdout=identity[-1:], stderr=""), DONE)
    assert len(list(tmp_path.iterdir())) == 4


def test_joblog_into_a_pipe(tmp_path: Path) -> None:
    """It has no position."""
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    log = JobLog(str(tmp_path / "pipe"), "work", append=True)
    log.add(ITEM, outcome(), DONE)
    log.close()
    assert os.read(reading, 1000).startswith(b"Seq\tHost")
    os.close(reading)
