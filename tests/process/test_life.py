"""Limits, cancelling, callbacks, threads, the end of a pool: with real workers."""

from __future__ import annotations

import functools
import gc
import itertools
import multiprocessing
import os
import pickle
import queue
import re
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from multiprocessing.pool import MaybeEncodingError, RemoteTraceback  # type: ignore[attr-defined]  # not in typeshed
from pathlib import Path
from typing import Any

import psutil
import pytest

import forkful
from forkful import errors

from . import tasks
from .support import WATCHDOG, Program, assert_works, executions, wait_for_ends

SOON = 0.3  # a timeout= that is to be met: nothing else depends on its length
FAR = 30.0  # a timeout= that is not to be met

# timeout=


@pytest.mark.parametrize("how", ["hang", "stop", "match"])
def test_timeout_ends_a_task(how: str, start_method: str, tmp_path: Path) -> None:
    """Whether it waits, was stopped, or holds the GIL in C: ``TaskTimeout``, and what waits behind it runs."""
    log = str(tmp_path / "log")
    with forkful.Pool(1, context=start_method) as pool:
        assert_works(pool)
        late = pool.apply_async(tasks.misbehave_in_some, ((log, 0, how),), timeout=SOON)
        others = [pool.apply_async(tasks.noted, (log, number)) for number in range(1, 20)]

        with pytest.raises(errors.TaskTimeout, match=r"misbehave_in_some ran longer than timeout=0\.3 s") as caught:
            late.get(WATCHDOG)

        assert isinstance(caught.value, multiprocessing.TimeoutError)
        assert caught.value.seconds == SOON
        assert [other.get(WATCHDOG) for other in others] == list(range(2, 40, 2))
        assert executions(tmp_path / "log") == dict.fromkeys(range(20), 1)
        assert_works(pool)


@pytest.mark.parametrize("call", ["map", "imap", "imap_unordered", "outcomes"])
def test_timeout_counts_for_each_element(call: str, tmp_path: Path) -> None:
    """Also within a chunk: two elements are late, all others are right, and each is executed once."""
    log = str(tmp_path / "log")
    late = {3, 14}
    elements = [(log, number, "hang" if number in late else "") for number in range(30)]
    with forkful.Pool(2, context="fork") as pool:
        if call == "map":
            with pytest.raises(errors.TaskTimeout, match=r"misbehave_in_some\[3\]"):
                pool.map(tasks.misbehave_in_some, elements, chunksize=10, timeout=SOON)
        elif call == "outcomes":
            outcomes = pool.outcomes(tasks.misbehave_in_some, elements, chunksize=10, timeout=SOON, ordered=True)
            ends = [outcome.value if outcome.ok else type(outcome.error) for outcome in outcomes]
            assert ends == [errors.TaskTimeout if number in late else 2 * number for number in range(30)]
        else:
            iterator = getattr(pool, call)(tasks.misbehave_in_some, elements, chunksize=10, timeout=SOON)
            ends = [end_of(functools.partial(iterator.next, WATCHDOG)) for _ in elements]
            assert ends.count(errors.TaskTimeout) == 2
            assert {end for end in ends if isinstance(end, int)} == {2 * n for n in range(30) if n not in late}
        assert executions(tmp_path / "log") == dict.fromkeys(range(30), 1)
        assert_works(pool)


@pytest.mark.parametrize("call", ["apply_async", "map", "imap"])
def test_clock_starts_with_the_task(call: str) -> None:
    """A task that waits in the queue, or in its chunk, for longer than its timeout is not late."""
    naps = [0.05] * 24
    with forkful.Pool(1, context="fork", timeout=1.0) as pool:
        if call == "apply_async":
            results = [pool.apply_async(tasks.nap, (seconds,)) for seconds in naps]
            assert [result.get(WATCHDOG) for result in results] == naps
        else:
            assert list(getattr(pool, call)(tasks.nap, naps, chunksize=20)) == naps


# retries=


@pytest.mark.parametrize("call", ["apply", "apply_async", "map", "starmap", "imap", "outcomes"])
@pytest.mark.parametrize("how", ["raise", "die", "leave", "hang"])
def test_retries_cover(how: str, call: str, tmp_path: Path) -> None:
    """Exceptions, crashes and timeouts: twice each, then it succeeds; nothing else is run again."""
    log = str(tmp_path / "log")
    elements = [(log, number, how, 2 if number == 4 else 0) for number in range(8)]
    expected = list(range(0, 16, 2))
    limits: dict[str, Any] = {"retries": 2, "timeout": SOON if how == "hang" else FAR}
    starred = functools.partial(_star, tasks.misbehave_at_first)
    with forkful.Pool(2, context="fork") as pool:
        if call == "apply":
            values: list[Any] = [pool.apply(tasks.misbehave_at_first, element, **limits) for element in elements]
        elif call == "apply_async":
            results = [pool.apply_async(tasks.misbehave_at_first, element, **limits) for element in elements]
            values = [result.get(WATCHDOG) for result in results]
        elif call == "starmap":
            values = pool.starmap(tasks.misbehave_at_first, elements, chunksize=4, **limits)
        elif call == "outcomes":
            outcomes = list(pool.outcomes(starred, elements, chunksize=4, ordered=True, **limits))
            values = [outcome.value for outcome in outcomes]
            assert [outcome.attempts for outcome in outcomes] == [1, 1, 1, 1, 3, 1, 1, 1]
        else:
            values = list(getattr(pool, call)(starred, elements, chunksize=4, **limits))
        assert values == expected
        assert executions(tmp_path / "log") == {number: 3 if number == 4 else 1 for number in range(8)}
        assert_works(pool)


@pytest.mark.parametrize(
    ("how", "error"),
    [("raise", LookupError), ("die", errors.WorkerDied), ("leave", errors.WorkerDied), ("hang", errors.TaskTimeout)],
)
def test_retries_are_counted(how: str, error: type[BaseException], start_method: str, tmp_path: Path) -> None:
    """A task that fails each time is run ``1 + retries`` times, and ends with its last error."""
    log = str(tmp_path / "log")
    with forkful.Pool(2, context=start_method, retries=3, timeout=SOON if how == "hang" else FAR) as pool:
        result = pool.apply_async(tasks.misbehave_at_first, (log, 1, how, 100))
        with pytest.raises(error):
            result.get(WATCHDOG)
        assert executions(tmp_path / "log") == {1: 4}
        assert_works(pool)


