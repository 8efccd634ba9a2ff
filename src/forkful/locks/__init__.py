"""Locks between processes that never stay locked."""

from __future__ import annotations

from ._lock import Lock, RLock

__all__ = ["Lock", "RLock"]
