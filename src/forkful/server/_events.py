"""What the master tells the fleet, and what the fleet has it do.  Frozen; a worker is known by a number that is never used twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "Began",
    "Close",
    "Drain",
    "Ended",
    "Event",
    "Finish",
    "Full",
    "Instruction",
    "Kill",
    "Left",
    "Load",
    "Mute",
    "Overdue",
    "Ready",
    "Refused",
    "Reload",
    "Reloaded",
    "Reloading",
    "Resize",
    "Say",
    "Spent",
    "Start",
    "Stop",
    "Stopping",
    "Tick",
    "Trace",
    "Upgrade",
]

# Facts.


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; also the first of all events."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A new worker has loaded the handler, and its seats accept."""

    worker: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A new worker cannot load the handler; it is leaving."""

    worker: int
    reason: str


@dataclass(frozen=True, slots=True)
class Full:
    """A worker has no idle seat."""

    worker: int


@dataclass(frozen=True, slots=True)
class Spent:
    """A worker asks to be replaced."""

    worker: int
    reason: str


@dataclass(frozen=True, slots=True)
class Left:
    """A worker that drains says how many of its seats are still at work."""

    worker: int
    seats: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker's process is no more; *how*, in words, if that was not its own doing."""

    worker: int
    how: str | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """What the board says: of each worker that serves, how many seats are idle; and how many connections are queued."""

    idle: Mapping[int, int]
    queued: int = 0


@dataclass(frozen=True, slots=True)
class Overdue:
    """Seats of a worker are over their time."""

    worker: int
    seats: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Reload:
    """Somebody wants all workers replaced by new ones."""


@dataclass(frozen=True, slots=True)
class Resize:
    """Somebody wants one worker more (1) or fewer (-1)."""

    by: int


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Somebody wants the program started anew, with the listeners of this one.  Not for the fleet: it knows no programs."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Somebody wants an end: in good order, or at once; or another program goes on with the same listeners."""

    at_once: bool = False
    hands_over: bool = False


Event = Tick | Ready | Refused | Full | Spent | Left | Ended | Load | Overdue | Reload | Resize | Stop

# Instructions.


@dataclass(frozen=True, slots=True)
class Start:
    """Start a worker with this number."""

    worker: int
    generation: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Have it accept no more, finish what it serves, and leave."""

    worker: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Take no new connections into the queue; have every worker empty it, and leave."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Have it write the stacks of its threads."""

    worker: int


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL."""

    worker: int


@dataclass(frozen=True, slots=True)
class Mute:
    """Whether workers are to report that they are full."""

    muted: bool


@dataclass(frozen=True, slots=True)
class Say:
    """A line for whoever runs the server."""

    text: str
    is_trouble: bool = False


@dataclass(frozen=True, slots=True)
class Began:
    """The first worker is ready: connections are served."""


@dataclass(frozen=True, slots=True)
class Reloading:
    """A reload has begun."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The end has begun."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A reload has ended: with all workers new, or, for the reason given, with those that were there."""

    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """Nobody is left: end.  With the reason, if it could not even begin."""

    failure: str | None = None


Instruction = Start | Drain | Finish | Trace | Kill | Mute | Say | Began | Reloading | Reloaded | Stopping | Close
