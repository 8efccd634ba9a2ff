"""`Semaphore`: permits that come back."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import pickle
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

import forkful
from forkful import Semaphore
from forkful.errors import LockError, LockLost
from forkful.locks._semaphore import _NUMBER

from .support import WATCHDOG, Contender

Start = type[Contender]
SPEC = "Semaphore(3, 'a')"


@pytest.fixture(autouse=True)
def removed(folder: Path) -> Any:
    """The kernel's semaphores that named ones of a test leave are removed: their folder goes too.

    Those that the folder knows of, not all that are new: others may be of a test that runs beside this one.
    """
    yield
    gc.collect()
    files = folder.glob("*.semaphore")
    numbers = {str(memoryview(file.read_bytes()).cast("q")[_NUMBER] - 1) for file in files}
    for number in numbers & kernels():
        subprocess.run(["ipcrm", "-s", number], check=True)


def kernels() -> set[str]:
    """The numbers of all semaphores there are in the kernel."""
    lines = Path("/proc/sysvipc/sem").read_text("ascii").splitlines()[1:]
    return {line.split()[1] for line in lines}


def test_permits(contend: Start) -> None:
    """As many as there are, of any programs."""
    one, two = contend(), contend()
    semaphore = Semaphore(3, "a")
    assert one(f"take {SPEC}") == "True"
    assert two(f"take {SPEC}") == "True"
    assert semaphore.get_value() == 1
    with semaphore:
        assert two(f"try {SPEC}") == "False"
        assert not semaphore.acquire(timeout=0.05)
    assert two(f"try {SPEC}") == "True"
    assert {holder.pid for holder in semaphore.holders()} == {one.pid, two.pid}


def test_holders_are_killed(contend: Start) -> None:
    """Their permits come back, also where they had forked children that live; the next one knows."""
    semaphore = Semaphore(3, "a")
    holders = [contend(), contend()]
    for holder in holders:
        holder(f"take {SPEC}")
        holder.fork()
    for holder in holders:
        holder.die()
    assert [semaphore.acquire(timeout=WATCHDOG) for _ in range(3)] == [True] * 3
    assert not semaphore.acquire(False)
    semaphore.release()
    assert semaphore.acquire()
    assert not semaphore.recovered
    for _ in range(3):
        semaphore.release()
    holders[0] = contend()
    holders[0](f"take {SPEC}")
    holders[0].die()
    with semaphore:
        assert semaphore.recovered


def test_waiter_of_a_holder_that_is_killed(contend: Start) -> None:
    """It gets the permit."""
    holder, waiter = contend(), contend()
    holder("take Semaphore(1, 'a')")
    waiter.tell("take Semaphore(1, 'a')")
    holder.die()
    assert waiter.answer() == "True"


def test_release_by_one_who_has_none(contend: Start) -> None:
    """There are never more permits than there were."""
    semaphore = Semaphore(3, "a")
    contend()(f"take {SPEC}")
    with pytest.raises(LockError, match="semaphore 'a' is not held by this process"):
        semaphore.release()
    assert semaphore.get_value() == 2


def test_a_fork_holds_nothing() -> None:
    """And frees nothing."""
    semaphore = Semaphore(2, "a")
    semaphore.acquire()
    pid = os.fork()
    if not pid:
        try:
            semaphore.release()
        except LockError:
            os._exit(7 if semaphore.get_value() == 1 and semaphore.acquire(False) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert semaphore.get_value() == 1
    semaphore.release()


def test_who_uses_it_must_agree(contend: Start) -> None:
    """On how many permits there are."""
    semaphore = Semaphore(3, "a")
    with pytest.raises(ValueError, match="has 3 permits, not 4"):
        Semaphore(4, "a")
    assert "has 3 permits, not 2" in contend()("take Semaphore(2, 'a')")
    assert semaphore.value == 3


def _hold(semaphore: Semaphore, path: str, number: int) -> int:
    with semaphore:
        names = os.listdir(path)
        own = Path(path, str(number))
        own.touch()
        inside = len(os.listdir(path))
        own.unlink()
    assert len(names) < 3
    return inside


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("name", ["a", None])
def test_argument_of_a_task(method: str, name: str | None, tmp_path: Path) -> None:
    """Never more inside than there are permits."""
    inside = tmp_path / "inside"
    inside.mkdir()
    semaphore = Semaphore(2, name)
    with forkful.Pool(4, context=method) as pool:
        found = pool.starmap(_hold, [(semaphore, str(inside), number) for number in range(40)], chunksize=1)
    assert 1 <= max(found) <= 2


def test_processes(tmp_path: Path) -> None:
    """Of multiprocessing, to which it is given when they start."""
    context: Any = multiprocessing.get_context("spawn")
    semaphore = Semaphore(1)
    process = context.Process(target=semaphore.acquire)
    process.start()
    process.join()
    process.close()
    assert semaphore.acquire(timeout=WATCHDOG)  # it came back with its end


def test_threads_and_tasks() -> None:
    """Each takes its own permit."""
    semaphore = Semaphore(1, "a")
    semaphore.acquire()
    had: list[bool] = []
    thread = threading.Thread(target=lambda: had.append(semaphore.acquire(timeout=WATCHDOG)))
    thread.start()
    semaphore.release()
    thread.join()
    assert had == [True]
    semaphore.release()

    async def main() -> None:
        async with semaphore:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await semaphore.acquire_async()
        async with asyncio.timeout(WATCHDOG), semaphore:
            pass

    asyncio.run(main())
    assert semaphore.get_value() == 1


def test_anonymous_ones_leave_nothing(folder: Path) -> None:
    """Neither a file nor a semaphore of the kernel's."""
    made = set()
    for _ in range(3):
        semaphore = Semaphore(2)
        made.add(str(semaphore._counter.number))
        with semaphore:
            assert made & kernels()
        del semaphore
    gc.collect()
    assert len(made) == 3
    assert not made & kernels()
    assert not list(folder.iterdir())


