"""Each test has a folder of locks of its own; servers, one of each kind for all tests, and programs that use locks."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .agent import Agent
from .servers import Bouncer, PostgresServer, RedisServer, find_program
from .support import Contender

_names = itertools.count()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the locks of this test are."""
    folder = tmp_path / "locks"
    monkeypatch.setenv("FORKFUL_LOCK_DIR", str(folder))
    return folder


@pytest.fixture
def contend() -> Iterator[type[Contender]]:
    """Starts other programs; those that still run at the end are killed."""
    yield Contender
    for contender in Contender.running.copy():
        contender.kill()


@pytest.fixture
def name() -> str:
    """A lock's name that no other test has."""
    return f"stock-{next(_names)}"


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """One that another user can reach, with room for the name of a socket: not below pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="forkful-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    pytest.importorskip("redis", reason="redis-py is not installed")
    for program in ("redis-server", "setsid"):
        if find_program(program) is None:
            pytest.skip(f"this machine has no {program}")
    with short_folder() as folder:
        server = RedisServer(folder)
        yield server
        server.kill()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    pytest.importorskip("psycopg", reason="psycopg is not installed", exc_type=ImportError)
    for program in ("initdb", "pg_ctl", "setpriv"):
        if find_program(program) is None:
            pytest.skip(f"this machine has no {program}")
    with short_folder() as folder:
        server = PostgresServer(folder)
        yield server
        server.stop()


@pytest.fixture(params=["transaction", "session"])
def bouncer(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> Iterator[Bouncer]:
    if find_program("pgbouncer") is None:
        pytest.skip("this machine has no pgbouncer")
    with short_folder() as folder:
        bouncer = Bouncer(folder, postgres_server, request.param)
        yield bouncer
        bouncer.stop()


@pytest.fixture
def agents() -> Iterator[Callable[[str], Agent]]:
    """Makes a process that uses the lock at a URL."""
    with contextlib.ExitStack() as stack:

        def make(url: str) -> Agent:
            agent = Agent(url)
            stack.callback(agent.end)
            return agent

        yield make
