"""A worker's channel: length-prefixed frames over two pipes, and the permits that let it start work.

Nothing is shared between workers.  The master's end never blocks; the worker's end does.

Two pipes and not a socket pair: a round trip costs a third less (a socket wakes its writer whenever something is read),
and the ends of a pipe can be told apart, which keeps SIGPIPE away: see `MasterEnd`.
"""

from __future__ import annotations

import fcntl
import os
import select
import threading
import time
from collections import deque
from itertools import starmap
from typing import Any

from .messages import HEADER

_READ_SIZE = 64 * 1024  # what a pipe holds; more would be a mapping of its own for each read, at ten times the cost
_WIDE = 1024 * 1024  # what a pipe that carries large frames holds, where the system allows it
_IOV_LIMIT = 512
_JOIN_BELOW = 16 * 1024
_READS_MOST = 32  # at once, of one worker: all that a pipe can hold, and not whatever follows for ever
# A gap between two tasks that is shorter than this is cheaper waited for awake: to wake a sleeping process costs tens of
# microseconds, to the master and to the task.  See docs/decisions/0007-look-before-you-sleep.md.
_BRISK_NS = 100_000
_clock = time.monotonic_ns
_SET_SIZE = getattr(fcntl, "F_SETPIPE_SZ", None)

_NOWAIT = getattr(os, "RWF_NOWAIT", None)

Frame = tuple[int, int, int, memoryview]  # kind, lane, number, body


class FrameReader:
    """Cuts a stream of bytes into frames; a frame that is not whole yet is kept."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._body: bytearray | None = None  # of a frame whose header is known
        self._filled = 0
        self._kind = self._lane = self._number = 0

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
        return [(self._kind, self._lane, self._number, memoryview(body))]

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that *data* completes."""
        at = 0
        view = memoryview(data)
        if self._body is None and not self._head and len(data) >= HEADER.size:
            kind, lane, number, length = HEADER.unpack_from(data)
            if len(data) == HEADER.size + length:  # the usual case: one whole frame
                return [(kind, lane, number, view[HEADER.size :])]
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
            kind, lane, number, length = HEADER.unpack_from(data, at)
            at += HEADER.size
            if end - at >= length:
                frames.append((kind, lane, number, view[at : at + length]))
                at += length
            else:
                at = self._start((kind, lane, number, length), view, at)
        if self._body is None and at < end:
            self._head += view[at:]
        return frames

    def _start(self, header: tuple[int, int, int, int], view: memoryview, at: int) -> int:
        self._kind, self._lane, self._number, length = header
        part = view[at : at + length]
        self._body = bytearray(length)
        self._body[: len(part)] = part
        self._filled = len(part)
        return at + len(part)


def frame(kind: int, number: int = 0, *body: bytes | memoryview, lane: int = 0) -> list[bytes | memoryview]:
    """The buffers of one frame."""
    length = 0
    for part in body:
        length += len(part)
    return [HEADER.pack(kind, lane, number, length), *body]


def _widen(fd: int) -> None:
    """Let a pipe hold more: large frames then take fewer turns."""
    if _SET_SIZE is not None:
        try:
            fcntl.fcntl(fd, _SET_SIZE, _WIDE)
        except OSError:  # this user's pipes hold as much as they may: it works as it is
            pass


