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

        >>> Halt(now=False, what="fail", limit=10, is_share=True).is_reached(20, 2)
        True
        """
        count = {"fail": failed, "success": done - failed, "done": done}[self.what]
        if self.is_share:
            return done >= _FEWEST and count * 100 >= self.limit * done
        return count >= self.limit

    def __str__(self) -> str:
        return f"{'now' if self.now else 'soon'},{self.what}={self.limit}{'%' if self.is_share else ''}"


def parse_halt(text: str) -> Halt | None:
    """``now,fail=1``, ``soon,fail=10%``, ``soon,success=100``; None for ``never``.

    Raises ValueError with what is wrong and what to write.
    """
    policy = text.strip().replace(" ", "")
    if policy == "never":
        return None
    match = _POLICY.fullmatch(policy)
    if match is None:
        raise ValueError(f"{text!r} is no way to halt; write now,fail=1 or soon,fail=10%")
    limit = int(match[3])
    if match[4] and match[2] == "done":
        counted, fewer = policy.removesuffix("%"), f"{match[1]},fail={match[3]}%"
        raise ValueError(
            f"{text!r} is a share of those that are done, and all of them are done; write {counted} or {fewer}"
        )
    if limit < 1 or (match[4] and limit > 100):
        raise ValueError(f"{text!r} can never be, or is at once; write now,fail=1 or soon,fail=10%")
    return Halt(match[1] == "now", match[2], limit, bool(match[4]))
