"""The functions a pool's tasks call: pickled once, known to workers by number."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import codec

if TYPE_CHECKING:
    from .portable import Snapshot
    from .script import Script

_KEPT = 256


class Functions:
    """The functions in use, pickled once each: key to bytes.

    Args:
        imports_main: says whether each worker runs the parent's ``__main__`` anyhow, so that a function of it need not
            travel by value; asked when there is one.
        initialized: the variables of a ``__main__`` that nobody can import which the initializer, being of it too,
            makes in each worker; None where it is not.
    """

    def __init__(
        self, imports_main: Callable[[], bool] = lambda: True, initialized: frozenset[str] | None = None
    ) -> None:
        # By the function itself, where its bytes may be kept for the next call; else by its bytes.
        self._known: dict[Any, tuple[int, str]] = {}
        self._blobs: dict[int, bytes] = {}
        self._snapshots: dict[int, Snapshot] = {}  # of those whose bytes may be kept only as long as it holds
        self._numbers = itertools.count(1)
        self._imports_main = imports_main
        self._initialized = initialized
        self._by_value: bool | None = None  # functions of __main__ are; None: not asked yet
        self.portable: set[int] = set()  # those functions of __main__ that have been packed by value

    def register(self, function: Any) -> tuple[int, str]:
        """The key of *function* and its name for messages; a new one is pickled.

        Raises:
            whatever pickling *function* raises.
        """
        try:
            known = self._known[function]
        except (KeyError, TypeError):
            pass
        else:
            if not self._snapshots or known[0] not in self._snapshots or self._snapshots[known[0]].holds():
                return known
            self._known.pop(function, None)
        blob = codec.encode(function)
        if codec.mentions_main(blob):
            if codec.main_reference():
                return self._register_of_main(function, blob)
            if self._initialized is not None:
                from . import prompt  # here already

                blob = prompt.dumps(function, self._initialized)
        return self._add(function if codec.is_by_reference(function) else blob, function, blob)

    def register_by_name(self, function: Any) -> tuple[int, str]:
        """The same for a function that is `portable`, to go with arguments for which ``__main__`` is run anyhow.

        So the function and its arguments agree on what is of ``__main__``.
        """
        blob = codec.encode(function)
        return self._add(blob, function, blob)

    def _register_of_main(self, function: Any, blob: bytes) -> tuple[int, str]:
        if self._by_value is None:
            self._by_value = not self._imports_main()
        if not self._by_value:
            return self._add(function if codec.is_by_reference(function) else blob, function, blob)
        packed, snapshot = _pack(function)
        token = function if codec.is_by_reference(function) else packed or blob
        known = self._add(token, function, packed or blob, snapshot)
        if packed is not None:
            self.portable.add(known[0])
        return known

    def _add(self, token: Any, function: Any, blob: bytes, snapshot: Snapshot | None = None) -> tuple[int, str]:
        if token not in self._known:
            key = next(self._numbers)
            self._blobs[key] = blob  # before the key can be found by another thread
            if snapshot is not None:
                self._snapshots[key] = snapshot
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
            self._snapshots.pop(key, None)
            self.portable.discard(key)
        self._known = {token: known for token, known in self._known.items() if known[0] in self._blobs}
        return gone


# What this process's __main__ does at its top level: the module, and what was found.
_studied: list[tuple[Any, Script]] = []


def _study_main() -> Script:
    main = sys.modules["__main__"]
    if not _studied or _studied[0][0] is not main:
        from .script import Script, study  # needed for functions of __main__ only

        try:
            with open(main.__file__ or "", "rb") as file:
                found = study(file.read(), getattr(main, "__package__", None))
        except OSError as error:  # in an archive
            found = Script(f"its text cannot be had ({error})")
        _studied[:] = [(main, found)]
    return _studied[0][1]


def _pack(function: Any) -> tuple[bytes | None, Snapshot | None]:
    """*function* by value, where that is right, and how long that holds (or how long it holds that it is not)."""
    from .portable import NotPortableError, PortablePickler

    try:
        pickler = PortablePickler(_study_main())
        packed = pickler.pickled(function)
    except NotPortableError as refusal:
        return None, refusal.snapshot(function)
    return packed, pickler.snapshot
