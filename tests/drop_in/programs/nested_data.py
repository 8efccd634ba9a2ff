"""Data of every shape there and back: deep, wide, large, shared, recursive, and bytes that look like anything."""

import collections
import datetime as dt
import decimal
import hashlib
from multiprocessing import Pool
from typing import Any


def same(value: Any) -> Any:
    return value


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def blow_up(size: int) -> bytes:
    return bytes(range(256)) * (size // 256)


def is_own_first(items: list[Any]) -> bool:
    return items[0] is items


if __name__ == "__main__":
    deep: list[Any] = []
    for level in range(200):
        deep = [level, deep]
    values: list[Any] = [
        None,
        {"a": [1, (2.5, {"b": {3, 4}})], (1, 2): frozenset("x")},
        deep,
        "ünïcödé \0 \U0001f600",
        b"\0\xff" * 3,
        bytearray(b"abc"),
        10**100,
        float("inf"),
        decimal.Decimal("0.1"),
        dt.datetime(2024, 2, 29, tzinfo=dt.UTC),
        collections.OrderedDict(b=1, a=2),
        collections.Counter("banana"),
        range(3, 30, 3),
        slice(1, 2),
        ValueError,
    ]
    own_first: list[Any] = []
    own_first.append(own_first)

    with Pool(2) as pool:
        for value, returned in zip(values, pool.imap(same, values), strict=True):
            print(type(value).__name__, type(value) is type(returned), value == returned)
        print("recursive:", pool.apply(is_own_first, (own_first,)))
        big = blow_up(4_000_000)
        print("large, sent:", pool.apply(digest, (big,)) == digest(big))
        print("large, returned:", pool.map(blow_up, [4_000_000, 1024]) == [big, big[:1024]])
        error = pool.apply(same, (KeyError("as a value"),))
        print("an exception as a result is no error:", repr(error))
