"""Listening sockets: opened, adopted, refused in one line, counted, drained, closed."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forkful.errors import ServerError
from forkful.server._address import Address, parse_address
from forkful.server._listeners import Listener, adopt_listener, backlog_limit, open_listener
from forkful.server._queue import queue_depth, shrink

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux does this")

Open = Callable[..., Listener]


@pytest.fixture
def listen() -> Iterator[Open]:
    """`open_listener` of what is written; closed at the end."""
    made: list[Listener] = []

    def make(spec: str, **options: int) -> Listener:
        made.append(open_listener(parse_address(spec), **options))
        return made[-1]

    yield make
    for listener in made:
        listener.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """One whose name leaves room for that of a socket."""
    with tempfile.TemporaryDirectory(prefix="forkful-") as name:
        yield Path(name)


@pytest.fixture(params=["127.0.0.1:0", "[::1]:0", ":0", "unix", "unix:@forkful-test"])
def spec(request: pytest.FixtureRequest, folder: Path) -> str:
    """One of each kind."""
    if request.param == "unix:@forkful-test":
        if sys.platform != "linux":
            pytest.skip("only Linux has an abstract namespace")
        return f"{request.param}-{os.getpid()}"
    if request.param == "[::1]:0" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    return f"unix:{folder}/socket" if request.param == "unix" else request.param


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def connect(listener: Listener) -> socket.socket:
    sock = socket.socket(listener.socket.family)
    sock.settimeout(10)
    sock.connect(listener.socket.getsockname())
    return sock


def refusal(spec: str) -> str:
    with pytest.raises(ServerError) as caught:
        open_listener(parse_address(spec)).close()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"cannot listen at {spec}: ")
    assert "; " in message
    return message


def run_as_nobody(program: str) -> str:
    """The last line of what *program* prints when it is not root."""
    lines = [
        "import encodings.idna, os, resource",  # before the folder of the interpreter is out of reach
        "from forkful.server._listeners import open_listener",
        "from forkful.server._address import parse_address",
        "if os.getuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)",
        program,
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines()[-1]


def test_each_kind_accepts_blocks_and_is_not_inherited_by_programs(listen: Open, spec: str) -> None:
    listener = listen(spec)
    assert listener.socket.gettimeout() is None
    assert os.get_blocking(listener.fileno())
    assert not os.get_inheritable(listener.fileno())
    if listener.address.kind == "tcp":
        assert listener.address.port == listener.socket.getsockname()[1] != 0
    with connect(listener) as client:
        server, _ = listener.socket.accept()
        with server:
            client.sendall(b"x")
            assert server.recv(1) == b"x"
    assert parse_address(str(listener.address)) == listener.address


def test_a_default_timeout_of_sockets_does_not_matter(listen: Open, spec: str) -> None:
    socket.setdefaulttimeout(5)
    try:
        assert listen(spec).socket.gettimeout() is None
    finally:
        socket.setdefaulttimeout(None)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_no_host_is_both_and_an_ipv6_address_is_ipv6_only(listen: Open) -> None:
    both = listen(":0")
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, both.address.port), timeout=10).close()
        both.socket.accept()[0].close()
    only = listen("[::]:0")
    socket.create_connection(("::1", only.address.port), timeout=10).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", only.address.port), timeout=10)


def test_a_name_with_both_is_ipv4(listen: Open) -> None:
    assert listen("localhost:0").socket.getsockname()[0] == "127.0.0.1"


def test_a_port_can_be_had_again_at_once(listen: Open) -> None:
    """Although connections of it linger."""
    first = listen("127.0.0.1:0")
    with connect(first) as client:
        first.socket.accept()[0].close()  # the side that closes first is the one that lingers
        assert client.recv(1) == b""
        first.close()
    assert listen(str(first.address)).address == first.address


def test_taken(listen: Open, spec: str) -> None:
    listener = listen(spec)
    message = refusal(str(listener.address))
    assert "stop" in message
    if listener.address.kind == "tcp":
        assert f"sport = :{listener.address.port}" in message
    connect(listener).close()  # it was not harmed
    listener.socket.accept()[0].close()


def test_no_such_host_or_not_here() -> None:
    assert "no host" in refusal("nosuch.invalid:80")
    assert "not an address of this machine" in refusal("192.0.2.1:80")


def test_no_descriptor_left() -> None:
    limit = "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))"
    assert "ulimit -n" in run_as_nobody(f"{limit}; open_listener(parse_address('127.0.0.1:0'))")


def test_no_permission(folder: Path) -> None:
    port_start = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not port_start.exists() or int(port_start.read_text()) <= 80:
        pytest.skip("here any user may have port 80")
    assert "ports below 1024 need a permission" in run_as_nobody("open_listener(parse_address('127.0.0.1:80'))")
    folder.chmod(0o555)
    assert "no permission to make a file" in run_as_nobody(f"open_listener(parse_address('unix:{folder}/socket'))")


def test_no_folder(folder: Path) -> None:
    assert "make it first" in refusal(f"unix:{folder}/none/socket")
    (folder / "file").touch()
    assert "not a folder" in refusal(f"unix:{folder}/file/socket")


def test_what_a_killed_server_left_is_replaced(listen: Open, folder: Path) -> None:
    path = folder / "socket"
    program = (
        "import os, signal; from forkful.server._listeners import open_listener; from forkful.server._address import parse_address\n"
        f"listener = open_listener(parse_address('unix:{path}')); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    assert path.is_socket()
    listener = listen(f"unix:{path}")
    connect(listener).close()


def test_a_file_that_is_no_socket_is_left_alone(folder: Path) -> None:
    path = folder / "socket"
    path.write_text("precious")
    assert "something else than a socket" in refusal(f"unix:{path}")
    assert path.read_text() == "precious"
    link = folder / "link"
    link.symlink_to(path)
    assert "something else than a socket" in refusal(f"unix:{link}")


def test_a_socket_of_another_kind_is_left_alone(folder: Path) -> None:
    path = folder / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        assert "another kind" in refusal(f"unix:{path}")
    assert path.is_socket()


def test_one_whose_queue_is_full_answers_too(listen: Open, folder: Path) -> None:
    listener = listen(f"unix:{folder}/socket", backlog=0)
    with connect(listener):
        assert "another program answers" in refusal(str(listener.address))


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o777])
def test_mode(listen: Open, folder: Path, mode: int) -> None:
    listener = listen(f"unix:{folder}/socket", mode=mode)
    assert stat.S_IMODE(os.stat(listener.address.path).st_mode) == mode


def test_many_starters_and_one_wins(folder: Path) -> None:
    """Nobody's socket is taken for a leftover while it is being made."""
    path = folder / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    barrier, winners, losers = threading.Barrier(8), [], []

    def start() -> None:
        barrier.wait(10)
        try:
            winners.append(open_listener(Address("unix", path=str(path))))
        except ServerError as error:
            losers.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1
    assert all("another program answers" in loser for loser in losers)
    connect(winners[0]).close()
    winners[0].close()


