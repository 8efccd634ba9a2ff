"""Functions of ``__main__`` that came by value: made in a worker, as `portable` has packed them.

Such a function has globals of its own: the functions, modules and constants that it reaches, and nothing else.
"""

from __future__ import annotations

import builtins
import importlib
import io
import marshal
import pickle
import sys
import types
from typing import Any

any_planted = False  # in this process

# What crosses: the function's name; code, defaults, keyword defaults, annotations and docstring of it and of those that
# it calls, by name; other globals, by name; modules by the name they have here; modules that the script imports; the
# namespace's own __name__ and __package__.
Packed = tuple[
    str,
    dict[str, tuple[bytes, Any, Any, Any, Any]],
    dict[str, Any],
    dict[str, str],
    tuple[str, ...],
    tuple[str, str | None],
]


def plant(packed: bytes) -> Any:
    """The function that `portable.pack` has packed.

    Raises:
        whatever importing what it uses raises.
    """
    global any_planted
    contents: Packed = pickle.loads(packed)
    name, functions, values, modules, imports, (own_name, package) = contents
    namespace: dict[str, Any] = {"__builtins__": builtins, "__name__": own_name, "__package__": package, **values}
    for module in imports:
        importlib.import_module(module)
    for alias, module in modules.items():
        namespace[alias] = importlib.import_module(module)
    for alias, (code, defaults, kwdefaults, hints, doc) in functions.items():
        function = types.FunctionType(marshal.loads(code), namespace, alias, defaults)  # noqa: S302  # from our own parent
        function.__kwdefaults__ = kwdefaults
        function.__annotations__ = hints
        function.__doc__ = doc
        function.__module__ = own_name
        namespace[alias] = function
    any_planted = True
    return namespace[name]


class _Pickler(pickle.Pickler):
    """For results: a planted function is, to the parent, the one of its ``__main__`` that has this name."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is types.FunctionType and obj.__module__ == "__main__" and obj.__qualname__.isidentifier():
            return find_in_main, (obj.__qualname__,)
        return NotImplemented


def encode(value: Any) -> bytes:
    """Pickle a result in which there may be planted functions."""
    buffer = io.BytesIO()
    _Pickler(buffer, 5).dump(value)
    return buffer.getvalue()


def find_in_main(name: str) -> Any:
    """What the function *name* of ``__main__``, that has come back as a result, is in this process."""
    return getattr(sys.modules["__main__"], name)
