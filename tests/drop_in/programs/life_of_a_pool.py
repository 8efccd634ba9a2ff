"""Open, close, join; what a closed pool refuses; workers that are replaced after so many tasks."""

import os
import pickle
from multiprocessing import Pool


def where(_: int) -> int:
    return os.getpid()


if __name__ == "__main__":
    pool = Pool(2)
    results = [pool.apply_async(abs, (-number,)) for number in range(20)]
    try:
        pool.join()
    except ValueError:
        print("join() comes after close()")
    try:
        pickle.dumps(pool)
    except NotImplementedError:
        print("a pool stays where it is")
    pool.close()
    for refused in (
        lambda: pool.apply(abs, (1,)),
        lambda: pool.apply_async(abs, (1,)),
        lambda: pool.map(abs, [1]),
        lambda: pool.map_async(abs, [1]),
        lambda: pool.starmap(abs, [(1,)]),
        lambda: pool.imap(abs, [1]),
        lambda: pool.imap_unordered(abs, [1]),
        pool.__enter__,
    ):
        try:
            refused()
        except ValueError:
            print("closed")
    pool.join()
    print("what was given before is done:", [result.get(60) for result in results])
    pool.close()
    pool.join()
    pool.terminate()
    print("closing twice is no error")

    with Pool(1, maxtasksperchild=2) as pool:
        print("processes for six calls:", len({pool.apply(where, (number,)) for number in range(6)}))
        print("processes for four chunks:", len(set(pool.map(where, range(12), chunksize=3))))
    with Pool(1) as pool:
        print("processes without a limit:", len(set(pool.map(where, range(12), chunksize=1))))

    for wrong in ({"processes": 0}, {"processes": -1}, {"maxtasksperchild": 0}, {"maxtasksperchild": 0.5}):
        try:
            Pool(**{"processes": 1, **wrong})  # type: ignore[arg-type]  # wrong on purpose
        except ValueError:
            print("refused:", wrong)
    try:
        Pool(1, initializer=1)  # type: ignore[arg-type]  # wrong on purpose
    except TypeError:
        print("refused: an initializer that cannot be called")
