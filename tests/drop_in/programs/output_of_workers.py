"""What workers print arrives, although they never flush it, once the pool is closed and joined; so does their cleaning up."""

import multiprocessing.util
from multiprocessing import Pool


def prepare() -> None:
    multiprocessing.util.Finalize(None, print, args=("the worker cleans up",), exitpriority=10)
    print("the worker is ready")


def say(word: str) -> None:
    print("the worker says", word)


if __name__ == "__main__":
    print("the program begins")
    pool = Pool(1, initializer=prepare)
    pool.map(say, ["one", "two", "three"])
    pool.close()
    pool.join()
    print("the program ends")
