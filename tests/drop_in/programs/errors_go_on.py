"""What fails fails alone: errors with their remote traceback, items after them, inputs and results that cannot travel."""

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from multiprocessing import Pool
from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]  # typeshed has forgotten it
from typing import Any


class RefusedError(Exception):
    pass


def check(number: int) -> int:
    if number in {3, 6}:
        raise RefusedError(number, "is not wanted")
    return number


def make_lock() -> Any:
    return threading.Lock()


def ends_badly() -> Iterator[int]:
    yield 1
    raise LookupError("the input broke off")


def outcomes(iterator: Any) -> list[Any]:
    found: list[Any] = []
    while True:
        try:
            found.append(iterator.next(timeout=60))
        except StopIteration:
            return found
        except RefusedError as error:
            found.append(error.args)


if __name__ == "__main__":
    with Pool(2) as pool:
        print("imap:", outcomes(pool.imap(check, range(8))))
        print("imap_unordered:", sorted(outcomes(pool.imap_unordered(check, range(8))), key=str))

        try:
            pool.map(check, range(8), chunksize=1)
        except RefusedError as error:
            cause = error.__cause__
            print("map: one of the errors,", error.args[1:], type(cause).__name__)
            print("its traceback shows the line:", 'raise RefusedError(number, "is not wanted")' in str(cause))

        calls: dict[str, Callable[[], object]] = {
            "map": lambda: pool.map(check, ends_badly()),
            "imap": lambda: list(pool.imap(check, ends_badly())),
            "imap_unordered": lambda: list(pool.imap_unordered(check, ends_badly())),
        }
        for name, call in calls.items():
            try:
                call()
            except LookupError as error:
                print(name, "of a broken input:", error.args, error.__cause__)

        try:
            pool.apply(make_lock)
        except MaybeEncodingError:
            print("a lock cannot come back")
        try:
            pool.apply(id, (threading.Lock(),))
        except TypeError:
            print("a lock cannot be sent")
        try:
            pool.apply(id, (multiprocessing.Lock(),))
        except RuntimeError:
            print("a lock of multiprocessing can only be inherited")
        try:
            pool.apply(check)
        except TypeError as error:
            print("a call that does not fit:", "missing 1 required positional argument" in str(error))

        print("still at work:", pool.map(check, [1, 2]))
