"""What holds for locks on every kind of server, whatever the server does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from forkful.errors import LockError, LockLost
from forkful.locks import Lock, RLock, RWLock

from .agent import Agent
from .servers import PostgresServer, RedisServer

Agents = Callable[[str], Agent]
Server = RedisServer | PostgresServer
LATE = 0.1  # of a machine that is busy; the contract says 20 ms


@pytest.fixture(params=["redis", "postgres"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.fixture
def other(server: Server) -> Callable[[str], str]:
    """The URL of the same lock, so written that this process takes it for another."""
    return lambda name: server.url(name, "?lease=29" if isinstance(server, RedisServer) else "&keepalives=1")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes longer than a second does not answer."""
    monkeypatch.setattr("forkful.locks._server.ANSWER_S", 1.0)


def took(function: Callable[[], Any]) -> float:
    """Seconds."""
    began = time.monotonic()
    function()
    return time.monotonic() - began


def run_all(threads: list[threading.Thread]) -> None:
    """To their ends."""
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_time_out_holds_while_the_server_is_stopped(server: Server, name: str) -> None:
    lock = Lock(server.url(name))
    with lock:
        pass
    answers: list[bool] = []
    with server.stopped():
        threads = [threading.Thread(target=lambda: answers.append(lock.acquire(timeout=0.2))) for _ in range(3)]
        seconds = took(lambda: run_all(threads))
        assert answers == [False] * 3
        assert seconds < 0.2 + LATE
        assert took(lambda: lock.acquire(timeout=0.1)) < 0.1 + LATE  # what was asked before is still on its way
    assert lock.acquire(timeout=5)
    lock.release()


def test_time_out_holds_while_it_is_connected_to(server: Server, name: str) -> None:
    with server.stopped():
        lock = Lock(server.url(name))
        assert took(lambda: lock.acquire(timeout=0.2)) < 0.2 + LATE
    assert lock.acquire(timeout=5)
    lock.release()


@pytest.mark.usefixtures("impatient")
def test_release_ends_while_the_server_is_stopped(server: Server, name: str, other: Callable[[str], str]) -> None:
    lock = Lock(server.url(name))
    impatient_url = other(name) + ("&connect_timeout=2" if isinstance(server, PostgresServer) else "")
    lock.acquire()
    again = Lock(impatient_url)
    errors: list[str] = []

    def come() -> None:
        with pytest.raises(LockError) as caught:
            again.acquire(block=False)
        errors.append(str(caught.value))

    coming = threading.Thread(target=come)  # at the same time, which saves a second
    with server.stopped():
        coming.start()
        with pytest.raises(LockLost, match=r"(did|does) not answer"):
            lock.release()
        coming.join()
    (error,) = errors
    assert "does not answer" in error or "cannot be reached" in error
    assert again.acquire(timeout=3)  # it was given back when the server heard of it
    again.release()


def test_event_loop_goes_on(server: Server, name: str) -> None:
    lock, held, again = Lock(server.url(name)), RWLock(server.url(f"{name}-rw")), RLock(server.url(f"{name}-r"))

    async def main() -> float:
        gaps = []

        async def tick() -> None:
            while True:
                before = time.monotonic()
                await asyncio.sleep(0.01)
                gaps.append(time.monotonic() - before)

        ticking = asyncio.create_task(tick())
        await held.read().acquire_async()
        async with again, again:
            with server.stopped():
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await lock.acquire_async()
                releasing = asyncio.create_task(held.read().release_async())
                await asyncio.sleep(0.2)
                assert not releasing.done()
            await releasing
        assert not held._door.holders
        assert not again._door.holders
        async with lock:
            pass
        ticking.cancel()
        return max(gaps)

    assert asyncio.run(main()) < 0.1


def test_what_gave_up_gets_nothing(server: Server, name: str, agents: Agents, other: Callable[[str], str]) -> None:
    holder, waiter = Lock(other(name)), agents(server.url(name))
    holder.acquire()
    assert waiter.ask("acquire", True, 0.1) is False
    time.sleep(0.1)  # the server is told, by a thread of the other process
    waiter.send_signal(signal.SIGSTOP)
    holder.release()
    assert holder.acquire(timeout=0.5)
    holder.release()


