"""Frames through a stream of bytes, and permits."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from forkful._core import channel
from forkful._core.channel import _READ_SIZE, Frame, FrameReader, MasterEnd, Permits, WorkerEnd, frame, open_channel
from forkful._core.messages import HEADER

LARGE = 256 * 1024

Plain = tuple[int, int, bytes]

FRAMES: list[Plain] = [(1, 0, b""), (2, 7, b"abc"), (3, 2**32 - 1, b""), (4, 1, bytes(range(256))), (5, 1, b"\0")]


def stream(frames: list[Plain]) -> bytes:
    """The bytes that carry *frames*."""
    return b"".join(b"".join(frame(kind, number, body, lane=lane_of(number))) for kind, number, body in frames)


def lane_of(number: int) -> int:
    """Of the frame with that *number*."""
    return number % 65_536


class Collector:
    """A reader, and the frames that have come out of it."""

    def __init__(self) -> None:
        self.reader = FrameReader()
        self.frames: list[Plain] = []

    def put(self, data: bytes) -> None:
        """Receive *data* as an end of a channel does: directly into a large body, else as it comes."""
        while data:
            target = self.reader.want()
            if target is None:
                frames, data = self.reader.feed(data), b""
            else:
                part = data[: len(target)]
                target[: len(part)] = part
                frames, data = self.reader.filled(len(part)), data[len(part) :]
            assert all(lane == lane_of(number) for _, lane, number, _ in frames)
            self.frames += [(kind, number, bytes(body)) for kind, _, number, body in frames]


def test_frame() -> None:
    """A header that tells the length of all that follows, and the body as it is, without a copy."""
    body, more = b"abc", memoryview(b"de")
    head, first, second = frame(9, 5, body, more, lane=3)
    assert HEADER.unpack(head) == (9, 3, 5, 5)
    assert first is body
    assert second is more
    assert frame(6) == [HEADER.pack(6, 0, 0, 0)]


def test_every_split_gives_the_same_frames() -> None:
    """Wherever a stream is cut in two."""
    for frames in (FRAMES, *([single] for single in FRAMES)):
        data = stream(frames)
        for cut in range(len(data) + 1):
            collector = Collector()
            collector.put(data[:cut])
            collector.put(data[cut:])
            assert collector.frames == frames, cut


def test_small_pieces_give_the_same_frames() -> None:
    """However small the pieces are in which it comes."""
    data = stream(FRAMES)
    for size in (1, 2, 3, 5, 15, 16, 17, 100):
        collector = Collector()
        for at in range(0, len(data), size):
            collector.put(data[at : at + size])
        assert collector.frames == FRAMES, size


def test_frames_come_as_soon_as_they_are_whole() -> None:
    """With the last byte of the body, or of the header when there is no body."""
    collector = Collector()
    data = stream(FRAMES[:2])
    for at in range(len(data)):
        collector.put(data[at : at + 1])
        assert len(collector.frames) == (at >= HEADER.size - 1) + (at == len(data) - 1)


@pytest.mark.parametrize("length", [LARGE - 1, LARGE, LARGE + 1, 3 * LARGE + 5])
def test_large_bodies(length: int) -> None:
    """Cut anywhere of interest, between small neighbours."""
    body = bytes(range(256)) * (length // 256) + bytes(range(length % 256))
    frames = [(2, 7, b"abc"), (1, 1, body), (3, 0, b""), (4, 4, b"x" * 300)]
    data = stream(frames)
    start = len(stream(frames[:1]))
    edges = [start, start + HEADER.size, start + HEADER.size + length]
    cuts = {edge + near for edge in edges for near in (-1, 0, 1)} | {
        LARGE,
        start + HEADER.size + length - _READ_SIZE,
        len(data) - 1,
    }
    for cut in cuts:
        collector = Collector()
        collector.put(data[:cut])
        collector.put(data[cut:])
        assert collector.frames == frames, cut


def test_large_body_is_received_in_place() -> None:
    """While much of it is missing the reader offers the place for it; never when any bytes will do."""
    reader = FrameReader()
    assert reader.want() is None
    body = b"x" * (2 * _READ_SIZE)
    assert reader.feed(HEADER.pack(1, 0, 0, len(body)) + body[:10]) == []
    target = reader.want()
    assert target is not None
    assert len(target) == len(body) - 10
    target[:_READ_SIZE] = body[:_READ_SIZE]
    assert reader.filled(_READ_SIZE) == []
    assert reader.want() is None  # less than one read is missing
    ((kind, _, number, whole),) = reader.feed(body[10 + _READ_SIZE :])
    assert (kind, number, bytes(whole)) == (1, 0, body)


def test_frames_are_not_overwritten() -> None:
    """A frame that is kept is still the same after the next one has come."""
    reader = FrameReader()
    data = stream([(1, 1, b"first"), (2, 2, b"second")])
    kept = [*reader.feed(data[:30]), *reader.feed(data[30:])]
    assert [bytes(body) for *_, body in kept] == [b"first", b"second"]


@pytest.fixture
def ends() -> Iterator[tuple[MasterEnd, WorkerEnd]]:
    """Both ends of a channel."""
    master, down, up = open_channel()
    worker = WorkerEnd(down, up)
    yield master, worker
    master.close()
    worker.close()


@pytest.fixture
def narrow_ends(ends: tuple[MasterEnd, WorkerEnd], monkeypatch: pytest.MonkeyPatch) -> tuple[MasterEnd, WorkerEnd]:
    """A channel that takes little at a time, and stays so."""
    monkeypatch.setattr(channel, "_SET_SIZE", None)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        for fd in (ends[0].fileno(), ends[0].sending_fileno()):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 4096)
    return ends


def plain(received: Frame | None) -> Plain | None:
    """A frame without its lane, its body as bytes."""
    return None if received is None else (received[0], received[2], bytes(received[3]))


def test_frames_down(ends: tuple[MasterEnd, WorkerEnd]) -> None:
    """What the master sends is what the worker receives, in order."""
    master, worker = ends
    master.send([*frame(1, 2, b"abc"), *frame(3)])
    assert not master.unsent
    assert plain(worker.receive()) == (1, 2, b"abc")
    assert plain(worker.receive_nowait()) == (3, 0, b"")
    assert worker.receive_nowait() is None


def test_frames_up(ends: tuple[MasterEnd, WorkerEnd]) -> None:
    """What the worker sends is what the master receives, in order."""
    master, worker = ends
    assert master.receive() == []
    worker.send([*frame(11), *frame(13, 5, b"", memoryview(b"de"), b"f")])
    assert [plain(received) for received in master.receive()] == [(11, 0, b""), (13, 5, b"def")]
    assert not master.ended


def test_large_frame_of_many_pieces_up(ends: tuple[MasterEnd, WorkerEnd]) -> None:
    """A worker sends buffers as they are, empty ones included, more of them than one call takes."""
    master, worker = ends
    pieces: list[bytes | memoryview] = [b"", *[b"0123456789" * 3] * 1300, b"", b"end"]
    worker.send(frame(13, 1, *pieces))
    (received,) = master.receive()
    assert plain(received) == (13, 1, b"".join(pieces))


def test_large_frame_up(narrow_ends: tuple[MasterEnd, WorkerEnd]) -> None:
    """A worker waits while the master reads; what arrives is received in place."""
    master, worker = narrow_ends
    body = os.urandom(1000) * 300
    sender = threading.Thread(target=worker.send, args=(frame(13, 1, body),))
    sender.start()
    frames: list[Frame] = []
    while not frames:
        frames = master.receive()
    sender.join()
    assert [plain(received) for received in frames] == [(13, 1, body)]


def test_worker_whose_descriptors_do_not_block(narrow_ends: tuple[MasterEnd, WorkerEnd]) -> None:
    """A task may have made them so: the worker waits all the same, in both directions, for whole frames."""
    master, worker = narrow_ends
    os.set_blocking(worker._down, False)
    os.set_blocking(worker._up, False)
    bodies = [os.urandom(1000) * size for size in (1, 9, 9, 9, 300, 1)]

    def echo() -> None:
        for _ in bodies:
            received = worker.receive()
            assert received is not None
            worker.send(frame(13, received[2], received[3]))

    thread = threading.Thread(target=echo)
    thread.start()
    for number, body in enumerate(bodies):
        master.send(frame(4, number, body))
    frames: list[Frame] = []
    while len(frames) < len(bodies):
        master.flush()
        frames += master.receive()
    thread.join()
    assert [plain(received) for received in frames] == [(13, number, body) for number, body in enumerate(bodies)]


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="this system's pipes have one size")
def test_channel_widens_for_large_frames(ends: tuple[MasterEnd, WorkerEnd]) -> None:
    """In the direction in which they go; small ones leave it as it is, so that a user's share lasts for many workers."""
    master, worker = ends
    worker.send(frame(13, 1, b"small"))
    master.send(frame(4, 1, b"small"))
    sizes = [fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) for fd in (master.fileno(), master.sending_fileno())]
    worker.send(frame(13, 1, bytes(100_000)))
    wider = fcntl.fcntl(master.fileno(), fcntl.F_GETPIPE_SZ)
    assert (wider > sizes[0], fcntl.fcntl(master.sending_fileno(), fcntl.F_GETPIPE_SZ)) == (True, sizes[1])
    master.send(frame(4, 1, bytes(100_000)))
    master.flush()
    assert fcntl.fcntl(master.sending_fileno(), fcntl.F_GETPIPE_SZ) == wider


