"""CPython's tests of ``ProcessPoolExecutor`` on ours: one class per class of theirs and start method."""

from __future__ import annotations

import concurrent.futures
import unittest
from typing import Any

import pytest

from forkful.futures import ProcessPoolExecutor

from . import futures_harness as harness
from .stage import START_METHODS, names_of_tests

suite = harness.cpython_suite()
cases: dict[str, list[type[unittest.TestCase]]] = {start_method: [] for start_method in START_METHODS}

if suite is None:

    @pytest.mark.parametrize("start_method", START_METHODS)
    @pytest.mark.parametrize("class_name", harness.HOMES)
    @pytest.mark.skip(reason=harness.MISSING)
    def test_cpython(class_name: str, start_method: str) -> None:
        """Stands for a class of CPython's that this interpreter does not have."""

else:
    for _start_method in START_METHODS:
        for _class_name in harness.HOMES:
            cases[_start_method].append(
                harness.bound_class(suite, _class_name, ProcessPoolExecutor, _start_method, module=__name__)
            )
    # pytest collects them here, and workers import them from here.
    globals().update({case.__name__: case for bound in cases.values() for case in bound})

needs_the_suite = pytest.mark.skipif(suite is None, reason=harness.MISSING)


@needs_the_suite
@pytest.mark.parametrize("start_method", START_METHODS)
def test_every_executor_test_of_cpython_is_here(start_method: str) -> None:
    """None of CPython's tests is missing from this module, and all of them are bound to our executor."""
    assert suite is not None
    here = [name for case in cases[start_method] for name in names_of_tests(case)]
    theirs = [name for class_name in harness.HOMES for name in names_of_tests(suite.mixin(class_name))]

    assert theirs == here
    assert len(here) > 30
    for case in cases[start_method]:
        assert case is globals()[case.__name__]
        assert vars(case)["executor_type"] is ProcessPoolExecutor


@needs_the_suite
def test_what_is_left_out_has_a_reason_and_no_class_is_left_out_whole() -> None:
    left_out = {**harness.LEFT_OUT, **{test: why for (_, test), why in harness.LEFT_OUT_OF.items()}}

    assert len(harness.LEFT_OUT) <= 10
    assert {test.partition(".")[0] for test in left_out} < set(harness.HOMES)
    assert all(left_out.values())


class BackwardsExecutor(concurrent.futures.ThreadPoolExecutor):
    """An executor with one fault: ``map`` answers in the wrong order."""

    def __init__(self, max_workers: int, mp_context: object = None) -> None:
        super().__init__(max_workers)

    def map(self, *args: Any, **kwargs: Any) -> Any:
        """The right results, last first."""
        return iter(list(super().map(*args, **kwargs))[::-1])


@needs_the_suite
def test_the_harness_notices_a_faulty_executor() -> None:
    """With an executor whose map is wrong, the test of map fails and that of submit does not."""
    assert suite is not None
    case = harness.bound_class(suite, "ProcessPoolExecutorTest", BackwardsExecutor, "fork", module=__name__)
    result = unittest.TestResult()

    unittest.TestSuite([case("test_submit"), case("test_map")]).run(result)

    assert result.testsRun == 2
    assert not result.errors
    assert [f"{case.__module__}.{case.__name__}.test_map"] == [test.id() for test, _ in result.failures]


@needs_the_suite
def test_the_harness_puts_things_back() -> None:
    """After a class of CPython's, ``concurrent.futures`` is as it was."""
    assert suite is not None
    stock: Any = concurrent.futures.ProcessPoolExecutor

    with harness.standing_in(suite, BackwardsExecutor):
        assert vars(concurrent.futures)["ProcessPoolExecutor"] is BackwardsExecutor

    assert concurrent.futures.ProcessPoolExecutor is stock
