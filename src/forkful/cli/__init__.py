"""The command ``forkful``: parse, wire, print; what the commands do is in `forkful.apps`."""

from ._main import main

__all__ = ["main"]
