"""A pool as a ``concurrent.futures.Executor``, and the executor with a pool of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import itertools
import os
import pickle
import queue
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

import forkful
from forkful import errors
from forkful._core import wheel
from forkful._core.books import SENT
from forkful.futures import ProcessPoolExecutor

from . import executor_tasks, tasks
from .support import WATCHDOG, Program, wait_for_ends


class Gate:
    """A task that stands at a gate: `await_arrival` until it runs, `open` to let it go on."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        self._fd = -1

    def await_arrival(self) -> None:
        """Wait until the task has started."""
        self._fd = os.open(self.path, os.O_WRONLY)

    def open(self) -> None:
        """Let it go on; it returns ``"!"``."""
        os.write(self._fd, b"!")
        self.forget()

    def forget(self) -> None:
        """The task is dead."""
        os.close(self._fd)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


@pytest.fixture
def pool() -> Iterator[forkful.Pool]:
    """One worker, so that what is behind a task at a gate waits."""
    with forkful.Pool(1) as pool:
        yield pool


# Calls and their ends.


def test_calls_under_each_start_method(start_method: str) -> None:
    with ProcessPoolExecutor(2, mp_context=start_method) as executor:
        future = executor.submit(executor_tasks.describe, 1, two=2)
        assert isinstance(future, Future)
        assert future.result(WATCHDOG) == "(1,) [('two', 2)]"
        assert future.done()
        assert not future.running()
        assert future.exception() is None
        assert list(executor.map(pow, [2, 3, 4], [5, 2, 1])) == [32, 9, 4]


def test_arguments_named_like_those_of_submit_reach_the_function(pool: forkful.Pool) -> None:
    future = pool.executor().submit(executor_tasks.describe, self=1, fn=2, timeout=3)
    assert future.result(WATCHDOG) == "() [('fn', 2), ('self', 1), ('timeout', 3)]"


def test_an_exception_comes_back_with_the_remote_traceback(pool: forkful.Pool) -> None:
    future = pool.executor().submit(executor_tasks.fail, "where is it")
    with pytest.raises(LookupError, match="where is it") as caught:
        future.result(WATCHDOG)
    cause = caught.value.__cause__
    assert "raise LookupError(what)" in str(cause)
    assert type(cause) is concurrent.futures.process._RemoteTraceback  # the standard library's own tests look at this
    assert type(future.exception()) is LookupError


def test_result_waits_no_longer_than_told(pool: forkful.Pool, gate: Gate) -> None:
    future = pool.executor().submit(executor_tasks.open_gate, gate.path)
    gate.await_arrival()
    with pytest.raises(TimeoutError):
        future.result(0.01)
    with pytest.raises(TimeoutError):
        future.exception(0)
    gate.open()
    assert future.result(WATCHDOG) == "!"


def test_a_crash_costs_the_call_that_ran(start_method: str) -> None:
    """Its error is the standard library's as well as ours, and the executor goes on."""
    with ProcessPoolExecutor(2, mp_context=start_method) as executor:
        victim = executor.submit(executor_tasks.die)
        others = [executor.submit(tasks.double, number) for number in range(20)]
        with pytest.raises(BrokenProcessPool) as caught:
            victim.result(WATCHDOG)
        assert isinstance(caught.value, errors.WorkerDied)
        assert caught.value.exitcode == -9
        assert "task die: its worker (pid" in str(caught.value)
        assert [future.result(WATCHDOG) for future in others] == list(range(0, 40, 2))
        assert executor.submit(tasks.double, 21).result(WATCHDOG) == 42
        assert executor._broken is False


def test_every_error_is_of_both_families_and_survives_pickling(pool: forkful.Pool) -> None:
    executor = pool.executor(timeout=30)
    died = executor.submit(executor_tasks.die).exception(WATCHDOG)
    unpicklable = executor.submit(id, threading.Lock()).exception(WATCHDOG)
    unreadable = executor.submit(executor_tasks.make_unreadable).exception(WATCHDOG)
    assert isinstance(unpicklable, pickle.PicklingError)
    assert isinstance(unpicklable, errors.UnpicklableError)
    assert isinstance(unreadable, pickle.PicklingError)
    for error in (died, unpicklable, unreadable):
        twin = pickle.loads(pickle.dumps(error))
        assert type(twin) is type(error)
        assert vars(twin) == vars(error)
        assert str(twin) == str(error)


