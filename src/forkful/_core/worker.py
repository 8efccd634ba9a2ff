"""The worker: takes frames, runs tasks in order, commits and sends results.  Everything here runs in the child.

The loop keeps three promises the master builds on:

1. A guarded element starts only after a permit was taken for it, an unguarded block after one permit for all of it.
2. ``STARTED`` names an element before its function is called, and never one whose function was not called.
3. A guarded element's result is committed to the journal before the next element starts.  In an unguarded block
   elements are committed together, as soon as `_GROUP_S` have passed since the last commit.  The clock is read after
   each element, or after `_STRIDE` where elements are taking less than `_TINY_S`.  No more work than that can be lost
   with the worker, and is then run again.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from . import codec, contexts, logs
from .channel import Frame, Permits, frame
from .handing import DescriptorInside, takes_descriptors
from .injection import with_state
from .journal import IN_INITIALIZER, MEMORY, SINCE, STARTED, THREAD, Journal, pack
from .messages import (
    BATCH,
    DROPPED,
    ERROR,
    FORGET,
    FUNCTION,
    GROUP,
    LARGE,
    LOG,
    MIXED,
    NOTE,
    NOTE_HEAD,
    OUTPUT,
    PARCELS,
    READY,
    RECALL,
    REFUSED,
    RESULTS,
    RESULTS_HEAD,
    STAR,
    STOP,
    VALUE,
    Entry,
    unpack_calls,
)

if TYPE_CHECKING:
    from .gauge import Gauge
    from .output import Output, ThreadedOutput

_GROUP_S = 25e-6  # below what opening a file costs: what has effects outside is rarely in company
_TINY_S = 0.7e-6  # the loop's own share included; what is left is less than a system call: no effects outside
_STRIDE = 64
_FLUSH_NS = 1_000_000  # results wait at most this long for company while more work is at hand

_clock = time.monotonic_ns
_loads = codec.loads
_dumps = codec.dumps
_beside, _keep = codec.beside, codec.keep


class End(Protocol):
    """Where frames come from and go to: a worker's channel, or what one of its threads has of that."""

    def receive(self) -> Frame | None:
        """The next frame, waiting for it; None when the master is gone."""

    def receive_nowait(self) -> Frame | None:
        """The next frame if it has arrived."""

    def send(self, buffers: list[bytes | memoryview]) -> None:
        """Send one frame whole."""

    def send_note(self, buffers: list[bytes | memoryview]) -> None:
        """The same from the midst of a task: see `WorkerEnd.send_note`."""

    def close(self) -> None:
        """Close what it holds."""


class Known:
    """What a worker process has been sent for all of its threads: functions, by number, and what concerns shared memory.

    *state* is for the functions that ask for it.
    """

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self._state = {} if state is None else state
        self._functions: dict[int, Callable[..., Any] | bytes] = {}
        self._loading = threading.Lock()

    def note(self, kind: int, number: int, body: memoryview) -> None:
        """A frame that holds whatever becomes of the batches around it."""
        if kind == FUNCTION:
            self._functions[number] = bytes(body)
        elif kind == FORGET:
            del self._functions[number]
        else:
            from . import dealings  # most workers never need it

            dealings.note(kind, number, body)

    def get(self, key: int) -> Callable[..., Any]:
        """The function, unpickled when it is first asked for."""
        function = self._functions[key]
        if isinstance(function, bytes):
            with self._loading:
                function = self._functions[key]
                if isinstance(function, bytes):
                    with logs.without_new_handlers():
                        loaded: Callable[..., Any] = with_state(_loads(function), self._state)
                    self._functions[key] = function = loaded
        return function


