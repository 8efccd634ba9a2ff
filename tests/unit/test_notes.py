"""What workers tell beside their results: which element it was, what comes before what, and how it crosses."""

from __future__ import annotations

import logging
import pickle
import signal
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from forkful._core import channel, logbook, logs
from forkful._core.channel import MasterEnd, WorkerEnd, frame, open_channel
from forkful._core.master import Master
from forkful._core.messages import GROUP, HEADER, LOG, NOTE, VALUE
from forkful._core.steps import Deliver, Finished, Noted, Submitted, Tell, Terminate
from forkful.errors import PoolTerminated

from .bench import Bench, block, call

# Which element.


def note(started: int, content: bytes = b"") -> Noted:
    """The worker at seat 0 has started so many, and logs."""
    return Noted(0, started, LOG, content, 1000)


def told(bench: Bench, *events: Any) -> list[str]:
    """What elements the notes among *events* are of, in words."""
    items = [item for order in bench(*events) if isinstance(order, Tell) for item in order.items]
    return ["" if task is None else task.describe(index) for task, (index, _), *_ in items]


def test_the_element_that_was_running() -> None:
    """Counted from the first without a result, through all that was sent."""
    bench = Bench()
    bench.learn(1)
    bench.run(call("one"), block(2, base=10), block(3, base=100, guarded=False))
    assert told(bench, *map(note, range(1, 7))) == [
        "task one",
        "task f[10]",
        "task f[11]",
        *(f"task f[{n}]" for n in (100, 101, 102)),
    ]
    bench.finish(0, 1, 1)
    assert told(bench, note(3), note(6)) == ["task f[11]", "task f[102]"]
    bench.finish(0, 1)
    assert bench(Finished(0, [(2, GROUP, b"")], 0, 0), note(6))
    assert told(bench, note(6)) == ["task f[102]"]


def test_no_element() -> None:
    """In the initializer, between two tasks, of one whose result has come, and after the end of the pool."""
    bench = Bench()
    bench.submit(call())
    assert told(bench, note(-1)) == [""]
    bench.man(0)
    assert told(bench, note(0), note(2)) == ["", ""]
    bench.finish(0)
    assert told(bench, note(1)) == [""]
    bench.run(call())
    assert told(bench, Terminate(PoolTerminated("over")), note(2)) == [""]


def test_notes_come_before_results() -> None:
    """Of one batch of events: an element that has logged has ended after that."""
    bench = Bench()
    bench.run(call())
    orders = bench.state.handle([Finished(0, [(1, VALUE, b"")], 0, 0), note(1), Submitted([])], 0)
    assert [type(order) for order in orders] == [Tell, Deliver]


# How it crosses.


@pytest.fixture
def ends() -> Iterator[tuple[MasterEnd, WorkerEnd]]:
    """Both ends of a channel."""
    master, down, up = open_channel()
    worker = WorkerEnd(down, up)
    yield master, worker
    worker.close()
    master.close()


def test_frames_of_many_threads(ends: tuple[MasterEnd, WorkerEnd]) -> None:
    """Each is whole."""
    master, worker = ends
    body = bytes(20_000)  # more than is written in one piece
    threads = [threading.Thread(target=worker.send, args=(frame(NOTE, number, body, body),)) for number in range(8)]
    for thread in threads:
        thread.start()
    received: list[Any] = []
    while len(received) < 8:
        received += master.receive()
    for thread in threads:
        thread.join()
    assert sorted(number for _, _, number, _ in received) == list(range(8))
    assert all(kind == NOTE and bytes(body) == bytes(40_000) for kind, _, _, body in received)


