"""Real servers, and real clients: who is served, who waits, and what a death, a reload or an end costs."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import socketserver
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from forkful.errors import ServerError
from forkful.server import Server

from .support import HANDLERS, WATCHDOG, Start, await_end, await_stop, read_all


def upper(conn: socket.socket, _address: Any) -> None:
    """Each line comes back in capitals."""
    for line in conn.makefile("rb"):
        conn.sendall(line.upper())


def connect(server: Server) -> socket.socket:
    """A client's connection."""
    host, _, port = server.addresses[0].rpartition(":")
    return socket.create_connection((host, int(port)), timeout=WATCHDOG)


def is_readable(conn: socket.socket) -> bool:
    """Whether something has come."""
    return bool(select.select([conn], [], [], 0)[0])


def test_who_is_served_and_who_waits() -> None:
    """2 processes x 2 threads, 6 clients that stay: 4 are served, and the others as soon as one of those leaves."""
    with Server(upper, "127.0.0.1:0", processes=2, threads=2) as server:
        clients = [connect(server) for _ in range(6)]
        for client in clients:
            client.sendall(b"hello\n")
        served: list[socket.socket] = []
        while len(served) < 4:
            ready, _, _ = select.select([client for client in clients if client not in served], [], [], WATCHDOG)
            served += ready
        assert [client.recv(99) for client in served] == [b"HELLO\n"] * 4
        waiting = [client for client in clients if client not in served]
        for client in waiting:
            assert sum(worker["busy"] for worker in server.stats()["workers"]) == 4
            assert not is_readable(client)
            served.pop().close()
            ready, _, _ = select.select(waiting, [], [], WATCHDOG)
            assert ready[0].recv(99) == b"HELLO\n"
            waiting.remove(ready[0])
            served.append(ready[0])
        for client in clients:
            client.close()


class Liner(socketserver.StreamRequestHandler):
    """Of the standard library's kind, unchanged."""

    def handle(self) -> None:
        """Answer one line."""
        line = self.rfile.readline()
        self.wfile.write(b"%s from %s at %d\n" % (line.strip(), self.client_address[0].encode(), self.port))

    @property
    def port(self) -> int:
        """The server's."""
        address: Any = self.server.server_address
        return int(address[1])


def test_class_of_socketserver() -> None:
    """As it is."""
    with Server(Liner, "127.0.0.1:0") as server, connect(server) as client:
        client.sendall(b"hi\n")
        port = server.addresses[0].rpartition(":")[2]
        assert read_all(client) == f"hi from 127.0.0.1 at {port}\n".encode()


def test_several_addresses(tmp_path: Path) -> None:
    """Of any kind; a seat waits for all of them."""
    path = tmp_path / "s.sock"
    with Server(upper, ["127.0.0.1:0", f"unix:{path}"], threads=2) as server:
        for _ in range(3):
            with connect(server) as client, socket.socket(socket.AF_UNIX) as other:
                other.settimeout(WATCHDOG)
                other.connect(str(path))
                for conn in (client, other):
                    conn.sendall(b"a\n")
                assert [conn.recv(9) for conn in (client, other)] == [b"A\n", b"A\n"]
    assert not path.exists()


def test_default_timeout_of_the_program(program: Start) -> None:
    """It is for the sockets that a handler makes: a listener blocks, for all."""
    server = program(
        "'handlers:upper', '127.0.0.1:0', threads=2", f"import socket\nsocket.setdefaulttimeout(9)\n{HANDLERS}"
    )
    assert server.ask(b"a\n") == b"A\n"
    (worker,) = server.workers
    before = Path(f"/proc/{worker}/stat").read_text().split()[13:15]
    assert server.ask(b"a\n") == b"A\n"
    time.sleep(0.2)  # of which a seat that spins would use most
    after = Path(f"/proc/{worker}/stat").read_text().split()[13:15]
    assert sum(map(int, after)) - sum(map(int, before)) < 10


