"""A worker is killed just before, in the middle of, and just after every message of the protocol.

At each of these points no task runs in it.  So nothing may be lost, nothing may be done twice, and no task may fail:
what was not started runs elsewhere, and what was done is in the journal.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import forkful
from forkful import errors
from forkful._core import codec

from . import tasks
from .sabotage import DOWN, UP, Point, Sabotage
from .support import WATCHDOG, assert_works, executions, wait_for_ends

# What happens in any use of a pool, and what has to be brought about.
PLAIN = [point for point in (*DOWN, *UP) if point.kind in {"SETUP", "READY", "FUNCTION", "BATCH", "RESULTS"}]
LATER = [Point("BATCH", when, 2) for when in ("read", "after")] + [
    Point("RESULTS", when, 2) for when in ("before", "during", "after")
]
OF_RECALL = [point for point in (*DOWN, *UP) if point.kind in {"RECALL", "DROPPED"}]
OF_FORGET = [point for point in DOWN if point.kind == "FORGET"]
OF_STOP = [point for point in DOWN if point.kind == "STOP"]
OF_REFUSED = [point for point in UP if point.kind == "REFUSED"]

NUMBERS = range(200)
DOUBLED = [2 * number for number in NUMBERS]
ONCE = dict.fromkeys(NUMBERS, 1)

Call = Callable[[Any, str], list[Any]]


def by_apply_async(pool: Any, log: str) -> list[Any]:
    """One task each."""
    results = [pool.apply_async(tasks.noted, (log, number)) for number in NUMBERS]
    return [result.get(WATCHDOG) for result in results]


def by_imap(pool: Any, log: str) -> list[Any]:
    """A lazy map."""
    return list(pool.imap(functools.partial(tasks.noted, log), NUMBERS))


def by_map(pool: Any, log: str) -> list[Any]:
    """A map without chunks."""
    return pool.map(functools.partial(tasks.noted, log), NUMBERS, chunksize=1)  # type: ignore[no-any-return]


def by_chunks(pool: Any, log: str) -> list[Any]:
    """A map whose chunks hold several elements."""
    return pool.map(functools.partial(tasks.noted, log), NUMBERS, chunksize=7)  # type: ignore[no-any-return]


CALLS = [by_apply_async, by_imap, by_map, by_chunks]


def check(method: str, call: Call, point: Point, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = folder / "log"
    sabotage = Sabotage(point, folder, monkeypatch)
    with forkful.Pool(2, context=method) as pool:
        assert call(pool, str(log)) == DOUBLED
        victim = sabotage.victim()
        assert victim, "no worker came to that point"
        assert executions(log) == ONCE
        assert_works(pool)
        assert wait_for_ends([victim]) == []  # a copy of a large process takes its time to go
        assert victim not in {worker.pid for worker in pool._pool if worker.is_alive()}


@pytest.mark.parametrize("method", ["fork", "forkserver"])
@pytest.mark.parametrize("point", [*PLAIN, *LATER], ids=str)
def test_killed_at_message(point: Point, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks by ``apply_async`` are all right, each was executed once, and the pool goes on."""
    check(method, by_apply_async, point, tmp_path, monkeypatch)


