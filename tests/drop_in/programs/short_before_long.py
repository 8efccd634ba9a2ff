"""A short call's result is here although the same worker is busy with a long one; the program decides when that ends."""

import multiprocessing
from multiprocessing import Pool
from multiprocessing.synchronize import Event

gate: Event


def prepare(an_event: Event) -> None:
    global gate
    gate = an_event


def through(number: int) -> int:
    gate.wait()
    return number


if __name__ == "__main__":
    event = multiprocessing.Event()
    with Pool(1, prepare, (event,)) as pool:
        print("many short calls:", sum(pool.apply_async(abs, (number,)).get(60) for number in range(100)))
        print("in one go:", sum(pool.map(abs, range(1000))))

        short = [pool.apply_async(abs, (-number,)) for number in range(5)]
        long = pool.apply_async(through, (5,))
        print("before the long one ends:", [each.get(timeout=30) for each in short], long.ready())
        event.set()
        print("and then:", long.get(timeout=30))

        event.clear()
        few = pool.imap(abs, [-1, -2, -3])
        long = pool.apply_async(through, (6,))
        print("before the next one ends:", next(few), few.next(timeout=30), next(few), long.ready())
        event.set()
        print("and then:", long.get(timeout=30))
