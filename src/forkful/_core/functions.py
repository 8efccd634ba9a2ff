"""The functions a pool's tasks call: pickled once, known to workers by number."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from . import codec

_KEPT = 256


class Functions:
    """The functions in use, pickled once each: key to bytes."""

    def __init__(self) -> None:
        # By the function itself, where it is pickled by reference; else by its bytes.
        self._known: dict[Any, tuple[int, str]] = {}
        self._blobs: dict[int, bytes] = {}
        self._numbers = itertools.count(1)

    def register(self, function: Any) -> tuple[int, str]:
        """The key of *function* and its name for messages; a new one is pickled.

        Raises:
            whatever pickling *function* raises.
        """
        try:
            return self._known[function]
        except (KeyError, TypeError):
            pass
        blob = codec.encode(function)
        token = function if codec.is_by_reference(function) else blob
        if token not in self._known:
            key = next(self._numbers)
            self._blobs[key] = blob  # before the key can be found by another thread
            self._known.setdefault(token, (key, codec.describe(function)))
        return self._known[token]

    def blob(self, key: int) -> bytes:
        """The pickled function."""
        return self._blobs[key]

    def names(self) -> dict[int, str]:
        """The name of each function in use, by key."""
        return dict(self._known.copy().values())

    def many(self) -> bool:
        """Whether it is time to `evict`."""
        return len(self._blobs) > _KEPT

    def evict(self, in_use: Callable[[], set[int]]) -> list[int]:
        """Drop the older half of those not *in_use*; their keys."""
        used = in_use()
        gone = [key for key in list(self._blobs)[: _KEPT // 2] if key not in used]
        for key in gone:
            del self._blobs[key]
        self._known = {token: known for token, known in self._known.items() if known[0] in self._blobs}
        return gone