def _star(function: Callable[..., Any], element: tuple[Any, ...]) -> Any:
    return function(*element)


def end_of(get: Callable[[], Any]) -> Any:
    """A value, or the type of the error."""
    try:
        return get()
    except errors.TaskError as error:
        return type(error)


# cancel()


def gate_of(folder: Path) -> Path:
    """A pipe with a name."""
    path = folder / "gate"
    os.mkfifo(path)
    return path


def test_cancel(start_method: str, tmp_path: Path) -> None:
    """What is queued is taken back and never run; what runs goes on; what has ended is left alone."""
    log, gate = tmp_path / "log", gate_of(tmp_path)
    with forkful.Pool(1, context=start_method) as pool:
        finished = pool.apply_async(tasks.gated, (str(log), 0, ""))
        assert finished.get(WATCHDOG) == 0
        for number in range(1000, 1300):  # until many are sent at a time: what is at the worker can be taken back too
            pool.apply(tasks.gated, (str(log), number, ""))
        running = pool.apply_async(tasks.gated, (str(log), 1, str(gate)))
        queued = [pool.apply_async(tasks.gated, (str(log), number, "")) for number in range(2, 50)]
        with gate.open("wb", buffering=0) as file:  # it runs
            taken = [result.cancel() for result in queued[::2]]
            assert not running.cancel()
            assert not finished.cancel()
            file.write(b"!")

        assert taken == [True] * 24
        assert running.get(WATCHDOG) == 2
        for result in queued[::2]:
            with pytest.raises(errors.TaskCancelled, match=r"gated was cancelled by cancel\(\)"):
                result.get(WATCHDOG)
            assert not result.successful()
            assert not result.cancel()
        assert [result.get(WATCHDOG) for result in queued[1::2]] == list(range(6, 100, 4))
        counts = executions(log)
        assert {number for number in counts if number < 50} == {0, 1, *range(3, 50, 2)}
        assert set(counts.values()) == {1}
        assert_works(pool)


@pytest.mark.parametrize("how", ["hang", "stop", "match"])
def test_cancel_with_kill(how: str, start_method: str, tmp_path: Path) -> None:
    """A running task is ended with its worker; what waits behind it is run elsewhere, once."""
    log = tmp_path / "log"
    with forkful.Pool(1, context=start_method, retries=3) as pool:
        assert_works(pool)
        running = pool.apply_async(tasks.misbehave_in_some, ((str(log), 0, how),))
        others = [pool.apply_async(tasks.noted, (str(log), number)) for number in range(1, 20)]
        with pytest.raises(multiprocessing.TimeoutError):
            running.get(0.1)
        assert running.cancel(kill=True)

        with pytest.raises(errors.TaskCancelled):
            running.get(WATCHDOG)
        assert [other.get(WATCHDOG) for other in others] == list(range(2, 40, 2))
        assert set(executions(log).values()) == {1}
        assert_works(pool)


@pytest.mark.parametrize("chunksize", [1, 10])
def test_cancel_a_map(chunksize: int, start_method: str, tmp_path: Path) -> None:
    """Its elements that have not started never do; ``get()`` raises ``TaskCancelled``."""
    log = tmp_path / "log"
    elements = [(str(log), number, "hang" if number < 2 * chunksize else "") for number in range(200)]
    with forkful.Pool(2, context=start_method) as pool:
        result = pool.map_async(tasks.misbehave_in_some, elements, chunksize=chunksize)
        with pytest.raises(multiprocessing.TimeoutError):
            result.get(0.2)
        assert result.cancel(kill=True)

        with pytest.raises(errors.TaskCancelled):
            result.get(WATCHDOG)
        assert not result.cancel()
        assert_works(pool)
        counts = executions(log)
        assert set(counts) <= set(range(2 * chunksize))  # those that hang: nothing came after them
        assert set(counts.values()) <= {1}


# Callbacks


def test_callbacks_come_in_order(start_method: str) -> None:
    """One for each call, in the order in which one worker does them, before the result is ready."""
    seen: list[Any] = []
    ready: list[bool] = []
    results: list[Any] = []
    submitted = threading.Event()

    def note(value: object) -> None:
        submitted.wait(WATCHDOG)
        ready.append(results[len(seen)].ready())
        seen.append(value)

    with forkful.Pool(1, context=start_method) as pool:
        for number in range(50):
            how = "" if number % 5 else "raise"
            results.append(pool.apply_async(tasks.misbehave_in_some, ((os.devnull, number, how),), None, note, note))
        submitted.set()
        for result in results:
            result.wait(WATCHDOG)

        assert [value for value in seen if isinstance(value, int)] == [2 * n for n in range(50) if n % 5]
        assert [isinstance(value, LookupError) for value in seen] == [n % 5 == 0 for n in range(50)]
        assert ready == [False] * 50
        assert all(result.ready() for result in results)


def test_callback_of_a_map(start_method: str) -> None:
    """Once for the whole of it."""
    seen: list[Any] = []
    with forkful.Pool(2, context=start_method) as pool:
        assert pool.map_async(tasks.double, range(5), callback=seen.append).get(WATCHDOG) == [0, 2, 4, 6, 8]
        failed = pool.map_async(tasks.misbehave, ["", "raise", "raise"], error_callback=seen.append)
        failed.wait(WATCHDOG)
        assert not failed.successful()
        assert seen[0] == [0, 2, 4, 6, 8]
        assert isinstance(seen[1], LookupError)
        assert len(seen) == 2


@pytest.mark.parametrize("method", ["apply", "map", "imap", "apply_async", "get own", "stats"])
def test_callback_uses_the_pool(method: str, start_method: str) -> None:
    """Any method may be called, and waited for, inside a callback."""
    seen: list[Any] = []

    def call(value: Any) -> None:
        if method == "apply":
            seen.append(pool.apply(tasks.double, (value,)))
        elif method == "map":
            seen.append(pool.map(tasks.double, [value])[0])
        elif method == "imap":
            seen.append(next(pool.imap(tasks.double, iter([value]))))
        elif method == "apply_async":
            seen.append(pool.apply_async(tasks.double, (value,)).get(WATCHDOG))
        elif method == "get own":
            seen.append(2 * result.get(WATCHDOG))
        else:
            assert pool.stats()["tasks"] == 1
            seen.append(2 * value)

    go = threading.Event()

    def call_later(value: Any) -> None:
        go.wait(WATCHDOG)  # until there is a result to be got
        call(value)

    with forkful.Pool(1, context=start_method) as pool:
        result: Any = pool.apply_async(tasks.double, (1,), callback=call_later)
        go.set()
        assert result.get(WATCHDOG) == 2
        assert seen == [4]
        assert_works(pool)


