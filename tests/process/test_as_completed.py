"""`Pool.as_completed`: results of any pools as they get ready, with nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import forkful
from forkful import errors
from forkful._core.wheel import Wheel

from . import tasks, view_tasks
from .support import WATCHDOG, Program, assert_works
from .view_tasks import Gate


@pytest.fixture
def pool() -> Iterator[Any]:
    with forkful.Pool(2, context="fork") as made:
        yield made


def test_results_come_as_they_get_ready(start_method: str, tmp_path: Path) -> None:
    """Not in the order they were given in; a failed one is a result like any other."""
    gates = [Gate(tmp_path, name) for name in range(2)]
    with forkful.Pool(3, context=start_method) as pool:
        slow, slower = (pool.apply_async(view_tasks.pass_gate, (gate.path, name)) for name, gate in enumerate(gates))
        failing = pool.apply_async(view_tasks.fail_at, (3,))
        completed = pool.as_completed([slower, slow, failing])

        assert next(completed) is failing
        assert not failing.successful()
        gates[0].open()
        assert next(completed) is slow
        gates[1].open()
        assert next(completed) is slower
        assert [next(completed, None) for _ in range(2)] == [None, None]
        assert_works(pool)


def test_what_is_ready_comes_first_and_each_once(pool: Any, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    pending = pool.apply_async(view_tasks.pass_gate, (gate.path, 0))
    ready = [pool.apply_async(tasks.double, (number,)) for number in range(3)]
    for result in ready:
        result.wait(WATCHDOG)
    completed = pool.as_completed(iter([pending, *ready, ready[0], pending]))
    assert [next(completed) for _ in range(3)] == ready
    gate.open()
    assert list(completed) == [pending]
    assert list(pool.as_completed([])) == []


def test_results_of_several_pools_and_kinds(pool: Any, tmp_path: Path) -> None:
    """One thread waits for all of them, and none waits for another."""
    gates = [Gate(tmp_path, name) for name in range(3)]
    with forkful.Pool(1, context="fork") as other, forkful.Pool(1, context="fork") as third:
        homes = [pool, other, third]
        for turn in [[0, 1, 2], [2, 1, 0], [1, 2, 0]]:
            results = [
                home.apply_async(view_tasks.pass_gate, (gate.path,)) for home, gate in zip(homes, gates, strict=True)
            ]
            maps = [home.map_async(tasks.double, range(50)) for home in homes]  # behind the first, in two of them
            completed = other.as_completed([*results, *maps])
            seen: list[Any] = []
            for index in turn:
                gates[index].open()
                while not seen or seen[-1] is not results[index]:
                    seen.append(next(completed))
            assert {*seen, *completed} == {*results, *maps}
            assert all(result.get() == list(range(0, 100, 2)) for result in maps)


def test_time_is_up(pool: Any, tmp_path: Path) -> None:
    """The error says how many are missing; the tasks go on, and what comes later is still to be had."""
    gate = Gate(tmp_path)
    late = pool.apply_async(view_tasks.pass_gate, (gate.path, "late"))
    soon = pool.apply_async(tasks.double, (1,))
    completed = pool.as_completed([late, soon], timeout=0.5)
    assert next(completed) is soon
    with pytest.raises(
        forkful.TimeoutError, match=r"^1 of 2 results did not come within 0\.5 s; their tasks go on$"
    ) as caught:
        next(completed)
    assert isinstance(caught.value, errors.ResultTimeout)
    gate.open()
    assert late.get(WATCHDOG) == "late"
    assert next(completed) is late
    assert next(completed, None) is None


def test_no_time_at_all(pool: Any) -> None:
    """What is ready comes all the same."""
    ready, pending = pool.apply_async(tasks.double, (1,)), pool.apply_async(tasks.wait_for_ever)
    ready.wait(WATCHDOG)
    completed = pool.as_completed([pending, ready], timeout=0)
    assert next(completed) is ready
    with pytest.raises(forkful.TimeoutError, match="1 of 2 results"):
        next(completed)


@pytest.mark.parametrize("wrong", [3, None, "text"])
def test_what_is_no_result_is_refused_at_once(wrong: object, pool: Any) -> None:
    result = pool.apply_async(tasks.double, (1,))
    with pytest.raises(TypeError, match="as_completed takes results of apply_async"):
        pool.as_completed([result, wrong])
    with pytest.raises(TypeError, match="timeout must be a number of seconds"):
        pool.as_completed([result], timeout="1")
    assert not result._watchers


def test_a_dropped_iterator_leaves_nothing_behind(pool: Any, tmp_path: Path) -> None:
    """Neither at the results nor in memory, however often one of them is looked at."""
    gate = Gate(tmp_path)
    pending = pool.apply_async(view_tasks.pass_gate, (gate.path, 1))
    for _ in range(3):
        soon = pool.apply_async(tasks.double, (1,))
        completed = pool.as_completed([pending, soon])
        assert next(completed) is soon
        inner = weakref.ref(completed._arrivals)
        del completed
        gc.collect()
        assert inner() is None
        assert not pending._watchers
    gate.open()
    assert pending.get(WATCHDOG) == 1


def test_in_a_callback() -> None:
    """There a result can be had as soon as it is known: its own callback comes later."""
    order: list[Any] = []
    submitted = threading.Event()
    others: list[Any] = []

    with forkful.Pool(1, context="fork") as pool:  # one worker: the callbacks come in order

        def look(_: object) -> None:
            assert submitted.wait(WATCHDOG)
            order.extend(result.get(WATCHDOG) for result in pool.as_completed(others, timeout=WATCHDOG))
            order.append("first")

        first = pool.apply_async(tasks.double, (1,), callback=look)
        others += [pool.apply_async(tasks.double, (n,), callback=lambda value: order.append(-value)) for n in (2, 3)]
        submitted.set()
        for result in (first, *others):
            result.get(WATCHDOG)
    assert sorted(order[:2]) == [4, 6]
    assert order[2] == "first"
    assert sorted(order[3:]) == [-6, -4]


def test_the_end_of_the_pool_ends_the_wait(tmp_path: Path) -> None:
    pool = forkful.Pool(1, context="fork")
    gate = Gate(tmp_path)
    started = pool.apply_async(view_tasks.pass_gate, (gate.path,))
    hanging = [pool.apply_async(tasks.wait_for_ever) for _ in range(3)]
    completed = pool.as_completed([started, *hanging], timeout=WATCHDOG)
    gate.open()
    assert next(completed) is started
    ender = threading.Thread(target=pool.terminate)
    ender.start()
    ended = list(completed)
    ender.join()
    assert set(ended) == set(hanging)
    for result in ended:
        with pytest.raises(errors.PoolTerminated):
            result.get()


def test_threads_share_an_iterator(pool: Any) -> None:
    """Each result goes to one of them, and all of them come to the end."""
    results = [pool.apply_async(tasks.spin, (number,)) for number in range(300)]
    completed = pool.as_completed(results, timeout=WATCHDOG)
    shares: list[list[Any]] = [[], [], []]
    threads = [threading.Thread(target=share.extend, args=(completed,)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = [result for share in shares for result in share]
    assert len(taken) == len(results)
    assert set(taken) == set(results)


def test_ctrl_c_loses_nothing(pool: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    pending = pool.apply_async(view_tasks.pass_gate, (gate.path, 1))
    completed = pool.as_completed([pending], timeout=WATCHDOG)
    with monkeypatch.context() as patch:
        patch.setattr(Wheel, "_take", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(completed)
    gate.open()
    assert list(completed) == [pending]
    assert_works(pool)


def _interrupted(_wheel: Wheel, _waiter: Any) -> bool:
    assert threading.current_thread() is threading.main_thread()  # the background thread does not come here
    raise KeyboardInterrupt


def test_in_a_coroutine(pool: Any, tmp_path: Path) -> None:
    async def main() -> list[Any]:
        gates = [Gate(tmp_path, name) for name in range(2)]
        results = [pool.apply_async(view_tasks.pass_gate, (gate.path, name)) for name, gate in enumerate(gates)]
        completed = pool.as_completed(results, timeout=WATCHDOG)
        await asyncio.to_thread(gates[1].open)
        order = [await anext(completed)]
        await asyncio.to_thread(gates[0].open)
        order += [result async for result in completed]
        assert order == [results[1], results[0]]

        hanging = pool.apply_async(tasks.wait_for_ever)
        with pytest.raises(forkful.TimeoutError, match="1 of 1 results"):
            async for _ in pool.as_completed([hanging], timeout=0.01):
                pass
        assert hanging.cancel(kill=True)
        return [await result for result in results]

    assert asyncio.run(main()) == [0, 1]


def test_in_a_forked_child(tmp_path: Path) -> None:
    """Results of the parent's pool never come there: that is an error, not a hang."""
    code = """
import asyncio, os, forkful
from forkful import errors
from forkful._core.wheel import Wheel
from tests.process import tasks
if __name__ == "__main__":
    pool = forkful.Pool(1, context="fork")
    result = pool.apply_async(tasks.wait_for_ever)
    stream = pool.imap(tasks.wait_for_ever, [1])
    pid = os.fork()
    if pid == 0:
        async def awaiting():
            await result
        async def looping():
            async for _ in stream: pass
        async def completing():
            async for _ in pool.as_completed([result]): pass
        for wait in (lambda: next(pool.as_completed([result])), *(
                lambda call=call: asyncio.run(call()) for call in (awaiting, looping, completing))):
            try:
                wait()
            except errors.PoolClosed as error:
                print("refused" if "process that made it" in str(error) else error, flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    pool.terminate()
"""
    with Program("-W", "ignore", cwd=tmp_path, code=code) as program:
        assert program.finish() == (0, "refused\n" * 4), program.stderr()
