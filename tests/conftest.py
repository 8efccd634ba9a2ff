"""Fixtures for every test: nothing may be left behind, and start methods are a parameter."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from unittest import TestCase

import pytest

from .leaks import LeakCheck, is_one_of_several

pytest_plugins = ["pytester"]


def pytest_configure() -> None:
    """Have a process of pytest-xdist's be like one that runs the suite alone.

    Its ``__main__`` is a text on the command line, which no worker can import: functions of it would go by value, and tests
    of what goes by name would not test that.  And in one process group, each would take the other's orphans for its own.
    """
    if is_one_of_several():
        sys.modules["__main__"].__spec__ = importlib.util.find_spec("pytest.__main__")
        os.setpgid(0, 0)


@pytest.fixture(params=["fork", "forkserver", "spawn"])
def start_method(request: pytest.FixtureRequest) -> str:
    """Each way of starting a process in turn."""
    return str(request.param)


@pytest.fixture(autouse=True, scope="session")
def reported_leaks() -> Iterator[set[str]]:
    """At the very end, fail for what was left between the tests, by a module or a session; the rest was reported."""
    check = LeakCheck()
    reported: set[str] = set()
    yield reported
    _judge(check, reported, "the whole run")


@pytest.fixture(autouse=True, scope="class")
def class_leaves_nothing_behind(request: pytest.FixtureRequest, reported_leaks: set[str]) -> Iterator[None]:
    """As below, for a class of unittest as a whole: the pool of its setUpClass starts workers during any of its tests."""
    if not _has_class_resources(request):
        yield
        return
    check = LeakCheck()
    yield
    _judge(check, reported_leaks, "this class")


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest, reported_leaks: set[str]) -> Iterator[None]:
    """Fail a test that leaves a process, a thread, a descriptor or an entry of /dev/shm."""
    if _has_class_resources(request):
        yield
        return
    check = LeakCheck()
    yield
    _judge(check, reported_leaks, "this test")


def _judge(check: LeakCheck, reported: set[str], who: str) -> None:
    if leaks := [line for line in check.leaks() if line not in reported]:
        reported.update(leaks)
        pytest.fail(f"{who} left behind: " + "\n  ".join(leaks), pytrace=False)


def _has_class_resources(request: pytest.FixtureRequest) -> bool:
    return request.cls is not None and issubclass(request.cls, TestCase)