def test_a_frame_sent_in_the_midst_of_another(
    ends: tuple[MasterEnd, WorkerEnd], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a signal handler: it follows."""
    master, worker = ends
    monkeypatch.setattr(worker, "_send", _interrupted(worker, worker._send))
    worker.send(frame(NOTE, 1, b"outer"))
    assert [(number, bytes(body)) for _, _, number, body in master.receive()] == [(1, b"outer"), (2, b"inner")]


def _interrupted(worker: WorkerEnd, send: Any) -> Any:
    """*send*, with a signal in the middle of it."""

    def handler(signum: int, interrupted: Any) -> None:
        worker.send(frame(NOTE, 2, b"inner"))

    def with_signal(buffers: Any) -> None:
        before = signal.signal(signal.SIGUSR1, handler)
        try:
            signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, before)
        send(buffers)

    def once(buffers: Any) -> None:
        monkeyed, worker._send = with_signal, send  # type: ignore[method-assign]  # what comes after is not interrupted
        monkeyed(buffers)

    return once


def test_a_flood_is_read_in_portions(ends: tuple[MasterEnd, WorkerEnd], monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a worker which never stops does not have the master for itself."""
    master, worker = ends
    monkeypatch.setattr(channel, "_READ_SIZE", HEADER.size + 8)
    monkeypatch.setattr(channel, "_READS_MOST", 5)
    for number in range(12):
        worker.send(frame(NOTE, number, bytes(8)))
    assert [len(master.receive()), len(master.receive()), len(master.receive(drain=False))] == [5, 5, 2]


# Records.


def make_record(message: Any = "text", *args: Any, **extra: Any) -> logging.LogRecord:
    """A record as a worker makes it."""
    return logging.getLogger("notes").makeRecord("notes", 30, "path.py", 7, message, args, None, "function", extra)


class Keeper(logging.Handler):
    """Keeps records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    """A handler of the logger ``notes``."""
    handler = Keeper()
    logger = logging.getLogger("notes")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def test_a_record_there_and_back(keeper: Keeper) -> None:
    """With what the parent adds."""
    content = logs.pack(make_record("%s", (1, [2.5, {"k": None}]), own="x"), (), logging, basic=False)
    logbook.handle(memoryview(content), "task f", 7)
    (record,) = keeper.records
    assert (record.getMessage(), record.own, record.task, record.worker) == (
        "(1, [2.5, {'k': None}])",
        "x",
        "task f",
        7,
    )
    assert (record.pathname, record.lineno, record.funcName) == ("path.py", 7, "function")


def test_nothing_of_the_user_s_is_needed_to_read_a_record(keeper: Keeper) -> None:
    """Deep or odd arguments are in the text by then; an attribute that cannot be read is left out."""

    class Local:
        pass

    deep = [[[[[1]]]]]
    for value in (deep, Local, 10**50, True):
        fields, extras, *_ = pickle.loads(logs.pack(make_record("%s", value, local=Local()), (), logging, basic=False))
        assert extras == {}
        assert fields["args"] == (None if value in (deep, Local) else (value,))
        assert fields["msg"] == ("%s" if fields["args"] else str(value))
    content = pickle.dumps(({"name": "notes", "levelno": 30, "msg": "m", "args": None}, {"bad": b"?"}, (), False))
    logbook.handle(content, "", None)
    assert not hasattr(keeper.records[0], "bad")


def test_where_the_worker_has_written_itself(keeper: Keeper, tmp_path: Any) -> None:
    """There the parent does not write; filters have their say."""
    handler = logging.FileHandler(tmp_path / "log")
    place = logs.place_of(handler)
    assert place is not None
    assert logs.place_of(keeper) is None
    logger = logging.getLogger("notes")
    logger.addHandler(handler)
    try:
        for places in ((place,), ()):
            logbook.handle(logs.pack(make_record(), places, logging, basic=False), "", 7)
        refuse = logger.filters.append  # any callable that is true of nothing
        refuse(lambda record: False)
        logbook.handle(logs.pack(make_record(), (place,), logging, basic=False), "", 7)
        logger.filters.clear()
        logger.disabled = True
        logbook.handle(logs.pack(make_record(), (place,), logging, basic=False), "", 7)
    finally:
        logger.disabled = False
        logger.removeHandler(handler)
        handler.close()
    assert (tmp_path / "log").read_text(encoding="utf-8") == "text\n"
    assert len(keeper.records) == 2


def test_settings() -> None:
    """Of loggers that have a level of their own."""
    logger = logging.getLogger("notes.of.their.own")
    logger.setLevel(17)
    try:
        settings = logbook.settings()
        assert settings is not None
        assert settings["levels"]["notes.of.their.own"] == 17
        assert settings["levels"][""] == logging.root.level
        assert "notes" not in settings["levels"]
        assert (settings["disabled"], settings["warnings"]) == (0, False)
    finally:
        logger.setLevel(logging.NOTSET)


def test_settings_without_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are none, nor while another thread is importing it."""
    monkeypatch.delitem(logbook.sys.modules, "logging")  # type: ignore[attr-defined]  # its own view of them
    assert logbook.settings() is None


class _Interrupted(Keeper):
    def emit(self, record: logging.LogRecord) -> NoReturn:
        raise KeyboardInterrupt


def test_an_interrupt_in_a_handler(keeper: Keeper) -> None:
    """It is the user's Ctrl-C: passed on; the pool goes on, and the record is not handled again."""
    del keeper
    handler = _Interrupted()
    logger = logging.getLogger("notes")
    logger.addHandler(handler)
    nudges: list[int] = []
    master: Any = Master.__new__(Master)
    master.__dict__.update(_telling=None, gave_up=False, _undelivered=deque(), nudge=lambda: nudges.append(1))
    content = logs.pack(make_record(), (), logging, basic=False)
    master._undelivered.extend([(None, (0, 0), LOG, content, 7), (None, (0, 0), LOG, content, 7)])
    try:
        with pytest.raises(KeyboardInterrupt):
            master._deliver_all(1)
    finally:
        logger.removeHandler(handler)
    assert len(master._undelivered) == 1
    assert nudges == [1]  # somebody is to look at that
    assert not master.gave_up
    assert master._telling is None


def test_what_follows_a_note_waits_for_it() -> None:
    """Another thread that would deliver leaves it to the one that is handing over a note, up to a crowd."""
    master: Any = Master.__new__(Master)
    items = deque([(None, (0, 0), LOG, b"", 7)])
    master.__dict__.update(_telling=5, gave_up=False, _undelivered=items)
    master._deliver_all(6)
    assert len(items) == 1