def test_master_never_blocks(narrow_ends: tuple[MasterEnd, WorkerEnd]) -> None:
    """What the kernel does not take waits, and goes on where it stopped; later frames wait behind it."""
    master, worker = narrow_ends
    frames = [(4, number, bytes([number]) * 9000) for number in range(30)]
    for kind, number, body in frames:
        master.send(frame(kind, number, body[:10], body[10:]))
    assert master.unsent
    received: list[Plain | None] = []
    while len(received) < len(frames):
        while (got := worker.receive_nowait()) is not None:
            received.append(plain(got))
        master.flush()
    assert received == frames
    assert not master.unsent
    assert worker.receive_nowait() is None


def test_large_frame_through_a_narrow_channel(narrow_ends: tuple[MasterEnd, WorkerEnd]) -> None:
    """A body many times what a pipe holds arrives whole."""
    master, worker = narrow_ends
    body = os.urandom(1000) * 600
    master.send(frame(4, 1, body))
    master.send(frame(4, 2))
    got = None
    while got is None:
        got = worker.receive_nowait()
        master.flush()
    assert plain(got) == (4, 1, body)
    assert plain(worker.receive()) == (4, 2, b"")


def test_end_of_the_worker(ends: tuple[MasterEnd, WorkerEnd]) -> None:
    """What it had sent is received, and then that it has ended; a frame that was cut is dropped."""
    master, worker = ends
    worker.send(frame(13, 1, b"whole"))
    os.write(worker._up, HEADER.pack(13, 0, 2, 100) + b"half")
    worker.close()
    frames = master.receive(drain=True)
    assert [plain(received) for received in frames] == [(13, 1, b"whole")]
    assert master.ended
    assert master.receive() == []


