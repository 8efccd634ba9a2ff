"""A process that does with a lock what it is told, a line of JSON for each thing: see `Agent`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forkful.errors import LockError
from forkful.locks import Lock


class Failed(Exception):
    """What the agent's lock raised."""

    def __init__(self, kind: str, text: str, fence: int | None) -> None:
        super().__init__(kind, text, fence)
        self.kind, self.text, self.fence = kind, text, fence


class Agent:
    """The other end."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.locks.agent", url],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.pid = self._process.pid

    def tell(self, *command: Any) -> None:
        """Do this; `hear` follows."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")

    def hear(self) -> Any:
        """What came of it."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the agent has ended"
        kind, *answer = json.loads(line)
        if kind != "done":
            raise Failed(kind, *answer)
        return answer[0]

    def ask(self, *command: Any) -> Any:
        """Both."""
        self.tell(*command)
        return self.hear()

    def send_signal(self, number: int) -> None:
        """And wait for its end, if it is SIGKILL."""
        os.kill(self.pid, number)
        if number == signal.SIGKILL:
            self._process.wait()

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.communicate()


def count(lock: Lock, path: str, times: int) -> None:
    """Add so many to the number in a file, in two steps that only the lock keeps together."""
    file = Path(path)
    for _ in range(times):
        with lock:
            number = int(file.read_text())
            file.write_text(str(number + 1))


def hold_again_and_again(lock: Lock, seconds: float) -> None:
    """Take it, have it for a while, and take it again at once."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with lock:
            time.sleep(0.05)


def fork(lock: Lock) -> list[Any]:
    """Whether a forked child got the lock, and whether it could release it."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        had = lock.acquire(block=False)
        try:
            lock.release()
            released = True
        except LockError:
            released = False
        os.write(writer, json.dumps([had, released]).encode())
        os._exit(0)
    os.wait()
    answer: list[Any] = json.loads(os.read(reader, 100))
    return answer


def fork_sleeper() -> int:
    """A child that stays, and outlives its parent; its pid."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, b"x")
        signal.pause()
    os.read(reader, 1)
    return pid


def main() -> None:
    """Do what is told until there is no more."""
    lock = Lock(sys.argv[1])
    commands: dict[str, Callable[..., Any]] = {
        "acquire": lock.acquire,
        "release": lock.release,
        "check": lock.check,
        "fence": lambda: lock.fence,
        "recovered": lambda: lock.recovered,
        "count": lambda path, times: count(lock, path, times),
        "hold_again_and_again": lambda seconds: hold_again_and_again(lock, seconds),
        "fork": lambda: fork(lock),
        "fork_sleeper": fork_sleeper,
    }
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            print(json.dumps(["done", commands[name](*arguments)]), flush=True)
        except LockError as error:
            print(json.dumps([type(error).__name__, str(error), getattr(error, "fence", None)]), flush=True)


if __name__ == "__main__":
    main()
