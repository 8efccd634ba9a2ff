"""What hangs ``multiprocessing.Pool``: here each case ends with the error named for it, and the pool goes on working."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import forkful
from forkful import errors

from . import tasks

WATCHDOG = 30.0  # seconds that a broken pool is waited for; a whole one takes a fraction of one


def assert_works(pool: Any) -> None:
    """The pool serves every kind of call."""
    assert pool.apply_async(tasks.double, (21,)).get(WATCHDOG) == 42
    assert pool.map_async(tasks.double, range(20)).get(WATCHDOG) == list(range(0, 40, 2))
    assert pool.imap(tasks.double, [4]).next(WATCHDOG) == 8


# 1. A task ends its process.


def test_task_leaves_its_process(start_method: str, tmp_path: Path) -> None:
    """``os._exit`` in a task is that task's ``WorkerDied``, which names the task, the process and the exit code."""
    pid_file = tmp_path / "pid"
    with forkful.Pool(2, context=start_method) as pool:
        result = pool.apply_async(tasks.leave_at_once, (str(pid_file), 1))

        with pytest.raises(errors.WorkerDied) as caught:
            result.get(WATCHDOG)

        error = caught.value
        assert error.exitcode == 1
        assert error.pid == int(pid_file.read_text(encoding="ascii"))
        assert "leave_at_once" in error.task
        for fact in ("leave_at_once", str(error.pid), "exit code 1"):
            assert fact in str(error)
        assert_works(pool)


def test_task_is_killed(start_method: str) -> None:
    """A worker that dies of a signal fails its task only: the others of the same map come to their results."""
    with forkful.Pool(2, context=start_method) as pool:
        others = [pool.apply_async(tasks.double, (number,)) for number in range(10)]
        result = pool.apply_async(tasks.kill_own_process)
        others += [pool.apply_async(tasks.double, (number,)) for number in range(10, 20)]

        with pytest.raises(errors.WorkerDied, match="SIGKILL") as caught:
            result.get(WATCHDOG)

        assert caught.value.exitcode == -signal.SIGKILL
        assert [other.get(WATCHDOG) for other in others] == list(range(0, 40, 2))
        assert_works(pool)


# 2. A task raises what is not an Exception.


@pytest.mark.parametrize(
    ("task", "expected"),
    [(tasks.raise_system_exit, SystemExit), (tasks.raise_keyboard_interrupt, KeyboardInterrupt)],
)
def test_task_raises_what_ends_a_program(
    task: Callable[[], None], expected: type[BaseException], start_method: str
) -> None:
    """``SystemExit`` or ``KeyboardInterrupt`` in a task is that task's error, and its worker stays."""
    with forkful.Pool(1, context=start_method) as pool:
        worker = pool.apply(tasks.own_pid)

        with pytest.raises(expected) as caught:
            pool.apply_async(task).get(WATCHDOG)

        assert caught.value.args == ((3,) if expected is SystemExit else ())
        assert pool.apply(tasks.own_pid) == worker
        assert_works(pool)


# 3. An idle worker is killed.


def test_idle_worker_is_killed(start_method: str) -> None:
    """Work that is submitted right after the only worker was killed is done."""
    with forkful.Pool(1, context=start_method) as pool:
        assert_works(pool)
        victim = pool._pool[0].pid
        assert victim is not None
        os.kill(victim, signal.SIGKILL)

        results = [pool.apply_async(tasks.double, (number,)) for number in range(20)]

        assert [result.get(WATCHDOG) for result in results] == list(range(0, 40, 2))
        assert pool.apply(tasks.own_pid) != victim
        assert_works(pool)


def test_every_idle_worker_is_killed(start_method: str) -> None:
    """The same for all workers at once, and for a map."""
    with forkful.Pool(3, context=start_method) as pool:
        assert_works(pool)
        for worker in pool._pool:
            if worker.pid is not None:
                os.kill(worker.pid, signal.SIGKILL)

        assert pool.map_async(tasks.double, range(100)).get(WATCHDOG) == list(range(0, 200, 2))
        assert_works(pool)


# 4. An exception that cannot travel.


@pytest.mark.parametrize("task", [tasks.raise_picky_error, tasks.raise_locked_error])
def test_exception_cannot_be_rebuilt(task: Callable[[], None], start_method: str) -> None:
    """It arrives as a ``RemoteError`` with its type's name, its message and its traceback."""
    type_name = {"raise_picky_error": "PickyError", "raise_locked_error": "LockedError"}[task.__name__]
    with forkful.Pool(1, context=start_method) as pool:
        worker = pool.apply(tasks.own_pid)

        with pytest.raises(errors.RemoteError) as caught:
            pool.apply_async(task).get(WATCHDOG)

        error = caught.value
        assert error.type_name == f"{tasks.__name__}.{type_name}"
        assert error.message == "salt and pepper"
        assert f"raise {type_name}(" in error.traceback
        assert f"in {task.__name__}" in error.traceback
        for fact in (type_name, "salt and pepper"):
            assert fact in str(error)
        assert f"raise {type_name}(" in str(error.__cause__)
        assert pool.apply(tasks.own_pid) == worker
        assert_works(pool)


# 5. A callback raises.


def explode(_: object) -> None:
    """A callback with a fault."""
    raise ZeroDivisionError("a fault in a callback")


