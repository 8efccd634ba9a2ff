"""WSGI applications over real sockets: slow and silent clients, kept connections, TLS, reloads, and the end."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forkful.errors import ServerError
from forkful.server import Server

from .support import WATCHDOG, Program, Start, await_end, read_all

APPS = """
import os, threading, time

together = threading.Semaphore(0)

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/wait":
        together.acquire()
    if path == "/go":
        together.release()
    if path == "/sleep":
        time.sleep(float(environ["QUERY_STRING"]))
    body = environ["wsgi.input"].read() if environ["REQUEST_METHOD"] == "POST" else b""
    if path == "/fail":
        raise ValueError("as asked")
    answer = b"%s %s %d %d" % (environ["wsgi.url_scheme"].encode(), path.encode(), len(body), os.getpid())
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
"""


@pytest.fixture
def web(program: Start) -> Callable[..., Program]:
    """Starts the application above."""

    def start(options: str = "", **replaced: str) -> Program:
        return program(f"'handlers:app', '127.0.0.1:0', wsgi=True, {options}", replaced.get("handlers", APPS))

    return start


def ask(server: Program, path: str, body: bytes | None = None) -> tuple[int, str]:
    """Status and text, over a connection of its own."""
    with contextlib.closing(http.client.HTTPConnection(*server.address, timeout=WATCHDOG)) as client:
        client.request("GET" if body is None else "POST", path, body)
        answer = client.getresponse()
        return answer.status, answer.read().decode()


def test_requests(web: Callable[..., Program]) -> None:
    """Several over one connection, with and without a body; an application that fails costs its request."""
    server = web()
    with contextlib.closing(http.client.HTTPConnection(*server.address, timeout=WATCHDOG)) as client:
        for number in range(3):
            client.request("POST", f"/{number}", b"x" * 100_000)
            answer = client.getresponse()
            assert answer.read().decode().startswith(f"http /{number} 100000 ")
    assert ask(server, "/fail")[0] == 500
    assert ask(server, "/")[0] == 200


def test_stallers_hold_no_seat(web: Callable[..., Program]) -> None:
    """Twice as many clients as seats, that send nothing or one byte: a good one is answered, and they are told at last."""
    server = web("processes=2, threads=2, head_timeout=1")
    with contextlib.ExitStack() as stack:
        stallers = [stack.enter_context(server.connect()) for _ in range(8)]
        for staller in stallers[::2]:
            staller.sendall(b"G")
        for _ in range(5):
            assert ask(server, "/")[0] == 200
        answers = [read_all(staller) for staller in stallers]
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers[::2])
    assert answers[1::2] == [b""] * 4


def test_head_in_pieces(web: Callable[..., Program]) -> None:
    """Byte by byte, with another request half behind it."""
    server = web()
    head = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with server.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in head:
            client.sendall(bytes([byte]))
            time.sleep(0.0002)  # so that they are packets of their own
        answer = read_all(client)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.index(b"http /a") < answer.index(b"http /b")


def test_parked_connection_is_served_by_an_idle_seat(web: Callable[..., Program]) -> None:
    """One seat waits for what the other is to do, over a connection that was put aside before."""
    server = web("threads=2")
    with server.connect() as parked:
        parked.sendall(b"GET /go HTTP/1.1\r\n")
        assert ask(server, "/")[0] == 200
        answers: list[tuple[int, str]] = []
        waiting = threading.Thread(target=lambda: answers.append(ask(server, "/wait")))
        waiting.start()
        parked.sendall(b"Host: x\r\n\r\n")
        assert parked.recv(99).startswith(b"HTTP/1.1 200 OK")
        waiting.join()
        assert answers[0][0] == 200


def test_worker_leaves_though_one_that_was_parked_comes_back(web: Callable[..., Program]) -> None:
    """Once more, while it leaves; then nobody holds it."""
    server = web("threads=3, drain_timeout=50, keepalive=50")
    (worker,) = server.workers
    with server.connect() as kept:
        kept.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.recv(999).startswith(b"HTTP/1.1 200 OK")
        time.sleep(0.05)  # longer than a seat waits for more
        server.send(signal.SIGHUP)
        server.read_until("reloaded")
        kept.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"Connection: close" in read_all(kept)
    await_end(worker)


@pytest.mark.parametrize("pipelined", [1, 50])
def test_busy_client_leaves_room_for_others(web: Callable[..., Program], pipelined: int) -> None:
    """One seat, and a client that asks without a pause: another is served in between."""
    server = web()
    ended = threading.Event()

    def hog() -> None:
        with server.connect() as conn:
            asked = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * pipelined
            reader = conn.makefile("rb")
            length = 0
            while not ended.is_set():
                conn.sendall(asked)
                for _ in range(pipelined):
                    while (line := reader.readline()) != b"\r\n":
                        if line.lower().startswith(b"content-length:"):
                            length = int(line.split()[1])
                    reader.read(length)

    thread = threading.Thread(target=hog)
    thread.start()
    try:
        for _ in range(3):
            assert ask(server, "/")[0] == 200
    finally:
        ended.set()
        thread.join()


def test_silent_kept_connection(web: Callable[..., Program]) -> None:
    """It is closed in time, and held no seat."""
    server = web("keepalive=0.5")
    with server.connect() as kept:
        kept.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.recv(999).startswith(b"HTTP/1.1 200 OK")
        assert ask(server, "/")[0] == 200
        assert read_all(kept) == b""


def test_reload_under_kept_connections(web: Callable[..., Program]) -> None:
    """Clients that keep their connections lose no request."""
    server = web("processes=2, threads=2")
    answers: list[int] = []
    ended = threading.Event()

    def load() -> None:
        with contextlib.closing(http.client.HTTPConnection(*server.address, timeout=WATCHDOG)) as client:
            while not ended.is_set():
                client.request("GET", "/")
                answer = client.getresponse()
                answer.read()
                answers.append(answer.status)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        server.send(signal.SIGHUP)
        server.read_until("reloaded")
    ended.set()
    for thread in threads:
        thread.join()
    assert len(answers) > 50
    assert set(answers) == {200}
    assert server.end() == 0


def test_end_with_kept_connections(web: Callable[..., Program]) -> None:
    """What is asked is answered, and who says nothing is not waited for."""
    server = web("keepalive=60, threads=2")
    with server.connect() as kept:
        kept.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.recv(999).startswith(b"HTTP/1.1 200 OK")
        answers: list[tuple[int, str]] = []
        running = threading.Thread(target=lambda: answers.append(ask(server, "/sleep?0.3")))
        running.start()
        time.sleep(0.1)  # that it is running
        assert server.end() == 0
        running.join()
        assert answers[0][0] == 200
        assert read_all(kept) == b""


def test_request_over_its_time(web: Callable[..., Program]) -> None:
    """It is cut off, and the next is answered."""
    server = web("timeout=0.3")
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask(server, "/sleep?60")
    assert ask(server, "/")[0] == 200


def test_refused_body(web: Callable[..., Program]) -> None:
    """Too large: 413, also when the client goes on sending."""
    server = web("max_body='10kB'")
    with server.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000)
        assert client.recv(999).startswith(b"HTTP/1.1 413 ")
    assert ask(server, "/", b"x" * 5000)[0] == 200


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Self-made, for localhost."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", key, "-out", cert], check=True, capture_output=True)  # fmt: skip
    return cert, key


@pytest.fixture
def secure(web: Callable[..., Program], certificate: tuple[Path, Path]) -> tuple[Program, ssl.SSLContext]:
    """The application under TLS, and what its clients need."""
    cert, key = certificate
    return (
        web(f"threads=2, certfile={str(cert)!r}, keyfile={str(key)!r}, head_timeout=1"),
        ssl.create_default_context(cafile=str(cert)),
    )


def test_tls(secure: tuple[Program, ssl.SSLContext]) -> None:
    """Kept connections, large bodies, and a head that comes in two records."""
    server, context = secure
    host, port = server.address
    with contextlib.closing(http.client.HTTPSConnection(host, port, timeout=WATCHDOG, context=context)) as client:
        for _ in range(2):
            client.request("POST", "/a", b"x" * 300_000)
            assert client.getresponse().read().startswith(b"https /a 300000 ")
    with context.wrap_socket(server.connect(), server_hostname="localhost", suppress_ragged_eofs=False) as torn:
        torn.sendall(b"GET /b HTTP/1.1\r\nHo")
        time.sleep(0.05)  # longer than a seat waits
        torn.sendall(b"st: x\r\nConnection: close\r\n\r\n")
        assert b"https /b 0" in read_all(torn)  # with an end of TLS's own: else this would raise


def test_silence_and_plain_text_at_a_tls_port(secure: tuple[Program, ssl.SSLContext]) -> None:
    """Neither ends a seat."""
    server, context = secure
    host, port = server.address
    with contextlib.ExitStack() as stack:
        silent, *others = [stack.enter_context(server.connect()) for _ in range(6)]
        plain = stack.enter_context(server.connect())
        for other in others:
            other.sendall(b"\x16\x03\x01")  # a handshake begins
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            read_all(plain)
        with contextlib.closing(http.client.HTTPSConnection(host, port, timeout=WATCHDOG, context=context)) as client:
            client.request("GET", "/")
            assert client.getresponse().status == 200
        assert read_all(silent) == b""


def test_certificate_that_does_not_fit(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    """One line, before anything is started."""
    cert, _ = certificate
    other = tmp_path / "other.pem"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", other], check=True)
    with pytest.raises(ServerError) as caught:
        Server("os:getpid", "127.0.0.1:0", certfile=cert, keyfile=other).start()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"access_log": "xml"}, {"keyfile": "key.pem"}, {"max_head": 0}, {"script_name": "shop", "wsgi": True}]
)
def test_bad_arguments(options: dict[str, Any]) -> None:
    """One line each."""
    with pytest.raises(ValueError) as caught:  # the words are those of each option
        Server("os:getpid", "127.0.0.1:0", **options).start()
    assert "\n" not in str(caught.value)


def test_access_log(tmp_path: Path) -> None:
    """A line for each request, in the order in which they ended."""
    (tmp_path / "handlers.py").write_text(APPS)
    log = tmp_path / "access.log"
    script = (
        "import logging, sys\n"
        f"logging.basicConfig(filename={str(log)!r}, level='INFO', format='%(name)s %(message)s')\n"
        "from forkful.server import Server\n"
        "with Server('handlers:app', '127.0.0.1:0', wsgi=True, access_log='common') as server:\n"
        "    import urllib.request\n"
        "    urllib.request.urlopen(f'http://{server.addresses[0]}/a?b=c').read()\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=WATCHDOG)
    (line,) = (line for line in log.read_text().splitlines() if line.startswith("forkful.access"))
    assert '"GET /a?b=c HTTP/1.1" 200 ' in line