class MasterEnd:
    """The master's end: sends without blocking (what does not fit waits in ``unsent``), receives what is there.

    It keeps a reading end of the pipe to the worker, and never reads it: so that writing to a worker that is gone is
    neither an error nor SIGPIPE, which many programs set back to its default, where it would end them.
    """

    def __init__(self, up: int, down: int, unread: int) -> None:
        os.set_blocking(up, False)
        os.set_blocking(down, False)
        self._up = up
        self._down = down
        self._unread = unread
        self._wide = False
        self._reader = FrameReader()
        self.unsent: deque[memoryview] = deque()
        self.ended = False  # end of file was seen

    def fileno(self) -> int:
        """The descriptor to receive from."""
        return self._up

    def sending_fileno(self) -> int:
        """The descriptor to send to."""
        return self._down

    def send(self, buffers: list[bytes | memoryview]) -> None:
        """Queue *buffers* and send what the kernel takes now."""
        if self.ended:
            return
        if not self.unsent:
            data = b"".join(buffers) if len(buffers) > 1 else buffers[0]  # one copy costs less than many views
            try:
                sent = os.write(self._down, data)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                self.unsent.append(memoryview(data)[sent:])
            return
        self.unsent.extend(memoryview(buffer) for buffer in buffers if len(buffer))
        self.flush()

    def flush(self) -> None:
        """Send what the kernel takes of what is queued."""
        unsent = self.unsent
        if unsent and not self._wide:
            self._wide = True
            _widen(self._down)
        while unsent:
            batch = [unsent[i] for i in range(min(len(unsent), _IOV_LIMIT))]
            try:
                sent = os.writev(self._down, batch)
            except BlockingIOError:
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
        reads = 0
        while not self.ended:
            reads += 1
            target = self._reader.want()
            try:
                if target is not None:
                    count = os.readv(self._up, [target])
                    frames.extend(self._reader.filled(count))
                    more = count == len(target)
                else:
                    data = os.read(self._up, _READ_SIZE)
                    count = len(data)
                    frames.extend(self._reader.feed(data))
                    more = count == _READ_SIZE
            except BlockingIOError:
                break
            if count == 0:
                self.ended = True
                break
            if not drain and (not more or reads >= _READS_MOST):
                break
        return frames

    def close(self) -> None:
        """Close the descriptors."""
        self.ended = True
        self.unsent.clear()
        if self._up >= 0:
            for fd in (self._up, self._down, self._unread):
                os.close(fd)
            self._up = self._down = self._unread = -1


