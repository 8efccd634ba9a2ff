"""Jobs that were cut short, and go on: nothing is lost, nothing is done twice."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forkful.apps.mapping import map_file
from forkful.apps.problems import UsageProblem

from .conftest import Shell

SLOWER = """
import os, time
def work(text):
    time.sleep(0.001)
    return text[::-1]
def fail_on_odd(text):
    if int(text) % 2 and not os.path.exists("mended"):
        raise ValueError(text)
    return int(text)
def wait_for(text):
    print("begun", text, file=__import__("sys").stderr, flush=True)
    while not os.path.exists("go"):
        time.sleep(0.01)
    return text
"""


def identity(text: str) -> str:
    """The id of a line."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def results(out: Path) -> dict[str, Any]:
    """Results by id; each line must be whole, and each id there once."""
    records = [json.loads(line) for line in out.read_text().splitlines()]
    counts = Counter(record["id"] for record in records)
    assert set(counts.values()) <= {1}, counts.most_common(3)
    return {record["id"]: record.get("result") for record in records}


@pytest.fixture
def slow(shell: Shell) -> Shell:
    """A directory with functions that take a while."""
    (shell.directory / "slow.py").write_text(SLOWER)
    return shell


@pytest.mark.parametrize("order", [[], ["--keep-order"]])
def test_killed_at_any_moment(slow: Shell, order: list[str]) -> None:
    """The whole process group is killed again and again; in the end each input has its record, once."""
    lines = [f"line {number}" for number in range(2000)]
    slow.write("in.txt", *lines)
    arguments = ["map", "slow.py:work", "in.txt", "-o", "out.jsonl", "--resume", "-j", "2", *order]
    chance = random.Random(4)
    kills = 0
    while True:
        process = slow.start(*arguments, start_new_session=True)
        try:
            process.wait(chance.uniform(0.2, 1.2))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        assert kills < 100
    assert kills >= 2
    assert results(slow.out) == {identity(line): line[::-1] for line in lines}
    if order:
        assert [json.loads(line)["input"] for line in slow.out.read_text().splitlines()] == lines


def test_killed_with_notes(slow: Shell) -> None:
    """Each record is in the job log and the trace too, whenever the process group was killed."""
    slow.write("in.txt", *(f"line {number}" for number in range(1000)))
    notes = ["--joblog", "log.tsv", "--trace", "trace.json"]
    arguments = ["map", "slow.py:work", "in.txt", "-o", "out.jsonl", "--resume", "-j", "2", *notes]
    log, trace = slow.directory / "log.tsv", slow.directory / "trace.json"
    for kills in range(3):
        with slow.start(*arguments, start_new_session=True) as process:
            while not slow.out.exists() or slow.out.read_bytes().count(b"\n") < 100 * (kills + 1):
                time.sleep(0.01)
                assert process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
        written = slow.out.read_bytes().count(b"\n")
        assert log.read_text().startswith("Seq\t")
        assert log.read_bytes().count(b"\n") > written
        assert trace.read_bytes().count(b'"id"') >= written
    assert slow.run(*arguments).returncode == 0
    commands = {line.rpartition("\t")[2] for line in log.read_text().splitlines()[1:]}
    assert commands == {f'work "line {number}"' for number in range(1000)}
    assert {event["args"]["id"] for event in json.loads(trace.read_text())} == set(results(slow.out))


def test_torn_line_is_mended(shell: Shell) -> None:
    """What a killed run has left of a line goes, and its input is done again."""
    shell.write("in.txt", "a", "b", "c")
    assert shell.run("map", "work.py:echo", "in.txt", "-o", "out.jsonl", "-k").returncode == 0
    whole = shell.out.read_bytes()
    for cut in (1, 10, len(whole.splitlines(keepends=True)[-1]) - 1):
        shell.out.write_bytes(whole[:-cut])
        done = shell.run("map", "work.py:echo", "in.txt", "-o", "out.jsonl", "--resume")
        assert done.returncode == 0, done.stderr
        assert results(shell.out) == {identity(line): line for line in "abc"}


