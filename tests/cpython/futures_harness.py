"""Binds CPython's tests of ``ProcessPoolExecutor`` to another executor.

As ``harness.py`` does for its pool tests: nothing of CPython is copied.  The mixins are imported from the interpreter's
``test`` package, put together as ``create_executor_tests`` of that package does it, and run while
``concurrent.futures.ProcessPoolExecutor`` is ours.  That is the promise under test: only the import changes.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib
import pickle
import sys
import time
import types
import unittest
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .stage import Staged, with_import

# CPython's mixins, and where they stand since the tests are a package; before that, all are in one file.
HOMES = {
    "ProcessPoolExecutorTest": "test_process_pool",
    "ProcessPoolShutdownTest": "test_shutdown",
    "InitializerMixin": "test_init",
    "FailingInitializerMixin": "test_init",
    "ExecutorDeadlockTest": "test_deadlock",
    "WaitTests": "test_wait",
    "AsCompletedTests": "test_as_completed",
}
CONTEXTS = {
    "fork": "ProcessPoolForkMixin",
    "forkserver": "ProcessPoolForkserverMixin",
    "spawn": "ProcessPoolSpawnMixin",
}

_COUNTS = "counts the processes started for calls that cannot be pickled: those are refused by submit() and start none"
_INSIDE = "looks at the manager thread and the call queue of ProcessPoolExecutor, which there are none of"

# Every test that is not run, "Class.test" -> why.
LEFT_OUT = {
    "ProcessPoolExecutorTest.test_killed_child": "expects that a crash breaks the executor for ever: ours goes on",
    "ProcessPoolExecutorTest.test_saturation": _COUNTS,
    "ProcessPoolExecutorTest.test_max_tasks_per_child_defaults_to_spawn_context": (
        "expects another start method with max_tasks_per_child, which ours does not need"
    ),
    "ProcessPoolExecutorTest.test_python_finalization_error": "makes a thread of ProcessPoolExecutor's inside fail",
    "ProcessPoolShutdownTest.test_processes_terminate": _COUNTS,
    "ProcessPoolShutdownTest.test_cancel_futures": (
        "expects that shutdown(cancel_futures=True) comes too late for some; ours takes back whatever has not started"
    ),
    "ProcessPoolShutdownTest.test_del_shutdown": _INSIDE,
    "ProcessPoolShutdownTest.test_shutdown_no_wait": _INSIDE,
    "ExecutorDeadlockTest.test_shutdown_deadlock_pickle": _INSIDE,
    "ExecutorDeadlockTest.test_gh105829_should_not_deadlock_if_wakeup_pipe_full": "patches the manager thread",
}
# And of one start method only.
_ONCE = "spends seconds in sleep(), and so is run with forkserver only: what waits is the same"
LEFT_OUT_OF = {
    ("fork", "ProcessPoolExecutorTest.test_max_tasks_per_child"): "expects a refusal; ours can do it with fork too",
    ("fork", "ProcessPoolExecutorTest.test_map_timeout"): _ONCE,
    ("spawn", "ProcessPoolExecutorTest.test_map_timeout"): _ONCE,
    ("fork", "WaitTests.test_first_exception"): _ONCE,
    ("spawn", "WaitTests.test_first_exception"): _ONCE,
}

# Tests of what breaks ProcessPoolExecutor, and is the error of one call with ours: that one is expected instead.
ONE_CALLS_ERROR: dict[str, type[BaseException]] = {
    "test_exit_at_task_unpickle": SystemExit,
    "test_error_at_task_unpickle": pickle.UnpicklingError,
    "test_exit_during_result_pickle_on_worker": pickle.PicklingError,
    "test_error_during_result_unpickle_in_result_handler": pickle.PicklingError,
    "test_exit_during_result_unpickle_in_result_handler": pickle.PicklingError,
}

MISSING = (
    "this Python was installed without its tests of concurrent.futures, as CPython's `make install` of 3.11.5 to 3.12.1 "
    f"does (Debian: install libpython{sys.version_info.major}.{sys.version_info.minor}-testsuite)"
)

# CPython's tests that start a program of their own have this in it; ours is put in its place.
STOCK_IMPORT = "from concurrent.futures import ProcessPoolExecutor"
OUR_IMPORT = "from forkful.futures import ProcessPoolExecutor"

# What one of them looks for in a printed traceback is the name of a class; ours is one of that class.
OUR_NAME, STOCK_NAME = b"forkful.pool._broken.PoolClosed", b"RuntimeError"


class Suite:
    """The interpreter's tests of concurrent.futures, whichever way they are laid out."""

    def __init__(self, package: types.ModuleType) -> None:
        self._package = package
        self.is_package = hasattr(package, "__path__")
        self.util = self._module("util")
        self.support: Any = importlib.import_module("test.support")

    def _module(self, name: str) -> types.ModuleType:
        return importlib.import_module(f"{self._package.__name__}.{name}") if self.is_package else self._package

    def home(self, class_name: str) -> types.ModuleType:
        """The module of a mixin."""
        return self._module(HOMES[class_name])

    def mixin(self, class_name: str) -> Any:
        """One of CPython's mixins of tests."""
        return getattr(self.home(class_name), class_name)


