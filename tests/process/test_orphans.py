"""A program is killed with SIGKILL while its workers are inside a long call in C: nothing of it stays."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path

import psutil
import pytest

import forkful
from forkful import errors

from . import tasks
from .support import WATCHDOG, Program, assert_works, executions, wait_for_ends

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


FORKING = """
import os, socket, sys, threading, time
import forkful
from tests.process import tasks

forking = threading.Semaphore(0)

def fork():
    pid = os.fork()
    if pid == 0:
        os.close(1)
        time.sleep(3600)
    os.write(1, f"child {pid}\\n".encode())

def then_fork(function):
    def call(*args):
        made = function(*args)
        threading.Thread(target=fork).start()
        forking.acquire()
        return made
    return call

if __name__ == "__main__":
    pool = forkful.Pool(1, context=sys.argv[1])
    os.register_at_fork(before=forking.release)  # the hook added last runs first
    os.pipe, socket.socketpair = then_fork(os.pipe), then_fork(socket.socketpair)
    pool.apply(tasks.announce_and, (tasks.derive_key,))
"""


def test_fork_at_the_start_of_a_worker_keeps_no_worker(start_method: str, tmp_path: Path) -> None:
    """Another thread forks at the instant when an end of a worker's, or of the mold's, has been made."""
    script = tmp_path / "program.py"
    script.write_text(FORKING, encoding="utf-8")
    with Program(str(script), start_method, cwd=tmp_path) as parent:
        workers: set[int] = set()
        forks: set[int] = set()
        while not workers or len(forks) < 3:
            new_workers, new_forks = announced(parent, 1)
            workers |= new_workers
            forks |= new_forks
        (worker,) = workers
        molds = [pid for pid in parent.processes() if pid != worker and "mold" in psutil.Process(pid).cmdline()]
        assert len(molds) == (start_method == "forkserver")

        parent.send(signal.SIGKILL)

        assert wait_for_ends({parent.pid, worker, *molds}, SOON) == []
        assert forks <= set(parent.processes())  # they are none of ours


def test_fork_that_waits_for_a_lock_of_ours(start_method: str, tmp_path: Path) -> None:
    """A hook of the program's waits, in a fork, for the thread that is starting a worker: neither waits for ever."""
    code = f"""
import os, threading
lock, waiting = threading.Lock(), threading.Event()
os.register_at_fork(before=lambda: (waiting.set(), lock.acquire()), after_in_parent=lock.release, after_in_child=lock.release)
import forkful
from tests.process import tasks

def fork():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)

if __name__ == "__main__":
    with forkful.Pool(1, context={start_method!r}) as pool:
        if {start_method!r} == "fork":
            pool.apply(tasks.double, (2,))  # a fork in this thread would wait for its own lock
        thread = threading.Thread(target=fork)
        with lock:
            waiting.clear()
            thread.start()
            waiting.wait()
            print(pool.apply(tasks.double, (2,)))
        thread.join()
"""
    with Program(cwd=tmp_path, code=code) as parent:
        assert parent.finish() == (0, "4\n"), parent.stderr()


def test_fork_by_a_handler_at_the_start_of_a_worker(start_method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal's handler that forks while its thread starts a worker waits for nobody, and hurts nobody."""
    forked = []

    def fork(signum: int, frame: object) -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(7)
        forked.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    original = os.pipe

    def pipe() -> tuple[int, int]:
        made = original()
        signal.raise_signal(signal.SIGUSR1)
        return made

    pool = forkful.Pool(1, context=start_method)
    before = signal.signal(signal.SIGUSR1, fork)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pipe", pipe)
            assert pool.apply(tasks.double, (1,)) == 2
    finally:
        signal.signal(signal.SIGUSR1, before)
        pool.terminate()
    assert forked == [7, 7, 7]


def test_fork_by_a_thread_of_a_worker(start_method: str) -> None:
    """A task may fork in whichever thread."""
    with forkful.Pool(1, context=start_method) as pool:
        assert pool.apply_async(tasks.fork_in_a_thread).get(WATCHDOG) == 0


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