def test_inputs_that_were_edited(shell: Shell) -> None:
    """Lines are known by their content: what is new is done, wherever it stands; what is done is left."""
    shell.write("in.txt", "a", "b", "c", "b")
    assert shell.run("map", "work.py:echo", "in.txt", "-o", "out.jsonl").returncode == 0
    before = shell.out.read_bytes()
    shell.write("in.txt", "new", "c", "b", "b", "b", "d")
    done = shell.run("map", "work.py:echo", "in.txt", "-o", "out.jsonl", "--resume")
    assert done.returncode == 0
    assert "3 done in" in done.stderr
    assert "4 were done by an earlier run" in done.stderr
    assert shell.out.read_bytes().startswith(before)
    b = identity("b")
    assert set(results(shell.out)) == {
        identity("a"),
        b,
        identity("c"),
        f"{b}-2",
        identity("new"),
        f"{b}-3",
        identity("d"),
    }
    nothing = shell.run("map", "work.py:echo", "in.txt", "-o", "out.jsonl", "--resume")
    assert "0 done in" in nothing.stderr
    assert nothing.returncode == 0


@pytest.mark.parametrize("seed", [["--seed", "7"], []])
def test_sample_goes_on(shell: Shell, seed: list[str]) -> None:
    """The same command finishes the same sample, however often it is said; a larger one holds it."""
    lines = [f"line {number}" for number in range(300)]
    shell.write("in.txt", *lines)
    run = ["map", "work.py:echo", "in.txt", "-o", "out.jsonl", "--sample", "40", *seed]
    assert shell.run(*run).returncode == 0
    whole = shell.out.read_text().splitlines(keepends=True)
    assert len(whole) == 40
    shell.out.write_text("".join(whole[:26]))
    listed = shell.run(*run, "--resume", "--dry-run")
    assert {line.partition("\t")[0] for line in listed.stdout.splitlines()} == set(results(shell.out)) ^ {
        json.loads(line)["id"] for line in whole
    }
    rest = shell.run(*run, "--resume", "--progress")
    assert (rest.returncode, "14 done in" in rest.stderr) == (0, True), rest.stderr
    assert sorted(results(shell.out).values()) == sorted(json.loads(line)["result"] for line in whole)
    none = shell.run(*run, "--resume")
    assert (none.returncode, "forkful: 0 done in" in none.stderr) == (0, True), none.stderr
    more = shell.run(*run, "--resume", "--sample", "60")
    assert (more.returncode, "20 done in" in more.stderr) == (0, True), more.stderr
    everything = shell.run("map", "work.py:echo", "in.txt", "-o", "out.jsonl", "--resume")
    assert (everything.returncode, "240 done in" in everything.stderr) == (0, True), everything.stderr


def test_function_that_has_changed(shell: Shell) -> None:
    """Refused with the reason, taken with --force; nothing is written meanwhile."""
    shell.write("in.txt", "a")
    assert shell.run("map", "work.py:echo", "in.txt", "-o", "out.jsonl").returncode == 0
    before = shell.out.read_bytes()
    shell.write("in.txt", "a", "bb")
    other = shell.run("map", "work.py:length", "in.txt", "-o", "out.jsonl", "--resume")
    assert other.returncode == 2
    assert other.stderr == (
        "forkful: out.jsonl: cannot be resumed: the function was 'echo', and is 'length' now; "
        "--force goes on all the same, --overwrite begins anew\n"
    )
    with open(shell.directory / "work.py", "a") as file:
        file.write("\n# changed\n")
    changed = shell.run("map", "work.py:echo", "in.txt", "-o", "out.jsonl", "--resume")
    assert changed.returncode == 2
    assert "work.py has changed since; --force" in changed.stderr
    assert shell.out.read_bytes() == before
    forced = shell.run("map", "work.py:length", "in.txt", "-o", "out.jsonl", "--resume", "--force")
    assert forced.returncode == 0
    assert results(shell.out) == {identity("a"): "a", identity("bb"): 2}
    again = shell.run("map", "work.py:length", "in.txt", "-o", "out.jsonl", "--resume")
    assert again.returncode == 0, "what was forced is the job's function from then on"


def test_output_of_another_job(shell: Shell) -> None:
    """A file that no map has written is left as it is, with or without --force."""
    shell.write("in.txt", "a")
    shell.out.write_text("my notes\nand more\n")
    for options in (["--resume"], ["--resume", "--force"], ["--retry-failed", "--force"]):
        done = shell.run("map", "work.py:echo", "in.txt", "-o", "out.jsonl", *options)
        assert done.returncode == 2
        assert re.search(r"out\.jsonl.*(there is no out\.jsonl\.job beside it|line 1 is no record)", done.stderr)
        assert shell.out.read_text() == "my notes\nand more\n"


