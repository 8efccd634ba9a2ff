"""The submitter's ``contextvars`` in its tasks: collected in the master, set in the worker.

A ``ContextVar`` cannot be pickled.  It is known by the module and the attribute where it is found, so only one at the top
level of a module crosses, and only with a value that pickles; the others are left out in silence.  What a worker's
initializer has set is there as well; the submitter's values go before it.

A task with such variables runs in a context of its own, so that what it sets is forgotten with it.  A program that sets
none pays for one look, and its tasks run as they do under ``multiprocessing``.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any

from . import codec

# Module ("" for __main__), attribute, pickled value, and whether that needs the parent's __main__ to be read: then it is
# kept backwards, or it would be taken for an argument that needs it, and the script be run for its sake.
Variable = tuple[str, str, bytes, bool]

_places: dict[Any, tuple[str, str] | None] = {}  # where each variable is, None for one that is nowhere to be found
_PLACES_MOST = 1000


def collect() -> tuple[Variable, ...]:
    """The variables that are set here, as far as they can travel.

    Raises:
        BaseException: see `codec.is_interrupt`.
    """
    context = copy_context()
    return _pack(context) if context else ()


def _pack(context: Context) -> tuple[Variable, ...]:
    packed = (_pack_one(variable, value) for variable, value in context.items())
    return tuple(one for one in packed if one is not None)


def _pack_one(variable: ContextVar[Any], value: Any) -> Variable | None:
    place = _find(variable)
    if place is None:
        return None
    try:
        blob = codec.dumps(value, codec.PROTOCOL)
    except BaseException as error:  # user code (__reduce__) may raise anything
        codec.raise_if_interrupt(error)
        return None
    of_main = codec.mentions_main(blob)
    return (*place, blob[::-1] if of_main else blob, of_main)


def _find(variable: ContextVar[Any]) -> tuple[str, str] | None:
    """The module and attribute where *variable* is, ``""`` for ``__main__``; all that is loaded is searched once for it."""
    try:
        return _places[variable]
    except KeyError:
        pass
    if len(_places) > _PLACES_MOST:  # of a program that makes them as it goes, which it should not
        _places.clear()
    modules = [(name, module) for name, module in list(sys.modules.items()) if name != "__mp_main__"]
    modules.sort(key=lambda item: item[0] == "__main__")  # last: it imports what is better found elsewhere
    for name, module in modules:
        if isinstance(module, types.ModuleType):
            for attribute, value in list(vars(module).items()):
                if type(value) is ContextVar:
                    _places.setdefault(value, ("" if name == "__main__" else name, attribute))
    return _places.setdefault(variable, None)


# In the worker.

STAND_IN = "_forkful_stand_in"  # an attribute of the module that stands for a __main__ which has not been needed yet


def without_inherited(inherited: Context) -> Context:
    """This thread's context without those of the *inherited* variables that travel, but as they were when it was forked.

    A task gets them from its submitter, who may have unset them by then.  What an initializer has set instead stays, and
    what cannot travel: a fork hands that over, as it does under ``multiprocessing``.
    """
    context = Context()
    for variable, value in copy_context().items():
        if inherited.get(variable, context) is not value or _pack_one(variable, value) is None:
            context.run(variable.set, value)
    return context


def restore(variables: tuple[Variable, ...]) -> Context:
    """This thread's context with *variables*; call what belongs into it with its ``run``."""
    context = copy_context()
    context.run(_set_all, variables)
    return context


def _set_all(variables: tuple[Variable, ...]) -> None:
    main_is_here = not hasattr(sys.modules.get("__main__"), STAND_IN)
    for module, attribute, blob, of_main in variables:
        if (of_main or not module) and not main_is_here:
            continue
        with contextlib.suppress(
            BaseException
        ):  # user code (__setstate__, an import) may raise anything: it is left out
            home = importlib.import_module(module or "__main__")
            variable: ContextVar[Any] = getattr(home, attribute)
            variable.set(codec.loads(blob[::-1] if of_main else blob))


class InContext:
    """A function of a map, called in the context of whoever asked for it, each time in a copy of its own."""

    def __init__(self, function: Callable[..., Any], variables: tuple[Variable, ...]) -> None:
        self.__wrapped__ = function
        self.__qualname__ = codec.describe(function)
        self._variables = variables
        self._context: Context | None = None

    def __reduce__(self) -> Any:
        return InContext, (self.__wrapped__, self._variables)

    def __call__(self, *args: Any) -> Any:
        context = self._context
        if context is None:
            context = self._context = restore(self._variables)
        return context.copy().run(self.__wrapped__, *args)


def with_context(function: Any) -> Any:
    """*function* for a map: as it is, or in the context of the caller."""
    variables = collect()
    return InContext(function, variables) if variables else function