def test_the_file_goes_with_its_listener_and_only_with_its_own(listen: Open, folder: Path) -> None:
    path = folder / "socket"
    listener = listen(f"unix:{path}")
    listener.close()
    assert not path.exists()
    listener = listen(f"unix:{path}")
    path.unlink()
    successor = listen(f"unix:{path}")
    listener.close()
    assert path.is_socket()
    successor.close(keep_file=True)
    assert path.is_socket()


def test_a_child_does_not_remove_its_parents_file(listen: Open, folder: Path) -> None:
    listener = listen(f"unix:{folder}/socket")
    if (pid := os.fork()) == 0:
        listener.close()
        os._exit(0)
    os.waitpid(pid, 0)
    connect(listener).close()


def test_one_is_adopted(listen: Open, spec: str) -> None:
    original = listen(spec)
    fd = os.dup(original.fileno())
    os.set_inheritable(fd, True)
    os.set_blocking(fd, False)
    adopted = open_listener(Address("fd", fd=fd))
    assert adopted.address == original.address
    assert not os.get_inheritable(fd)
    assert os.get_blocking(fd)
    connect(original).close()
    adopted.socket.accept()[0].close()
    adopted.close()
    if original.address.kind == "unix" and not original.address.is_abstract:
        assert os.path.exists(original.address.path)


def test_the_file_of_an_adopted_one_can_come_with_it(listen: Open, folder: Path) -> None:
    """As after a server has started itself anew."""
    original = listen(f"unix:{folder}/socket")
    adopted = adopt_listener(os.dup(original.fileno()), has_file=True)
    adopted.close()
    assert not (folder / "socket").exists()


def test_what_cannot_be_adopted_stays_open(folder: Path) -> None:
    def refuse(fd: int) -> str:
        with pytest.raises(ServerError) as caught:
            adopt_listener(fd, name="web")
        os.fstat(fd)
        assert str(caught.value).startswith(f"descriptor {fd} (web) ")
        return str(caught.value)

    with open(folder / "file", "wb") as file:
        assert "not a socket" in refuse(file.fileno())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert "not a stream socket" in refuse(sock.fileno())
    with socket.socket() as sock:
        assert "does not listen" in refuse(sock.fileno())
    with pytest.raises(ServerError, match="descriptor 999999 is not open"):
        adopt_listener(999999)


