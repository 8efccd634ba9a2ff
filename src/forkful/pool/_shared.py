"""`Shared`: an object that many tasks take, sent to each worker once."""

from __future__ import annotations

import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from .._core import codec

if TYPE_CHECKING:
    from .._core.lending import Share
    from .._core.master import Master

T = TypeVar("T")


class Shared(Generic[T]):
    """A handle for an object that was given to `Pool.share`.

    Wherever it stands in the arguments of a task of that pool, inside other objects too, the function gets the object
    itself.  The object is pickled once, when it is shared, and sent once to each worker that has a task with it; buffers,
    such as the data of NumPy arrays, cannot be written to there, and large ones are in memory that all workers see.

    A worker drops it when the last handle has gone, or was closed, and no task that has it is left.

    >>> from forkful import Pool
    >>> with Pool(2) as pool:
    ...     weights = pool.share({"a": 1, "b": 2})
    ...     pool.starmap(dict.get, [(weights, "a"), (weights, "b")])
    [1, 2]
    """

    def __init__(self, master: Master, value: T) -> None:
        self._share: Share | None = None
        self._value: T | None = value
        self._master = weakref.ref(master)
        self._share = master.lender().share(value)

    @property
    def value(self) -> T:
        """The object, as it was given.

        Raises:
            ValueError: the handle was closed.
        """
        self._open_share()
        value: T = self._value  # type: ignore[assignment]  # None only where that was given
        return value

    def close(self) -> None:
        """Give the object up now: no further task can have it.  Those that were given it before are not concerned."""
        if self._share is not None:
            self._share = self._value = None
            master = self._master()
            if master is not None:
                master.unshare()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _open_share(self) -> Share:
        if self._share is None:
            raise ValueError("this shared object was closed; share it again to use it")
        return self._share

    def __reduce__(self) -> tuple[Any, ...]:
        from .._core import accounts, lending  # here already: the object was shared

        key = lending.name(self._open_share())
        if key is None:
            raise TypeError(
                "a shared object can only be pickled inside the arguments of a task of its own pool; "
                "elsewhere (in a function, in initargs, for another pool or process) use its .value"
            )
        return accounts.fetch, (key,)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __repr__(self) -> str:
        return f"<Shared {'closed' if self._share is None else codec.short_repr(self._value)}>"
