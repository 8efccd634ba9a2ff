"""The submitter's context variables are those of its tasks."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import forkful
from forkful._core import contexts

from . import context_tasks as tasks
from .test_main_functions import run_script

NOTHING = ("nothing", "nothing")


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    """No test finds the variables of another one."""
    tokens = [(variable, variable.set("nothing")) for variable in (tasks.REQUEST, tasks.OTHER, tasks.Holder.HIDDEN)]
    yield
    for variable, token in tokens:
        variable.reset(token)


WAYS: dict[str, Callable[[Any], list[Any]]] = {
    "apply": lambda pool: [pool.apply(tasks.seen, (1,))],
    "apply_async": lambda pool: [pool.apply_async(tasks.seen, (1,)).get()],
    "map": lambda pool: pool.map(tasks.seen, range(3)),
    "guarded map": lambda pool: pool.map(tasks.seen, range(3), retries=1),
    "starmap": lambda pool: pool.starmap(tasks.seen, [(1, 2)] * 3),
    "imap": lambda pool: list(pool.imap(tasks.seen, range(3))),
    "imap_unordered": lambda pool: list(pool.imap_unordered(tasks.seen, range(3))),
    "outcomes": lambda pool: [outcome.value for outcome in pool.outcomes(tasks.seen, range(3))],
}


@pytest.mark.parametrize("way", WAYS)
def test_visible_in_the_task(way: str, start_method: str) -> None:
    """As they were at the call, for each element; what a task sets is forgotten with it."""
    with forkful.Pool(1, start_method=start_method) as pool:
        for value in ("first", {"a": [1]}):
            tasks.REQUEST.set(value)
            tasks.OTHER.set(None)
            results = WAYS[way](pool)
            assert results == [(value, None)] * len(results)


def test_as_of_the_submission() -> None:
    """What is set, or changed, afterwards is for the next call."""
    value = ["early"]
    tasks.REQUEST.set(value)
    with forkful.Pool(1) as pool:
        lazy = pool.imap(tasks.seen, range(3))
        later = [pool.apply_async(tasks.seen) for _ in range(20)]
        value[0] = "late"
        tasks.OTHER.set("late")
        assert list(lazy) == [(["early"], "nothing")] * 3
        assert [result.get() for result in later] == [(["early"], "nothing")] * 20


def test_of_each_thread_its_own() -> None:
    """And of each asyncio task."""
    seen: dict[str, Any] = {}

    def work(pool: Any, name: str) -> None:
        tasks.REQUEST.set(name)
        seen[name] = pool.apply(tasks.seen)[0]

    async def ask(pool: Any, name: str) -> None:
        tasks.REQUEST.set(name)
        await asyncio.sleep(0)
        work(pool, name)

    async def ask_all(pool: Any) -> None:
        await asyncio.gather(ask(pool, "c"), ask(pool, "d"))

    with forkful.Pool(2) as pool:
        threads = [threading.Thread(target=work, args=(pool, name)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        asyncio.run(ask_all(pool))
    assert seen == {name: name for name in "abcd"}


def test_what_cannot_cross_is_left_out(start_method: str) -> None:
    """A value that cannot be pickled, or rebuilt; a variable that is in no module.  The rest crosses."""
    tasks.Holder.HIDDEN.set("hidden")
    local: contextvars.ContextVar[Any] = contextvars.ContextVar("local")
    local.set(1)
    with forkful.Pool(1, start_method=start_method) as pool:
        pool.apply(abs, (1,))  # under fork, the worker has what is set up to here
        tasks.REQUEST.set("there")
        for value in (threading.Lock(), tasks.Odd(), lambda: 1):
            tasks.OTHER.set(value)
            assert pool.apply(tasks.seen) == ("there", "nothing")
            assert pool.map(tasks.seen, [1]) == [("there", "nothing")]
        assert pool.apply(tasks.hidden) == ("hidden" if start_method == "fork" else "nothing")


@pytest.mark.parametrize("threads", [1, 3])
def test_unset_again(threads: int, start_method: str) -> None:
    """A worker that was forked while they were set does not keep them for whoever has set none."""

    def begin(pool: Any) -> Any:
        tasks.REQUEST.set("of somebody")
        decimal.getcontext().prec = 7
        return pool.apply(tasks.seen)

    with forkful.Pool(1, threads=threads, start_method=start_method) as pool:
        assert contextvars.Context().run(begin, pool) == ("of somebody", "nothing")
        assert contextvars.Context().run(pool.apply, tasks.seen) == ("nothing", "nothing")
    with forkful.Pool(1, threads=threads, start_method=start_method) as pool:
        contextvars.Context().run(begin, pool)
        assert contextvars.Context().run(pool.map, tasks.seen, [1]) == [("nothing", "nothing")]
        assert pool.apply(tasks.precision) == (7 if start_method == "fork" else 28)  # it does not travel


def test_what_the_initializer_has_set(start_method: str) -> None:
    """Is there, unless the submitter has set it too."""
    tasks.REQUEST.set("submitter")
    context = contextvars.Context()
    with forkful.Pool(1, tasks.set_other, ("initializer",), start_method=start_method) as pool:

        def ask() -> Any:
            tasks.REQUEST.set("submitter")
            return pool.apply(tasks.seen), pool.map(tasks.seen, [1])

        assert context.run(ask) == (("submitter", "initializer"), [("submitter", "initializer")])
        tasks.OTHER.set("submitter")
        assert pool.apply(tasks.seen) == ("submitter", "submitter")


def test_in_several_threads(start_method: str) -> None:
    """Of a worker: each task has those of its caller, and those of the initializer."""
    context = contextvars.Context()

    def ask(pool: Any) -> Any:
        tasks.REQUEST.set("submitter")
        return pool.map(tasks.seen, range(8), chunksize=1), pool.apply(tasks.seen)

    with forkful.Pool(1, tasks.set_other, ("initializer",), threads=4, start_method=start_method) as pool:
        assert context.run(ask, pool) == ([("submitter", "initializer")] * 8, ("submitter", "initializer"))


def test_nothing_set() -> None:
    """Then nothing is sent, and the function of a map is not wrapped."""
    empty = contextvars.Context()
    assert empty.run(contexts.collect) == ()
    assert empty.run(contexts.with_context, len) is len

    def ask() -> tuple[int, list[int]]:
        with forkful.Pool(1) as pool:
            return pool.apply(tasks.size), pool.map(tasks.size, [1])

    assert empty.run(ask) == (0, [0])


def test_variables_that_are_nowhere() -> None:
    """Such as that of `decimal`: they cost a search once."""

    def use() -> tuple[Any, ...]:
        decimal.getcontext().prec = 7
        assert len(contextvars.copy_context()) == 1
        return contexts.collect()

    assert contextvars.Context().run(use) == ()


def test_found_where_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the script that has imported it; and one that is dropped again is not kept for ever."""
    import __main__ as main

    monkeypatch.setattr(main, "imported", tasks.REQUEST, raising=False)
    monkeypatch.setattr(contexts, "_places", {})
    monkeypatch.setattr(contexts, "_PLACES_MOST", 3)
    assert contexts._find(tasks.REQUEST) == (tasks.__name__, "REQUEST")
    for _ in range(20):
        assert contexts._find(contextvars.ContextVar("local")) is None
    assert contexts._find(tasks.REQUEST) == (tasks.__name__, "REQUEST")


