"""Results, iterators and pools in an event loop: in debug mode, with nothing said that asyncio would complain about."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

import forkful
from forkful import errors
from forkful.pool import _awaiting

from . import tasks, view_tasks
from .support import WATCHDOG, assert_works, executions, wait_for_ends
from .view_tasks import Gate

T = TypeVar("T")

Run = Callable[[Coroutine[Any, Any, T]], T]


@pytest.fixture
def pool() -> Iterator[Any]:
    with forkful.Pool(2, context="fork") as made:
        yield made


@pytest.fixture
def run(caplog: pytest.LogCaptureFixture) -> Iterator[Run[Any]]:
    """`asyncio.run` in debug mode; a complaint of asyncio's fails the test."""

    async def watched(main: Coroutine[Any, Any, T]) -> T:
        asyncio.get_running_loop().slow_callback_duration = WATCHDOG  # a machine under load is no mistake of ours
        return await asyncio.wait_for(main, 2 * WATCHDOG)

    with caplog.at_level(logging.WARNING):
        yield lambda main: asyncio.run(watched(main), debug=True)
    assert [record.getMessage() for record in caplog.records if record.name in {"asyncio", "forkful"}] == []


# await


def test_await(start_method: str, run: Run[Any]) -> None:
    """Values, errors with their remote traceback, maps; again after they are ready."""

    async def main() -> None:
        async with forkful.Pool(2, context=start_method) as pool:
            result = pool.apply_async(tasks.double, (21,))
            assert await result == 42
            assert await result == 42
            assert await pool.map_async(tasks.double, range(100)) == list(range(0, 200, 2))
            assert await asyncio.gather(*(pool.apply_async(tasks.double, (n,)) for n in range(50))) == [
                *range(0, 100, 2)
            ]
            with pytest.raises(LookupError, match="no 3") as caught:
                await pool.apply_async(view_tasks.fail_at, (3,))
            assert "fail_at" in str(caught.value.__cause__)
            with pytest.raises(errors.WorkerDied):
                await pool.apply_async(tasks.misbehave, ("die",))
            with pytest.raises(errors.UnpicklableError):
                await pool.apply_async(tasks.double, (threading.Lock(),))

    run(main())


def test_await_holds_up_nothing(pool: Any, run: Run[Any], tmp_path: Path) -> None:
    """The loop goes on, and no thread waits, whatever the number of tasks that do."""
    gate = Gate(tmp_path)

    async def main() -> None:
        first = pool.apply_async(view_tasks.pass_gate, (gate.path, "first"))
        others = [pool.apply_async(tasks.wait_for_ever) for _ in range(100)]
        waiting = [asyncio.ensure_future(result) for result in (first, *others)]
        await asyncio.to_thread(gate.open)
        assert await waiting[0] == "first"
        ours = [thread.name for thread in threading.enumerate() if thread.name.startswith("forkful")]
        assert ours == ["forkful-pool"]
        for task in waiting[1:]:
            task.cancel()
        assert {type(end) for end in await asyncio.gather(*waiting[1:], return_exceptions=True)} == {
            asyncio.CancelledError
        }
        assert await pool.apply_async(tasks.double, (1,)) == 2

    run(main())


@pytest.mark.parametrize("how", ["cancel", "timeout", "wait_for"])
@pytest.mark.parametrize("kind", ["call", "map"])
def test_cancelling_cancels_the_work(how: str, kind: str, pool: Any, run: Run[Any], tmp_path: Path) -> None:
    """Also where it runs: its worker is killed and replaced."""
    gates = [Gate(tmp_path, name) for name in range(2)]
    log = str(tmp_path / "log")

    async def main() -> None:
        if kind == "call":
            result = pool.apply_async(_pass_and_wait, ((log, gates[0].path),))
        else:
            result = pool.map_async(_pass_and_wait, [(log, gate.path) for gate in gates], chunksize=1)
        started = asyncio.gather(*(asyncio.to_thread(gate.open) for gate in (gates if kind == "map" else gates[:1])))
        if how == "cancel":
            waiting = asyncio.ensure_future(result)
            await started
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        elif how == "timeout":
            await started
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await result
        else:
            await started
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(result, 0.01)
        with pytest.raises(errors.TaskCancelled):
            await result

    run(main())
    pids = executions(tmp_path / "log")
    assert len(pids) == (2 if kind == "map" else 1)
    assert wait_for_ends(pids) == []
    assert_works(pool)