@linux
def test_the_queue_is_counted(listen: Open, spec: str) -> None:
    listener = listen(spec)
    if queue_depth(listener) is None and listener.address.kind == "unix":
        pytest.skip("this kernel does not tell the queue of a Unix socket")
    assert queue_depth(listener) == 0
    clients = [connect(listener) for _ in range(3)]
    assert queue_depth(listener) == 3
    listener.socket.accept()[0].close()
    assert queue_depth(listener) == 2
    for client in clients:
        client.close()


@linux
def test_a_shrunk_queue_keeps_who_is_in_it_and_takes_nobody(listen: Open, spec: str) -> None:
    listener = listen(spec)
    where = listener.socket.getsockname()
    queued = [connect(listener) for _ in range(3)]
    is_tight = shrink(listener)
    assert is_tight is not listener.address.is_abstract
    with socket.socket(listener.socket.family) as late:
        late.setblocking(False)
        outcome = late.connect_ex(where)
        if listener.address.kind == "tcp":
            assert outcome == errno.EINPROGRESS
        else:
            assert outcome == (errno.ENOENT if is_tight else errno.EAGAIN)
        for client in queued:
            server, _ = listener.socket.accept()
            server.sendall(b"x")
            server.close()
            assert client.recv(1) == b"x"
            client.close()
        assert not select.select([listener.socket], [], [], 0)[0]
        listener.close()


@linux
def test_a_shrunk_queue_lets_handshakes_be_finished(listen: Open) -> None:
    """And what comes of them goes on in both directions, and ends as it should."""
    listener = listen("127.0.0.1:0")
    listener.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 60)  # a handshake ends with the first byte
    client = connect(listener)
    client.settimeout(None)
    shrink(listener)
    assert queue_depth(listener) == 0
    client.sendall(b"x")
    server, _ = listener.socket.accept()
    with client, server:
        assert server.recv(1) == b"x"
        for _ in range(3):
            client.sendall(b"a" * 100_000)
            assert server.recv(100_000, socket.MSG_WAITALL) == b"a" * 100_000
            server.sendall(b"b" * 100_000)
            assert client.recv(100_000, socket.MSG_WAITALL) == b"b" * 100_000
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""


@linux
def test_the_kernels_limit() -> None:
    assert backlog_limit() == int(Path("/proc/sys/net/core/somaxconn").read_text())


@pytest.mark.parametrize("spec", ["127.0.0.1:0", "unix"], indirect=True)
def test_threads_in_accept_are_made_to_leave_and_nobody_is_lost(listen: Open, spec: str) -> None:
    """What docs/decisions/0014-accept.md says: ``dup2`` of a socket that does not listen, then a signal to each thread."""
    listener = listen(spec)
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.siginterrupt(signal.SIGUSR1, False)
    stop, answered, asked = threading.Event(), [0], 0

    def serve(mine: socket.socket) -> None:
        while True:
            try:
                connection, _ = mine.accept()
            except OSError as error:
                assert error.errno == errno.EINVAL
                return
            with connection:
                connection.sendall(connection.recv(1))

    def ask() -> None:
        while not stop.is_set():
            with connect(listener) as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
                answered[0] += 1

    with socket.socket(listener.socket.family) as dead:

        def leave(mine: socket.socket, threads: list[threading.Thread]) -> None:
            os.dup2(dead.fileno(), mine.fileno(), inheritable=False)
            for thread in threads:
                if thread.is_alive() and thread.ident is not None:
                    signal.pthread_kill(thread.ident, signal.SIGUSR1)
            for thread in threads:
                thread.join(10)
                assert not thread.is_alive()

        asker = threading.Thread(target=ask)
        asker.start()
        try:
            for _ in range(200):
                with listener.socket.dup() as mine:
                    threads = [threading.Thread(target=serve, args=(mine,)) for _ in range(3)]
                    for thread in threads:
                        thread.start()
                    asked = answered[0]
                    leave(mine, threads)
        finally:
            stop.set()
            with listener.socket.dup() as mine:
                last = threading.Thread(target=serve, args=(mine,))
                last.start()
                asker.join(10)
                leave(mine, [last])
            signal.signal(signal.SIGUSR1, before)
    assert answered[0] > asked >= 0
