"""What a task writes to its standard output and error: kept for each element, and read by the master after a death.

Each worker has two files without a name, opened by the master.  In the worker they become descriptors 1 and 2, so that
what C code and child processes write is there too.  After each element the worker sends what is in them (`messages.NOTE`)
and empties them; of one that died in the middle, the master reads what it had written.

Of each file the last `LIMIT` bytes are kept, after a line that says how many are not.  What Python code writes is cut as it
is written; what others write takes memory until the element ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import sys
import threading
from typing import Any

from . import codec

LIMIT = 1024 * 1024  # bytes, of each of the two, for each element
_MARK = b"[%d bytes left out]\n"
_MARK_MOST = 64
_MARKED = re.compile(rb"\[(\d{1,20}) bytes left out\]\n")


# Both sides.


def create_file() -> int:
    """A descriptor of an empty file without a name, to which is appended whoever writes."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("forkful-output", os.MFD_CLOEXEC)
    else:  # macOS
        import tempfile

        fd, path = tempfile.mkstemp(prefix="forkful-output-")
        os.unlink(path)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    return fd


def read(fd: int) -> bytes:
    """What is kept of a file."""
    size = os.fstat(fd).st_size
    if size <= LIMIT + _MARK_MOST:
        return os.pread(fd, size, 0) if size else b""
    marked = _MARKED.match(os.pread(fd, _MARK_MOST, 0))
    before = int(marked[1]) - marked.end() if marked else 0
    return _MARK % (before + size - LIMIT) + os.pread(fd, LIMIT, size - LIMIT)


def pack(out: bytes, err: bytes) -> bytes:
    """The content of a NOTE."""
    return codec.dumps((out, err), codec.PROTOCOL)


def unpack(content: bytes | memoryview) -> tuple[str, str]:
    """Standard output and error as text."""
    out, err = codec.loads(content)
    return out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


# In the worker.


class Output:
    """Descriptors 1 and 2 of this process are *fds* from `start` to `stop`."""

    def __init__(self, fds: tuple[int, int]) -> None:
        self._fds = fds
        self._before: list[tuple[str, Any]] = []  # streams of `sys`, by name
        self._descriptors: list[int] = []  # copies of what 1 and 2 were

    def start(self) -> None:
        """From now on what is written is kept."""
        self._before = [(name, getattr(sys, name)) for name in ("stdout", "stderr", "__stdout__", "__stderr__")]
        self._flush()
        self._descriptors = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in (1, 2)]
        for number, fd in enumerate(self._fds, 1):
            os.dup2(fd, number)
        for number, name in enumerate(("stdout", "stderr"), 1):
            stream = io.TextIOWrapper(
                _Bounded(number), encoding="utf-8", errors="surrogateescape", newline="\n", write_through=True
            )
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        _unbuffer_stdio()

    def begin(self) -> None:
        """This thread runs tasks: the only one."""

    def take(self) -> bytes:
        """What has been written since the last time, for `unpack`; empty when nothing was."""
        self._flush()
        out, err = self._fds
        sizes = os.fstat(out).st_size, os.fstat(err).st_size
        if sizes == (0, 0):
            return b""
        content = pack(read(out), read(err))
        for fd in self._fds:
            os.ftruncate(fd, 0)
        return content

    def stop(self) -> None:
        """What is written goes where it went before: it is of no element."""
        self._flush()
        for number, fd in enumerate(self._descriptors, 1):
            os.dup2(fd, number)
            os.close(fd)
        for name, stream in self._before:
            setattr(sys, name, stream)
        self._descriptors.clear()

    def _flush(self) -> None:
        """Also the streams that were there before: a handler of logging may hold one."""
        for stream in {
            id(stream): stream for stream in (sys.stdout, sys.stderr, *dict(self._before).values())
        }.values():
            with contextlib.suppress(Exception):  # closed, or one of the user's that is no file
                stream.flush()


class _Bounded(io.FileIO):
    """Standard output or error, as a file of which the end is kept."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "w", closefd=False)
        self._written = 0  # since the size was looked at

    def write(self, data: Any) -> int:
        count = super().write(data)
        self._written += count
        if self._written > LIMIT:
            self._written = 0
            fd = self.fileno()
            if os.fstat(fd).st_size > 2 * LIMIT:
                kept = read(fd)
                os.ftruncate(fd, 0)
                super().write(kept)
        return count


def _unbuffer_stdio() -> None:
    """Have C code's ``printf`` write at once: it would keep back what goes to a file, and lose it in a crash."""
    with contextlib.suppress(Exception):  # it is a convenience; there may be no ctypes, or another kind of library
        import ctypes

        library = ctypes.CDLL(None)
        stream = ctypes.c_void_p.in_dll(library, "__stdoutp" if sys.platform == "darwin" else "stdout")
        library.setvbuf(stream, None, 2, ctypes.c_size_t(0))  # _IONBF


class ThreadedOutput:
    """For a worker that runs several tasks at once, which have the descriptors in common.

    What Python code writes to ``sys.stdout`` and ``sys.stderr`` is kept by thread, for those that `begin`; all else goes
    where it always went, and nothing is left of a process that dies.
    """

    def __init__(self) -> None:
        self._own = threading.local()
        self._before: tuple[Any, Any] = (None, None)

    def start(self) -> None:
        """From now on what is written is kept."""
        self._before = sys.stdout, sys.stderr
        sys.stdout = _ByThread(self._before[0], self._own, 0)
        sys.stderr = _ByThread(self._before[1], self._own, 1)

    def begin(self) -> None:
        """This thread runs tasks."""
        self._own.parts = ([], [])

    def take(self) -> bytes:
        """What this thread has written since the last time, for `unpack`; empty when nothing was."""
        parts = self._own.parts
        if not (parts[0] or parts[1]):
            return b""
        out, err = ("".join(part).encode("utf-8", "surrogateescape") for part in parts)
        parts[0].clear()
        parts[1].clear()
        return pack(_bound(out), _bound(err))

    def stop(self) -> None:
        """What is written goes where it went before."""
        sys.stdout, sys.stderr = self._before


def _bound(data: bytes) -> bytes:
    return data if len(data) <= LIMIT else _MARK % (len(data) - LIMIT) + data[-LIMIT:]


class _ByThread(io.TextIOBase):
    def __init__(self, stream: Any, own: threading.local, which: int) -> None:
        self._stream = stream
        self._own = own
        self._which = which

    def write(self, text: str) -> int:
        parts = getattr(self._own, "parts", None)
        if parts is None:
            return int(self._stream.write(text))
        parts[self._which].append(str(text))
        return len(text)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return int(self._stream.fileno())

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a property in a subclass is what it is
        return "utf-8"
