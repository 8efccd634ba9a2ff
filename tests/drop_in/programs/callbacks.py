"""Callbacks: once for each call, in this process, before get() returns; errors go to the other one."""

import os
from multiprocessing import Pool
from typing import Any


def half(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


if __name__ == "__main__":
    heard: list[Any] = []
    here: set[int] = set()

    def good(result: object) -> None:
        here.add(os.getpid())
        heard.append(("result", result))

    def bad(error: BaseException) -> None:
        here.add(os.getpid())
        heard.append(("error", type(error).__name__, str(error)))

    with Pool(2) as pool:
        for submit in (
            lambda: pool.apply_async(half, (8,), {}, good, bad),
            lambda: pool.apply_async(half, (7,), callback=good, error_callback=bad),
            lambda: pool.map_async(half, [2, 4, 6], callback=good, error_callback=bad),
            lambda: pool.map_async(half, [2, 3, 6], 1, good, bad),
            lambda: pool.starmap_async(half, [(10,), (12,)], callback=good),
            lambda: pool.map_async(half, [], callback=good),
        ):
            call = submit()
            call.wait(60)
            print("ready:", call.ready(), "successful:", call.successful(), "heard:", len(heard))

    for each in heard:
        print(each)
    print("called in this process:", here == {os.getpid()})
