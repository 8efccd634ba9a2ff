"""From a request to the environment of PEP 3333, and from what the application returns to a response."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from ._requests import Request
from ._response import Response

__all__ = ["Application", "FileWrapper", "environ_of", "run_application"]

# As PEP 3333 has it, and typeshed in ``wsgiref.types``; frameworks say it in ways of their own.
Application = Callable[[dict[str, Any], Any], Iterable[bytes]]

_KEYS: dict[bytes, str] = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
# With an underscore a name would be mixed up with another, which a proxy may vouch for; what is called Proxy would
# become the HTTP_PROXY of programs that the application starts.
_REFUSED: Final = ""


class FileWrapper:
    """``wsgi.file_wrapper``: a file as a body.  One on a disk is sent by the kernel, any other in blocks of *size* bytes."""

    def __init__(self, file: Any, size: int = 65536) -> None:
        self.file = file
        self._size = size
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.file.read(self._size), b"")


def _key_of(name: bytes) -> str:
    """The variable of a header field; empty if it has none."""
    lower = name.lower()
    key = _KEYS.get(lower)
    if key is None:
        key = (
            _REFUSED
            if b"_" in lower or lower == b"proxy"
            else "HTTP_" + lower.decode("latin-1").upper().replace("-", "_")
        )
    if len(_KEYS) < 1000:  # clients make up names
        _KEYS[name] = _KEYS[lower] = key
    return key


def environ_of(request: Request, base: dict[str, Any], script_name: str, client: object) -> dict[str, Any] | None:
    """The variables of *request*, without its body; None if it is not for an application at *script_name*.

    Args:
        base: what is the same for all requests.
        script_name: the path of the application, without a slash at its end.
        client: its address.
    """
    environ = base.copy()
    target = request.target
    environ["REQUEST_METHOD"] = request.method
    environ["REQUEST_URI"] = target.decode("latin-1")
    environ["SERVER_PROTOCOL"] = "HTTP/1.1" if request.version == "1.1" else "HTTP/1.0"
    if isinstance(client, tuple):
        environ["REMOTE_ADDR"] = client[0]
        environ["REMOTE_PORT"] = str(client[1])
    else:
        environ["REMOTE_ADDR"] = ""
    for name, value in request.fields:
        key = _KEYS.get(name)
        if key is None:
            key = _key_of(name)
        if not key:
            continue
        text = value.decode("latin-1")
        if key in environ:
            text = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ', '}{text}"
        environ[key] = text
    environ["wsgi.errors"] = sys.stderr
    if not target.startswith(b"/"):  # RFC 9112 §3.2.2
        host, target = _split_url(target)
        if host:
            environ["HTTP_HOST"] = host
    path, _, query = target.partition(b"?")
    if b"%" in path:
        path = unquote_to_bytes(path)
    where = path.decode("latin-1")
    if script_name:
        if where != script_name and not where.startswith(script_name + "/"):
            return None
        where = where[len(script_name) :]
    environ["PATH_INFO"] = where
    environ["QUERY_STRING"] = query.decode("latin-1")
    return environ


def _split_url(target: bytes) -> tuple[str, bytes]:
    """Host and path of ``http://host/path?query``; of ``*``, which is the server itself, there is neither."""
    _, found, rest = target.partition(b"://")
    if not found:
        return "", b""
    ends = [at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0]
    end = min(ends, default=len(rest))
    path = rest[end:]
    return rest[:end].rpartition(b"@")[2].decode("latin-1"), path if path.startswith(b"/") else b"/" + path


def run_application(app: Application, environ: dict[str, Any], body: io.BufferedIOBase, response: Response) -> None:
    """Call *app*, and send what it returns.  Raises whatever it raises, and what `Response` does."""
    environ["wsgi.input"] = body
    result = app(environ, response.start)
    try:
        if type(result) is list or type(result) is tuple:
            _send_whole(result, response)
        else:
            if isinstance(result, (bytes, str)):
                raise TypeError(f"an application returns an iterable of bytes, not {type(result).__name__}")
            if not (type(result) is FileWrapper and response.write_file(result.file)):
                for block in result:
                    response.write(block)
            response.end()
    finally:
        close = getattr(result, "close", None)
        if close is not None:
            close()


def _send_whole(blocks: Any, response: Response) -> None:
    for block in blocks:
        if not isinstance(block, bytes):
            raise TypeError(f"a body is made of bytes, not {type(block).__name__}")
    response.write_whole(blocks[0] if len(blocks) == 1 else b"".join(blocks))
