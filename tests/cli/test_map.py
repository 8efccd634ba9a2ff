"""``forkful map`` from end to end: what it writes, what it says, how it ends."""

from __future__ import annotations

import importlib.util
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from .conftest import Shell

EXAMPLE = Path(__file__).parents[2] / "examples" / "census.py"


def test_every_input_has_its_record(shell: Shell) -> None:
    """All results are there; the summary is on standard error, and nothing on standard output."""
    shell.write("in.txt", *(str(number) for number in range(500)))
    done = shell.run("map", "work:length", "in.txt", "-o", "out.jsonl", "-j", "2")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("forkful: 500 done in ")
    assert {text: record["result"] for text, record in shell.records().items()} == {
        str(number): len(str(number)) for number in range(500)
    }
    record = shell.records()["0"]
    assert list(record) == ["id", "input", "ok", "result", "attempts", "pid", "started", "seconds"]
    assert record["pid"] != os.getpid()
    assert abs(record["started"] - time.time()) < 600


def test_failures_are_records(shell: Shell) -> None:
    """An input that fails is a record and exit code 1; the summary names the type and an example."""
    shell.write("in.txt", "1", "x", "3", "y")
    done = shell.run("map", "work.py:parse", "in.txt", "-o", "out.jsonl")
    assert done.returncode == 1
    assert "4 done" in done.stderr
    assert "2 ok, 2 failed" in done.stderr
    assert "2 x ValueError, such as " in done.stderr
    error = shell.records()["x"]["error"]
    assert error["type"] == "ValueError"
    assert error["message"] == "invalid literal for int() with base 10: 'x'"
    assert "in parse" in error["traceback"]


def test_json_inputs(shell: Shell) -> None:
    """Values come and go unchanged; a malformed line is one failed record that names its place."""
    shell.write("in.jsonl", '{"a": [1, null]}', '"ü"', "{", "2.5")
    done = shell.run("map", "work.py:echo", "in.jsonl", "-o", "out.jsonl")
    records = [json.loads(line) for line in shell.out.read_text().splitlines()]
    assert done.returncode == 1
    good = [record for record in records if record["ok"]]
    assert sorted(map(str, (record["result"] for record in good))) == sorted(["{'a': [1, None]}", "ü", "2.5"])
    assert all(record["result"] == record["input"] for record in good)
    (bad,) = [record for record in records if not record["ok"]]
    assert bad["error"]["type"] == "InputNotJSON"
    assert "in.jsonl line 3" in bad["error"]["message"]


def test_standard_input_and_output(shell: Shell) -> None:
    """Records go to standard output when no file is named, and nothing else does."""
    done = shell.run("map", "work:echo", "-", stdin="a\nb\nc\n")
    assert done.returncode == 0
    assert sorted(json.loads(line)["result"] for line in done.stdout.splitlines()) == ["a", "b", "c"]


