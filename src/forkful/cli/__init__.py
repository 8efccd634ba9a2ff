"""The command ``forkful``: parse, wire, print; what the commands do is in `forkful.apps`."""

from __future__ import annotations

from collections.abc import Sequence

from ._console import say

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* (by default the process's own); returns the exit code and never raises."""
    try:
        from ._main import run  # here: it takes long enough for a Ctrl-C

        return run(argv)
    except KeyboardInterrupt:  # there, or while the last words were said
        say("forkful: interrupted; start it again when you like")
        return 130
    except SystemExit as leaving:  # click's, when nobody reads its help
        return leaving.code if isinstance(leaving.code, int) else 1
    except Exception as error:
        say(f"forkful: {_confess(error)}")
        return 1


def _confess(error: Exception) -> str:
    """What went wrong and where, in a line: nobody has foreseen it."""
    from traceback import extract_tb

    where = extract_tb(error.__traceback__)[-1]
    what = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
    return f"{what} ({where.filename}, line {where.lineno}); forkful did not expect that: please report it"
