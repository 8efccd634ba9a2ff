"""Ten thousand tasks while somebody kills a random worker every 20 ms."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import forkful
from forkful import errors
from forkful._core import wire

from . import tasks
from .support import WATCHDOG, Program, assert_works, find_mold, wait_for_ends

TASKS = 10_000
PERIOD = 0.02

Ends = list[tuple[int, Any]]  # the number of a task, its value or its error


@contextlib.contextmanager
def killing(pool: Any) -> Iterator[list[int]]:
    """Meanwhile a worker is killed every 20 ms; the pids of those that were."""
    over, killed = threading.Event(), list[int]()

    def kill() -> None:
        while not over.wait(PERIOD):  # the pace of the killing is what the test is about
            pids = [pid for _, pid in pool._master.members() if pid is not None]
            if pids:
                victim = random.choice(pids)
                ready = {worker.pid for worker in list(pool._master._state.workers.values())}
                if victim not in ready and random.random() < 0.7:
                    continue  # else none may ever come up: a copy of a large process takes longer than this pace
                with contextlib.suppress(ProcessLookupError):  # it has ended since
                    os.kill(victim, signal.SIGKILL)
                    killed.append(victim)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        over.set()
        killer.join()


def by_apply_async(pool: Any, retries: int) -> Ends:
    """One task each."""
    results = [pool.apply_async(tasks.spin, (number,), retries=retries) for number in range(TASKS)]
    return [(number, end_of(functools.partial(result.get, WATCHDOG))) for number, result in enumerate(results)]


def by_imap(pool: Any, retries: int) -> Ends:
    """A lazy map, in order."""
    iterator = pool.imap(tasks.spin, range(TASKS), retries=retries)
    ends = [(number, end_of(functools.partial(iterator.next, WATCHDOG))) for number in range(TASKS)]
    assert next(iterator, None) is None
    return ends


def by_imap_unordered(pool: Any, retries: int) -> Ends:
    """A lazy map: values tell which they are, and the errors must make up for the rest."""
    iterator = pool.imap_unordered(tasks.spin, range(TASKS), chunksize=10, retries=retries)
    ends = [end_of(functools.partial(iterator.next, WATCHDOG)) for _ in range(TASKS)]
    assert next(iterator, None) is None
    values = {end // 2: end for end in ends if isinstance(end, int)}
    failures = [end for end in ends if not isinstance(end, int)]
    return [(number, values[number] if number in values else failures.pop()) for number in range(TASKS)]


def by_outcomes(pool: Any, retries: int) -> Ends:
    """A map that tells how each element ended."""
    outcomes = pool.outcomes(tasks.spin, range(TASKS), chunksize=10, retries=retries)
    return [(outcome.index, outcome.value if outcome.ok else outcome.error) for outcome in outcomes]


def by_map(pool: Any, retries: int) -> Ends:
    """A map in chunks: it tells of the first failure only, after all of its elements have ended."""
    result = pool.map_async(tasks.spin, range(TASKS), retries=retries)
    end = end_of(functools.partial(result.get, WATCHDOG))
    if isinstance(end, list):
        return list(enumerate(end))
    return [(number, end if number == 0 else 2 * number) for number in range(TASKS)]


def end_of(get: Callable[[], Any]) -> Any:
    """A value, or the error."""
    try:
        return get()
    except errors.WorkerDied as error:
        return error


@pytest.mark.parametrize("retries", [0, 5])
@pytest.mark.parametrize("call", [by_apply_async, by_imap, by_imap_unordered, by_outcomes, by_map])
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_are_killed(method: str, call: Callable[[Any, int], Ends], retries: int) -> None:
    """Each task ends exactly once, right or with the ``WorkerDied`` of a worker that was killed."""
    with forkful.Pool(3, context=method) as pool:
        with killing(pool) as killed:
            ends = call(pool, retries)

        assert killed
        assert sorted(number for number, _ in ends) == list(range(TASKS))
        failures = [end for _, end in ends if isinstance(end, errors.WorkerDied)]
        assert all(end == 2 * number for number, end in ends if not isinstance(end, errors.WorkerDied))
        # What is retried runs first in the next worker, which may be the next victim: six times in a row is rare, not never.
        assert len(failures) <= (TASKS // 1000 if retries else len(killed))
        assert {failure.pid for failure in failures} <= set(killed)
        assert all(failure.exitcode == -signal.SIGKILL for failure in failures)
        assert_works(pool)


def kill_workers(*pools: Any) -> None:
    """Those there are now, and no more until they are needed."""
    pids = [pid for pool in pools for _, pid in pool._master.members() if pid is not None]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert wait_for_ends(pids) == []


def test_mold_is_killed() -> None:
    """The process that forks the workers: those it has forked work on, and for others another one is started."""
    with forkful.Pool(2, context="forkserver") as pool:
        results = [pool.apply_async(tasks.spin, (number,)) for number in range(1000)]
        mold = find_mold()
        os.kill(mold, signal.SIGKILL)
        results += [pool.apply_async(tasks.spin, (number,)) for number in range(1000, 2000)]

        assert [result.get(WATCHDOG) for result in results] == list(range(0, 4000, 2))
        kill_workers(pool)
        assert_works(pool)
        assert find_mold() != mold


def test_mold_is_killed_while_nothing_runs() -> None:
    """The next task is done."""
    with forkful.Pool(2, context="forkserver") as pool:
        assert_works(pool)
        os.kill(find_mold(), signal.SIGKILL)

        assert_works(pool)


def test_mold_is_killed_and_then_workers() -> None:
    """Of a worker whose mold is dead nobody can tell how it ended: the error says that, and no more."""
    with forkful.Pool(1, context="forkserver") as pool:
        worker = pool.apply(tasks.own_pid)
        os.kill(find_mold(), signal.SIGKILL)
        assert pool.apply(tasks.own_pid) == worker
        with pytest.raises(errors.WorkerDied, match=rf"\(pid {worker}\) ended, how is not known") as caught:
            pool.apply(tasks.kill_own_process)

        assert caught.value.pid == worker
        assert caught.value.exitcode is None
        assert "os._exit" not in str(caught.value)
        assert_works(pool)


def test_mold_is_killed_under_two_pools() -> None:
    """Pools share it; both go on, and share the next one."""
    with forkful.Pool(1, context="forkserver") as first, forkful.Pool(1, context="forkserver") as second:
        assert_works(first)
        assert_works(second)
        os.kill(find_mold(), signal.SIGKILL)
        kill_workers(first, second)

        assert_works(second)
        assert_works(first)
        find_mold()


def test_mold_is_killed_with_its_workers() -> None:
    """All at once, as when the kernel runs out of memory: the pool goes on, and so does the next one."""
    for _ in range(3):
        with forkful.Pool(2, context="forkserver") as pool:
            for _ in range(3):
                assert_works(pool)
                os.kill(find_mold(), signal.SIGKILL)
                kill_workers(pool)

                assert_works(pool)


# A mold that is stopped.


def stop_mold() -> int:
    """The mold, which from now on does nothing until it is continued."""
    mold = find_mold()
    os.kill(mold, signal.SIGSTOP)
    os.waitid(os.P_PID, mold, os.WSTOPPED | os.WNOWAIT)
    return mold


def terminate(pool: Any) -> None:
    """In another thread, so that a hang fails this test and not all."""
    ender = threading.Thread(target=pool.terminate, daemon=True)
    ender.start()
    ender.join(WATCHDOG)
    assert not ender.is_alive(), "terminate() hangs"


def test_mold_is_stopped() -> None:
    """What needs a new worker waits, nothing else does; terminate() ends it all, the mold too."""
    pool = forkful.Pool(3, context="forkserver")
    first = pool.apply(tasks.own_pid)
    mold = stop_mold()
    results = [pool.apply_async(tasks.wait_for_ever) for _ in range(3)]
    members = pool._pool
    assert len(members) == 3
    assert [pid for _, pid in pool._master.members()] == [first, None, None]
    assert "[workers: 3 of 3, " in repr(pool)
    assert "pid=None running" in repr(members[1])
    terminate(pool)
    for result in results:
        with pytest.raises(errors.PoolTerminated):
            result.get(WATCHDOG)
    assert members[1].pid is None
    assert wait_for_ends([mold, first]) == []


def test_mold_is_stopped_and_a_worker_killed() -> None:
    """Nobody tells of the end of that worker; terminate() does not wait for it."""
    pool = forkful.Pool(1, context="forkserver")
    worker = pool.apply(tasks.own_pid)
    mold = stop_mold()
    os.kill(worker, signal.SIGKILL)
    result = pool.apply_async(tasks.double, (1,))
    terminate(pool)
    with pytest.raises(errors.PoolTerminated):
        result.get(WATCHDOG)
    assert wait_for_ends([mold]) == []


def test_mold_is_stopped_for_a_while() -> None:
    """Its workers come as soon as it goes on; those that nobody wants any more leave at once."""
    with forkful.Pool(1, context="forkserver") as pool:
        assert pool.apply(tasks.double, (1,)) == 2
        mold = stop_mold()
        given_up = forkful.Pool(2, context="forkserver")
        results = [given_up.apply_async(tasks.double, (number,)) for number in range(2)]
        with forkful.Pool(1, context="forkserver") as waiting:
            late = waiting.apply_async(tasks.double, (3,))
            (member,) = waiting._pool
            terminate(given_up)
            for result in results:
                with pytest.raises(errors.PoolTerminated):
                    result.get(WATCHDOG)
            os.kill(mold, signal.SIGCONT)
            assert member.pid is not None
            assert late.get(WATCHDOG) == 6
            assert find_mold() == mold
            assert_works(pool)
            children = [child.pid for child in psutil.Process(mold).children()]
            given_up_too = set(children) - {pid for each in (pool, waiting) for _, pid in each._master.members()}
            assert wait_for_ends(given_up_too) == []


def test_interrupt_while_the_mold_is_stopped(tmp_path: Path) -> None:
    """Ctrl-C ends the program."""
    code = """
import forkful
from tests.process import tasks
from tests.process.test_mayhem import stop_mold

if __name__ == "__main__":
    with forkful.Pool(2, context="forkserver") as pool:
        pool.apply(tasks.double, (1,))
        stop_mold()
        print("started", flush=True)
        pool.map(tasks.nap, [3600, 3600], chunksize=1)
"""
    with Program(cwd=tmp_path, code=code) as program:
        assert program.line() == "started"
        program.interrupt()
        assert program.finish()[0] == -signal.SIGINT


def test_requests_that_nobody_reads() -> None:
    """They are refused when there is no more room, as everything that the system has none of."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(BlockingIOError):
            while True:
                wire.send_fds(ours, b"F")