def test_records_come_while_inputs_are_written(shell: Shell) -> None:
    """With a slow writer on standard input, each record comes without waiting for the next input."""
    with shell.start("map", "work:echo", "-", "-j", "1", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for text in ("a", "b"):
            process.stdin.write(f"{text}\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["result"] == text
        process.stdin.close()
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("function", ["announce", "write_binary"])
@pytest.mark.parametrize("to_file", [True, False])
def test_a_function_that_prints(shell: Shell, function: str, to_file: bool) -> None:
    """What a function prints is never among the records, and is not lost."""
    shell.write("in.txt", "a", "b")
    arguments = ["map", f"work.py:{function}", "in.txt", "-j", "2", *(["-o", "out.jsonl"] if to_file else [])]
    done = shell.run(*arguments, errors="surrogateescape")
    assert done.returncode == 0
    printed = done.stdout if to_file else done.stderr
    records = shell.out.read_text() if to_file else done.stdout
    assert sorted(json.loads(line)["result"] for line in records.splitlines()) == ["a", "b"]
    for expected in {"announce": ["out a\n", "out b\n"], "write_binary": ["\udcff\n"]}[function]:
        assert expected in printed
    if function == "announce":
        assert "err a\n" in done.stderr


@pytest.mark.parametrize("to_file", [True, False])
def test_a_module_that_prints(shell: Shell, to_file: bool) -> None:
    """What an import prints goes the same way here and in the workers: to standard output where that is free."""
    shell.write("loud.py", "print('loud')", "def echo(value): return value")
    shell.write("in.txt", "a")
    done = shell.run("map", "loud.py:echo", "in.txt", "-j", "1", *(["-o", "out.jsonl"] if to_file else []))
    assert done.returncode == 0
    assert (done.stdout.count("loud\n"), done.stderr.count("loud\n")) == ((2, 0) if to_file else (0, 2))


def test_result_that_is_no_json(shell: Shell) -> None:
    """It fails its input, by name of the type, and nothing else."""
    shell.write("in.txt", "a")
    assert shell.run("map", "work.py:bag", "in.txt", "-o", "out.jsonl").returncode == 1
    assert "'set'" in shell.records()["a"]["error"]["message"]


def test_crash_of_one_input(shell: Shell) -> None:
    """A function that takes its process down fails its own input; all others are done."""
    shell.write("in.txt", *map(str, range(20)), "crash", *map(str, range(20, 40)))
    done = shell.run("map", "work.py:crash", "in.txt", "-o", "out.jsonl", "-j", "2")
    assert done.returncode == 1
    records = shell.records()
    assert len(records) == 41
    assert [text for text, record in records.items() if not record["ok"]] == ["crash"]
    assert records["crash"]["error"]["type"] == "WorkerDied"
    crash = records["crash"]
    assert re.fullmatch(
        rf"input {crash['id']}: its worker \(pid {crash['pid']}\) left with exit code 3; .*; --retries 1 runs it again",
        crash["error"]["message"],
    )
    assert "--retries 1 runs it again\n" in done.stderr


def test_exit_of_one_input(shell: Shell) -> None:
    """sys.exit() in the function is that input's error."""
    shell.write("in.txt", "leave", "stay")
    assert shell.run("map", "work.py:leave", "in.txt", "-o", "out.jsonl").returncode == 1
    assert shell.records()["leave"]["error"]["type"] == "SystemExit"
    assert shell.records()["stay"]["ok"]


def test_timeout_of_one_input(shell: Shell) -> None:
    """An input that takes too long fails; its worker is replaced and the rest is done."""
    shell.write("in.txt", "a", "hang", *map(str, range(20)))
    done = shell.run("map", "work.py:hang", "in.txt", "-o", "out.jsonl", "-j", "1", "--timeout", "0.5s")
    assert done.returncode == 1
    records = shell.records()
    assert len(records) == 22
    assert [text for text, record in records.items() if not record["ok"]] == ["hang"]
    assert records["hang"]["error"]["type"] == "TaskTimeout"
    message = f"input {records['hang']['id']} ran longer than --timeout 0.5s; its worker "
    assert records["hang"]["error"]["message"].startswith(message)


@pytest.mark.parametrize("function", ["second_time", "crash_once"])
def test_retries(shell: Shell, function: str) -> None:
    """An exception and a crash are tried again; the record says how often."""
    shell.write("in.txt", "one", "two")
    done = shell.run("map", f"work.py:{function}", "in.txt", "-o", "out.jsonl", "-j", "1", "--retries", "2")
    assert done.returncode == 0, done.stderr
    assert {(record["result"], record["attempts"]) for record in shell.records().values()} == {("again", 2)}


def test_retries_run_out(shell: Shell) -> None:
    """What fails every time is tried once and then as often as asked."""
    shell.write("in.txt", "x", "crash")
    shell.run("map", "work.py:parse", "in.txt", "-o", "out.jsonl", "--retries", "2")
    assert shell.records()["x"]["attempts"] == 3
    shell.run("map", "work.py:crash", "in.txt", "-o", "out.jsonl", "--retries", "2", "--overwrite")
    assert shell.records()["crash"]["attempts"] == 3
    assert shell.records()["x"]["attempts"] == 1


def test_init(shell: Shell) -> None:
    """Each worker is set up once before its first input, in the same module that the function sees."""
    shell.write("in.txt", *"abcdef")
    done = shell.run("map", "work.py:is_set_up", "in.txt", "-o", "out.jsonl", "-j", "2", "--init", "work.py:set_up")
    assert done.returncode == 0
    assert all(record["result"] for record in shell.records().values())


def test_init_that_fails(shell: Shell) -> None:
    """One line with the reason, exit code 1, and no record."""
    shell.write("in.txt", *map(str, range(1000)))
    done = shell.run("map", "work.py:echo", "in.txt", "-o", "out.jsonl", "--init", "work.py:fail_to_set_up")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr == (
        "forkful: the workers cannot start: RuntimeError: no such database; mend the function of --init"
        " (0 inputs were done)\n"
    )
    assert not shell.out.exists()


# Can be imported here, and does something else in a worker.
ONLY_HERE = """\
import multiprocessing, os, sys
if multiprocessing.parent_process() is not None:
    {deed}
def echo(value): return value
def set_up(): pass
"""


@pytest.mark.parametrize(
    ("deed", "init", "message"),
    [
        (
            "raise ImportError('no GPU')",
            False,
            "the workers cannot start: ImportError: no GPU; mend what FUNC's module does when a worker imports it",
        ),
        (
            "sys.exit()",
            True,
            "the workers cannot start: SystemExit; mend what FUNC's module does when a worker imports it",
        ),
        (
            "os._exit(3)",
            False,
            r"no worker could be started: .+ left with exit code 3 before it was ready; run FUNC's module by hand .+",
        ),
        (
            "os._exit(3)",
            True,
            r"no worker could be started: .+; run FUNC's module and the function of --init by hand .+",
        ),
    ],
)
def test_module_that_fails_in_workers_only(shell: Shell, deed: str, init: bool, message: str) -> None:
    """One line with the reason, and a remedy for what was asked for: not for an --init that there is not."""
    shell.write("only_here.py", ONLY_HERE.format(deed=deed))
    shell.write("in.txt", "a")
    more = ["--init", "only_here:set_up"] if init else []
    done = shell.run("map", "only_here.py:echo", "in.txt", "-o", "out.jsonl", "-j", "1", *more)
    assert done.returncode == 1
    assert re.fullmatch(rf"forkful: {message} \(0 inputs were done\)\n", done.stderr), done.stderr


def test_nothing_to_do(shell: Shell) -> None:
    """No inputs is no error: an empty output."""
    shell.write("in.txt")
    done = shell.run("map", "work.py:echo", "in.txt", "-o", "out.jsonl")
    assert (done.returncode, shell.out.read_text()) == (0, "")


def test_output_is_not_overwritten_by_accident(shell: Shell) -> None:
    """A second run into the same file is refused; --overwrite replaces it."""
    shell.write("in.txt", "a")
    assert shell.run("map", "work.py:echo", "in.txt", "-o", "out.jsonl").returncode == 0
    before = shell.out.read_bytes()
    done = shell.run("map", "work.py:length", "in.txt", "-o", "out.jsonl")
    assert (done.returncode, shell.out.read_bytes()) == (2, before)
    assert done.stderr == (
        "forkful: out.jsonl: is not empty; go on with it by --resume, replace it by --overwrite, or remove it\n"
    )
    assert shell.run("map", "work.py:length", "in.txt", "-o", "out.jsonl", "--overwrite").returncode == 0
    assert shell.records()["a"]["result"] == 1


def test_standard_input_is_not_overwritten(shell: Shell) -> None:
    """A file that comes in by standard input is an input as any other: `- -o io.txt < io.txt` would empty it."""
    shell.write("io.txt", "a", "b")
    with open(shell.directory / "io.txt") as file:
        process = shell.start("map", "work.py:echo", "-", "-o", "io.txt", "--overwrite", stdin=file)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (2, "", "forkful: io.txt: is an input too; write the records elsewhere\n")
    assert (shell.directory / "io.txt").read_text() == "a\nb\n"


def test_standard_output_is_no_input(shell: Shell, small_disk: Callable[[], None]) -> None:
    """`io.txt >> io.txt` would read what it writes until the disk is full."""
    shell.write("io.txt", "a", "b")
    with open(shell.directory / "io.txt", "a") as file:
        process = shell.start("map", "work.py:echo", "io.txt", stdout=file, preexec_fn=small_disk)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (2, "forkful: standard output: is an input too; write the records elsewhere\n")
    assert (shell.directory / "io.txt").read_text() == "a\nb\n"


def test_full_disk(shell: Shell, small_disk: Callable[[], None]) -> None:
    """One line says that there is no room; every record in the file is whole."""
    shell.write("in.txt", *map(str, range(100)))
    done = shell.run("map", "work.py:big", "in.txt", "-o", "out.jsonl", "-j", "2", preexec_fn=small_disk)
    assert done.returncode == 1
    assert done.stderr.startswith("forkful: cannot write out.jsonl: File too large; what it holds is whole: make space")
    assert done.stderr.count("\n") == 1
    records = shell.records()
    assert 0 < len(records) < 100
    assert f"({len(records)} inputs were done)" in done.stderr


def test_device_that_is_full(shell: Shell) -> None:
    """The same on a device."""
    shell.write("in.txt", "a", "b")
    done = shell.run("map", "work.py:echo", "in.txt", "-o", "/dev/full")
    assert done.returncode == 1
    assert "cannot write /dev/full: No space left on device" in done.stderr


def test_closed_stdout(shell: Shell) -> None:
    """`| head` ends it quietly."""
    shell.write("in.txt", *map(str, range(20_000)))
    with shell.start("map", "work.py:echo", "in.txt") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith('{"id": ')
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 1


@pytest.fixture
def gone_reader() -> Iterator[int]:
    """The writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.fixture
def full_disk() -> Iterator[int]:
    """Where nothing can be written."""
    fd = os.open("/dev/full", os.O_WRONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["map", "--help"]])
def test_help_that_cannot_be_printed(shell: Shell, gone_reader: int, full_disk: int, arguments: list[str]) -> None:
    """Quiet when nobody reads it, a line when there is no room."""
    for stdout, message in (
        (gone_reader, ""),
        (full_disk, "forkful: cannot print: No space left on device; send standard output elsewhere\n"),
    ):
        process = shell.start(*arguments, stdout=stdout)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (1, message)


@pytest.mark.parametrize(
    ("function", "code"), [("work.py:echo", 0), ("work.py:parse", 1), ("work.py:no", 2)], ids=["ok", "failed", "usage"]
)
def test_words_that_cannot_be_said(shell: Shell, gone_reader: int, full_disk: int, function: str, code: int) -> None:
    """The exit code is that of the inputs, whatever becomes of standard error."""
    shell.write("in.txt", "a", "b")
    for stderr in (gone_reader, full_disk):
        arguments = ["map", function, "in.txt", "-o", "out.jsonl", "--overwrite", "--progress"]
        process = shell.start(*arguments, stderr=stderr)
        assert process.communicate(timeout=60)[0] == ""
        assert process.returncode == code
        assert code == 2 or len(shell.records()) == 2


def test_working_directory_that_is_gone(shell: Shell) -> None:
    """Then no module can be imported from it; what is named by its whole path still can be."""
    shell.write("in.txt", "[1]")
    (shell.directory / "gone").mkdir()
    probe = "import os; os.mkdir('probe'); os.chdir('probe'); os.rmdir(os.getcwd()); import socket"
    if subprocess.run(
        [sys.executable, "-c", probe], cwd=shell.directory, stderr=subprocess.DEVNULL, check=False
    ).returncode:
        pytest.skip(f"Python {sys.version.split()[0]} itself cannot import its socket module in such a directory")
    process = shell.start(
        *("map", "json:loads", str(shell.directory / "in.txt"), "-o", str(shell.out)),
        cwd=shell.directory / "gone",
        preexec_fn=lambda: os.rmdir(os.getcwd()),
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert err.startswith("forkful: 1 done in ")
    assert shell.records()["[1]"]["result"] == [1]


def test_bar_on_a_terminal(shell: Shell) -> None:
    """On a terminal a bar shows what is done of the total, failures, and workers."""
    shell.write("in.txt", "1", "2", "x")
    with Terminal() as terminal:
        with terminal.start(shell, "map", "work.py:parse", "in.txt", "-o", "out.jsonl", "-j", "2") as process:
            text = terminal.read()
            assert process.wait(timeout=60) == 1
    assert "3/3" in text
    assert "1 failed" in text
    assert "2 workers" in text
    assert "3 done in " in text


def test_bar_while_an_input_takes_long(shell: Shell) -> None:
    """What is done is on the terminal before the next is: nothing but time has to pass."""
    shell.write("in.txt", "a", "b", "hang")
    with Terminal() as terminal:
        command = ("map", "work.py:hang", "in.txt", "-o", "out.jsonl", "-j", "1")
        with terminal.start(shell, *command, start_new_session=True) as process:
            text = terminal.read(until="2/3")
            os.killpg(process.pid, signal.SIGINT)
            terminal.read(until="once more")
            os.killpg(process.pid, signal.SIGINT)
            end = terminal.read()
            assert process.wait(timeout=60) == 130
    assert "2/3" in text
    assert "interrupted" in end


def test_terminal_that_cannot_move(shell: Shell) -> None:
    """TERM=dumb has no bar, nor anything else but lines."""
    shell.write("in.txt", "a", "b")
    with Terminal("dumb") as terminal:
        with terminal.start(shell, "map", "work.py:echo", "in.txt", "-o", "out.jsonl", "-j", "2") as process:
            text = terminal.read()
            assert process.wait(timeout=60) == 0
    assert all(line.startswith(("forkful: ", "  ")) for line in text.splitlines())
    assert "2 done in " in text
    assert "2/2" not in text


class Terminal:
    """A terminal of the kind *term* for the command's standard error."""

    def __init__(self, term: str = "xterm") -> None:
        self._term = term
        self._controller, self._terminal = pty.openpty()

    def start(self, shell: Shell, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start the command on it."""
        process = shell.start(*arguments, stderr=self._terminal, env={**os.environ, "TERM": self._term}, **options)
        os.close(self._terminal)
        return process

    def read(self, until: str = "\0") -> str:
        """What is shown up to *until*, or to the command's end; in a minute at most."""
        text, deadline = "", time.monotonic() + 60
        while until not in text and select.select([self._controller], [], [], max(0, deadline - time.monotonic()))[0]:
            try:
                text += os.read(self._controller, 65536).decode(errors="replace")
            except OSError:  # how Linux says that the other side is closed
                break
        return text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._controller)


def test_census_equals_a_plain_loop(shell: Shell) -> None:
    """The example over a few hundred real files, byte for byte once sorted."""
    names = subprocess.run([sys.executable, EXAMPLE, "--list"], capture_output=True, text=True, check=True, timeout=60)
    files = shell.write("files.txt", *names.stdout.splitlines()[::6])
    spec = importlib.util.spec_from_file_location("census_serial", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    census = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(census)
    serial = sorted(census.serial_lines((shell.directory / files).read_text().splitlines()))

    done = shell.run("map", f"{EXAMPLE}:census", files, "-o", "out.jsonl", "-j", "2", "--progress")
    assert done.returncode == 0, done.stderr
    mapped = [
        json.dumps({"input": record["input"], "result": record["result"]}, sort_keys=True)
        for record in shell.records().values()
    ]
    assert len(serial) > 100
    assert sorted(mapped) == serial


def test_kill_of_the_parent(shell: Shell) -> None:
    """SIGKILL of the command: no worker outlives it, and what is written is whole."""
    shell.write("in.txt", "a", "b")
    with shell.start("map", "work.py:say_and_hang", "in.txt", "-o", "out.jsonl", "-j", "2") as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("begun")
        process.kill()
        process.stderr.read()  # ends when the last worker, which holds the other end, is gone
        assert process.wait(timeout=60) == -signal.SIGKILL
    assert shell.records() == {}


def test_no_standard_output_at_all(shell: Shell) -> None:
    """Started with standard output closed: fine with -o, a usage error without."""
    shell.write("in.txt", "a")
    done = shell.run("map", "work.py:echo", "in.txt", preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (2, "forkful: standard output is closed; name a file with -o\n")
    assert shell.run("map", "work.py:echo", "in.txt", "-o", "out.jsonl", preexec_fn=lambda: os.close(1)).returncode == 0
    assert shell.records()["a"]["ok"]
