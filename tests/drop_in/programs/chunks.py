"""Every way to spread an iterable, with every size of chunk, and the same answers each time."""

import functools
import itertools
import operator
from collections.abc import Iterator
from multiprocessing import Pool


def power(base: int, exponent: int = 2) -> int:
    return int(base**exponent)


def countdown(start: int) -> Iterator[int]:
    while start:
        yield start
        start -= 1


if __name__ == "__main__":
    with Pool(2) as pool:
        for chunksize in (None, 1, 2, 7, 100):
            print("map", chunksize, pool.map(power, range(10), chunksize))
            print("starmap", chunksize, pool.starmap(power, zip(range(10), itertools.repeat(3)), chunksize))
        for chunksize in (1, 2, 7, 100):
            print("imap", chunksize, list(pool.imap(power, countdown(10), chunksize)))
            print("imap_unordered", chunksize, sorted(pool.imap_unordered(power, countdown(10), chunksize)))

        print("map of a generator", pool.map(power, countdown(5)))
        print("map of nothing", pool.map(power, []), list(pool.imap(power, ())), pool.starmap(power, iter([])))
        print("apply with keywords", pool.apply(power, (2,), {"exponent": 10}), pool.apply(power, kwds={"base": 9}))
        print("a partial", pool.map(functools.partial(power, exponent=3), [1, 2, 3]))
        print("a builtin and an operator", pool.map(len, ["a", "bb"]), pool.starmap(operator.mul, [(2, 3), (4, 5)]))
        print("a bound method", pool.map("x-{}".format, [1, 2]))
        print("map_async", pool.map_async(power, [1, 2, 3]).get(60))
        print("starmap_async", pool.starmap_async(power, [(2, 5), (3, 3)]).get(60))
        for refused in (0, -1):
            try:
                pool.imap(power, [1], refused)
            except ValueError:
                print("imap refuses a chunk size of", refused)
