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

from .stage import Staged, with_import

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
        ours = OUR_IMPORT.format(start_method=start_method)
        patch.setattr(
            script_helper, "assert_python_ok", with_import(script_helper.assert_python_ok, STOCK_IMPORT, ours)
        )
        multiprocessing.set_start_method(start_method, force=True)
        try:
            yield
        finally:
            multiprocessing.set_start_method(before, force=True)


class _Bound(Staged):
    """While its tests run, ``multiprocessing.Pool`` is `Pool`."""

    Pool: PoolFactory
    start_method: str

    @classmethod
    def stage(cls) -> contextlib.AbstractContextManager[None]:
        return standing_in(cls.Pool, cls.start_method)


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
        "support": suite.support,
        "Pool": staticmethod(functools.partial(pool, context=start_method)),
        "start_method": start_method,
    }
    for left_out, reason in LEFT_OUT.items():
        if left_out.startswith(f"{class_name}."):
            body[left_out.removeprefix(f"{class_name}.")] = unittest.skip(reason)(lambda self: None)
    return type(name, bases, body)
