"""All measures, in the order of the report.  A new one is a `Measure` in the file of its group, or a new file here."""

from __future__ import annotations

from ..measure import Measure, Planned, Target
from . import command, dispatch, faults, flow, large, startup, waiting

__all__ = ["MEASURES", "PLANNED"]

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for group in (dispatch, startup, faults, flow, waiting, large, command)
    for measure in group.MEASURES
}

# What the list of numbers has beyond these: the report names them, so that a missing line is never taken for a good one.
# Each goes when its measure arrives, with the feature that it measures.
PLANNED: tuple[Planned, ...] = (
    Planned("file `Lock`, uncontended acquire and release", Target("times as fast", 15, 30, "filelock")),
    Planned("file `Lock`, uncontended acquire and release", Target("times as fast", 4, 8, "fasteners")),
    Planned("4 processes, 25 holds of 1 ms each: total", Target("at most", 0.130, 0.115)),
    Planned("4 processes, 25 holds of 1 ms each: longest wait", Target("at most", 0.015, 0.005)),
)
