"""A worker from its initializer to its finalizer: what it keeps, what it is called, how it leaves."""

from __future__ import annotations

import functools
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import forkful
from forkful import errors

from . import life_tasks, tasks
from .support import WATCHDOG, assert_works

# To a type checker they are no functions of one argument.
WORK: Any = life_tasks.work
REMEMBER: Any = life_tasks.remember


def lines(log: Path) -> list[list[str]]:
    """The words that workers have written, line by line."""
    return [line.split() for line in log.read_text(encoding="ascii").splitlines()] if log.exists() else []


def lives(log: Path) -> dict[str, list[list[str]]]:
    """The lines of each worker."""
    by_pid: dict[str, list[list[str]]] = {}
    for word, pid, *rest in lines(log):
        by_pid.setdefault(pid, []).append([word, *rest])
    return by_pid


# finalizer=


@pytest.mark.parametrize("how", ["join", "with", "drop"])
def test_finalizer_is_the_last_thing(how: str, start_method: str, tmp_path: Path) -> None:
    """After the last task, in the main thread, before multiprocessing's own exit functions; once in each worker."""
    log = tmp_path / "log"
    processes = 2 if how == "join" else 1  # a worker that is just starting is ended without
    pool = forkful.Pool(processes, life_tasks.begin, (str(log),), finalizer=life_tasks.end, context=start_method)
    with pool:
        values = pool.map_async(WORK, range(20), chunksize=1).get(WATCHDOG)
        if how == "join":
            pool.close()
            pool.join()
        elif how == "drop":
            pool._finalizer()  # what the end of the program calls
            pool.terminate()

    assert values == list(range(0, 40, 2))
    workers = lives(log)
    total = 0
    for life in workers.values():
        count = sum(1 for line in life if line == ["work"])
        total += count
        expected = [["begin"], *[["work"]] * count, ["end", "main", str(count)], ["exit"]]
        assert life == expected
    assert total == 20
    assert 1 <= len(workers) <= 2


def test_finalizer_of_a_recycled_worker(start_method: str, tmp_path: Path) -> None:
    """``maxtasksperchild`` tells a worker to leave as well."""
    log = tmp_path / "log"
    with forkful.Pool(
        1, life_tasks.begin, (str(log),), maxtasksperchild=2, finalizer=life_tasks.end, context=start_method
    ) as pool:
        for number in range(6):
            assert pool.apply_async(life_tasks.work, (number,)).get(WATCHDOG) == 2 * number
        pool.close()
        pool.join()

    ends = [life[-2:] for life in lives(log).values()]
    assert ends[:3] == [[["end", "main", "2"], ["exit"]]] * 3


def test_no_finalizer_where_a_worker_is_killed(start_method: str, tmp_path: Path) -> None:
    """Nor in one that leaves on its own."""
    log = tmp_path / "log"
    with forkful.Pool(1, life_tasks.begin, (str(log),), finalizer=life_tasks.end, context=start_method) as pool:
        for function in (functools.partial(tasks.misbehave, "die"), functools.partial(tasks.misbehave, "leave")):
            with pytest.raises(errors.WorkerDied):
                pool.apply_async(function).get(WATCHDOG)
        assert_works(pool)
        pool.close()
        pool.join()

    assert [word for word, *_ in lines(log)] == ["begin", "begin", "begin", "end", "exit"]


def test_terminate_ends_busy_workers_without_their_finalizer(start_method: str, tmp_path: Path) -> None:
    """Idle ones get the time for it."""
    log, gate = tmp_path / "log", tmp_path / "gate"
    os.mkfifo(gate)
    pool = forkful.Pool(2, life_tasks.begin, (str(log),), finalizer=life_tasks.end, context=start_method)
    with pool:
        busy = pool.apply_async(life_tasks.wait_at, (str(gate),))
        with gate.open("wb"):
            pid = pool.apply_async(os.getpid).get(WATCHDOG)
            pool.terminate()
            with pytest.raises(errors.PoolTerminated):
                busy.get(WATCHDOG)

    assert [pid for word, pid, *_ in lines(log) if word == "end"] == [str(pid)]


def test_terminate_waits_no_longer_than_the_grace(start_method: str) -> None:
    """A finalizer that hangs is killed."""
    pool = forkful.Pool(1, finalizer=life_tasks.end_never, context=start_method)
    with pool:
        assert_works(pool)
        [member] = pool._pool
    assert member.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("ending", ["join", "terminate"])