class WorkerEnd:
    """The worker's end: blocking; it goes on where a task has made the descriptors non-blocking.

    One thread receives.  Any thread may send, and so may a signal handler or a finalizer that interrupts a thread which
    is sending: its frame then follows.
    """

    def __init__(self, down: int, up: int) -> None:
        self._down = down
        self._up = up
        self._wide = False
        self._poll = select.poll()
        self._poll.register(down, select.POLLIN)
        self.brisk_ns = _BRISK_NS  # a gap shorter than this is waited for awake; 0 where other threads have work to do
        self._brisk = False  # the last gap was short
        self._reader = FrameReader()
        self._frames: deque[Frame] = deque()
        self._sending: Any = threading.RLock()
        self._behind: deque[list[bytes | memoryview]] = deque()
        self._begun: tuple[memoryview, list[int]] | None = None  # a note, and how many bytes of it went at each write

    def receive(self) -> Frame | None:
        """The next frame, waiting for it; None when the master is gone."""
        while not self._frames:
            looked = self._brisk and self._look_for_long()
            begun = _clock()
            if not self._read():
                return None
            if not looked:
                self._brisk = _clock() - begun < self.brisk_ns
        return self._frames.popleft()

    def _look_for_long(self) -> bool:
        """Look without sleeping, for as long as the last gap was at most; whether something came."""
        poll = self._poll.poll
        due = _clock() + _BRISK_NS
        while not poll(0):
            if _clock() > due:
                self._brisk = False
                return False
            os.sched_yield()  # whoever else wants this processor has it
        return True

    def receive_nowait(self) -> Frame | None:
        """The next frame if it has arrived."""
        if not self._frames and self._poll.poll(0):
            self._read()
        return self._frames.popleft() if self._frames else None

    def _read(self) -> bool:
        """Read once; False at the end."""
        target = self._reader.want()
        try:
            if target is not None:
                count = os.readv(self._down, [target])
                self._frames.extend(self._reader.filled(count))
                return count > 0
            data = os.read(self._down, _READ_SIZE)
        except BlockingIOError:
            self._poll.poll()
            return True
        self._frames.extend(self._reader.feed(data))
        return bool(data)

    def send(self, buffers: list[bytes | memoryview]) -> None:
        """Send *buffers* whole; raises `BrokenPipeError` when the master is gone."""
        if self._sending._is_owned():  # by this very thread, further out
            self._behind.append(buffers)
            return
        with self._sending:
            if self._begun is not None:
                self._finish()
            self._send(buffers)
            if self._behind:
                self._send_behind()

    def send_note(self, buffers: list[bytes | memoryview]) -> None:
        """Send *buffers* from the midst of a task, which may go on after a signal handler of its own has raised in here.

        What is left of the frame is then sent before the next one.
        """
        if self._sending._is_owned():
            self._behind.append(buffers)
            return
        with self._sending:
            self._finish()
            self._begin(buffers)
            self._finish()
            self._send_behind()

    def _begin(self, buffers: list[bytes | memoryview]) -> None:
        data = b"".join(buffers)
        if len(data) > _READ_SIZE and not self._wide:
            self._wide = True
            _widen(self._up)
        self._begun = (memoryview(data), [])

    def _finish(self) -> None:
        """Send what is left of a note.  Each piece is sent and counted in one step of the interpreter: see `forks.note`."""
        if self._begun is None:
            return
        data, counts = self._begun
        while (done := sum(counts)) < len(data):
            try:
                counts.extend(starmap(os.write, [(self._up, data[done:])]))
            except BlockingIOError:
                self._await_room()
        self._begun = None

    def _send_behind(self) -> None:
        while self._behind:
            self._begin(self._behind.popleft())
            self._finish()

    def _await_room(self) -> None:
        room = select.poll()
        room.register(self._up, select.POLLOUT)
        room.poll()

    def _send(self, buffers: list[bytes | memoryview]) -> None:
        size = sum(map(len, buffers))
        if size < _JOIN_BELOW:
            data = b"".join(buffers)
            try:
                sent = os.write(self._up, data)
            except BlockingIOError:
                sent = 0
            if sent == size:
                return
            buffers = [data[sent:]]  # a signal came in between
        if size > _READ_SIZE and not self._wide:
            self._wide = True
            _widen(self._up)
        views = [memoryview(buffer) for buffer in buffers]
        while views:
            try:
                sent = os.writev(self._up, views[:_IOV_LIMIT])
            except BlockingIOError:
                self._await_room()
                continue
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if sent:
                views[0] = views[0][sent:]

    def close(self) -> None:
        """Close the descriptors."""
        if self._up >= 0:
            os.close(self._down)
            os.close(self._up)
            self._down = self._up = -1


def open_channel() -> tuple[MasterEnd, int, int]:
    """A new channel: the master's end, and the worker's two descriptors (to read from, to write to)."""
    fds: list[int] = []
    try:
        fds += os.pipe()
        fds += os.pipe()
        fds.append(os.dup(fds[0]))
        down_r, down_w, up_r, up_w, unread = fds
        return MasterEnd(up_r, down_w, unread), down_r, up_w
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


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

    def check(self) -> None:
        """Raises ``OSError`` when the descriptor was closed: better before the first task than instead of each."""
        os.fstat(self._read_fd)

    def unblock(self) -> None:
        """Called in the worker now and then: a task may have made the descriptor a blocking one."""
        os.set_blocking(self._read_fd, False)

    def take_back(self, most: int) -> int:
        """Take up to *most* permits back; how many there were.  Called in the master, and never blocks."""
        taken = 0
        while taken < most and self._take_without_waiting():
            taken += 1
        return taken

    def _take_without_waiting(self) -> bool:
        """`take`, also where a task has made the descriptor a blocking one, which it then is in this process too."""
        if _NOWAIT is None or not self._counts:
            return self.take()
        try:
            return bool(os.preadv(self._read_fd, [bytearray(self._unit)], -1, _NOWAIT))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Close the master's side."""
        os.close(self._read_fd)
        if self._write_fd not in (self._read_fd, -1):
            os.close(self._write_fd)