@pytest.mark.parametrize("end", ["terminate", "close", "both"])
def test_callback_ends_the_pool(end: str, start_method: str) -> None:
    """``close()`` and ``join()``, or ``terminate()``, inside a callback: the pool ends, and its results with it."""
    pool = forkful.Pool(2, context=start_method)
    submitted, over = threading.Event(), threading.Event()

    def stop(_: object) -> None:
        submitted.wait(WATCHDOG)
        if end != "close":
            pool.terminate()
        if end != "terminate":
            pool.close()
            pool.join()
        over.set()

    first = pool.apply_async(tasks.double, (1,), callback=stop)
    if end == "close":
        pending: list[Any] = [pool.apply_async(tasks.double, (number,)) for number in range(100)]
    else:
        pending = [pool.apply_async(tasks.wait_for_ever) for _ in range(100)]
    submitted.set()
    assert over.wait(WATCHDOG)

    first.wait(WATCHDOG)
    assert first.get(WATCHDOG) == 2
    for number, result in enumerate(pending):
        if end == "close":
            assert result.get(WATCHDOG) == 2 * number
        else:
            with pytest.raises(errors.PoolTerminated):
                result.get(WATCHDOG)
    pool.terminate()
    pool.join()


def test_callback_raises_system_exit(start_method: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is reported by the logger, and the callbacks after it are called."""
    seen: list[int] = []

    def leave(_: object) -> None:
        sys.exit("from a callback")

    calls: list[Callable[[Any], object]] = [seen.append, leave]
    with forkful.Pool(1, context=start_method) as pool:
        results = [pool.apply_async(tasks.double, (n,), callback=calls[n % 2]) for n in range(6)]
        assert [result.get(WATCHDOG) for result in results] == [0, 2, 4, 6, 8, 10]
        assert seen == [0, 4, 8]
    assert sum("leave raised" in record.getMessage() for record in caplog.records) == 3


# Threads


def test_any_method_from_any_thread(start_method: str) -> None:
    """Eight threads that share a pool each get their own results."""
    wrong: list[Any] = []

    def work(seed: int) -> None:
        numbers = range(seed * 1000, seed * 1000 + 50)
        expected = [2 * number for number in numbers]
        for _ in range(4):
            ends = [
                [pool.apply(tasks.double, (number,)) for number in numbers],
                [r.get(WATCHDOG) for r in [pool.apply_async(tasks.double, (n,)) for n in numbers]],
                pool.map(tasks.double, numbers),
                list(pool.imap(tasks.double, iter(numbers))),
                sorted(pool.imap_unordered(tasks.double, numbers, chunksize=7)),
                [outcome.value for outcome in pool.outcomes(tasks.double, numbers, ordered=True)],
            ]
            wrong.extend(end for end in ends if end != expected)

    with forkful.Pool(2, context=start_method) as pool:
        threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WATCHDOG)
        assert not any(thread.is_alive() for thread in threads)
        assert wrong == []


def test_many_functions_from_many_threads() -> None:
    """More functions than are kept: those in use are not forgotten."""
    wrong: list[Any] = []

    def work(seed: int) -> None:
        for number in range(seed * 1000, seed * 1000 + 300):
            value = pool.apply(functools.partial(tasks.double, number))
            if value != 2 * number:
                wrong.append((number, value))

    with forkful.Pool(2, context="fork") as pool:
        threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WATCHDOG)
        assert not any(thread.is_alive() for thread in threads)
        assert wrong == []


class UsesThePool:
    """An argument whose pickling takes long, and during which the pool is used for many other functions."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def __reduce__(self) -> tuple[type, tuple[()]]:
        for number in range(600):
            self.pool.apply(functools.partial(tasks.double, number))
        return list, ()


@pytest.mark.parametrize("call", ["apply", "apply_async", "map", "imap"])
def test_function_is_kept_while_its_argument_is_pickled(call: str) -> None:
    """However many others are used between the naming of a function and the sending of its task."""
    with forkful.Pool(1, context="fork") as pool:
        argument = UsesThePool(pool)
        if call == "apply":
            assert pool.apply(tasks.accept, (argument,)) == "list"
        elif call == "apply_async":
            assert pool.apply_async(tasks.accept, (argument,)).get(WATCHDOG) == "list"
        else:
            assert list(getattr(pool, call)(tasks.accept, [argument])) == ["list"]
        assert_works(pool)


# Waiting


def test_wait_and_get_with_a_timeout(start_method: str) -> None:
    """They come back without the result; the task goes on."""
    with forkful.Pool(1, context=start_method) as pool:
        result = pool.apply_async(tasks.nap, (0.5,))
        with pytest.raises(multiprocessing.TimeoutError):
            result.get(0.01)
        with pytest.raises(multiprocessing.TimeoutError):
            result.get(0)
        result.wait(0.01)
        assert not result.ready()
        with pytest.raises(ValueError, match="not ready"):
            result.successful()
        assert result.get(WATCHDOG) == 0.5
        assert result.ready()
        assert result.successful()
        result.wait()
        assert result.get(0) == 0.5


def test_next_with_a_timeout(start_method: str) -> None:
    """``next(timeout)`` loses nothing."""
    with forkful.Pool(1, context=start_method) as pool:
        iterator = pool.imap(tasks.nap, [0.3, 0.0])
        with pytest.raises(multiprocessing.TimeoutError):
            iterator.next(0.01)
        with pytest.raises(multiprocessing.TimeoutError):
            iterator.next(timeout=0)
        assert iterator.next(WATCHDOG) == 0.3
        assert next(iterator) == 0.0
        with pytest.raises(StopIteration):
            iterator.next(WATCHDOG)
        with pytest.raises(StopIteration):
            next(iterator)


def test_waits_are_numbers() -> None:
    """Whatever else is given is refused there and then, whether the result is there or not; ``inf`` is no limit."""
    with forkful.Pool(3, context="fork") as pool:
        pending, hanging = pool.apply_async(tasks.wait_for_ever), pool.imap(tasks.wait_for_ever, [0])
        ended, iterator = pool.map_async(tasks.double, [3]), pool.imap(tasks.double, [1, 2])
        for over in (-1, -float("inf")):
            for get in (pending.get, hanging.next):
                with pytest.raises(multiprocessing.TimeoutError):
                    get(over)
        assert [iterator.next(timeout=float("inf")), iterator.next(1e300)] == [2, 4]
        ended.wait(float("inf"))
        assert ended.get(float("inf")) == [6]
        waits: list[Any] = [pending.get, pending.wait, ended.get, ended.wait, hanging.next]
        for wait in waits:
            with pytest.raises(TypeError, match="timeout must be a number of seconds, or None for no limit, not '1'"):
                wait("1")
            with pytest.raises(ValueError, match=r"timeout must be a number of seconds, .*not nan"):
                wait(float("nan"))
        assert_works(pool)


# The end of a pool


def test_close_and_join_with_work_pending(start_method: str) -> None:
    """All that was asked for is done."""
    pool = forkful.Pool(2, context=start_method)
    results = [pool.apply_async(tasks.spin, (number,)) for number in range(2000)]
    mapped = pool.map_async(tasks.spin, range(2000))
    pool.close()
    with pytest.raises(errors.PoolClosed):
        pool.apply(tasks.double, (1,))
    with pytest.raises(ValueError, match="Pool not running"):
        pool.map(tasks.double, [1])
    pool.join()

    assert all(result.ready() for result in results)
    assert [result.get() for result in results] == list(range(0, 4000, 2))
    assert mapped.get() == list(range(0, 4000, 2))
    pool.join()
    pool.close()
    pool.terminate()


@pytest.mark.parametrize("source", [list, iter])
@pytest.mark.parametrize("call", ["imap", "imap_unordered"])
def test_close_and_join_before_reading(call: str, source: Callable[[Any], Any]) -> None:
    """``close()`` and ``join()`` with a lazy map that nobody has read: they come back, and it can be read."""
    pool = forkful.Pool(2, context="fork")
    iterator = getattr(pool, call)(tasks.double, source(range(5000)))
    pool.close()
    joiner = threading.Thread(target=pool.join, daemon=True)
    joiner.start()
    joiner.join(WATCHDOG)
    hangs = joiner.is_alive()
    if hangs:
        pool.terminate()
        joiner.join()
    assert not hangs, "join() hangs"
    assert sorted(iterator) == list(range(0, 10_000, 2))


def test_join_needs_close(start_method: str) -> None:
    """As with ``multiprocessing``."""
    with forkful.Pool(1, context=start_method) as pool, pytest.raises(ValueError, match="still running"):
        pool.join()


def test_terminate_with_thousands_pending(start_method: str) -> None:
    """It returns, and each result ends with ``PoolTerminated``."""
    pool = forkful.Pool(2, context=start_method)
    results: list[Any] = [pool.apply_async(tasks.wait_for_ever) for _ in range(5000)]
    results.append(pool.map_async(tasks.wait_for_ever, range(100_000)))
    iterators = [pool.imap(tasks.wait_for_ever, itertools.count()), pool.imap_unordered(tasks.wait_for_ever, [1])]
    pool.terminate()

    for result in results:
        with pytest.raises(errors.PoolTerminated):
            result.get(WATCHDOG)
    for iterator in iterators:
        with pytest.raises(errors.PoolTerminated):
            iterator.next(WATCHDOG)
        with pytest.raises(StopIteration):
            iterator.next(WATCHDOG)
    with pytest.raises(errors.PoolClosed):
        pool.apply_async(tasks.double, (1,))
    pool.join()


def test_terminate_ends_stopped_workers(start_method: str) -> None:
    """Workers that cannot react to a polite signal are killed."""
    pool = forkful.Pool(2, context=start_method)
    pids = [worker.pid for worker in pool._pool if worker.pid is not None]
    results = [pool.apply_async(tasks.stop_itself) for _ in range(2)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    pool.terminate()
    pool.join()

    assert wait_for_ends(pids) == []
    for result in results:
        with pytest.raises(errors.PoolTerminated):
            result.get(WATCHDOG)


UNCLOSED = """
import forkful
from tests.process import tasks

if __name__ == "__main__":
    pool = forkful.Pool(2, context={method!r})
    print(pool.map(tasks.double, range(3)), flush=True)
    {rest}
"""


@pytest.mark.parametrize(
    "rest",
    [
        "pass",
        "kept = [pool.apply_async(tasks.wait_for_ever) for _ in range(100)]",
        "kept = pool.imap(tasks.double, iter(int, 1)); next(kept)",
        "del pool",
        "pool.self = pool; del pool",
    ],
)
@pytest.mark.parametrize("options", [["-W", "error::ResourceWarning"], ["-X", "dev"], []])
def test_unclosed_pool_at_exit(rest: str, options: list[str], tmp_path: Path) -> None:
    """A program that forgets its pool ends by itself, with a ``ResourceWarning`` for who wants to know."""
    with Program(*options, cwd=tmp_path, code=UNCLOSED.format(method="forkserver", rest=rest)) as running:
        returncode, output = running.finish()
        assert (returncode, output) == (0, "[0, 2, 4]\n"), running.stderr()
        assert ("ResourceWarning" in running.stderr()) == bool(options), running.stderr()


def test_closed_pool_at_exit(start_method: str, tmp_path: Path) -> None:
    """No warning, no word, whatever the mode."""
    code = UNCLOSED.format(method=start_method, rest="pool.close()\n    pool.join()")
    with Program("-X", "dev", "-W", "error", cwd=tmp_path, code=code) as running:
        assert running.finish() == (0, "[0, 2, 4]\n"), running.stderr()
        assert running.stderr() == ""


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("busy", [False, True])
def test_dropped_pool_is_collected(busy: bool, start_method: str) -> None:
    """It ends its workers."""
    pool: Any = forkful.Pool(2, context=start_method)
    assert_works(pool)
    pids = [worker.pid for worker in pool._pool]
    if busy:
        pool.map_async(tasks.wait_for_ever, range(3))
    reference = weakref.ref(pool)
    del pool
    gc.collect()

    if not busy:
        assert reference() is None
        assert wait_for_ends(pids) == []
    else:  # its pending results keep it alive, until those are ended
        assert reference() is None or _terminate(reference())
    assert wait_for_ends(pids) == []


def _terminate(pool: Any) -> bool:
    pool.terminate()
    return True


def test_pools_in_a_row(start_method: str) -> None:
    """Descriptors, threads and children do not add up."""
    count = 8 if start_method == "spawn" else 30
    before: tuple[int, int, int] | None = None
    for number in range(count):
        pool = forkful.Pool(2, context=start_method)
        assert pool.apply_async(tasks.double, (number,), callback=abs).get(WATCHDOG) == 2 * number
        assert next(pool.imap(tasks.double, itertools.count())) == 0
        if number % 2:
            pool.close()
        pool.terminate()
        pool.join()
        for thread in threading.enumerate():
            if thread.name.startswith("forkful"):
                thread.join(WATCHDOG)  # what reads the iterable ends by itself, and is not waited for by the pool
        held = psutil.Process().num_fds(), threading.active_count(), len(psutil.Process().children())
        assert before is None or number < 3 or held <= before
        before = held


def test_maxtasksperchild(start_method: str) -> None:
    """A worker leaves after so many tasks, and is replaced."""
    with forkful.Pool(1, maxtasksperchild=3, context=start_method) as pool:
        pids = [pool.apply(tasks.own_pid) for _ in range(9)]
        assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3]
        results = [pool.apply_async(tasks.own_pid) for _ in range(9)]
        pids = [result.get(WATCHDOG) for result in results]
        assert all(pids.count(pid) == 3 for pid in pids)


def test_maxtasksperchild_counts_chunks() -> None:
    """In a map it is chunks that are counted, as with ``multiprocessing``."""
    with forkful.Pool(2, maxtasksperchild=2, context="fork") as pool:
        pids = pool.map(tasks.own_pid, range(60), chunksize=5)
        assert len(pids) == 60
        assert all(pids.count(pid) <= 10 for pid in pids)


def test_initializer_kills_its_process(tmp_path: Path) -> None:
    """By a signal, as the kernel does when memory runs out: an ``InitializerError`` after a handful of processes."""
    log = tmp_path / "log"
    with forkful.Pool(2, tasks.kill_at_start, (str(log),), context="fork") as pool:
        with pytest.raises(errors.InitializerError, match="SIGKILL"):
            pool.apply_async(tasks.double, (1,)).get(WATCHDOG)
        assert len(executions(log)) <= 10


# What tasks are given and give


def test_stdin_is_empty(start_method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that reads its standard input finds the end, and takes nothing from the user."""
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b"the user's\n")
    saved = os.dup(0)
    try:
        os.dup2(read_fd, 0)
        with forkful.Pool(1, context=start_method) as pool:
            assert pool.apply_async(tasks.read_stdin).get(WATCHDOG) == ""
        assert os.read(0, 100) == b"the user's\n"
    finally:
        os.dup2(saved, 0)
        for fd in (saved, read_fd, write_fd):
            os.close(fd)


def test_large_results_and_arguments(start_method: str) -> None:
    """50 MB each way."""
    size = 50_000_000
    with forkful.Pool(1, context=start_method) as pool:
        assert pool.apply_async(tasks.blob, (size,)).get(WATCHDOG) == b"x" * size
        assert pool.apply_async(len, (b"y" * size,)).get(WATCHDOG) == size
        assert [len(part) for part in pool.imap(tasks.blob, [1, size, 2])] == [1, size, 2]
        assert [len(part) for part in pool.map(tasks.blob, [1, size, 2])] == [1, size, 2]


@pytest.mark.parametrize("chunksize", [None, 1, 1000])
def test_long_maps(chunksize: int | None, start_method: str) -> None:
    """A hundred thousand elements, in order."""
    with forkful.Pool(2, context=start_method) as pool:
        assert pool.map(tasks.double, range(100_000), chunksize=chunksize) == list(range(0, 200_000, 2))
        if chunksize:
            assert list(pool.imap(tasks.double, iter(range(20_000)), chunksize)) == list(range(0, 40_000, 2))


def test_exception_with_cause_and_notes(start_method: str) -> None:
    """It arrives as it was, its notes with it, and its remote traceback, causes included, as its cause."""
    with forkful.Pool(1, context=start_method) as pool:
        with pytest.raises(LookupError, match="the message") as caught:
            pool.apply(tasks.raise_with_cause, ("the message",))
        assert caught.value.args == ("the message",)
        assert caught.value.__notes__ == ["a note"]
        cause = caught.value.__cause__
        assert isinstance(cause, RemoteTraceback)
        for text in ("KeyError: 'the cause'", "direct cause", "LookupError: the message", "a note"):
            assert text in cause.tb


@pytest.mark.parametrize(
    ("task", "error"), [(tasks.raise_system_exit, SystemExit), (tasks.raise_keyboard_interrupt, KeyboardInterrupt)]
)
@pytest.mark.parametrize("call", ["apply", "map", "imap", "outcomes"])
def test_error_that_is_no_exception(call: str, task: Callable[[], None], error: type[BaseException]) -> None:
    """In every kind of call it is that element's error, and the other elements have their values."""
    with forkful.Pool(1, context="fork") as pool:
        worker = pool.apply(tasks.own_pid)
        function = functools.partial(_call_if, task)
        if call == "outcomes":
            outcomes = list(pool.outcomes(function, range(3), ordered=True))
            assert [outcome.ok for outcome in outcomes] == [True, False, True]
            assert isinstance(outcomes[1].error, error)
        elif call == "imap":
            iterator = pool.imap(function, range(3))
            assert next(iterator) == 0
            with pytest.raises(error):
                next(iterator)
            assert next(iterator) == 2
        else:
            with pytest.raises(error):
                pool.apply(task) if call == "apply" else pool.map(function, range(3))
        assert pool.apply(tasks.own_pid) == worker


def _call_if(task: Callable[[], None], number: int) -> int:
    if number == 1:
        task()
    return number


@pytest.mark.parametrize("call", ["map", "map_async", "starmap", "starmap_async", "imap", "imap_unordered", "outcomes"])
def test_sizes_are_checked_at_the_call(call: str) -> None:
    """Half an element, or a text, is the caller's error there and then; more than there can be is as good as all."""
    with forkful.Pool(1, context="fork") as pool:
        method = getattr(pool, call)
        names = ["chunksize", "buffersize"] if call in {"imap", "imap_unordered", "outcomes"} else ["chunksize"]
        for name in names:
            for wrong in (2.5, 2.0, "3"):
                with pytest.raises(TypeError, match=f"{name} must be a whole number from 1 up, not {wrong!r}"):
                    method(tasks.accept, [(1,)], **{name: wrong})
            with pytest.raises(ValueError, match=rf"({name} must be 1 or more|Chunksize must be 1\+), not 0"):
                method(tasks.accept, [(1,)], **{name: 0})
        ended = method(tasks.accept, [(1,), (2,)], **dict.fromkeys(names, 2**70))
        assert len(ended.get(WATCHDOG) if call.endswith("_async") else list(ended)) == 2
        assert_works(pool)


@pytest.mark.parametrize("call", ["apply", "apply_async", "map", "map_async", "imap", "outcomes"])
def test_unpicklable_argument(call: str, start_method: str) -> None:
    """That task's error, at once; the others are done."""
    lock = threading.Lock()
    with forkful.Pool(1, context=start_method) as pool:
        if call == "apply":
            with pytest.raises(errors.UnpicklableError, match="accept") as caught:
                pool.apply(tasks.accept, (lock,))
            assert isinstance(caught.value, TypeError)
        elif call == "apply_async":
            with pytest.raises(errors.UnpicklableError, match="accept"):
                pool.apply_async(tasks.accept, (lock,)).get(WATCHDOG)
        elif call == "map":
            with pytest.raises(errors.UnpicklableError, match=r"accept\[1\]"):
                pool.map(tasks.accept, [1, lock, 2])
        elif call == "map_async":
            with pytest.raises(errors.UnpicklableError, match=r"accept\[1\]"):
                pool.map_async(tasks.accept, [1, lock, 2], chunksize=3).get(WATCHDOG)
        elif call == "imap":
            iterator = pool.imap(tasks.accept, [1, lock, ""])
            assert iterator.next(WATCHDOG) == "int"
            with pytest.raises(errors.UnpicklableError, match=r"accept\[1\]"):
                iterator.next(WATCHDOG)
            assert iterator.next(WATCHDOG) == "str"
        else:
            outcomes = list(pool.outcomes(tasks.accept, [1, lock, ""], ordered=True))
            assert [(outcome.value, outcome.attempts) for outcome in outcomes] == [("int", 1), (None, 0), ("str", 1)]
        assert_works(pool)


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("call", ["apply", "apply_async", "map", "map_async", "imap", "outcomes"])
def test_argument_raises_what_is_no_exception(call: str, error: BaseException) -> None:
    """As it is pickled: that is the error of its element; the others have their values, and the pool works on."""
    raising = tasks.Raising(error)
    items = [*[1] * 50, raising, 2]
    with forkful.Pool(2, context="fork") as pool:
        worker = _other_thread(pool.apply, tasks.own_pid)
        if call == "apply":
            with pytest.raises(type(error)):
                pool.apply(tasks.accept, (raising,))
        elif call == "apply_async":
            with pytest.raises(type(error)):
                pool.apply_async(tasks.accept, (raising,)).get(WATCHDOG)
        elif call == "map":
            with pytest.raises(type(error)):
                pool.map(tasks.accept, items)
        elif call == "map_async":  # in the thread of the pool, while nobody waits
            ended: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
            pool.map_async(tasks.accept, items, error_callback=ended.put)
            assert ended.get(timeout=WATCHDOG) is error
        elif call == "imap":
            iterator = pool.imap(tasks.accept, items)
            ends = [_other_thread(iterator.next, WATCHDOG) for _ in items]
            assert ends == [*["int"] * 50, error, "int"]
        else:
            outcomes = _other_thread(list, pool.outcomes(tasks.accept, items, ordered=True))
            assert [outcome.value or outcome.error for outcome in outcomes] == [*["int"] * 50, error, "int"]
        assert_works(pool)
        assert worker in {member.pid for member in pool._pool}


def _other_thread(function: Callable[..., Any], *args: Any) -> Any:
    """The value of a call in another thread than this, or what it raises."""
    values: list[Any] = []

    def run() -> None:
        try:
            values.append(function(*args))
        except BaseException as error:
            values.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return values.pop()


@pytest.mark.parametrize("buffersize", [None, 1])  # with 1, it is pickled as the reader takes what was before it
def test_interrupt_while_an_argument_is_pickled(buffersize: int | None) -> None:
    """``KeyboardInterrupt`` in the main thread may be Ctrl-C, and is raised there; the map has its error and goes on."""
    items = [*[1] * 50, tasks.Raising(KeyboardInterrupt()), *[2] * 50]
    with forkful.Pool(2, context="fork") as pool:
        pool.apply(tasks.own_pid)
        outcomes: list[forkful.Outcome] = []
        iterator = pool.outcomes(tasks.accept, items, ordered=True, buffersize=buffersize)
        interrupts = 0
        while len(outcomes) < len(items):
            try:
                outcomes.append(next(iterator))
            except KeyboardInterrupt:
                interrupts += 1
        assert interrupts <= 1  # none if the pool's own thread had the wheel at that moment
        assert [outcome.index for outcome in outcomes if not outcome.ok] == [50]
        assert isinstance(outcomes[50].error, KeyboardInterrupt)
        assert_works(pool)


@pytest.mark.parametrize("call", ["map", "map_async", "imap", "outcomes", "apply", "apply_async"])
def test_interrupt_at_once(call: str) -> None:
    """The call itself is interrupted: what it had begun is given up."""
    raising = tasks.Raising(KeyboardInterrupt())
    pool = forkful.Pool(2, context="fork")
    with pytest.raises(KeyboardInterrupt):
        if call.startswith("apply"):
            getattr(pool, call)(tasks.accept, (raising,))
        elif call.startswith("map"):
            getattr(pool, call)(tasks.accept, [raising] * 3)
        else:
            getattr(pool, call)(tasks.accept, [raising, *[1] * 10_000])
    assert_works(pool)
    pool.close()
    pool.join()
    assert not pool._master.pending


@pytest.mark.parametrize("argument", [tasks.Obstinate(), [tasks.Obstinate()]])
def test_argument_that_cannot_be_rebuilt(argument: object, start_method: str) -> None:
    """It fails in the worker: that task's error."""
    with forkful.Pool(1, context=start_method) as pool:
        with pytest.raises(ZeroDivisionError, match="not to be rebuilt"):
            pool.apply(tasks.accept, (argument,))
        with pytest.raises(ZeroDivisionError, match="not to be rebuilt"):
            pool.map(tasks.accept, [argument])
        assert_works(pool)


def test_unpicklable_result(start_method: str) -> None:
    """``MaybeEncodingError``, with its two texts, and the worker stays."""
    with forkful.Pool(1, context=start_method) as pool:
        worker = pool.apply(tasks.own_pid)
        with pytest.raises(errors.UnpicklableError, match=r"return_lock|lock") as caught:
            pool.apply(tasks.return_lock)
        assert isinstance(caught.value, MaybeEncodingError)
        assert "cannot pickle" in caught.value.exc
        assert "lock" in caught.value.value
        assert pickle.loads(pickle.dumps(caught.value)).exc == caught.value.exc
        with pytest.raises(errors.UnpicklableError):
            pool.apply(tasks.return_obstinate)
        assert pool.apply(tasks.own_pid) == worker
        assert_works(pool)


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), KeyboardInterrupt()], ids=repr)
def test_result_raises_what_is_no_exception(error: BaseException) -> None:
    """As it is pickled: its element's error, and no worker dies of it."""
    with forkful.Pool(1, context="fork") as pool:
        assert pool.map(tasks.return_raising, [None] * 1000) == [None] * 1000
        worker = pool.apply(tasks.own_pid)
        with pytest.raises(errors.UnpicklableError, match=type(error).__name__) as caught:
            pool.map(tasks.return_raising, [*[None] * 1000, error, *[None] * 1000], chunksize=2001)
        assert "Raising" in caught.value.value
        assert pool.apply(tasks.own_pid) == worker
        assert_works(pool)


