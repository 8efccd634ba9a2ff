"""Why a program did not start, or had to stop: one line each, *what is wrong; what to do*."""

from __future__ import annotations

from forkful.errors import ForkfulError

__all__ = ["JobStopped", "OutputClosed", "UsageProblem"]


class UsageProblem(ForkfulError, ValueError):
    """What was asked for cannot be done.  Raised before anything is started or written.

    Its text is one line, whatever went into it: ``"in.txt: no such file; check the path"``.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


class JobStopped(ForkfulError):
    """A running job cannot go on; what it has written is whole.  Its text is one line, as `UsageProblem`'s.

    Attributes:
        done: how many inputs were done by then.
    """

    done: int = 0

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


class OutputClosed(JobStopped):
    """The reader of the output has gone away, as in ``… | head``: nothing is wrong, and nobody is left to write to."""


def one_line(text: str, most: int = 1000) -> str:
    """*text* with every run of white space as one space, and its middle left out beyond *most* characters."""
    line = " ".join(text.split())
    if len(line) > most:
        half = (most - 3) // 2
        line = f"{line[:half]} … {line[-half:]}"
    return line