def fail(conn: socket.socket, _address: Any) -> None:
    """As the client wants."""
    how = conn.recv(9)
    if how == b"exit":
        raise SystemExit(3)
    if how == b"interrupt":
        raise KeyboardInterrupt
    if how == b"raise":
        raise ValueError(how)
    conn.sendall(b"fine")


@pytest.mark.parametrize("how", [b"raise", b"exit", b"interrupt"])
def test_handler_that_fails(how: bytes) -> None:
    """It costs that connection, and is counted."""
    with Server(fail, "127.0.0.1:0") as server:
        (worker,) = server.stats()["workers"]
        with connect(server) as client:
            client.sendall(how)
            assert read_all(client) == b""
        with connect(server) as client:
            client.sendall(b"x")
            assert read_all(client) == b"fine"
        stats = server.stats()
        assert (stats["failed"], stats["workers"][0]["pid"]) == (1, worker["pid"])


def test_client_that_goes_away() -> None:
    """In the middle, with a reset: likewise."""
    with Server(upper, "127.0.0.1:0") as server:
        with connect(server) as client:
            client.sendall(b"a\n" * 100)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        with connect(server) as client:
            client.sendall(b"b\n")
            assert client.recv(9) == b"B\n"


def test_silent_client_with_io_timeout() -> None:
    """It does not keep its seat."""
    with Server(upper, "127.0.0.1:0", io_timeout=0.1) as server, connect(server) as silent, connect(server) as client:
        client.sendall(b"a\n")
        assert client.recv(9) == b"A\n"
        assert read_all(silent) == b""


def test_reload_under_load(program: Start) -> None:
    """Not one connection is lost, while all workers are replaced again and again."""
    server = program("'handlers:upper', '127.0.0.1:0', processes=2, threads=2")
    served: list[bytes] = []
    ended = threading.Event()

    def load() -> None:
        while not ended.is_set():
            served.append(server.ask(b"x\n"))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        server.send(signal.SIGHUP)
        server.read_until("reloaded")
    ended.set()
    for thread in threads:
        thread.join()
    assert server.end() == 0
    assert len(served) > 100
    assert set(served) == {b"X\n"}


def test_killed_worker(program: Start) -> None:
    """What it was serving is lost; what is queued is not, and another takes its place at once."""
    server = program("'handlers:upper', '127.0.0.1:0'")
    with server.connect() as served, contextlib.ExitStack() as stack:
        served.sendall(b"a\n")
        assert served.recv(9) == b"A\n"
        queued = [stack.enter_context(server.connect()) for _ in range(5)]
        for client in queued:
            client.sendall(b"b\n")
            client.shutdown(socket.SHUT_WR)
        (victim,) = server.workers
        os.kill(victim, signal.SIGKILL)
        assert [read_all(client) for client in queued] == [b"B\n"] * 5
        with contextlib.suppress(ConnectionError):
            assert read_all(served) == b""
    assert server.workers != [victim]


def test_end_with_a_queue(program: Start) -> None:
    """One running, two queued, SIGTERM: all three are answered, and who comes later is not let in."""
    server = program("'handlers:upper', '127.0.0.1:0'")
    running, *queued = clients = [server.connect() for _ in range(3)]
    for client in clients:
        client.sendall(b"a\n")
    assert running.recv(9) == b"A\n"
    server.send(signal.SIGTERM)
    running.sendall(b"b\n")
    assert running.recv(9) == b"B\n"
    running.close()
    for client in queued:
        assert client.recv(9) == b"A\n"
        client.close()
    server.read_until("\0")
    assert server.process.wait(WATCHDOG) == 0
    with pytest.raises(ConnectionRefusedError):
        server.connect()