def test_result_of_a_block_that_cannot_be_rebuilt() -> None:
    """Results of a block travel together: no single element is blamed that may be innocent, but one is among those named."""
    numbers = list(range(20_000))
    numbers[15_000] = -1
    with forkful.Pool(1, context="fork") as pool:
        pool.map(tasks.be_obstinate, range(20_000))
        with pytest.raises(errors.UnpicklableError, match="ZeroDivisionError: this is not to be rebuilt") as caught:
            pool.map(tasks.be_obstinate, numbers, chunksize=20_000)
        places = [int(number) for number in re.findall(r"be_obstinate\[(\d+)\]", str(caught.value))]
        assert places[0] <= 15_000 <= places[-1]
        assert_works(pool)


def test_unpicklable_function(start_method: str) -> None:
    """Every method says so, and the pool goes on."""
    function: Any = threading.Lock().acquire
    with forkful.Pool(1, context=start_method) as pool:
        with pytest.raises(TypeError, match=r"cannot be pickled|cannot pickle"):
            pool.apply(function)
        with pytest.raises(TypeError, match=r"cannot be pickled|cannot pickle"):
            pool.map_async(function, [1]).get(WATCHDOG)
        with pytest.raises(TypeError, match=r"cannot be pickled|cannot pickle"):
            list(pool.imap(function, [1]))
        assert_works(pool)


