"""``capture_output``: what a task writes comes back with its result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import forkful
from forkful.errors import TaskTimeout, WorkerDied

from . import capture_tasks as tasks
from . import tasks as plain
from .support import WATCHDOG


def test_of_one_call(start_method: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Once it has ended; nothing of it appears elsewhere."""
    with forkful.Pool(1, start_method=start_method, capture_output=True) as pool:
        for number in range(3):
            result = pool.apply_async(tasks.write, (number,))
            assert result.get(WATCHDOG) == number
            assert (result.stdout, result.stderr) == (f"out {number}\n", f"err {number}\n")
        silent = pool.apply_async(abs, (-1,))
        assert (silent.get(WATCHDOG), silent.stdout, silent.stderr) == (1, "", "")
        assert pool.apply_async(plain.nap, (0.1,)).stdout is None
    assert capfd.readouterr() == ("", "")


def test_not_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    """Then it goes where it always went."""
    with forkful.Pool(1, start_method="spawn") as pool:
        result = pool.apply_async(tasks.write, (1,))
        result.wait()
        assert (result.stdout, result.stderr) == (None, None)
        assert [outcome.stdout for outcome in pool.outcomes(tasks.write, [2])] == [None]
        with pytest.raises(ValueError, match="raise") as caught:
            pool.apply(tasks.write_and, ("raise",))
        assert not hasattr(caught.value, "stdout")
        pool.close()
        pool.join()
    out, err = capfd.readouterr()
    assert "out 1\nout 2\n" in out
    assert "err 1\nerr 2\n" in err


def test_every_way_to_write(start_method: str) -> None:
    """In the order of writing, also where it is not whole lines."""
    with forkful.Pool(1, start_method=start_method, capture_output=True) as pool:
        for _ in range(2):
            result = pool.apply_async(tasks.write_in_every_way, (5,))
            assert result.get(WATCHDOG) == 5
            assert result.stdout == "print bytes\N{REPLACEMENT CHARACTER} descriptor printf child thread "
            assert result.stderr == "shell\n"


@pytest.mark.parametrize("options", [{}, {"chunksize": 7}, {"retries": 1}])
def test_of_a_map(options: dict[str, Any], start_method: str) -> None:
    """A list, one for each element."""
    with forkful.Pool(2, start_method=start_method, capture_output=True) as pool:
        result = pool.map_async(tasks.write_if_odd, range(20), **options)
        assert result.get(WATCHDOG) == list(range(20))
        assert result.stdout == [f"{number}\n" if number % 2 else "" for number in range(20)]
        assert result.stderr == [""] * 20
        empty = pool.map_async(tasks.write, [])
        empty.wait(WATCHDOG)
        assert (empty.stdout, empty.stderr) == ([], [])


@pytest.mark.parametrize("ordered", [True, False])
def test_of_outcomes(ordered: bool) -> None:
    """Each has its own."""
    with forkful.Pool(2, capture_output=True) as pool:
        for outcome in pool.outcomes(tasks.write, range(100), ordered=ordered):
            assert (outcome.stdout, outcome.stderr) == (f"out {outcome.index}\n", f"err {outcome.index}\n")


ENDS: dict[str, tuple[type[BaseException], dict[str, Any]]] = {
    "raise": (ValueError, {}),
    "crash": (WorkerDied, {}),
    "leave": (WorkerDied, {}),
    "wait": (TaskTimeout, {"timeout": 0.2}),
}

ASK: dict[str, Callable[..., Any]] = {
    "apply": lambda pool, how, **options: pool.apply(tasks.write_and, (how,), **options),
    "map": lambda pool, how, **options: pool.map(tasks.write_and, [how], **options),
    "imap": lambda pool, how, **options: pool.imap(tasks.write_and, [how], **options).next(WATCHDOG),
}


