"""What a measure is: a way to take one sample of one pool, and the numbers that the samples have to reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Unit = Literal["seconds", "bytes", "number"]

US = "forkful"
BEST = "the best peer"  # as what a target is against: whichever other pool has the best median


@dataclass(frozen=True)
class Case:
    """One sample to take."""

    contestant: str  # a peer's name, or a baseline's
    size: int
    start_method: str


@dataclass(frozen=True)
class Reading:
    """One sample: the value in the measure's unit, and what the report must say beside it."""

    value: float
    remark: str = ""


Sampler = Callable[[Case], Reading]

Comparison = Literal["times as fast", "times as long", "more", "at most"]


@dataclass(frozen=True)
class Target:
    """What must hold of forkful's median, and where it is going.

    ======================  =======================================
    ``times as fast``       theirs / ours is at least the bound
    ``times as long``       ours / theirs is at most the bound
    ``more``                ours - theirs is at most the bound
    ``at most``             ours is at most the bound; ``against`` is empty
    ======================  =======================================
    """

    comparison: Comparison
    must: float
    aim: float
    against: str = ""


@dataclass(frozen=True)
class Measure:
    """One line of the list of numbers.

    ``title`` may contain ``{n}``, the size.  ``sample`` runs in a process of its own for each sample, once for each
    peer in each round; ``baselines`` take part in the rounds under their own names and are no pools.
    """

    name: str
    title: str
    how: str  # for the report: what is timed, what is not, and where peers differ
    sample: Sampler
    targets: tuple[Target, ...]
    size: int = 1
    quick_size: int = 1
    peer_size: int | None = None  # for the others, when at full size they would take minutes
    unit: Unit = "seconds"
    per_task: bool = False  # whether the value divided by the size means something
    start_method: str = "forkserver"
    strict_start_method: bool = False  # leave out a peer that lacks it, instead of taking the peer's own
    only_us: str = ""  # why no other pool takes part
    needs: str = ""  # a program without which nothing can be measured
    rounds: int = 5
    discarded: int = 0  # rounds that are run and forgotten: they fill the caches of files that are read once
    watchdog: float = 60.0  # seconds for one sample, its set-up included
    baselines: Mapping[str, Sampler] = field(default_factory=dict)

    def size_for(self, contestant: str, *, quick: bool) -> int:
        """How many tasks a sample of *contestant* has."""
        if quick:
            return self.quick_size
        return self.size if contestant == US or self.peer_size is None else self.peer_size


@dataclass(frozen=True)
class Planned:
    """A number to reach that is not measured yet."""

    title: str
    target: Target
    unit: Unit = "seconds"
