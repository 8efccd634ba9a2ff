"""When another worker may be started, after starts that have failed.  Pure: the clock is an argument.

A start can fail in three ways, and each means something else:

- The initializer raised: it will in the next worker too.  Everybody's error, at once.
- The process ended before it was ready.  Its own doing (it left, it crashed) is an error when it happens twice in a row; a
  signal from outside only when nothing else has happened for long.  Everybody's error, unless workers are there that
  do the work; then the next start is tried after a pause.
- The system had no process.  That may pass: as long as there are workers, they do the work, and the next start is tried
  after a pause.

All times are nanoseconds.
"""

from __future__ import annotations

# Starts that fail in a row are everybody's error when their weights reach `_BLAME`: one that leaves or crashes is its own
# doing, one that is killed inside its initializer may be (by the memory that takes), or somebody else's.
_BLAME, _LEFT, _KILLED_INSIDE = 4, 2, 1
_KILLS, _KILLS_NS = 50, 30_000_000_000  # in a row, by a signal from outside, for so long

# The pause after a start for which there was no process doubles each time, up to the longest.
_PAUSE_NS, _LONGEST_PAUSE_NS = 20_000_000, 1_000_000_000

# SIGHUP, SIGINT, SIGKILL, SIGTERM: sent by somebody, not the worker's own doing.
_OUTSIDE_SIGNALS = (-1, -2, -9, -15)


class Starts:
    """What is known of the starts of one pool's workers since the last that came up."""

    def __init__(self) -> None:
        self.at = 0  # when the next may be tried, if there are workers without it
        self._refused = False  # the last to report had a failing initializer, or too many have failed
        self._blame = 0
        self._kills = 0
        self._kills_since = 0
        self._pause = 0

    def succeed(self) -> None:
        """A worker is ready."""
        self._blame = self._kills = self._pause = self.at = 0
        self._refused = False

    def refuse(self) -> None:
        """An initializer failed."""
        self._refused = True

    def do_without(self, now: int) -> None:
        """The system had no process."""
        if self.at <= now:  # else it was tried together with the one that has set this
            self._pause = min(max(_PAUSE_NS, 2 * self._pause), _LONGEST_PAUSE_NS)
            self.at = now + self._pause

    def make_room(self, now: int) -> None:
        """A worker has ended: where it was, another may be."""
        self.at = now

    def fail(self, exitcode: int | None, *, inside: bool, now: int) -> bool:
        """A worker ended before it was ready, *inside* its initializer or not; whether that is an error by now."""
        if exitcode is not None and exitcode not in _OUTSIDE_SIGNALS:
            self._blame += _LEFT
        elif inside:
            self._blame += _KILLED_INSIDE
        else:
            if not self._kills:
                self._kills_since = now
            self._kills += 1
        if self._blame >= _BLAME or (self._kills >= _KILLS and now - self._kills_since >= _KILLS_NS):
            self._refused = True
            return True
        return False

    def may_go_on(self) -> bool:
        """Whether a worker may be started that no work asks for: not after a failure, which would come again and again."""
        return not self._refused

    def most(self, starting: int) -> float:
        """How many may be tried now, while *starting* are under way: one at a time after a failure."""
        return max(0, 1 - starting) if self._refused or self._pause else float("inf")
