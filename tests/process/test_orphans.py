"""A program is killed with SIGKILL while its workers are inside a long call in C: nothing of it stays."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from .support import Program, wait_for_ends

SOON = 5.0
"""Seconds in which a worker must be gone. The calls in C take hours, so it is not by their end that it goes."""

PARENT = """
import functools, os, sys, time
import forkful
from tests.process import tasks

if __name__ == "__main__":
    method, task, child = sys.argv[1:]
    pool = forkful.Pool(2, context=method)
    long = getattr(tasks, task)
    results = [pool.apply_async(tasks.announce_and, (long,)) for _ in range(2)]
    while pool.stats()["workers"] < 2:  # a worker is started by the first of these calls, or when somebody waits
        results[0].wait(0.01)
    if child == "child":
        pid = os.fork()
        if pid == 0:
            os.close(1)
            time.sleep(3600)
        print(pid, flush=True)
    results[0].get()
"""


def program(folder: Path, *arguments: str) -> Program:
    """`PARENT` with *arguments*."""
    script = folder / "program.py"
    script.write_text(PARENT, encoding="utf-8")
    return Program(str(script), *arguments, cwd=folder)


@pytest.mark.parametrize("task", ["derive_key", "match_badly"])
def test_no_worker_outlives_its_parent(task: str, start_method: str, tmp_path: Path) -> None:
    """With or without the GIL held in the call; the mold goes too."""
    with program(tmp_path, start_method, task, "alone") as parent:
        workers = {int(parent.line()), int(parent.line())}
        everything = parent.processes()
        assert workers < set(everything)
        if start_method == "forkserver":
            assert len(everything) == 4  # with the program itself and the mold

        parent.send(signal.SIGKILL)

        assert wait_for_ends(everything, SOON) == []
        assert parent.processes() == []


def test_child_of_the_parent_keeps_no_worker(start_method: str, tmp_path: Path) -> None:
    """A process that the program has forked by itself, with a copy of all its descriptors, does not count as it."""
    with program(tmp_path, start_method, "derive_key", "child") as parent:
        printed = {int(parent.line()) for _ in range(3)}
        children = printed - set(_workers(parent)) | set(_forked(parent))
        others = set(parent.processes()) - children
        assert len(children) == 1
        assert len(others & printed) == 2

        parent.send(signal.SIGKILL)

        assert wait_for_ends(others, SOON) == []
        assert set(parent.processes()) == children  # which is none of ours


def test_child_of_a_worker_keeps_no_worker(start_method: str, tmp_path: Path) -> None:
    """A process that a task has forked does not keep its worker, or the other one, alive."""
    with program(tmp_path, start_method, "fork_and_derive_key", "alone") as parent:
        printed = {int(parent.line()) for _ in range(4)}  # each worker, and the child of each
        children = {pid for pid in printed if os.getpgid(pid) == parent.pid} - set(_workers(parent))
        workers = printed - children
        assert len(workers) == len(children) == 2

        parent.send(signal.SIGKILL)

        assert wait_for_ends(workers, SOON) == []
        assert set(parent.processes()) <= children


def _workers(parent: Program) -> list[int]:
    """The processes of *parent* that are direct children of it or of its mold."""
    import psutil

    everything = {pid: psutil.Process(pid).ppid() for pid in parent.processes()}
    molds = {pid for pid in everything if "mold" in psutil.Process(pid).cmdline() and everything[pid] == parent.pid}
    return [pid for pid, above in everything.items() if above == parent.pid or above in molds]


def test_fork_of_a_task_does_not_speak_for_its_worker(start_method: str, tmp_path: Path) -> None:
    """A child that runs on into the rest of the worker leaves: its result is not taken for the task's."""
    code = f"""
import forkful
from tests.process import tasks

if __name__ == "__main__":
    with forkful.Pool(2, context={start_method!r}) as pool:
        print([pool.apply(tasks.fork_and_return, (number,)) for number in range(5)])
        print(pool.map(tasks.fork_and_return, range(20)))
"""
    with Program(cwd=tmp_path, code=code) as parent:
        returncode, output = parent.finish()
        assert (returncode, parent.stderr()) == (0, "")
        assert output == f"{[2 * n for n in range(5)]}\n{[2 * n for n in range(20)]}\n"
