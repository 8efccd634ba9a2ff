"""Which functions get their worker's ``state``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Self

import pytest

from forkful._core.injection import asks_for_state, with_state


def asking(item: int, *, state: dict[str, Any]) -> tuple[int, Any]:
    return item, state


def asking_beside_others(
    item: int, /, *more: int, other: int = 0, state: dict[str, Any], **kwds: Any
) -> tuple[int, Any]:
    return item, state


def with_default(item: int, *, state: Any = "CA") -> tuple[int, Any]:
    return item, state


def with_position(item: int, state: Any = None) -> tuple[int, Any]:
    return item, state


def with_anything(item: int, **kwds: Any) -> tuple[int, Any]:
    return item, kwds


def with_local(item: int, *, other: int = 0) -> tuple[int, Any]:
    state = other
    return item, state


def passing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwds: Any) -> Any:
        return function(*args, **kwds)

    return wrapper


def keeping_back(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(item: int) -> Any:
        return function(item, state="its own")

    return wrapper


def taking_for_itself(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(item: int, state: Any = None, **kwds: Any) -> Any:
        return function(item, state=state, **kwds)

    return wrapper


class Asking:
    def __init__(self, *, state: Any = None) -> None:
        self.state = state

    def __call__(self, item: int, *, state: Any) -> tuple[int, Any]:
        return item, state

    def method(self, item: int, *, state: Any) -> tuple[int, Any]:
        return item, state

    @classmethod
    def of_class(cls, item: int, *, state: Any) -> tuple[int, Any]:
        return item, state

    @staticmethod
    def of_none(item: int, *, state: Any) -> tuple[int, Any]:
        return item, state


class Made(tuple[int, Any]):
    __slots__ = ()

    def __new__(cls, item: int, *, state: Any) -> Self:
        return super().__new__(cls, (item, state))

    def __init__(self, item: int, *, state: Any) -> None:
        pass


class Secretive:
    """Raises for whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __call__(self, item: int) -> int:
        return item


def kind_of(function: object) -> str:
    """Names a case of a test, without a look at its attributes."""
    return type(function).__name__


ASKING = [
    asking,
    asking_beside_others,
    functools.partial(asking),
    functools.partial(functools.partial(asking_beside_others, other=1), more=2),
    passing_on(asking),
    passing_on(passing_on(asking)),
    functools.partial(passing_on(asking)),
    Asking(),
    Asking().method,
    Asking.of_class,
    Asking.of_none,
    Made,
    passing_on(Asking().method),
]


@pytest.mark.parametrize("function", ASKING, ids=kind_of)
def test_who_asks_gets(function: Callable[..., Any]) -> None:
    """As a keyword; a caller's own goes before it."""
    state: dict[str, Any] = {"n": 1}
    assert asks_for_state(function)
    item, given = with_state(function, state)(7)
    assert (item, given is state) == (7, True)
    assert with_state(function, state)(7, state="mine") == (7, "mine")


@pytest.mark.parametrize(
    "function",
    [
        with_default,
        with_position,
        with_anything,
        with_local,
        functools.partial(asking, state={"its": "own"}),
        keeping_back(asking),
        taking_for_itself(asking),
        passing_on(with_default),
        Asking,
        Secretive(),
        len,
        int,
        str.upper,
        "".join,
        dict,
        functools.lru_cache(asking),
    ],
    ids=kind_of,
)
def test_who_does_not_ask_is_left_alone(function: Callable[..., Any]) -> None:
    """The very same function is called."""
    assert not asks_for_state(function)
    assert with_state(function, {}) is function


def test_circle_of_wrappers() -> None:
    """Whoever wraps himself asks for nothing."""
    function = passing_on(with_anything)
    function.__wrapped__ = function  # type: ignore[attr-defined]
    assert not asks_for_state(function)