def cpython_suite() -> Suite | None:
    """The interpreter's tests of concurrent.futures, None when they are not installed."""
    try:
        return Suite(importlib.import_module("test.test_concurrent_futures"))
    except ModuleNotFoundError:
        return None


@contextlib.contextmanager
def standing_in(suite: Suite, executor: type) -> Iterator[None]:
    """While this lasts, ``concurrent.futures.ProcessPoolExecutor`` is *executor*."""
    shutdown = suite.home("ProcessPoolShutdownTest")
    brisk = types.SimpleNamespace(**(vars(time) | {"sleep": sleep_briskly}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(concurrent.futures, "ProcessPoolExecutor", executor)
        patch.setattr(shutdown, "assert_python_ok", _with_our_import(vars(shutdown)["assert_python_ok"]))
        for class_name in ("WaitTests", "AsCompletedTests"):
            patch.setattr(suite.home(class_name), "time", brisk)
        yield


def sleep_briskly(seconds: float) -> None:
    """What CPython's tests give to workers in place of ``time.sleep``: a minute less, in all."""
    time.sleep(seconds / 4 if 1 < seconds <= 2 else seconds)


def _with_our_import(run: Callable[..., Any]) -> Callable[..., Any]:
    """*run* for a program given as text, in which only the import of the executor is changed."""
    run_rewritten = with_import(run, STOCK_IMPORT, OUR_IMPORT)

    def run_and_rename(option: str, program: str, **environment: str) -> Any:
        code, out, err = run_rewritten(option, program, **environment)
        return code, out, err.replace(OUR_NAME, STOCK_NAME)

    return run_and_rename


class _Bound(Staged):
    """While its tests run, ``concurrent.futures.ProcessPoolExecutor`` is another; and some errors are milder."""

    suite: Suite
    executor_type: type

    @classmethod
    def stage(cls) -> contextlib.AbstractContextManager[None]:
        return standing_in(cls.suite, cls.executor_type)

    def _check_crash(self, error: type[BaseException], *args: Any, **kwargs: Any) -> None:
        """As CPython's, with the milder error where there is one."""
        base: Any = super()
        base._check_crash(ONE_CALLS_ERROR.get(self._testMethodName, error), *args, **kwargs)

    @contextlib.contextmanager
    def _assert_logged(self, message: str) -> Iterator[None]:
        """CPython's workers log an error of the initializer, because a broken executor does not tell it; ours does."""
        yield
        broken = self.executor._broken  # type: ignore[attr-defined]  # set by CPython's mixin
        assert message.removeprefix("ValueError: ") in broken, broken


def bound_class(
    suite: Suite, class_name: str, executor: type, start_method: str, *, module: str
) -> type[unittest.TestCase]:
    """CPython's *class_name* with *executor* in place of its own, as a class that *module* exports under its own name.

    The name matters: some tests send methods of their class to the workers, which import them from *module*.
    """
    bases = (
        _Bound,
        suite.mixin(class_name),
        getattr(suite.util, CONTEXTS[start_method]),
        suite.util.BaseTestCase,
    )
    name = f"{start_method}_{class_name}"
    body: dict[str, Any] = {
        "__module__": module,
        "__doc__": f"CPython's {class_name} with the start method {start_method}.",
        "suite": suite,
        "support": suite.support,
        "executor_type": executor,
    }
    reasons = LEFT_OUT | {test: why for (method, test), why in LEFT_OUT_OF.items() if method == start_method}
    for left_out, reason in reasons.items():
        test = left_out.removeprefix(f"{class_name}.")
        if test != left_out and hasattr(suite.mixin(class_name), test):
            body[test] = unittest.skip(reason)(lambda self: None)
    return type(name, bases, body)
