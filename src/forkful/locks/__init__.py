"""Locks between processes that never stay locked."""

from __future__ import annotations

from ._lock import Lock, RLock
from ._shared_file import SharedFile, SharedJSON

__all__ = ["Lock", "RLock", "SharedFile", "SharedJSON"]