def test_end_of_the_worker_inside_a_large_body(ends: tuple[MasterEnd, WorkerEnd]) -> None:
    """Also where the body was being received in place."""
    master, worker = ends
    os.write(worker._up, HEADER.pack(13, 0, 2, 10 * LARGE) + b"x" * 100)
    assert master.receive() == []
    worker.close()
    assert master.receive(drain=True) == []
    assert master.ended


def test_sending_to_a_worker_that_is_gone(narrow_ends: tuple[MasterEnd, WorkerEnd]) -> None:
    """It is no error of the master's, nor SIGPIPE where the program has not ignored that: the exit status tells."""
    master, worker = narrow_ends
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        worker.close()
        while not master.unsent:
            master.send(frame(4, 0, bytes(1000)))
        master.flush()
    finally:
        signal.signal(signal.SIGPIPE, before)
    master.receive(drain=True)
    assert master.ended
    kept = len(master.unsent)
    master.send(frame(4))
    assert len(master.unsent) == kept


def test_master_receives_all_there_is(ends: tuple[MasterEnd, WorkerEnd]) -> None:
    """With *drain* up to the last byte, however many reads it takes."""
    master, worker = ends
    worker.send(frame(13, 0, bytes(_READ_SIZE + 1 - HEADER.size - 1000)))
    sent: list[Plain] = [(13, number, bytes(10)) for number in range(30)]
    for kind, number, body in sent:
        worker.send(frame(kind, number, body))
    worker.close()
    assert [plain(received) for received in master.receive(drain=True)][1:] == sent
    assert master.ended


