"""`map_file` from Python, with real workers."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from forkful import Pool
from forkful.apps.mapping import map_file
from forkful.apps.problems import JobStopped, UsageProblem
from forkful.errors import InitializerError


def double(text: str) -> str:
    """A task function."""
    return text * 2


def leave_a_thread(text: str) -> str:
    """A task function that leaves something running for ever."""
    threading.Thread(target=time.sleep, args=(600,)).start()
    return text


def read(path: Path) -> list[dict[str, Any]]:
    """The records of *path*."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def inputs(tmp_path: Path) -> str:
    """A file with three inputs."""
    path = tmp_path / "in.txt"
    path.write_text("a\nb\nc\n")
    return str(path)


def test_function_object(tmp_path: Path, inputs: str) -> None:
    """From Python, the function can be given itself; the summary tells what was done, progress what is done so far."""
    out = tmp_path / "out.jsonl"
    seen = []
    summary = map_file(double, inputs, str(out), processes=2, progress=lambda now: seen.append((now.done, now.total)))
    assert (summary.done, summary.failed, summary.output, summary.interrupted) == (3, 0, str(out), False)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == ((0, 3), (3, 3))
    assert sorted(record["result"] for record in read(out)) == ["aa", "bb", "cc"]


def test_replaced_records_are_never_those_of_the_new_job(
    tmp_path: Path, inputs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands beside an output changes when that is empty: killed in between, nobody takes old records for new ones."""
    out = tmp_path / "out.jsonl"
    map_file(double, inputs, out, processes=1)
    held: list[int] = []
    replace = os.replace

    def watched(source: str, target: str) -> None:
        held.append(out.stat().st_size)
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    map_file(double, inputs, out, processes=1, overwrite=True)
    assert held[0] == 0 < held[-1]


@pytest.mark.parametrize("progress", [None, lambda _summary: None])
def test_no_more_workers_than_inputs(
    tmp_path: Path, inputs: str, monkeypatch: pytest.MonkeyPatch, progress: Any
) -> None:
    """Three inputs are no reason to start three hundred processes; an input that nobody can count may be."""
    started = []

    def start(processes: int, **options: Any) -> Pool:
        started.append(processes)
        return Pool(min(processes, 3), **options)

    monkeypatch.setattr("forkful.apps.mapping.run.Pool", start)
    out = str(tmp_path / "out.jsonl")
    summary = map_file(double, inputs, out, processes=300, progress=progress)
    assert (summary.done, summary.processes) == (3, 3)
    assert map_file(double, inputs, out, processes=2, progress=progress, overwrite=True).processes == 2
    os.truncate(inputs, 0)
    assert map_file(double, inputs, out, processes=300, progress=progress, overwrite=True).processes == 1
    assert started == [3, 2, 1]

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    keeps_open = os.open(pipe, os.O_RDWR)
    monkeypatch.setattr("forkful.apps.mapping.job.read_items", lambda *_: iter(()))
    map_file(double, str(pipe), out, processes=300, progress=progress, overwrite=True)
    os.close(keeps_open)
    assert started[-1] == 300


def test_thread_left_behind(tmp_path: Path, inputs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all is done, a worker that does not leave is not waited for."""
    monkeypatch.setattr("forkful.apps.mapping.run._GRACE", 0.1)
    summary = map_file(leave_a_thread, inputs, str(tmp_path / "out.jsonl"), processes=2)
    assert (summary.done, summary.failed) == (3, 0)


def test_interrupt_from_progress(tmp_path: Path, inputs: str) -> None:
    """A KeyboardInterrupt, wherever it comes, ends the work and is told by the summary, not raised."""

    def press_ctrl_c(summary: Any) -> None:
        if summary.done:
            raise KeyboardInterrupt

    out = tmp_path / "out.jsonl"
    summary = map_file(double, inputs, str(out), processes=1, progress=press_ctrl_c)
    assert summary.interrupted
    assert summary.done == len(read(out)) == 1


def test_input_that_vanishes_stops_the_job(tmp_path: Path, inputs: str) -> None:
    """An input file that is gone before its turn stops the job with its name, and how much was done."""
    second = tmp_path / "second.txt"
    second.write_text("d\n" * 10)
    second_gone = iter([None])

    def remove(_summary: Any) -> None:
        for _ in second_gone:
            second.unlink()

    (tmp_path / "in.txt").write_text("".join(f"{number}\n" for number in range(5000)))
    with pytest.raises(JobStopped, match=r"second\.txt: No such file") as raised:
        map_file(double, [inputs, str(second)], str(tmp_path / "out.jsonl"), progress=remove)
    assert raised.value.done == len(read(tmp_path / "out.jsonl"))


def test_no_processes_to_be_had(tmp_path: Path, inputs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives none, neither FUNC nor --init is to blame."""

    def refuse(*_: Any, **__: Any) -> None:
        error = InitializerError("no worker could be started: BlockingIOError: [Errno 11] Resource unavailable")
        raise error from BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("forkful.apps.mapping.run.Pool", refuse)
    message = "the system gives no processes: Resource temporarily unavailable; ask for fewer with --jobs, or look at"
    with pytest.raises(JobStopped, match=message):
        map_file(double, inputs, str(tmp_path / "out.jsonl"))


GUARD = 'if __name__ == "__main__":'


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "def work(text): return text\nRUN",
            (
                "a worker imports this script to find FUNC in it, and the script calls map_file as it is imported; put that "
                f"call under `{GUARD}`"
            ),
        ),
        (
            f"{GUARD}\n    def work(text): return text\n    RUN",
            (
                "the workers do not find 'work' in this script, which FUNC (work) needs; define it at the top level of the "
                f"script, outside of `{GUARD}`, or in a module"
            ),
        ),
        (
            f"{GUARD}\n    class Some:\n        def work(self, text): return text\n    work = Some().work\n    RUN",
            (
                "the workers do not find 'Some' in this script, which FUNC (work) needs; define it at the top level of the "
                f"script, outside of `{GUARD}`, or in a module"
            ),
        ),
        (
            f"def work(text): return text\n{GUARD}\n    class Some:\n        def set_up(self): pass\n    RUN".replace(
                "RUN", "RUN, init=Some().set_up"
            ),
            (
                "the workers do not find 'Some' in this script, which --init (set_up) or FUNC (work) needs; define it at the "
                f"top level of the script, outside of `{GUARD}`, or in a module"
            ),
        ),
    ],
)
def test_scripts_that_workers_cannot_import(tmp_path: Path, inputs: str, script: str, message: str) -> None:
    """The last line tells what is wrong with the script, and what to do."""
    code, _, more = script.partition("RUN")
    call = f"map_file(work, {inputs!r}, {str(tmp_path / 'out.jsonl')!r}, processes=2{more})\n"
    path = tmp_path / "script.py"
    path.write_text(f"from forkful import map_file\n{code}{call}")
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"forkful.apps.problems.JobStopped: {message}"
    assert not (tmp_path / "out.jsonl").exists()


def test_times_as_they_are_typed(tmp_path: Path, inputs: str) -> None:
    """A backoff may be written as a timeout may; what is none is refused."""
    summary = map_file(double, inputs, tmp_path / "out.jsonl", timeout="30s", retries=1, backoff="100ms")
    assert summary.done == 3
    with pytest.raises(UsageProblem, match="'soon' is not a time; write 30s"):
        map_file(double, inputs, tmp_path / "other.jsonl", retries=1, backoff="soon")


def test_progress_that_is_no_function(tmp_path: Path, inputs: str) -> None:
    """Refused before anything is started."""
    with pytest.raises(UsageProblem, match="progress=True is no function; give one that takes the summary so far"):
        map_file(double, inputs, tmp_path / "out.jsonl", progress=True)  # type: ignore[arg-type]  # what is tested


def take_two(_one: str, _two: str) -> None:
    """Not a task function."""


def test_function_objects_that_cannot_be_called(tmp_path: Path, inputs: str) -> None:
    """They are looked at as those with a name are."""
    with pytest.raises(UsageProblem, match="take_two cannot be called with one argument, the input: missing"):
        map_file(take_two, inputs, str(tmp_path / "out.jsonl"))
    with pytest.raises(UsageProblem, match="double cannot be called without arguments: missing"):
        map_file(double, inputs, str(tmp_path / "out.jsonl"), init=double)  # type: ignore[arg-type]  # likewise
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"processes": 0}, "processes=0 is too few; "),
        ({"processes": 5000}, "processes=5000 is too many; ask for 4096 or fewer"),
        ({"timeout": 0}, "timeout=0 is no time to wait for; "),
        ({"retries": -1}, "retries=-1 is less than none; "),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, inputs: str, options: dict[str, Any], message: str) -> None:
    """They are found before the output is made."""
    with pytest.raises(UsageProblem, match=message):
        map_file(double, inputs, str(tmp_path / "out.jsonl"), **options)
    assert not (tmp_path / "out.jsonl").exists()
