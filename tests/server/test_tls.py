"""TLS with certificates made here: contexts, what is said of bad files, handshakes with good and bad clients."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from forkful.errors import ServerError
from forkful.server._tls import HandshakeError, Trouble, handshake, make_context

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="this machine has no openssl")

PATIENCE = 20.0


@dataclass(frozen=True)
class Files:
    """Two certificates that signed themselves, and what can be wrong with them."""

    folder: Path

    def __getattr__(self, name: str) -> str:
        return str(self.folder / f"{name}.pem")


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    files = Files(folder)
    for name in ("server", "client"):
        key = str(folder / f"{name}_key.pem")
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost", "-keyout", key),
            *("-out", str(folder / f"{name}.pem")),
        )
    openssl("ec", "-in", files.server_key, "-aes128", "-passout", "pass:sesame", "-out", files.locked_key)
    (folder / "both.pem").write_bytes(Path(files.server).read_bytes() + Path(files.server_key).read_bytes())
    (folder / "nothing.pem").write_text("hello")
    text = Path(files.server).read_text().splitlines()
    (folder / "damaged.pem").write_text("\n".join([text[0], *text[2:]]))
    return files


def serve(
    context: ssl.SSLContext,
    act: Callable[[socket.socket], object],
    *,
    timeout: float = PATIENCE,
    plain_answer: bytes = b"",
) -> ssl.SSLSocket | HandshakeError:
    """What a handshake comes to with a client that does *act*."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)

    def run() -> None:
        with contextlib.suppress(OSError):
            act(theirs)

    client = threading.Thread(target=run)
    client.start()
    try:
        return handshake(ours, context, timeout, plain_answer=plain_answer)
    except HandshakeError as error:
        assert ours.fileno() == -1
        return error
    finally:
        client.join(PATIENCE)
        theirs.close()


def trouble(outcome: ssl.SSLSocket | HandshakeError) -> Trouble:
    assert isinstance(outcome, HandshakeError)
    assert len(str(outcome).splitlines()) == 1
    return outcome.trouble


def trusting(files: Files) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=files.server)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def shake(context: ssl.SSLContext, sock: socket.socket) -> None:
    with context.wrap_socket(sock, server_hostname="localhost") as secure:
        secure.send(b"x")


def test_a_good_client(files: Files) -> None:
    secure = serve(make_context(files.server, files.server_key), lambda sock: shake(trusting(files), sock))
    assert isinstance(secure, ssl.SSLSocket)
    with secure:
        assert secure.gettimeout() is None
        assert secure.version() == "TLSv1.3"
        assert secure.selected_alpn_protocol() == "http/1.1"
        assert secure.recv(1) == b"x"


def test_the_key_may_be_beside_the_certificate_and_locked(files: Files) -> None:
    make_context(files.both)
    make_context(files.server, files.locked_key, password="sesame")
    make_context(files.server, files.server_key, password="not needed")


def test_defaults(files: Files) -> None:
    context = make_context(files.server, files.server_key)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize(
    ("certfile", "keyfile", "password", "message"),
    [
        ("none", "server_key", None, "cannot read the certificate .*none.pem: No such file"),
        ("server", "none", None, "cannot read the key .*none.pem: No such file"),
        (".", "server_key", None, "cannot read the certificate .*: Is a directory"),
        ("nothing", "server_key", None, "no certificate in .*nothing.pem; give a PEM file"),
        ("server", "nothing", None, "no private key in .*nothing.pem; give a PEM file"),
        ("server", None, None, "no private key in .*server.pem; say which file"),
        ("server", "client_key", None, "the key in .*client_key.pem is not that of the certificate in .*server.pem"),
        ("server", "locked_key", None, "is encrypted, and a password is needed"),
        ("server", "locked_key", "x" * 2000, "is encrypted, and a password is another one"),
        ("server", "locked_key", "wrong", "is encrypted, and a password is another one than was given"),
        ("damaged", "server_key", None, "what is in .*damaged.pem or .*server_key.pem is damaged"),
    ],
)
def test_bad_files_are_named_in_one_line(
    files: Files, certfile: str, keyfile: str | None, password: str | None, message: str
) -> None:
    paths = [str(files.folder) if name == "." else name and getattr(files, name) for name in (certfile, keyfile)]
    with pytest.raises(ServerError, match=message) as caught:
        make_context(str(paths[0]), paths[1], password=password)
    assert len(str(caught.value).splitlines()) == 1
    assert "; " in str(caught.value)