def test_worker_that_looks_before_it_sleeps(ends: tuple[MasterEnd, WorkerEnd], monkeypatch: pytest.MonkeyPatch) -> None:
    """After a short gap it looks for as long; when nothing comes it sleeps, and looks no more until a gap is short."""
    master, worker = ends
    now = 0
    looks = 0

    def clock() -> int:
        return now

    def pass_time() -> None:
        nonlocal now, looks
        now += channel._BRISK_NS // 10
        looks += 1
        if looks == 30:
            master.send(frame(2))

    monkeypatch.setattr(channel, "_clock", clock)
    monkeypatch.setattr(os, "sched_yield", pass_time)
    master.send(frame(1))
    assert plain(worker.receive()) == (1, 0, b"")
    assert worker._brisk
    assert not worker._look_for_long()
    assert looks == 11
    assert not worker._brisk
    worker._brisk = True
    looks = 25
    assert plain(worker.receive()) == (2, 0, b"")
    assert looks == 30
    assert worker._brisk
    master.close()
    assert worker.receive() is None


def test_end_of_the_master(ends: tuple[MasterEnd, WorkerEnd]) -> None:
    """The worker reads what was sent, then hears of the end, and may not send."""
    master, worker = ends
    master.send(frame(4, 9))
    master.close()
    assert master.ended
    assert plain(worker.receive()) == (4, 9, b"")
    assert worker.receive() is None
    assert worker.receive_nowait() is None
    with pytest.raises(ConnectionError):
        worker.send(frame(13, 0, bytes(10)))
    with pytest.raises(ConnectionError):
        worker.send(frame(13, 0, bytes(100_000)))


def test_worker_is_interrupted_while_it_sends(
    ends: tuple[MasterEnd, WorkerEnd], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal can end a write before its time: the rest follows."""
    master, worker = ends
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
        worker.send(frame(13, 1, b"abcdefgh"))
    assert [plain(received) for received in master.receive()] == [(13, 1, b"abcdefgh")]


def test_channel_is_closed_once(ends: tuple[MasterEnd, WorkerEnd]) -> None:
    """A second time closes nothing, least of all what has the number now."""
    for end in ends:
        end.close()
        end.close()
    assert ends[0].fileno() == -1


# Permits.


@pytest.fixture(params=["eventfd", "pipe"])
def permits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Permits]:
    """A counter of each kind."""
    if request.param == "pipe":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("this system has no eventfd")
    counter = Permits.create()
    yield counter
    counter.close()


@pytest.fixture
def worker_side(permits: Permits) -> Iterator[Permits]:
    """The same counter as the worker has it: a descriptor of its own."""
    adopted = Permits.adopt(os.dup(permits.worker_fd))
    yield adopted
    adopted.close()


def test_no_permit_to_begin_with(permits: Permits, worker_side: Permits) -> None:
    """And nobody waits for one."""
    assert not worker_side.take()
    assert permits.take_back(5) == 0


def test_permits_are_taken_one_by_one(permits: Permits, worker_side: Permits) -> None:
    """As many as were given, whenever."""
    permits.add(2)
    assert worker_side.take()
    permits.add(1)
    assert [worker_side.take() for _ in range(3)] == [True, True, False]


def test_a_permit_is_taken_by_one_side_only(permits: Permits, worker_side: Permits) -> None:
    """What was taken back cannot be taken, and the other way round: together they are what was given."""
    permits.add(10)
    assert [worker_side.take() for _ in range(3)] == [True] * 3
    assert permits.take_back(4) == 4
    assert worker_side.take()
    assert permits.take_back(100) == 2
    assert not worker_side.take()
    permits.add(1)
    assert worker_side.take()


def test_permits_taken_back_are_no_more_than_asked_for(permits: Permits) -> None:
    """The rest stays."""
    permits.add(3)
    assert permits.take_back(0) == 0
    assert permits.take_back(2) == 2
    assert permits.take_back(2) == 1


def test_many_permits(permits: Permits, worker_side: Permits) -> None:
    """A window full of small elements."""
    permits.add(16384)
    assert worker_side.take()
    assert permits.take_back(20000) == 16383


def test_worker_cannot_give_permits(worker_side: Permits) -> None:
    """It has no descriptor to write to."""
    with pytest.raises((OSError, ValueError), match=r"[Bb]ad file descriptor|file descriptor cannot be a negative"):
        worker_side.add(1)


def test_permits_survive_the_worker(permits: Permits) -> None:
    """A count is in the kernel, not in a process."""
    permits.add(2)
    gone = Permits.adopt(os.dup(permits.worker_fd))
    assert gone.take()
    gone.close()
    assert permits.take_back(5) == 1


def test_permits_are_not_inherited(permits: Permits) -> None:
    """Only the worker that is given the descriptor has it."""
    assert not os.get_inheritable(permits.worker_fd)