@pytest.mark.parametrize("point", [point for point in PLAIN if point.when != "during"], ids=str)
def test_killed_at_message_spawned(point: Point, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for a worker that is a new interpreter."""
    check("spawn", by_apply_async, point, tmp_path, monkeypatch)


@pytest.mark.parametrize("call", CALLS[1:])
@pytest.mark.parametrize("point", [point for point in (*PLAIN, *LATER) if point.kind in {"BATCH", "RESULTS"}], ids=str)
def test_killed_in_maps(call: Call, point: Point, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for each kind of map."""
    check("fork", call, point, tmp_path, monkeypatch)


@pytest.mark.parametrize("method", ["fork", "forkserver"])
@pytest.mark.parametrize("point", OF_RECALL, ids=str)
def test_killed_at_recall(point: Point, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is taken back from behind a long task runs once elsewhere, wherever the worker with the long task dies."""
    log, gate = tmp_path / "log", tmp_path / "gate"
    os.mkfifo(gate)
    sabotage = Sabotage(point, tmp_path, monkeypatch)
    with forkful.Pool(2, context=method) as pool:
        before = range(1000, 1500)
        for number in before:  # until the pool knows that this function is quick, and sends many at a time
            assert pool.apply(tasks.gated, (str(log), number, "")) == 2 * number
        results = [pool.apply_async(tasks.gated, (str(log), 0, str(gate)))]
        results += [pool.apply_async(tasks.gated, (str(log), number, "")) for number in NUMBERS[1:]]

        with gate.open("wb", buffering=0) as file:  # it runs
            others = [result.get(WATCHDOG) for result in results[1:]]
            file.write(b"!")

        assert [results[0].get(WATCHDOG), *others] == DOUBLED
        pool.apply_async(tasks.double, (1,)).get(WATCHDOG)
        assert executions(log) == ONCE | dict.fromkeys(before, 1)
        assert_works(pool)
        pool.close()  # not terminate(), which would end a worker before it comes to that point
        pool.join()
    assert sabotage.victim(), "no worker came to that point"


@pytest.mark.parametrize("method", ["fork", "forkserver"])
@pytest.mark.parametrize("point", OF_FORGET, ids=str)
def test_killed_at_forget(point: Point, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many functions: those that workers are told to forget are sent again when they are used again."""
    log = tmp_path / "log"
    sabotage = Sabotage(point, tmp_path, monkeypatch)
    with forkful.Pool(1, context=method) as pool:
        functions = [functools.partial(tasks.noted, str(log), number) for number in range(300)]
        for again in (1, 2):
            for number, function in enumerate(functions):
                assert pool.apply(function) == 2 * number
            assert executions(log) == dict.fromkeys(range(300), again)
        assert sabotage.victim(), "no worker came to that point"
        assert_works(pool)


@pytest.mark.parametrize("point", OF_STOP, ids=str)
def test_killed_at_stop(point: Point, start_method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed pool ends all the same, with all its results."""
    log = tmp_path / "log"
    sabotage = Sabotage(point, tmp_path, monkeypatch)
    pool = forkful.Pool(2, context=start_method)
    results = [pool.apply_async(tasks.noted, (str(log), number)) for number in NUMBERS]
    pool.close()
    pool.join()

    assert sabotage.victim(), "no worker came to that point"
    assert [result.get(WATCHDOG) for result in results] == DOUBLED
    assert executions(log) == ONCE


@pytest.mark.parametrize("point", OF_REFUSED, ids=str)
def test_killed_at_refused(point: Point, start_method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An initializer that fails in a worker which dies as it says so: the error arrives from the next one."""
    sabotage = Sabotage(point, tmp_path, monkeypatch)
    with forkful.Pool(2, tasks.refuse_to_start, context=start_method) as pool:
        results = [pool.apply_async(tasks.double, (number,)) for number in NUMBERS]

        for result in results:
            with pytest.raises(errors.InitializerError):
                result.get(WATCHDOG)
        with pytest.raises(errors.InitializerError, match="no database"):
            pool.apply_async(tasks.double, (1,)).get(WATCHDOG)
    assert sabotage.victim(), "no worker came to that point"


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_killed_as_it_sends_a_large_result(
    when: str, retries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without shared memory a result too large for the journal is lost if it was not sent in full.

    That task's ``WorkerDied``, or a retry.  With it: see ``test_big_data.py``.
    """
    monkeypatch.setattr(codec, "keep", None)
    log = tmp_path / "log"
    sabotage = Sabotage(Point("RESULTS", when, 3), tmp_path, monkeypatch)
    with forkful.Pool(2, context="fork", retries=retries) as pool:
        results = [pool.apply_async(tasks.noted_large, (str(log), number)) for number in range(20)]
        died = []
        for number, result in enumerate(results):
            try:
                assert result.get(WATCHDOG) == bytes([number]) * 400_000
            except errors.WorkerDied as error:
                assert error.pid == sabotage.victim()
                died.append(number)
        assert sabotage.victim(), "no worker came to that point"
        assert len(died) == (when != "after" and not retries)
        counts = executions(log)
        assert sorted(counts) == list(range(20))
        assert sum(counts.values()) == 20 + (when != "after" and retries)
        assert_works(pool)


@pytest.mark.parametrize("call", ["apply_async", "imap", "imap_unordered", "map", "outcomes"])
@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_killed_in_a_task(method: str, retries: int, call: str, tmp_path: Path) -> None:
    """The task that was running, and no other, ends with ``WorkerDied``, or is run once more."""
    log = str(tmp_path / "log")
    elements = [(log, number, "die", 1 if number in {5, 50} else 0) for number in range(60)]
    with forkful.Pool(2, context=method) as pool:
        function = functools.partial(_star, tasks.misbehave_at_first)
        ends: list[Any] = []
        if call == "outcomes":
            outcomes = list(pool.outcomes(function, elements, chunksize=10, ordered=True, retries=retries))
            ends = [outcome.value if outcome.ok else type(outcome.error) for outcome in outcomes]
            assert [outcome.attempts for outcome in outcomes] == [
                1 + retries * (number in {5, 50}) for number in range(60)
            ]
        elif call == "map" and not retries:
            with pytest.raises(errors.WorkerDied):
                pool.map(function, elements, chunksize=1)
        elif call == "map":
            ends = pool.map(function, elements, retries=retries)
        elif call == "apply_async":
            results = [pool.apply_async(function, (element,), retries=retries) for element in elements]
            ends = [_end_of(result.get) for result in results]
        else:
            iterator = getattr(pool, call)(function, elements, retries=retries)
            ends = [_end_of(iterator.next) for _ in elements]
        expected = [2 * number for number in range(60)]
        if call == "imap_unordered":
            ends.sort(key=lambda end: end if isinstance(end, int) else -1)
        if not retries:
            expected = [errors.WorkerDied if number in {5, 50} else value for number, value in enumerate(expected)]  # type: ignore[misc]  # values and error types
            if call == "imap_unordered":
                expected.sort(key=lambda end: end if isinstance(end, int) else -1)
        if ends:
            assert ends == expected
        assert executions(tmp_path / "log") == {number: 1 + retries * (number in {5, 50}) for number in range(60)}
        assert_works(pool)


def _star(function: Callable[..., Any], element: tuple[Any, ...]) -> Any:
    return function(*element)


def _end_of(get: Callable[[float], Any]) -> Any:
    """A value, or the type of the error."""
    try:
        return get(WATCHDOG)
    except errors.TaskError as error:
        return type(error)
