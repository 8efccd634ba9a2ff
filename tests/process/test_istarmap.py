"""`istarmap` and `istarmap_unordered`: `starmap`, as lazy as `imap`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

import forkful
from forkful import errors

from . import view_tasks


@pytest.mark.parametrize("call", ["istarmap", "istarmap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 3])
def test_elements_are_unpacked(call: str, chunksize: int, start_method: str) -> None:
    with forkful.Pool(2, context=start_method) as pool:
        values = getattr(pool, call)(view_tasks.add, ((n, n) for n in range(50)), chunksize)
        assert (list(values) if call == "istarmap" else sorted(values)) == list(range(0, 100, 2))


def test_endless_input_is_read_within_a_window() -> None:
    read = itertools.count()

    def pairs() -> Iterator[tuple[int, int]]:
        for number in read:
            yield number, 1

    with forkful.Pool(2, context="fork") as pool:
        values = pool.istarmap(view_tasks.add, pairs(), buffersize=8)
        assert [next(values) for _ in range(100)] == list(range(1, 101))
        values.close()
        assert next(values, None) is None
    assert next(read) <= 100 + 8 + 1


def test_an_element_that_cannot_be_unpacked_fails_alone() -> None:
    with forkful.Pool(1, context="fork", timeout=20, retries=0) as pool:
        values = pool.istarmap(view_tasks.add, [(1, 2), 3, (4,), (5, 6)])  # type: ignore[list-item]  # the mistake
        assert next(values) == 3
        for _ in range(2):
            with pytest.raises(TypeError):
                next(values)
        assert next(values) == 11
        with pytest.raises(ValueError, match=r"Chunksize must be 1\+"):
            pool.istarmap(view_tasks.add, [], 0)
        pool.close()
        with pytest.raises(errors.PoolClosed):
            pool.istarmap(view_tasks.add, [])
