"""Binds CPython's pool tests to another Pool.

Nothing of CPython is copied: the test classes are imported from the interpreter's ``test`` package, subclassed as
``install_tests_in_module_dict`` of that package does it, and run while ``multiprocessing.Pool`` is ours.  That is the
promise under test: only the import changes.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import multiprocessing
import sys
import unittest
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

START_METHODS = ("fork", "forkserver", "spawn")
POOL_CLASSES = ("_TestPool", "_TestPoolWorkerErrors", "_TestPoolWorkerLifetime", "TestInitializers")

# Every test that is not run, "Class.test" -> why.  The list may have five entries; none is the aim.
LEFT_OUT: dict[str, str] = {}

MISSING = (
    "this Python was installed without its `test` package "
    f"(Debian: install libpython{sys.version_info.major}.{sys.version_info.minor}-testsuite)"
)

# CPython's one test that starts a program of its own writes this line; ours is put in its place.
STOCK_IMPORT = "from multiprocessing import Pool"
OUR_IMPORT = "import forkful, functools; Pool = functools.partial(forkful.Pool, context={start_method!r})"

PoolFactory = Callable[..., Any]


def cpython_suite() -> ModuleType | None:
    """The interpreter's multiprocessing tests, None when they are not installed."""
    try:
        return importlib.import_module("test._test_multiprocessing")
    except ModuleNotFoundError:
        return None


@contextlib.contextmanager
def standing_in(pool: PoolFactory, start_method: str) -> Iterator[None]:
    """While this lasts, ``multiprocessing.Pool`` is *pool* and everything starts with *start_method*."""
    script_helper = importlib.import_module("test.support.script_helper")
    before = multiprocessing.get_start_method(allow_none=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "Pool", pool)
        patch.setattr(script_helper, "assert_python_ok", _with_our_import(script_helper.assert_python_ok, start_method))
        multiprocessing.set_start_method(start_method, force=True)
        try:
            yield
        finally:
            multiprocessing.set_start_method(before, force=True)


def _with_our_import(run: Callable[..., Any], start_method: str) -> Callable[..., Any]:
    """*run* for a program given as text, in which only the import of Pool is changed."""

    def run_rewritten(option: str, program: str, **environment: str) -> Any:
        assert program.count(STOCK_IMPORT) == 1, f"no line {STOCK_IMPORT!r} to change in: {program}"
        return run(option, program.replace(STOCK_IMPORT, OUR_IMPORT.format(start_method=start_method)), **environment)

    return run_rewritten


if TYPE_CHECKING:
    _Mixin = unittest.TestCase
else:  # the classes of CPython's bring TestCase along, behind this one
    _Mixin = object


class _Bound(_Mixin):
    """Put before a class of CPython's: sets the stage for it, and checks that it left nothing on it."""

    suite: ModuleType
    Pool: PoolFactory
    start_method: str

    @classmethod
    def setUpClass(cls) -> None:
        cls.enterClassContext(standing_in(cls.Pool, cls.start_method))
        super().setUpClass()

    @classmethod
    def tearDownClass(cls) -> None:
        # CPython's mixin prints what processes and threads are left and sets this flag; here they are an error.
        cls.suite.support.environment_altered = False
        super().tearDownClass()
        assert not cls.suite.support.environment_altered, "processes or threads were left behind (see stderr)"


def bound_class(
    suite: ModuleType, class_name: str, pool: PoolFactory, start_method: str, *, module: str
) -> type[unittest.TestCase]:
    """CPython's *class_name* with *pool* in place of its Pool, as a class that *module* exports under its own name.

    The name matters: some tests send methods of their class to the workers, which import them from *module*.
    """
    base = getattr(suite, class_name)
    bases: tuple[type, ...] = (_Bound, base)
    if not issubclass(base, unittest.TestCase):
        bases += (suite.ProcessesMixin, unittest.TestCase)
    name = f"{start_method}_{class_name.lstrip('_')}"
    body: dict[str, Any] = {
        "__module__": module,
        "__doc__": f"CPython's {class_name} with the start method {start_method}.",
        "suite": suite,
        "Pool": staticmethod(functools.partial(pool, context=start_method)),
        "start_method": start_method,
    }
    for left_out, reason in LEFT_OUT.items():
        if left_out.startswith(f"{class_name}."):
            body[left_out.removeprefix(f"{class_name}.")] = unittest.skip(reason)(lambda self: None)
    return type(name, bases, body)


def test_names(case: type) -> list[str]:
    """The tests of a class, in the order in which unittest runs them."""
    return sorted(name for name in dir(case) if name.startswith("test_") and callable(getattr(case, name)))
