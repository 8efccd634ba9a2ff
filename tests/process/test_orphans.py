"""A program is killed with SIGKILL while its workers are inside a long call in C: nothing of it stays."""

from __future__ import annotations

import functools
import signal
from pathlib import Path

import pytest

import forkful
from forkful import errors

from . import tasks
from .support import Program, assert_works, executions, wait_for_ends

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
        os.write(1, f"child {pid}\\n".encode())  # in one piece: the workers write there too
    results[0].get()
"""


def program(folder: Path, *arguments: str) -> Program:
    """`PARENT` with *arguments*."""
    script = folder / "program.py"
    script.write_text(PARENT, encoding="utf-8")
    return Program(str(script), *arguments, cwd=folder)


def announced(parent: Program, count: int) -> tuple[set[int], set[int]]:
    """The workers, and the other processes, that tell of themselves in the next *count* lines."""
    pids: dict[str, set[int]] = {"worker": set(), "child": set()}
    for _ in range(count):
        kind, pid = parent.line().split()
        pids[kind].add(int(pid))
    return pids["worker"], pids["child"]


@pytest.mark.parametrize("task", ["derive_key", "match_badly"])
def test_no_worker_outlives_its_parent(task: str, start_method: str, tmp_path: Path) -> None:
    """With or without the GIL held in the call; the mold goes too."""
    with program(tmp_path, start_method, task, "alone") as parent:
        workers, _ = announced(parent, 2)
        everything = set(parent.processes())
        assert len(workers & everything) == 2
        assert len(everything) == (4 if start_method == "forkserver" else 3)  # with the program, and the mold

        parent.send(signal.SIGKILL)

        assert wait_for_ends(everything, SOON) == []
        assert parent.processes() == []


def test_child_of_the_parent_keeps_no_worker(start_method: str, tmp_path: Path) -> None:
    """A process that the program has forked by itself, with a copy of all its descriptors, does not count as it."""
    with program(tmp_path, start_method, "derive_key", "child") as parent:
        workers, children = announced(parent, 3)
        assert (len(workers), len(children)) == (2, 1)
        others = set(parent.processes()) - children

        parent.send(signal.SIGKILL)

        assert wait_for_ends(others, SOON) == []
        assert set(parent.processes()) == children  # which is none of ours


def test_child_of_a_worker_keeps_no_worker(start_method: str, tmp_path: Path) -> None:
    """A process that a task has forked does not keep its worker, or the other one, or the mold, alive."""
    with program(tmp_path, start_method, "fork_and_derive_key", "alone") as parent:
        workers, children = announced(parent, 4)
        assert (len(workers), len(children)) == (2, 2)
        others = set(parent.processes()) - children

        parent.send(signal.SIGKILL)

        assert wait_for_ends(others, SOON) == []
        assert set(parent.processes()) <= children


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


def test_fork_of_a_task_starts_no_other_element(tmp_path: Path) -> None:
    """A child that runs on into the rest of a block names none of it; else those would be blamed, and this one run again."""
    log = tmp_path / "log"
    function = functools.partial(tasks.fork_and_die, str(log))
    numbers = list(range(20_000))
    numbers[15_000] = -1
    with forkful.Pool(1, context="fork") as pool:
        pool.map(function, range(20_000))  # from now on the clock is not read after each element
        with pytest.raises(errors.WorkerDied, match=r"\[15000\]: its worker .* was killed by SIGKILL"):
            pool.map(function, numbers, chunksize=20_000)
        assert executions(log) == {-1: 1}
        assert_works(pool)


def test_fork_of_an_initializer(start_method: str) -> None:
    """The child that runs on into the rest of the worker leaves in silence."""
    with forkful.Pool(1, tasks.fork_as_initializer, context=start_method) as pool:
        assert pool.apply(tasks.kept) == [0]
        assert_works(pool)