def test_what_gave_up_is_in_nobodys_way(server: Server, name: str, other: Callable[[str], str]) -> None:
    foreign, lock = Lock(other(name)), Lock(server.url(name))
    foreign.acquire()
    assert not lock.acquire(timeout=0.05)
    foreign.release()
    assert lock.acquire(block=False)
    lock.release()


# It is interrupted while it is armed, and nowhere else.
INTERRUPTED = """
import signal, sys, time
from forkful.locks import Lock

lock = Lock(sys.argv[1])
with lock:
    pass
armed = False
count = 0

def interrupt(*_):
    global armed, count
    if armed:
        armed = False
        count += 1
        raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.003, 0.0071)
end = time.monotonic() + 60
while count < 80 and time.monotonic() < end:
    try:
        armed = True
        with lock:
            pass
        armed = False
    except (KeyboardInterrupt, RuntimeError):  # the latter of a threading.Condition that it came into
        armed = False
        if lock._door.holders:  # it came between the lock and the block
            lock.release()
signal.setitimer(signal.ITIMER_REAL, 0)
again = Lock(sys.argv[2])
assert again.acquire(timeout=2)
again.release()
assert lock.acquire(timeout=2)
lock.release()
print(count)
"""


def test_interrupted_again_and_again(server: Server, name: str, other: Callable[[str], str]) -> None:
    """In a program of its own: one that came elsewhere would end the whole run of tests."""
    command = [sys.executable, "-c", INTERRUPTED, server.url(name), other(name)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=90, check=True)
    assert done.stdout == "80\n"


def test_first_come_first_served(server: Server, name: str, agents: Agents) -> None:
    busy, lock = agents(server.url(name)), Lock(server.url(name))
    assert lock.holder() is None  # and there is a connection
    busy.tell("hold_again_and_again", 0.7)  # longer than three turns may take
    while lock.holder() is None:
        time.sleep(0.001)  # the server tells nobody who has it
    for _ in range(3):
        assert took(lock.acquire) < 0.05 + LATE
        lock.release()
    busy.hear()


def test_end_of_the_program_gives_it_back(server: Server, name: str) -> None:
    program = f"from forkful.locks import Lock; lock = Lock({server.url(name)!r}); lock.acquire()"
    subprocess.run([sys.executable, "-c", program], check=True)
    lock = Lock(server.url(name))
    assert lock.acquire(timeout=1)
    assert lock.recovered is (True if isinstance(server, RedisServer) else None)
    lock.release()


def test_idle_locks_share_their_connections(server: Server, name: str) -> None:
    locks = [Lock(server.url(f"{name}-{number}")) for number in range(20)]
    before = open_descriptors()
    for lock in locks:
        with lock:
            pass
    limit = time.monotonic() + 5
    while open_descriptors() - before >= 5:  # the porters' pipes go a moment after the locks
        assert time.monotonic() < limit
        time.sleep(0.01)


def open_descriptors() -> int:
    """How many there are."""
    return len(os.listdir("/proc/self/fd"))


def test_waiter_survives_its_connection(server: Server, name: str, other: Callable[[str], str]) -> None:
    holder, lock = Lock(other(name)), Lock(server.url(name))
    holder.acquire()
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    time.sleep(0.2)  # the server tells nobody who waits
    cut_off_waiters(server)
    time.sleep(0.1)
    holder.release()
    thread.join(5)
    assert lock._door.holders
    lock.release()


def cut_off_waiters(server: Server) -> None:
    """The server ends the connections of all who wait."""
    if isinstance(server, RedisServer):
        import redis

        with redis.Redis.from_url(server.url("0")) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # the holder does without, too
        return
    import psycopg

    query = "SELECT pg_terminate_backend(pid, 9000) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with psycopg.connect(server.url("").replace("?lock=", "")) as connection:
        assert connection.execute(query).fetchall() == [(True,)]
