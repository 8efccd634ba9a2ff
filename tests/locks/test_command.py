"""``forkful lock`` with a lock on a server: the threads that keep the lock neither hold it up nor take its signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from forkful.locks import Lock

from .servers import RedisServer
from .support import WATCHDOG

HOLD = ("sh", "-c", "trap 'echo got TERM; exit 5' TERM; echo begun; while read line; do :; done; exit 4")


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``forkful lock`` with these arguments."""
    command = [sys.executable, "-m", "forkful", "lock", *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
            process.communicate(timeout=WATCHDOG)
        except BaseException:
            process.kill()
            raise


@pytest.mark.parametrize("options", [(), ("--timeout", "1m"), ("--no-wait",)])
def test_command_is_started(redis_server: RedisServer, name: str, options: tuple[str, ...]) -> None:
    """Once the lock is had, though a thread extends its lease; a signal is the command's, and the lock is given back."""
    url = redis_server.url(name)
    with running(url, *options, "--", *HOLD) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        assert not Lock(url).acquire(block=False)
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "got TERM\n"  # its input stays open: the end of that would end it too
    assert process.returncode == 5
    assert Lock(url).holder() is None


def test_wait_is_interrupted(redis_server: RedisServer, name: str) -> None:
    url = redis_server.url(name)
    with running(url, "--", *HOLD) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "begun\n"
        with running(url, "--", "true") as waiter:
            await_threads(waiter.pid, 2)
            waiter.send_signal(signal.SIGTERM)
        assert waiter.returncode == -signal.SIGTERM


def test_holder_waits_for_us(redis_server: RedisServer, name: str) -> None:
    url = redis_server.url(name)
    with running(url, "--", sys.executable, "-m", "forkful", "lock", url, "--", "true") as process:
        said = process.communicate(timeout=WATCHDOG)[1]
    assert " can never be had: pid " in said
    assert process.returncode == 2


def await_threads(pid: int, count: int) -> None:
    """Until a process has so many threads, of which one waits."""
    while len(os.listdir(f"/proc/{pid}/task")) < count:
        pass
