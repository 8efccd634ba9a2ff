"""What the tests of captured output have workers do."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any


def write(number: int) -> int:
    """Writes as Python does."""
    print("out", number)
    print("err", number, file=sys.stderr)
    return number


def write_in_every_way(number: int) -> int:
    """By text, by bytes, by descriptor, by C code, by a child, from a thread; lines and parts of lines."""
    print("print", end=" ")
    sys.stdout.buffer.write(b"bytes\xff ")
    os.write(1, b"descriptor ")
    ctypes.CDLL(None).printf(b"printf ")
    subprocess.run([sys.executable, "-c", "print('child', end=' ')"], check=True)
    thread = threading.Thread(target=print, args=("thread",), kwargs={"end": " "})
    thread.start()
    thread.join()
    os.system("echo shell >&2")
    return number


def write_if_odd(number: int) -> int:
    """Does not always write."""
    if number % 2:
        print(number)
    return number


def write_slowly(number: int) -> int:
    """Writes before and after it has waited; the thread it ran in."""
    print("begin", number)
    time.sleep(0.02)  # the work itself
    print("end", number)
    return threading.get_ident()


def write_and(how: str) -> None:
    """Writes, and comes to an end of some kind."""
    print("before the end", end="")
    ctypes.CDLL(None).printf(b", in C")
    sys.stderr.write("of " + how)
    if how == "raise":
        raise ValueError(how)
    if how == "crash":
        ctypes.string_at(0)
    if how == "leave":
        os._exit(3)
    threading.Event().wait()


def write_until(path: str) -> str:
    """Fails twice."""
    with Path(path).open("a", encoding="ascii") as file:
        file.write("x")
    attempt = Path(path).stat().st_size
    print("attempt", attempt)
    if attempt < 3:
        raise ValueError(attempt)
    return "done"


def write_much(lines: int) -> None:
    """More than is kept."""
    for number in range(lines):
        print(number, "x" * 1000)
    subprocess.run(["head", "-c", "3000000", "/dev/zero"], check=True)
    print("the end")


def initialize() -> None:
    """Its output is of no task."""
    print("initialized", flush=True)
    logging.basicConfig(format="%(message)s")


def log(number: int) -> int:
    """By the handler that the initializer has set up on what was standard error then."""
    logging.getLogger("capture").warning("logged %d", number)
    return number


def nested() -> Any:
    """A pool in a task: what its tasks print is theirs, or this task's."""
    import forkful

    with forkful.Pool(1, capture_output=True) as pool:
        result = pool.apply_async(write, (1,))
        result.wait()
    with forkful.Pool(1) as pool:
        pool.apply(write, (2,))
    return result.stdout
