"""What whoever runs a server is told: by `logging`, if the program has set that up, else on standard error."""

from __future__ import annotations

import logging
import sys

from ._events import Began, Reloaded, Reloading, Say, Stopping

__all__ = ["News", "report"]

News = Say | Began | Reloading | Reloaded | Stopping
"""What whoever runs the server wants to know."""

log = logging.getLogger("forkful.server")


def report(news: News) -> None:
    """Tell it, in a line."""
    text, is_trouble = _phrase(news)
    if log.hasHandlers():
        log.log(logging.WARNING if is_trouble else logging.INFO, "%s", text)
    elif sys.stderr is not None:
        try:
            sys.stderr.write(f"forkful: {text}\n")
            sys.stderr.flush()
        except OSError:
            pass  # the terminal has gone; the server has not


def _phrase(news: News) -> tuple[str, bool]:
    match news:
        case Began():
            return "ready", False
        case Reloading():
            return "reloading", False
        case Stopping():
            return "ending: what is there is still served", False
        case Reloaded(None):
            return "reloaded: all workers are new", False
        case Reloaded(failure):
            return f"{failure}; the reload is given up, the workers that were there serve on", True
        case Say(text, is_trouble):
            return text, is_trouble
