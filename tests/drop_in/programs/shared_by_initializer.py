"""The classic way to share: the initializer of each worker puts a lock, a number, a queue and an event in globals."""

import multiprocessing
from multiprocessing import Pool
from multiprocessing.synchronize import Event, Lock
from typing import Any

lock: Lock
stock: Any
sold: Any
opened: Event


def prepare(a_lock: Lock, a_value: Any, a_queue: Any, an_event: Event) -> None:
    global lock, stock, sold, opened
    lock, stock, sold, opened = a_lock, a_value, a_queue, an_event


def buy(buyer: int) -> bool:
    opened.wait()
    with lock:
        if stock.value == 0:
            return False
        stock.value -= 1
        sold.put(buyer)
        return True


def left() -> int:
    return int(stock.value)


if __name__ == "__main__":
    shared: tuple[Lock, Any, Any, Event] = (
        multiprocessing.Lock(),
        multiprocessing.Value("i", 10, lock=False),
        multiprocessing.Queue(),
        multiprocessing.Event(),
    )
    with Pool(3, initializer=prepare, initargs=shared) as pool:
        answers = pool.map_async(buy, range(40), chunksize=4)
        shared[3].set()
        bought = answers.get(timeout=60)
        buyers = sorted(shared[2].get(timeout=60) for _ in range(10))

        print("tickets sold:", bought.count(True))
        print("buyers refused:", bought.count(False))
        print("left, seen by a worker and here:", pool.apply(left), shared[1].value)
        print("the queue names the buyers:", buyers == [buyer for buyer, served in enumerate(bought) if served])