def test_bad_authorities(files: Files) -> None:
    with pytest.raises(ServerError, match=r"no certificate in .*nothing\.pem"):
        make_context(files.both, cafile=files.nothing)
    with pytest.raises(ServerError, match=r"a certificate in .*damaged\.pem is damaged"):
        make_context(files.both, cafile=files.damaged)
    with pytest.raises(ValueError, match="give cafile"):
        make_context(files.both, require_client=True)


def test_client_certificates(files: Files) -> None:
    required = make_context(files.both, cafile=files.client, require_client=True)
    optional = make_context(files.both, cafile=files.client)
    anonymous, known, stranger = trusting(files), trusting(files), trusting(files)
    known.load_cert_chain(files.client, files.client_key)
    stranger.load_cert_chain(files.server, files.server_key)
    for context, client, good in [
        (required, known, True),
        (required, anonymous, False),
        (required, stranger, False),
        (optional, known, True),
        (optional, anonymous, True),
        (optional, stranger, False),
    ]:
        outcome = serve(context, lambda sock, client=client: shake(client, sock))  # type: ignore[misc]  # a bound default
        if good:
            assert isinstance(outcome, ssl.SSLSocket)
            assert bool(outcome.getpeercert()) is (client is known)
            outcome.close()
        else:
            assert trouble(outcome) is Trouble.NO_CERTIFICATE


def test_a_client_that_trusts_nobody(files: Files) -> None:
    distrusting = ssl.create_default_context(cafile=files.client)
    outcome = serve(make_context(files.both), lambda sock: shake(distrusting, sock))
    assert trouble(outcome) is Trouble.NOT_TRUSTED


def test_nothing_in_common(files: Files) -> None:
    context = make_context(files.both)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("AES128-SHA:@SECLEVEL=0")  # RSA: not with this key
    assert trouble(serve(context, lambda sock: shake(old, sock))) is Trouble.NOTHING_IN_COMMON
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    assert trouble(serve(context, lambda sock: shake(old, sock))) is Trouble.NOTHING_IN_COMMON


@pytest.mark.parametrize("request_", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT a:443 HTTP/1.1\r\n\r\n"])
def test_plain_http_gets_a_plain_answer(files: Files, request_: bytes) -> None:
    seen = []

    def ask(sock: socket.socket) -> None:
        sock.sendall(request_)
        while data := sock.recv(100):
            seen.append(data)

    outcome = serve(make_context(files.both), ask, plain_answer=b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert trouble(outcome) is Trouble.PLAIN_HTTP
    assert b"".join(seen) == b"HTTP/1.1 400 Bad Request\r\n\r\n"


@pytest.mark.parametrize(
    "nonsense", [b"\0" * 64, b"SSH-2.0-OpenSSH_9.6\r\n", b"\xff" * 64, b"\x16\x03\x01\xff\xff" + b"a" * 20]
)
def test_what_is_not_tls(files: Files, nonsense: bytes) -> None:
    assert trouble(serve(make_context(files.both), lambda sock: sock.sendall(nonsense))) is Trouble.NOT_TLS


@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"])
def test_a_client_that_goes_away(files: Files, sent: bytes) -> None:
    def leave(sock: socket.socket) -> None:
        sock.sendall(sent)
        sock.close()

    assert trouble(serve(make_context(files.both), leave)) is Trouble.GONE


def test_a_client_that_resets_the_connection(files: Files) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        conn, _ = listener.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        with pytest.raises(HandshakeError) as caught:
            handshake(conn, make_context(files.both), PATIENCE)
        assert caught.value.trouble is Trouble.GONE
        assert conn.fileno() == -1


def test_one_deadline_for_all_of_it(files: Files) -> None:
    """A byte now and then does not move it: the client gives up only when it is cut off."""
    cut_off = threading.Event()

    def drip(sock: socket.socket) -> None:
        hello, paused = b"\x16\x03\x01\x40\0" + b"a" * 16000, threading.Event()
        try:
            for at in range(len(hello)):
                sock.sendall(hello[at : at + 1])
                paused.wait(0.02)  # the pace of a slow client, not a wait for something
        except OSError:
            cut_off.set()

    assert trouble(serve(make_context(files.both), drip, timeout=0.3)) is Trouble.SLOW
    assert cut_off.is_set()


def test_a_deadline_that_is_over(files: Files) -> None:
    assert trouble(serve(make_context(files.both), lambda sock: sock.recv(1), timeout=-1)) is Trouble.SLOW
