"""Sockets and connections in the arguments of tasks, and in their results."""

from __future__ import annotations

import contextlib
import copy
import functools
import multiprocessing
import os
import pickle
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from forkful import Pool
from forkful.errors import PoolTerminated, TaskCancelled, UnpicklableError, WorkerDied

from . import socket_tasks, tasks
from .support import WATCHDOG


class Door:
    """Where clients come in."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))

    def connect(self) -> tuple[socket.socket, socket.socket, Any]:
        """A client, and what the server has of it."""
        client = socket.create_connection(self._listener.getsockname(), WATCHDOG)
        conn, addr = self._listener.accept()
        return client, conn, addr

    def close(self) -> None:
        """Close it."""
        self._listener.close()


@pytest.fixture
def door() -> Iterator[Door]:
    with contextlib.closing(Door()) as door:
        yield door


@pytest.fixture
def gate(tmp_path: Path) -> Callable[[], str]:
    """Makes FIFOs on which tasks can wait."""
    names = iter(range(100))

    def make() -> str:
        path = str(tmp_path / f"gate{next(names)}")
        os.mkfifo(path)
        return path

    return make


def open_gate(path: str) -> None:
    """Let those who wait there go."""
    Path(path).write_text("open", encoding="ascii")


def rest_of(client: socket.socket) -> bytes:
    """All that comes until the other side has closed its last copy."""
    with client:
        return b"".join(iter(lambda: client.recv(1000), b""))


def ask(client: socket.socket, text: bytes) -> bytes:
    """Send one line, and hear all that comes."""
    client.sendall(text)
    return rest_of(client)


# Arguments.


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # of what is dropped
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "dropped"])
def test_the_loop_of_a_server(start_method: str, door: Door, *, closed: bool) -> None:
    """The parent closes its own right after the call, or forgets it; the client sees the end as soon as the task is over."""
    with Pool(2, start_method=start_method) as pool:
        for _ in range(3):
            client, conn, addr = door.connect()
            result = pool.apply_async(socket_tasks.talk, (conn, addr))
            if closed:
                conn.close()
            del conn
            assert ask(client, b"hello") == b"HELLO"
            assert result.get(WATCHDOG) != os.getpid()


def test_parent_may_keep_its_own(start_method: str, door: Door) -> None:
    with Pool(1, start_method=start_method) as pool:
        client, conn, _ = door.connect()
        client.sendall(b"hello")
        pool.apply(socket_tasks.talk, (conn,))
        conn.sendall(b" again")
        conn.close()
        assert rest_of(client) == b"HELLO again"


def test_client_sees_the_end_while_the_task_goes_on(start_method: str, door: Door, gate: Callable[[], str]) -> None:
    path = gate()
    with Pool(1, start_method=start_method) as pool:
        client, conn, _ = door.connect()
        result = pool.apply_async(socket_tasks.hang_up, (conn, path))
        conn.close()
        assert rest_of(client) == b""
        assert not result.ready()
        open_gate(path)
        assert result.get(WATCHDOG) == "open"


def test_inside_other_arguments(start_method: str, door: Door) -> None:
    with Pool(1, start_method=start_method) as pool:
        for size in (10, 2_000_000):
            client, conn, _ = door.connect()
            pool.apply(socket_tasks.talk_first, ({"here": [conn]},), {"data": bytes(size)})
            conn.close()
            assert rest_of(client) == b"%d" % size


def test_beside_a_function_by_value(door: Door) -> None:
    with Pool(1) as pool:
        for first in (True, False):
            client, conn, _ = door.connect()
            upper = lambda text: text.upper()  # noqa: E731  # what only cloudpickle can do
            arguments = (conn, upper) if first else (upper, conn)
            pool.apply(lambda *these: [one.send(b"hi") for one in these if isinstance(one, socket.socket)], arguments)
            conn.close()
            assert rest_of(client) == b"hi"


def test_connection_of_multiprocessing(start_method: str) -> None:
    """Also where nothing had to do with any when the pool was made; for pickle it is an object with a number in it."""
    with Pool(1, start_method=start_method) as pool:
        ours, theirs = multiprocessing.Pipe()
        result = pool.apply_async(socket_tasks.answer, (theirs,))
        theirs.close()
        with ours:
            ours.send("hello")
            assert ours.recv() == "HELLO"
            assert result.get(WATCHDOG) == "hello"
            with pytest.raises(EOFError):
                ours.recv()


def test_timeout_goes_along(door: Door) -> None:
    with Pool(1) as pool:
        client, conn, _ = door.connect()
        with client, conn:
            for seconds in (None, 2.5, 0.0):
                conn.settimeout(seconds)
                assert pool.apply(socket_tasks.timeout_of, (conn,)) == (seconds, False)


def test_threads(start_method: str, door: Door) -> None:
    """All of them have their own at the same time."""
    with Pool(2, threads=4, start_method=start_method) as pool:
        talks = []
        for number in range(8):
            client, conn, addr = door.connect()
            talks.append((client, number, pool.apply_async(socket_tasks.talk, (conn, addr))))
            conn.close()
        for client, number, result in reversed(talks):
            assert ask(client, b"line %d" % number) == b"LINE %d" % number
            result.get(WATCHDOG)


@pytest.mark.parametrize("method", ["map", "imap_unordered"])
def test_maps_send_each_alone(start_method: str, door: Door, gate: Callable[[], str], method: str) -> None:
    """So the clients of elements that have ended see the end, whatever becomes of those that were in one chunk with them."""
    path = gate()
    with Pool((2, 2), start_method=start_method) as pool:  # started now: a fork copies what the parent has by then
        clients, pairs = [], []
        for number in range(4):
            client, conn, _ = door.connect()
            client.sendall(b"line")
            clients.append(client)
            pairs.append((conn, path if number == 0 else ""))
        if method == "map":
            read = functools.partial(pool.map_async(socket_tasks.talk_and_stay, pairs, 4).get, WATCHDOG)
        else:
            read = functools.partial(list, pool.imap_unordered(socket_tasks.talk_and_stay, pairs, 4))
        for client in clients:
            assert client.recv(100) == b"LINE"
        for conn, _ in pairs:  # all have been read by now
            conn.close()
        assert [rest_of(client) for client in clients] == [b""] * 4
        open_gate(path)
        assert sorted(read()) == ["", "", "", "open"]


def test_executor_and_keywords(door: Door) -> None:
    with Pool(1) as pool, pool.executor() as executor:
        client, conn, addr = door.connect()
        future = executor.submit(socket_tasks.talk, addr=addr, conn=conn)
        conn.close()
        assert ask(client, b"hello") == b"HELLO"
        future.result(WATCHDOG)


def test_many(start_method: str) -> None:
    """A thousand connections leave no descriptor, neither here nor in the worker."""
    with Pool(1, start_method=start_method) as pool:
        _talk_with(pool, 1)
        here, there = socket_tasks.count_descriptors(), pool.apply(socket_tasks.count_descriptors)
        for _ in range(10):
            _talk_with(pool, 100)
        assert pool.apply(socket_tasks.count_descriptors) == there
        assert socket_tasks.count_descriptors() == here


def _talk_with(pool: Any, count: int) -> None:
    """As many clients at the same time."""
    clients = []
    for number in range(count):
        client, conn = socket.socketpair()
        with conn:
            client.sendall(b"line %d" % number)
            clients.append((client, number, pool.apply_async(socket_tasks.talk, (conn,))))
    for client, number, result in clients:
        result.get(WATCHDOG)
        assert rest_of(client) == b"LINE %d" % number


# Refusals.


def test_refusals(door: Door) -> None:
    with Pool(1) as pool:
        client, conn, _ = door.connect()
        with client, conn:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            secure = context.wrap_socket(conn.dup(), server_side=True, do_handshake_on_connect=False)
            with secure, pytest.raises(UnpicklableError, match="wrap it there"):
                pool.apply(socket_tasks.talk, (secure,))
            with pytest.raises(UnpicklableError, match="socket"):
                pool.apply(functools.partial(socket_tasks.talk, conn))
            with pytest.raises(TypeError, match="socket"):
                pool.share(conn)
            ours, theirs = multiprocessing.Pipe()
            with ours, theirs, pytest.raises(UnpicklableError, match="task's arguments"):
                pool.apply(functools.partial(socket_tasks.answer, ours))
            with pytest.raises(UnpicklableError):
                pool.apply(socket_tasks.talk, (conn, (one for one in "")))
        with pytest.raises(ValueError, match="closed"):
            pool.apply(socket_tasks.talk, (conn,))
        with pytest.raises(ValueError, match="closed"):
            pool.apply(socket_tasks.answer, (ours,))
        assert pool.map(tasks.double, [1, 2]) == [2, 4]


def test_pickle_elsewhere_is_as_before() -> None:
    with Pool(1) as pool:
        pool.apply(tasks.double, (1,))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for way in (pickle.dumps, copy.copy):
            with pytest.raises(TypeError, match="cannot pickle 'socket' object"):
                way(ours)
    connection, other = multiprocessing.Pipe()
    with connection, other:
        blob = pickle.dumps(connection)
        assert b"_handle" in blob


# Ends of all kinds.


def test_tried_again(start_method: str, door: Door, tmp_path: Path) -> None:
    with Pool(1, start_method=start_method) as pool:
        client, conn, _ = door.connect()
        result = pool.apply_async(socket_tasks.die_once, (conn, str(tmp_path / "marker")), retries=1)
        conn.close()
        assert rest_of(client) == b"first second"
        result.get(WATCHDOG)


@pytest.mark.parametrize("retries", [0, 1])
def test_task_that_fails(start_method: str, door: Door, retries: int) -> None:
    with Pool(1, start_method=start_method) as pool:
        client, conn, _ = door.connect()
        result = pool.apply_async(socket_tasks.fail, (conn,), retries=retries)
        conn.close()
        assert rest_of(client) == b""
        with pytest.raises(RuntimeError):
            result.get(WATCHDOG)


def test_worker_dies(start_method: str, door: Door) -> None:
    with Pool(1, start_method=start_method) as pool:
        client, conn, _ = door.connect()
        result = pool.apply_async(socket_tasks.die, (conn,))
        conn.close()
        assert rest_of(client) == b"bye"
        with pytest.raises(WorkerDied):
            result.get(WATCHDOG)


def test_worker_is_killed_before_it_took_them(start_method: str, door: Door, gate: Callable[[], str]) -> None:
    with Pool(1, start_method=start_method) as pool:
        first, conn, _ = door.connect()
        victim = pool.apply_async(socket_tasks.stay_with, (conn, gate()))
        conn.close()
        assert first.recv(4) == b"here"
        talks = []
        for number in range(3):
            client, conn, addr = door.connect()
            talks.append((client, number, pool.apply_async(socket_tasks.talk, (conn, addr))))
            conn.close()
        (worker,) = pool._pool
        os.kill(worker.pid or 0, signal.SIGKILL)
        assert rest_of(first) == b""
        for client, number, result in talks:
            assert ask(client, b"line %d" % number) == b"LINE %d" % number
            result.get(WATCHDOG)
        with pytest.raises(WorkerDied):
            victim.get(WATCHDOG)


def test_cancelled_in_the_queue(start_method: str, door: Door, gate: Callable[[], str]) -> None:
    path = gate()
    with Pool(1, start_method=start_method) as pool:
        busy, conn, _ = door.connect()
        first = pool.apply_async(socket_tasks.stay_with, (conn, path))
        conn.close()
        assert busy.recv(4) == b"here"
        client, conn, _ = door.connect()
        result = pool.apply_async(socket_tasks.talk, (conn,))
        conn.close()
        assert result.cancel()
        with pytest.raises((TaskCancelled, CancelledError)):
            result.get(WATCHDOG)
        assert rest_of(client) == b""  # though the handle is there, and the worker is not to be asked
        open_gate(path)
        assert first.get(WATCHDOG) == "open"
        assert rest_of(busy) == b""


def test_pool_is_terminated(start_method: str, door: Door, gate: Callable[[], str]) -> None:
    with Pool(1, start_method=start_method) as pool:
        clients, results = [], []
        for _ in range(3):
            client, conn, _ = door.connect()
            clients.append(client)
            results.append(pool.apply_async(socket_tasks.stay_with, (conn, gate())))
            conn.close()
        assert clients[0].recv(4) == b"here"
        pool.terminate()
        assert [rest_of(client) for client in clients] == [b""] * 3
        for result in results:
            with pytest.raises(PoolTerminated):
                result.get(WATCHDOG)


def test_child_of_the_program_has_no_copy(door: Door, gate: Callable[[], str]) -> None:
    """Of what waits: a fork of the user's closes that."""
    path = gate()
    with Pool(1) as pool:
        first = pool.apply_async(socket_tasks.stay, (path,))
        client, conn, _ = door.connect()
        result = pool.apply_async(socket_tasks.talk, (conn,))
        conn.close()
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        os.close(reader)
        open_gate(path)
        first.get(WATCHDOG)
        try:
            assert ask(client, b"hello") == b"HELLO"
        finally:
            os.close(writer)
            os.waitpid(child, 0)
        result.get(WATCHDOG)


