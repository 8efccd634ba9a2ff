"""What is looked at in place: nobody else writes there, however long that is and in whichever process."""

from __future__ import annotations

import gc
import os
import pickle
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from forkful import Pool
from forkful._core import codec

MIB = 1024 * 1024


def make(number: int) -> Any:
    """Large enough to be looked at in place."""
    return np.full(2 * MIB, number, dtype="u1")


class Returning:
    """In a cycle, and back when the collector thinks that it has gone."""

    kept: list[Returning] = []  # noqa: RUF012  # one for all

    def __init__(self, data: Any) -> None:
        self.data = data
        self.me = self

    def __reduce__(self) -> Any:
        return Returning, (pickle.PickleBuffer(self.data),)

    def __del__(self) -> None:
        if self.me is self:
            self.kept.append(self)
            self.me = None  # type: ignore[assignment]


def make_returning(number: int) -> Returning:
    """One that is not kept by whoever makes it."""
    made = Returning(make(number))
    made.me = None  # type: ignore[assignment]
    return made


def test_what_a_finalizer_brings_back() -> None:
    """The collector tells of an object's end before it has come: its memory is not used again."""
    with Pool(1) as pool:
        result = pool.apply(make_returning, (7,))
        del result
        gc.collect()
        (kept,) = Returning.kept
        for number in range(3):
            assert (pool.apply(make, (number,)) == number).all()
        assert set(bytes(kept.data)) == {7}
        Returning.kept.clear()
        del kept
    gc.collect()


def in_fork(function: Callable[[], bool], meanwhile: Callable[[], object] = bool) -> bool:
    """What *function* finds in a fork of this process, after something was done *meanwhile* in this one."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        code = 2
        try:
            os.close(write)
            os.read(read, 1)
            code = int(not function())
        finally:
            os._exit(code)
    os.close(read)
    meanwhile()
    os.close(write)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_fork_keeps_what_its_parent_gives_up() -> None:
    """Also where the worker ends that it came from, and another result of that worker is kept."""
    pool = Pool(1)
    first, second = pool.apply(make, (1,)), pool.apply(make, (2,))

    def give_up() -> None:
        nonlocal first
        first = None
        pool.close()
        pool.join()

    assert in_fork(lambda: set(first.tolist()) | set(second.tolist()) == {1, 2}, give_up)
    assert (second == 2).all()


def overwrite(array: Any) -> bool:
    """Done by whoever has a copy of his own."""
    array[:] = 99
    return bool((array == 99).all())


def fork_and_write(array: Any) -> tuple[bool, bool]:
    """Whether parent and child can write to *array* without the other's seeing it."""
    before = array.copy()
    wrote = in_fork(lambda: overwrite(array))
    unseen = bool((array == before).all())
    array[:MIB] = 5
    return wrote and unseen, in_fork(lambda: bool((array[:MIB] == 5).all()), lambda: overwrite(array))


def test_forks_do_not_see_what_the_other_writes() -> None:
    """As with all memory: results in this process, arguments in a worker; once and again, and when the pool has gone."""
    with Pool(1) as pool:
        result = pool.apply(make, (3,))
        other = pool.apply(make, (4,))
        assert fork_and_write(result) == (True, True)
        assert pool.apply(fork_and_write, (make(6),)) == (True, True)
        assert (pool.apply(make, (8,)) == 8).all()
    assert (result == 99).all()
    assert fork_and_write(other) == (True, True)


def test_nothing_is_held_when_all_has_gone() -> None:
    """No descriptor, and no memory, of what was forked or kept beyond its pool."""
    before = len(os.listdir("/proc/self/fd"))
    pool = Pool(1)
    results = [pool.apply(make, (number,)) for number in range(5)]
    assert in_fork(lambda: True)
    pool.terminate()
    pool.join()
    assert all((array == number).all() for number, array in enumerate(results))
    del results
    gc.collect()
    deadline = time.monotonic() + 5
    while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < deadline:
        time.sleep(0.01)
    with open("/proc/self/maps") as maps:
        assert "memfd:forkful" not in maps.read().replace("memfd:forkful-journal", "")


def write_to(array: Any) -> str:
    """What comes of a task's writing to what it was given."""
    try:
        array[:] = 1
    except ValueError:
        return "refused"
    return "written"


def test_nobody_writes_to_what_is_shared() -> None:
    """However small it is: the next task would see it."""
    with Pool(1) as pool:
        for size in (0, 1, 1000, 100_000, 2 * MIB):
            handle = pool.share({"array": np.zeros(size, dtype="u1"), "size": size})
            assert pool.apply(write_to_member, (handle,)) == ("refused" if size else "written", size, 0)


def write_to_member(shared: dict[str, Any]) -> tuple[str, int, int]:
    """The same for an array inside something else, and what it is afterwards."""
    return write_to(shared["array"]), shared["array"].size, int(shared["array"].sum())


def test_what_is_shared_beyond_its_pool() -> None:
    """The handle is of no use, and pickling for other pools is as fast as if there were none."""
    with Pool(1) as pool:
        handle = pool.share([1])
    assert codec.beside == {}
    assert handle.value == [1]
    del handle
    assert codec.beside == {}
