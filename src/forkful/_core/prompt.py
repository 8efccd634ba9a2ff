"""An initializer of a ``__main__`` that no worker can import: at a prompt, in a notebook, under ``python -c``.

What is defined there goes by value, and what goes by value has globals of its own: nobody would see what such an
initializer sets.  So with one, it and the functions of the tasks have the worker's ``__main__`` for their globals, and
those functions come without what is the initializer's to make: the variables that it reaches.
"""

from __future__ import annotations

import collections
import functools
import io
import sys
import types
from multiprocessing import reduction
from typing import Any

import cloudpickle

from . import codec, portable

_forking: Any = reduction.ForkingPickler


class _Namespace(dict[str, Any]):
    """In a pickle, the globals of ``__main__``: those of whoever reads it."""

    def __reduce__(self) -> Any:
        return main_globals, ()


def main_globals() -> dict[str, Any]:
    """Of this process."""
    return vars(sys.modules["__main__"])


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """By value, into the worker's ``__main__``; *without* the values of these names."""

    def __init__(self, buffer: io.BytesIO, without: frozenset[str]) -> None:
        # What a starting child is given: connections and sockets.  As they are known by now: `handing` has another table.
        self.dispatch_table = collections.ChainMap(_forking._extra_reducers, cloudpickle.Pickler.dispatch_table)
        super().__init__(buffer, codec.PROTOCOL)
        self._main = main_globals()
        self._without = without
        self.globals_ref[id(self._main)] = _Namespace(__name__="__main__")  # not empty: then cloudpickle would fill it

    def reducer_override(self, obj: Any) -> Any:
        reduced = super().reducer_override(obj)
        if isinstance(reduced, tuple) and type(obj) is types.FunctionType and obj.__globals__ is self._main:
            found = reduced[2][1]["__globals__"]  # (make it, of this, with (its attributes, what else it has), ...)
            for name in self._without.intersection(found):
                del found[name]
        return reduced


def dumps(value: Any, without: frozenset[str] = frozenset()) -> bytes:
    """Pickle *value*, functions of ``__main__`` without the values of some global names.

    Raises:
        whatever pickling raises.
    """
    buffer = io.BytesIO()
    _Pickler(buffer, without).dump(value)
    return buffer.getvalue()


def reached(initializer: Any) -> frozenset[str] | None:
    """The variables of ``__main__`` that *initializer* may set or change; None where it is not defined there.

    That is, all it uses, and the functions of ``__main__`` that it uses, but functions, classes and modules.
    """
    namespace = main_globals()
    names: set[str] = set()
    function = _plain(initializer)
    if function is None or function.__globals__ is not namespace:
        return None
    found = [function]
    for function in found:  # grows
        for use, name in portable.uses(function.__code__):
            value = namespace.get(name)
            if isinstance(value, types.FunctionType) and use != portable.Use.STORE:
                if value.__globals__ is namespace and value not in found:
                    found.append(value)
            elif use != portable.Use.IMPORT and not isinstance(value, type | types.ModuleType):
                names.add(name)
    return frozenset(names)


def _plain(function: Any) -> types.FunctionType | None:
    """The function in a partial or method."""
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    return function if isinstance(function, types.FunctionType) else None
