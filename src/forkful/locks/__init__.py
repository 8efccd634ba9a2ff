"""Locks between processes, threads and tasks that never stay locked; see README.md for how.

>>> from forkful import Lock
>>> with Lock("stock"):
...     print("one at a time, on this machine")
one at a time, on this machine
"""

from __future__ import annotations

from ._lock import Lock, RLock
from ._rwlock import RWLock
from ._semaphore import Semaphore
from ._shared_file import SharedFile, SharedJSON
from ._who import Holder

__all__ = ["Holder", "Lock", "RLock", "RWLock", "Semaphore", "SharedFile", "SharedJSON"]
