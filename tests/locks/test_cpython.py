"""CPython's own tests of locks on ours: imported from the interpreter's ``test`` package, and run as they are."""

from __future__ import annotations

import importlib
import sys
import unittest
from typing import Any

import pytest

from forkful import Lock, RLock, Semaphore

MISSING = (
    "this Python was installed without its `test` package "
    f"(Debian: install libpython{sys.version_info.major}.{sys.version_info.minor}-testsuite)"
)

_PRIVATE = "of threading's own private methods, which a lock between processes has no use for"
_THREADING = "expects threading's arguments, or its refusal of some; ours are those of multiprocessing"
_BOUNDED = "expects that one may release what he does not have: ours is an error, as the contract has it"

# Every test that is not run, and why.
LEFT_OUT = {
    "Locks.test_at_fork_reinit": _PRIVATE,
    "Locks.test_state_after_timeout": _THREADING,
    "Locks.test_timeout": _THREADING,
    "RLocks.test__is_owned": _PRIVATE,
    "RLocks.test_recursion_count": _PRIVATE,
    "RLocks.test_release_save_unacquired": _PRIVATE,
    "RLocks.test_timeout": _THREADING,
    "Semaphores.test_acquire_timeout": _THREADING,
    "Semaphores.test_multirelease": _THREADING,
    "Semaphores.test_repr": "the text of threading's own class",
    "MultiprocessingSemaphores.test_semaphore": _BOUNDED,
}


def _suite(name: str) -> Any:
    try:
        return importlib.import_module(f"test.{name}")
    except ModuleNotFoundError:
        return None


threads, processes = _suite("lock_tests"), _suite("_test_multiprocessing")


if threads is None or processes is None:

    @pytest.mark.skip(reason=MISSING)
    def test_cpython() -> None:
        """Stands for what this interpreter does not have."""

else:

    class Locks(threads.LockTests):  # type: ignore[misc, name-defined]  # what it is, only the interpreter at hand knows
        """Those of ``threading.Lock``."""

        locktype = staticmethod(Lock)

    class RLocks(threads.RLockTests):  # type: ignore[misc, name-defined]  # likewise
        """Those of ``threading.RLock``."""

        locktype = staticmethod(RLock)

    class Semaphores(threads.BoundedSemaphoreTests):  # type: ignore[misc, name-defined]  # likewise
        """Those of ``threading.BoundedSemaphore``."""

        semtype = staticmethod(Semaphore)

    class MultiprocessingLocks(processes._TestLock, unittest.TestCase):  # type: ignore[misc, name-defined]  # likewise
        """Those of ``multiprocessing.Lock`` and ``RLock``."""

        TYPE = "processes"
        Lock = staticmethod(Lock)
        RLock = staticmethod(RLock)

    class MultiprocessingSemaphores(processes._TestSemaphore, unittest.TestCase):  # type: ignore[misc, name-defined]  # likewise
        """Those of ``multiprocessing.BoundedSemaphore``."""

        TYPE = "processes"
        Semaphore = BoundedSemaphore = staticmethod(Semaphore)

    def test_what_is_left_out_exists() -> None:
        """No entry outlives its test, and most tests are run."""
        cases = [Locks, RLocks, Semaphores, MultiprocessingLocks, MultiprocessingSemaphores]
        known = {f"{case.__name__}.{name}" for case in cases for name in dir(case) if name.startswith("test")}
        assert set(LEFT_OUT) <= known
        assert len(known) - len(LEFT_OUT) >= 40

    for _name in LEFT_OUT:
        _case, _, _test = _name.partition(".")
        setattr(globals()[_case], _test, None)
