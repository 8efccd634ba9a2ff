"""Which exceptions are worth another attempt: names that users write, looked up before anything is started."""

from __future__ import annotations

import builtins
import contextlib
import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

from forkful.apps.functions import FunctionRef
from forkful.apps.problems import UsageProblem

__all__ = ["find_exceptions", "names_of"]


def names_of(kind: type[BaseException]) -> tuple[str, str, str]:
    """The names that a class of exceptions is known by."""
    return kind.__name__, kind.__qualname__, f"{kind.__module__}.{kind.__qualname__}"


def find_exceptions(names: Sequence[str], function: FunctionRef | Callable[..., Any]) -> tuple[str, ...]:
    """*names*, and the full names of what they stand for: builtins, what *function*'s module knows, or can be imported.

    Raises `UsageProblem` for one that stands for nothing: it would never match.
    """
    modules = _modules_of(function)
    found: dict[str, None] = {}
    for name in names:
        if not isinstance(name, str) or not name:
            raise UsageProblem(f"--retry-on: an exception has no name but {name!r}; write one such as OSError")
        kinds = _find(name, modules)
        if not kinds:
            raise UsageProblem(f"--retry-on: {name!r} is no exception that is known here; {_suggest(name)}")
        found[name] = None
        found.update(dict.fromkeys(names_of(kind)[2] for kind in kinds))
    return tuple(found)


def _modules_of(function: FunctionRef | Callable[..., Any]) -> list[ModuleType]:
    modules = [builtins]
    if isinstance(function, FunctionRef):
        modules.append(function.import_module())
        function = function.load()
    own = sys.modules.get(getattr(inspect.unwrap(function), "__module__", None) or "")
    return modules if own is None else [*modules, own]


def _find(name: str, modules: Sequence[ModuleType]) -> list[type[BaseException]]:
    parts = name.split(".")
    others: list[Any] = []
    for found in (*(_look_up(module, parts) for module in modules), _import(parts)):
        if isinstance(found, type) and issubclass(found, BaseException):
            return [found]
        others += [] if found is None else [found]
    known = [kind for kind in _subclasses(BaseException) if name in names_of(kind)]
    if others and not known:
        what = type(others[0]).__name__
        raise UsageProblem(f"--retry-on: {name!r} is no exception, but a {what}; name one such as OSError")
    return known


def _look_up(found: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        found = getattr(found, part, None)
    return found


def _import(parts: Sequence[str]) -> Any:
    """What stands under a full name; None if nothing does."""
    for end in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:end])
        try:
            with contextlib.redirect_stdout(sys.stderr):
                module = importlib.import_module(name)
        except (ImportError, ValueError):  # no such module, or an empty name
            continue
        except Exception as error:
            problem = f"{type(error).__name__}: {error}".rstrip(": ")
            raise UsageProblem(f"--retry-on: cannot import {name}: {problem}; mend it") from error
        return _look_up(module, parts[end:])
    return None


def _subclasses(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    """*kind*, and all that derives from it in this process."""
    todo, seen = [kind], {kind}
    while todo:
        one = todo.pop()
        yield one
        more = [each for each in type.__subclasses__(one) if each not in seen]
        seen.update(more)
        todo += more


def _suggest(name: str) -> str:
    known = {kind.__name__ for kind in _subclasses(BaseException)}
    close = difflib.get_close_matches(name.rpartition(".")[2], sorted(known), n=3)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return "write its full name, as in json.JSONDecodeError"
