"""Locks in PostgreSQL, on a server of our own."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forkful.errors import LockError, LockLost
from forkful.locks import Lock, RWLock

from .agent import Agent, Failed
from .servers import Bouncer, PostgresServer, free_port
from .test_redis import try_it

Agents = Callable[[str], Agent]
OTHER = "&keepalives=1"  # makes it another URL of the same lock: another session


def wait_for_waiter(server: PostgresServer) -> None:
    """Until a session waits for a lock."""
    with connect(server) as connection:
        while not count(connection, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            pass  # the server tells nobody who waits


def connect(server: PostgresServer) -> Any:
    """A session of our own."""
    import psycopg

    return psycopg.connect(server.url("").replace("?lock=", ""), autocommit=True, options="-c statement_timeout=0")


def count(connection: Any, query: str) -> int:
    """The number that *query* asks for."""
    row: tuple[int] = connection.execute(query).fetchone()
    return row[0]


def test_numbers_and_state(postgres_server: PostgresServer, name: str) -> None:
    lock, other = Lock(postgres_server.url(name)), Lock(postgres_server.url(name, OTHER))
    assert lock.acquire()
    assert not other.acquire(block=False)
    assert other.locked()
    lock.check()
    first = lock.fence
    lock.release()
    assert not other.locked()
    with other:
        assert first is not None
        assert other.fence is not None
        assert other.fence > first
        assert other.recovered is None


def test_processes_exclude_each_other(
    postgres_server: PostgresServer, name: str, agents: Agents, tmp_path: Path
) -> None:
    number = tmp_path / "number"
    number.write_text("0")
    counters = [agents(postgres_server.url(name)) for _ in range(4)]
    for counter in counters:
        counter.tell("count", str(number), 50)
    for counter in counters:
        counter.hear()
    assert number.read_text() == "200"


def test_timeout(postgres_server: PostgresServer, name: str, agents: Agents) -> None:
    holder = agents(postgres_server.url(name))
    assert holder.ask("acquire")
    lock = Lock(postgres_server.url(name))
    assert not lock.acquire(timeout=0.05)
    holder.ask("release")  # the porter that is still there gets it, and gives it back
    with lock:
        pass


def test_shared(postgres_server: PostgresServer, name: str) -> None:
    one, two = (RWLock(postgres_server.url(name, options)) for options in ("", OTHER))
    with one.read(), two.read():
        pass
    with one.read():
        assert not two.write().acquire(False)
    assert two.write().acquire()
    assert not one.read().acquire(False)
    two.write().release()


def test_sql_contends(postgres_server: PostgresServer, name: str) -> None:
    lock = Lock(postgres_server.url(name))
    with connect(postgres_server) as connection:
        connection.execute("SET application_name = 'by hand'")
        connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [name])
        assert not lock.acquire(block=False)
        found = lock.holder()
        assert found is not None
        assert (found.pid, found.command) == (0, "by hand")
    with lock:
        pass


def test_holder(postgres_server: PostgresServer, name: str, agents: Agents) -> None:
    lock = Lock(postgres_server.url(name))
    assert lock.holder() is None
    agent = agents(postgres_server.url(name))
    agent.ask("acquire")
    found = lock.holder()
    assert found is not None
    assert (found.pid, found.host) == (agent.pid, socket.gethostname())
    assert found.since is not None
    assert "tests.locks.agent" in found.command


def test_killed_holder(postgres_server: PostgresServer, name: str, agents: Agents) -> None:
    holder = agents(postgres_server.url(name))
    holder.ask("acquire")
    before = holder.ask("fence")
    waiter = agents(postgres_server.url(name))
    waiter.tell("acquire")
    wait_for_waiter(postgres_server)
    holder.send_signal(signal.SIGKILL)
    assert waiter.hear()
    assert waiter.ask("fence") > before


def test_child_does_not_keep_it(postgres_server: PostgresServer, name: str, agents: Agents) -> None:
    holder = agents(postgres_server.url(name))
    holder.ask("acquire")
    child = holder.ask("fork_sleeper")
    try:
        holder.ask("check")
        holder.send_signal(signal.SIGKILL)
        assert Lock(postgres_server.url(name)).acquire(timeout=60)
        Lock(postgres_server.url(name)).release()
    finally:
        os.kill(child, signal.SIGKILL)


def test_forked_child_has_nothing(postgres_server: PostgresServer, name: str, agents: Agents) -> None:
    agent = agents(postgres_server.url(name))
    agent.ask("acquire")
    assert agent.ask("fork") == [False, False]
    agent.ask("check")
    agent.ask("release")


def test_server_is_restarted(postgres_server: PostgresServer, name: str, agents: Agents) -> None:
    lock, idle = Lock(postgres_server.url(name)), Lock(postgres_server.url(f"{name}-idle"))
    with idle:
        pass
    lock.acquire()
    before = lock.fence
    held = agents(postgres_server.url(f"{name}-held"))
    held.ask("acquire")
    waiter = agents(postgres_server.url(name))
    waiter.tell("acquire")
    wait_for_waiter(postgres_server)
    postgres_server.restart()
    with pytest.raises(Failed, match="cannot be reached") as failed:  # not at once again
        waiter.hear()
    assert failed.value.kind == "LockError"
    for action in (lock.check, lock.release):
        with pytest.raises(LockLost, match="its session has ended") as caught:
            action()
        assert caught.value.fence == before
    with pytest.raises(Failed, match="its session has ended") as failed:
        held.ask("release")  # without a look before
    assert failed.value.kind == "LockLost"
    for again in (lock, idle):
        with again:
            assert again.fence is not None
            assert before is not None
            assert again.fence > before


def test_session_is_ended(postgres_server: PostgresServer, name: str) -> None:
    lock = Lock(postgres_server.url(name))
    lock.acquire()
    with connect(postgres_server) as connection:
        query = "SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity WHERE application_name LIKE 'forkful %'"
        assert count(connection, query) == 1
    with pytest.raises(LockLost, match="its session has ended"):
        lock.check()
    with pytest.raises(LockLost, match="its session has ended"):
        lock.release()


def test_time_outs_of_the_server_are_off(postgres_server: PostgresServer, name: str, agents: Agents) -> None:
    with connect(postgres_server) as connection:
        connection.execute("ALTER ROLE postgres SET lock_timeout = '50ms'")
        connection.execute("ALTER ROLE postgres SET statement_timeout = '1ms'")
        try:
            with Lock(postgres_server.url(name)):
                waiter = agents(postgres_server.url(name))
                waiter.tell("acquire")
                wait_for_waiter(postgres_server)
                connection.execute("SET statement_timeout = 0")
                connection.execute("SELECT pg_sleep(0.2)")  # longer than both
            assert waiter.hear()
        finally:
            connection.execute("ALTER ROLE postgres RESET ALL")


def test_index_is_made_while_somebody_waits(postgres_server: PostgresServer, name: str, agents: Agents) -> None:
    waiter = agents(postgres_server.url(name))
    with Lock(postgres_server.url(name)), connect(postgres_server) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS numbers (number int)")
        waiter.tell("acquire")
        wait_for_waiter(postgres_server)
        connection.execute("SET statement_timeout = '9s'")
        connection.execute(f'CREATE INDEX CONCURRENTLY "{name}" ON numbers (number)')
    assert waiter.hear()


def test_pooler_is_refused(bouncer: Bouncer, postgres_server: PostgresServer, name: str) -> None:
    lock = Lock(postgres_server.url(name, port=bouncer.port))
    for _ in range(2):
        with pytest.raises(LockError, match=f"127.0.0.1:{bouncer.port} is not PostgreSQL but a pooler"):
            lock.acquire()


def test_wrong_password(postgres_server: PostgresServer, name: str) -> None:
    lock = Lock(postgres_server.url(name, password="guessed"))
    with pytest.raises(LockError, match=f"127.0.0.1:{postgres_server.port} .*password authentication failed") as caught:
        lock.acquire()
    assert "guessed" not in str(caught.value) + caught.value.lock + str(caught.value.__cause__)


@pytest.mark.parametrize("timeout", [None, 0.5])
def test_no_server(timeout: float | None) -> None:
    pytest.importorskip("psycopg", exc_type=ImportError)
    port = free_port()
    lock = Lock(f"postgresql://user:secret@127.0.0.1:{port}/db?lock=stock")
    with pytest.raises(LockError, match=f"PostgreSQL at 127.0.0.1:{port} cannot be reached") as caught:
        lock.acquire(timeout=timeout)
    assert "secret" not in str(caught.value)


def test_server_that_says_nothing() -> None:
    pytest.importorskip("psycopg", exc_type=ImportError)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        with pytest.raises(LockError, match=f"PostgreSQL at 127.0.0.1:{port} cannot be reached"):
            Lock(f"postgresql://127.0.0.1:{port}/db?lock=stock&connect_timeout=2").acquire()


def test_crosses_to_another_process(postgres_server: PostgresServer, name: str) -> None:
    lock = Lock(postgres_server.url(name))
    assert pickle.loads(pickle.dumps(lock)) == lock
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        with lock:
            assert pool.apply(try_it, (lock,)) is False
        assert pool.apply(try_it, (lock,)) is True
        pool.close()
        pool.join()
