"""Servers for the tests: of their own folder and port, on the loopback, without a disk to wait for.

None is in our tree of processes, where the check for leaks would find it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

import psutil

PASSWORD = "pa:ss@wo/rd"  # what a URL has to quote


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def find_program(name: str) -> str | None:
    """Where *name* is, Debian's folders for PostgreSQL included."""
    folders = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *folders, "/usr/sbin"]))


def as_nobody_special() -> list[str]:
    """What a command begins with that refuses to run as root."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]


def wait_for_end(pid: int) -> None:
    """Until a process has ended that is not our child."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([pidfd], [], [])
    finally:
        os.close(pidfd)


def start_away(command: list[str], ready: str) -> None:
    """Start a server as nobody's child, and wait until it says that it is ready."""
    starter = subprocess.Popen(
        ["setsid", "--fork", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert starter.stdout is not None
    with starter.stdout as lines:
        said = []
        for line in lines:
            said.append(line)
            if ready in line:
                break
        else:
            raise RuntimeError("".join(said))
    starter.wait()


@contextlib.contextmanager
def stopped(pids: Iterable[int]) -> Iterator[None]:
    """Meanwhile those processes do nothing, and the kernel takes what is sent to them."""
    stopped = list(pids)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


class RedisServer:
    """``redis-server``, which remembers nothing when it is started anew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.start()

    def start(self) -> None:
        """On the same port as before."""
        pidfile = self._folder / "pid"
        command = f"redis-server --bind 127.0.0.1 --port {self.port} --save '' --appendonly no --pidfile {pidfile}"
        words = [*command.replace("''", "").split(" "), "--dir", str(self._folder), "--requirepass", PASSWORD]
        start_away(words, "Ready to accept connections")
        self._pid = int(pidfile.read_text())

    def kill(self) -> None:
        """Without a word."""
        os.kill(self._pid, signal.SIGKILL)
        wait_for_end(self._pid)

    def stopped(self) -> contextlib.AbstractContextManager[None]:
        """Meanwhile it says nothing."""
        return stopped([self._pid])

    def url(self, name: str, options: str = "", *, password: str = PASSWORD) -> str:
        """Of a lock."""
        return f"redis://:{quote(password, safe='')}@127.0.0.1:{self.port}/{name}{options}"


class PostgresServer:
    """A cluster of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        if os.geteuid() == 0:
            found = pwd.getpwnam("postgres")
            os.chown(folder, found.pw_uid, found.pw_gid)
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run("initdb", "-D", "data", "-U", "postgres", "-A", "scram-sha-256", "--pwfile=password", "--no-sync")
        self._run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", self._options(), "start")

    def _options(self) -> str:
        settings = {
            "fsync": "off",
            "autovacuum": "off",
            "listen_addresses": "127.0.0.1",
            "dynamic_shared_memory_type": "mmap",
            "unix_socket_directories": str(self._folder),
        }
        return " ".join([f"-p {self.port}", *(f"-c {name}={value}" for name, value in settings.items())])

    def _run(self, program: str, *arguments: str) -> None:
        found = find_program(program)
        assert found is not None
        done = subprocess.run(
            [*as_nobody_special(), found, *arguments],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # not a pipe: the server would have it too
            check=False,
        )
        assert done.returncode == 0, program

    def restart(self) -> None:
        """Every session ends."""
        self._run("pg_ctl", "-D", "data", "-w", "-l", "log", "-m", "fast", "restart")

    def stop(self) -> None:
        """For good."""
        self._run("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")

    def stopped(self) -> contextlib.AbstractContextManager[None]:
        """Meanwhile no process of it says anything."""
        first = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        return stopped([first, *(child.pid for child in psutil.Process(first).children())])

    def url(self, name: str, options: str = "", *, password: str = PASSWORD, port: int = 0) -> str:
        """Of a lock."""
        address = f"postgres:{quote(password, safe='')}@127.0.0.1:{port or self.port}"
        return f"postgresql://{address}/postgres?lock={name}{options}"


class Bouncer:
    """``pgbouncer`` in front of a server."""

    def __init__(self, folder: Path, server: PostgresServer, mode: str) -> None:
        if os.geteuid() == 0:
            found = pwd.getpwnam("postgres")
            os.chown(folder, found.pw_uid, found.pw_gid)
        self.port = free_port()
        ini = folder / "pgbouncer.ini"
        ini.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port} user=postgres password={PASSWORD}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\nauth_type = any\n"
            f"pool_mode = {mode}\npidfile = {folder}/pid\n"
        )
        program = find_program("pgbouncer")
        assert program is not None
        start_away([*as_nobody_special(), program, str(ini)], "process up")
        self._pid = int((folder / "pid").read_text())

    def stop(self) -> None:
        """At once."""
        os.kill(self._pid, signal.SIGKILL)
        wait_for_end(self._pid)
