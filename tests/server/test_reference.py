"""docs/reference/server.md: its examples run as they stand, but for the port, and it names every option."""

from __future__ import annotations

import inspect
import re
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from forkful.server import Server

from .support import WATCHDOG, read_all

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "server.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SERVING = [example for example in EXAMPLES if "serve(" in example]


def run(example: str, folder: Path) -> subprocess.Popen[str]:
    """It, as a program of its own, at a port that is free."""
    (folder / "example.py").write_text(example.replace("127.0.0.1:8080", "127.0.0.1:0"))
    return subprocess.Popen(
        [sys.executable, "example.py"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("example", SERVING)
def test_example_that_serves(example: str, tmp_path: Path) -> None:
    """Until it is told to end."""
    if "certfile" in example:
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost"
        files = ["-keyout", "privkey.pem", "-out", "fullchain.pem"]
        subprocess.run([*command.split(), *files], cwd=tmp_path, check=True, capture_output=True)
    with run(example, tmp_path) as process:
        try:
            assert process.stderr is not None
            port = 0
            for line in process.stderr:
                if "listening at" in line:
                    port = int(line.rpartition(":")[2])
                if "ready" in line:
                    break
            answer = ask(port, example)
            process.terminate()
            _, said = process.communicate(timeout=WATCHDOG)
        finally:
            process.kill()
    assert answer.endswith((b"HELLO\n", b"Hello, world!\n"))
    assert ('"GET / HTTP/1.0" 200' in said) == ("access_log" in example)
    assert process.returncode == 0


def ask(port: int, example: str) -> bytes:
    """All that it answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=WATCHDOG) as client:
        if "wsgi" in example:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return read_all(client)
        if "certfile" in example:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(client) as secure:
                secure.sendall(b"hello\n")
                return secure.recv(99)
        client.sendall(b"hello\n")
        return client.recv(99)


@pytest.mark.parametrize("example", [example for example in EXAMPLES if example not in SERVING])
def test_example_that_ends(example: str, tmp_path: Path) -> None:
    """By itself."""
    with run(example, tmp_path) as process:
        said, _ = process.communicate(timeout=WATCHDOG)
    assert process.returncode == 0
    assert re.match(r"\['127\.0\.0\.1:[1-9][0-9]*'\]\n\[\{'pid': [0-9]+, ", said)


@pytest.mark.parametrize("option", inspect.signature(Server).parameters)
def test_every_option_is_on_the_page(option: str) -> None:
    """In code, whatever stands around it there."""
    assert re.search(rf"`[^`\n]*\b{option}\b[^`\n]*`", PAGE)
