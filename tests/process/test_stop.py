"""Outcomes that are stopped, timed anew, tried again later, or read in batches."""

from __future__ import annotations

import itertools
import os
import threading
import time
from pathlib import Path

import pytest

from forkful import Pool
from forkful.errors import TaskCancelled, TaskTimeout, WorkerDied

METHODS = ["fork", "forkserver", "spawn"]


def touch_and_wait(path: str) -> str:
    """Say that it runs, and end when that is taken back."""
    Path(path).touch()
    while os.path.exists(path):
        time.sleep(0.005)  # the other process is the test, which has no other way to tell a task anything
    return path


def fail_after(path: str) -> None:
    """The same, and then an error."""
    touch_and_wait(path)
    raise ValueError(path)


def crash_after(path: str) -> None:
    """The same, and then the end of the worker."""
    touch_and_wait(path)
    os._exit(3)


def note_time(path: str) -> float:
    """Fails the first two times; each notes when."""
    with open(path, "a") as file:
        file.write(f"{time.monotonic()}\n")
    if len(Path(path).read_text().splitlines()) < 3:
        raise OSError("not yet")
    return time.monotonic()


def sleep(seconds: float) -> float:
    """Sleep."""
    time.sleep(seconds)
    return seconds


def _let_end(paths: list[Path]) -> None:
    """Once each of *paths* is there, take it away."""
    for path in paths:
        while not path.exists():
            time.sleep(0.005)  # as above
    for path in paths:
        path.unlink()


@pytest.mark.parametrize("start_method", METHODS)
@pytest.mark.parametrize("ordered", [False, True])
def test_stop_lets_what_runs_end(tmp_path: Path, start_method: str, ordered: bool) -> None:
    """Two elements run: both have their value; endless others never start, and the loop ends."""
    running = [tmp_path / "0", tmp_path / "1"]
    with Pool(2, start_method=start_method) as pool:
        outcomes = pool.outcomes(touch_and_wait, (str(tmp_path / str(n)) for n in itertools.count()), ordered=ordered)
        while not all(path.exists() for path in running):
            time.sleep(0.005)
        outcomes.stop()
        ender = threading.Thread(target=_let_end, args=[running])
        ender.start()
        ended = list(outcomes)
        ender.join()
        assert sorted(outcome.value for outcome in ended if outcome.ok) == [str(path) for path in running]
        rest = [outcome for outcome in ended if not outcome.ok]
        assert all(isinstance(outcome.error, TaskCancelled) and outcome.attempts == 0 for outcome in rest)
        assert len(list(tmp_path.iterdir())) == 0, "nothing else has started"
        assert pool.apply(abs, (-1,)) == 1


@pytest.mark.parametrize(("function", "retries", "kind"), [
    (fail_after, 0, ValueError), (fail_after, 3, ValueError), (crash_after, 0, WorkerDied), (crash_after, 3, TaskCancelled),
])  # fmt: skip  # a line each
def test_stop_ends_retries(tmp_path: Path, function: object, retries: int, kind: type[Exception]) -> None:
    """What runs at the stop and fails is not started once more."""
    path = tmp_path / "x"
    with Pool(1, retries=retries) as pool:
        outcomes = pool.outcomes(function, [str(path)])  # type: ignore[arg-type]  # one of the three above
        while not path.exists():
            time.sleep(0.005)
        outcomes.stop()
        path.unlink()
        (outcome,) = outcomes
        assert isinstance(outcome.error, kind)
        assert not path.exists()


def test_stop_during_backoff(tmp_path: Path) -> None:
    """What waits to be tried again is not waited for."""
    with Pool(1, retries=1, backoff=3600) as pool:
        outcomes = pool.outcomes(note_time, [str(tmp_path / "x"), str(tmp_path / "y")], retries=1)
        while pool.stats()["retried"] < 2:
            time.sleep(0.005)
        outcomes.stop()
        assert [type(outcome.error) for outcome in outcomes] == [TaskCancelled, TaskCancelled]


