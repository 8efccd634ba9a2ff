"""The command as its users meet it: a process in a directory."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORK = '''\
import os, sys, time

def echo(value): return value
def length(text): return len(text)
def parse(text): return int(text)
def bag(text): return {text}
def big(text): return text * 20_000
def announce(text): print(f"out {text}\\n", end=""); print(f"err {text}\\n", end="", file=sys.stderr); return text
def write_binary(text): os.write(1, b"\\xff\\n"); return text
def crash(text):
    if text == "crash": os._exit(3)
    return text
def hang(text):
    if text == "hang": time.sleep(600)
    return text
def leave(text):
    if text == "leave": sys.exit("bye")
    return text
def say_and_hang(text):
    print("begun", text, file=sys.stderr, flush=True)
    time.sleep(600)
def second_time(text):
    """Works when its file is there."""
    if os.path.exists(text): return "again"
    open(text, "w").close()
    raise OSError("not yet")
def crash_once(text):
    if os.path.exists(text): return "again"
    open(text, "w").close()
    os._exit(1)
state = []
def set_up(): state.append(os.getpid())
def is_set_up(text): return state == [os.getpid()]
def announce_begin(): print("begun", file=sys.stderr, flush=True)
def fail_to_set_up(): raise RuntimeError("no such database")
'''


class Shell:
    """A directory with ``work.py`` in it, in which the command is run.

    `run` returns when every process that holds the command's standard error has gone: its workers too.  That is how
    each of these tests shows that nothing is left behind.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.out = directory / "out.jsonl"
        (directory / "work.py").write_text(WORK)

    def write(self, name: str, *lines: str) -> str:
        """Make a file of *lines*; returns its name."""
        (self.directory / name).write_text("".join(f"{line}\n" for line in lines))
        return name

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start ``forkful *arguments*`` with pipes for its output."""
        command = [sys.executable, "-m", "forkful", *arguments]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        settings |= {"cwd": self.directory, "env": environment, "text": True, **options}
        return subprocess.Popen(command, **settings)

    def run(self, *arguments: str, stdin: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
        """Run ``forkful *arguments*`` to its end, and to that of its workers."""
        with self.start(*arguments, stdin=subprocess.PIPE, **options) as process:
            try:
                out, err = process.communicate(stdin, timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def records(self) -> dict[Any, dict[str, Any]]:
        """The records in out.jsonl, by their input; every line must be whole."""
        text = self.out.read_text()
        assert text == "" or text.endswith("\n")
        records = [json.loads(line) for line in text.splitlines()]
        by_input = {record["input"]: record for record in records}
        assert len(by_input) == len(records)
        return by_input


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """An empty directory to run the command in."""
    return Shell(tmp_path)


@pytest.fixture
def small_disk() -> Callable[[], None]:
    """For `Shell.run`'s ``preexec_fn``: no file may grow beyond 512 kB."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (512_000, 512_000))

    return limit