def test_recursion(start_method: str) -> None:
    """Deeper than Python or pickle goes: in a task, in its argument, in its result."""
    with forkful.Pool(1, context=start_method) as pool:
        worker = pool.apply(tasks.own_pid)
        with pytest.raises(RecursionError):
            pool.apply(tasks.recurse_without_end)
        with pytest.raises(errors.UnpicklableError, match="RecursionError"):
            pool.apply(tasks.accept, (tasks.nest(100_000),))
        with pytest.raises(errors.UnpicklableError, match="RecursionError"):
            pool.apply(tasks.nest, (100_000,))
        assert pool.apply(tasks.own_pid) == worker
        assert_works(pool)


# Lazy maps and what they read


def feeders() -> list[threading.Thread]:
    """Threads that read the input of a lazy map."""
    return [thread for thread in threading.enumerate() if thread.name == "forkful-feed"]


@pytest.mark.parametrize("call", ["imap", "imap_unordered", "outcomes"])
def test_iterator_is_dropped(call: str, start_method: str) -> None:
    """Half way through an input without end: it is read no further, and no thread is left."""
    with forkful.Pool(2, context=start_method) as pool:
        iterator = getattr(pool, call)(tasks.double, itertools.count())
        for _ in range(100):
            next(iterator)
        threads = feeders()
        assert len(threads) == 1
        del iterator
        gc.collect()
        threads[0].join(WATCHDOG)
        assert not threads[0].is_alive()
        assert_works(pool)
        pool.close()
        pool.join()


