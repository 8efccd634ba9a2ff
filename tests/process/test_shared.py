"""`Pool.share`: an object that many tasks take crosses once to each worker, and goes when nobody names it."""

from __future__ import annotations

import copy
import functools
import gc
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forkful
from forkful import errors
from forkful._core import channel, crew
from forkful._core.messages import SHARE, UNSHARE

from . import big_tasks, tasks
from .big_tasks import make
from .support import WATCHDOG, Program

BIG = 3_000_000


def frames_sent(pool: forkful.Pool, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The kinds of the frames about shared objects that are sent from now on."""
    kinds: list[int] = []
    frame = channel.frame

    def spy(kind: int, *args: Any, **kwargs: Any) -> Any:
        if kind in {SHARE, UNSHARE}:
            kinds.append(kind)
        return frame(kind, *args, **kwargs)

    monkeypatch.setattr(crew, "frame", spy)
    return kinds


def test_object_itself_arrives(start_method: str) -> None:
    """Inside other objects too, small and large, by every method."""
    with forkful.Pool(2, context=start_method) as pool:
        array = np.arange(BIG)
        table = pool.share({"array": array})
        numbers = pool.share([1, 2, 3])
        expected = int(array.sum()) + 6
        assert table.value["array"] is array
        assert pool.apply(big_tasks.total, ({"k": table}, numbers, "k")) == expected
        assert pool.apply_async(big_tasks.total, (), {"table": {"k": table}, "numbers": numbers, "key": "k"}).get(
            WATCHDOG
        ) == (expected)
        assert pool.starmap(big_tasks.total, [({"k": table}, numbers, "k")] * 9) == [expected] * 9
        assert list(pool.imap(big_tasks.length, [numbers] * 9)) == [3] * 9
        assert pool.map(big_tasks.length, [numbers, [1]] * 9, retries=1) == [3, 1] * 9


def test_sent_once_to_each_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tasks name it; each worker has one object."""
    with forkful.Pool(1) as pool:
        kinds = frames_sent(pool, monkeypatch)
        shared = pool.share(make(BIG, 1))
        assert kinds == []
        assert len(set(pool.map(big_tasks.identity, [shared] * 50))) == 1
        assert len({pool.apply(big_tasks.identity, (shared,)) for _ in range(10)}) == 1
        assert kinds == [SHARE]


def test_it_cannot_be_changed_for_others() -> None:
    """Large buffers are read-only in the workers."""
    array = make(BIG, 0)
    with forkful.Pool(2) as pool:
        shared, small = pool.share(array), pool.share(make(100_000, 0))
        assert pool.map(big_tasks.try_to_write, [shared, small] * 4) == [False] * 8
        array[0] = 5  # ours is ours; theirs is what it was
        assert pool.apply(np.sum, (shared,)) == 0


def test_dropped_with_the_last_handle(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, though the pool has nothing to do; the memory is free."""
    with forkful.Pool(1) as pool:
        kinds = frames_sent(pool, monkeypatch)
        shared = pool.share(make(BIG, 1))
        other = shared.__copy__()
        assert pool.apply(np.sum, (shared,)) == BIG
        lender = pool._master.lender()
        del shared
        pool.apply(tasks.double, (1,))
        assert kinds == [SHARE]
        assert lender._watches
        del other
        while kinds == [SHARE]:  # the background thread tells it
            pool._master.wheel.wait(forkful_slot(), 0.01)
        assert kinds == [SHARE, UNSHARE]
        pool.apply(tasks.double, (1,))
        pool.apply(tasks.double, (1,))
        lender.reclaim()
        assert not lender._watches


def forkful_slot() -> Any:
    """Something that will never happen."""
    from forkful._core.wheel import Slot

    return Slot()


def test_tasks_keep_it(tmp_path: Path) -> None:
    """A handle may go before the tasks that have it."""
    with forkful.Pool(1) as pool:
        with pool.share(make(BIG, 1)) as shared:
            results: list[Any] = [pool.apply_async(np.sum, (shared,)) for _ in range(20)]
        assert [result.get(WATCHDOG) for result in results] == [BIG] * 20
        with pytest.raises(ValueError, match="share it again"):
            _ = shared.value
        with pytest.raises(ValueError, match="share it again"):
            pool.apply(np.sum, (shared,))
        assert "closed" in repr(shared)


def test_new_workers_get_it(tmp_path: Path) -> None:
    """A task that is tried again elsewhere finds it there; so do those behind it."""
    with forkful.Pool(1, retries=1) as pool:
        shared = pool.share(make(BIG, 1))
        results = [pool.apply_async(big_tasks.die_once, (shared, str(tmp_path / "marker"))) for _ in range(5)]
        assert [result.get(WATCHDOG) for result in results] == [BIG] * 5
    with forkful.Pool(1, maxtasksperchild=2) as pool:
        shared = pool.share(make(BIG, 1))
        assert [pool.apply(np.sum, (shared,)) for _ in range(7)] == [BIG] * 7


def test_shared_objects_that_name_others() -> None:
    """They come after those."""
    with forkful.Pool(2) as pool:
        inner = pool.share(make(BIG, 1))
        outer = pool.share({"inner": [inner, inner]})
        del inner
        gc.collect()
        assert pool.map(big_tasks.same, [1, 2]) == [1, 2]
        result = pool.apply(big_tasks.same, (outer,))
        assert [int(array.sum()) for array in result["inner"]] == [BIG, BIG]


def test_pickled_elsewhere() -> None:
    """An error that says where it belongs."""
    with forkful.Pool(1) as pool, forkful.Pool(1) as other:
        shared = pool.share([1])
        with pytest.raises(TypeError, match="own pool"):
            pickle.dumps(shared)
        with pytest.raises(errors.UnpicklableError, match="own pool"):
            other.apply(len, (shared,))
        with pytest.raises(errors.UnpicklableError, match="own pool"):
            pool.apply(functools.partial(big_tasks.length, shared))
        assert copy.copy(shared) is copy.deepcopy(shared) is shared
        assert pool.apply(len, (pickle.loads(pickle.dumps([1])),)) == 1
        assert pool.apply(len, (shared,)) == 1


def test_what_cannot_be_shared() -> None:
    """The error comes at once; a closed pool shares nothing."""
    with forkful.Pool(1) as pool:
        with pytest.raises(TypeError):
            pool.share(threading.Lock())
        assert pool.apply(len, ([1],)) == 1
    with pytest.raises(errors.PoolClosed):
        pool.share(1)


def test_what_cannot_be_rebuilt() -> None:
    """Each task that names it ends with that error; the others are not concerned."""
    with forkful.Pool(1) as pool:
        shared = pool.share(big_tasks.Failing(1))
        for _ in range(3):
            with pytest.raises(LookupError):
                pool.apply(big_tasks.same, (shared,))
        assert pool.apply(len, ([1],)) == 1


def test_handle_outlives_its_pool() -> None:
    """Its value is still there."""
    with forkful.Pool(1) as pool:
        shared = pool.share([1, 2])
        assert pool.apply(len, (shared,)) == 2
    assert shared.value == [1, 2]
    del pool
    gc.collect()
    shared.close()


def test_objects_of_main(tmp_path: Path) -> None:
    """Of a script, by every start method; and by value where no worker can import it."""
    code = """
import forkful

class Weights:
    def __init__(self, factor):
        self.factor = factor

def apply(weights, number):
    return weights.factor * number

if __name__ == "__main__":
    for method in ("fork", "forkserver", "spawn"):
        with forkful.Pool(2, context=method) as pool:
            weights = pool.share(Weights(3))
            print(pool.starmap(apply, [(weights, n) for n in range(4)]))
"""
    with Program(cwd=tmp_path, code=code) as program:
        assert [program.line() for _ in range(3)] == ["[0, 3, 6, 9]"] * 3
        assert program.finish()[0] == 0
    with Program("-c", code, cwd=tmp_path) as program:
        assert [program.line() for _ in range(3)] == ["[0, 3, 6, 9]"] * 3
        assert program.finish()[0] == 0
