"""All measures, in the order of the report.  A new one is a `Measure` in the file of its group, or a new file here."""

from __future__ import annotations

from ..measure import Measure, Planned
from . import command, dispatch, faults, flow, large, locks, server, startup, waiting

__all__ = ["MEASURES", "PLANNED"]

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for group in (dispatch, startup, faults, flow, waiting, large, command, locks, server)
    for measure in group.MEASURES
}

# What the list of numbers has beyond these: the report names them, so that a missing line is never taken for a good one.
# Each goes when its measure arrives, with the feature that it measures.
PLANNED: tuple[Planned, ...] = ()
