"""All measures, in the order of the report.  A new one is a `Measure` in the file of its group, or a new file here."""

from __future__ import annotations

from ..measure import Measure
from . import dispatch, faults, flow, startup

__all__ = ["MEASURES", "PLANNED"]

MEASURES: dict[str, Measure] = {
    measure.name: measure for group in (dispatch, startup, faults, flow) for measure in group.MEASURES
}

# What the list of numbers has beyond these, as (measure, must, aim): the report names them, so that a missing line is
# never taken for a good one.  Each goes when its measure arrives, with the feature that it measures.
PLANNED: tuple[tuple[str, str, str], ...] = (
    ("100 MB NumPy array there and back, against the best peer", "≥ 4×", "≥ 20×"),
    ("the same 100 MB array as an argument of 100 tasks, against the best peer", "≥ 20×", "≥ 80×"),
    ("1,000 × `sleep(0.05)` with 2 processes × 32 threads, against the ideal 0.78 s", "≤ 1.3×", "≤ 1.1×"),
    ("file `Lock`, uncontended acquire and release, against filelock", "≥ 15×", "≥ 30×"),
    ("file `Lock`, uncontended acquire and release, against fasteners", "≥ 4×", "≥ 8×"),
    ("4 processes × 25 holds of 1 ms: total", "≤ 130 ms", "≤ 115 ms"),
    ("4 processes × 25 holds of 1 ms: longest wait", "≤ 15 ms", "≤ 5 ms"),
)