def test_stop_of_an_input_that_does_not_come() -> None:
    """An iterable that waits for ever does not hold up the end."""
    never = threading.Event()

    def inputs() -> object:
        yield 1
        never.wait(600)

    with Pool(1) as pool:
        outcomes = pool.outcomes(abs, inputs())  # type: ignore[arg-type]  # an iterator of numbers
        assert next(outcomes).value == 1
        outcomes.stop()
        assert list(outcomes) == []
    never.set()


def test_stop_after_the_end() -> None:
    """It changes nothing."""
    with Pool(1) as pool:
        outcomes = pool.outcomes(abs, [1, 2])
        assert len(list(outcomes)) == 2
        outcomes.stop()
        assert list(outcomes) == []


@pytest.mark.parametrize("start_method", METHODS)
def test_backoff(tmp_path: Path, start_method: str) -> None:
    """The times between attempts double; the others do not wait for it."""
    path = tmp_path / "times"
    with Pool(1, retries=2, backoff=0.1, start_method=start_method) as pool:
        pool.apply(abs, (-1,))
        slow = pool.apply_async(note_time, (str(path),))
        begun = time.monotonic()
        ended = slow.get()
        first, second, third = map(float, path.read_text().split())
        assert second - first >= 0.1
        assert third - second >= 0.2
        assert ended >= begun


def test_backoff_of_a_closed_pool(tmp_path: Path) -> None:
    """``close`` and ``join`` wait for what is to be tried again."""
    with Pool(1, retries=2, backoff=0.05) as pool:
        result = pool.apply_async(note_time, (str(tmp_path / "times"),))
        pool.close()
        pool.join()
        assert result.successful()


@pytest.mark.parametrize(
    ("backoff", "kind"), [(-1, ValueError), ("1", TypeError), (float("inf"), ValueError), (True, TypeError)]
)
def test_backoff_that_cannot_be(backoff: object, kind: type[Exception]) -> None:
    """It is refused at once."""
    with pytest.raises(kind, match="backoff"):
        Pool(1, backoff=backoff)  # type: ignore[arg-type]  # that is what is tried


def test_limit_reaches_what_runs() -> None:
    """A time-out that is set later holds for what runs by then, and for what comes."""
    with Pool(2) as pool:
        outcomes = pool.outcomes(sleep, [600.0, 0.0, 600.0, 0.0])
        assert next(outcomes).value == 0.0
        outcomes.limit(3.0)  # a new worker imports this module first, and that counts
        kinds = [type(outcome.error) for outcome in outcomes]
        assert sorted(kind.__name__ for kind in kinds) == ["NoneType", "TaskTimeout", "TaskTimeout"]


def test_limit_is_lifted() -> None:
    """None is no limit any more."""
    with Pool(1) as pool:
        outcomes = pool.outcomes(sleep, iter([0.0, 3.5]), timeout=3.0)
        outcomes.limit(None)
        assert [outcome.ok for outcome in outcomes] == [True, True]
        late = pool.outcomes(sleep, [0.5], timeout=0.05)
        assert isinstance(next(late).error, TaskTimeout)


def test_batches() -> None:
    """Each outcome is in one batch; none is empty."""
    with Pool(2) as pool:
        batches = list(pool.outcomes(abs, range(3000)).batches())
        assert sorted(outcome.value for batch in batches for outcome in batch) == list(range(3000))
        assert all(1 <= len(batch) <= 512 for batch in batches)
        assert len(batches) < 3000


def test_batches_do_not_wait() -> None:
    """What is there is given, though more is to come."""
    with Pool(1) as pool:
        batches = pool.outcomes(sleep, [0.0, 0.5]).batches()
        assert [outcome.index for outcome in next(batches)] == [0]
        assert [outcome.index for outcome in next(batches)] == [1]
