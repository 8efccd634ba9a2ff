"""``forkful serve``: what can be asked for, what is said, and how it ends."""

from __future__ import annotations

import contextlib
import http.client
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkful.cli._serve import command

from .conftest import Shell

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "server.md").read_text(encoding="utf-8")

APP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "3")])
    return [b"one"]

def upper(conn, address):
    for line in conn.makefile("rb"):
        conn.sendall(line.upper())
"""


@contextlib.contextmanager
def serving(shell: Shell, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], tuple[str, int]]]:
    """``forkful serve`` on a free port, once it is ready, and where it listens."""
    (shell.directory / "shop.py").write_text(APP)
    with shell.start("serve", *arguments) as process:
        try:
            assert process.stderr is not None
            lines = []
            for line in process.stderr:
                lines.append(line)
                if "ready" in line:
                    break
            host, _, port = lines[0].rpartition(" ")[2].strip().rpartition(":")
            yield process, (host, int(port))
        finally:
            process.kill()


def get(address: tuple[str, int], path: str = "/") -> bytes:
    """What is there."""
    with contextlib.closing(http.client.HTTPConnection(*address, timeout=60)) as client:
        client.request("GET", path)
        return client.getresponse().read()


def test_application(shell: Shell) -> None:
    """Served, logged, and ended by SIGTERM with 0."""
    with serving(shell, "--wsgi", "shop:app", "--bind", "127.0.0.1:0", "--access-log", "common") as (process, address):
        assert get(address, "/x") == b"one"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert '"GET /x HTTP/1.1" 200 3' in out
    assert err.splitlines()[-1] == "forkful: ended"
    assert process.returncode == 0


def test_handler_in_a_file(shell: Shell) -> None:
    """Raw; and ended by Ctrl-C."""
    with serving(shell, "shop.py:upper", "--bind", "127.0.0.1:0", "--processes", "1:2", "--threads", "2") as (
        process,
        address,
    ):
        with socket.create_connection(address, timeout=60) as client:
            client.sendall(b"a\n")
            assert client.recv(9) == b"A\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_configuration(shell: Shell) -> None:
    """From a file; the command line goes before it."""
    (shell.directory / "server.toml").write_text(
        'handler = "shop:upper"\nwsgi = true\nbind = "127.0.0.1:1"\nthreads = 2\nidle-timeout = "5s"\nmax_requests = 9\n'
    )
    with serving(shell, "shop:app", "--config", "server.toml", "--bind", "127.0.0.1:0") as (_, address):
        assert get(address) == b"one"


def test_status_address(shell: Shell) -> None:
    """A page of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serving(shell, "shop:upper", "--bind", "127.0.0.1:0", "--status-bind", f"127.0.0.1:{port}"):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as client:
            client.request("GET", "/status.json")
            assert b'"workers"' in client.getresponse().read()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "missing argument 'HANDLER'"),
        (["nosuch:app"], "nosuch:app cannot be loaded: ModuleNotFoundError: No module named 'nosuch'"),
        (["shop"], "'shop' names no handler; write module:name"),
        (["shop:nosuch"], "there is no 'nosuch' in shop; check the spelling"),
        (["shop:app", "--bind", "8080"], "8080"),
        (["shop:app", "--bind", "127.0.0.1:99999"], "there is no port 99999"),
        (["shop:app", "--processes", "4:2"], "the least, 4, is more than the most, 2"),
        (["shop:app", "--processes", "many"], "--processes: 'many' is no number of processes"),
        (["shop:app", "--threads", "0"], "threads must be 1 to"),
        (["shop:app", "--timeout", "soon"], "--timeout: "),
        (["shop:app", "--certfile", "nosuch.pem"], "cannot read the certificate nosuch.pem"),
        (["shop:app", "--keyfile", "key.pem"], "give certfile, too"),
        (["shop:app", "--config", "nosuch.toml"], "cannot read nosuch.toml"),
        (["shop:app", "--config", "broken.toml"], "broken.toml is not TOML"),
        (["shop:app", "--config", "odd.toml"], "there is no option 'colour'"),
    ],
)
def test_usage_errors(shell: Shell, arguments: list[str], message: str) -> None:
    """One line, and 2."""
    (shell.directory / "shop.py").write_text(APP)
    (shell.directory / "broken.toml").write_text("bind =")
    (shell.directory / "odd.toml").write_text('colour = "red"')
    where = [] if "--bind" in arguments else ["--bind", "127.0.0.1:0"]
    done = shell.run("serve", *arguments, *where)
    assert (done.returncode, done.stdout) == (2, "")
    lines = [line for line in done.stderr.splitlines() if "listening at" not in line]
    assert len(lines) == 1
    assert lines[0].startswith("forkful: ")
    assert message in lines[0]


def test_port_is_taken(shell: Shell) -> None:
    """One line, which says what to do."""
    (shell.directory / "shop.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = shell.run("serve", "shop:app", "--bind", f"127.0.0.1:{other.getsockname()[1]}")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "it is taken; stop the program that listens there" in line


@pytest.mark.parametrize("option", [param.opts[0] for param in command.params if param.name != "handler"])
def test_every_option_is_on_the_page(option: str) -> None:
    """In the reference, with its name as it is typed."""
    assert re.search(rf"`{option}[ `]", PAGE)
