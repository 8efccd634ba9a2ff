"""How many threads libraries are told to start in a worker."""

from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from forkful._core.inner_threads import VARIABLES, environment, limit

ALL = set(VARIABLES)
FALLING_BACK = {"OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS"}


def test_all_are_told() -> None:
    """Where the user has said nothing."""
    assert environment(3, {"PATH": "/bin"}) == dict.fromkeys(ALL, "3")


def test_what_the_user_has_set_stays() -> None:
    """And travels; so does what libraries would take from another variable that he has set."""
    told = environment(3, {"MKL_NUM_THREADS": "8", "NUMBA_NUM_THREADS": "1"})
    assert told == {**dict.fromkeys(ALL, "3"), "MKL_NUM_THREADS": "8", "NUMBA_NUM_THREADS": "1"}
    told = environment(3, {"OMP_NUM_THREADS": "8", "BLIS_NUM_THREADS": "2"})
    assert told == {
        **dict.fromkeys(ALL - FALLING_BACK, "3"),
        "OMP_NUM_THREADS": "8",
        "BLIS_NUM_THREADS": "2",
    }


class Library:
    """As threadpoolctl shows one."""

    def __init__(self, internal_api: str, num_threads: int) -> None:
        self.internal_api = internal_api
        self.num_threads = num_threads

    def set_num_threads(self, number: int) -> None:
        """Keeps it."""
        self.num_threads = number


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> list[Library]:
    """Some that are loaded, and threadpoolctl that finds them."""
    loaded = [Library("openblas", 8), Library("mkl", 2), Library("openmp", 8), Library("unheard of", 8)]
    control: Any = ModuleType("threadpoolctl")
    control.ThreadpoolController = lambda: SimpleNamespace(lib_controllers=loaded)
    monkeypatch.setitem(sys.modules, "threadpoolctl", control)
    monkeypatch.setitem(sys.modules, "numpy", ModuleType("numpy"))
    monkeypatch.setattr(os, "environ", {})
    return loaded


def numbers(libraries: list[Library]) -> list[int]:
    """Of threads."""
    return [library.num_threads for library in libraries]


def test_libraries_that_are_loaded(libraries: list[Library]) -> None:
    """Get less, never more."""
    limit(environment(3, {}))
    assert numbers(libraries) == [3, 2, 3, 8]
    assert dict.fromkeys(ALL, "3").items() <= os.environ.items()


def test_libraries_that_the_user_has_set(libraries: list[Library]) -> None:
    """By a variable of their own, or by the one they fall back on."""
    limit(environment(1, {"OPENBLAS_NUM_THREADS": "4"}))
    assert numbers(libraries) == [4, 1, 1, 8]
    libraries[0].num_threads = libraries[1].num_threads = libraries[2].num_threads = 8
    limit(environment(1, {"OMP_NUM_THREADS": "6", "MKL_NUM_THREADS": "2,2"}))
    assert numbers(libraries) == [6, 8, 6, 8]


def test_without_threadpoolctl(libraries: list[Library], monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is all there is."""
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    limit(environment(2, {}))
    assert numbers(libraries) == [8, 2, 8, 8]
    assert dict.fromkeys(ALL, "2").items() <= os.environ.items()