@pytest.mark.parametrize(
    "signals", [[signal.SIGQUIT], [signal.SIGTERM, signal.SIGTERM], [signal.SIGINT, signal.SIGINT]]
)
def test_end_at_once(program: Start, signals: list[int]) -> None:
    """Whoever is still served."""
    server = program("'handlers:upper', '127.0.0.1:0'")
    with server.connect() as client:
        client.sendall(b"a\n")
        assert client.recv(9) == b"A\n"
        for signum in signals:
            server.send(signum)
            time.sleep(0.05)  # two signals of a kind that come at once are one
        server.read_until("\0")
        assert server.process.wait(WATCHDOG) == 0
        with contextlib.suppress(ConnectionError):
            assert client.recv(9) == b""


def test_master_is_killed(program: Start) -> None:
    """Its workers go with it, whatever they do, and the port is free."""
    server = program("'handlers:upper', '127.0.0.1:0', processes=2, threads=2")
    with server.connect() as client:
        client.sendall(b"a\n")
        assert client.recv(9) == b"A\n"
        workers = server.workers
        server.process.kill()
        server.process.wait()
        for worker in workers:
            await_end(worker)
        with contextlib.suppress(ConnectionError):
            assert client.recv(9) == b""
    socket.create_server(server.address).close()


def test_worker_is_stopped(program: Start) -> None:
    """By SIGSTOP: nobody waits for it."""
    server = program("'handlers:pid', '127.0.0.1:0', processes=3")
    answers: set[int] = set()
    while answers != set(server.workers):  # until all are ready
        answers.add(int(server.ask()))
    stopped, *others = server.workers
    os.kill(stopped, signal.SIGSTOP)
    await_stop(stopped)
    try:
        answers = {int(server.ask()) for _ in range(60)}
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert answers == set(others)


def tell_pid(conn: socket.socket, _address: Any) -> None:
    """Which process this is."""
    conn.sendall(b"%d" % os.getpid())


def test_shares_are_even() -> None:
    """Whoever has waited longest is next."""
    with Server(tell_pid, "127.0.0.1:0", processes=4) as server:
        shares: dict[bytes, int] = {}
        for _ in range(40):
            while sum(worker["idle"] for worker in server.stats()["workers"]) < 4:
                time.sleep(0.0001)  # nothing else tells of it
            with connect(server) as client:
                who = read_all(client)
            shares[who] = shares.get(who, 0) + 1
    assert sorted(shares.values()) == [10] * 4


def test_elastic(program: Start) -> None:
    """From the least to the most, and back."""
    server = program("'handlers:upper', '127.0.0.1:0', processes=(1, 3), threads=2, idle_timeout=0.3")
    clients = [server.connect() for _ in range(6)]
    for client in clients:
        client.sendall(b"a\n")
    for client in clients:
        assert client.recv(9) == b"A\n"
    workers = server.workers
    assert len(workers) == 3
    for client in clients:
        client.close()
    for worker in workers:
        if worker in server.workers and len(server.workers) > 1:
            continue
    deadline = time.monotonic() + WATCHDOG
    while len(server.workers) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)  # which of them stays is not ours to say
    assert server.ask(b"b\n") == b"B\n"
    assert server.end() == 0


STUCK = """
import re

def handle(conn, address):
    word = conn.recv(9)
    if word == b"python":
        conn.recv(9)  # for ever
    if word == b"C":
        re.match(r"(a+)+$", "a" * 64 + "b")  # one call, for ages, with the interpreter's lock
    conn.sendall(word)
"""


@pytest.mark.parametrize("where", [b"python", b"C"])
def test_stuck_handler(program: Start, where: bytes) -> None:
    """It is cut off in time, its stack is told, and its sibling's request is not."""
    server = program("'handlers:handle', '127.0.0.1:0', threads=2, timeout=1, drain_timeout=5", STUCK)
    (worker,) = server.workers
    with server.connect() as stuck:
        stuck.sendall(where)
        if where == b"python":
            time.sleep(0.7)  # so that the sibling, which comes now, is not late when the other is
            with server.connect() as sibling:
                server.read_until("it is replaced")
                sibling.sendall(b"fine")
                assert read_all(sibling) == b"fine"
        with contextlib.suppress(ConnectionError):
            assert read_all(stuck) == b""
    await_end(worker)
    assert server.ask(b"x") == b"x"
    server.end()
    lines = server.lines
    assert any("took longer than 1 s" in line for line in lines)
    assert any("in handle" in line for line in lines)


