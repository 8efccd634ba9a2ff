"""Where a handler comes from: an object, or a name that each worker imports."""

from __future__ import annotations

import importlib
import importlib.util
import os
import socket
import socketserver
import sys
import traceback
from collections.abc import Callable
from typing import Any

from forkful.errors import ServerError

__all__ = ["Handler", "Source"]

# Where no mistake of a handler's module is.
_OURS, _IMPORTLIB = os.path.dirname(os.path.dirname(__file__)), os.path.dirname(importlib.__file__)

Handler = Callable[[socket.socket, Any], object]
"""What serves a connection: called with the socket and the client's address; the server closes the socket."""


class Source:
    """Where the handler is: the object itself, or ``module:name`` or ``file.py:name``, to be imported in each worker.

    Raises:
        TypeError: it is neither.
        ValueError: the text names none.
    """

    def __init__(self, handler: Handler | type[socketserver.BaseRequestHandler] | str) -> None:
        if isinstance(handler, str):
            module, colon, name = handler.rpartition(":")
            if not (colon and module and name):
                raise ValueError(f"{handler!r} names no handler; write module:name or path/to/file.py:name")
            self._module, self._name = module, name
        elif not callable(handler):
            raise TypeError(f"a handler is a callable, or module:name as text, not {handler!r}")
        self.handler = handler

    def __str__(self) -> str:
        if isinstance(self.handler, str):
            return self.handler
        return getattr(self.handler, "__qualname__", repr(self.handler))

    def load(self) -> Any:
        """The object.  Raises whatever its import raises, and ServerError if it is not there or cannot be called."""
        if not isinstance(self.handler, str):
            return self.handler
        found: Any = _import(self._module)
        for part in self._name.split("."):
            try:
                found = getattr(found, part)
            except AttributeError:
                raise ServerError(
                    f"{self.handler}: there is no {part!r} in {self._module}; check the spelling"
                ) from None
        if not callable(found):
            raise ServerError(f"{self.handler} is {found!r}, which cannot be called; name a function or a class")
        return found

    def explain(self, error: BaseException) -> str:
        """Why it cannot be loaded: one line."""
        if isinstance(error, ServerError):
            return str(error)
        where = ""
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if not frame.filename.startswith((_OURS, "<frozen", _IMPORTLIB)):
                where = f" ({os.path.basename(frame.filename)}, line {frame.lineno})"
                break
        text = str(error).splitlines()
        return f"{self} cannot be loaded: {type(error).__name__}: {text[0] if text else ''}{where}"


def _import(module: str) -> Any:
    if not module.endswith(".py"):
        return importlib.import_module(module)
    path = os.path.abspath(module)
    name = f"forkful_file_{os.path.basename(path).removesuffix('.py')}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not os.path.exists(path):
        raise ServerError(f"there is no file {module}; check the path")
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found  # dataclasses and pickle look here while the module runs
    if (directory := os.path.dirname(path)) not in sys.path:
        sys.path.append(directory)  # what stands beside it can be imported, but hides nothing
    spec.loader.exec_module(found)
    return found