@pytest.mark.parametrize("way", ASK)
@pytest.mark.parametrize("how", ENDS)
def test_on_the_error(how: str, way: str) -> None:
    """Whatever the task came to: what it had written up to there, the parts of lines too."""
    kind, options = ENDS[how]
    with forkful.Pool(1, capture_output=True) as pool:
        with pytest.raises(kind) as caught:
            ASK[way](pool, how, **options)
        error: Any = caught.value
        assert (error.stdout, error.stderr) == ("before the end, in C", f"of {how}")
        assert pool.apply_async(tasks.write, (1,)).get(WATCHDOG) == 1


def test_death_under_each_start_method(start_method: str) -> None:
    """The files are the master's."""
    with forkful.Pool(1, start_method=start_method, capture_output=True) as pool:
        outcomes = list(pool.outcomes(tasks.write_and, ["raise", "leave", "raise"], ordered=True))
    assert [outcome.stdout for outcome in outcomes] == ["before the end, in C"] * 3
    assert [outcome.stderr for outcome in outcomes] == ["of raise", "of leave", "of raise"]
    assert [type(outcome.error) for outcome in outcomes] == [ValueError, WorkerDied, ValueError]


def test_of_the_last_attempt(tmp_path: Path) -> None:
    """What the ones before had written is dropped with their errors."""
    with forkful.Pool(1, capture_output=True) as pool:
        result = pool.apply_async(tasks.write_until, (str(tmp_path / "count"),), retries=5)
        assert result.get(WATCHDOG) == "done"
        assert result.stdout == "attempt 3\n"


def test_more_than_is_kept() -> None:
    """The end of it, and how much is missing."""
    with forkful.Pool(1, capture_output=True) as pool:
        result = pool.apply_async(tasks.write_much, (20_000,))
        result.get(WATCHDOG)
        assert result.stdout is not None
        first, _, rest = result.stdout.partition("\n")
        assert first.endswith(" bytes left out]")
        assert rest.endswith("the end\n")
        assert len(rest) <= 2**20 + 100
        total = sum(len(f"{number} ") + 1001 for number in range(20_000)) + 3_000_000 + len("the end\n")
        assert int(first[1:].partition(" ")[0]) + len(rest) == total


def test_of_no_task(start_method: str, capfd: pytest.CaptureFixture[str]) -> None:
    """What an initializer writes goes where it did; a handler that it has set up writes as part of the task."""
    with forkful.Pool(1, tasks.initialize, start_method=start_method, capture_output=True) as pool:
        result = pool.apply_async(tasks.log, (3,))
        assert result.get(WATCHDOG) == 3
        if start_method != "fork":  # where standard error is pytest's, and no descriptor
            assert result.stderr == "logged 3\n"
    assert "initialized\n" in capfd.readouterr().out


def test_a_pool_in_a_task() -> None:
    """It captures by itself; what it does not capture is the task's."""
    with forkful.Pool(1, capture_output=True) as pool:
        result = pool.apply_async(tasks.nested)
        assert result.get(WATCHDOG) == "out 1\n"
        assert (result.stdout, result.stderr) == ("out 2\n", "err 2\n")


def test_in_a_callback() -> None:
    """It is there already, on the error."""
    seen: list[Any] = []
    with forkful.Pool(1, capture_output=True) as pool:
        result = pool.apply_async(
            tasks.write_and, ("raise",), error_callback=lambda error: seen.append(getattr(error, "stdout", None))
        )
        result.wait(WATCHDOG)
    assert seen == ["before the end, in C"]


def test_with_threads(start_method: str) -> None:
    """By thread, what Python code writes."""
    with forkful.Pool(1, threads=4, start_method=start_method, capture_output=True) as pool:
        result = pool.map_async(tasks.write_slowly, range(20))
        assert len(set(result.get(WATCHDOG))) == 4
        assert result.stdout == [f"begin {number}\nend {number}\n" for number in range(20)]
        with pytest.raises(ValueError, match="raise") as caught:
            pool.apply(tasks.write_and, ("raise",))
        assert getattr(caught.value, "stderr", None) == "of raise"