def test_recycling(program: Start) -> None:
    """After so many connections a worker is replaced, and none is lost."""
    server = program("'handlers:pid', '127.0.0.1:0', max_requests=10")
    deadline = time.monotonic() + WATCHDOG
    answers: dict[bytes, int] = {}
    while len(answers) < 4:  # one serves on until the next is ready
        assert time.monotonic() < deadline
        answer = server.ask()
        answers[answer] = answers.get(answer, 0) + 1
    assert b"" not in answers
    assert all(count >= 10 for count in list(answers.values())[:-1])


FORKING = """
import os, time

def handle(conn, address):
    if conn.recv(9) == b"fork":
        pid = os.fork()
        if not pid:
            os.closerange(0, 3)  # of which the test waits for the end
            os.close(conn.detach())
            time.sleep(60)
            os._exit(0)
        conn.sendall(b"%d" % pid)
"""


def test_child_of_a_handler_holds_no_port(program: Start) -> None:
    """Nor does its client wait for it."""
    server = program("'handlers:handle', '127.0.0.1:0'", FORKING)
    child = int(server.ask(b"fork"))
    try:
        assert server.end() == 0
        socket.create_server(server.address).close()
    finally:
        os.kill(child, signal.SIGKILL)


EXITING = """
import os, sys

def handle(conn, address):
    word = conn.recv(9)
    if word == b"fork" and not os.fork():
        sys.exit(3)
    if word == b"close":
        os.close(conn.fileno())
    else:
        conn.sendall(b"%d" % os.getpid())
"""


def test_copy_of_a_worker_serves_nobody(program: Start) -> None:
    """A handler forks, and the child raises SystemExit: it ends there."""
    server = program("'handlers:handle', '127.0.0.1:0'", EXITING)
    (worker,) = server.workers
    for _ in range(5):
        assert server.ask(b"fork") == b"%d" % worker
    assert [server.ask(b"x") for _ in range(5)] == [b"%d" % worker] * 5
    assert server.end() == 0


def test_handler_that_closes_the_descriptor(program: Start) -> None:
    """It costs no seat."""
    server = program("'handlers:handle', '127.0.0.1:0', threads=2", EXITING)
    (worker,) = server.workers
    for _ in range(5):
        with contextlib.suppress(ConnectionError):
            assert server.ask(b"close") == b""
    assert [server.ask(b"x") for _ in range(5)] == [b"%d" % worker] * 5


def test_no_descriptor_for_a_new_worker(program: Start) -> None:
    """The master goes on with the workers that are there."""
    server = program("'handlers:upper', '127.0.0.1:0'")
    pid = server.process.pid
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 99))
    server.send(signal.SIGHUP)
    assert "Too many open files" in server.read_until("given up")[-1]
    assert server.ask(b"a\n") == b"A\n"
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (99, 99))
    server.send(signal.SIGHUP)
    server.read_until("reloaded")
    assert server.end() == 0


