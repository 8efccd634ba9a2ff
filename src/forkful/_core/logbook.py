"""Log records of workers, in the process that has the handlers.  Runs in the master.

A record is given to the logger of its name, as if it had been logged here: the logger's level is asked again, then its
filters and handlers, and those of the loggers above it.  All of that is user code, and runs like a result that is
delivered: in whichever thread delivers, without the master's lock, in the order in which a worker logged.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from . import codec
from .logs import Place, place_of


def settings() -> dict[str, Any] | None:
    """What a worker that starts now should know of this process's logging; None when it is not in use."""
    logging = sys.modules.get("logging")
    root = getattr(logging, "root", None)
    if logging is None or root is None:
        return None
    levels = {"": root.level}
    for name, logger in list(root.manager.loggerDict.items()):
        level = getattr(logger, "level", 0)
        if level:
            levels[name] = level
    return {
        "levels": levels,
        "disabled": root.manager.disable,
        "warnings": getattr(logging, "_warnings_showwarning", None) is not None,
    }


def handle(content: bytes | memoryview, task: str, pid: int | None) -> None:
    """Have a record handled that worker *pid* has logged during *task*, ``""`` where that was no task.

    What a handler or a filter raises is printed, as ``logging`` does.

    Raises:
        BaseException: what `codec.is_interrupt` says is not of theirs; the record is not tried again.
    """
    try:
        _handle(content, task, pid)
    except BaseException as error:  # others count on this thread
        codec.raise_if_interrupt(error)
        import logging
        import traceback

        if logging.raiseExceptions and sys.stderr is not None:
            traceback.print_exc()


def _handle(content: bytes | memoryview, task: str, pid: int | None) -> None:
    import logging  # late: a program that does not log, and whose tasks do not, is spared it

    fields, extras, places, basic = codec.loads(content)
    for name, blob in extras.items():
        with contextlib.suppress(Exception):  # a class of the user's that cannot be rebuilt here
            fields[name] = codec.loads(blob)
    fields.setdefault("task", task)  # of its own where the user has an attribute of that name, or in a pool of a task's
    fields.setdefault("worker", pid)
    if basic and not logging.root.handlers:
        logging.basicConfig()
    record = logging.makeLogRecord(fields)
    logger = logging.getLogger(record.name)
    if not logger.isEnabledFor(record.levelno):
        return
    if places:
        _handle_elsewhere(logging, logger, record, set(places))
    else:
        logger.handle(record)


def _handle_elsewhere(logging: Any, logger: Any, record: Any, places: set[Place]) -> None:
    """``Logger.handle`` without the handlers that write to *places*: the worker has written it there itself."""
    passed = not logger.disabled and logger.filter(record)
    if not passed:
        return
    if isinstance(passed, logging.LogRecord):  # since Python 3.12 a filter may put another one in its place
        record = passed
    while logger:
        for handler in logger.handlers:
            if record.levelno >= handler.level and place_of(handler) not in places:
                handler.handle(record)
        logger = logger.parent if logger.propagate else None
