"""Which functions ask for their worker's ``state``, and how they get it.  Runs in the worker, once for each function.

A function asks with a keyword-only parameter of that name that has no default: ``def f(item, *, state): ...``.  One with
a default has always been complete without us, and is called as ever; so is one whose caller gives ``state`` himself.
"""

from __future__ import annotations

import functools
from types import FunctionType, MethodType
from typing import Any

NAME = "state"

_VARKEYWORDS = 0x08  # of co_flags: it takes **kwargs
_DEPTH = 32  # wrappers around wrappers


def with_state(function: Any, state: dict[str, Any]) -> Any:
    """*function*; with *state* as its keyword argument if it asks for that."""
    # Keywords of a call go before those of a partial: so a caller's own `state` does.
    return functools.partial(function, **{NAME: state}) if asks_for_state(function) else function


def asks_for_state(function: Any) -> bool:
    """Whether *function* must be given ``state`` by whoever calls it.

    Looks through partials, methods, classes, callable objects, and wrappers that pass on keywords they do not know.
    """
    for _ in range(_DEPTH):
        if isinstance(function, FunctionType) or hasattr(type(function), "__code__"):  # the latter: compiled by Cython
            code = function.__code__
            if code.co_kwonlyargcount:
                first = code.co_argcount
                if NAME in code.co_varnames[first : first + code.co_kwonlyargcount]:
                    return NAME not in (function.__kwdefaults__ or ())
            if not code.co_flags & _VARKEYWORDS or NAME in code.co_varnames[: code.co_argcount]:
                return False
            function = function.__dict__.get("__wrapped__")  # set by functools.wraps
        elif isinstance(function, functools.partial):
            if NAME in function.keywords:
                return False
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        else:
            owner, how = (function, "__init__") if isinstance(function, type) else (type(function), "__call__")
            called = getattr(owner, how, None)
            if not isinstance(called, FunctionType):
                return False
            function = called
    return False
