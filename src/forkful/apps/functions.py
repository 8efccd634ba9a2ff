"""Functions named in text: ``module:function`` or ``path/to/file.py:function``.

`find_function` looks the function up in this process, so that a wrong name is found before any other is started, and
returns a `FunctionRef`: two short strings that any process can turn into the function again.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import importlib.util
import inspect
import os
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from .problems import UsageProblem

__all__ = ["FunctionRef", "check_function", "find_function", "make_directory_importable"]

_FORMS = "write module:function or path/to/file.py:function"


@dataclass(frozen=True, slots=True)
class FunctionRef:
    """Where a function is: hashable, small, and picklable whatever the function is.

    Attributes:
        source: the absolute path of a Python file, or the dotted name of a module.
        attribute: the name inside it; dots reach into classes and objects.
    """

    source: str
    attribute: str

    @property
    def is_file(self) -> bool:
        """Whether `source` is a path."""
        return os.path.isabs(self.source)

    @property
    def file(self) -> str | None:
        """The path of the file that the function's module was imported from in this process; None for a builtin's."""
        if self.is_file:
            return self.source
        return getattr(sys.modules.get(self.source), "__file__", None)

    def import_module(self) -> ModuleType:
        """The module in which the function is looked for.  Raises whatever the import raises."""
        return _import_file(self.source) if self.is_file else importlib.import_module(self.source)

    def load(self) -> Callable[..., Any]:
        """The function; its module is imported at the first call in each process, and kept.

        Raises whatever the import raises, and AttributeError.
        """
        return _load(self)


@functools.cache
def _load(ref: FunctionRef) -> Callable[..., Any]:
    found: Any = ref.import_module()
    for name in ref.attribute.split("."):
        found = getattr(found, name)
    function: Callable[..., Any] = found
    return function


def _import_file(path: str) -> ModuleType:
    """The file as a module: one for each path, so that two functions of one file share its globals."""
    # No other module can have this name: a user's json.py must not become everybody's json.
    name = f"forkful_file_{os.path.basename(path).removesuffix('.py')}_{zlib.crc32(os.fsencode(path)):08x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    if (directory := os.path.dirname(path)) not in sys.path:
        sys.path.append(directory)  # what stands beside it can be imported, but hides nothing
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look here while the module runs
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def make_directory_importable() -> None:
    """Let modules of the working directory be imported; no matter if it has been removed.

    After the standard library, so that a user's token.py does not stand for Python's, which half of that imports; before
    what is installed, so that his utils.py is found and not somebody else's.
    """
    try:
        directory = os.getcwd()
    except FileNotFoundError:
        return
    if directory not in sys.path and "" not in sys.path:
        sys.path.insert(_end_of_standard_library(), directory)


def _end_of_standard_library() -> int:
    """The position in ``sys.path`` of the first directory of installed packages; the end, if there is none."""
    for position, entry in enumerate(sys.path):
        if os.path.basename(entry) in {"site-packages", "dist-packages"}:
            return position
    return len(sys.path)


def find_function(spec: str, *, arguments: int | list[str] | None = 1, stdout_is_taken: bool = True) -> FunctionRef:
    """The reference for *spec*, after a look that the function is there and can be called with so many *arguments*,
    or with those of these names; None: nobody knows with which.

    Modules are imported in this process; what they print while they are goes to standard error when *stdout_is_taken*.
    Raises `UsageProblem`.

    >>> find_function("json:loads")
    FunctionRef(source='json', attribute='loads')
    """
    source, colon, attribute = spec.rpartition(":")
    if not colon or not source or not attribute:
        raise UsageProblem(f"{spec!r} names no function; {_FORMS}")
    if source.endswith(".py") or os.sep in source:
        if not os.path.isfile(source):
            raise UsageProblem(f"{source}: no such file; check the path before the ':' of {spec}")
        source_kept = os.path.abspath(source)
    else:
        source_kept = source
    if not all(part.isidentifier() for part in attribute.split(".")):
        raise UsageProblem(f"{attribute!r} is not the name of a function; {_FORMS}")
    ref = FunctionRef(source_kept, attribute)
    with contextlib.redirect_stdout(sys.stderr) if stdout_is_taken else contextlib.nullcontext():
        found = _find(ref, source)
    check_function(found, f"{source}:{attribute}", arguments=arguments)
    return ref


def _find(ref: FunctionRef, source: str) -> Any:
    """What *ref* names, or a word on why it cannot be had; *source* is how the user wrote its file or module."""
    try:
        module = ref.import_module()
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as error:
        if error.name and (ref.source == error.name or ref.source.startswith(f"{error.name}.")):
            raise UsageProblem(f"no module named {error.name!r}; check the spelling, or {_FORMS}") from error
        raise _broken_import(source, error) from error
    except BaseException as error:  # SystemExit too: an import runs the user's code
        raise _broken_import(source, error) from error
    found: Any = module
    for name in ref.attribute.split("."):
        if not hasattr(found, name):
            raise UsageProblem(f"{source} has no {name!r}; {_suggestion(name, found)}")
        found = getattr(found, name)
    return found


def check_function(found: Any, name: str, *, arguments: int | list[str] | None) -> None:
    """See that a call of *found* with *arguments* does something; calls it *name*.

    *arguments*: how many (0 or 1), or their names; None: nobody knows.

    Raises `UsageProblem`.  What cannot be known is taken: some builtins do not tell their arguments.
    """
    if not callable(found):
        raise UsageProblem(f"{name} is a value of type {type(found).__name__!r}; name a function")
    # Of an object, its __call__ is what runs; of a class, type.__call__, which is neither.
    kinds = (found, type(found).__call__)
    if any(inspect.iscoroutinefunction(kind) or inspect.isasyncgenfunction(kind) for kind in kinds):
        raise UsageProblem(f"{name} is async; name a plain function that calls asyncio.run() on it")
    if any(inspect.isgeneratorfunction(kind) for kind in kinds):
        raise UsageProblem(f"{name} is a generator, and a call of it runs nothing; name a function that returns a list")
    try:
        # Not what a decorator wraps: the wrapper is what is called, and it may add arguments of its own.
        signature = inspect.signature(found, follow_wrapped=False)
    except Exception:  # a builtin that does not tell, or an object that makes trouble
        return
    if arguments is None:
        return
    try:
        if isinstance(arguments, list):
            signature.bind(**dict.fromkeys(arguments))
        else:
            signature.bind(*[None] * arguments)
    except TypeError as error:
        how = "with one argument, the input" if arguments else "without arguments"
        if isinstance(arguments, list):
            how = f"with the columns {', '.join(arguments)}"
        raise UsageProblem(f"{name} cannot be called {how}: {error}; name a function that can") from error


def _broken_import(source: str, error: BaseException) -> UsageProblem:
    run = f"python {source}" if source.endswith(".py") else f"python -c 'import {source}'"
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    return UsageProblem(f"cannot import {source}: {text}; mend it (`{run}` shows where)")


def _suggestion(name: str, found: Any) -> str:
    names = [one for one in dir(found) if not one.startswith("_") and callable(getattr(found, one, None))]
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else "check the name after the ':'"
