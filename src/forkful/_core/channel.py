"""A worker's channel: length-prefixed frames over one socket pair, and the permits that let it start work.

Nothing is shared between workers.  The master's end never blocks; the worker's end always does.
"""

from __future__ import annotations

import os
import socket
from collections import deque

from .messages import HEADER

_READ_SIZE = 64 * 1024  # more would be a mapping of its own for each read, at ten times the cost of the read
_DONTWAIT = socket.MSG_DONTWAIT
_QUIET = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)
_IOV_LIMIT = 512
_JOIN_BELOW = 16 * 1024

Frame = tuple[int, int, memoryview]  # kind, number, body


class FrameReader:
    """Cuts a stream of bytes into frames; a frame that is not whole yet is kept."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._body: bytearray | None = None  # of a frame whose header is known
        self._filled = 0
        self._kind = self._number = 0

    def want(self) -> memoryview | None:
        """Where to receive the rest of a large body directly, or None when any bytes will do."""
        if self._body is None or len(self._body) - self._filled < _READ_SIZE:
            return None
        return memoryview(self._body)[self._filled :]

    def filled(self, count: int) -> list[Frame]:
        """*count* bytes were received into what `want` gave."""
        self._filled += count
        return self._take_body()

    def _take_body(self) -> list[Frame]:
        body = self._body
        if body is None or self._filled < len(body):
            return []
        self._body = None
        return [(self._kind, self._number, memoryview(body))]

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that *data* completes."""
        at = 0
        view = memoryview(data)
        if self._body is None and not self._head and len(data) >= HEADER.size:
            kind, number, length = HEADER.unpack_from(data)
            if len(data) == HEADER.size + length:  # the usual case: one whole frame
                return [(kind, number, view[HEADER.size :])]
        frames: list[Frame] = []
        if self._body is not None:
            at = min(len(data), len(self._body) - self._filled)
            self._body[self._filled : self._filled + at] = view[:at]
            self._filled += at
            frames += self._take_body()
        if self._head:
            need = HEADER.size - len(self._head)
            self._head += view[at : at + need]
            at += need
            if len(self._head) < HEADER.size:
                return frames
            header = HEADER.unpack(self._head)
            self._head.clear()
            at = self._start(header, view, at)
            frames += self._take_body()
        end = len(data)
        while end - at >= HEADER.size:
            kind, number, length = HEADER.unpack_from(data, at)
            at += HEADER.size
            if end - at >= length:
                frames.append((kind, number, view[at : at + length]))
                at += length
            else:
                at = self._start((kind, number, length), view, at)
        if self._body is None and at < end:
            self._head += view[at:]
        return frames

    def _start(self, header: tuple[int, int, int], view: memoryview, at: int) -> int:
        self._kind, self._number, length = header
        part = view[at : at + length]
        self._body = bytearray(length)
        self._body[: len(part)] = part
        self._filled = len(part)
        return at + len(part)


def frame(kind: int, number: int = 0, *body: bytes | memoryview) -> list[bytes | memoryview]:
    """The buffers of one frame."""
    length = 0
    for part in body:
        length += len(part)
    return [HEADER.pack(kind, number, length), *body]


