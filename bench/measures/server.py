"""The server beside gunicorn's threads and the standard library's servers: speed, and what one client costs the others."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from ..measure import Case, Measure, Reading, Target
from ..servers import HOST, Running, forkful, gunicorn, read_all, request, socketserver, started

PROCESSES, THREADS = 2, 4
WARM_S = 1
CLIENTS = 4  # of the echo: processes, each with one connection after another
WORKERS, FAST = 4, 20  # beside the slow request
IDLE_WORKERS = 8
PAUSE_S = 0.001  # before each of their connections: then all of them are idle when it comes
GIVE_UP_S = 10.0  # of a server that answers with nothing but broken connections

Command = Callable[[], list[str]]  # a server to start: made in the process of the sample


def ours(app: str, processes: int = PROCESSES, threads: int = THREADS) -> Command:
    """A WSGI application by forkful."""
    return lambda: forkful(app, processes=processes, threads=threads, wsgi=True)


def theirs(app: str, processes: int = PROCESSES, threads: int = THREADS) -> Command:
    """The same by gunicorn, with workers of the same shape."""
    return lambda: gunicorn(app, processes=processes, threads=threads)


# --- how much ---------------------------------------------------------------------------------------------------------


def load(command: Command, connections: int, *, close: bool = False) -> Callable[[Case], Reading]:
    """Seconds for each request under wrk."""

    def sample(case: Case) -> Reading:
        with started(command()) as server:
            run_wrk(server, connections, WARM_S, close=close)
            seconds, trouble = run_wrk(server, connections, case.size, close=close)
        return Reading(seconds, ", ".join(filter(None, (server.version, trouble))))

    return sample


def run_wrk(server: Running, connections: int, seconds: int, *, close: bool) -> tuple[float, str]:
    """Seconds for each request, and what wrk says went wrong."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *(["-HConnection: close"] if close else [])]
    said = subprocess.run(
        [*command, f"http://{HOST}:{server.port}/"], capture_output=True, check=True, text=True
    ).stdout
    match = re.search(r"([0-9]+) requests in ([0-9.]+)s", said)
    if match is None or not int(match[1]):
        raise RuntimeError(f"wrk was answered nothing: {said!r}")
    if "Non-2xx" in said:
        raise RuntimeError("wrk was given answers that are no 200")
    errors = re.search(r"Socket errors: (.*)", said)
    return float(match[2]) / int(match[1]), f"errors: {errors[1]}" if errors else ""


def echo(command: Command) -> Callable[[Case], Reading]:
    """Seconds for each connection that is made, sends a line, reads it, and ends."""

    def sample(case: Case) -> Reading:
        context = multiprocessing.get_context("fork")
        with started(command()) as server:
            barrier, queue = context.Barrier(CLIENTS), context.SimpleQueue()
            share = case.size // CLIENTS
            clients = [
                context.Process(target=_ask_for_echo, args=(server, share, barrier, queue)) for _ in range(CLIENTS)
            ]
            for client in clients:
                client.start()
            times = [queue.get() for _ in clients]
            for client in clients:
                client.join()
        begun, ended = zip(*times, strict=True)
        return Reading((max(ended) - min(begun)) / (share * CLIENTS))

    return sample


def _ask_for_echo(server: Running, times: int, barrier: Barrier, queue: Any) -> None:
    _ask_lines(server, 50)  # whatever it does at first
    barrier.wait()
    begun = time.monotonic()
    _ask_lines(server, times)
    queue.put((begun, time.monotonic()))


def _ask_lines(server: Running, times: int) -> None:
    for _ in range(times):
        with server.connect() as conn:
            conn.sendall(b"a line\n")
            assert conn.recv(4096) == b"a line\n"


# --- what one client costs the others ---------------------------------------------------------------------------------


