"""How many of the queued connections have waited too long.  Pure.

Nobody can look at a connection before it is accepted.  But the queue is first in, first out: of those that were queued at
some moment, all that were not accepted since are queued still, and at the front.  So two numbers at two moments, how long the queue
is and how many have ever been accepted, tell how many are at least as old as the time between.
"""

from __future__ import annotations

from collections import deque

__all__ = ["STEPS", "Ages"]

STEPS = 10
"""Looks during the longest wait: who has waited too long is found that part of it too late, at most."""


class Ages:
    """What was seen of a queue.

    Args:
        longest: seconds that a connection may wait.
        room: connections that fit into the queue; once it is half full, the front of it goes, however young: what does not
            fit would be dropped without an answer.
    """

    def __init__(self, longest: float, room: int) -> None:
        self._longest = longest
        self._room = room
        self._seen: deque[tuple[float, int]] = deque()  # when, and the count of the last one queued then

    @property
    def interval(self) -> float:
        """Seconds from one look to the next."""
        return self._longest / STEPS

    def look(self, now: float, queued: int, accepted: int) -> int:
        """How many at the front of the queue are to be sent away, of so many that are *queued* after so many *accepted*."""
        oldest = 0  # the count of the last one that is too old
        while self._seen and self._seen[0][0] <= now - self._longest:
            oldest = self._seen.popleft()[1]
        self._seen.append((now, accepted + queued))
        too_old = oldest - accepted
        too_many = queued - self._room // 2
        return max(0, min(queued, max(too_old, too_many)))