class MasterEnd:
    """The master's end: sends without blocking (what does not fit waits in ``unsent``), receives what is there."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._reader = FrameReader()
        self.unsent: deque[memoryview] = deque()
        self.ended = False  # end of file was seen

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    def send(self, buffers: list[bytes | memoryview]) -> None:
        """Queue *buffers* and send what the kernel takes now."""
        if self.ended:
            return
        if not self.unsent:
            data = (
                b"".join(buffers) if len(buffers) > 1 else buffers[0]
            )  # small or large, one copy costs less than many views
            try:
                sent = self._sock.send(data, _QUIET)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:  # the worker is gone; its exit status will say how, what it had is in the master's books
                return
            if sent < len(data):
                self.unsent.append(memoryview(data)[sent:])
            return
        self.unsent.extend(memoryview(buffer) for buffer in buffers if len(buffer))
        self.flush()

    def flush(self) -> None:
        """Send what the kernel takes of what is queued."""
        unsent = self.unsent
        while unsent:
            batch = [unsent[i] for i in range(min(len(unsent), _IOV_LIMIT))]
            try:
                sent = self._sock.sendmsg(batch, [], _QUIET)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # the worker is gone; its exit status will say how, what it had is in the master's books
                unsent.clear()
                return
            while sent:
                head = unsent[0]
                if sent < len(head):
                    unsent[0] = head[sent:]
                    break
                sent -= len(head)
                unsent.popleft()

    def receive(self, *, drain: bool = False) -> list[Frame]:
        """The frames that have arrived; with *drain*, everything up to the last byte (for a worker that is dead)."""
        frames: list[Frame] = []
        while not self.ended:
            target = self._reader.want()
            try:
                if target is not None:
                    count = self._sock.recv_into(target, 0, _DONTWAIT)
                    frames.extend(self._reader.filled(count))
                    more = count == len(target)
                else:
                    data = self._sock.recv(_READ_SIZE, _DONTWAIT)
                    count = len(data)
                    frames.extend(self._reader.feed(data))
                    more = count == _READ_SIZE
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # reset: as good as end of file
                count, more = 0, False
            if count == 0:
                self.ended = True
                break
            if not (drain or more):
                break
        return frames

    def close(self) -> None:
        """Close the socket."""
        self.ended = True
        self.unsent.clear()
        self._sock.close()


class WorkerEnd:
    """The worker's end: blocking, one thread."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._sock = sock
        self._reader = FrameReader()
        self._frames: deque[Frame] = deque()

    def receive(self) -> Frame | None:
        """The next frame, waiting for it; None when the master is gone."""
        while not self._frames:
            if not self._read(0):
                return None
        return self._frames.popleft()

    def receive_nowait(self) -> Frame | None:
        """The next frame if it has arrived."""
        if not self._frames:
            try:
                self._read(_DONTWAIT)
            except BlockingIOError:
                return None
        return self._frames.popleft() if self._frames else None

    def _read(self, flags: int) -> bool:
        target = self._reader.want()
        try:
            if target is not None:
                count = self._sock.recv_into(target, 0, flags)
                self._frames.extend(self._reader.filled(count))
                return count > 0
            data = self._sock.recv(_READ_SIZE, flags)
        except ConnectionError:
            return False
        self._frames.extend(self._reader.feed(data))
        return bool(data)

    def send(self, buffers: list[bytes | memoryview]) -> None:
        """Send *buffers* whole; raises `ConnectionError` when the master is gone."""
        if sum(map(len, buffers)) < _JOIN_BELOW:
            self._sock.sendall(b"".join(buffers))
            return
        views = [memoryview(buffer) for buffer in buffers]
        while views:
            sent = self._sock.sendmsg(views[:_IOV_LIMIT])
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if sent:
                views[0] = views[0][sent:]

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class Permits:
    """A counter in the kernel: a worker takes one permit before it starts an element, the master can take them back.

    Each permit is read by exactly one side, because the kernel says so; that is what makes *recalled* and *started*
    exclude each other without a lock that a killed process could keep.  An eventfd where there is one, else a pipe.
    """

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._counts = hasattr(os, "eventfd")
        self._unit = 8 if self._counts else 1

    @classmethod
    def create(cls) -> Permits:
        """A new counter at zero."""
        if hasattr(os, "eventfd"):
            fd = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            return cls(fd, fd)
        read_fd, write_fd = os.pipe()
        os.set_blocking(read_fd, False)
        return cls(read_fd, write_fd)

    @classmethod
    def adopt(cls, read_fd: int) -> Permits:
        """The worker's side of a counter, from the descriptor it inherited."""
        return cls(read_fd, -1)

    @property
    def worker_fd(self) -> int:
        """The descriptor a worker needs."""
        return self._read_fd

    def add(self, count: int) -> None:
        """Give *count* permits."""
        if self._counts:
            os.eventfd_write(self._write_fd, count)
        else:
            os.write(self._write_fd, bytes(count))

    def take(self) -> bool:
        """Take one permit if there is one.  Called in the worker before it starts an element."""
        try:
            return bool(os.read(self._read_fd, self._unit))
        except BlockingIOError:
            return False

    def take_back(self, most: int) -> int:
        """Take up to *most* permits back; how many there were.  Called in the master."""
        taken = 0
        while taken < most and self.take():
            taken += 1
        return taken

    def close(self) -> None:
        """Close the master's side."""
        os.close(self._read_fd)
        if self._write_fd not in (self._read_fd, -1):
            os.close(self._write_fd)
