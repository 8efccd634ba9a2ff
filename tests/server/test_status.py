"""The status address: what it tells, to whom, and that it costs the server nothing, whatever becomes of it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from forkful.errors import ServerError
from forkful.server import Server, _status
from forkful.server._address import parse_address
from forkful.server._board import BOUNDS, EDITION, Board
from forkful.server._depths import queue_of, sum_depths
from forkful.server._facts import gather
from forkful.server._listeners import open_listener
from forkful.server._metrics import expose
from forkful.server._status import is_trusted
from forkful.server._status_page import render

from .support import WATCHDOG, Program, Start, await_end, await_stop, read_all


def upper(conn: socket.socket, _address: Any) -> None:
    """Each line comes back in capitals."""
    for line in conn.makefile("rb"):
        conn.sendall(line.upper())


def ask(address: str, path: str, method: str = "GET", host: str | None = None) -> tuple[int, str, HTTPMessage]:
    """Status, body and headers."""
    with contextlib.closing(HTTPConnection(address, timeout=WATCHDOG)) as client:
        client.request(method, path, headers={} if host is None else {"Host": host})
        answer = client.getresponse()
        return answer.status, answer.read().decode(), answer.headers


def read_facts(address: str) -> dict[str, Any]:
    """``/status.json``."""
    status, text, _ = ask(address, "/status.json")
    assert status == 200
    facts: dict[str, Any] = json.loads(text)
    return facts


@pytest.fixture
def server() -> Iterator[Server]:
    """One with a status address."""
    with Server(upper, "127.0.0.1:0", threads=2, status="127.0.0.1:0") as started:
        yield started


def address_of(server: Server) -> str:
    """Of the status."""
    assert server.status_address is not None
    return server.status_address


@contextlib.contextmanager
def served(server: Server) -> Iterator[socket.socket]:
    """A client that holds a seat."""
    host, _, port = server.addresses[0].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=WATCHDOG) as client:
        client.sendall(b"a\n")
        assert client.recv(9) == b"A\n"
        yield client


def start_program(program: Start, arguments: str = "") -> tuple[Program, str, int]:
    """A server, where it tells its status, and the process that does."""
    server = program(f"'handlers:upper', '127.0.0.1:0', status='127.0.0.1:0'{arguments}")
    (line,) = (line for line in server.lines if "status at" in line)
    address = line.partition("http://")[2]
    return server, address, teller(server, address)


def teller(server: Program, address: str, *ended: int) -> int:
    """The status process: the master's child that is no worker, and none of those that have *ended*."""
    workers = {worker["pid"] for worker in read_facts(address)["workers"]}
    (pid,) = {*server.workers} - workers - {*ended}
    return pid


# What it tells.


def test_status_for_programs(server: Server) -> None:
    """What `Server.stats` tells, and who sits where."""
    with served(server) as client:
        facts, stats = read_facts(address_of(server)), server.stats()
        (worker,) = facts["workers"]
        seats = worker.pop("seats")
        busy, idle = sorted(seats, key=lambda seat: seat["doing"])
        assert (busy["doing"], busy["client"]) == ("busy", "{}:{}".format(*client.getsockname()))
        assert 0 < busy["seconds"] <= facts["uptime"]
        assert (idle["doing"], idle["client"]) == ("idle", "")
        assert facts.pop("addresses") == server.addresses
        for told in (facts, stats, worker, stats["workers"][0]):
            assert told.pop("age" if "age" in told else "uptime") > 0  # the time has moved on
        stats["durations"] = [list(pair) for pair in stats["durations"]]
        assert facts == stats
    assert (facts["busy"], facts["idle"], facts["wanted"], facts["started"], facts["died"]) == (1, 1, 1, 1, 0)


