"""CPython's pool tests on ``forkful.Pool``: one class per class of theirs and start method."""

from __future__ import annotations

import multiprocessing.pool
import unittest
from typing import TYPE_CHECKING, Any

import pytest

import forkful

from . import harness
from .stage import START_METHODS, names_of_tests

if TYPE_CHECKING:
    import functools

suite = harness.cpython_suite()
cases: dict[str, list[type[unittest.TestCase]]] = {start_method: [] for start_method in START_METHODS}

if suite is None:

    @pytest.mark.parametrize("start_method", START_METHODS)
    @pytest.mark.parametrize("class_name", harness.POOL_CLASSES)
    @pytest.mark.skip(reason=harness.MISSING)
    def test_cpython(class_name: str, start_method: str) -> None:
        """Stands for a class of CPython's that this interpreter does not have."""

else:
    for _start_method in START_METHODS:
        for _class_name in harness.POOL_CLASSES:
            cases[_start_method].append(
                harness.bound_class(suite, _class_name, forkful.Pool, _start_method, module=__name__)
            )
    # pytest collects them here, and workers import them from here.
    globals().update({case.__name__: case for bound in cases.values() for case in bound})

needs_the_suite = pytest.mark.skipif(suite is None, reason=harness.MISSING)


@needs_the_suite
@pytest.mark.parametrize("start_method", START_METHODS)
def test_every_pool_test_of_cpython_is_here(start_method: str) -> None:
    """None of CPython's pool tests is missing from this module, and all of them are bound to our Pool."""
    here = [name for case in cases[start_method] for name in names_of_tests(case)]
    theirs = [name for class_name in harness.POOL_CLASSES for name in names_of_tests(getattr(suite, class_name))]

    assert theirs == here
    assert len(here) - len(harness.LEFT_OUT) > 30
    for case in cases[start_method]:
        assert case is globals()[case.__name__]
        pool: functools.partial[Any] = vars(case)["Pool"].__func__
        assert (forkful.Pool, {"context": start_method}) == (pool.func, pool.keywords)


@needs_the_suite
def test_what_is_left_out_exists_and_has_a_reason() -> None:
    """The list of tests that are left out is short, and no entry outlives its test."""
    known = {
        f"{class_name}.{test}"
        for class_name in harness.POOL_CLASSES
        for test in names_of_tests(getattr(suite, class_name))
    }

    assert len(harness.LEFT_OUT) <= 5
    assert set(harness.LEFT_OUT) <= known
    assert all(harness.LEFT_OUT.values())


class BackwardsPool(multiprocessing.pool.ThreadPool):
    """A pool with one fault: ``map`` answers in the wrong order."""

    def __init__(self, processes: int, *, context: str) -> None:
        super().__init__(processes)

    def map(self, *args: Any, **kwargs: Any) -> list[Any]:
        """The right results, last first."""
        return super().map(*args, **kwargs)[::-1]


@needs_the_suite
def test_the_harness_notices_a_faulty_pool() -> None:
    """With a Pool whose map is wrong, the test of map fails and that of apply does not."""
    assert suite is not None
    case = harness.bound_class(suite, "_TestPool", BackwardsPool, "fork", module=__name__)
    result = unittest.TestResult()

    unittest.TestSuite([case("test_apply"), case("test_map")]).run(result)

    assert result.testsRun == 2
    assert not result.errors
    assert [f"{case.__module__}.{case.__name__}.test_map"] == [test.id() for test, _ in result.failures]


@needs_the_suite
def test_the_harness_puts_things_back() -> None:
    """After a class of CPython's, ``multiprocessing`` is as it was."""
    stock: Any = multiprocessing.Pool
    start_method = multiprocessing.get_start_method(allow_none=True)

    with harness.standing_in(BackwardsPool, "spawn"):
        assert multiprocessing.Pool is not stock
        assert multiprocessing.get_start_method() == "spawn"

    assert multiprocessing.Pool == stock
    assert multiprocessing.get_start_method(allow_none=True) == start_method