def test_borrowed_socket(program: Start) -> None:
    """One that systemd, say, has passed on is as it was at the end: with who is queued, for the next one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        for _ in range(2):
            server = program(f"'handlers:upper', 'fd:{listener.fileno()}'", pass_fds=(listener.fileno(),))
            server.address = address
            assert server.ask(b"a\n") == b"A\n"
            assert server.end() == 0
        with socket.create_connection(address, timeout=WATCHDOG) as queued:
            queued.sendall(b"b\n")
            server = program(f"'handlers:upper', 'fd:{listener.fileno()}'", pass_fds=(listener.fileno(),))
            assert queued.recv(9) == b"B\n"
        server.end()


def test_end_while_a_successor_starts(program: Start, tmp_path: Path) -> None:
    """It is not left alone."""
    server = program("'handlers:upper', '127.0.0.1:0'")
    (tmp_path / "handlers.py").write_text("import time\ntime.sleep(60)\n")
    server.send(signal.SIGUSR2)
    successor = int(server.read_until("starting a successor")[-1].rpartition(" ")[2])
    assert server.end() == 0
    await_end(successor)
    with pytest.raises(ConnectionRefusedError):
        server.connect()


def test_reload_after_somebody_elses(tmp_path: Path) -> None:
    """`reload` waits for its own."""
    file = tmp_path / "handlers.py"
    file.write_text("def handle(conn, address): conn.sendall(b'one')\n")
    with Server(f"{file}:handle", "127.0.0.1:0") as server:
        os.kill(server.stats()["pid"], signal.SIGHUP)
        while server.stats()["reloads"] < 1:
            time.sleep(0.001)  # nothing else tells of it
        file.write_text("def handle(conn, address): conn.sendall(b'two')\n")
        server.reload()
        with connect(server) as client:
            assert read_all(client) == b"two"


def test_file_of_a_socket_goes_with_a_failed_start(tmp_path: Path) -> None:
    """And the object can be used again."""
    path = tmp_path / "s.sock"
    server = Server("nosuch:handler", f"unix:{path}")
    for _ in range(2):
        with pytest.raises(ServerError, match="nosuch"):
            server.start()
        assert not path.exists()


def test_stop_in_a_forked_child() -> None:
    """Does nothing: the server is the parent's."""
    with Server(upper, "127.0.0.1:0") as server:
        pid = os.fork()
        if not pid:
            code = 1
            try:
                files = [os.open("/dev/null", os.O_RDONLY) for _ in range(9)]
                server.stop()
                for file in files:
                    os.fstat(file)
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        with connect(server) as client:
            client.sendall(b"a\n")
            assert client.recv(9) == b"A\n"


LEAK = """
import os
kept = []

def handle(conn, address):
    kept.append(bytearray(os.urandom(1)) * 20_000_000)
    conn.sendall(b"%d" % os.getpid())
"""


def test_recycling_by_memory(program: Start) -> None:
    """One that holds too much is replaced, and no connection is lost."""
    server = program("'handlers:handle', '127.0.0.1:0', max_memory='150MB'", LEAK)
    deadline = time.monotonic() + WATCHDOG
    answers: set[bytes] = set()
    while len(answers) < 3:
        assert time.monotonic() < deadline
        answers.add(server.ask())
    assert b"" not in answers


def test_worker_is_told_to_leave(program: Start) -> None:
    """By a SIGTERM of somebody's: in good order, after another has come."""
    server = program("'handlers:upper', '127.0.0.1:0'")
    (worker,) = server.workers
    with server.connect() as client:
        client.sendall(b"a\n")
        assert client.recv(9) == b"A\n"
        os.kill(worker, signal.SIGTERM)
        assert server.ask(b"b\n") == b"B\n"  # by the other one
        client.sendall(b"c\n")
        assert client.recv(9) == b"C\n"
    await_end(worker)
    assert server.ask(b"b\n") == b"B\n"


def test_resize_by_signal(program: Start) -> None:
    """One more, one fewer."""
    server = program("'handlers:pid', '127.0.0.1:0'")
    server.send(signal.SIGTTIN)
    assert "2 workers" in server.read_until("workers")[-1]
    server.send(signal.SIGTTOU)
    assert "1 worker " in server.read_until("1 worker")[-1]


def test_upgrade(program: Start) -> None:
    """SIGUSR2: another process takes over the socket, and no connection is lost."""
    server = program("'handlers:upper', '127.0.0.1:0', processes=2")
    served: list[bytes] = []
    ended = threading.Event()

    def load() -> None:
        while not ended.is_set():
            served.append(server.ask(b"x\n"))

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    server.send(signal.SIGUSR2)
    successor = int(server.read_until("starting a successor")[-1].rpartition(" ")[2])
    server.read_until("ended")
    assert server.process.wait(WATCHDOG) == 0
    for _ in range(20):
        assert server.ask(b"y\n") == b"Y\n"
    ended.set()
    for thread in threads:
        thread.join()
    assert set(served) == {b"X\n"}
    os.kill(successor, signal.SIGTERM)
    await_end(successor)
    with pytest.raises(ConnectionRefusedError):
        server.connect()


