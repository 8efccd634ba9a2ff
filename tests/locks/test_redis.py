"""Locks in Redis, on a server of our own."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from forkful.errors import LockError, LockLost
from forkful.locks import Lock, RLock

from .agent import Agent, Failed
from .servers import RedisServer, free_port

Agents = Callable[[str], Agent]
SHORT = "?lease=0.5"  # of locks that are to be lost


def wait_for_loss(lock: Lock) -> LockLost:
    """Until it is known to be lost, and how."""
    while True:
        try:
            lock.check()
        except LockLost as lost:
            return lost
        time.sleep(0.005)  # nobody else is told


def test_numbers_and_state(redis_server: RedisServer, name: str) -> None:
    lock, other = Lock(redis_server.url(name)), Lock(redis_server.url(name, "?lease=20"))
    assert lock.acquire()
    assert not other.acquire(block=False)
    assert lock.locked()
    assert other.locked()
    lock.check()
    first = lock.fence
    lock.release()
    assert not other.locked()
    with pytest.raises(LockError, match="not held"):
        lock.check()
    with other:
        assert first is not None
        assert other.fence is not None
        assert other.fence > first
        assert other.recovered is False


def test_rlock(redis_server: RedisServer, name: str) -> None:
    lock, other = RLock(redis_server.url(name)), RLock(redis_server.url(name, "?lease=20"))
    with lock, lock:
        assert not other.acquire(block=False)
    assert other.acquire(block=False)
    other.release()


def test_processes_exclude_each_other(redis_server: RedisServer, name: str, agents: Agents, tmp_path: Path) -> None:
    number = tmp_path / "number"
    number.write_text("0")
    counters = [agents(redis_server.url(name)) for _ in range(4)]
    for counter in counters:
        counter.tell("count", str(number), 50)
    for counter in counters:
        counter.hear()
    assert number.read_text() == "200"


def test_timeout(redis_server: RedisServer, name: str, agents: Agents) -> None:
    holder = agents(redis_server.url(name))
    assert holder.ask("acquire")
    lock = Lock(redis_server.url(name))
    assert not lock.acquire(timeout=0.05)
    holder.ask("release")  # the porter that is still there gets it, and gives it back
    with lock:
        pass


def test_holder(redis_server: RedisServer, name: str, agents: Agents) -> None:
    lock = Lock(redis_server.url(name))
    assert lock.holder() is None
    agent = agents(redis_server.url(name))
    agent.ask("acquire")
    found = lock.holder()
    assert found is not None
    assert (found.pid, found.host, found.thread) == (agent.pid, socket.gethostname(), agent.pid)
    assert found.since is not None
    assert "tests.locks.agent" in found.command
    assert not found.stopped
    agent.ask("release")
    with lock:
        found = lock.holder()
        assert found is not None
        assert found.thread == threading.get_native_id()


def test_lock_of_redis_py_contends(redis_server: RedisServer, name: str) -> None:
    import redis

    lock = Lock(redis_server.url(name))
    with redis.Redis.from_url(redis_server.url("0")) as client:
        with lock:
            assert not client.lock(name, blocking=False, timeout=9).acquire()
        foreign = client.lock(name, timeout=9)
        assert foreign.acquire()
        assert not lock.acquire(block=False)
        found = lock.holder()
        assert found is not None
        assert found.pid == 0
        foreign.release()
    with lock:
        assert lock.recovered is False


def test_killed_holder(redis_server: RedisServer, name: str, agents: Agents) -> None:
    holder = agents(redis_server.url(name, SHORT))
    holder.ask("acquire")
    before = holder.ask("fence")
    holder.send_signal(signal.SIGKILL)
    lock = Lock(redis_server.url(name))
    with lock:
        assert lock.recovered is True
        assert lock.fence is not None
        assert lock.fence > before
    with lock:
        assert lock.recovered is False


def test_lease_is_extended(redis_server: RedisServer, name: str, agents: Agents) -> None:
    url = redis_server.url(name, "?lease=0.3")
    lock, other = Lock(url), agents(url)
    lock.acquire()
    assert other.ask("acquire", True, 1) is False  # three leases long
    lock.check()
    lock.release()


def test_stopped_holder_loses_it(redis_server: RedisServer, name: str, agents: Agents) -> None:
    holder = agents(redis_server.url(name, SHORT))
    holder.ask("acquire")
    before = holder.ask("fence")
    holder.send_signal(signal.SIGSTOP)
    lock = Lock(redis_server.url(name))
    with lock:
        assert lock.recovered is True
        assert lock.fence is not None
        assert lock.fence > before
        holder.send_signal(signal.SIGCONT)
        for command in ("check", "release"):
            with pytest.raises(Failed, match=r"lease of 0\.5 s has run out") as caught:
                holder.ask(command)
            assert (caught.value.kind, caught.value.fence) == ("LockLost", before)
        lock.check()
    assert holder.ask("acquire")
    assert holder.ask("recovered") is False


def test_key_is_removed(redis_server: RedisServer, name: str) -> None:
    import redis

    lock = Lock(redis_server.url(name))
    lock.acquire()
    with redis.Redis.from_url(redis_server.url("0")) as client:
        client.delete(name)
    with pytest.raises(LockLost, match="was removed"):
        lock.release()
    with pytest.raises(LockError, match="not held"):
        lock.release()


def test_server_is_killed(redis_server: RedisServer, name: str) -> None:
    lock, kept = Lock(redis_server.url(name, SHORT)), Lock(redis_server.url(f"{name}-kept"))
    lock.acquire()
    kept.acquire()
    before = lock.fence
    redis_server.kill()
    try:
        with pytest.raises(LockLost, match=f"127.0.0.1:{redis_server.port} does not answer"):
            kept.release()
        assert "does not answer" in str(wait_for_loss(lock))
        with pytest.raises(LockLost) as caught:
            lock.release()
        assert caught.value.fence == before
    finally:
        redis_server.start()
    with lock:
        assert before is not None
        assert lock.fence is not None
        assert lock.fence > before


def test_server_is_killed_during_a_wait(redis_server: RedisServer, name: str, agents: Agents) -> None:
    import redis

    lock = Lock(redis_server.url(name))
    waiter = agents(redis_server.url(name))
    lock.acquire()
    waiter.tell("acquire")
    with redis.Redis.from_url(redis_server.url("0")) as client:
        while not client.info("clients")["blocked_clients"]:
            pass  # the server tells nobody who waits
    redis_server.kill()
    try:
        with pytest.raises(Failed, match="does not answer") as caught:
            waiter.hear()
        assert caught.value.kind == "LockError"
        with pytest.raises(LockLost):
            lock.release()
    finally:
        redis_server.start()


def test_restart_is_noticed_at_once(redis_server: RedisServer, name: str) -> None:
    lock = Lock(redis_server.url(name))
    lock.acquire()
    redis_server.kill()
    redis_server.start()
    began = time.monotonic()
    assert "was removed" in str(wait_for_loss(lock))
    assert time.monotonic() - began < 1  # its lease has half a minute to go
    with pytest.raises(LockLost):
        lock.release()


def test_key_of_another_type(redis_server: RedisServer, name: str) -> None:
    import redis

    lock = Lock(redis_server.url(name))
    with redis.Redis.from_url(redis_server.url("0")) as client:
        for key in (name, f"{{{name}}}:forkful"):
            client.lpush(key, 1)
            with pytest.raises(LockError, match="WRONGTYPE"):
                lock.acquire(timeout=1)
            client.delete(key)
        client.hset(f"{{{name}}}:forkful", "fence", "not a number")
    assert lock.acquire(block=False)  # nothing was left behind
    lock.release()


@pytest.mark.parametrize("without", ["eval", "evalsha"])
def test_user_who_may_not_do_all(redis_server: RedisServer, name: str, without: str) -> None:
    import redis

    with redis.Redis.from_url(redis_server.url("0")) as client:
        client.acl_setuser(
            "limited", enabled=True, passwords=["+guessed"], keys=["*"], commands=["+@all", f"-{without}"]
        )
        lock = Lock(
            redis_server.url(name, SHORT)
            .replace("redis://:", "redis://limited:")
            .replace("pa%3Ass%40wo%2Frd", "guessed")
        )
        if without == "eval":
            with pytest.raises(LockError, match="no permissions to run the 'eval' command"):
                lock.acquire()
        else:
            with lock:
                time.sleep(0.6)  # longer than its lease
                lock.check()
        assert not client.exists(name)


def test_unread_answer_is_nobodys(redis_server: RedisServer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Lock(redis_server.url(name))
    with lock, monkeypatch.context() as patch:
        patch.setattr("forkful.locks._redis_client.hear", interrupt)
        with pytest.raises(KeyboardInterrupt):
            lock.holder()
    for _ in range(3):
        assert lock.holder() is None
        with lock:
            found = lock.holder()
            assert found is not None


def interrupt(*_: object) -> bool:
    """Ctrl-C, as an answer is waited for."""
    raise KeyboardInterrupt


def test_answer_to_another_question(redis_server: RedisServer, name: str) -> None:
    from forkful.locks._redis import RedisLock

    lock = Lock(redis_server.url(name))
    server = lock._door.mechanism
    assert isinstance(server, RedisLock)
    with lock:
        connection = server._client.connect()
        connection.send_command("PING")
        server._client.leave(connection)
        try:
            lock.holder()
        except LockError as error:
            assert "another question" in str(error)
        assert lock.holder() is not None


def test_wrong_password(redis_server: RedisServer, name: str) -> None:
    lock = Lock(redis_server.url(name, password="guessed"))
    with pytest.raises(
        LockError, match=f"Redis at 127.0.0.1:{redis_server.port} refuses the user or the password"
    ) as caught:
        lock.acquire()
    assert "guessed" not in str(caught.value) + caught.value.lock


@pytest.mark.parametrize("timeout", [None, 0.5])
def test_no_server(timeout: float | None) -> None:
    pytest.importorskip("redis")
    port = free_port()
    lock = Lock(f"redis://:secret@127.0.0.1:{port}/stock")
    with pytest.raises(LockError, match=f"Redis at 127.0.0.1:{port} does not answer") as caught:
        lock.acquire(timeout=timeout)
    assert "secret" not in str(caught.value)


def test_server_that_says_nothing() -> None:
    pytest.importorskip("redis")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        with pytest.raises(LockError, match=f"Redis at 127.0.0.1:{port} does not answer"):
            Lock(f"redis://127.0.0.1:{port}/stock?lease=0.3").acquire()


def test_forked_child_has_nothing(redis_server: RedisServer, name: str, agents: Agents) -> None:
    agent = agents(redis_server.url(name))
    agent.ask("acquire")
    assert agent.ask("fork") == [False, False]
    agent.ask("check")
    agent.ask("release")


def test_crosses_to_another_process(redis_server: RedisServer, name: str) -> None:
    lock = Lock(redis_server.url(name))
    assert pickle.loads(pickle.dumps(lock)) == lock
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        with lock:
            assert pool.apply(try_it, (lock,)) is False
        assert pool.apply(try_it, (lock,)) is True
        pool.close()
        pool.join()


def try_it(lock: Lock) -> bool:
    """In a worker."""
    if not lock.acquire(block=False):
        return False
    lock.release()
    return True