def test_records_without_their_job(shell: Shell) -> None:
    """Without the file beside it nobody knows what wrote it; --force takes it."""
    shell.write("in.txt", "a", "b")
    assert shell.run("map", "work.py:echo", "in.txt", "-o", "out.jsonl").returncode == 0
    (shell.directory / "out.jsonl.job").unlink()
    done = shell.run("map", "work.py:echo", "in.txt", "-o", "out.jsonl", "--resume")
    assert (done.returncode, "there is no out.jsonl.job beside it" in done.stderr) == (2, True)
    assert shell.run("map", "work.py:echo", "in.txt", "-o", "out.jsonl", "--resume", "--force").returncode == 0


def test_ids_of_another_kind(shell: Shell) -> None:
    """A job that was begun with a field as id cannot go on without."""
    shell.write("in.jsonl", '{"k": "x"}')
    run = ["map", "work.py:echo", "in.jsonl", "-o", "out.jsonl"]
    assert shell.run(*run, "--id-field", "k").returncode == 0
    for options in ([], ["--id-field", "other"]):
        done = shell.run(*run, "--resume", *options)
        assert (done.returncode, "its ids are made from --id-field k" in done.stderr) == (2, True)


def test_retry_of_what_failed(slow: Shell) -> None:
    """--resume leaves failures; --retry-failed tries them again, and replaces their records."""
    slow.write("in.txt", *map(str, range(10)))
    run = ["map", "slow.py:fail_on_odd", "in.txt", "-o", "out.jsonl"]
    first = slow.run(*run)
    assert first.returncode == 1
    assert "the same command with --retry-failed tries those again" in first.stderr
    resumed = slow.run(*run, "--resume")
    assert resumed.returncode == 1
    assert "10 were done by an earlier run, 5 of them failed" in resumed.stderr
    (slow.directory / "mended").touch()
    again = slow.run(*run, "--retry-failed")
    assert again.returncode == 0, again.stderr
    assert "5 done in" in again.stderr
    assert results(slow.out) == {identity(str(number)): number for number in range(10)}
    assert sorted(path.name for path in slow.directory.iterdir() if "out" in path.name) == [
        "out.jsonl",
        "out.jsonl.job",
    ]


@pytest.mark.parametrize(
    "options", [["--trace", "no/x"], ["--max-memory", "lots"], ["--init", "work.py:fail_to_set_up", "--force"]]
)
def test_failures_are_kept_until_there_is_something_in_their_place(slow: Shell, options: list[str]) -> None:
    """A run that cannot begin leaves them as they were."""
    slow.write("in.txt", *map(str, range(10)))
    run = ["map", "slow.py:fail_on_odd", "in.txt", "-o", "out.jsonl"]
    assert slow.run(*run).returncode == 1
    before = slow.out.read_bytes()
    assert slow.run(*run, "--retry-failed", *options).returncode in {1, 2}
    assert slow.out.read_bytes() == before


def test_full_disk_and_then_space(shell: Shell, small_disk: Callable[[], None]) -> None:
    """A clear error, whole lines, and --resume does the rest."""
    lines = [f"{number:04}" for number in range(300)]
    shell.write("in.txt", *lines)
    run = ["map", "work.py:big", "in.txt", "-o", "out.jsonl"]
    full = shell.run(*run, preexec_fn=small_disk)
    assert full.returncode == 1
    assert (
        "cannot write out.jsonl: File too large; what it holds is whole: make space and go on with --resume"
        in full.stderr
    )
    done = len(results(shell.out))
    assert 0 < done < 300
    rest = shell.run(*run, "--resume")
    assert rest.returncode == 0, rest.stderr
    assert set(results(shell.out)) == {identity(line) for line in lines}


def test_resume_from_the_beginning(shell: Shell) -> None:
    """Without an output, or with an empty one, it is the first run: scripts can always say --resume."""
    shell.write("in.txt", "a")
    run = ["map", "work.py:echo", "in.txt", "-o", "out.jsonl", "--resume"]
    assert shell.run(*run).returncode == 0
    shell.out.write_text("")
    assert shell.run(*run, "--force").returncode == 0
    assert len(results(shell.out)) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resume", "--overwrite"], "--overwrite begins anew, and --resume goes on; say one of them"),
        (["--force"], "--force is for --resume; add that, or say --overwrite to begin anew"),
        (["--seed", "1"], "--seed is of a choice by chance; add --shuffle or --sample"),
        (["--backoff", "1s"], "--backoff says how to try again, and nothing is; add --retries 2"),
        (["--kwargs"], "in.txt: its lines are text and have no fields, which --kwargs needs"),
        (["--id-field", "k"], "in.txt: its lines are text and have no fields, which --id-field needs"),
        (["--halt", "sometimes"], "'sometimes' is no way to halt; write now,fail=1 or soon,fail=10%"),
        (["--max-memory", "lots"], "--max-memory must be a size such as"),
        (["--threads", "0"], "threads=0 cannot be; ask for 1 to 240"),
        (["--sample", "0"], "sample=0 is nothing to run; ask for 1 or more"),
        (["--joblog", "no/log"], "no/log: there is no directory no; make it first"),
    ],
)
def test_options_that_cannot_be(shell: Shell, options: list[str], message: str) -> None:
    """One line, exit code 2, and no file."""
    shell.write("in.txt", "a")
    done = shell.run("map", "work.py:echo", "in.txt", "-o", "out.jsonl", *options)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"forkful: {message}")
    assert done.stderr.count("\n") == 1
    assert not shell.out.exists()