def test_callback_raises(start_method: str, caplog: pytest.LogCaptureFixture) -> None:
    """The fault is logged, and neither the result of this call nor any other's is lost or held up."""
    with forkful.Pool(2, context=start_method) as pool:
        result = pool.apply_async(tasks.double, (1,), callback=explode)
        results = pool.map_async(tasks.double, [1, 2], callback=explode)
        failed = pool.apply_async(tasks.raise_system_exit, error_callback=explode)

        assert result.get(WATCHDOG) == 2
        assert results.get(WATCHDOG) == [2, 4]
        with pytest.raises(SystemExit):
            failed.get(WATCHDOG)
        assert_works(pool)

    faults = [record for record in caplog.records if record.exc_info and record.exc_info[0] is ZeroDivisionError]
    assert len(faults) == 3
    assert all("explode" in record.getMessage() for record in faults)


def test_callback_uses_the_pool(start_method: str) -> None:
    """A callback may wait for another call of the pool, and may end the pool."""
    heard: list[int] = []
    with forkful.Pool(2, context=start_method) as pool:

        def double_again(number: int) -> None:
            heard.append(pool.apply(tasks.double, (number,)))

        assert pool.apply_async(tasks.double, (1,), callback=double_again).get(WATCHDOG) == 2
        assert heard == [4]
        assert_works(pool)

        never = pool.apply_async(tasks.wait_for_ever)
        last = pool.apply_async(tasks.double, (2,), callback=lambda _: pool.terminate())
        last.wait(WATCHDOG)
        assert last.ready()
        with pytest.raises(errors.PoolTerminated):
            never.get(WATCHDOG)


# 6. get() after terminate().


def test_get_after_terminate(start_method: str) -> None:
    """Every call that had not ended is ``PoolTerminated``, running or waiting, and whatever asks for it."""
    pool = forkful.Pool(1, context=start_method)
    done = pool.apply_async(tasks.double, (1,))
    assert done.get(WATCHDOG) == 2
    running = pool.apply_async(tasks.wait_for_ever)
    waiting = pool.apply_async(tasks.double, (1,))
    mapped = pool.map_async(tasks.double, [1, 2])
    iterated = pool.imap(tasks.double, [1, 2])
    unordered = pool.imap_unordered(tasks.double, [1, 2])
    pool.terminate()
    pool.join()

    for pending in (running, waiting, mapped):
        with pytest.raises(errors.PoolTerminated):
            pending.get(WATCHDOG)
        assert pending.ready()
        assert not pending.successful()
    for iterator in (iterated, unordered):
        with pytest.raises(errors.PoolTerminated):
            iterator.next(WATCHDOG)
    assert done.get(WATCHDOG) == 2


def test_terminate_wakes_who_waits(start_method: str) -> None:
    """A thread that is inside ``get()`` when another one calls ``terminate()`` comes back."""
    pool = forkful.Pool(1, context=start_method)
    running = pool.apply_async(tasks.wait_for_ever)
    caught: list[BaseException] = []
    about_to_wait = threading.Event()

    def wait() -> None:
        about_to_wait.set()
        try:
            running.get()
        except errors.PoolTerminated as error:
            caught.append(error)

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    assert about_to_wait.wait(WATCHDOG)
    pool.terminate()
    pool.join()
    waiter.join(WATCHDOG)

    assert not waiter.is_alive()
    assert len(caught) == 1


# 7. An input without end.


@pytest.mark.parametrize("buffersize", [None, 10])
@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_imap_reads_no_more_than_it_needs(method: str, buffersize: int | None, start_method: str) -> None:
    """The first result of an infinite input arrives, and no more of the input is read than ``Pool.imap`` documents."""
    read = 0

    def numbers() -> Iterator[int]:
        nonlocal read
        while True:
            yield read
            read += 1

    with forkful.Pool(2, context=start_method) as pool:
        iterator = getattr(pool, method)(tasks.double, numbers(), buffersize=buffersize)
        assert next(iterator) >= 0
        assert_works(pool)
        for _ in range(200):  # time for whoever would read on behind our back
            pool.apply(tasks.double, (1,))

        assert 1 <= read <= 1 + (buffersize or 2048)
        assert len({next(iterator) for _ in range(100)}) == 100


# 8. An initializer fails.


@pytest.mark.parametrize("initializer", [tasks.refuse_to_start, tasks.die_at_start])
def test_initializer_fails(initializer: Callable[[str], None], start_method: str, tmp_path: Path) -> None:
    """Every waiter gets an ``InitializerError``, a handful of processes is started in all, and later calls are answered."""
    log = tmp_path / "attempts"
    with forkful.Pool(2, initializer, (str(log),), context=start_method) as pool:
        results: list[Any] = [pool.apply_async(tasks.double, (number,)) for number in range(20)]
        results.append(pool.map_async(tasks.double, range(20)))
        iterator = pool.imap(tasks.double, range(20))

        for result in results:
            with pytest.raises(errors.InitializerError):
                result.get(WATCHDOG)
        with pytest.raises(errors.InitializerError):
            iterator.next(WATCHDOG)
        with pytest.raises(errors.InitializerError) as caught:
            pool.apply_async(tasks.double, (1,)).get(WATCHDOG)

        if initializer is tasks.refuse_to_start:
            assert "no database" in str(caught.value)
            assert isinstance(caught.value.__cause__, LookupError)
        assert (
            len(log.read_text(encoding="ascii").split()) <= 2 + 8
        )  # two at once, then one for each wave of submissions