def stalled(command: Command, sent: bytes) -> Callable[[Case], Reading]:
    """Seconds until a client is answered, after one for each thread has connected, *sent* that much, and gone quiet."""

    def sample(case: Case) -> Reading:
        with started(command()) as server, ExitStack() as stack:
            for _ in range(PROCESSES * THREADS):
                conn = stack.enter_context(server.connect())
                conn.sendall(sent)
            begun = time.perf_counter()
            server.ask()
            return Reading(time.perf_counter() - begun, server.version)

    return sample


def beside_slow(command: Command) -> Callable[[Case], Reading]:
    """The longest that one of some short requests takes, all sent at once, while a long one is served."""

    def sample(case: Case) -> Reading:
        with started(command()) as server, server.connect() as slow, ThreadPoolExecutor(FAST) as clients:
            slow.sendall(request("/slow"))
            received = b""
            while b"begun" not in received:
                received += slow.recv(4096)
            times = list(clients.map(_time_request, [server] * FAST))
        late = sum(seconds > 0.5 for seconds in times)
        behind = f"{late} of {FAST} waited longer than 0.5 s" if late else ""
        return Reading(max(times), ", ".join(filter(None, (server.version, behind))))

    return sample


def _time_request(server: Running) -> float:
    begun = time.perf_counter()
    server.ask("/fast")
    return time.perf_counter() - begun


def respawn(command: Command) -> Callable[[Case], Reading]:
    """Seconds from `kill -9` of the only worker, which is idle, to the next answer, asked for at once."""

    def sample(case: Case) -> Reading:
        with started(command()) as server:
            victim = int(server.ask())
            begun = time.perf_counter()
            os.kill(victim, signal.SIGKILL)
            broken = _ask_until_answered(server, begun + GIVE_UP_S)
            seconds = time.perf_counter() - begun
        return Reading(seconds, ", ".join(filter(None, (server.version, "a connection broke first" if broken else ""))))

    return sample


def _ask_until_answered(server: Running, deadline: float) -> int:
    """How many connections broke on the way."""
    for broken in itertools.count():
        try:
            server.ask()
        except ConnectionError:
            if time.perf_counter() > deadline:
                raise
        else:
            return broken
    raise AssertionError


# --- who is woken, and who serves -------------------------------------------------------------------------------------


