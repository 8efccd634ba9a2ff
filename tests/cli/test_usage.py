"""Usage errors: one line on standard error, exit code 2, nothing written, nothing started."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from forkful.cli import main

from .conftest import WORK

GOOD = ["map", "work.py:echo", "in.txt", "-o", "out.jsonl"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a module and some inputs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])  # a look-up may add to it
    monkeypatch.delitem(sys.modules, "beside", raising=False)  # another test's
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    Path("work.py").write_text(WORK)
    Path("beside.py").write_text("def echo(value): return value\n")
    Path("in.txt").write_text("a\nb\n")
    Path("old.jsonl").write_text("{}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "missing command; see `forkful --help`"),
        (["mop"], "no such command 'mop'"),
        (["map"], "missing argument 'FUNC'; see `forkful map --help`"),
        (["map", "work.py:echo"], "missing argument 'INPUTS...'; see `forkful map --help`"),
        ([*GOOD, "-x"], "no such option '-x'; see `forkful map --help`"),
        (
            [*GOOD, "--retrys"],
            "no such option '--retrys'; did you mean '--retries' or '--retry-failed' or '--retry-on'?\n",
        ),
        (
            [*GOOD, "--progres"],
            "no such option '--progres'; did you mean '--logs' or '--no-progress' or '--progress'?\n",
        ),
        ([*GOOD, "-j"], "option '-j' requires an argument; see `forkful map --help`"),
        ([*GOOD, "-j", "0"], "--jobs: '0' is too few processes; write 1 or more"),
        ([*GOOD, "-j", "-2"], "--jobs: '-2' is too few processes; write 1 or more"),
        ([*GOOD, "-j", "5000"], "--jobs: '5000' is too many processes; write 4096 or fewer"),
        ([*GOOD, "-j", "abc"], "--jobs: 'abc' is not a number of processes; write one such as 4"),
        ([*GOOD, "--timeout", "soon"], "--timeout: 'soon' is not a time; write 30s"),
        ([*GOOD, "--timeout", "0"], "--timeout: '0' is no time to wait for; write more than zero"),
        ([*GOOD, "--retries", "-1"], "--retries: '-1' is not a number from 0 up; write one such as 2\n"),
        ([*GOOD, "--retries", "x"], "--retries: 'x' is not a number from 0 up; write one such as 2\n"),
        ([*GOOD, "--retries", "9" * 5000], "--retries: '99999999999999999999' is not a number from 0 up; write"),
        (
            [*GOOD, "--retries", "1", "--retry-on", "OSErrr"],
            "--retry-on: 'OSErrr' is no exception that is known here; did",
        ),
        (
            [*GOOD, "--halt", "now,done=50%"],
            "'now,done=50%' is a share of those that are done, and all of them are done; ",
        ),
        (["map", "work.py:echo", "in.txt", "-o", ""], "the output has no name; name a file, or - for"),
        ([*GOOD, ""], "an input has no name (an empty shell variable?); name a file, or - for standard input\n"),
        ([*GOOD, "--init", "work.py:no"], "work.py has no 'no'; "),
        ([*GOOD, "--init", "work.py:echo"], "work.py:echo cannot be called without arguments: missing a required"),
        (["map", "work.py:set_up", "in.txt"], "work.py:set_up cannot be called with one argument, the input: too many"),
        ([*GOOD, "gone.txt"], "gone.txt: cannot be read: No such file or directory; check the path"),
        ([*GOOD, "*.csv"], "*.csv: no file matches; check the pattern"),
        ([*GOOD, "."], ".: is a directory; name its files"),
        (["map", "work.py:eco", "in.txt", "-o", "out.jsonl"], "work.py has no 'eco'; did you mean 'echo'?"),
        (["map", "echo", "in.txt", "-o", "out.jsonl"], "'echo' names no function; write module:function"),
        (["map", "wrok.py:echo", "in.txt", "-o", "out.jsonl"], "wrok.py: no such file; check the path"),
        (["map", "wrok_:echo", "in.txt", "-o", "out.jsonl"], "no module named 'wrok_'; check the spelling"),
        (["map", "work.py:echo", "in.txt", "-o", "no/out.jsonl"], "no/out.jsonl: there is no directory no; make it"),
        (["map", "work.py:echo", "in.txt", "-o", "/proc/out.jsonl"], "/proc/out.jsonl: cannot be written: "),
        (["map", "work.py:echo", "in.txt", "-o", "."], ".: is a directory; name a file in it"),
        (["map", "work.py:echo", "in.txt", "-o", "old.jsonl"], "old.jsonl: is not empty; go on with it by"),
        (["map", "work.py:echo", "in.txt", "-o", "in.txt", "--overwrite"], "in.txt: is an input too; write"),
        (
            ["map", "work.py:echo", "in.txt", "-o", "work.py", "--overwrite"],
            "work.py: is the program of FUNC or --init",
        ),
        (["map", "work.py:echo", "in.txt", "-o", "work.py"], "work.py: is the program of FUNC or --init; write"),
        (["map", "beside:echo", "in.txt", "-o", "beside.py", "--overwrite"], "beside.py: is the program of FUNC or"),
        (
            ["map", "json:loads", "in.txt", "-o", "work.py", "--overwrite", "--init", "work.py:set_up"],
            "work.py: is the program of FUNC or --init; write",
        ),
    ],
)
def test_usage_errors(here: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    """Each says in one line what is wrong and what to do."""
    before = {path: path.read_bytes() for path in here.iterdir()}
    assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"forkful: {message}")
    assert re.fullmatch(r"forkful: .+; .+\n", err)
    assert {path: path.read_bytes() for path in here.iterdir()} == before


def test_help_tells_when_nothing_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    """`| head` is exit code 1 without a word: what help says of 1 has to allow for that."""
    assert main(["map", "--help"]) == 0
    assert "nobody reads standard output any more, as with `| head`: then nobody is told" in capfd.readouterr().out


@pytest.mark.parametrize("arguments", [GOOD, [*GOOD, "-j", "50%"]])
def test_environment_that_makes_no_sense(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """A number of CPUs that is none is a usage error too."""
    monkeypatch.setenv("FORKFUL_CPU_COUNT", "many")
    assert main(arguments) == 2
    assert re.fullmatch(r"forkful: .*FORKFUL_CPU_COUNT is 'many'; .+\n", capfd.readouterr().err)
    assert not Path("out.jsonl").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["map", "--help"]])
def test_help_has_examples(capfd: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """Help goes to standard output, and shows how the command is used."""
    assert main(arguments) == 0
    out, err = capfd.readouterr()
    assert "Examples:\n" in out
    assert "forkful map mymodule:work inputs.txt -o results.jsonl\n" in out
    assert err == ""


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    """The version is the package's."""
    assert main(["--version"]) == 0
    assert re.fullmatch(r"forkful \d+\.\d+.*\n", capfd.readouterr().out)


# Runs the command in a process of its own, and does something when it imports click.
AT_IMPORT = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            {deed}
sys.meta_path.insert(0, Finder())
from forkful.cli import main
sys.exit(main(["--help"]))
"""


@pytest.mark.parametrize(
    ("deed", "code", "message"),
    [
        ("import signal; signal.raise_signal(signal.SIGINT)", 130, "interrupted; start it again when you like"),
        ("1 / 0", 1, r"ZeroDivisionError: division by zero \(.+, line \d+\); forkful did not expect that: please .+"),
    ],
)
def test_trouble_while_it_is_imported(deed: str, code: int, message: str) -> None:
    """Ctrl-C in the first moments is no traceback; nor is what nobody has foreseen."""
    program = AT_IMPORT.format(deed=deed)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert re.fullmatch(f"forkful: {message}\n", done.stderr)