def _pass_and_wait(places: tuple[str, str]) -> None:
    log, gate = places
    view_tasks.note_and_pass(log, os.getpid(), gate)
    tasks.wait_for_ever()


def test_cancelling_one_of_two(pool: Any, run: Run[Any]) -> None:
    """What is cancelled is the work: it is no more for the other, and that is an error of the task, not its cancelling."""

    async def main() -> None:
        result = pool.apply_async(tasks.wait_for_ever)
        one, other = (asyncio.ensure_future(result) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        with pytest.raises(errors.TaskCancelled):
            await other

    run(main())


def test_shielded(pool: Any, run: Run[Any], tmp_path: Path) -> None:
    """`asyncio.shield` is the way to stop waiting and let the work go on."""
    gate = Gate(tmp_path)

    async def main() -> None:
        result = pool.apply_async(view_tasks.pass_gate, (gate.path, "done"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(result), 0.01)
        await asyncio.to_thread(gate.open)
        assert await result == "done"

    run(main())


def test_cancelled_as_it_arrives(pool: Any, run: Run[Any], tmp_path: Path) -> None:
    """The task is told of its cancelling; the value is not lost."""
    gate = Gate(tmp_path)

    async def main() -> None:
        result = pool.apply_async(view_tasks.pass_gate, (gate.path, 8))
        waiting = asyncio.ensure_future(result)
        await asyncio.sleep(0)
        gate.open()
        result.get(WATCHDOG)  # ready now, and the loop has not heard of it
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await result == 8

    run(main())


def test_two_loops_await_one_result(pool: Any, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    result = pool.apply_async(view_tasks.pass_gate, (gate.path, 7))
    values: list[int] = []

    async def main() -> None:
        values.append(await result)

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join(WATCHDOG)
    assert values == [7, 7, 7]


def test_a_task_that_is_dropped(pool: Any, tmp_path: Path) -> None:
    """It leaves nothing behind at the result; the work goes on."""
    gate = Gate(tmp_path)
    result = pool.apply_async(view_tasks.pass_gate, (gate.path, 7))
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(_await(result))
    loop.run_until_complete(asyncio.sleep(0))
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]  # we know
    loop.close()
    waiting.get_coro().close()  # as the garbage collector does
    assert not result._watchers
    gate.open()
    assert result.get(WATCHDOG) == 7
    assert_works(pool)


def test_loop_is_closed_while_it_waits(pool: Any, tmp_path: Path) -> None:
    """The result has nobody to wake, and harms nobody: the thread that delivers goes on."""
    gate = Gate(tmp_path)
    result = pool.apply_async(view_tasks.pass_gate, (gate.path, 7))
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(_await(result))
    loop.run_until_complete(asyncio.sleep(0))
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]  # we know
    loop.close()
    gate.open()
    assert result.get(WATCHDOG) == 7
    assert_works(pool)


async def _await(result: Any) -> Any:
    return await result


def test_run_ends_with_work_under_way(pool: Any, tmp_path: Path) -> None:
    """`asyncio.run` cancels what is left, and so ends the work."""
    results = [pool.apply_async(tasks.wait_for_ever) for _ in range(3)]

    async def main() -> None:
        for result in results:
            kept.append(asyncio.ensure_future(result))
        await asyncio.sleep(0)

    kept: list[Any] = []
    asyncio.run(main(), debug=True)
    for result in results:
        with pytest.raises(errors.TaskCancelled):
            result.get(WATCHDOG)
    assert_works(pool)


def test_await_in_a_callback() -> None:
    """There a result can be had as soon as it is known: its own callback comes later."""
    order: list[Any] = []
    submitted = threading.Event()
    others: list[Any] = []

    def look(_: object) -> None:
        assert submitted.wait(WATCHDOG)
        order.append(asyncio.run(_await(others[0])))

    with forkful.Pool(1, context="fork") as pool:  # one worker: the callbacks come in order
        first = pool.apply_async(tasks.double, (1,), callback=look)
        others.append(pool.apply_async(tasks.double, (2,), callback=lambda value: order.append(-value)))
        submitted.set()
        for result in (first, *others):
            result.get(WATCHDOG)
    assert order == [4, -4]


def test_the_end_of_the_pool_ends_the_wait(run: Run[Any]) -> None:
    async def main() -> None:
        pool = forkful.Pool(1, context="fork")
        waiting = [asyncio.ensure_future(pool.apply_async(tasks.wait_for_ever)) for _ in range(3)]
        looping = asyncio.ensure_future(anext(pool.imap(tasks.wait_for_ever, [1])))
        await asyncio.sleep(0)
        await asyncio.to_thread(pool.terminate)
        for end in await asyncio.gather(*waiting, looping, return_exceptions=True):
            assert isinstance(end, errors.PoolTerminated)

    run(main())


def test_no_thread_to_be_had(pool: Any, run: Run[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the event loop stands still until the result is there: better than for ever."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "forkful-pool":
            raise RuntimeError("can't start new thread")
        start(thread)

    async def main() -> None:
        assert await pool.apply_async(tasks.nap, (0.01,)) == 0.01
        assert [value async for value in pool.imap(tasks.double, range(50))] == list(range(0, 100, 2))
        results = [pool.apply_async(tasks.double, (number,)) for number in range(5)]
        assert {result async for result in pool.as_completed(results, timeout=WATCHDOG)} == set(results)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        run(main())


# async for


@pytest.mark.parametrize("call", ["imap", "imap_unordered", "outcomes", "istarmap", "istarmap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 7])
def test_async_for(call: str, chunksize: int, pool: Any, run: Run[Any]) -> None:
    async def main() -> list[Any]:
        if call.startswith("istarmap"):
            iterator = getattr(pool, call)(view_tasks.add, ((n, n) for n in range(300)), chunksize)
        else:
            iterator = getattr(pool, call)(tasks.double, (n for n in range(300)), chunksize)
        values = [getattr(item, "value", item) async for item in iterator]
        assert [item async for item in iterator] == []
        return values

    values = run(main())
    assert (values if call in {"imap", "istarmap"} else sorted(values)) == list(range(0, 600, 2))


def test_async_for_goes_on_after_an_error(pool: Any, run: Run[Any]) -> None:
    async def main() -> None:
        iterator = pool.imap(view_tasks.fail_at, range(6))
        values = []
        with pytest.raises(LookupError):
            async for value in iterator:
                values.append(value)
        values += [value async for value in iterator]
        assert values == [0, 2, 4, 8, 10]

        def broken() -> Iterator[int]:
            yield 1
            raise ZeroDivisionError

        values = []
        with pytest.raises(ZeroDivisionError):
            async for value in pool.imap(tasks.double, broken()):
                values.append(value)
        assert values == [2]

    run(main())


@pytest.mark.parametrize("how", ["break", "raise", "cancel", "aclose"])
def test_leaving_early_leaves_the_rest_undone(how: str, run: Run[Any], tmp_path: Path) -> None:
    """No further input is read, and what was read and has not started never does."""
    log, started, gate = str(tmp_path / "log"), Gate(tmp_path, "started"), Gate(tmp_path)
    read: list[int] = []
    kept: list[Any] = []

    def inputs() -> Iterator[tuple[str, int, str]]:
        for number in itertools.count():
            read.append(number)
            yield log, number, f"{started.path} {gate.path}" if number == 1 else ""

    async def loop(pool: Any, waits: asyncio.Event) -> None:
        kept.append(pool.istarmap(view_tasks.note_and_pass, inputs(), buffersize=10))
        async with contextlib.aclosing(kept[0]) if how == "aclose" else contextlib.nullcontext():
            async for value in kept[0] if how == "aclose" else kept.pop():
                assert value == 0
                await asyncio.to_thread(started.open)
                if how == "raise":
                    raise ZeroDivisionError
                if how != "cancel":
                    break
                waits.set()

    async def main() -> None:
        async with forkful.Pool(1, context="fork") as pool:
            waits = asyncio.Event()
            looping = asyncio.create_task(loop(pool, waits))
            if how == "cancel":
                await waits.wait()
                looping.cancel()
            with contextlib.suppress(ZeroDivisionError, asyncio.CancelledError):
                await looping
            del looping
            for iterator in kept:
                assert await anext(iterator, "over") == "over"
            pool._master._handle([])  # what a turn of the loop begins with: what was noted is done
            await asyncio.to_thread(gate.open)
            assert await pool.apply_async(tasks.double, (1,)) == 2

    run(main())
    assert set(executions(tmp_path / "log")) == {0, 1}
    assert len(read) <= 12


def test_a_reader_that_waits_hears_of_close(pool: Any, run: Run[Any]) -> None:
    async def main() -> None:
        iterator = pool.imap(tasks.wait_for_ever, itertools.count())
        waiting = asyncio.ensure_future(anext(iterator, "over"))
        await asyncio.sleep(0)
        iterator.close()
        assert await waiting == "over"
        results = [asyncio.ensure_future(pool.apply_async(tasks.double, (1,), retries=1))]
        for member in pool._pool:
            view_tasks.kill(member.pid)
        assert await asyncio.gather(*results) == [2]

    run(main())


def test_time_is_up_for_one_element(pool: Any, run: Run[Any], tmp_path: Path) -> None:
    """`wait_for` of one step loses nothing: the element comes with the next."""
    gate = Gate(tmp_path)

    async def main() -> None:
        iterator = pool.imap(view_tasks.pass_gate, [gate.path])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(iterator), 0.01)
        await asyncio.to_thread(gate.open)
        assert [value async for value in iterator] == [None]

    run(main())


def test_other_tasks_have_their_turn(pool: Any, run: Run[Any]) -> None:
    """Also where a result is there each time."""

    async def main() -> None:
        iterator = pool.imap(tasks.double, range(2000), buffersize=2000)
        pool.close()
        await asyncio.to_thread(pool.join)  # all of them are there
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        beside = asyncio.create_task(other())
        assert len([value async for value in iterator]) == 2000
        assert turns > 20
        beside.cancel()

    run(main())


def test_two_tasks_share_an_iterator(pool: Any, run: Run[Any]) -> None:
    async def main() -> None:
        iterator = pool.imap_unordered(tasks.double, range(500))

        async def read() -> list[int]:
            return [value async for value in iterator]

        shares = await asyncio.gather(*(read() for _ in range(3)))
        assert sorted(itertools.chain(*shares)) == list(range(0, 1000, 2))

    run(main())


@pytest.mark.parametrize("call", ["map", "map_async", "starmap", "imap", "imap_unordered", "istarmap", "outcomes"])
def test_asynchronous_inputs_are_refused(call: str, pool: Any) -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(TypeError, match="a map reads an ordinary iterable, not an asynchronous one"):
        getattr(pool, call)(tasks.double, numbers())


# async with


def test_async_with_ends_the_pool(start_method: str, run: Run[Any]) -> None:
    async def main() -> Any:
        async with forkful.Pool(2, context=start_method) as pool:
            assert await pool.apply_async(tasks.double, (1,)) == 2
            hanging = pool.apply_async(tasks.wait_for_ever)
        with pytest.raises(errors.PoolTerminated):
            await hanging
        return pool

    pool = run(main())
    with pytest.raises(errors.PoolClosed):
        pool.apply_async(tasks.double, (1,))


def test_the_loop_goes_on_while_a_pool_ends(run: Run[Any]) -> None:
    """Also when the task that ends it is cancelled meanwhile: it is told afterwards, and nothing is left half done."""
    goes_on, ended = threading.Event(), []

    def end() -> None:
        assert goes_on.wait(WATCHDOG)
        ended.append(True)

    async def main() -> None:
        ending = asyncio.create_task(_awaiting.run_in_thread(end))
        await asyncio.sleep(0)
        ending.cancel()
        await asyncio.sleep(0)
        ending.cancel()
        await asyncio.sleep(0)
        assert not ending.done()
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await ending
        assert ended

        def fail() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await _awaiting.run_in_thread(fail)

    run(main())


def test_an_error_ends_the_pool(run: Run[Any]) -> None:
    async def main() -> None:
        async with forkful.Pool(1, context="fork") as pool:
            kept.append(pool.apply_async(tasks.wait_for_ever))
            raise ZeroDivisionError

    kept: list[Any] = []
    with pytest.raises(ZeroDivisionError):
        run(main())
    with pytest.raises(errors.PoolTerminated):
        kept[0].get(0)
