"""Pools inside tasks, processes inside tasks, and what workers are called."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

import forkful
from forkful import errors

from . import life_tasks
from .support import WATCHDOG, Program, assert_works, wait_for_ends


def test_pool_in_a_task(start_method: str) -> None:
    """It works as anywhere, several times, and each worker of it has a name of its own."""
    with forkful.Pool(2, context=start_method) as pool:
        results = [pool.apply_async(life_tasks.use_own_pool, (start_method, count)) for count in (3, 4, 5)]
        assert [result.get(WATCHDOG)[0] for result in results] == [[0, 2, 4], [0, 2, 4, 6], [0, 2, 4, 6, 8]]
        names = {name for result in results for name in result.get()[1]}
        assert len(names) == 3
        assert all(re.fullmatch(r"\w+PoolWorker-\d+:\d+", name) for name in names)
        assert_works(pool)


def test_process_in_a_task(start_method: str) -> None:
    """``multiprocessing.Process`` too, which in a daemonic worker would be refused."""
    with forkful.Pool(1, context=start_method) as pool:
        assert pool.apply_async(life_tasks.use_own_process, (start_method, 21)).get(WATCHDOG) == 42
        assert_works(pool)


@pytest.mark.parametrize("how", ["terminate", "kill", "timeout"])
def test_pool_in_a_task_ends_with_it(how: str, start_method: str, tmp_path: Path) -> None:
    """Whichever way the outer worker ends, and though its own workers are inside a long call."""
    pids_file, gate = tmp_path / "pids", tmp_path / "gate"
    os.mkfifo(gate)
    with forkful.Pool(1, context=start_method) as pool:
        outer = pool.apply_async(os.getpid).get(WATCHDOG)
        result = pool.apply_async(
            life_tasks.hang_in_own_pool,
            (start_method, str(pids_file), str(gate)),
            timeout=3.0 if how == "timeout" else None,
        )
        with gate.open("rb"):  # returns when the inner workers are at work
            pass
        inner = [int(pid) for pid in pids_file.read_text(encoding="ascii").split()]
        assert len(inner) == 2
        if how == "kill":
            os.kill(outer, signal.SIGKILL)
        elif how == "terminate":
            pool.terminate()
        with pytest.raises((errors.WorkerDied, errors.TaskTimeout, errors.PoolTerminated)):
            result.get(WATCHDOG)
        assert wait_for_ends(inner) == []


CODE = """
import os
from tests.process import life_tasks
import forkful
if __name__ == "__main__":
    with forkful.Pool(1, context={method!r}) as pool:
        print(os.getpid(), flush=True)
        pool.apply(life_tasks.hang_in_own_pool, ({method!r}, {pids!r}, {gate!r}))
"""


def test_nothing_is_left_when_the_program_is_killed(start_method: str, tmp_path: Path) -> None:
    """Neither of the outer pool nor of the inner one, nor what forks their workers."""
    pids, gate = tmp_path / "pids", tmp_path / "gate"
    os.mkfifo(gate)
    code = CODE.format(method=start_method, pids=str(pids), gate=str(gate))
    with Program(cwd=tmp_path, code=code) as program:
        program.line()
        with gate.open("rb"):
            pass
        assert len(program.processes()) >= 4
        program.send(signal.SIGKILL)
        assert program.finish()[0] == -signal.SIGKILL  # it waits for the others


# Names.


def test_names_are_unique_and_stay(start_method: str) -> None:
    """One for each process, over all pools of the program."""
    pairs: set[tuple[int, str]] = set()
    for _ in range(2):
        with (
            forkful.Pool(2, context=start_method, maxtasksperchild=4) as one,
            forkful.Pool(1, context=start_method) as other,
        ):
            for pool in (one, other):
                results = [pool.apply_async(life_tasks.pid_and_name) for _ in range(12)]
                pairs.update(result.get(WATCHDOG) for result in results)
    pids, names = {pid for pid, _ in pairs}, {name for _, name in pairs}
    assert len(pairs) == len(pids) == len(names) >= 6
    kind = {"fork": "Fork", "forkserver": "ForkServer", "spawn": "Spawn"}[start_method]
    assert all(re.fullmatch(rf"{kind}PoolWorker-\d+", name) for name in names)
