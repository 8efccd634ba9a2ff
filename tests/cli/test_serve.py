"""``forkful serve``: what the command adds to the server, which has tests of its own."""

from __future__ import annotations

import re
import signal
import urllib.request
from pathlib import Path

import pytest

from forkful.cli._serve import command

from .conftest import Shell

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "server.md").read_text(encoding="utf-8")

APP = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]

def echo(conn, address):
    conn.sendall(conn.recv(99))
"""


@pytest.fixture
def served(shell: Shell) -> Shell:
    """A directory with something to serve in it."""
    shell.write("shop.py", APP)
    return shell


def test_options_from_a_file(served: Shell) -> None:
    """By their long names, with either dash; what is on the command line goes before them."""
    options = ["handler = 'shop:app'", "wsgi = true", "bind = 'nosuch.invalid:1'", "processes = '1:2'", "threads = 2"]
    more = ["max-requests = 1000", "access_log = 'common'", "timeout = '30s'", "status-bind = '127.0.0.1:0'"]
    served.write("server.toml", *options, *more)
    with served.start("serve", "--config", "server.toml", "--bind", "127.0.0.1:0") as process:
        try:
            assert process.stderr is not None
            addresses = {}
            for line in process.stderr:
                if found := re.fullmatch(r"forkful: (listening|status) at (?:http://)?(127\.0\.0\.1:[0-9]+)\n", line):
                    addresses[found[1]] = found[2]
                if line == "forkful: ready\n":
                    break
            for which, path in (("listening", "/"), ("status", "/status.json")):
                with urllib.request.urlopen(f"http://{addresses[which]}{path}", timeout=60) as answer:
                    assert answer.status == 200
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert err.endswith("forkful: ended\n")
    assert re.search(r'"GET / HTTP/1\.1" 200 5$', out, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "missing argument 'HANDLER'; write module:name or path/to/file.py:name"),
        (["shop:nosuch"], "shop:nosuch: there is no 'nosuch' in shop; check the spelling"),
        (["shop:echo", "--bind", "8000"], "'8000' is a port without a host; write "),
        (["shop:echo", "--certfile", "no.pem"], "cannot read the certificate no.pem: No such file or directory; "),
        (["shop:echo", "--processes", "2:x"], "--processes: '2:x' is no number of processes; write one such as 4, "),
        (["--config", "no.toml"], "cannot read no.toml: No such file or directory; check the path"),
        (["--config", "shop.py"], "shop.py is not TOML: "),
        (["--config", "bad.toml"], "bad.toml: there is no option 'work'; there are access_log, backlog, bind, "),
        (["--config", "list.toml"], "list.toml: threads must be one value, not [1]"),
    ],
)
def test_cannot_begin(served: Shell, arguments: list[str], message: str) -> None:
    """One line that says why, and exit code 2."""
    served.write("bad.toml", "work = 1")
    served.write("list.toml", "threads = [1]")
    bind = [] if "--bind" in arguments else ["--bind", "127.0.0.1:0"]
    done = served.run("serve", *arguments, *bind)
    assert (done.returncode, done.stdout) == (2, "")
    *before, last = done.stderr.splitlines()
    assert last.startswith(f"forkful: {message}")
    assert all("listening at" in line for line in before)  # a handler is imported by a worker


@pytest.mark.parametrize("option", [param.opts[0] for param in command.params if param.name != "handler"])
def test_every_option_is_on_the_page(option: str) -> None:
    """In the reference, with its name as it is typed."""
    assert re.search(rf"`{option}[ `]", PAGE)
