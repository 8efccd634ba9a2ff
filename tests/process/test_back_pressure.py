"""``max_pending``: never more calls that have not ended, and nobody waits for ever for his turn."""

from __future__ import annotations

import asyncio
import pickle
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import forkful
from forkful import errors
from forkful._core.master import Master
from forkful._core.wheel import Wheel

from . import tasks, view_tasks
from .support import WATCHDOG, assert_works
from .view_tasks import Gate


@pytest.fixture
def gates(tmp_path: Path) -> list[Gate]:
    return [Gate(tmp_path, name) for name in range(3)]


def watch_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many calls had not ended, one more included, as each was given to the master."""
    counts: list[int] = []
    given: list[Any] = []
    original = Master.submit

    def submit(master: Master, task: Any) -> None:
        given.append(task.sink)
        counts.append(sum(1 for result in given if result._outcome is None))
        original(master, task)

    monkeypatch.setattr(Master, "submit", submit)
    return counts


@pytest.mark.parametrize("most", [1, 3])
def test_never_more_than_so_many(most: int, start_method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`apply_async` waits, and runs the loop meanwhile; all calls are done."""
    counts = watch_calls(monkeypatch)
    with forkful.Pool(2, context=start_method, max_pending=most) as pool:
        results = [pool.apply_async(tasks.double, (number,)) for number in range(50)]
        assert [result.get(WATCHDOG) for result in results] == list(range(0, 100, 2))
        assert max(counts) <= most
        assert_works(pool)


def test_a_full_pool_says_so(gates: list[Gate]) -> None:
    """Nothing has happened then: there is room again as soon as a call has ended."""
    with forkful.Pool(1, context="fork", max_pending=2, block=False) as pool:
        started = pool.apply_async(view_tasks.pass_gate, (gates[0].path, 1))
        queued = pool.apply_async(tasks.double, (2,))
        with pytest.raises(errors.PoolFull):
            pool.apply_async(tasks.double, (3,))
        message = r"the pool has 2 calls that have not ended, and max_pending=2: wait for one"
        with pytest.raises(errors.PoolFull, match=message) as caught:
            pool.apply_async(tasks.double, (3,))
        copy = pickle.loads(pickle.dumps(caught.value))
        assert (str(copy), copy.max_pending) == (str(caught.value), 2)
        assert queued.cancel()
        third = pool.apply_async(tasks.double, (4,))
        gates[0].open()
        assert [started.get(WATCHDOG), third.get(WATCHDOG)] == [1, 8]
        assert not pool._master.pending
        assert pool.stats()["failed"] == 1  # what was cancelled


def test_the_call_decides(gates: list[Gate]) -> None:
    """``block`` of the call goes before the pool's."""
    with forkful.Pool(1, context="fork", max_pending=1) as pool:
        started = pool.apply_async(view_tasks.pass_gate, (gates[0].path,))
        with pytest.raises(errors.PoolFull):
            pool.apply_async(tasks.double, (3,), block=False)
        gates[0].open()
        assert pool.apply_async(tasks.double, (3,)).get(WATCHDOG) == 6
        assert started.ready()
    with forkful.Pool(1, context="fork", max_pending=1, block=False) as pool:
        pool.apply_async(tasks.double, (1,))
        assert pool.apply_async(tasks.double, (2,), block=True).get(WATCHDOG) == 4


def test_what_does_not_count(gates: list[Gate]) -> None:
    """`apply` and maps; and a call whose arguments cannot be pickled."""
    with forkful.Pool(2, context="fork", max_pending=1, block=False) as pool:
        started = pool.apply_async(view_tasks.pass_gate, (gates[0].path,))
        assert pool.apply(tasks.double, (1,)) == 2
        assert pool.map(tasks.double, range(10)) == list(range(0, 20, 2))
        assert list(pool.imap(tasks.double, range(10))) == list(range(0, 20, 2))
        with pytest.raises(errors.UnpicklableError):
            pool.apply_async(tasks.double, (threading.Lock(),)).get(WATCHDOG)
        gates[0].open()
        started.get(WATCHDOG)
        for how, error in (("raise", LookupError), ("die", errors.WorkerDied)):
            with pytest.raises(error):
                pool.apply_async(tasks.misbehave, (how,)).get(WATCHDOG)
        assert pool.apply_async(tasks.double, (1,)).get(WATCHDOG) == 2


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_the_end_of_the_pool_wakes_who_waits(end: str, gates: list[Gate]) -> None:
    """Each of them, at once, though what runs goes on; and what they asked for is not done."""
    pool = forkful.Pool(1, context="fork", max_pending=1)
    running = pool.apply_async(view_tasks.pass_gate, (gates[0].path, "done"))
    ends: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def submit() -> None:
        try:
            ends.put(pool.apply_async(tasks.double, (1,)))
        except errors.ForkfulError as error:
            ends.put(error)

    threads = [threading.Thread(target=submit) for _ in range(3)]
    await_waiting(pool, threads)
    getattr(pool, end)()
    for _ in threads:
        error = ends.get(timeout=WATCHDOG)
        assert isinstance(error, errors.PoolClosed)
        assert f"its state is {pool._state}" in str(error)
    for thread in threads:
        thread.join()
    if end == "close":
        gates[0].open()
        assert running.get(WATCHDOG) == "done"
        pool.join()
        assert pool.stats()["tasks"] == 1
        pool.terminate()


