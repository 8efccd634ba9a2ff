"""The worker's loop, in this process: frames in, records out."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest

from forkful._core import codec
from forkful._core.channel import MasterEnd, Permits, WorkerEnd, frame, open_channel
from forkful._core.journal import STARTED, create_memory, open_journals, split
from forkful._core.messages import (
    BATCH,
    CALL,
    EACH,
    ERROR,
    FUNCTION,
    GROUP,
    MIXED,
    RESULTS,
    RESULTS_HEAD,
    STOP,
    VALUE,
    pack_calls,
    unpack_calls,
)
from forkful._core.worker import Worker
from forkful.errors import RemoteError, UnpicklableError


class Desk:
    """A worker and its master's ends of what they share."""

    def __init__(self) -> None:
        self.channel: MasterEnd
        self.channel, down, up = open_channel()
        self.worker_end = WorkerEnd(down, up)
        self.permits = Permits.create()
        memory = create_memory()
        (self.journal,) = open_journals(memory)
        (self._theirs,) = open_journals(memory)
        os.close(memory)
        self.worker = Worker(self.worker_end, self._theirs, self.permits)

    def run(self, function: Callable[..., Any], items: list[Any], style: int = EACH, *, guarded: bool = False) -> None:
        """Have the worker call *function* with *items*: each (a block, or one by one), or all together."""
        self.permits.add(len(items))
        count = 1 if style == CALL else len(items)
        payload = pickle.dumps((items, {}) if style == CALL else items)
        self.channel.send(frame(FUNCTION, 1, pickle.dumps(function)))
        entry = (1, payload) if style == CALL else (1, payload, style, 0, count, guarded)
        self.channel.send(frame(BATCH, 0, pickle.dumps([entry])))
        self.channel.send(frame(STOP))
        self.worker.serve()

    def ends(self) -> list[Any]:
        """How each element ended: its value, or its error."""
        ends: list[Any] = []
        for kind, _, number, body in self.channel.receive():
            assert kind == RESULTS
            index_end = RESULTS_HEAD.size + number * 8
            for count, what, blob in split(body[RESULTS_HEAD.size : index_end].cast("Q"), body[index_end:]):
                before = len(ends)
                if what == GROUP:
                    ends += pickle.loads(blob)
                elif what == MIXED:
                    ends += [self._end(VALUE if ok else ERROR, part) for ok, part in pickle.loads(blob)]
                else:
                    ends.append(self._end(what, blob))
                assert len(ends) - before == count
        return ends

    @staticmethod
    def _end(kind: int, blob: Any) -> Any:
        return pickle.loads(blob) if kind == VALUE else codec.decode_error(blob, "task f", 7)

    def close(self) -> None:
        """Close everything."""
        self.worker_end.close()
        self.channel.close()
        self.permits.close()
        self.journal.close()
        self._theirs.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    """One for each test."""
    desk = Desk()
    yield desk
    desk.close()


STYLES = pytest.mark.parametrize("how", ["block", "guarded", "call"])


def run_as(how: str, desk: Desk, function: Callable[..., Any], items: list[Any]) -> list[Any]:
    """What the elements end with, sent in that way."""
    if how == "call":
        for item in items:
            desk.run(function, [item], CALL)
    else:
        desk.run(function, items, guarded=how == "guarded")
    assert desk.journal.words[STARTED] == len(items)
    return desk.ends()


class Broken:
    """Raises an error of this kind as it is pickled; as it is shown, something worse."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __reduce__(self) -> NoReturn:
        raise self.kind

    def __repr__(self) -> str:
        if self.kind is KeyboardInterrupt:
            raise KeyboardInterrupt
        return "<broken>"


class BrokenError(Exception):
    """Cannot be pickled, nor read."""

    def __reduce__(self) -> NoReturn:
        raise SystemExit

    def __str__(self) -> str:
        raise KeyboardInterrupt


KINDS: dict[int, type[BaseException]] = {1: SystemExit, 2: GeneratorExit, 3: KeyboardInterrupt, 4: LookupError}


def break_some(number: int) -> Any:
    """Some results that cannot be pickled."""
    return Broken(KINDS[number]) if number in KINDS else number


@STYLES
def test_results_that_cannot_be_pickled(how: str, desk: Desk) -> None:
    """Whatever they raise: the error of that element; its neighbours have their values, and the worker works on."""
    ends = run_as(how, desk, break_some, list(range(8)))
    assert [end for end in ends if isinstance(end, int)] == [0, 5, 6, 7]
    for number, kind in KINDS.items():
        assert isinstance(ends[number], UnpicklableError)
        assert kind.__name__ in ends[number].exc


def raise_broken(number: int) -> int:
    """An error that cannot be pickled, nor read, in the middle."""
    if number == 1:
        raise BrokenError
    return number


@STYLES
def test_errors_that_cannot_be_read(how: str, desk: Desk) -> None:
    """What is left is the name of the class."""
    ends = run_as(how, desk, raise_broken, [0, 1, 2])
    assert ends[::2] == [0, 2]
    assert isinstance(ends[1], RemoteError)
    assert ends[1].type_name == f"{__name__}.BrokenError"


def test_initializer_that_closes_the_permits(desk: Desk) -> None:
    """It is found out before the worker calls itself ready: a worker that can start nothing would be replaced for ever."""
    fd = desk.permits.worker_fd
    kept = os.dup(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        desk.worker.prepare(lambda: os.close(fd))
    os.dup2(kept, fd)
    os.close(kept)
    assert desk.channel.receive() == []


def test_calls_of_one_function() -> None:
    """They cross without a pickle around them, whatever their arguments are long."""
    payloads = [b"", b"x", b"y" * 70_000]
    assert unpack_calls(7, memoryview(pack_calls(payloads))) == [(7, payload) for payload in payloads]
