"""Pools that grow and shrink, recycle by memory, and let urgent work go first."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from forkful import Pool
from forkful._core.wheel import Slot
from forkful.errors import PoolClosed

from . import tasks
from .support import WATCHDOG, assert_works, executions, wait_for_ends

hoard: list[bytes] = []  # in a worker


def noted_after(gate: str, log: str, number: int) -> int:
    """`tasks.noted`, once somebody writes to the pipe *gate*."""
    with Path(gate).open("rb", buffering=0) as file:
        file.read(1)
    return tasks.noted(log, number)


def leak(size: int) -> int:
    """Keeps *size* bytes for ever."""
    hoard.append(b"\1" * size)
    return os.getpid()


def members(pool: Pool) -> dict[int, int | None]:
    """The workers there are, without asking for more."""
    return dict(pool._master.members())


class Held:
    """A pool whose workers are all in a task that ends when told."""

    def __init__(self, pool: Pool, workers: int, directory: Path) -> None:
        self.log = directory / "log"
        self._gate = directory / "gate"
        os.mkfifo(self._gate)
        arguments = [(str(self._gate), str(self.log), number) for number in range(workers)]
        self.results = [pool.apply_async(noted_after, one) for one in arguments]
        self._writers = [os.open(self._gate, os.O_WRONLY) for _ in range(1)]  # opens when one of them reads

    def release(self) -> None:
        """Let them all go on."""
        os.write(self._writers[0], b"!" * len(self.results))

    def close(self) -> None:
        """Close the pipe, once they all have read."""
        os.close(self._writers.pop())


def test_the_least_are_there_without_work(start_method: str) -> None:
    """And are replaced when they die."""
    with Pool((2, 3), start_method=start_method) as pool:
        assert len(members(pool)) == 2
        victim = pool._pool[0]
        assert victim.pid is not None
        os.kill(victim.pid, 9)
        assert wait_for_ends([victim.pid]) == []
        assert_works(pool)
        assert len(members(pool)) >= 2


def test_idle_workers_leave(start_method: str) -> None:
    """Down to the least, in their own time; the background thread sees to that."""
    with Pool((1, 3), idle_timeout=0.05, start_method=start_method) as pool:
        pool._master.start_workers(3)
        pids = [member.pid for member in pool._pool]
        assert len(pids) == 3
        pool.map(tasks.nap, [0.01] * 6, chunksize=1)
        deadline = time.monotonic() + WATCHDOG
        while len(members(pool)) > 1:  # another may have come for the last of the work, and leaves in its turn
            assert time.monotonic() < deadline
            pool._master.wheel.wait(Slot(), 0.1)  # runs the loop: nothing else is waited for
        assert pool.apply(tasks.own_pid) in members(pool).values()


def test_all_leave_where_none_is_to_stay(start_method: str) -> None:
    """Also from a pool with a plain number of processes, when told."""
    with Pool(2, idle_timeout=0.05, start_method=start_method) as pool:
        pid = pool.apply(tasks.own_pid)
        assert wait_for_ends([pid]) == []
        assert pool.apply(tasks.own_pid) != pid


def test_a_plain_pool_keeps_its_workers(start_method: str) -> None:
    """As multiprocessing does."""
    with Pool(2, start_method=start_method) as pool:
        pid = pool.apply(tasks.own_pid)
        assert pool._master._state.due is None
        assert pool.apply(tasks.own_pid) == pid


def test_resize_while_running(start_method: str, tmp_path: Path) -> None:
    """Nothing is lost, nothing is done twice, and the number of workers is what was said."""
    log = tmp_path / "log"
    with Pool(2, start_method=start_method) as pool:
        stream = pool.imap_unordered(tasks.noted_pair, ((str(log), number) for number in range(1500)))
        results = []
        sizes: list[int | tuple[int, int]] = [4, 1, 3, (2, 2), 1, 5, 2, (1, 4), 1, 3]
        for number, size in enumerate(sizes):
            pool.resize(size)
            results += [stream.next(WATCHDOG) for _ in range(100 + number)]
        results += list(stream)
        assert sorted(results) == list(range(0, 3000, 2))
        assert executions(log) == dict.fromkeys(range(1500), 1)
        pool.resize(1)
        assert_works(pool)
        assert pool._processes == 1


def test_fewer_workers_finish_what_they_do(start_method: str, tmp_path: Path) -> None:
    """The one that is to go goes after its task, and what waited behind runs elsewhere."""
    with Pool(2, start_method=start_method) as pool:
        held = Held(pool, 2, tmp_path)
        pids = [member.pid for member in pool._pool]
        pool.resize(1)
        assert pool._processes == 1
        held.release()
        assert [result.get(WATCHDOG) for result in held.results] == [0, 2]
        assert executions(held.log) == {0: 1, 1: 1}
        assert pool.map(tasks.double, range(100)) == list(range(0, 200, 2))
        stays = pool.apply(tasks.own_pid)
        assert wait_for_ends([pid for pid in pids if pid is not None and pid != stays]) == []
        held.close()


def test_resize_of_a_closed_pool() -> None:
    """There is nothing to resize."""
    pool = Pool(1)
    pool.close()
    with pytest.raises(PoolClosed):
        pool.resize(2)
    pool.join()


@pytest.mark.parametrize("wrong", [0, -1, (3, 2), (1, 2, 3)])
def test_sizes_that_cannot_be(wrong: Any) -> None:
    """The pool is as it was."""
    with Pool(2) as pool:
        with pytest.raises(ValueError, match="process"):
            pool.resize(wrong)
        assert pool._processes == 2
        assert_works(pool)


# Priorities.


@pytest.mark.parametrize("kind", ["apply_async", "map_async", "imap"])
def test_urgent_work_goes_first(kind: str, tmp_path: Path) -> None:
    """Before all that waits, whichever way it was asked for."""
    with Pool(1) as pool:
        held = Held(pool, 1, tmp_path)
        log = str(held.log)
        late = [pool.apply_async(tasks.noted, (log, number), priority=-1) for number in range(10, 15)]
        plain = [pool.apply_async(tasks.noted, (log, number)) for number in range(20, 25)]
        urgent: Any
        if kind == "apply_async":
            urgent = [pool.apply_async(tasks.noted, (log, number), priority=7) for number in range(30, 35)]
        elif kind == "map_async":
            urgent = [pool.map_async(tasks.noted_pair, [(log, n) for n in range(30, 35)], chunksize=1, priority=7)]
        else:
            urgent = [pool.imap(tasks.noted_pair, [(log, number) for number in range(30, 35)], priority=7)]
        held.release()
        for result in (*late, *plain):
            result.get(WATCHDOG)
        if kind == "imap":
            assert list(urgent[0]) == list(range(60, 70, 2))
        order = list(executions(held.log))
        assert [number // 10 for number in order] == [0, *[3] * 5, *[2] * 5, *[1] * 5]
        held.close()


def test_priority_of_a_pool(tmp_path: Path) -> None:
    """That of its tasks, unless they have their own."""
    with Pool(1, priority=3) as pool:
        held = Held(pool, 1, tmp_path)
        log = str(held.log)
        usual = pool.apply_async(tasks.noted, (log, 1))
        early = pool.apply_async(tasks.noted, (log, 2), priority=4)
        held.release()
        assert (usual.get(WATCHDOG), early.get(WATCHDOG)) == (2, 4)
        assert list(executions(held.log)) == [0, 2, 1]
        held.close()


# Threads of the program that resize while others submit.


def test_resize_from_other_threads(start_method: str) -> None:
    """Any of them may."""
    with Pool(2, start_method=start_method) as pool:
        errors: list[BaseException] = []

        def change() -> None:
            try:
                for size in (1, 3, 2, 1, 2):
                    pool.resize(size)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=change) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert pool.map(tasks.double, range(3000), chunksize=1) == list(range(0, 6000, 2))
        for thread in threads:
            thread.join()
        assert not errors
        assert_works(pool)
