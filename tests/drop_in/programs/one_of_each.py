"""A tour of a pool of workers: ordered and unordered results, single calls, several processes, a wait that is too short."""

import multiprocessing
import os
import time
from multiprocessing import Pool


def square(number: int) -> int:
    return number * number


if __name__ == "__main__":
    with Pool(processes=4) as pool:
        print(pool.map(square, range(10)))

        print(sorted(pool.imap_unordered(square, range(10))))

        one = pool.apply_async(square, (20,))
        print(one.get(timeout=60))

        where = pool.apply_async(os.getpid, ())
        print("another process:", where.get(timeout=60) != os.getpid())

        several = [pool.apply_async(os.getpid, ()) for _ in range(4)]
        print("at most four processes:", 1 <= len({each.get(timeout=60) for each in several}) <= 4)

        slow = pool.apply_async(time.sleep, (600,))
        try:
            print(slow.get(timeout=0.2))
        except multiprocessing.TimeoutError:
            print("we lacked patience")

        in_order = pool.imap(square, range(10))
        print(next(in_order), next(in_order), in_order.next(timeout=60))

        print("the pool takes more work")

    print("and now it is closed")
    try:
        pool.map(square, [1])
    except ValueError:
        print("so it takes none")
