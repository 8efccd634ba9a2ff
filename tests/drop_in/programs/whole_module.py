"""The other spelling: the module is imported, and the pool is taken from it."""

import multiprocessing


def shout(word: str) -> str:
    return word.upper()


if __name__ == "__main__":
    with multiprocessing.Pool(processes=2) as pool:
        print(pool.map(shout, ["one", "two"]))
    with multiprocessing.Pool() as pool:
        print(pool.apply(shout, ["three"]))
    numbers = multiprocessing.Pool(2)
    print(sum(numbers.imap_unordered(abs, range(-100, 0), chunksize=10)))
    numbers.terminate()
    numbers.join()