def test_a_pool_that_is_terminated_ends_its_futures(pool: forkful.Pool, gate: Gate) -> None:
    executor = pool.executor()
    futures: list[Future[Any]] = [
        executor.submit(executor_tasks.open_gate, gate.path),
        executor.submit(tasks.double, 1),
    ]
    gate.await_arrival()
    pool.terminate()
    for future in futures:
        with pytest.raises(errors.PoolTerminated) as caught:
            future.result(WATCHDOG)
        assert isinstance(caught.value, BrokenProcessPool)
    executor.shutdown()
    gate.forget()


def test_limits_are_for_all_calls_of_the_view(pool: forkful.Pool, tmp_path: Path) -> None:
    limited = pool.executor(timeout=0.1)
    again = pool.executor(retries=1)
    assert isinstance(limited.submit(tasks.wait_for_ever).exception(WATCHDOG), errors.TaskTimeout)
    with pytest.raises(errors.TaskTimeout):
        list(limited.map(tasks.wait_for_ever, [1]))
    assert again.submit(executor_tasks.die_at_first, str(tmp_path / "once")).result(WATCHDOG) == "second"
    assert list(again.map(executor_tasks.die_at_first, [str(tmp_path / "once more")])) == ["second"]
    with pytest.raises(ValueError, match="timeout must be more than 0"):
        pool.executor(timeout=0)


def test_an_initializer_runs_and_one_that_fails_breaks_the_executor(start_method: str) -> None:
    with ProcessPoolExecutor(1, start_method, executor_tasks.set_mark, ("set",)) as executor:
        assert executor.submit(executor_tasks.get_mark).result(WATCHDOG) == "set"
    with ProcessPoolExecutor(1, start_method, executor_tasks.fail_to_start) as executor:
        try:
            executor.submit(executor_tasks.get_mark).result(WATCHDOG)
        except BrokenExecutor as error:
            assert isinstance(error, errors.InitializerError)
            assert "nothing to start from" in str(error)
            assert isinstance(error.__cause__, LookupError)
        else:
            pytest.fail("there can be no worker")
        assert executor._broken
        with pytest.raises(errors.InitializerError, match=r"nothing to start from.*make a new executor"):
            executor.submit(executor_tasks.get_mark)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        ProcessPoolExecutor(0)
    with pytest.raises(ValueError, match="max_tasks_per_child must be >= 1"):
        ProcessPoolExecutor(1, max_tasks_per_child=0)
    with pytest.raises(TypeError, match="max_tasks_per_child must be an integer"):
        ProcessPoolExecutor(1, max_tasks_per_child=1.5)  # type: ignore[arg-type]  # the mistake under test
    with ProcessPoolExecutor(1) as executor:
        with pytest.raises(NotImplementedError, match="executors cannot be passed between processes"):
            pickle.dumps(executor)
        future = executor.submit(tasks.double, 1)
        with pytest.raises(TypeError, match="a future cannot be pickled"):
            pickle.dumps(future)
        with pytest.raises(ValueError, match=r"Chunksize must be 1\+"):
            executor.map(tasks.double, [1], chunksize=0)
        with pytest.raises(ValueError, match="buffersize must be 1 or more"):
            executor.map(tasks.double, [1], buffersize=0)


