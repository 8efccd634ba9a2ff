"""Log records of a worker go to its master, whose process has the handlers.  Everything here runs in the child.

``logging`` itself is imported only when something in the worker asks for it: a new interpreter is spared its 8 ms.  Then
every logger's records are sent up as they are logged, and what handles them there is the parent's affair: its levels, its
filters, its handlers.  The worker knows the parent's levels as of its own start, so that what nobody wants is not sent.

Handlers that a fork has copied, or that running the parent's script and importing its modules has set up again, are the
parent's: they are not run here, or there would be each line twice.  Those that the initializer or a task adds are run,
and the record says where they have written to, so that the parent does not write it to the same place once more.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

Send = Callable[[bytes], None]
Place = tuple[int, int]  # of a file: device and number

# multiprocessing's own logger has a switch and a handler of its own, which each of its children sets up.
_LEFT_ALONE = "multiprocessing"
_PLAIN = {str, int, float, bool, complex, bytes, type(None)}
_SEPARATE = {"args", "exc_info", "exc_text", "msg", "stack_info"}

_forwarder: Any = None  # of this process, once it has logging
_own = threading.local()  # .packing: this thread is in `_pack`, where user code may log


def install(send: Send, settings: dict[str, Any] | None, *, inherited: bool) -> None:
    """From now on, send each record by *send*.

    Args:
        settings: what `logbook.settings` has told of the parent.
        inherited: this process is a copy of the parent, handlers and levels included.
    """
    if settings is not None and settings["warnings"] and not inherited:
        _capture_warnings()
    if "logging" in sys.modules:
        _adapt(send, settings, inherited=inherited)
    else:
        sys.meta_path.insert(0, _Watch(send, settings))


def _adapt(send: Send, settings: dict[str, Any] | None, *, inherited: bool) -> None:
    global _forwarder
    logging = sys.modules["logging"]
    forwarder = Forwarder(send, logging)
    if inherited:
        forwarder.set_aside(lambda _: [])
    elif settings is not None:
        for name, level in settings["levels"].items():
            logging.getLogger(name).setLevel(level)
        logging.disable(settings["disabled"])
    if _forwarder is None:
        _divert(logging.Logger)
        _divert_basic(logging)
    _forwarder = forwarder


def disown() -> None:
    """In a copy of the worker that a task has forked: it is as if there were no worker."""
    if _forwarder is not None:
        _forwarder.stop()


def _divert(logger_class: Any) -> None:
    original = logger_class.callHandlers

    def call_handlers(self: Any, record: Any) -> None:
        forwarder = _forwarder
        if forwarder.stopped or self.name == _LEFT_ALONE or getattr(_own, "packing", False):
            original(self, record)
        else:
            forwarder.handle(self, record)

    logger_class.callHandlers = call_handlers


def _divert_basic(logging: Any) -> None:
    """``logging.info()`` and its like, and so many a program, call it to have at least one handler: the parent may have."""
    original = logging.basicConfig

    def basic_config(**options: Any) -> None:
        forwarder = _forwarder
        if options or forwarder.stopped:
            original(**options)
        else:
            forwarder.basic = True

    logging.basicConfig = basic_config


class Forwarder:
    """Takes the records of every logger of this process."""

    def __init__(self, send: Send, logging: Any) -> None:
        self._send = send
        self._logging = logging
        self.stopped = False
        self.basic = False  # the parent should have a handler, if it has none
        self._aside: list[tuple[Any, list[Any]]] = []  # kept: a handler that is collected may write something yet

    def handle(self, logger: Any, record: Any) -> None:
        """What ``Logger.callHandlers`` does, for the handlers of both processes."""
        handlers = list(_handlers_of(logger, record.levelno))
        content: bytes | None = None
        if not any(map(_is_queue_to_elsewhere, handlers)):  # else this program sees to it itself
            try:
                _own.packing = True
                content = pack(record, tuple(_places(handlers)), self._logging, basic=self.basic)
            except RecursionError:
                raise
            except Exception:  # in a __str__ of the user's: logging's own way to say that
                self._logging.Handler().handleError(record)
            finally:
                _own.packing = False
        # Before the handlers of our own, which could have the process end; but packed before they change the record.
        if content is not None:
            self._send(content)
        for handler in handlers:
            handler.handle(record)

    def set_aside(self, keep: Callable[[Any], list[Any]]) -> None:
        """Have no handler run but those that *keep* gives for each logger."""
        for logger in _loggers(self._logging):
            handlers = keep(logger)
            if logger.handlers != handlers:
                self._aside.append((logger, logger.handlers))
                logger.handlers = handlers

    def stop(self) -> None:
        """Forward nothing any more, and put the handlers back."""
        self.stopped = True
        for logger, handlers in reversed(self._aside):
            logger.handlers = [*handlers, *(handler for handler in logger.handlers if handler not in handlers)]
        self._aside.clear()


def _loggers(logging: Any) -> list[Any]:
    named = (logger for name, logger in list(logging.root.manager.loggerDict.items()) if name != _LEFT_ALONE)
    return [logger for logger in (logging.root, *named) if hasattr(logger, "handlers")]


def _handlers_of(logger: Any, level: int) -> Iterator[Any]:
    while logger:
        for handler in logger.handlers:
            if level >= handler.level:
                yield handler
        logger = logger.parent if logger.propagate else None


def _is_queue_to_elsewhere(handler: Any) -> bool:
    """Whether it is a ``QueueHandler`` whose other end is in another process: the recipe of the logging cookbook."""
    handlers = sys.modules.get("logging.handlers")
    if handlers is None or not isinstance(handler, handlers.QueueHandler):
        return False
    return type(handler.queue).__module__.startswith("multiprocessing.")


def _places(handlers: list[Any]) -> Iterator[Place]:
    for handler in handlers:
        place = place_of(handler)
        if place is not None:
            yield place


def place_of(handler: Any) -> Place | None:
    """Where a ``StreamHandler`` writes to, where that is a file, a pipe or a terminal."""
    try:
        found = os.fstat(handler.stream.fileno())
    except Exception:  # it has none, or one of the user's that is none of these
        return None
    return found.st_dev, found.st_ino


# Records.


def pack(record: Any, places: tuple[Place, ...], logging: Any, *, basic: bool) -> bytes:
    """A record as bytes that need nothing of the user's to be read: what does is in bytes of its own.

    Raises:
        whatever the message's arguments raise as they are put into it.
    """
    message, args = record.msg, record.args
    if type(message) is not str or not _is_plain(args):
        message, args = record.getMessage(), None
    text = record.exc_text
    if record.exc_info and not text:
        text = logging.Formatter().formatException(record.exc_info)
    fields: dict[str, Any] = {"msg": message, "args": args, "exc_text": text, "stack_info": record.stack_info}
    extras: dict[str, bytes] = {}
    for name, value in list(record.__dict__.items()):
        if name in _SEPARATE:
            continue
        if _is_plain(value):
            fields[name] = value
            continue
        with contextlib.suppress(Exception):  # what cannot be pickled stays here
            extras[name] = pickle.dumps(value, 5)
    return pickle.dumps((fields, extras, places, basic), 5)


def _is_plain(value: Any, depth: int = 3) -> bool:
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind in {tuple, list} and depth:
        return all(_is_plain(part, depth - 1) for part in value)
    if kind is dict and depth:
        return all(_is_plain(part, depth - 1) for pair in value.items() for part in pair)
    return False


# What belongs to the parent.


@contextlib.contextmanager
def without_new_handlers() -> Iterator[None]:
    """Handlers that modules set up as they are imported inside are the parent's, which has imported them too."""
    before: dict[Any, list[Any]] = {}
    if _forwarder is not None:
        before = {logger: list(logger.handlers) for logger in _loggers(_forwarder._logging) if logger.handlers}
    try:
        yield
    finally:
        if _forwarder is not None and not _forwarder.stopped:
            _forwarder.set_aside(lambda logger: [each for each in before.get(logger, ()) if each in logger.handlers])


def _capture_warnings() -> None:
    """What ``logging.captureWarnings(True)`` does, without ``logging`` as long as nobody warns."""
    import warnings

    original = warnings.showwarning

    def show(*args: Any, **kwargs: Any) -> None:
        import logging

        if warnings.showwarning is show:
            warnings.showwarning = original
            logging.captureWarnings(True)
        warnings.showwarning(*args, **kwargs)

    warnings.showwarning = show


class _Watch:
    """Stands in front of the finders of modules, to be there when ``logging`` is imported.

    It stays: another thread may be going through ``sys.meta_path``.
    """

    def __init__(self, send: Send, settings: dict[str, Any] | None) -> None:
        self._send = send
        self._settings = settings

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """What the import system asks."""
        if name != "logging":
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                self._follow(spec.loader)
                return spec
        return None

    def _follow(self, loader: Any) -> None:
        if loader is None or isinstance(loader, type):  # of a frozen program
            return
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            del loader.exec_module
            execute(module)
            _adapt(self._send, self._settings, inherited=False)

        loader.exec_module = exec_module