def test_generator_blocks(start_method: str) -> None:
    """What it has given is done meanwhile; nobody else is held up; ``next(timeout)`` comes back."""
    go = threading.Event()

    def numbers() -> Iterator[int]:
        yield 1
        go.wait(WATCHDOG)
        yield 2

    with forkful.Pool(1, context=start_method) as pool:
        iterator = pool.imap(tasks.double, numbers())
        assert iterator.next(WATCHDOG) == 2
        with pytest.raises(multiprocessing.TimeoutError):
            iterator.next(0.01)
        assert_works(pool)
        go.set()
        assert list(iterator) == [4]


def test_pool_ends_while_a_generator_blocks(start_method: str) -> None:
    """``terminate()`` does not wait for it."""
    go = threading.Event()

    def numbers() -> Iterator[int]:
        yield 1
        go.wait(WATCHDOG)

    pool = forkful.Pool(1, context=start_method)
    iterator = pool.imap(tasks.double, numbers())
    assert next(iterator) == 2
    pool.terminate()
    pool.join()
    with pytest.raises(errors.PoolTerminated):
        iterator.next(WATCHDOG)
    go.set()


@pytest.mark.parametrize("call", ["imap", "imap_unordered", "outcomes", "map"])
def test_generator_raises(call: str, start_method: str) -> None:
    """Its error comes, unwrapped, after the results of what it gave before."""

    def numbers() -> Iterator[int]:
        yield from range(5)
        raise LookupError("no more")

    with forkful.Pool(2, context=start_method) as pool:
        values: list[Any] = []
        with pytest.raises(LookupError, match="no more") as caught:
            for value in getattr(pool, call)(tasks.double, numbers()):
                values.append(value.value if call == "outcomes" else value)
        assert caught.value.__cause__ is None
        assert sorted(values) == ([] if call == "map" else [0, 2, 4, 6, 8])
        assert_works(pool)


