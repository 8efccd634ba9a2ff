"""TLS: what a server needs for it, checked when it starts, and a handshake under one deadline.

A context is made in the master, before workers are: then all of them know the session tickets of each other.  A new certificate
is a new context, made by the same call.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from ..errors import ServerError

_CERTIFICATE: Final = re.compile(rb"-----BEGIN (TRUSTED |X509 )?CERTIFICATE-----")
_KEY: Final = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")


class Trouble(StrEnum):
    """Why there was no handshake.  All but the last three are the client's doing, or nobody's."""

    GONE = "the client went away"
    SLOW = "the client took too long"
    PLAIN_HTTP = "the client speaks plain HTTP to a TLS port"
    NOT_TLS = "the client does not speak TLS"
    NO_CERTIFICATE = "the client has no certificate, or none that is good here"
    NOTHING_IN_COMMON = "the client and this server have no version or cipher in common"
    NOT_TRUSTED = "the client does not trust the certificate of this server"
    OTHER = "the handshake failed"


class HandshakeError(Exception):
    """There is no TLS with this client; its connection is closed.

    Attributes:
        trouble: what kind.
    """

    def __init__(self, trouble: Trouble, detail: str = "") -> None:
        super().__init__(f"{trouble}: {detail}" if detail else str(trouble))
        self.trouble = trouble


# By the reason that OpenSSL gives.  What an alert says is the client's opinion: TLSV1_ALERT_, SSLV3_ALERT_.
_TROUBLES: Final = {
    "HTTP_REQUEST": Trouble.PLAIN_HTTP,
    "HTTPS_PROXY_REQUEST": Trouble.PLAIN_HTTP,
    "WRONG_VERSION_NUMBER": Trouble.NOT_TLS,
    "RECORD_LAYER_FAILURE": Trouble.NOT_TLS,
    "PACKET_LENGTH_TOO_LONG": Trouble.NOT_TLS,
    "RECORD_TOO_SMALL": Trouble.NOT_TLS,
    "UNEXPECTED_MESSAGE": Trouble.NOT_TLS,
    "BAD_PROTOCOL_VERSION_NUMBER": Trouble.NOTHING_IN_COMMON,
    "UNSUPPORTED_PROTOCOL": Trouble.NOTHING_IN_COMMON,
    "VERSION_TOO_LOW": Trouble.NOTHING_IN_COMMON,
    "NO_SHARED_CIPHER": Trouble.NOTHING_IN_COMMON,
    "NO_SUITABLE_KEY_SHARE": Trouble.NOTHING_IN_COMMON,
    "NO_SHARED_SIGNATURE_ALGORITHMS": Trouble.NOTHING_IN_COMMON,
    "TLSV1_ALERT_PROTOCOL_VERSION": Trouble.NOTHING_IN_COMMON,
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": Trouble.NO_CERTIFICATE,
    "CERTIFICATE_VERIFY_FAILED": Trouble.NO_CERTIFICATE,
    "TLSV1_ALERT_UNKNOWN_CA": Trouble.NOT_TRUSTED,
    "SSLV3_ALERT_BAD_CERTIFICATE": Trouble.NOT_TRUSTED,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": Trouble.NOT_TRUSTED,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": Trouble.NOT_TRUSTED,
    "UNEXPECTED_EOF_WHILE_READING": Trouble.GONE,
}


def make_context(
    certfile: str,
    keyfile: str | None = None,
    *,
    password: str | None = None,
    cafile: str | None = None,
    require_client: bool = False,
    alpn: Sequence[str] = ("http/1.1",),
) -> ssl.SSLContext:
    """What a server needs to speak TLS 1.2 and newer.

    Args:
        certfile: PEM, the server's own certificate first, then those that lead to a known one.
        keyfile: PEM; the key is in *certfile* without it.
        password: of the key, if it is encrypted.  Nobody is ever asked for one.
        cafile: PEM, those who may sign certificates of clients.  A client that shows one is checked.
        require_client: a client that shows none is refused; needs *cafile*.
        alpn: protocols to agree on, best first; empty for a protocol that has no name, as of raw handlers.

    Raises:
        ServerError: a file is missing or is not what it should be; one line says which, and what to do.
        ValueError: *require_client* without *cafile*.
    """
    if require_client and cafile is None:
        raise ValueError("client certificates are required, but nobody may sign them; give cafile, too")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    if alpn:
        context.set_alpn_protocols(alpn)
    _load_certificate(context, certfile, keyfile, password)
    if cafile is not None:
        _load_authorities(context, cafile)
        context.verify_mode = ssl.CERT_REQUIRED if require_client else ssl.CERT_OPTIONAL
    return context


def handshake(
    conn: socket.socket, context: ssl.SSLContext, timeout: float, *, plain_answer: bytes = b""
) -> ssl.SSLSocket:
    """TLS over *conn*, in this thread, within *timeout* seconds in all, however the client spreads its bytes.

    *conn* is used up: go on with what is returned, which has its time-out, or with nothing.  *plain_answer* is sent to a client
    that speaks plain HTTP, which otherwise sees a connection that ends without a word.

    Raises:
        HandshakeError: there is no TLS; the connection is closed.
    """
    before = conn.gettimeout()
    secure = begin(conn, context)
    if not go_on(secure, timeout, plain_answer=plain_answer):
        secure.close()
        raise HandshakeError(Trouble.SLOW, "time out")
    secure.settimeout(before)
    return secure


def begin(conn: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """*conn*, which is used up, with TLS over it that is yet to be agreed on: see `go_on`.

    Raises:
        HandshakeError: the client has gone; the connection is closed.
    """
    try:
        conn.getpeername()  # of a client that has reset the connection, wrap_socket would leave the closing to chance
        return context.wrap_socket(conn, server_side=True, do_handshake_on_connect=False)
    except OSError as error:
        conn.close()
        raise HandshakeError(Trouble.GONE, _text(error)) from error


def go_on(secure: ssl.SSLSocket, timeout: float, *, plain_answer: bytes = b"") -> bool:
    """Go on with the handshake for *timeout* seconds at most; whether it is done.  If not, it can be gone on with later.

    Raises:
        HandshakeError: there is no TLS; the connection is closed.
    """
    try:
        secure.settimeout(max(timeout, 0.001))  # 0 would mean: do not block
        secure.do_handshake()
    except TimeoutError:
        return False
    except OSError as error:
        trouble = _classify(error)
        if trouble is Trouble.PLAIN_HTTP and plain_answer:
            _answer_plainly(secure, plain_answer)
        secure.close()
        raise HandshakeError(trouble, _text(error)) from error
    except BaseException:
        secure.close()
        raise
    return True


def _classify(error: OSError) -> Trouble:
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return _TROUBLES.get(error.reason or "", Trouble.OTHER)
    return Trouble.GONE


def _text(error: OSError) -> str:
    return (getattr(error, "reason", None) or error.strerror or str(error)).replace("_", " ").lower()


def _answer_plainly(secure: ssl.SSLSocket, answer: bytes) -> None:
    """Past TLS; read what the client has sent, because what is unread at the end would reset the answer away."""
    with contextlib.suppress(OSError):
        secure.setblocking(False)
        socket.socket.send(secure, answer)
        socket.socket.shutdown(secure, socket.SHUT_WR)
        while socket.socket.recv(secure, 65536):
            pass


# --- files ------------------------------------------------------------------------------------------------------------


def _load_certificate(context: ssl.SSLContext, certfile: str, keyfile: str | None, password: str | None) -> None:
    if not _CERTIFICATE.search(_read(certfile, "certificate")):
        raise ServerError(f"there is no certificate in {certfile}; give a PEM file, with a line BEGIN CERTIFICATE")
    key = keyfile or certfile
    if not _KEY.search(_read(key, "key")):
        hint = "give a PEM file, with a line BEGIN PRIVATE KEY" if keyfile else "say which file it is in"
        raise ServerError(f"there is no private key in {key}; {hint}")
    asked = False

    def tell() -> str:
        nonlocal asked
        asked = True
        return password or ""

    try:
        context.load_cert_chain(certfile, keyfile, tell)  # without a function, OpenSSL would ask at the terminal
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            raise ServerError(
                f"the key in {key} is not that of the certificate in {certfile}; give the two that match"
            ) from error
        if asked:
            wrong = "is another one than was given" if password else "is needed"
            raise ServerError(
                f"the key in {key} is encrypted, and a password {wrong}; give it, or a key without one"
            ) from error
        if reason in {"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"}:
            raise ServerError(
                f"the certificate in {certfile} is too weak; make one with a longer key and SHA-256"
            ) from error
        files = certfile if keyfile is None else f"{certfile} or {keyfile}"
        raise ServerError(
            f"what is in {files} is damaged, or of a kind that OpenSSL cannot read; make it again"
        ) from error


def _load_authorities(context: ssl.SSLContext, cafile: str) -> None:
    if not _CERTIFICATE.search(_read(cafile, "file of authorities")):
        raise ServerError(f"there is no certificate in {cafile}; give a PEM file, with a line BEGIN CERTIFICATE")
    try:
        context.load_verify_locations(cafile)
    except ssl.SSLError as error:
        raise ServerError(f"a certificate in {cafile} is damaged; make it again") from error


def _read(path: str, what: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ServerError(
            f"cannot read the {what} {path}: {error.strerror}; give the path of a file that is there"
        ) from error
