"""What the two harnesses have in common: CPython's test classes on a stage, where one thing is ours."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

START_METHODS = ("fork", "forkserver", "spawn")


def with_import(run: Callable[..., Any], stock: str, ours: str) -> Callable[..., Any]:
    """*run* for a program given as text, in which only the import *stock* is changed, to *ours*."""

    def run_rewritten(option: str, program: str, **environment: str) -> Any:
        assert program.count(stock) == 1, f"no line {stock!r} to change in: {program}"
        return run(option, program.replace(stock, ours), **environment)

    return run_rewritten


if TYPE_CHECKING:
    _Mixin = unittest.TestCase
else:  # the classes of CPython's bring TestCase along, behind this one
    _Mixin = object


class Staged(_Mixin):
    """Put before a class of CPython's: sets the stage for it, and checks that it left nothing on it."""

    support: Any  # the interpreter's `test.support`

    @classmethod
    def stage(cls) -> AbstractContextManager[None]:
        """While this lasts, one thing is ours."""
        raise NotImplementedError

    @classmethod
    def setUpClass(cls) -> None:
        cls.enterClassContext(cls.stage())
        super().setUpClass()

    @classmethod
    def tearDownClass(cls) -> None:
        # CPython's mixins print what processes and threads are left and set this flag; here they are an error.
        cls.support.environment_altered = False
        super().tearDownClass()
        assert not cls.support.environment_altered, "processes or threads were left behind (see stderr)"


def names_of_tests(case: type) -> list[str]:
    """The tests of a class, in the order in which unittest runs them."""
    return sorted(name for name in dir(case) if name.startswith("test_") and callable(getattr(case, name)))
