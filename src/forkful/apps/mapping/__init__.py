"""Run a function over files of inputs, one record a line: what ``forkful map`` does.

>>> from forkful.apps.mapping import map_file
>>> summary = map_file("examples/census.py:census", ["files.txt"], "census.jsonl", processes=4)  # doctest: +SKIP
>>> summary.done, summary.failed  # doctest: +SKIP
(1200, 0)

One direction: `inputs` makes items, `job` hands their arguments to the pool, `calls` runs the function in the workers,
`records` makes a line of what came back, `output` writes it, `summary` counts it.
"""

from .control import Control
from .job import list_inputs, map_file
from .status import Status, read_status
from .summary import Summary

__all__ = ["Control", "Status", "Summary", "list_inputs", "map_file", "read_status"]