def test_no_descriptors_left_in_the_worker(door: Door) -> None:
    """A clear error of that task; and all goes on."""
    with Pool(1) as pool:
        _talk_with(pool, 1)
        pool.apply(socket_tasks.ration)
        client, conn, _ = door.connect()
        with client, conn, pytest.raises(OSError, match="ulimit"):
            pool.apply(socket_tasks.talk, (conn,))
        pool.apply(socket_tasks.end_ration)
        client, conn, _ = door.connect()
        client.sendall(b"hello")
        pool.apply(socket_tasks.talk, (conn,))
        conn.close()
        assert rest_of(client) == b"HELLO"


# Results.


def test_socket_as_a_result(start_method: str) -> None:
    with Pool(1, start_method=start_method) as pool:
        assert rest_of(pool.apply(socket_tasks.make_socket, ("hello",))) == b"hello"
        both = pool.apply(socket_tasks.make_both, ("both",))
        assert rest_of(both["socket"]) == b"both"
        assert len(both["data"]) == 200_000
        with pool.apply(socket_tasks.make_connection, ("word",)) as connection:
            assert isinstance(connection, Connection)
            assert connection.recv() == "word"


def test_sockets_as_results_of_maps(start_method: str) -> None:
    with Pool(2, threads=2, start_method=start_method) as pool:
        words = [str(number) for number in range(40)]
        assert [rest_of(one).decode() for one in pool.map(socket_tasks.make_socket, words)] == words
        assert [rest_of(one).decode() for one in pool.imap(socket_tasks.make_socket, words, 10)] == words


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # those beside an error are dropped with it
def test_results_of_all_kinds_in_one_block() -> None:
    with Pool(1) as pool:
        pool.apply(socket_tasks.group_for_long)
        result = pool.map_async(socket_tasks.make_some, [0, 1, 2, 4, 5], chunksize=5)
        found = [rest_of(one) if isinstance(one, socket.socket) else one for one in result.get(WATCHDOG)]
        assert found == [b"0", 1, b"2", b"4", 5]
        with pytest.raises(ValueError, match="3"):
            pool.map(socket_tasks.make_some, [0, 1, 2, 3, 4], chunksize=5)


def test_results_that_nobody_fetches() -> None:
    """They go with their handles; and what cannot be pickled leaves nothing in the worker."""
    with Pool(1) as pool:
        pool.apply(socket_tasks.make_socket, ("",)).close()
        here, there = socket_tasks.count_descriptors(), pool.apply(socket_tasks.count_descriptors)
        with pytest.raises(UnpicklableError):
            pool.apply(socket_tasks.make_and_refuse, ("",))
        for one in pool.map(socket_tasks.make_socket, ["x"] * 300):
            one.close()
        assert pool.apply(socket_tasks.count_descriptors) == there
        assert socket_tasks.count_descriptors() == here
