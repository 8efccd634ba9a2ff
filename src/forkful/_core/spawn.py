"""The start methods of workers.

- ``fork``: a copy of this process.
- ``spawn``: a new interpreter (``posix_spawn``).
- ``forkserver``: the mold, itself a new interpreter, forks; see ``mold.py``.  It lives as long as a pool needs it.
"""

from __future__ import annotations

from multiprocessing import get_start_method

from .children import Child, ForkedChild, SpawnedChild
from .molded import MoldChild

START_METHODS: dict[str, type[Child]] = {"forkserver": MoldChild, "spawn": SpawnedChild, "fork": ForkedChild}


def chosen_start_method() -> str | None:
    """What this program told ``multiprocessing.set_start_method``; None when it said nothing."""
    return get_start_method(allow_none=True)