def test_names_in_errors() -> None:
    """A map's function is called by its own name."""
    tasks.REQUEST.set("there")
    with forkful.Pool(1) as pool, pytest.raises(forkful.ForkfulError, match=r"task seen\[0\]"):
        pool.map(tasks.seen, [threading.Lock()])


OF_MAIN = """
import contextvars, sys
import forkful

class Request:
    def __init__(self, number):
        self.number = number

CURRENT = contextvars.ContextVar("CURRENT", default=None)

def number(_):
    return CURRENT.get() and CURRENT.get().number

def plain(x):
    return x

{guard}
    CURRENT.set(Request(5))
    with forkful.Pool(1, start_method=sys.argv[1]) as pool:
        print(pool.map(plain, [1]), pool.apply(plain, (2,)))
        {more}
"""


def test_variables_of_the_script(start_method: str, tmp_path: Path) -> None:
    """Are there for a function that knows them, and do not have the script run for others."""
    more = "print(pool.map(number, [1]), pool.apply(number, (1,)))"
    text = OF_MAIN.format(guard='if __name__ == "__main__":', more=more)
    assert run_script(text, tmp_path, start_method) == (0, ["[1] 2", "[5] 5"], "")
    text = OF_MAIN.format(guard="if True:", more="")
    assert run_script(text, tmp_path, start_method) == (0, ["[1] 2"], "")