def test_resume_of_standard_output(shell: Shell) -> None:
    """There is nothing to go on with."""
    shell.write("in.txt", "a")
    done = shell.run("map", "work.py:echo", "in.txt", "--resume")
    assert (done.returncode, done.stderr) == (2, "forkful: standard output cannot be resumed; name a file with -o\n")


def test_status(slow: Shell) -> None:
    """Of a job that runs, was killed, is done; it changes nothing."""
    slow.write("in.txt", "1", "2", "3")
    process = slow.start("map", "slow.py:wait_for", "in.txt", "-o", "out.jsonl", "-j", "1", start_new_session=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "begun 1\n"
    assert slow.run("map", "--status", "out.jsonl").stdout.splitlines()[0] == "out.jsonl: running"
    (slow.directory / "go").touch()
    assert process.wait() == 0
    process.communicate()
    done = slow.run("map", "--status", "out.jsonl")
    assert done.returncode == 0
    assert done.stdout.splitlines()[:3] == ["out.jsonl: done", "  done            3", "  failed          0"]
    job = slow.directory / "out.jsonl.job"
    job.write_text(job.read_text().replace('"done"', '"running"'))
    assert slow.run("map", "--status", "out.jsonl").stdout.startswith("out.jsonl: killed\n")
    for rubbish in ('{"total": "x"}', '{"begun": 1e300}', '{"inputs": null}', "[" * 100_000):
        facts = {**json.loads(job.read_text()), **json.loads(rubbish)} if rubbish.startswith("{") else None
        held = job.read_text()
        job.write_text(rubbish if facts is None else json.dumps(facts))
        odd = slow.run("map", "--status", "out.jsonl")
        assert (odd.returncode, "does not describe a job" in odd.stderr) == (2, True), odd.stderr
        job.write_text(held)
    missing = slow.run("map", "--status", "gone.jsonl")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "gone.jsonl: cannot be read" in missing.stderr


def test_dry_run(shell: Shell) -> None:
    """The inputs that would be run, and nothing else."""
    shell.write("in.txt", "a", "b")
    run = ["map", "work.py:announce", "in.txt", "-o", "out.jsonl"]
    done = shell.run(*run, "--dry-run")
    assert done.stdout.splitlines() == [f'{identity("a")}\t"a"', f'{identity("b")}\t"b"']
    assert done.stderr == "forkful: 2 inputs would be run; nothing was\n"
    assert not shell.out.exists()
    shell.write("in.txt", "a")
    assert shell.run(*run).returncode == 0
    shell.write("in.txt", "a", "b")
    assert shell.run(*run, "--dry-run", "--resume").stdout.splitlines() == [f'{identity("b")}\t"b"']


def test_two_runs_into_one_output(slow: Shell) -> None:
    """The second is refused while the first runs."""
    slow.write("in.txt", "1")
    process = slow.start("map", "slow.py:wait_for", "in.txt", "-o", "out.jsonl")
    assert process.stderr is not None
    process.stderr.readline()
    second = slow.run("map", "slow.py:wait_for", "in.txt", "-o", "out.jsonl", "--resume")
    (slow.directory / "go").touch()
    assert (second.returncode, "another run is writing to it" in second.stderr) == (2, True)
    process.communicate()
    assert process.returncode == 0


def test_from_python(tmp_path: Path) -> None:
    """`forkful.map_file` is the same engine."""
    (tmp_path / "in.txt").write_text("1\n2\n")
    with pytest.raises(UsageProblem, match=r"processes=2\.5 is not a whole number"):
        map_file(int, "in.txt", processes=2.5)  # type: ignore[arg-type]  # that is what is tried
    program = "import forkful; from pathlib import Path; s = forkful.map_file(int, Path('in.txt'), Path('out.jsonl'), resume=True, timeout='30s'); print(s.done, s.before)"
    for expected in ("2 0\n", "0 2\n"):
        run = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert (run.stdout, run.stderr) == (expected, "")