def wake_ups(case: Case) -> Reading:
    """How often threads of the workers were put to sleep for each connection."""
    with started(_many_workers()) as server:
        _ask_pids(server, case.size // 4)
        before = _count_switches(server.workers())
        _ask_pids(server, case.size)
        return Reading((_count_switches(server.workers()) - before) / case.size)


def shares(case: Case) -> Reading:
    """The connections of the worker that got most, for each of the one that got least."""
    with started(_many_workers()) as server:
        _ask_pids(server, case.size // 4)
        served = Counter(_ask_pids(server, case.size))
    assert len(served) == IDLE_WORKERS, "a worker has served nobody"
    return Reading(max(served.values()) / min(served.values()))


def _many_workers() -> list[str]:
    return forkful("bench.served:tell_pid", processes=IDLE_WORKERS)


def _ask_pids(server: Running, times: int) -> list[bytes]:
    """Who served each of so many connections, one after another."""
    pids = []
    for _ in range(times):
        time.sleep(PAUSE_S)
        with server.connect() as conn:
            pids.append(read_all(conn))
    return pids


def _count_switches(pids: Iterable[int]) -> int:
    """Of all threads of these processes: how often one has waited for something, proc(5)."""
    total = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            found = re.search(r"^voluntary_ctxt_switches:\s*([0-9]+)", status.read_text(), re.MULTILINE)
            assert found is not None
            total += int(found[1])
    return total


_WHY = "is no server"
_SHAPE = f"{PROCESSES} processes of {THREADS} threads each"
_HELLO = "bench.served:hello"
_GTHREAD = "gunicorn gthread"


def _throughput(connections: int, *, close: bool) -> Measure:
    kind = "`Connection: close`" if close else "keep-alive"
    return Measure(
        f"server-{'close' if close else 'keep'}-{connections}",
        f"WSGI hello world, {kind}, {connections} connections: per request",
        f"{_SHAPE}, on loopback; `wrk` with one thread for three seconds, after a second to warm up. It runs on the same CPUs, which "
        "brings all nearer to each other. No access log. All options that are not named are each server's own defaults.",
        load(ours(_HELLO), connections, close=close),
        (Target("times as fast", 1, 2, _GTHREAD),),
        size=3,
        quick_size=1,
        baselines={_GTHREAD: load(theirs(_HELLO), connections, close=close)},
        only_us=_WHY,
        needs="wrk",
    )


def _staller(name: str, what: str, sent: bytes) -> Measure:
    return Measure(
        f"server-stalled-{name}",
        f"a request, when as many clients as there are threads have sent {what}",
        f"{_SHAPE}. The clients that stall connect first; then one sends a whole request, and waits for its answer, at most 15 s.",
        stalled(ours(_HELLO), sent),
        (Target("at most", 0.5, 0.05),),
        baselines={_GTHREAD: stalled(theirs(_HELLO), sent)},
        only_us=_WHY,
        rounds=3,
    )


MEASURES = (
    *(_throughput(connections, close=close) for close in (False, True) for connections in (8, 64)),
    Measure(
        "server-echo",
        "raw echo of one line: per connection",
        f"{CLIENTS} client processes, each of which connects, sends a line, reads it and closes, again and again; their own time "
        f"is in the value. All serve the same `StreamRequestHandler`; forkful with {_SHAPE}, the standard library's with a "
        "thread or a process for each connection. `forkful, function` is `handler(conn, address)`.",
        echo(lambda: forkful("bench.served:Echo", processes=PROCESSES, threads=THREADS)),
        (Target("times as fast", 1, 2, "ThreadingTCPServer"), Target("times as fast", 1, 4, "ForkingTCPServer")),
        size=12_000,
        quick_size=4_000,
        baselines={
            "forkful, function": echo(lambda: forkful("bench.served:echo", processes=PROCESSES, threads=THREADS)),
            "ThreadingTCPServer": echo(lambda: socketserver("ThreadingTCPServer", "bench.served:Echo")),
            "ForkingTCPServer": echo(lambda: socketserver("ForkingTCPServer", "bench.served:Echo")),
        },
        only_us=_WHY,
    ),
    _staller("byte", "one byte", b"G"),
    _staller("silent", "nothing", b""),
    Measure(
        "server-slow",
        f"the worst of {FAST} short requests beside a long one, {WORKERS} workers of one thread",
        "One request takes 3 s; once it has begun, the others are sent at the same time, each over a connection of its own.",
        beside_slow(ours("bench.served:mixed", WORKERS, 1)),
        (Target("at most", 0.5, 0.05),),
        baselines={_GTHREAD: beside_slow(theirs("bench.served:mixed", WORKERS, 1))},
        only_us=_WHY,
    ),
    Measure(
        "server-respawn",
        "next request answered after `kill -9` of the only worker",
        "One idle worker of one thread is killed, and a request sent at once. A connection that breaks is made again.",
        respawn(ours("bench.served:mixed", 1, 1)),
        (Target("at most", 0.2, 0.05),),
        baselines={_GTHREAD: respawn(theirs("bench.served:mixed", 1, 1))},
        only_us=_WHY,
    ),
    Measure(
        "server-switches",
        f"context switches for each connection, {IDLE_WORKERS} idle workers",
        "How often any thread of any worker has gone to sleep (`voluntary_ctxt_switches`), for 2,000 connections, one each "
        "millisecond, to a raw handler that answers without reading.",
        wake_ups,
        (Target("at most", 1.2, 1.05),),
        size=2_000,
        quick_size=400,
        unit="number",
        only_us=_WHY,
    ),
    Measure(
        "server-shares",
        f"connections of the busiest worker for each of the idlest, {IDLE_WORKERS} workers",
        "The same connections, counted by the worker that served them.",
        shares,
        (Target("at most", 1.3, 1.1),),
        size=2_000,
        quick_size=400,
        unit="number",
        only_us=_WHY,
    ),
)
