"""Sockets passed as systemd passes them, to a process of its own; notifications to a socket of ours."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from forkful.errors import ServerError
from forkful.server._systemd import notify, reloading, take_listeners, watchdog_limit

# Stands in for systemd: descriptors 3 and on, LISTEN_PID that of the process that is started.
START = """
import os, sys
env = dict(os.environ, LISTEN_PID=str(os.getpid()))
os.execve(sys.executable, [sys.executable, "-c", sys.argv[1]], env)
"""
TAKE = """
import os
from forkful.server._systemd import take_listeners
for passed in take_listeners():
    print(passed.name, passed.listener.address.kind, os.get_inheritable(passed.listener.fileno()))
    passed.listener.socket.accept()
print([name for name in os.environ if name.startswith("LISTEN_")], take_listeners())
"""


def activate(*fds: int, **env: str) -> str:
    """What a service prints that is started with these descriptors from 3 on; its error's last line, if it fails."""
    pairs = [f"os.dup2({fd}, {3 + at})" for at, fd in enumerate(fds)]
    start = f"import os; {'; '.join(pairs)}" + START
    passed = [fd for fd in fds if fd > 2]
    done = subprocess.run(
        [sys.executable, "-c", start, TAKE],
        env={**os.environ, "LISTEN_FDS": str(len(fds)), **env},
        pass_fds=passed,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.splitlines()[-1] if done.returncode else done.stdout


def high(sock: socket.socket) -> int:
    """A copy of its descriptor, above those that are to be passed."""
    return fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 100)


def test_passed_sockets_are_taken_with_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        monkeypatch.chdir(tmp_path)
        unix.bind("socket")
        unix.listen()
        fds = high(tcp), high(unix)
        with socket.create_connection(tcp.getsockname()), socket.socket(socket.AF_UNIX) as client:
            client.connect("socket")
            lines = activate(*fds, LISTEN_FDNAMES="web:local").splitlines()
        for fd in fds:
            os.close(fd)
        assert lines == ["web tcp False", "local unix False", "[] []"]
        assert (tmp_path / "socket").exists()  # it is systemd's


def test_what_cannot_be_used_is_named() -> None:
    with socket.socket() as sock:
        fd = high(sock)
        assert "descriptor 3 (web) does not listen" in activate(fd, LISTEN_FDNAMES="web")
        os.close(fd)


def test_sockets_of_another_process_are_not_taken() -> None:
    for pid in ({"LISTEN_PID": str(os.getppid())}, {}):
        environ = {**pid, "LISTEN_FDS": "1", "PATH": "/bin"}
        assert take_listeners(environ) == []
        assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize("told", [{"LISTEN_FDS": "x"}, {"LISTEN_FDS": ""}, {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "a"}])
def test_what_makes_no_sense(told: dict[str, str]) -> None:
    with pytest.raises(ServerError, match="let systemd set"):
        take_listeners({"LISTEN_PID": str(os.getpid()), **told})


@pytest.mark.parametrize(
    "abstract", [False, pytest.param(True, marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux only"))]
)
def test_notifications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    monkeypatch.chdir(tmp_path)
    where = f"@forkful-notify-{os.getpid()}" if abstract else str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + where[1:] if abstract else where)
        assert notify("READY=1", "STATUS=über", environ={"NOTIFY_SOCKET": where})
        assert manager.recv(100) == "READY=1\nSTATUS=über".encode()


@pytest.mark.parametrize("where", ["", "relative", "/nowhere/notify", "@forkful-nobody", "/" + "a" * 200, "vsock:2:1"])
def test_nobody_to_notify_is_no_error(where: str) -> None:
    assert not notify("READY=1", environ={"NOTIFY_SOCKET": where})
    assert not notify("READY=1", environ={})


def test_a_manager_that_reads_nothing_does_not_hold_us_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        told = 0
        while notify("WATCHDOG=1", environ={"NOTIFY_SOCKET": str(tmp_path / "n")}):
            told += 1
        assert told > 0


def test_reload_says_when() -> None:
    assert reloading(2.0000014) == ("RELOADING=1", "MONOTONIC_USEC=2000001")


@pytest.mark.parametrize(
    ("environ", "limit"),
    [
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 20.0),
        ({"WATCHDOG_USEC": "500000"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_watchdog(environ: dict[str, str], limit: float | None) -> None:
    assert watchdog_limit(environ) == limit