def test_finalizer_that_raises(ending: str, start_method: str, capfd: pytest.CaptureFixture[str]) -> None:
    """It is shown on standard error under the worker's name, and hurts nobody; the exit code is 1."""
    with forkful.Pool(1, finalizer=life_tasks.end_badly, context=start_method) as pool:
        name = pool.apply_async(life_tasks.own_name).get(WATCHDOG)
        [member] = pool._pool
        if ending == "join":
            pool.close()
            pool.join()

    assert member.exitcode == 1
    written = capfd.readouterr().err
    assert f"Process {name}:\nTraceback" in written
    assert written.endswith("OSError: the finalizer cannot\n")


def test_finalizer_that_leaves() -> None:
    """``sys.exit`` in it is the worker's exit code."""
    with forkful.Pool(1, finalizer=life_tasks.end_with_code, context="fork") as pool:
        assert_works(pool)
        [member] = pool._pool
        pool.close()
        pool.join()
    assert member.exitcode == 7


def test_finalizer_that_forks(tmp_path: Path) -> None:
    """Its child ends where it returns."""
    log = tmp_path / "log"
    with forkful.Pool(1, life_tasks.begin, (str(log),), finalizer=life_tasks.end_in_two, context="fork") as pool:
        assert_works(pool)
        pool.close()
        pool.join()
    words = lives(log)
    assert sorted(words.values()) == [[["begin"], ["end"], ["exit"]], [["end"]]]


def test_finalizer_that_cannot_be_pickled() -> None:
    """Is the constructor's error where the start method was chosen, as with the initializer; else it is forked."""
    with pytest.raises((pickle.PicklingError, AttributeError)):
        forkful.Pool(1, finalizer=lambda: None, context="spawn")
    with forkful.Pool(1, finalizer=lambda: None) as pool:
        assert "fork " in repr(pool)
        assert_works(pool)


# state


@pytest.mark.parametrize("call", ["apply", "map", "imap", "imap_unordered", "starmap", "outcomes"])
def test_tasks_share_their_workers_state(call: str, start_method: str) -> None:
    """Whichever way they are called, and over several calls."""
    with forkful.Pool(1, context=start_method) as pool:
        assert pool.apply_async(life_tasks.remember, (0,)).get(WATCHDOG) == 1
        if call == "apply":
            values = [pool.apply(life_tasks.remember, (number,)) for number in range(5)]
        elif call == "starmap":
            values = pool.starmap(life_tasks.remember_pair, [(number, 1) for number in range(5)])
        elif call == "outcomes":
            values = [outcome.value for outcome in pool.outcomes(REMEMBER, range(5), ordered=True)]
        else:
            values = list(getattr(pool, call)(REMEMBER, range(5)))
        assert values == [2, 3, 4, 5, 6]


def test_state_goes_to_whoever_asks(start_method: str) -> None:
    """Partials, methods and callable objects too; a caller's own `state` and a default stand."""
    asking = life_tasks.Asking()
    with forkful.Pool(1, context=start_method) as pool:
        functions: list[Callable[..., Any]] = [functools.partial(life_tasks.remember, 0), asking, asking.method]
        values = [pool.apply_async(f, () if f is functions[0] else (0,)).get(WATCHDOG) for f in functions]
        assert values == [1, 2, 3]
        assert pool.apply(life_tasks.remember, (0,), {"state": {"asked": 40}}) == 41
        assert pool.apply(life_tasks.show_state) == "unasked"
        assert pool.apply(life_tasks.show_state, kwds={"state": "mine"}) == "mine"


def test_each_worker_has_its_own_state(tmp_path: Path) -> None:
    """And a replacement begins with none."""
    log = tmp_path / "log"
    with forkful.Pool(1, maxtasksperchild=1, context="fork") as pool:
        assert [pool.apply(life_tasks.remember, (0,)) for _ in range(3)] == [1, 1, 1]
    assert not log.exists()


def test_function_that_asks_in_vain_outside() -> None:
    """What a caller forgets is still an error of his, in the task."""
    with forkful.Pool(1, context="fork") as pool, pytest.raises(TypeError, match="item"):
        pool.apply(life_tasks.remember)


# With threads.


def test_threads_share_state_and_finalizer(start_method: str, tmp_path: Path) -> None:
    """One dict for all threads of a worker, and one finalizer, in the main thread, when all of them have ended."""
    log = tmp_path / "log"
    with forkful.Pool(
        1, life_tasks.begin, (str(log),), threads=4, finalizer=life_tasks.end, context=start_method
    ) as pool:
        assert pool.map_async(WORK, range(20), chunksize=1).get(WATCHDOG) == list(range(0, 40, 2))
        pool.close()
        pool.join()
    [life] = lives(log).values()
    assert life == [["begin"], *[["work"]] * 20, ["end", "main", "20"], ["exit"]]
