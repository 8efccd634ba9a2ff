"""A worker's ends of what it shares with the master."""

# No `from __future__ import annotations` here: annotations of a NamedTuple that are strings cost each import a millisecond.

from typing import NamedTuple


class Ends(NamedTuple):
    """A worker's side of everything it shares with the master: descriptors."""

    down: int  # the channel, to read from
    up: int  # the channel, to write to
    journal: int
    permits: int
    lifeline: int
    wire: int  # a Unix socket on which each tells the other of segments of shared memory


ENDS = len(Ends._fields)
