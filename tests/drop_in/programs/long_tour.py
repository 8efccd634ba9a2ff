"""The long way round: methods side by side, results in and out of order, failures in each, waits that end early."""

import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pool
from typing import Any


def report(function: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    return f"{function.__name__}{arguments} is {function(*arguments)}"


def report_pair(pair: tuple[Callable[..., Any], tuple[Any, ...]]) -> str:
    return report(*pair)


def times(left: int, right: int) -> int:
    time.sleep(0.002 * random.random())
    return left * right


def plus(left: int, right: int) -> int:
    time.sleep(0.002 * random.random())
    return left + right


def one_over(number: float) -> float:
    return 1.0 / (number - 5.0)


def cube(number: int) -> int:
    return number**3


def nothing(_: object) -> None:
    pass


def results_with_errors(iterator: Iterator[float]) -> list[str]:
    """What comes out of *iterator*, the error of one item being no reason to stop."""
    found = []
    while True:
        try:
            found.append(f"{next(iterator):.3f}")
        except StopIteration:
            return found
        except ZeroDivisionError as error:
            found.append(type(error).__name__)


def ordinary_results(pool: Any) -> None:
    work = [(times, (number, 7)) for number in range(10)] + [(plus, (number, 8)) for number in range(10)]
    singles = [pool.apply_async(report, pair) for pair in work]
    ordered = pool.imap(report_pair, work)
    unordered = pool.imap_unordered(report_pair, work)

    print("apply_async, in order:", *(single.get() for single in singles), sep="\n  ")
    print("imap, in order:", *ordered, sep="\n  ")
    print("imap_unordered, sorted:", *sorted(unordered), sep="\n  ")
    print("map:", *pool.map(report_pair, work), sep="\n  ")


def failures(pool: Any) -> None:
    calls: dict[str, Callable[[], object]] = {
        "apply": lambda: pool.apply(one_over, (5,)),
        "map": lambda: pool.map(one_over, list(range(10))),
        "imap": lambda: list(pool.imap(one_over, list(range(10)))),
        "starmap": lambda: pool.starmap(one_over, [(number,) for number in range(10)]),
    }
    for name, call in calls.items():
        try:
            call()
        except ZeroDivisionError:
            print(name, "raised ZeroDivisionError, as it should")
        else:
            print(name, "raised nothing")
    print("imap goes on:", results_with_errors(pool.imap(one_over, list(range(10)))))
    print("imap_unordered goes on:", sorted(results_with_errors(pool.imap_unordered(one_over, list(range(10))))))


def impatience(pool: Any) -> None:
    answer = pool.apply_async(time.sleep, (0.4,))
    waited_in_vain = False
    while True:
        try:
            answer.get(0.02)
        except multiprocessing.TimeoutError:
            waited_in_vain = True
        else:
            break
    print("a slow answer was waited for more than once:", waited_in_vain)

    naps = pool.imap(time.sleep, [0.3, 0.3])
    waited_in_vain = False
    while True:
        try:
            naps.next(timeout=0.02)
        except StopIteration:
            break
        except multiprocessing.TimeoutError:
            waited_in_vain = True
    print("a slow iterator was waited for more than once:", waited_in_vain)


def throughput(pool: Any) -> None:
    print("cubes:", pool.map(cube, range(2000)) == list(map(cube, range(2000))))
    print("cubes through imap:", list(pool.imap(cube, range(2000), chunksize=250)) == list(map(cube, range(2000))))
    print("nothing, many times:", pool.map(nothing, [None] * 5000) == [None] * 5000)


if __name__ == "__main__":
    multiprocessing.freeze_support()
    with Pool(4) as pool:
        ordinary_results(pool)
        failures(pool)
        impatience(pool)
        throughput(pool)
    print("done")
