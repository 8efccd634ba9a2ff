"""Which task is next."""

from __future__ import annotations

from forkful._core.backlog import Backlog
from forkful._core.books import Task, Terms
from forkful._core.messages import CALL

from .bench import Results


def task(name: str, priority: int = 0, function: int = 1) -> Task:
    """A call with a name and a priority."""
    return Task(Results(), Terms(function, name, CALL, priority=priority), b"")


def take(backlog: Backlog) -> str:
    """The name of the next task, which is taken."""
    return backlog.front().popleft().terms.name


def test_first_come_first_served() -> None:
    """Among equals."""
    backlog = Backlog()
    assert not backlog
    assert not backlog.front()
    backlog.extend([task("a"), task("b")])
    backlog.extend([task("c")])
    assert len(backlog) == 3
    assert [take(backlog) for _ in range(3)] == ["a", "b", "c"]
    assert not backlog


def test_the_highest_priority_first() -> None:
    """Whenever it came."""
    backlog = Backlog()
    backlog.extend([task("plain"), task("low", -1), task("high", 5), task("higher", 6), task("high too", 5)])
    assert [one.terms.name for one in backlog] == ["higher", "high", "high too", "plain", "low"]
    assert take(backlog) == "higher"
    backlog.extend([task("highest", 9)])
    assert [take(backlog) for _ in range(5)] == ["highest", "high", "high too", "plain", "low"]


def test_what_was_here_before_goes_in_front() -> None:
    """Of its own priority."""
    backlog = Backlog()
    backlog.extend([task("a"), task("b"), task("high", 1)])
    backlog.put_back(task("again"))
    backlog.put_back(task("urgent again", 1))
    backlog.put_back(task("new kind", 2))
    assert [one.terms.name for one in backlog] == ["new kind", "urgent again", "high", "again", "a", "b"]


def test_how_many_go_before() -> None:
    """Those of a higher or the same priority."""
    backlog = Backlog()
    backlog.extend([task("a"), task("b"), task("high", 1), task("low", -1)])
    assert [backlog.count_before(priority) for priority in (2, 1, 0, -1, -2)] == [0, 1, 3, 4, 4]


def test_take_all() -> None:
    """In the order in which they would have gone."""
    backlog = Backlog()
    backlog.extend([task("a"), task("high", 1)])
    assert [one.terms.name for one in backlog.take_all()] == ["high", "a"]
    assert not backlog
    backlog.extend([task("b")])
    assert take(backlog) == "b"


def test_functions_that_cannot_be_run_now() -> None:
    """Others go before them, in the order they came; a lower priority too."""
    backlog = Backlog(by_function=True)
    backlog.extend(
        [task("a1", function=1), task("b1", function=2), task("a2", function=1), task("low", -1, function=3)]
    )
    assert backlog.front()[0].terms.name == "a1"
    assert backlog.front({1})[0].terms.name == "b1"
    assert backlog.front({1, 2})[0].terms.name == "low"
    assert not backlog.front({1, 2, 3})
    assert [take(backlog) for _ in range(4)] == ["a1", "b1", "a2", "low"]


def test_many_functions() -> None:
    """Those that are gone take no room."""
    backlog = Backlog(by_function=True)
    for function in range(1000):
        backlog.extend([task(str(function), function=function)])
        assert take(backlog) == str(function)
    assert len(backlog._queues) < 100


def test_functions_take_turns_as_they_came() -> None:
    """What is put back keeps its turn."""
    backlog = Backlog(by_function=True)
    first = task("first", function=2)
    backlog.extend([first, task("second", function=1), task("third", function=2)])
    assert backlog.front().popleft() is first
    backlog.put_back(first)
    assert [take(backlog) for _ in range(3)] == ["first", "second", "third"]
