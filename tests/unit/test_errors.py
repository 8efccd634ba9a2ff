"""The tree of errors: whole, documented, and able to travel."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle
import re
import signal
from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]  # typeshed has forgotten it
from pathlib import Path
from typing import Any

import pytest

import forkful.errors
from forkful.errors import (
    LOST_CODE,
    LOST_SIGNAL,
    EngineUnavailable,
    ForkfulError,
    InitializerError,
    PoolClosed,
    PoolFull,
    PoolTerminated,
    RemoteError,
    ResultTimeout,
    TaskCancelled,
    TaskError,
    TaskTimeout,
    UnpicklableError,
    WorkerDied,
    advise_start,
    describe_exit,
)

CLASSES: list[type[ForkfulError]] = [getattr(forkful.errors, name) for name in forkful.errors.__all__]
OTHERS: dict[str, type] = {
    "RuntimeError": RuntimeError,
    "builtin TimeoutError": TimeoutError,
    "ValueError": ValueError,
    "TypeError": TypeError,
    "TimeoutError": multiprocessing.TimeoutError,
    "MaybeEncodingError": MaybeEncodingError,
}

FACTS: dict[type[ForkfulError], dict[str, Any]] = {
    TaskError: {"task": "task f", "pid": 7},
    WorkerDied: {"task": "task f", "pid": 7, "exitcode": -9},
    TaskTimeout: {"task": "task f", "pid": 7, "seconds": 1.5},
    TaskCancelled: {"task": "task f", "pid": None},
    RemoteError: {"task": "f", "pid": 7, "type_name": "m.E", "message": "bad", "traceback": "Traceback…"},
    UnpicklableError: {"task": "f", "pid": 7, "exc": "TypeError('no')", "value": "<lock>"},
    InitializerError: {"pid": 7},
}


def documented() -> dict[str, tuple[str, list[str]]]:
    """The tree in the docstring: each class with its parent and the other classes it is."""
    tree: dict[str, tuple[str, list[str]]] = {}
    path: list[tuple[int, str]] = []
    for line in inspect.cleandoc(forkful.errors.__doc__ or "").splitlines():
        match = re.match(r"    ([ │├└─]*)([A-Z]\w+)(?: \(([\w, ]+)\))?(?: {2,}|$)", line)
        if match is None:
            continue
        lead, name, others = match.groups()
        while path and path[-1][0] >= len(lead):
            path.pop()
        tree[name] = (path[-1][1] if path else "", others.split(", ") if others else [])
        path.append((len(lead), name))
    return tree


def test_tree_in_the_docstring_is_the_tree() -> None:
    """Every class at its place, with the other classes that programs may catch it by; and nothing else."""
    actual: dict[str, tuple[str, list[str]]] = {}
    for kind in CLASSES:
        ours = [base.__name__ for base in kind.__bases__ if issubclass(base, ForkfulError)]
        others = [name for base in kind.__bases__ for name, other in OTHERS.items() if base is other]
        actual[kind.__name__] = (ours[0] if ours else "", others)
    assert documented() == actual


def test_every_class_is_public() -> None:
    """What the module defines is what it exports, in order."""
    defined = {
        name
        for name, kind in vars(forkful.errors).items()
        if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__ == forkful.errors.__name__
    }
    assert sorted(defined) == forkful.errors.__all__


def test_every_class_says_what_it_is() -> None:
    """A sentence of its own."""
    for kind in CLASSES:
        assert kind.__doc__
        assert all(kind.__doc__ != base.__doc__ for base in kind.__mro__[1:])


def test_reference_has_every_class() -> None:
    """The page of the documentation too."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"
    named = set(re.findall(r"`(\w+)`", page.read_text()))
    assert {kind.__name__ for kind in CLASSES} - named <= {"ForkfulError"}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_errors_survive_pickling(kind: type[ForkfulError]) -> None:
    """Class, message and attributes; what is unknown stays unknown."""
    facts = FACTS.get(kind, {}) | {"extra": [1]}
    error = pickle.loads(pickle.dumps(kind("what happened; what to do", **facts), 5))
    assert type(error) is kind
    assert str(error) == "what happened; what to do"
    assert error.args == ("what happened; what to do",)
    assert {name: getattr(error, name) for name in facts} == facts
    assert vars(copy.copy(error)) == facts
    assert repr(error) == f"{kind.__name__}('what happened; what to do')"