def test_generator_uses_the_pool(start_method: str) -> None:
    """An input that is made by the same pool."""
    with forkful.Pool(1, context=start_method) as pool:
        inner = (pool.apply(tasks.double, (number,)) for number in range(20))
        assert list(pool.imap(tasks.double, inner)) == list(range(0, 80, 4))
        chained = pool.imap(tasks.double, pool.imap(tasks.double, iter(range(100))))
        assert list(chained) == list(range(0, 400, 4))


def test_iterators_side_by_side(start_method: str) -> None:
    """Several lazy maps, read in turn, and one of them hardly at all."""
    with forkful.Pool(2, context=start_method) as pool:
        slow = pool.imap(tasks.double, itertools.count())
        quick = [pool.imap(tasks.double, itertools.count()) for _ in range(3)]
        assert next(slow) == 0
        for number in range(300):
            assert [next(iterator) for iterator in quick] == [2 * number] * 3
        assert next(slow) == 2


def test_iterator_shared_by_threads() -> None:
    """Each result goes to one of them."""
    got: list[int] = []
    with forkful.Pool(2, context="fork") as pool:
        iterator = pool.imap_unordered(tasks.double, range(2000))

        def read() -> None:
            got.extend(iterator)

        threads = [threading.Thread(target=read, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WATCHDOG)
        assert not any(thread.is_alive() for thread in threads)
    assert sorted(got) == list(range(0, 4000, 2))


# Pools and processes


def test_nested_pools(start_method: str) -> None:
    """A task may use a pool of its own."""
    with forkful.Pool(2, context=start_method) as pool:
        assert pool.map(tasks.map_in_nested_pool, [[1, 2], [3]]) == [[2, 4], [6]]
        assert pool.apply(tasks.map_in_nested_pool, ([5],)) == [10]


FORKING = """
import os, sys
import forkful
from forkful import errors
from tests.process import tasks

if __name__ == "__main__":
    pool = forkful.Pool(2, context={method!r})
    assert pool.map(tasks.double, range(3)) == [0, 2, 4]
    pending = pool.apply_async(tasks.nap, (0.3,))
    iterator = pool.imap(tasks.double, iter(range(50)))
    next(iterator)
    master = pool._master
    with master._lock, master._feeding, master._sources_lock, master.wheel._gate:  # as another thread might just then
        pid = os.fork()
    if pid == 0:
        {child}
        sys.exit(3)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 3, status
    assert pending.get(30) == 0.3
    assert list(iterator) == list(range(2, 100, 2))
    assert pool.map(tasks.double, range(3)) == [0, 2, 4]
    pool.close()
    pool.join()
    print("whole")
"""

IN_CHILD = {
    "nothing": "pass",
    "exits at once": "os._exit(3)",
    "collects": "import gc; del pool, pending, iterator; gc.collect()",
    "uses it": """
        for use in (lambda: pool.apply(tasks.double, (1,)), lambda: pool.map(tasks.double, [1]),
                    lambda: pool.apply_async(tasks.double, (1,)), lambda: next(pool.imap(tasks.double, [1]))):
            try:
                use()
            except errors.PoolClosed as error:
                assert "belongs to the process that made it" in str(error)
            else:
                os._exit(4)""",
    "terminates it": "pool.terminate(); pool.join()",
    "closes it": "pool.close(); pool.join()",
    "with": """
        with forkful.Pool(2, context="fork") as another:
            assert another.map(tasks.double, range(3)) == [0, 2, 4]""",
    "looks at it": """
        assert "state=RUN" in repr(pool)
        assert pool.stats()["tasks"] >= 4
        assert all(member.pid for member in pool._pool)
        assert not pending.cancel(kill=True)""",
    "waits": """
        for wait in (lambda: pending.get(), lambda: next(iterator)):
            try:
                wait()
            except errors.ForkfulError:
                pass
            else:
                os._exit(5)""",
}


@pytest.mark.parametrize("child", IN_CHILD)
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_program_forks(child: str, method: str, tmp_path: Path) -> None:
    """The child cannot use its parent's pool, does not hang on it, and does not disturb it."""
    code = FORKING.format(method=method, child=IN_CHILD[child].strip())
    # From 3.12 on Python warns of the program's own fork: there are threads.
    with Program("-W", "ignore::DeprecationWarning", cwd=tmp_path, code=code) as running:
        assert running.finish() == (0, "whole\n"), running.stderr()
        assert running.stderr() == ""


def test_result_keeps_no_argument(start_method: str) -> None:
    """Neither the pool nor a result holds what a task was given once it is done."""

    class Argument:
        def __reduce__(self) -> tuple[type, tuple[()]]:
            return list, ()

    argument = Argument()
    reference = weakref.ref(argument)
    with forkful.Pool(1, context=start_method) as pool:
        results: list[Any] = [pool.apply_async(tasks.accept, (argument,)), pool.map_async(tasks.accept, [argument])]
        assert [result.get(WATCHDOG) for result in results] == ["list", ["list"]]
        del argument
        gc.collect()
        assert reference() is None


def raising() -> Iterator[int]:
    """An iterator that fails half-way."""
    yield 1
    raise LookupError("no second")


def test_arguments_that_are_none() -> None:
    """What cannot be unpacked is the call's own error, which says how to write it; the pool goes on."""
    with forkful.Pool(1) as pool:
        with pytest.raises(TypeError, match=r"args of len must be a sequence of arguments, such as \(5,\), not 5"):
            pool.apply(len, 5)  # type: ignore[arg-type]  # the mistake
        with pytest.raises(TypeError, match=r"kwds of len must be a dict of keyword arguments, not 7"):
            pool.apply_async(len, ((1, 2),), 7).get()  # type: ignore[arg-type]  # likewise
        with pytest.raises(LookupError, match="no second"):
            pool.apply(len, raising())
        assert pool.apply(len, ((1, 2),)) == 2
        assert not pool._master.pending


def test_timeouts_of_years() -> None:
    """Longer than the system can wait at once."""
    with forkful.Pool(1, timeout=10**8) as pool:
        assert pool.apply_async(tasks.double, (3,)).get(10**8) == 6
        result = pool.apply_async(tasks.nap, (0.01,))
        result.wait(10**8)
        assert result.ready()


def test_callback_that_cannot_be_called() -> None:
    """An error at the call that names it."""
    with forkful.Pool(1) as pool:
        wrong: Any = 3
        for names in ({"callback": wrong}, {"error_callback": wrong}):
            with pytest.raises(TypeError, match="a callback must be a callable, not 3"):
                pool.apply_async(abs, (1,), **names)
            with pytest.raises(TypeError, match="a callback must be a callable, not 3"):
                pool.map_async(abs, [1], **names)
        assert pool.apply(abs, (-1,)) == 1
