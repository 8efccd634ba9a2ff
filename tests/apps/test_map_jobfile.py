"""What stands beside an output, and when it may be resumed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from forkful.apps.functions import FunctionRef
from forkful.apps.mapping.jobfile import JobFile, Program, check_same, job_path, read_job, write_job
from forkful.apps.problems import UsageProblem

WORK = Program("work", "/x/work.py", "00")
JOB = JobFile(WORK, None, by_keyword=False, id_field=None, inputs=["in.txt"])


def test_written_and_read(tmp_path: Path) -> None:
    """All of it comes back; nothing else is left beside it."""
    out = str(tmp_path / "out.jsonl")
    assert read_job(out) is None
    job = dataclasses.replace(JOB, init=Program("set_up", None, None), total=3, state="done")
    write_job(out, JOB)
    write_job(out, job)
    assert read_job(out) == job
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl.job"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"function": 1}', '{"function": {"name": "x"}, "init": null}'])
def test_file_that_is_no_job(tmp_path: Path, text: str) -> None:
    """The message says what to do."""
    out = str(tmp_path / "out.jsonl")
    Path(job_path(out)).write_text(text)
    with pytest.raises(UsageProblem, match="does not describe a job; remove it, and go on with --resume --force"):
        read_job(out)


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (JOB, None),
        (dataclasses.replace(JOB, inputs=["other.txt"], total=9, state="done", pid=1, begun=0.0), None),
        (dataclasses.replace(JOB, function=WORK.__class__("work", "/elsewhere/work.py", "00")), None),
        (
            dataclasses.replace(JOB, function=WORK.__class__("other", "/x/work.py", "00")),
            "the function was 'work', and is 'other' now",
        ),
        (dataclasses.replace(JOB, function=WORK.__class__("work", "/x/work.py", "01")), "/x/work.py has changed since"),
        (dataclasses.replace(JOB, init=WORK), "it was begun without --init"),
        (dataclasses.replace(JOB, by_keyword=True), "it was begun without --kwargs"),
        (dataclasses.replace(JOB, id_field="k"), "its ids are made from the content of inputs"),
    ],
)
def test_same_job(now: JobFile, message: str | None) -> None:
    """Where inputs come from may change; what is done with them may not."""
    if message is None:
        check_same("out.jsonl", JOB, now)
    else:
        with pytest.raises(UsageProblem, match=f"out.jsonl: .*{message}"):
            check_same("out.jsonl", JOB, now)


def test_nothing_beside_it() -> None:
    """Nobody knows what wrote it."""
    with pytest.raises(UsageProblem, match=r"there is no out\.jsonl\.job beside it, .*; --force takes it"):
        check_same("out.jsonl", None, JOB)


def test_programs(tmp_path: Path) -> None:
    """A function is known by its name and the content of its file."""
    path = tmp_path / "work.py"
    path.write_text("def f(x): return x\n")
    ref = FunctionRef(str(path), "f")
    before = Program.of(ref)
    assert (before.name, before.file) == ("f", str(path))
    assert before.difference(Program.of(ref)) is None
    path.write_text("def f(x): return x + 1\n")
    assert Program.of(ref).difference(before) == f"{path} has changed since"


def test_programs_of_python() -> None:
    """Functions themselves, builtins, objects: whatever can be called has a name."""
    assert Program.of(test_programs).file == __file__
    assert Program.of(len) == Program("len", None, None)
    assert Program.of(json.JSONEncoder().encode).name == "JSONEncoder.encode"
