"""What the tests of large and shared things have workers do."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from .tasks import note

kept: list[Any] = []


def same(value: Any) -> Any:
    """The argument, back."""
    return value


def describe(array: Any) -> tuple[Any, ...]:
    """What an array is, and a sum that tells its content."""
    return array.shape, array.dtype.str, array.flags.writeable, array.flags.f_contiguous, array.tobytes()


def add_one(array: Any) -> Any:
    """In place, and back."""
    array += 1
    return array


def middle(array: Any) -> Any:
    """A part of the argument, no copy."""
    return array[len(array) // 4 : -len(array) // 4]


def make(size: int, value: int) -> Any:
    """*size* bytes."""
    return np.full(size, value, dtype="u1")


def keep(array: Any) -> int:
    """Keeps its argument after it has ended; how many it has, and whether they are all what they were."""
    kept.append((array, int(array[0])))
    assert all((old == value).all() for old, value in kept)
    return len(kept)


def let_go(_: object = None) -> None:
    """The opposite."""
    kept.clear()


def noted_array(log: str, number: int) -> Any:
    """A line in *log*, and an array."""
    note(log, number)
    return np.full(3_000_000, number % 256, dtype="u1")


def change_and_die(array: Any, marker: str) -> int:
    """Writes to its argument; dies the first time.  What it found there."""
    found = int(array.sum())
    array[:] = 1
    if not os.path.exists(marker):
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return found


def change_and_raise(array: Any, marker: str) -> int:
    """The same, by an exception."""
    found = int(array.sum())
    array[:] = 1
    if not os.path.exists(marker):
        Path(marker).touch()
        raise LookupError
    return found


def close_everything(_: object = None) -> Any:
    """Closes what it did not open, then returns something large."""
    os.closerange(3, 1000)
    return np.ones(3_000_000, dtype="u1")


def leave_descendant(array: Any, gate: str, answer: str) -> None:
    """Leaves a process behind that has the argument.  Once the gate is opened, it tells whether that is what it was."""
    if os.fork() == 0:
        with open(gate, "rb", buffering=0) as file:
            file.read(1)
        Path(answer).write_text(f"{bool((array == 7).all())}", encoding="ascii")
        os._exit(0)


def try_to_write(array: Any) -> bool:
    """Whether it can be."""
    try:
        array[0] = 1
    except ValueError:
        return False
    return True


def identity(value: Any) -> int:
    """Which object this is, in this worker."""
    return os.getpid() * 2**64 + id(value)


def total(table: Any, numbers: Any, key: str) -> Any:
    """Of two shared things, one inside of a dict."""
    return int(table[key]["array"].sum()) + sum(numbers)


def die_once(shared: Any, marker: str) -> int:
    """Kills its worker the first time."""
    if not os.path.exists(marker):
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return int(shared.sum())


class Slices:
    """Not of numpy: pickles as several buffers, one of them read-only; and tells how it was made."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce_ex__(self, protocol: Any) -> Any:
        assert protocol >= 5
        return Slices, tuple(pickle.PickleBuffer(part) for part in self.parts)


def flip(slices: Slices) -> tuple[list[bool], Slices]:
    """Which parts can be written to; and the parts, each made anew, in the opposite order."""
    views = [memoryview(part) for part in slices.parts]
    return [view.readonly for view in views], Slices(*(bytearray(view) for view in reversed(views)))


class Heavy(np.ndarray[Any, Any]):
    """A subclass with an attribute that travels."""

    label: str

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced: Any = super().__reduce_ex__(protocol)
        return _relabel, (*reduced[:2], reduced[2:], self.label)


def _relabel(function: Any, args: Any, rest: Any, label: str) -> Any:
    array = function(*args)
    if rest and rest[0] is not None:
        array.__setstate__(rest[0])
    array = array.view(Heavy)
    array.label = label
    return array


def wait_with(array: Any, gate: str) -> int:
    """Holds its argument until the gate is opened."""
    with open(gate, "rb", buffering=0) as file:
        file.read(1)
    return int(array[0])


class Failing:
    """Cannot be rebuilt."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __setstate__(self, state: Any) -> None:
        raise LookupError("no")


def make_failing(size: int) -> Failing:
    """A large result that its reader cannot rebuild."""
    return Failing(np.ones(size, dtype="u1"))


def by_threads(array: Any) -> tuple[int, int]:
    """Which thread, and what it got."""
    return threading.get_ident(), int(array[0])


def nested(array: Any) -> Any:
    """A pool in a worker, large things both ways."""
    import forkful

    with forkful.Pool(1) as pool:
        return pool.apply(add_one, (array,))


def forked_reader(array: Any) -> bool:
    """Whether the array is all ones."""
    return bool((array == 1).all())


def loaded_modules() -> list[str]:
    """Those that only large things need."""
    names = ("accounts", "arena", "dealings", "lending", "segments")
    return [name for name in names if f"forkful._core.{name}" in sys.modules]


def length(value: Any) -> int:
    """`len`."""
    return len(value)
