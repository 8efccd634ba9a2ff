"""Ten thousand tasks while somebody kills a random worker every 20 ms."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import forkful
from forkful import errors

from . import tasks
from .support import WATCHDOG, assert_works, find_mold, wait_for_ends

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