def test_upgrade_to_bad_code(program: Start, tmp_path: Path) -> None:
    """The program that is there serves on."""
    server = program("'handlers:upper', '127.0.0.1:0'")
    (tmp_path / "handlers.py").write_text("def upper(")
    server.send(signal.SIGUSR2)
    server.read_until("serves on")
    assert server.ask(b"y\n") == b"Y\n"
    assert server.end() == 0


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        ("nosuch:handler", "nosuch:handler cannot be loaded: ModuleNotFoundError: No module named 'nosuch'"),
        ("os:nosuch", "os:nosuch: there is no 'nosuch' in os; check the spelling"),
        ("os:path", "which cannot be called"),
        ("/nosuch/file.py:handler", "there is no file /nosuch/file.py; check the path"),
        ("socketserver:DatagramRequestHandler", "datagrams"),
    ],
)
def test_handler_that_cannot_be_loaded(handler: str, message: str) -> None:
    """One line, and nothing is left."""
    with pytest.raises(ServerError) as caught:
        Server(handler, "127.0.0.1:0", processes=2).start()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_code_on_reload(tmp_path: Path) -> None:
    """Those that serve go on; the next reload may succeed."""
    file = tmp_path / "handlers.py"
    file.write_text("def handle(conn, address): conn.sendall(b'one')\n")
    with Server(f"{file}:handle", "127.0.0.1:0") as server:
        file.write_text("def handle(conn, address) conn.sendall(b'two')\n")
        with pytest.raises(ServerError, match="SyntaxError"):
            server.reload()
        with connect(server) as client:
            assert read_all(client) == b"one"
        file.write_text("def handle(conn, address): conn.sendall(b'three')\n")
        server.reload()
        with connect(server) as client:
            assert read_all(client) == b"three"


def test_port_is_taken() -> None:
    """One line, with the cure."""
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(ServerError, match="it is taken; stop the program that listens there"),
    ):
        Server(upper, f"127.0.0.1:{other.getsockname()[1]}").start()


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (ValueError, {"processes": (3, 2)}),
        (ValueError, {"processes": 0}),
        (TypeError, {"processes": "2"}),
        (TypeError, {"processes": (1, 2, 3)}),
        (ValueError, {"threads": 0}),
        (TypeError, {"threads": 1.5}),
        (ValueError, {"timeout": 0}),
        (TypeError, {"timeout": "soon"}),
        (ValueError, {"max_memory": "lots"}),
        (ValueError, {"address": "nowhere"}),
        (TypeError, {"address": 8080}),
        (TypeError, {"handler": 3}),
        (ValueError, {"handler": "nocolon"}),
    ],
)
def test_bad_arguments(error: type[Exception], options: dict[str, Any]) -> None:
    """At once, and before anything is opened."""
    with pytest.raises(error) as caught:
        Server(**{"handler": upper, "address": "127.0.0.1:0", **options})
    assert "\n" not in str(caught.value)


def test_never_stopped() -> None:
    """A warning, and nothing is left."""
    server = Server(upper, "127.0.0.1:0").start()
    with pytest.warns(ResourceWarning, match="was never stopped"):
        del server


def test_start_and_stop_again() -> None:
    """As often as wanted; not twice at a time."""
    server = Server(upper, "127.0.0.1:0")
    for _ in range(3):
        server.start()
        with pytest.raises(RuntimeError, match="running already"):
            server.start()
        with connect(server) as client:
            client.sendall(b"a\n")
            assert client.recv(9) == b"A\n"
        server.stop()
    server.stop()
