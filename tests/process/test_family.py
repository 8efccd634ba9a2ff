"""What a task has started ends with the worker that is killed for it; and what it has left behind on purpose does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

import forkful
from forkful import errors

from .support import WATCHDOG, wait_for_ends


def start(path: str) -> int:
    """Start a program that starts another one, and both would run for an hour; the pid of the one that it notes."""
    code = (
        f"import os, subprocess, sys; inner = subprocess.Popen(['sleep', '3600']); "
        f"open({path!r}, 'a').write(f'{{os.getpid()}} {{inner.pid}}\\n'); inner.wait()"
    )
    os.mkfifo(path)
    subprocess.Popen([sys.executable, "-c", code])
    with open(path, encoding="ascii") as told:
        line = told.readline()
    os.unlink(path)
    Path(path).write_text(line, encoding="ascii")
    return int(line.split()[0])


def start_and_wait(path: str) -> NoReturn:
    """The same, and never return."""
    os.waitpid(start(path), 0)
    raise AssertionError("an hour has passed")


def pids_in(path: Path) -> list[int]:
    """What `start` has noted."""
    return [int(word) for word in path.read_text("ascii").split()]


def test_time_out(start_method: str, tmp_path: Path) -> None:
    """The worker is killed, and the programs of its task with it."""
    started = tmp_path / "started"
    with forkful.Pool(1, context=start_method) as pool:
        with pytest.raises(errors.TaskTimeout):
            pool.apply_async(start_and_wait, (str(started),), timeout=2.0).get(WATCHDOG)
        assert not wait_for_ends(pids_in(started))
        assert pool.apply(abs, (-1,)) == 1


def test_cancel(tmp_path: Path) -> None:
    """So is one that is killed by ``cancel``."""
    started = tmp_path / "started"
    with forkful.Pool(1) as pool:
        result = pool.apply_async(start_and_wait, (str(started),))
        while not started.is_file() or not started.read_text("ascii"):
            result.wait(0.01)
        assert result.cancel(kill=True)
        with pytest.raises(errors.TaskCancelled):
            result.get(WATCHDOG)
        assert not wait_for_ends(pids_in(started))


def test_what_is_left_behind(tmp_path: Path) -> None:
    """A task that has returned has left what it started to itself: the end of the pool does not end it."""
    started = tmp_path / "started"
    with forkful.Pool(1) as pool:
        assert pool.apply(start, (str(started),)) == pids_in(started)[0]
    for pid in reversed(pids_in(started)):
        os.kill(pid, 15)  # raises if it were gone
    assert not wait_for_ends(pids_in(started))