def test_max_tasks_per_child_under_each_start_method(start_method: str) -> None:
    with ProcessPoolExecutor(1, start_method, max_tasks_per_child=2) as executor:
        pids = [executor.submit(os.getpid).result(WATCHDOG) for _ in range(5)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


def test_a_full_pool_holds_submit_back(gate: Gate) -> None:
    """By waiting, in callbacks too, or by an error."""
    with forkful.Pool(1, max_pending=1, block=False) as pool:
        executor = pool.executor()
        first = executor.submit(executor_tasks.open_gate, gate.path)
        gate.await_arrival()
        with pytest.raises(errors.PoolFull):
            executor.submit(tasks.double, 1)
        gate.open()
        assert first.result(WATCHDOG) == "!"
    with forkful.Pool(1, max_pending=2) as pool:
        executor = pool.executor()
        again: queue.SimpleQueue[Future[int]] = queue.SimpleQueue()
        for number in range(50):
            future = executor.submit(tasks.double, number)
            future.add_done_callback(lambda done: again.put(executor.submit(tasks.double, done.result())))
        values = [again.get(timeout=WATCHDOG).result(WATCHDOG) for _ in range(50)]
        assert sorted(values) == list(range(0, 200, 4))


# Cancelling.


def test_a_call_can_be_cancelled_until_it_starts(pool: forkful.Pool, gate: Gate, tmp_path: Path) -> None:
    """Also one that was sent to the worker already; ``wait`` and ``as_completed`` hear of it."""
    executor = pool.executor()
    log = tmp_path / "log"
    list(executor.map(tasks.noted, [str(tmp_path / "before")] * 500, range(500)))  # it is short: several are sent ahead
    first = executor.submit(executor_tasks.open_gate, gate.path)
    gate.await_arrival()
    queued = [executor.submit(tasks.noted, str(log), number) for number in range(3)]
    assert first.running()
    assert "state=running" in repr(first)
    assert len(pool._pool) == 1  # which also sends what was just submitted
    assert {task.state for future in queued if future._call and (task := future._call._task)} == {SENT}
    assert not any(future.running() for future in queued)
    assert not first.cancel()
    assert queued[0].cancel()
    assert queued[0].cancelled()
    assert queued[0].done()
    assert queued[0].cancel()
    with pytest.raises(CancelledError):
        queued[0].result()
    assert concurrent.futures.wait(queued, 0, "FIRST_COMPLETED").done == {queued[0]}
    gate.open()
    everything: list[Future[Any]] = [first, *queued]
    assert concurrent.futures.wait(everything, WATCHDOG).not_done == set()
    assert set(concurrent.futures.as_completed(queued, WATCHDOG)) == set(queued)
    assert log.read_text() == "1\n2\n"
    assert not first.cancel()
    assert first.result() == "!"


def test_each_thread_of_a_worker_tells_what_it_runs(tmp_path: Path) -> None:
    gates = [Gate(tmp_path / name) for name in ("first", "second")]
    with forkful.Pool(1, threads=2) as pool:
        executor = pool.executor()
        futures = [executor.submit(executor_tasks.open_gate, gate.path) for gate in [*gates, gates[0]]]
        for gate in gates:
            gate.await_arrival()
        assert [future.running() for future in futures] == [True, True, False]
        assert executor._max_workers == 2
        assert futures[2].cancel()
        for gate in gates:
            gate.open()
        assert [future.result(WATCHDOG) for future in futures[:2]] == ["!", "!"]


def test_the_callbacks_of_a_cancelled_future_run_in_cancel(pool: forkful.Pool, gate: Gate) -> None:
    executor = pool.executor()
    executor.submit(executor_tasks.open_gate, gate.path)
    gate.await_arrival()
    queued = executor.submit(tasks.double, 1)
    called: list[tuple[bool, int]] = []
    queued.add_done_callback(lambda future: called.append((future.cancelled(), threading.get_ident())))
    queued.cancel()
    assert called == [(True, threading.get_ident())]
    gate.open()


def test_a_callback_that_shuts_the_executor_down_may_be_that_of_a_cancelled_future(
    pool: forkful.Pool, gate: Gate
) -> None:
    executor = pool.executor()
    executor.submit(executor_tasks.open_gate, gate.path)
    gate.await_arrival()
    queued = executor.submit(tasks.double, 1)

    def shut_down(_: object) -> None:
        gate.open()
        executor.shutdown()

    queued.add_done_callback(shut_down)
    assert queued.cancel()


def test_kill_workers_ends_what_this_executor_runs_and_nothing_else(gate: Gate, tmp_path: Path) -> None:
    other_gate = Gate(tmp_path / "other gate")
    with forkful.Pool(2) as pool:
        executor, other = pool.executor(), pool.executor()
        running = executor.submit(executor_tasks.open_gate, gate.path)
        kept = other.submit(executor_tasks.open_gate, other_gate.path)
        gate.await_arrival()
        other_gate.await_arrival()
        queued = executor.submit(tasks.double, 1)
        executor.kill_workers()
        error = running.exception(WATCHDOG)
        assert isinstance(error, errors.TaskCancelled)
        assert isinstance(error, BrokenProcessPool)
        assert queued.cancelled()
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            executor.submit(tasks.double, 1)
        other_gate.open()
        assert kept.result(WATCHDOG) == "!"
        gate.forget()


# Callbacks, and waiting without forkful.


def test_results_arrive_without_anybody_waiting_here(pool: forkful.Pool) -> None:
    """The standard library's own ways to wait know nothing of the pool's loop."""
    executor = pool.executor()
    arrived = threading.Event()
    executor.submit(tasks.double, 1).add_done_callback(lambda _: arrived.set())
    assert arrived.wait(WATCHDOG)
    futures = [executor.submit(tasks.double, number) for number in range(50)]
    assert concurrent.futures.wait(futures, WATCHDOG).not_done == set()
    futures = [executor.submit(tasks.double, number) for number in range(50)]
    done = [future.result(0) for future in concurrent.futures.as_completed(futures, WATCHDOG)]
    assert sorted(done) == list(range(0, 100, 2))


def test_the_background_thread_does_not_wait_and_see_when_it_alone_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It usually does for two milliseconds: whoever submits may be about to wait here.  Here that is an hour."""
    monkeypatch.setattr(wheel, "_WATCH_NS", 3600 * 10**9)
    with forkful.Pool(1) as pool:
        executor = pool.executor()
        for _ in range(3):
            arrived = threading.Event()
            executor.submit(tasks.double, 1).add_done_callback(functools.partial(_set, arrived))
            assert arrived.wait(WATCHDOG)
            future = executor.submit(tasks.double, 1)
            assert concurrent.futures.wait([future], WATCHDOG).done == {future}
            future = executor.submit(tasks.double, 1)
            assert list(concurrent.futures.as_completed([future], WATCHDOG)) == [future]


def _set(event: threading.Event, _: object) -> None:
    event.set()


def test_a_slow_callback_keeps_no_result_from_anybody(pool: forkful.Pool) -> None:
    executor = pool.executor()
    called, go_on = threading.Event(), threading.Event()
    slow = executor.submit(tasks.double, 1)

    def be_slow(_: object) -> None:
        called.set()
        go_on.wait(WATCHDOG)

    slow.add_done_callback(be_slow)
    assert called.wait(WATCHDOG)
    assert slow.result(0) == 2
    other = executor.submit(tasks.double, 2)
    assert concurrent.futures.wait([other], WATCHDOG).done == {other}
    go_on.set()


def test_callbacks_may_use_the_executor_and_may_raise(pool: forkful.Pool, caplog: pytest.LogCaptureFixture) -> None:
    executor = pool.executor()
    values: list[int] = []
    done = threading.Event()

    def exit_program(_: object) -> None:
        raise SystemExit(3)

    def go_on(future: Future[int]) -> None:
        values.append(future.result())
        values.append(executor.submit(tasks.double, values[-1]).result(WATCHDOG))
        done.set()

    first = executor.submit(tasks.double, 1)
    first.add_done_callback(exit_program)
    first.add_done_callback(go_on)
    assert done.wait(WATCHDOG)
    assert values == [2, 4]
    executor.shutdown()
    assert "exception calling callback for <PoolFuture" in caplog.text


def test_shutdown_waits_for_callbacks(pool: forkful.Pool) -> None:
    executor = pool.executor()
    called: list[int] = []
    for number in range(20):
        executor.submit(tasks.double, number).add_done_callback(lambda future: called.append(future.result()))
    executor.shutdown()
    assert sorted(called) == list(range(0, 40, 2))


def test_a_callback_may_shut_the_executor_down() -> None:
    executor = ProcessPoolExecutor(1)
    ended = threading.Event()
    future = executor.submit(tasks.double, 1)
    later = executor.submit(tasks.double, 2)

    def shut_down(_: object) -> None:
        executor.shutdown()
        ended.set()

    future.add_done_callback(shut_down)
    assert ended.wait(WATCHDOG)
    assert later.result(WATCHDOG) == 4
    executor.shutdown()


def test_several_threads_may_use_one_executor() -> None:
    with ProcessPoolExecutor(2) as executor:
        sums: list[int] = []

        def work(start: int) -> None:
            futures = [executor.submit(tasks.double, number) for number in range(start, start + 200)]
            sums.append(
                sum(future.result(WATCHDOG) for future in futures) + sum(executor.map(tasks.double, [start] * 50))
            )

        threads = [threading.Thread(target=work, args=(start,)) for start in (0, 1000, 2000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WATCHDOG)
    assert sorted(sums) == [sum(range(2 * start, 2 * start + 400, 2)) + 100 * start for start in (0, 1000, 2000)]


def test_a_value_that_was_set_by_somebody_else_stands(pool: forkful.Pool, gate: Gate) -> None:
    executor = pool.executor()
    future = executor.submit(executor_tasks.open_gate, gate.path)
    gate.await_arrival()
    future.set_result("theirs")
    gate.open()
    executor.shutdown()
    assert future.result() == "theirs"


# map.


def test_map_is_in_order_whatever_the_chunks() -> None:
    expected = [number * 2 for number in range(200)]
    with ProcessPoolExecutor(2) as executor:
        for chunksize in (1, 7, 200, 1000):
            assert list(executor.map(tasks.double, range(200), chunksize=chunksize)) == expected
            assert list(executor.map(tasks.double, range(200), chunksize=chunksize, buffersize=2)) == expected
        assert list(executor.map(tasks.double, [])) == []
        assert list(executor.map(tasks.double, iter([1]), buffersize=1)) == [2]
    with ProcessPoolExecutor(2, max_tasks_per_child=3) as executor:
        assert list(executor.map(tasks.double, range(20), chunksize=3)) == expected[:20]


def test_map_makes_every_call_whether_its_results_are_read_or_not(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with ProcessPoolExecutor(2) as executor:
        executor.map(tasks.noted, itertools.repeat(str(log), 5000), range(5000))
    assert sorted(map(int, log.read_text().split())) == list(range(5000))


def test_results_of_a_map_that_nobody_reads_are_not_kept(pool: forkful.Pool) -> None:
    executor = pool.executor()
    before = set(pool._master.pending)
    executor.map(tasks.double, range(100))
    executor.shutdown()
    assert set(pool._master.pending) == before


def test_the_first_error_ends_a_map(pool: forkful.Pool) -> None:
    executor = pool.executor()
    results = executor.map(executor_tasks.die_at, range(10), itertools.repeat(3))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(errors.WorkerDied) as caught:
        next(results)
    assert isinstance(caught.value, BrokenProcessPool)
    assert list(results) == []


def test_a_map_that_takes_too_long_ends_and_takes_back_the_rest(pool: forkful.Pool, gate: Gate, tmp_path: Path) -> None:
    executor = pool.executor()
    log = tmp_path / "log"
    results = executor.map(tasks.gated, [str(log)] * 1000, range(1000), [gate.path, *[""] * 999], timeout=0.05)
    gate.await_arrival()
    with pytest.raises(TimeoutError, match="not all results came within the timeout"):
        next(results)
    assert list(results) == []
    gate.open()
    executor.shutdown()
    assert len(log.read_text().split()) < 1000


def test_a_buffered_map_reads_an_endless_input_as_results_are_fetched(pool: forkful.Pool) -> None:
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    executor = pool.executor()
    results = executor.map(tasks.double, numbers(), buffersize=4)
    assert list(itertools.islice(results, 10)) == list(range(0, 20, 2))
    assert 10 <= len(read) <= 15
    executor.shutdown()  # does not wait for the end of numbers()
    with pytest.raises(RuntimeError, match="the rest of the input was not read"):
        list(results)


def test_map_keeps_no_result_that_was_read(pool: forkful.Pool) -> None:
    for text in pool.executor().map(executor_tasks.make_text, range(10)):
        reference = weakref.ref(text)
        del text
        assert reference() is None


def test_cancel_futures_reaches_maps(pool: forkful.Pool, gate: Gate, tmp_path: Path) -> None:
    executor = pool.executor()
    log = str(tmp_path / "log")
    results = executor.map(tasks.gated, [log] * 1000, range(1000), [gate.path, *[""] * 999])
    gate.await_arrival()
    executor.shutdown(wait=False, cancel_futures=True)
    gate.open()
    with pytest.raises(CancelledError):
        list(results)
    assert len(Path(log).read_text().split()) < 1000


# The end.


def test_shutting_a_view_down_leaves_the_pool(pool: forkful.Pool) -> None:
    with pool.executor() as executor:
        future = executor.submit(tasks.double, 1)
    assert future.result(0) == 2
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown") as caught:
        executor.submit(tasks.double, 1)
    assert isinstance(caught.value, errors.PoolClosed)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(tasks.double, [1])
    executor.shutdown()
    assert pool.apply(tasks.double, (2,)) == 4
    assert pool.executor().submit(tasks.double, 3).result(WATCHDOG) == 6


def test_a_pool_that_only_its_executor_holds_ends_with_it() -> None:
    """Nothing is left behind, and no warning is given (warnings are errors here)."""
    with forkful.Pool(2).executor() as executor:
        pids = {executor.submit(os.getpid).result(WATCHDOG) for _ in range(10)}
    assert wait_for_ends(pids) == []


def test_a_pool_that_was_closed_gives_its_executors_no_more_work(pool: forkful.Pool) -> None:
    executor = pool.executor()
    pool.close()
    with pytest.raises(RuntimeError, match="Pool not running") as caught:
        executor.submit(tasks.double, 1)
    assert isinstance(caught.value, errors.PoolClosed)
    with pytest.raises(RuntimeError, match="Pool not running"):
        executor.map(tasks.double, [1])
    with pytest.raises(errors.PoolClosed):
        pool.executor()
    executor.shutdown()


def test_shutdown_without_waiting_lets_everything_finish() -> None:
    executor = ProcessPoolExecutor(2)
    futures = [executor.submit(tasks.double, number) for number in range(100)]
    results = executor.map(tasks.double, range(100))
    pids = set(executor._processes)
    executor.shutdown(wait=False)
    assert [future.result(WATCHDOG) for future in futures] == list(results) == list(range(0, 200, 2))
    del executor, futures, results
    assert wait_for_ends(pids) == []


def test_an_executor_that_is_dropped_finishes_its_work(start_method: str) -> None:
    executor = ProcessPoolExecutor(1, start_method)
    future = executor.submit(tasks.double, 4)
    pid = executor.submit(os.getpid)
    del executor
    assert future.result(WATCHDOG) == 8
    assert wait_for_ends([pid.result(WATCHDOG)]) == []


def test_it_can_be_read_as_programs_for_the_standard_library_do(pool: forkful.Pool) -> None:
    executor = pool.executor()
    assert executor._max_workers == 1
    assert executor._processes == {}
    pid = executor.submit(os.getpid).result(WATCHDOG)
    assert list(executor._processes) == [pid]
    assert "<forkful.PoolExecutor open, 0 not done, over <forkful.Pool" in repr(executor)
    executor.shutdown()
    assert repr(executor) == "<forkful.PoolExecutor shutdown, 0 not done, over None>"


# asyncio.


def run_in_loop(main: Callable[[Any], Any]) -> Any:
    """The result of the coroutine function *main*, called with an executor."""
    with ProcessPoolExecutor(1) as executor:
        return asyncio.run(asyncio.wait_for(main(executor), WATCHDOG))


def test_run_in_executor() -> None:
    async def main(executor: ProcessPoolExecutor) -> list[Any]:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, tasks.double, number) for number in range(20)]
        died = loop.run_in_executor(executor, executor_tasks.die)
        return await asyncio.gather(*calls, died, return_exceptions=True)

    *values, error = run_in_loop(main)
    assert values == list(range(0, 40, 2))
    assert isinstance(error, errors.WorkerDied)


def test_cancelling_an_asyncio_future_takes_the_call_back(gate: Gate, tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def main(executor: ProcessPoolExecutor) -> str:
        loop = asyncio.get_running_loop()
        first = loop.run_in_executor(executor, executor_tasks.open_gate, gate.path)
        await asyncio.to_thread(gate.await_arrival)
        queued = [loop.run_in_executor(executor, tasks.noted, str(log), number) for number in range(2)]
        queued[0].cancel()
        await asyncio.sleep(0)  # the loop passes it on
        gate.open()
        assert await queued[1] == 2
        return str(await first)

    assert run_in_loop(main) == "!"
    assert log.read_text() == "1\n"


# dask.


def test_dask_takes_an_executor_as_its_pool(pool: forkful.Pool) -> None:
    dask = pytest.importorskip("dask")
    delayed = [dask.delayed(tasks.double)(number) for number in range(10)]
    total = dask.delayed(sum)(delayed)
    executor = pool.executor()
    assert total.compute(scheduler="processes", pool=executor) == 90
    with dask.config.set(pool=executor, scheduler="processes"):
        assert total.compute() == 90
        pids = dask.compute(*[dask.delayed(tasks.own_pid)(number) for number in range(4)])
    assert set(pids) == {member.pid for member in pool._pool}
    with pytest.raises(LookupError, match="lost in dask"):
        dask.delayed(executor_tasks.fail)("lost in dask").compute(scheduler="processes", pool=executor)
    with pytest.raises(errors.WorkerDied):
        dask.delayed(executor_tasks.die)(1).compute(scheduler="processes", pool=executor)
    assert total.compute(scheduler="processes", pool=executor) == 90


# Programs.

AT_EXIT = """
import sys
from forkful.futures import ProcessPoolExecutor
from tests.process.executor_tasks import open_gate
if __name__ == "__main__":
    executor = ProcessPoolExecutor(1)
    future = executor.submit(open_gate, {gate!r})
    future.add_done_callback(lambda future: print(future.result(), flush=True))
    {ending}
"""


@pytest.mark.parametrize("ending", ["pass", "executor.shutdown(wait=False)", "del executor, future", "sys.exit(0)"])
def test_a_program_finishes_its_futures_before_it_ends(ending: str, gate: Gate, tmp_path: Path) -> None:
    with Program(cwd=tmp_path, code=AT_EXIT.format(gate=gate.path, ending=ending)) as program:
        gate.await_arrival()
        gate.open()
        assert program.line() == "!"
        assert program.finish() == (0, "")
        assert program.stderr() == ""


INTERRUPTED = """
import os, sys, time
from concurrent.futures import wait
from forkful import Pool
from forkful.futures import ProcessPoolExecutor
from tests.process.tasks import wait_for_ever
def note_and_wait(number):
    os.write(1, b"running\\n")
    wait_for_ever()
if __name__ == "__main__":
    {make}
    futures = [executor.submit(note_and_wait, number) for number in range(10)]
    {waiting}
"""


@pytest.mark.parametrize(
    ("make", "waiting"),
    [
        ("executor = ProcessPoolExecutor(1)", "futures[0].result()"),
        ("executor = Pool(1).executor()", "wait(futures)"),
        ("executor = ProcessPoolExecutor(1)", "with executor: futures[0].result()"),
        ("pool = Pool(1); executor = pool.executor()", "with pool, executor: wait(futures)"),
        ("executor = ProcessPoolExecutor(1)", "with executor: pass"),
    ],
)
def test_ctrl_c_ends_a_program_that_waits_for_futures(make: str, waiting: str, tmp_path: Path) -> None:
    """It does not wait for work that never ends, and leaves no worker."""
    with Program(cwd=tmp_path, code=INTERRUPTED.format(make=make, waiting=waiting)) as program:
        assert program.line() == "running"
        program.interrupt()
        returncode, _ = program.finish()
        assert returncode == -signal.SIGINT
        assert "KeyboardInterrupt" in program.stderr()
        assert "note_and_wait" not in program.stderr()


def test_in_a_forked_child_futures_and_executors_say_whose_they_are(pool: forkful.Pool, gate: Gate) -> None:
    executor = pool.executor()
    future = executor.submit(executor_tasks.open_gate, gate.path)
    gate.await_arrival()
    pid = os.fork()
    if pid == 0:
        try:
            with contextlib.suppress(errors.PoolClosed):
                future.result()
                os._exit(1)
            with contextlib.suppress(errors.PoolClosed):
                executor.submit(tasks.double, 1)
                os._exit(2)
            executor.shutdown()
        except BaseException:
            os._exit(3)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    gate.open()
    assert future.result(WATCHDOG) == "!"