def test_removed_from_the_system() -> None:
    """By somebody who has cleared up: an error, not a wait."""
    semaphore = Semaphore(2, "a")
    subprocess.run(["ipcrm", "-s", str(semaphore._counter.number)], check=True)
    with pytest.raises(LockLost, match="was removed from the system"):
        semaphore.acquire()
    del semaphore
    gc.collect()
    with Semaphore(2, "a"):  # whoever comes anew makes another one
        pass


def test_its_file_is_removed(folder: Path) -> None:
    """Others would find another one: it is lost, and said to be."""
    semaphore = Semaphore(2, "a")
    semaphore.acquire()
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(LockLost, match="removed or replaced"):
        semaphore.release()
    with pytest.raises(LockLost, match="removed or replaced"):
        semaphore.acquire()
    subprocess.run(["ipcrm", "-s", str(semaphore._counter.number)], check=True)  # which no file tells of any more


def test_pickling() -> None:
    """It is a value."""
    semaphore = Semaphore(2, "a")
    assert pickle.loads(pickle.dumps(semaphore)) == semaphore


@pytest.mark.parametrize(
    ("value", "name", "kind", "text"),
    [
        (2**40, "a", ValueError, "0 to 32767"),
        (-1, "a", ValueError, "0 to 32767"),
        (40000, "a", ValueError, "0 to 32767"),
        (1.5, "a", TypeError, "whole number of permits"),
        (True, "a", TypeError, "whole number of permits"),
        (1, "./a", ValueError, "no path and no URL"),
        (1, "redis://host/a", ValueError, "no path and no URL"),
    ],
)
def test_bad_arguments(value: Any, name: str, kind: type[Exception], text: str) -> None:
    """One clear error each."""
    with pytest.raises(kind, match=text):
        Semaphore(value, name)