class _Unpacking:
    """A function of one item that calls another with the item unpacked."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, item: Any) -> Any:
        return self._function(*item)


class _Failure:
    """The encoded error of an element, among the results of a block."""

    __slots__ = ("blob",)

    def __init__(self, blob: bytes) -> None:
        self.blob = blob


@takes_descriptors
def _encode_alone(result: Any) -> tuple[bool, bytes]:
    """One element of a MIXED record.

    Raises:
        DescriptorInside: it has descriptors in it, and must be a record of its own.
    """
    if type(result) is _Failure:
        return False, result.blob
    try:
        return True, codec.encode_result(result)
    except DescriptorInside:
        raise
    except BaseException as error:  # user code (__reduce__) may raise anything
        return False, _encode_unpicklable(result, error)


def _encode_error(error: BaseException) -> bytes:
    """An element's error; cannot fail.  A ``KeyboardInterrupt`` in its texts is nobody's Ctrl-C: the parent owns that."""
    if isinstance(error, MemoryError):
        codec.empty_frames(error)
    try:
        return codec.encode_error(error)
    except BaseException:
        return codec.encode_unreadable_error(error)


def _encode_unpicklable(result: Any, error: BaseException) -> bytes:
    """The error of an element whose *result* raised *error* as it was pickled; cannot fail."""
    try:
        refusal = codec.unpicklable_result(result, error)
    except BaseException as worse:  # in its __repr__
        refusal = codec.unpicklable_result(type(result), worse)
    return codec.encode_error(refusal, skip_frames=0)


class Worker:
    """One worker's state between frames; or that of one of its threads, which then has a *lane* of its own.

    *measures*: tell how much of the time was spent computing.  *gauge*: tell how much memory the process holds.
    """

    def __init__(
        self,
        channel: End,
        journal: Journal,
        permits: Permits,
        known: Known | None = None,
        *,
        lane: int = 0,
        measures: bool = False,
        gauge: Gauge | None = None,
    ) -> None:
        self._channel = channel
        self._journal = journal
        self._permits = permits
        self._known = Known() if known is None else known
        self._lane = lane
        self._measures = measures
        self._gauge = gauge
        self._computed = 0  # nanoseconds that this thread had spent computing at the last flush
        self._started = 0
        self._elements = 0  # committed since the last flush
        self._work = 0  # nanoseconds of work since the last flush
        self._flushed = _clock()
        self._large = False  # a result among those in the journal is
        self._disowned = False
        self._output: Output | ThreadedOutput | None = None  # what elements write, where that is captured

    def disown(self) -> None:
        """This is a copy of the worker that a task made with ``os.fork``: it must not speak for the worker.

        It may do what it likes until its function returns.  Then it ends, at the next commit; the elements up to there
        fail before they are called, because they cannot be named.
        """
        self._disowned = True
        self._channel.close()
        self._journal.disown()

    def keep(self, output: Output | ThreadedOutput) -> None:
        """Send what elements write, as *output* has it, with their results."""
        self._output = output

    def note_log(self, content: bytes, started: int | None = None) -> None:
        """Tell the master what was logged, and which element was running.  In any thread of the worker."""
        if not self._disowned:
            try:
                self._note(LOG, content, self._journal.words[STARTED] if started is None else started)
            except OSError:  # nobody is left to tell; the worker's own thread finds that out
                pass

    def _note(self, what: int, content: bytes, started: int) -> None:
        self._channel.send_note(frame(NOTE, what, NOTE_HEAD.pack(started), content, lane=self._lane))

    def prepare(self, initializer: Callable[[], None] | None) -> bool:
        """Run the initializer and tell the master; whether the worker may go on."""
        words = self._journal.words
        try:
            if initializer is not None:
                words[STARTED] = IN_INITIALIZER
                try:
                    initializer()
                finally:
                    if self._disowned:
                        os._exit(0)
                words[STARTED] = 0
        except BaseException as error:  # SystemExit in an initializer is a failed initializer
            self._channel.send(frame(REFUSED, 0, _encode_error(error)))
            return False
        self._permits.check()
        self._channel.send(frame(READY))
        return True

    def serve(self) -> bool:
        """Run frames until STOP or the master's end; whether it was STOP."""
        channel = self._channel
        journal = self._journal
        journal.words[THREAD] = threading.get_ident()
        if self._output is not None:
            self._output.begin()
        while True:
            if journal.count:
                received = channel.receive_nowait()
            else:
                if codec.account is not None:
                    self._pay()
                received = channel.receive()
            if received is None:
                if not journal.count:
                    return False
                self._flush()  # the master may be waiting for what the journal holds
                continue
            kind, _, number, body = received
            if kind == BATCH:
                self._permits.unblock()
                entries = unpack_calls(number, body) if number else _loads(body)
                for entry in entries:
                    if not self._run(entry):
                        self._await_recall()
                        break
                    if self._large:  # now that its value has gone, and with it an argument that it was made of
                        self._flush()
                if len(entries) == 1:
                    self._flush()  # what is asked for alone is waited for
            elif kind == RECALL:
                self._answer_recall()
            elif kind == STOP:
                self._flush()
                return True
            else:
                self._known.note(kind, number, body)

    def conclude(self, finalizer: Callable[[], object]) -> None:
        """Run the finalizer.  What it raises passes: ``multiprocessing`` shows it, and nobody waits for it."""
        try:
            finalizer()
        finally:
            if self._disowned:
                os._exit(0)

    def _await_recall(self) -> None:
        """A permit was missing: the master took it back.  What came before its RECALL frame is void."""
        while True:
            received = self._channel.receive()
            if received is None:
                return
            kind, _, number, body = received
            if kind == RECALL:
                self._answer_recall()
                return
            if kind == BATCH and not number:
                _loads(body)  # and no more: so the shared memory that it names is given back
            else:
                self._known.note(kind, number, body)  # the master counts on it

    def _answer_recall(self) -> None:
        self._flush()
        self._channel.send(frame(DROPPED, lane=self._lane))

    def _run(self, entry: Entry) -> bool:
        """Run one task; False when a permit was missing."""
        if len(entry) == 2:
            return self._run_call(*entry)
        key, payload, style, first, count, guarded = entry
        if guarded:
            return self._run_guarded(key, style, payload, first, count)
        return self._run_block(key, style, payload, first, count)

    def _run_call(self, key: int, payload: Any) -> bool:
        if not self._permits.take():
            return False
        words = self._journal.words
        begun = _clock()
        self._started += 1
        words[SINCE] = begun
        words[STARTED] = self._started
        try:
            # The function first: whatever else imports what its module does then finds that done, and threads of one worker
            # do not import the same packages each from another end.
            function = self._known.get(key)
            call = _loads(payload) if type(payload) is bytes else payload.take()
            if len(call) == 1:
                value = function(*call[0])
            elif len(call) == 2:
                value = function(*call[0], **call[1])
            else:
                value = contexts.restore(call[2]).run(function, *call[0], **call[1])
        except BaseException as error:  # SystemExit and KeyboardInterrupt are the task's errors too
            self._commit_error(error, begun)
        else:
            del call
            self._commit_value(value, begun)
        return True

    def _run_guarded(self, key: int, style: int, payload: Any, first: int, count: int) -> bool:
        """Elements of a lazy map: each with its own permit, each committed alone."""
        words = self._journal.words
        take = self._permits.take
        function: Callable[..., Any] | None = None
        items: list[Any] = []
        for position in range(first, first + count):
            if not take():
                return False
            begun = _clock()
            self._started += 1
            words[SINCE] = begun
            words[STARTED] = self._started
            try:
                if function is None:
                    known = self._known.get(key)
                    items = list(_loads(payload) if type(payload) is bytes else payload.take())
                    function = known
                item, items[position] = items[position], None  # nothing keeps an argument after its element
                value = function(*item) if style == STAR else function(item)
            except BaseException as error:  # SystemExit and KeyboardInterrupt are the task's errors too
                item = None
                self._commit_error(error, begun)
            else:
                item = None
                self._commit_value(value, begun)
                del value
                if self._large:
                    self._flush()
        return True

    def _run_block(self, key: int, style: int, payload: Any, first: int, count: int) -> bool:
        """Elements of a map: one permit, committed in groups; the loop that must cost next to nothing."""
        if not self._permits.take():
            return False
        words = self._journal.words
        begun = _clock()
        words[SINCE] = begun
        started = self._started
        words[STARTED] = started + 1
        try:
            function = self._known.get(key)
            items = _loads(payload) if type(payload) is bytes else payload.take()
            if first or count != len(items):
                items = items[first : first + count]
        except BaseException as error:  # neither function nor items can be read: every element's error
            self._started += count
            words[STARTED] = self._started
            self._commit_group([_Failure(_encode_error(error))] * count, failed=True, begun=begun)
            return True
        if style == STAR:
            function = _Unpacking(function)
        results: list[Any] = []
        failed = False
        append = results.append
        pending = iter(items)
        left = count
        stride = 1
        seconds = time.monotonic  # cheaper than the clock in nanoseconds, and this loop is where that shows
        before = seconds()
        due = before + _GROUP_S
        while left:
            held = len(results)
            try:
                if stride == 1:
                    words[STARTED] = started + 1
                    append(function(next(pending)))
                else:
                    for words[STARTED], item in zip(range(started + 1, started + 1 + stride), pending, strict=False):
                        append(function(item))
            except BaseException as error:  # SystemExit and KeyboardInterrupt are the task's errors too
                failed = True
                append(_Failure(_encode_error(error)))
            ran = len(results) - held
            started += ran
            left -= ran
            after = seconds()
            stride = _STRIDE if after - before < ran * _TINY_S else 1
            before = after
            if after > due or not left:
                self._started = started
                self._commit_group(results, failed=failed, begun=begun)
                results.clear()
                if self._large and left:
                    self._flush()
                failed = False
                words[SINCE] = begun = _clock()
                before = seconds()
                due = before + _GROUP_S
        return True

    # Commits.

    @takes_descriptors
    def _commit_value(self, value: Any, begun: int) -> None:
        try:
            blob = codec.encode_result(value, _keep)
        except DescriptorInside:
            self._commit_handed(value, begun)
            return
        except BaseException as error:  # user code (__reduce__) may raise anything
            self._commit(1, ERROR, _encode_unpicklable(value, error), begun)
            return
        kind = VALUE
        if _beside or len(blob) > codec.LARGE_BYTES:
            kind, blob = self._store(VALUE, blob)
        self._commit(1, kind, blob, begun)

    def _commit_handed(self, value: Any, begun: int) -> None:
        """A value with descriptors in it."""
        if self._disowned:
            os._exit(0)
        from . import dealings  # most workers never need it

        try:
            kind, blob = dealings.store_handed(value)
        except BaseException as error:  # user code (__reduce__) may raise anything
            self._commit(1, ERROR, _encode_unpicklable(value, error), begun)
            return
        self._large = True
        self._commit(1, kind, blob, begun)

    def _commit_error(self, error: BaseException, begun: int) -> None:
        self._commit(1, ERROR, _encode_error(error), begun)

    def _commit_each(self, results: list[Any], begun: int) -> None:
        """A group with descriptors in it."""
        for result in results:
            if type(result) is _Failure:
                self._commit(1, ERROR, result.blob, begun)
            else:
                self._commit_value(result, begun)
                if self._large:
                    self._flush()
            begun = _clock()

    @takes_descriptors
    def _commit_group(self, results: list[Any], *, failed: bool, begun: int) -> None:
        kind, blob = GROUP, b""
        if not failed:
            try:
                blob = _dumps(results, codec.PROTOCOL, buffer_callback=_keep)
            except DescriptorInside:
                codec.take_beside()
                self._commit_each(results, begun)
                return
            except BaseException:  # one of them raises anything, or plain pickle cannot: each on its own, below
                failed = True
                codec.take_beside()
        if failed:
            try:
                kind, blob = MIXED, _dumps([_encode_alone(result) for result in results], codec.PROTOCOL)
            except DescriptorInside:
                self._commit_each(results, begun)
                return
        if _beside or len(blob) > codec.LARGE_BYTES:
            kind, blob = self._store(kind, blob)
        self._commit(len(results), kind, blob, begun)

    def _store(self, kind: int, blob: bytes) -> tuple[int, bytes]:
        if self._disowned:
            os._exit(0)
        from . import dealings  # most workers never need it

        kind, blob = dealings.store(kind, blob)
        self._large = self._large or kind >= LARGE
        return kind, blob

    def _commit(self, count: int, kind: int, blob: bytes, begun: int) -> None:
        if self._disowned:
            os._exit(0)
        if self._output is not None:
            written = self._output.take()
            if written:
                self._note(OUTPUT, written, self._started)  # before the result, so that it is there first
        now = _clock()
        self._work += now - begun
        self._elements += count
        journal = self._journal
        if not journal.commit(count, kind, blob):
            self._flush()
            self._large = kind >= LARGE
            if not journal.commit(count, kind, blob):
                self._send_alone(count, kind, blob)
                return
        if now - self._flushed > _FLUSH_NS and not self._large:
            self._flush()

    def _flush(self) -> None:
        """Send what the journal holds, then forget it: in this order, so that death in between loses nothing."""
        journal = self._journal
        if self._disowned or not journal.count:
            return
        body = (
            self._head(),
            journal.index[: journal.count].cast("B"),
            journal.data[: journal.used],
        )
        kind = PARCELS if self._large else RESULTS
        self._large = False
        before = codec.account.pay() if codec.account is not None else []
        self._channel.send(before + frame(kind, journal.count, *body, lane=self._lane))
        journal.reset(journal.count)
        self._elements = self._work = 0
        self._flushed = _clock()

    def _pay(self) -> None:
        """Tell the master what we need no longer of its shared memory, and what there is no longer of ours."""
        account = codec.account
        if account is not None and account.owed and not self._disowned:
            frames = account.pay()
            if frames:
                self._channel.send(frames)

    def _head(self) -> bytes:
        if self._gauge is not None:
            self._journal.words[MEMORY] = self._gauge.read(_clock())
        computed = 0
        if self._measures:
            before, self._computed = self._computed, time.thread_time_ns()
            computed = max(1, self._computed - before)
        return RESULTS_HEAD.pack(self._journal.serial, self._work, computed, self._elements)

    def _send_alone(self, count: int, kind: int, blob: bytes) -> None:
        """A result too large for the journal: it is complete when the master has all of it."""
        journal = self._journal
        entry = pack(count, kind, len(blob)).to_bytes(8, sys.byteorder)
        kind = PARCELS if self._large else RESULTS
        self._large = False
        self._channel.send(frame(kind, 1, self._head(), entry, blob, lane=self._lane))
        journal.reset(1)
        self._elements = self._work = 0
        self._flushed = _clock()