def await_waiting(pool: Any, threads: list[threading.Thread]) -> None:
    """Start *threads*; return when all of them wait for their turn."""
    admission: Any = pool._calls.admission
    entered = threading.Semaphore(0)

    class Waiting(type(admission._waiting)):  # type: ignore[misc]  # a deque that tells
        def append(self, item: Any) -> None:
            super().append(item)
            entered.release()

    admission._waiting = Waiting()
    for thread in threads:
        thread.start()
        assert entered.acquire(timeout=WATCHDOG)


def test_first_come_first_served(gates: list[Gate]) -> None:
    with forkful.Pool(1, context="fork", max_pending=1) as pool:
        pool.apply_async(view_tasks.pass_gate, (gates[0].path,))
        order: list[int] = []

        def submit(number: int) -> None:
            pool.apply_async(tasks.double, (number,), callback=order.append).get(WATCHDOG)

        threads = [threading.Thread(target=submit, args=(number,)) for number in range(5)]
        await_waiting(pool, threads)
        gates[0].open()
        for thread in threads:
            thread.join(WATCHDOG)
        assert order == [0, 2, 4, 6, 8]


def test_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more, and no wake-up is lost."""
    counts = watch_calls(monkeypatch)
    with forkful.Pool(2, context="fork", max_pending=3) as pool:
        values: list[int] = []

        def submit(base: int) -> None:
            results = [pool.apply_async(tasks.double, (base + number,)) for number in range(40)]
            values.extend(result.get(WATCHDOG) for result in results)

        threads = [threading.Thread(target=submit, args=(100 * number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WATCHDOG)
        assert sorted(values) == sorted(2 * (100 * base + number) for base in range(6) for number in range(40))
        assert max(counts) <= 3
        assert_nobody_is_in(pool)


def assert_nobody_is_in(pool: Any) -> None:
    assert not pool._calls.admission._open
    assert not pool._calls.admission._waiting
    assert not pool._calls.admission._submitting


def test_ctrl_c_while_it_waits(gates: list[Gate], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is raised; nothing was submitted, nothing is lost, and the next gets the turn."""
    with forkful.Pool(1, context="fork", max_pending=1) as pool:
        running = pool.apply_async(view_tasks.pass_gate, (gates[0].path, "done"))
        with monkeypatch.context() as patch:
            patch.setattr(Wheel, "_take", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                pool.apply_async(tasks.double, (1,))
        assert list(pool._master.pending) == [running]
        gates[0].open()
        assert running.get(WATCHDOG) == "done"
        assert [pool.apply_async(tasks.double, (n,)).get(WATCHDOG) for n in range(3)] == [0, 2, 4]


def _interrupted(_wheel: Wheel, _waiter: Any) -> bool:
    assert threading.current_thread() is threading.main_thread()  # the background thread does not come here
    raise KeyboardInterrupt


def test_ctrl_c_as_it_is_submitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its turn is given back, and what may have got through is taken back."""
    with forkful.Pool(1, context="fork", max_pending=1) as pool:
        assert pool.apply(tasks.double, (1,)) == 2
        original = Master.submit

        def interrupted(master: Master, task: Any) -> None:
            original(master, task)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Master, "submit", interrupted)
            with pytest.raises(KeyboardInterrupt):
                pool.apply_async(tasks.double, (1,))
        assert [pool.apply_async(tasks.double, (n,)).get(WATCHDOG) for n in range(3)] == [0, 2, 4]
        assert not pool._master.pending
        assert_nobody_is_in(pool)


def test_a_callback_submits() -> None:
    """Its own call counts no more: the next may follow, a hundred times, with room for one."""
    done: queue.SimpleQueue[int] = queue.SimpleQueue()
    with forkful.Pool(1, context="fork", max_pending=1) as pool:

        def go_on(value: int) -> None:
            if value < 100:
                pool.apply_async(view_tasks.add, (value, 1), callback=go_on)
            else:
                done.put(value)

        pool.apply_async(view_tasks.add, (0, 1), callback=go_on)
        assert done.get(timeout=WATCHDOG) == 100


def test_two_callbacks_and_a_caller() -> None:
    """A callback that waits for its turn holds up no call, only the callbacks behind it."""
    with forkful.Pool(2, context="fork", max_pending=2) as pool:
        inner: list[Any] = []

        def more(value: int) -> None:
            inner.append(pool.apply_async(tasks.double, (value,), callback=str))

        results = [pool.apply_async(tasks.double, (number,), callback=more) for number in range(30)]
        assert [result.get(WATCHDOG) for result in results] == list(range(0, 60, 2))
        assert sorted(result.get(WATCHDOG) for result in inner) == list(range(0, 120, 4))


class Submits:
    """Calls the pool as it is rebuilt, in the thread that has its result in hand."""

    pool: Any = None
    results: list[Any]

    def __reduce__(self) -> tuple[Callable[[], str], tuple[()]]:
        return _submit_more, ()


def _submit_more() -> str:
    if Submits.pool is not None:
        Submits.results.append(Submits.pool.apply_async(tasks.double, (5,)))
    return "rebuilt"


def _make_submits() -> Submits:
    return Submits()


def test_a_result_submits_as_it_is_rebuilt() -> None:
    """It is not held back: the call it would wait for may be the one that it is the result of."""
    with forkful.Pool(1, context="fork", max_pending=1) as pool:
        pool.apply(tasks.double, (1,))  # the worker must not have the pool
        Submits.pool, Submits.results = pool, []
        try:
            value: Any = pool.apply_async(_make_submits).get(WATCHDOG)
            assert value == "rebuilt"
        finally:
            Submits.pool = None
        assert [result.get(WATCHDOG) for result in Submits.results] == [10]


@pytest.mark.parametrize("where", ["while it waits", "as it is submitted"])
def test_a_signal_handler_submits(where: str, gates: list[Gate], monkeypatch: pytest.MonkeyPatch) -> None:
    """It has interrupted a call that cannot go on meanwhile, and so does not wait for its turn behind it."""
    before = signal.getsignal(signal.SIGUSR1)
    asked: list[Any] = []
    with forkful.Pool(1, context="fork", max_pending=1) as pool:
        assert pool.apply(tasks.double, (1,)) == 2
        owner, name = (Wheel, "_take") if where == "while it waits" else (Master, "submit")
        original = getattr(owner, name)

        def interrupted(*args: Any) -> Any:
            if not asked and threading.current_thread() is threading.main_thread():
                asked.append(None)
                signal.raise_signal(signal.SIGUSR1)
            return original(*args)

        def handle(_number: int, _frame: object) -> None:
            asked.append(pool.apply_async(tasks.double, (4,)))
            gates[0].open() if where == "while it waits" else None

        running = pool.apply_async(view_tasks.pass_gate, (gates[0].path,)) if where == "while it waits" else None
        while pool.stats()[
            "queued"
        ]:  # in a burst tasks wait a moment for company; while a handler blocks, nobody sends them
            time.sleep(0.001)
        signal.signal(signal.SIGUSR1, handle)
        try:
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, interrupted)
                assert pool.apply_async(tasks.double, (1,)).get(WATCHDOG) == 2
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert asked[1].get(WATCHDOG) == 8
        assert running is None or running.ready()
        assert_nobody_is_in(pool)


def test_in_a_coroutine(gates: list[Gate]) -> None:
    """There nobody may block: room is what an awaited call leaves."""

    async def main() -> int:
        async with forkful.Pool(1, context="fork", max_pending=1, block=False) as pool:
            running = asyncio.ensure_future(pool.apply_async(view_tasks.pass_gate, (gates[0].path, 1)))
            with pytest.raises(errors.PoolFull):
                pool.apply_async(tasks.double, (1,))
            await asyncio.to_thread(gates[0].open)
            done: int = await running
            return done + await pool.apply_async(tasks.double, (1,))

    assert asyncio.run(main()) == 3


def test_an_executor_is_held_back_too(gates: list[Gate]) -> None:
    with forkful.Pool(1, context="fork", max_pending=1, block=False) as pool, pool.executor() as executor:
        running = executor.submit(view_tasks.pass_gate, gates[0].path, 1)
        with pytest.raises(errors.PoolFull):
            executor.submit(tasks.double, 1)
        gates[0].open()
        assert running.result(WATCHDOG) == 1
        assert executor.submit(tasks.double, 1).result(WATCHDOG) == 2


def test_no_cost_where_it_is_not_used() -> None:
    with forkful.Pool(1, context="fork") as pool:
        assert pool._calls.admission is None
        result = pool.apply_async(tasks.double, (1,), block=False)
        assert result._early is None
        assert result.get(WATCHDOG) == 2


def test_item_that_comes_just_before_the_wait() -> None:
    """The thread that reads the iterable tells of it when nobody waits for descriptors yet: it is seen nevertheless."""
    gate, told = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 1
        gate.wait(WATCHDOG)
        yield 2

    with forkful.Pool(1) as pool:
        master: Any = pool._master
        nudge, wait = master.nudge, master._wait_for_descriptors

        def nudge_and_tell() -> None:
            nudge()
            if gate.is_set():
                told.set()

        def wait_a_little_later(*arguments: Any) -> Any:
            if started:
                gate.set()
                told.wait(WATCHDOG)
            return wait(*arguments)

        started: list[bool] = []
        master.nudge, master._wait_for_descriptors = nudge_and_tell, wait_a_little_later
        results = pool.imap(tasks.double, items())
        assert next(results) == 2
        started.append(True)
        assert results.next(timeout=WATCHDOG) == 4
