"""Waiting with a limit: for a result, for an iterator, for something that is not there yet."""

import multiprocessing
from collections.abc import Callable
from multiprocessing import Pool
from multiprocessing.synchronize import Event
from typing import Any

gate: Event


def prepare(an_event: Event) -> None:
    global gate
    gate = an_event


def through(number: int) -> int:
    gate.wait()
    return number


if __name__ == "__main__":
    event = multiprocessing.Event()
    with Pool(2, prepare, (event,)) as pool:
        one = pool.apply_async(through, (1,))
        many = pool.map_async(through, [2, 3])
        in_order = pool.imap(through, [4, 5])
        in_any_order = pool.imap_unordered(through, [6, 7])

        waits: dict[str, Callable[[], Any]] = {
            "get": lambda: one.get(0.05),
            "get of a map": lambda: many.get(timeout=0.05),
            "next": lambda: in_order.next(0.05),
            "next of any": lambda: in_any_order.next(timeout=0.05),
            "get without waiting": lambda: one.get(0),
        }
        for name, wait in waits.items():
            try:
                wait()
            except multiprocessing.TimeoutError:
                print(name, "gave up")
        one.wait(0.05)
        print("ready:", one.ready(), many.ready())
        try:
            one.successful()
        except ValueError:
            print("nobody knows whether it will be successful")

        event.set()
        print(one.get(60), many.get(60), in_order.next(60), next(in_order), sorted(in_any_order))
        print("ready:", one.ready(), many.ready(), "successful:", one.successful(), many.successful())
        print("again:", one.get(), many.get())