def test_errors_without_facts() -> None:
    """Attributes that the class documents are there, and say that nothing is known."""
    for kind in CLASSES:
        error = kind()
        assert str(error) == ""
        if isinstance(error, TaskError):
            assert all(getattr(error, name) in ("", None) for name in FACTS[kind])


def test_errors_are_what_programs_catch_today() -> None:
    """The classes of ``multiprocessing`` and of Python, besides the common base."""
    assert issubclass(PoolClosed, ValueError)
    assert issubclass(ResultTimeout, multiprocessing.TimeoutError)
    assert issubclass(TaskTimeout, multiprocessing.TimeoutError)
    assert issubclass(UnpicklableError, MaybeEncodingError)
    assert issubclass(UnpicklableError, TypeError)
    assert not issubclass(ResultTimeout, TaskError)
    for plain in (InitializerError, PoolFull, PoolTerminated, EngineUnavailable):
        assert plain.__bases__ == (ForkfulError,)
    for kind in CLASSES:
        assert issubclass(kind, ForkfulError)


LOST = "had its descriptors closed or broken under it"


def test_advice_for_a_start() -> None:
    """What the initializer did where that is known; else how to find out."""
    assert advise_start(LOST_CODE).startswith("the initializer, or a module that it imports, did that (os.closerange?)")
    assert advise_start(1).startswith("run the initializer and the imports of the task's module by hand")


def test_ends_in_words() -> None:
    """How a process ended."""
    assert describe_exit(None) == "ended, how is not known"
    assert describe_exit(0) == "left with exit code 0"
    assert describe_exit(3) == "left with exit code 3"
    assert describe_exit(-9) == "was killed by SIGKILL"
    assert describe_exit(-11) == "was killed by SIGSEGV"
    assert describe_exit(LOST_CODE) == LOST
    assert describe_exit(-250) == "was killed by signal 250"


@pytest.mark.parametrize(
    ("exitcode", "what", "advice"),
    [
        (-int(signal.SIGKILL), "was killed by SIGKILL", "the kernel ran out of memory: use fewer processes"),
        (-int(signal.SIGSEGV), "was killed by SIGSEGV", "run it alone under `python -X faulthandler`"),
        (1, "left with exit code 1", "raise an exception instead"),
        (0, "left with exit code 0", "raise an exception instead"),
        (LOST_CODE, LOST, "or one before it in that process, did that (os.closerange?): close only what it has opened"),
        pytest.param(
            -int(LOST_SIGNAL),
            LOST,
            "the task, or one before it",
            marks=pytest.mark.skipif(LOST_SIGNAL == signal.SIGKILL, reason="no signal to spare on this system"),
        ),
    ],
)
def test_message_of_a_death(exitcode: int, what: str, advice: str) -> None:
    """The task, the worker, its end, and what to do next."""
    error = WorkerDied.during("task f[3]", 77, exitcode)
    assert str(error).startswith(f"task f[3]: its worker (pid 77) {what}; ")
    assert advice in str(error)
    assert str(error).endswith("; retries=1 runs it again")
    assert (error.task, error.pid, error.exitcode) == ("task f[3]", 77, exitcode)


def test_message_of_a_death_with_a_known_reason() -> None:
    """Then the reason takes the place of the advice."""
    error = WorkerDied.during("task f", 77, -9, "because task g, beside it, ran too long", "task g")
    assert str(error) == (
        "task f: its worker (pid 77) was killed by SIGKILL because task g, beside it, ran too long; retries=1 runs it again"
    )
    assert error.cause == "task g"
    assert str(WorkerDied.during("task f", None, None)).startswith("task f: its worker (pid None) ended, how is not")
