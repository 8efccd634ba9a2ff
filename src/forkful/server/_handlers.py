"""What is done with a connection: the kinds of handler, where they come from, and how each is called."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import socket
import socketserver
import sys
import traceback
from collections.abc import Callable
from typing import Any

from forkful.errors import ServerError

__all__ = ["Handler", "Raw", "Source", "Trade"]

Handler = Callable[[socket.socket, Any], object]
"""What serves a connection: called with the socket and the client's address; the server closes the socket."""

log = logging.getLogger("forkful.server")


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


class Trade:
    """How connections are served.  One object for all workers, which each of them loads after the fork."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def load(self) -> None:
        """In a worker, once: import what is to be called.  Raises whatever that raises."""
        raise NotImplementedError

    def serve(self, conn: socket.socket, address: Any) -> bool:
        """In a seat: serve a connection and close it; whether that failed.  Raises nothing."""
        raise NotImplementedError

    def explain(self, error: BaseException) -> str:
        """Why it cannot be loaded: one line."""
        if isinstance(error, ServerError):
            return str(error)
        where = ""
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if not frame.filename.startswith("<frozen"):
                where = f" ({os.path.basename(frame.filename)}, line {frame.lineno})"
                break
        text = str(error).splitlines()
        return f"{self.source} cannot be loaded: {type(error).__name__}: {text[0] if text else ''}{where}"


class Raw(Trade):
    """``handler(conn, address)``, or a handler class of ``socketserver``."""

    def __init__(self, source: Source, stand_in: Any, io_timeout: float | None) -> None:
        super().__init__(source)
        self._stand_in = stand_in
        self._io_timeout = io_timeout
        self._call: Handler = _not_loaded

    def load(self) -> None:
        found = self.source.load()
        if isinstance(found, type) and issubclass(found, socketserver.BaseRequestHandler):
            if issubclass(found, socketserver.DatagramRequestHandler):
                raise ServerError(f"{self.source} is a handler of datagrams, and the server has connections")
            server = self._stand_in
            server.RequestHandlerClass = found
            self._call = lambda conn, address: found(conn, address, server)
        else:
            self._call = found

    def serve(self, conn: socket.socket, address: Any) -> bool:
        try:
            conn.settimeout(self._io_timeout)
            self._call(conn, address)
        except ConnectionError as error:
            log.info("%s: the client has gone: %s", address, error)
            return True
        except TimeoutError:
            log.info("%s: the client was silent, or read nothing, for %g s", address, self._io_timeout or 0)
            return True
        except BaseException as error:  # also SystemExit: a handler ends its connection, not its worker
            log.error("the handler failed for %s", address, exc_info=error)  # as one line says, of any kind
            return True
        finally:
            _close(conn)
        return False


def _not_loaded(_conn: socket.socket, _address: Any) -> object:
    raise RuntimeError("a handler is called before it is loaded")


def _close(conn: socket.socket) -> None:
    """Close it so that what was sent arrives: the end of our side is told before the descriptor goes."""
    try:
        if conn.fileno() >= 0:  # it has not been given away
            conn.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the client has gone
    finally:
        conn.close()
