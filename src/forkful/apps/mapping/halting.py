"""When a map is to stop early.  Pure: told how many have ended, it says whether that is enough."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Halt", "parse_halt"]

_POLICY = re.compile(r"(now|soon),(fail|success|done)=(\d{1,9})(%?)", re.ASCII)
_FEWEST = 10  # inputs: of fewer, a share says little


class Halt(NamedTuple):
    """A policy.

    Attributes:
        now: end what runs; else it may end by itself, and nothing more is started.
        what: which inputs count: ``fail``, ``success`` or ``done``, which is either.
        limit: how many, or which share of all that are done, in percent.
        is_share: the latter.
    """

    now: bool
    what: str
    limit: int
    is_share: bool

    def is_reached(self, done: int, failed: int) -> bool:
        """Whether *done* inputs, *failed* ones among them, are enough; of a share, not before ten are done.

        >>> parse_halt("soon,fail=10%").is_reached(20, 2)
        True
        """
        count = {"fail": failed, "success": done - failed, "done": done}[self.what]
        if self.is_share:
            return done >= _FEWEST and count * 100 >= self.limit * done
        return count >= self.limit

    def __str__(self) -> str:
        return f"{'now' if self.now else 'soon'},{self.what}={self.limit}{'%' if self.is_share else ''}"


def parse_halt(text: str) -> Halt:
    """``now,fail=1``, ``soon,fail=10%``, ``soon,success=100``.

    Raises ValueError with what is wrong and what to write.
    """
    match = _POLICY.fullmatch(text.strip().replace(" ", ""))
    if match is None:
        raise ValueError(f"{text!r} is no way to halt; write now,fail=1 or soon,fail=10%")
    limit = int(match[3])
    if limit < 1 or (match[4] and (limit > 100 or match[2] == "done")):
        raise ValueError(f"{text!r} can never be, or is at once; write now,fail=1 or soon,fail=10%")
    return Halt(match[1] == "now", match[2], limit, bool(match[4]))
