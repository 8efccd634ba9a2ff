"""Programs in the manner of the standard library's documentation print the same with our Pool in place of its own.

Each file in ``programs/`` is a program for ``multiprocessing.Pool``.  It runs once as it stands, and once for each start
method with nothing but the import changed.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import forkful

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))
WATCHDOG = 60.0

# How a program spells its pool, and what it is changed to; each program uses one of the two spellings.
CHANGES = {
    "from multiprocessing import Pool\n": "from forkful import Pool\n",
    "import multiprocessing\n\n\n": "import multiprocessing\nimport forkful\n\n\n",
    "multiprocessing.Pool(": "forkful.Pool(",
}


@dataclass(frozen=True)
class Outcome:
    """How a program ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str, cwd: Path) -> Outcome:
    """Runs Python until the program and every process that it started have let go of its output."""
    environment = dict(os.environ, PYTHONPATH=str(Path(forkful.__file__).parents[1]))
    program = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        stdout, stderr = program.communicate(timeout=WATCHDOG)
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        stdout, stderr = program.communicate()
        pytest.fail(f"{' '.join(arguments)} hangs, or left a process behind\n{stdout[-2000:]}\n{stderr[-2000:]}")
    return Outcome(program.returncode, stdout, stderr)


@functools.cache
def as_it_stands(path: Path) -> str:
    """What the program prints with the standard library's pool."""
    outcome = run(str(path), cwd=path.parent)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


def dropped_in(program: str, start_method: str) -> str:
    """The program with only its import changed, and the start method set as any program may set it."""
    changed = program
    for stock, ours in CHANGES.items():
        changed = changed.replace(stock, ours)
    assert "Pool(" in program
    assert "multiprocessing import Pool" not in changed
    assert "multiprocessing.Pool" not in changed
    return f"import multiprocessing; multiprocessing.set_start_method({start_method!r}, force=True)\n{changed}"


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_same_output(path: Path, start_method: str, tmp_path: Path) -> None:
    """Changing the import of Pool changes nothing that the program prints."""
    copy = tmp_path / path.name
    copy.write_text(dropped_in(path.read_text(encoding="utf-8"), start_method), encoding="utf-8")

    outcome = run(str(copy), cwd=tmp_path)

    assert (outcome.stderr, outcome.returncode) == ("", 0)
    assert outcome.stdout == as_it_stands(path)


def test_same_output_as_a_module(start_method: str, tmp_path: Path) -> None:
    """A program that is run with ``python -m`` is no different."""
    path = next(path for path in PROGRAMS if path.stem == "classes_of_main")
    module = tmp_path / "shapes.py"
    module.write_text(dropped_in(path.read_text(encoding="utf-8"), start_method), encoding="utf-8")

    outcome = run("-m", "shapes", cwd=tmp_path)

    assert (outcome.stderr, outcome.returncode) == ("", 0)
    assert outcome.stdout == as_it_stands(path)


START_METHOD_IN_USE = """
import multiprocessing
from multiprocessing import Pool

copied_by_a_fork = False

def is_a_copy():
    return copied_by_a_fork

if __name__ == "__main__":
    copied_by_a_fork = True
    with Pool(1) as pool:
        print(pool.apply(is_a_copy), multiprocessing.get_start_method())
"""


def test_the_start_method_of_a_program_is_ours(start_method: str, tmp_path: Path) -> None:
    """What a program sets for ``multiprocessing`` holds for our pool too, so the tests above try what they say."""
    program = tmp_path / "program.py"
    program.write_text(dropped_in(START_METHOD_IN_USE, start_method), encoding="utf-8")

    outcome = run(str(program), cwd=tmp_path)

    assert (outcome.stderr, outcome.returncode) == ("", 0)
    assert outcome.stdout == f"{start_method == 'fork'} {start_method}\n"


WITHOUT_GUARD = """
with open("imports", "a") as imports:
    imports.write("once\\n")

from forkful import Pool

def square(number):
    return number * number

with Pool(2) as pool:
    print(pool.map(square, [1, 2, 3]))
"""

WITHOUT_GUARD_WITH_CLASS = """
with open("imports", "a") as imports:
    imports.write("once\\n")

from forkful import Pool

class Number:
    def __init__(self, value):
        self.value = value

def square(number):
    return Number(number * number)

with Pool(2) as pool:
    print(pool.map(square, [1, 2, 3]))
"""


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_a_program_without_a_guard(start_method: str, tmp_path: Path) -> None:
    """If workers need to run it, it ends with an error that says so, not in a storm of processes; else it works."""
    program = tmp_path / "program.py"
    program.write_text(dropped_in(WITHOUT_GUARD, start_method), encoding="utf-8")
    outcome = run(str(program), cwd=tmp_path)
    assert (outcome.stderr, outcome.stdout, outcome.returncode) == ("", "[1, 4, 9]\n", 0)
    assert (tmp_path / "imports").read_text(encoding="utf-8").count("once") == 1
    program.write_text(dropped_in(WITHOUT_GUARD_WITH_CLASS, start_method), encoding="utf-8")

    outcome = run(str(program), cwd=tmp_path)

    assert outcome.returncode == 1
    assert outcome.stdout == ""
    assert 'if __name__ == "__main__":' in outcome.stderr.splitlines()[-1]
    assert 2 <= (tmp_path / "imports").read_text(encoding="utf-8").count("once") <= 10


def test_a_program_without_a_guard_may_fork(tmp_path: Path) -> None:
    """A fork imports nothing again, so there it needs no guard; so it is with the standard library."""
    program = tmp_path / "program.py"
    program.write_text(dropped_in(WITHOUT_GUARD, "fork"), encoding="utf-8")

    outcome = run(str(program), cwd=tmp_path)

    assert (outcome.stderr, outcome.returncode) == ("", 0)
    assert outcome.stdout == "[1, 4, 9]\n"