def test_status_for_people(server: Server) -> None:
    """A page that needs nothing else, at two paths; HEAD tells its length."""
    with served(server) as client:
        status, text, headers = ask(address_of(server), "/")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert "{}:{}".format(*client.getsockname()) in text
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert ask(address_of(server), "/status?now")[0] == 200
    status, text, headers = ask(address_of(server), "/", "HEAD")
    assert (status, text) == (200, "")
    assert int(headers["Content-Length"]) > 1000


def test_metrics(server: Server) -> None:
    """In Prometheus' format."""
    with served(server):
        pass
    while server.stats()["busy"]:
        time.sleep(0.001)  # its seat hears of the end a moment later than its client
    with served(server):
        status, text, headers = ask(address_of(server), "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    samples = read_samples(text)
    assert samples["forkful_server_seats", "busy"] == 1
    assert (
        samples["forkful_server_requests_total", "served"] == samples["forkful_server_request_seconds_count", ""] == 1
    )
    assert samples["forkful_server_queued", ""] == 0


def read_samples(text: str) -> dict[tuple[str, str], float]:
    """By name and label."""
    families = text_string_to_metric_families(text)
    return {(one.name, "".join(one.labels.values())): one.value for family in families for one in family.samples}


def test_metrics_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line says what is missing; all else is there."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "forkful.server._metrics")
    monkeypatch.delattr("forkful.server._metrics")
    with Server(upper, "127.0.0.1:0", status="127.0.0.1:0") as server:
        status, text, _ = ask(address_of(server), "/metrics")
        assert status == 501
        assert text.count("\n") == 1
        assert 'pip install "forkful[metrics]"' in text
        assert ask(address_of(server), "/")[0] == 200


# To whom.


def test_nothing_else(server: Server) -> None:
    """No other path, and nothing that changes anything."""
    assert ask(address_of(server), "/other")[0] == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "SHUTDOWN"):
        status, _, headers = ask(address_of(server), "/", method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_name_that_means_this_machine(server: Server) -> None:
    """A page elsewhere that a browser lets ask us is told nothing."""
    port = address_of(server).rpartition(":")[2]
    for path in ("/", "/status.json", "/metrics", "/other"):
        assert ask(address_of(server), path, host=f"rebound.example:{port}")[0] == 403
    for host in (f"localhost:{port}", "LOCALHOST", f"[::1]:{port}", "192.0.2.7"):
        assert ask(address_of(server), "/", host=host)[0] == 200


def test_trusted_hosts() -> None:
    """Addresses, and localhost."""
    for host in ("", "localhost.rebound.example", "127.0.0.1.rebound.example", "[::1", "::1", "1", "localhost:80:80"):
        assert not is_trusted(host), host
    assert all(map(is_trusted, ("localhost", "localhost:1", "127.0.0.1", "127.0.0.1:", "[2001:db8::1]:80")))


def test_unix_socket(tmp_path: Path) -> None:
    """No browser gets there: any name will do; the file goes with the server."""
    path = tmp_path / "status"
    with Server(upper, "127.0.0.1:0", status=f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(WATCHDOG)
        client.connect(str(path))
        client.sendall(b"GET /status.json HTTP/1.1\r\nHost: any.example\r\n\r\n")
        assert read_all(client).startswith(b"HTTP/1.0 200 ")
    assert not path.exists()


# What it costs.


def test_clients_that_are_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the server do not notice; and whoever sends a byte now and then is cut off like one that sends none."""
    monkeypatch.setattr(_status, "IO_TIMEOUT", 0.2)
    with Server(upper, "127.0.0.1:0", status="127.0.0.1:0") as server, contextlib.ExitStack() as stack:
        host, _, port = address_of(server).rpartition(":")
        silent = [stack.enter_context(socket.create_connection((host, int(port)), timeout=WATCHDOG)) for _ in range(5)]
        with served(server):
            pass
        assert [read_all(client) for client in silent] == [b""] * 5
        client = stack.enter_context(socket.create_connection((host, int(port)), timeout=WATCHDOG))
        client.sendall(b"GET / HTTP/1.1\r\nX-Long: ")
        for _ in range(3000):
            if select.select([client], [], [], 0.02)[0]:
                break
            client.sendall(b"x")
        else:
            pytest.fail("it was never cut off")


def test_master_that_is_stopped(program: Start) -> None:
    """It has no part in the answer."""
    server, address, _ = start_program(program)
    server.send(signal.SIGSTOP)
    await_stop(server.process.pid)
    assert read_facts(address)["idle"] == 1
    server.send(signal.SIGCONT)


def test_status_process_that_is_killed(program: Start) -> None:
    """Another takes its place, the fleet knows nothing of it, and who asks in between is answered."""
    server, address, pid = start_program(program)
    before = read_facts(address)
    os.kill(pid, signal.SIGKILL)
    await_end(pid)
    after = read_facts(address)
    assert teller(server, address, pid) != pid
    for key in ("started", "died", "wanted", "generation", "requests"):
        assert before[key] == after[key], key
    assert before["workers"][0]["pid"] == after["workers"][0]["pid"]
    assert server.end() == 0
    assert any("the status process was killed by SIGKILL; the next one" in line for line in server.lines)


def test_status_process_that_is_told_to_leave(program: Start) -> None:
    """By SIGTERM to it alone: likewise, without a word."""
    server, address, pid = start_program(program)
    os.kill(pid, signal.SIGTERM)
    await_end(pid)
    assert teller(server, address, pid) != pid
    assert server.end() == 0
    assert not any("status process" in line for line in server.lines)


def test_deaths_and_reloads(program: Start, tmp_path: Path) -> None:
    """Are counted, and what was counted before stays; a reload replaces the status process, too."""
    server, address, pid = start_program(program)
    assert server.ask(b"a\n") == b"A\n"
    before = read_facts(address)
    os.kill(before["workers"][0]["pid"], signal.SIGKILL)
    server.read_until("takes its place")
    assert server.ask(b"a\n") == b"A\n"
    server.send(signal.SIGHUP)
    server.read_until("reloaded")
    await_end(pid)
    facts = read_facts(address)
    assert (facts["died"], facts["reloads"], facts["reloads_given_up"], facts["generation"]) == (1, 1, 0, 1)
    assert (facts["started"], facts["requests"], facts["durations"][-1]) == (3, 2, [None, 2])
    assert facts["pid"] == server.process.pid
    (tmp_path / "handlers.py").write_text("def")
    server.send(signal.SIGHUP)
    server.read_until("given up")
    facts = read_facts(address)
    assert (facts["reloads"], facts["reloads_given_up"], facts["generation"]) == (1, 1, 1)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_end(program: Start, signum: int) -> None:
    """With the master, whatever way that goes; the address is free then."""
    server, address, pid = start_program(program)
    server.end(signum)
    if signum == signal.SIGTERM:
        assert not Path(f"/proc/{pid}").exists()  # the master has waited for it
    await_end(pid)
    open_listener(parse_address(address)).close()


def test_upgrade(program: Start) -> None:
    """The successor tells of itself, at the same address."""
    server, address, pid = start_program(program)
    server.send(signal.SIGUSR2)
    successor = int(server.read_until("starting a successor")[-1].rpartition(" ")[2])
    server.read_until("has taken over")
    await_end(pid)
    assert read_facts(address)["pid"] == successor
    assert server.process.wait(WATCHDOG) == 0
    os.kill(successor, signal.SIGTERM)
    await_end(successor)
    open_listener(parse_address(address)).close()


def test_listeners_of_the_others(program: Start) -> None:
    """The status process does not hold the server's, nor a worker that of the status."""
    server, address, pid = start_program(program)
    (worker,) = (worker["pid"] for worker in read_facts(address)["workers"])
    status_port = int(address.rpartition(":")[2])
    assert holds(worker, server.address[1])
    assert not holds(worker, status_port)
    assert holds(pid, status_port)
    assert not holds(pid, server.address[1])


def holds(pid: int, port: int) -> bool:
    """Whether a process has a descriptor of what listens at *port*."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    (inode,) = (line[9] for line in lines if line[1] == f"0100007F:{port:04X}" and line[3] == "0A")
    links = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(str(fd.readlink()))
    return f"socket:[{inode}]" in links


def test_address_that_is_not_to_be_had() -> None:
    """It is said, and nothing stays open."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = Server(upper, "127.0.0.1:0", status=f"127.0.0.1:{port}")
        with pytest.raises(ServerError, match="is taken"):
            server.start()
    with server, served(server):
        pass
    with pytest.raises(ValueError, match="port without a host"):
        Server(upper, status="9000")
    with pytest.raises(TypeError, match="an address is"):
        Server(upper, status=["127.0.0.1:0"])  # type: ignore[arg-type]  # one is enough


# The parts.


def test_durations_on_the_board() -> None:
    """Each request is counted at the first bound that it did not exceed; the counts outlive the worker."""
    board = Board(rows=1, threads=1)
    for turn in range(2):
        number = board.take_row(0)
        assert number is not None
        seat = board.adopt(number).seat(0)
        seat.begin("a")
        seat.end()
        seat.begin("b")
        board.rows[0]._seat_words[0][1] -= round(0.2e9)  # it began earlier
        seat.end()
        seat.begin("c")
        board.rows[0]._seat_words[0][1] -= round(100e9)
        seat.end(failed=True)
        counts = board.sums().buckets
        assert sum(counts) == 3 * (turn + 1)
        assert (counts[BOUNDS.index(0.25)], counts[-1]) == (turn + 1, turn + 1)
        board.retire(number)
        assert board.sums().buckets == counts


def test_reading_while_a_row_is_retired() -> None:
    """Is done again."""
    board = Board(rows=1, threads=1)
    editions = iter([1, 2, 2])

    def look() -> int:
        board.words[EDITION] = edition = next(editions)
        return edition

    assert board.read(look) == 2
    assert next(editions, None) is None


def test_depths_of_queues(tmp_path: Path) -> None:
    """Of listeners that this process need not have."""
    with contextlib.ExitStack() as stack:
        queues = []
        for text in ("127.0.0.1:0", ":0", f"unix:{tmp_path}/s"):
            listener = open_listener(parse_address(text))
            stack.callback(listener.close)
            queues.append(queue_of(listener))
            for _ in range(len(queues)):
                client = stack.enter_context(socket.socket(listener.socket.family))
                client.connect(listener.socket.getsockname())
        assert [sum_depths([queue]) for queue in queues] == [1, 2, 3]
        assert sum_depths(queues) == 6
    assert sum_depths(queues) is None


def make_facts(client: str = "") -> dict[str, Any]:
    """Of a server that serves one client."""
    board = Board(rows=1, threads=2)
    board.open()
    number = board.take_row(0)
    assert number is not None
    row = board.adopt(number)
    row.seat(0).rest()
    row.seat(1).begin(client)
    return {"addresses": ["127.0.0.1:80"], "queued": None, **gather(board, board.words[7] / 1e9 + 75, seats=True)}


def test_page() -> None:
    """What clients call themselves cannot become a part of it, and nothing comes from elsewhere."""
    text = render(make_facts('<script src="http://evil.example/x.js">'))
    assert "&lt;script src=&quot;http://evil.example/x.js&quot;&gt;" in text
    assert "<script" not in text
    assert "1 min 15 s" in text
    assert not any(mark in text for mark in ('src="', "<link", "url(", "@import"))
    assert "unknown" in text  # how long the queue is


def test_metrics_where_the_queue_is_not_known() -> None:
    """They say nothing about it, and all else."""
    samples = read_samples(expose(make_facts()).decode())
    assert not any("queued" in name for name, _ in samples)
    assert samples["forkful_server_seats", "busy"] == samples["forkful_server_workers", ""] == 1
    assert samples["forkful_server_uptime_seconds", ""] == 75
