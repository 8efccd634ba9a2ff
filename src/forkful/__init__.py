"""forkful: processes for Python that never hang, lose or oversell.

>>> from forkful import Pool
>>> with Pool(2) as pool:
...     pool.map(len, ["a", "bb"])
[1, 2]
"""

from multiprocessing import Process, TimeoutError  # noqa: A004  # multiprocessing's own, under its own name

from .errors import ForkfulError
from .pool import AsyncResult, Outcome, Pool
from .pool._options import cpu_count

__all__ = ["AsyncResult", "ForkfulError", "Outcome", "Pool", "Process", "TimeoutError", "cpu_count"]
__version__ = "0.1.0"
