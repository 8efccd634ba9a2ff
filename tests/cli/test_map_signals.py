"""Ctrl-C once and twice, SIGTERM, a closed terminal, and signals that change the number of workers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .conftest import Shell

WORK = """
import os, sys, time
def wait(text):
    sys.stderr.write(f"begun {text}\\n")  # in one piece, as the other worker does
    while not os.path.exists("go"):
        time.sleep(0.01)
    return text
def wait_and_fail(text):
    wait(text)
    raise ValueError(text)
def wait_in_child(text):
    import subprocess
    sys.stderr.write(f"begun {text}\\n")  # in one piece, as the other worker does
    subprocess.run(["sh", "-c", "while ! [ -e go ]; do sleep 0.05; done"], check=True)
    return 0
def own_pid(text):
    time.sleep(0.05)
    return os.getpid()
"""


@pytest.fixture
def waiting(shell: Shell) -> Shell:
    """A directory with functions that wait for a file called ``go``."""
    (shell.directory / "waiting.py").write_text(WORK)
    shell.write("in.txt", *map(str, range(20)))
    return shell


@contextmanager
def started(shell: Shell, *arguments: str, begun: int = 2) -> Iterator[subprocess.Popen[str]]:
    """The command in a process group of its own, once so many inputs have begun."""
    with shell.start("map", *arguments, start_new_session=True) as process:
        assert process.stderr is not None
        try:
            for _ in range(begun):
                assert process.stderr.readline().startswith("begun")
            yield process
        except BaseException:
            process.kill()
            raise


def go(shell: Shell) -> None:
    """What waits may end."""
    (shell.directory / "go").touch()


def rest_of(process: subprocess.Popen[str]) -> str:
    """What it and its workers say until the last of them has gone."""
    assert process.stderr is not None
    return process.stderr.read()


def whole_records(shell: Shell) -> list[dict[str, object]]:
    """Those that are there by now."""
    return [json.loads(line) for line in shell.out.read_text().splitlines(keepends=True) if line.endswith("\n")]


RUN = ("in.txt", "-o", "out.jsonl", "-j", "2")
FINISHING = "forkful: finishing what runs, and starting nothing more; once more ends it at once\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_what_runs_is_finished(waiting: Shell, number: int, code: int) -> None:
    """Once: what runs ends and is written, nothing more is started, and --resume does the rest."""
    with started(waiting, "waiting.py:wait", *RUN) as process:
        os.killpg(process.pid, number)
        assert process.stderr is not None
        assert process.stderr.readline() == FINISHING
        go(waiting)
        said = rest_of(process)
    assert process.returncode == code
    assert "begun" not in said
    assert re.match(r"forkful: interrupted after .+: 2 done: 2 ok, 0 failed -> out\.jsonl\n", said)
    assert "  the same command with --resume does the rest\n" in said
    assert len(waiting.records()) == 2
    rest = waiting.run("map", "waiting.py:wait", *RUN, "--resume")
    assert rest.returncode == 0
    assert sorted(waiting.records(), key=int) == [str(number) for number in range(20)]


def test_twice(waiting: Shell) -> None:
    """What runs is ended; no process is left, no traceback is shown, and what was not done is done by --resume."""
    with started(waiting, "waiting.py:wait", *RUN) as process:
        os.killpg(process.pid, signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.readline() == FINISHING
        pressed = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        said = rest_of(process)
        took = time.monotonic() - pressed
    assert process.returncode == 130
    assert "Traceback" not in said
    assert re.match(r"forkful: interrupted after .+: 0 done: 0 ok, 0 failed -> nothing written\n", said)
    assert took < 10  # on an idle machine 0.1; a bound that only a hang exceeds
    assert not waiting.out.exists()
    assert not (waiting.directory / "out.jsonl.job").exists()


@pytest.mark.parametrize("options", [[], ["--retries", "3"]])
def test_failures_after_it(waiting: Shell, options: list[str]) -> None:
    """The signal may have been their reason, so they are not done: --resume does them."""
    with started(waiting, "waiting.py:wait_and_fail", *RUN, *options) as process:
        os.killpg(process.pid, signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.readline() == FINISHING
        go(waiting)
        said = rest_of(process)
    assert process.returncode == 130
    assert ": 0 done: 0 ok, 0 failed" in said


def test_programs_that_a_task_has_started(waiting: Shell) -> None:
    """Ctrl-C at the terminal reaches them, and their input is done again."""
    with started(waiting, "waiting.py:wait_in_child", *RUN) as process:
        os.killpg(process.pid, signal.SIGINT)  # the programs may have begun by then, or begin after it
        assert process.stderr is not None
        assert process.stderr.readline() == FINISHING
        go(waiting)
        rest_of(process)
    assert process.returncode == 130
    if waiting.out.exists():
        assert all(record["result"] == 0 for record in waiting.records().values())
    assert waiting.run("map", "waiting.py:wait_in_child", *RUN, "--resume").returncode == 0
    assert [record["result"] for record in waiting.records().values()] == [0] * 20


def test_input_that_does_not_come(waiting: Shell) -> None:
    """Standard input that stays open does not hold up the end."""
    with waiting.start(
        "map", "waiting.py:wait", "-", "-o", "out.jsonl", stdin=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write("x\n")
        process.stdin.flush()
        assert process.stderr.readline() == "begun x\n"
        os.kill(process.pid, signal.SIGINT)
        assert process.stderr.readline() == FINISHING
        go(waiting)
        said = process.stderr.read()
        assert process.wait(timeout=60) == 130
    assert "1 done" in said


def test_before_anything_has_begun(waiting: Shell) -> None:
    """While FUNC's module is imported it takes two, and nothing is written."""
    (waiting.directory / "late.py").write_text(
        "import sys, time\nprint('begun', file=sys.stderr, flush=True)\ntime.sleep(600)\n"
    )
    with started(waiting, "late.py:f", *RUN, begun=1) as process:
        os.kill(process.pid, signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.readline() == FINISHING
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert not waiting.out.exists()


def test_nohup(waiting: Shell) -> None:
    """A signal that was to be ignored is ignored."""
    with waiting.start(
        "map", "waiting.py:wait", *RUN, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("begun")
        os.kill(process.pid, signal.SIGHUP)
        go(waiting)
        assert "finishing" not in process.stderr.read()
    assert process.returncode == 0
    assert len(waiting.records()) == 20


def test_more_and_fewer_workers(waiting: Shell) -> None:
    """SIGUSR1 adds one, SIGUSR2 takes one away, and no input is lost."""
    waiting.write("many.txt", *map(str, range(60)))
    with waiting.start("map", "waiting.py:own_pid", "many.txt", "-o", "out.jsonl", "-j", "1") as process:
        assert process.stderr is not None
        while not waiting.out.exists() or not waiting.out.read_text():
            time.sleep(0.01)  # the command has no other way to tell that it has begun
        os.kill(process.pid, signal.SIGUSR1)
        assert process.stderr.readline() == "forkful: 2 worker processes from now on\n"
        os.kill(process.pid, signal.SIGUSR1)
        assert process.stderr.readline() == "forkful: 3 worker processes from now on\n"
        while len({record["pid"] for record in whole_records(waiting)}) < 3:
            time.sleep(0.05)  # as above
        for said in ("2 worker processes from now on", "1 worker process from now on", "1 worker process, as before"):
            os.kill(process.pid, signal.SIGUSR2)
            assert process.stderr.readline() == f"forkful: {said}\n"
        process.stderr.read()
    assert process.returncode == 0
    records = waiting.records()
    assert len(records) == 60


def test_closed_standard_error(waiting: Shell) -> None:
    """What would be said there is not said among the records."""
    with waiting.start("map", "waiting.py:own_pid", *RUN, preexec_fn=lambda: os.close(2), stderr=None) as process:
        while not waiting.out.exists() or not waiting.out.read_text():
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGUSR1)
        process.wait(timeout=60)
    assert process.returncode == 0
    assert len(waiting.records()) == 20


def test_signals_while_workers_leave(waiting: Shell) -> None:
    """All is done by then: nothing comes of them."""
    (waiting.directory / "lingering.py").write_text(
        "import atexit, sys, time\n"
        "def linger(): sys.stderr.write('leaving\\n'); time.sleep(1)\n"
        "def f(text): return text\n"
        "def init(): atexit.register(linger)\n"
    )
    with waiting.start("map", "lingering.py:f", *RUN, "--init", "lingering.py:init") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "leaving\n"
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
            os.kill(process.pid, number)
        said = process.stderr.read()
    assert process.returncode == 0
    assert "20 done" in said
    assert "interrupted" not in said


def test_interrupt_keeps_what_is_done(shell: Shell) -> None:
    """The records written before a Ctrl-C are whole, and the last words count them, but for those just written."""
    with shell.start("map", "work.py:hang", "-", "-j", "2", stdin=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("a\nb\nhang\n")
        process.stdin.flush()
        lines = [process.stdout.readline() for _ in range(2)]
        os.killpg(process.pid, signal.SIGINT)
        assert process.stderr.readline() == FINISHING
        os.killpg(process.pid, signal.SIGINT)
        err = process.stderr.read()
        assert process.wait(timeout=60) == 130
        assert process.stdout.read() == ""
    assert re.match(r"forkful: interrupted after .+: [12] done: [12] ok, 0 failed -> standard output\n", err)
    assert sorted(json.loads(line)["result"] for line in lines) == ["a", "b"]


HALTING = """
import os, time
def fail_on_x(text):
    if text.startswith("x"): raise ValueError(text)
    return text
def hang_or_fail(text):
    if text == "x":
        while not os.path.exists("hanging"): time.sleep(0.01)
        raise ValueError
    open("hanging", "w").close()
    time.sleep(600)
def touch_and_end(text):
    if text == "x":
        while not os.path.exists("hanging"): time.sleep(0.01)
        raise ValueError
    open("hanging", "w").close()
    time.sleep(0.3)
    return text
"""


def test_halt_now(shell: Shell) -> None:
    """What runs is ended, and has no record; --resume does it."""
    (shell.directory / "halting.py").write_text(HALTING)
    shell.write("in.txt", "hang", "x", "more", "and more")
    done = shell.run("map", "halting.py:hang_or_fail", "in.txt", "-o", "out.jsonl", "-j", "2", "--halt", "now,fail=1")
    assert done.returncode == 3
    assert re.match(r"forkful: halted \(now,fail=1\) after .+: 1 done: 0 ok, 1 failed -> out\.jsonl\n", done.stderr)
    assert list(shell.records()) == ["x"]


def test_halt_soon(shell: Shell) -> None:
    """What runs is finished."""
    (shell.directory / "halting.py").write_text(HALTING)
    shell.write("in.txt", "long", "x", *map(str, range(100)))
    done = shell.run("map", "halting.py:touch_and_end", "in.txt", "-o", "out.jsonl", "-j", "2", "--halt", "soon,fail=1")
    assert done.returncode == 3
    assert {"x", "long"} <= set(shell.records())
    assert len(shell.records()) < 50


def test_halt_by_share(shell: Shell) -> None:
    """Not before ten are done."""
    (shell.directory / "halting.py").write_text(HALTING)
    shell.write("in.txt", *[f"x{number}" for number in range(1000)])
    done = shell.run(
        "map", "halting.py:fail_on_x", "in.txt", "-o", "out.jsonl", "-j", "1", "-k", "--halt", "now,fail=50%"
    )
    assert done.returncode == 3
    assert list(shell.records()) == [f"x{number}" for number in range(10)]


def test_closed_standard_output(shell: Shell) -> None:
    """`| head`: the command ends, and says nothing."""
    shell.write("in.txt", *map(str, range(100_000)))
    with shell.start("map", "work.py:echo", "in.txt") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 1


def test_replacing_that_came_to_nothing(waiting: Shell) -> None:
    """Interrupted before the first record: the old ones are there, with what is told of them, and the command to say."""
    (waiting.directory / "go").touch()
    waiting.write("old.txt", "a", "b")
    assert waiting.run("map", "work.py:echo", "old.txt", "-o", "out.jsonl").returncode == 0
    (waiting.directory / "go").unlink()
    before = waiting.run("map", "--status", "out.jsonl").stdout
    for code in (signal.SIGINT, signal.SIGINT), (signal.SIGKILL,):
        with started(waiting, "waiting.py:wait", *RUN, "--overwrite") as process:
            for number in code:
                os.killpg(process.pid, number)
                time.sleep(0.2)
            said = rest_of(process)
        assert waiting.run("map", "--status", "out.jsonl").stdout == before
        assert sorted(record["result"] for record in waiting.records().values()) == ["a", "b"]
        assert process.returncode == -signal.SIGKILL or said.endswith(
            "  out.jsonl is as it was; the same command begins again\n"
        )
