"""What the tests of logging have workers do."""

from __future__ import annotations

import logging
import logging.handlers
import os
import signal
import sys
import threading
import time
import warnings
from typing import Any, NoReturn

LOG = logging.getLogger("tasks.of.tests")


def say(number: int) -> int:
    """Logs, twice."""
    LOG.info("first %d", number)
    LOG.warning("second %d", number)
    return number


def say_at(name: str, level: int, *args: Any) -> bool:
    """Logs at *level*; whether that is on here."""
    logger = logging.getLogger(name)
    logger.log(level, *args or ("message",))
    return logger.isEnabledFor(level)


def say_and_die(number: int) -> None:
    """Logs, and is gone."""
    LOG.warning("last words of %d", number)
    os.kill(os.getpid(), signal.SIGKILL)


def say_and_fail(number: int) -> NoReturn:
    """Logs, and raises."""
    LOG.warning("before failing %d", number)
    raise ValueError(number)


class Own:
    """A class that pickles."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __str__(self) -> str:
        return f"own {self.number}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own) and other.number == self.number

    def __hash__(self) -> int:
        return self.number


class Broken(Own):
    """One that raises as it is shown."""

    def __str__(self) -> str:
        raise OSError("no text")


def refuse(number: int) -> NoReturn:
    """Cannot be rebuilt."""
    raise OSError(number)


class Unreadable:
    """Its pickle raises when it is read."""

    def __reduce__(self) -> Any:
        return refuse, (1,)


def say_much() -> None:
    """Arguments and attributes of all kinds."""
    LOG.warning("plain %s %d %r", "text", 3, (1.5, None))
    LOG.warning("a dict %(a)s", {"a": [1]})
    LOG.warning("objects %s %s", Own(1), threading.Lock().locked)
    LOG.warning(Own(2))
    LOG.warning(
        "extra",
        extra={
            "own": Own(3),
            "plain": {"x": (1,)},
            "lock": threading.Lock(),
            "unreadable": Unreadable(),
            "worker": "mine",
        },
    )
    try:
        raise KeyError("a key")
    except KeyError:
        LOG.exception("caught", stack_info=True)
    LOG.warning("wrong %d", "text")
    LOG.warning("broken %s", Broken(1))
    LOG.warning("after")


def say_from_thread(number: int) -> int:
    """Logs in another thread."""
    thread = threading.Thread(target=LOG.warning, args=("of a thread %d", number), name="own thread")
    thread.start()
    thread.join()
    return number


def warn(number: int) -> int:
    """Warns."""
    warnings.simplefilter("always")  # under fork, the filters are those of the tests
    warnings.warn(f"careful {number}", UserWarning, stacklevel=1)
    return number


def flood(count: int, size: int) -> int:
    """Logs more than a pipe holds."""
    for number in range(count):
        LOG.warning("%d %s", number, "x" * size)
    return count


class ToFile(logging.FileHandler):
    """A handler that a worker adds."""


def add_file(path: str) -> None:
    """An initializer that adds a handler of the worker's own."""
    LOG.addHandler(ToFile(path))
    LOG.warning("initialized")


def configure_stderr() -> None:
    """An initializer as they are written for multiprocessing, whose workers have no handlers."""
    logging.basicConfig(level=logging.INFO, format="worker %(message)s")


def configure_queue(queue: Any) -> None:
    """Another one: the recipe of the logging cookbook."""
    logging.getLogger().addHandler(logging.handlers.QueueHandler(queue))


def bare_handlers() -> list[str]:
    """The handlers there are here."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    return [type(handler).__name__ for logger in loggers for handler in getattr(logger, "handlers", ())]


def has_logging() -> bool:
    """Whether something has imported it."""
    return "logging" in sys.modules


def fork_and_say(path: str) -> int:
    """A child of a task's own, which logs to a handler of its own."""
    pid = os.fork()
    if not pid:
        try:
            LOG.addHandler(logging.FileHandler(path))
            LOG.warning("of a child")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return pid


def say_in_a_signal_handler(count: int) -> int:
    """Logs in the midst of logging."""

    def handler(signum: int, frame: Any) -> None:
        LOG.warning("handler")

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for number in range(count):
            LOG.warning("task %d", number)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return count


def nested(method: str) -> int:
    """A pool in a task, whose own tasks log."""
    import forkful

    with forkful.Pool(1, start_method=method) as pool:
        return pool.apply(say, (5,))


def slow_after_saying(number: int) -> int:
    """Logs and then takes its time."""
    LOG.warning("started %d", number)
    time.sleep(0.05)  # the work itself
    return number
