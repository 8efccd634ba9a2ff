"""Workers have names and know that they are not the main process."""

import multiprocessing
from multiprocessing import Pool
from typing import Any


def role() -> str:
    if multiprocessing.current_process().name == "MainProcess":
        return "the main process"
    return "a worker"


def numbered() -> bool:
    kind, _, number = multiprocessing.current_process().name.rpartition("-")
    return kind.endswith("PoolWorker") and number.isdigit()


def has_a_parent() -> bool:
    return multiprocessing.parent_process() is not None


def number_is_its_identity() -> bool:
    me: Any = multiprocessing.current_process()
    return bool(me.name.endswith(f"-{me._identity[-1]}"))


if __name__ == "__main__":
    with Pool(2) as pool:
        print("I am", role(), "and it is", pool.apply(role))
        print("workers are numbered:", pool.apply(numbered))
        print("and their number is their identity:", pool.apply(number_is_its_identity))
        print("a parent, there and here:", pool.apply(has_a_parent), has_a_parent())
        print("functions still belong to __main__:", role.__module__)
    print("the name of this process is not touched:", multiprocessing.current_process().name)
