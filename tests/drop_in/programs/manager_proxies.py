"""Proxies of a manager as arguments: a dictionary, a list and a lock that live in a third process."""

import multiprocessing
from multiprocessing import Pool
from typing import Any


def count(words: list[str], totals: Any, order: Any, lock: Any) -> int:
    for word in words:
        with lock:
            totals[word] = totals.get(word, 0) + 1
    order.append(len(words))
    return len(words)


if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        totals = manager.dict()
        order = manager.list()
        lock = manager.Lock()
        texts = [["a", "b", "a"], ["b"], ["c", "a"]]
        with Pool(2) as pool:
            print("words:", pool.starmap(count, [(text, totals, order, lock) for text in texts], chunksize=1))
        print("counted:", sorted(totals.items()), sorted(order))
