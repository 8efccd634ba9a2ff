"""The master: the one loop that moves bytes, and the rule by which threads take turns in running it.

Who owns what
-------------

========================  ====================================================================================
parent end of channel i   the master; written and read under ``_lock`` only
child end of channel i    worker i alone, closed in the parent and in every sibling
journal of worker i       written by worker i, read by the master
pids, exit codes          the supervisor's `Post`
the books (`State`)       whoever holds ``_lock``; never held while user code runs
the wheel                 at most one thread, in ``poll()``; see below
result slots              written once by the thread that delivers, read by whoever waits
========================  ====================================================================================

The wheel
---------

One thread at a time waits in ``poll()`` for all workers: it has *the wheel*.  A caller in ``get()`` takes it if it is
free, else sleeps until its own slot is ready or the wheel is handed to it.  A thread that leaves hands the wheel to a
sleeper.  Where there is none and work is under way, it leaves the background thread *on watch*: that takes the wheel
when nobody else has for `_WATCH_NS`, and gives it up as soon as a caller wants it.  So a program that waits, or submits
in a burst, runs the loop in its own thread, with no thread switch between a result and its reader.

A turn: wait; under ``_lock`` read channels, let the state decide, execute; then, without ``_lock``, feed maps and
deliver results (unpickling is user code).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from ..errors import InitializerError, PoolTerminated
from . import codec
from .channel import frame
from .journal import split
from .messages import (
    BATCH,
    DROPPED,
    FORGET,
    FUNCTION,
    READY,
    RECALL,
    REFUSED,
    RESULTS,
    RESULTS_HEAD,
    STOP,
)
from .schedule import GATHER_NS
from .spawn import hold
from .state import (
    Cancel,
    Close,
    Deliver,
    Dropped,
    Event,
    Exited,
    Fail,
    Finished,
    Instruction,
    Kill,
    Limits,
    Look,
    Ready,
    Recall,
    Refused,
    Resize,
    Seen,
    Send,
    Start,
    State,
    Stop,
    Submitted,
    Taken,
    Task,
    Terminate,
    Tick,
)
from .supervisor import Post, Supervisor

log = logging.getLogger("forkful")
_clock = time.monotonic_ns
_FUNCTIONS_KEPT = 256
_WATCH_NS = 2_000_000
_EXITS_KEPT = 256


class Slot:
    """Something a thread can wait for: ``settled`` becomes true once and stays so."""

    __slots__ = ("settled", "waiters")

    def __init__(self) -> None:
        self.settled = False
        self.waiters: list[Waiter] | None = None


class Waiter:
    """One thread waiting: asleep on ``lock``, or at the wheel."""

    __slots__ = ("driving", "lock")

    def __init__(self) -> None:
        self.driving = False
        self.lock = threading.Lock()
        self.lock.acquire()


_NEVER = Slot()


class Source(Protocol):
    """A map that makes its tasks as there is room for them."""

    function: int

    def take(self, room: int) -> list[Task]:
        """Up to *room* elements as tasks; empty when there is nothing now.  Never called by two threads at once."""

    def exhausted(self) -> bool:
        """Whether it will never give a task again."""

    def abort(self, error: BaseException) -> None:
        """Give up: every element not yet taken ends with *error*."""


class Pending(Protocol):
    """What a caller waits for, whichever tasks it takes."""

    def abort(self, error: BaseException) -> None:
        """End it with *error*, unless it has ended."""


class Functions:
    """The functions in use, pickled once each: key to bytes."""

    def __init__(self) -> None:
        # By the function itself, where it is pickled by reference; else by its bytes.
        self._known: dict[Any, tuple[int, str]] = {}
        self._blobs: dict[int, bytes] = {}
        self._numbers = itertools.count(1)

    def register(self, function: Any) -> tuple[int, str]:
        """The key of *function* and its name for messages; a new one is pickled.

        Raises:
            whatever pickling *function* raises.
        """
        try:
            return self._known[function]
        except (KeyError, TypeError):
            pass
        blob = codec.encode(function)
        token = function if codec.is_by_reference(function) else blob
        if token not in self._known:
            key = next(self._numbers)
            self._blobs[key] = blob  # before the key can be found by another thread
            self._known.setdefault(token, (key, codec.describe(function)))
        return self._known[token]

    def blob(self, key: int) -> bytes:
        """The pickled function."""
        return self._blobs[key]

    def evict(self, in_use: Callable[[], set[int]]) -> list[int]:
        """When there are many, drop the older half of those not *in_use*; their keys."""
        gone: list[int] = []
        if len(self._blobs) > _FUNCTIONS_KEPT:
            used = in_use()
            gone = [key for key in list(self._blobs)[: _FUNCTIONS_KEPT // 2] if key not in used]
            for key in gone:
                del self._blobs[key]
            self._known = {token: known for token, known in self._known.items() if known[0] in self._blobs}
        return gone


class Master:
    """One pool's loop.  Thread-safe; belongs to the process that made it."""

    def __init__(self, limits: Limits, supervisor: Supervisor) -> None:
        self._state = State(limits)
        self._supervisor = supervisor
        self._posts: dict[int, Post] = {}
        self._exitcodes: dict[int, int | None] = {}  # of the newest workers that have ended
        self.functions = Functions()
        self._lock = threading.Lock()
        self._inbox: deque[Task] = deque()
        self._sources: list[Source] = []
        self._feeding = threading.Lock()
        self._gathering = False  # somebody at the wheel knows that the inbox is to be looked at soon
        self._flushed_at = 0
        self._closing = False
        self.pending: set[Pending] = set()  # what callers wait for; a result leaves it when it is settled
        self.gone = Slot()  # closed or terminated, and every worker has ended

        self._gate = threading.Lock()
        self._driver: Waiter | None = None
        self._sleepers: deque[Waiter] = deque()
        self._background: threading.Thread | None = None
        self._background_waiter: Waiter | None = None
        self._watching = False  # the background thread will look in at `_left_at` + `_WATCH_NS`
        self._left_at = 0
        self._background_busy = False  # it is in a turn: who wants the wheel must wait for the end of it
        self._abandoned = False

        self._polling = False  # some thread is in, or just before, poll()
        self._polled_until: int | None = None  # and leaves it then
        self._unseen = False  # what poll() is to watch has changed

        self._poll = select.poll()
        self._watched: dict[int, tuple[int, bool]] = {}  # descriptor -> (seat, whether it is the channel)
        self._wake_lock = threading.Lock()
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_r, False)
        os.set_blocking(self._wake_w, False)
        self._poll.register(self._wake_r, select.POLLIN)
        self._writing: set[int] = set()  # channels with unsent bytes
        self.foreign = False  # this is a copy in a forked child, which owns none of it
        hold(self)

    def disown(self) -> None:
        """Called in a child that was forked by user code: the pool is the parent's."""
        self.foreign = True
        self._closing = True
        self.gone.settled = True
        if self._wake_w >= 0:  # without the lock: another thread of the parent may have held it at the fork
            os.close(self._wake_r)
            os.close(self._wake_w)
            self._wake_r = self._wake_w = -1

    # Giving work.

    def submit(self, task: Task) -> None:
        """Run *task*; in a burst, tasks are sent together, `schedule.GATHER_NS` apart."""
        self._inbox.append(task)
        if _clock() - self._flushed_at >= GATHER_NS:
            self._turn_once()
        elif not self._gathering:
            self._gathering = True
            self._ensure_driver()
            if self._polling:
                self._wake()

    def submit_quietly(self, task: Task) -> None:
        """Like `submit`, for a caller that will wait at once and so drive itself."""
        self._inbox.append(task)
        self._handle([])

    def add_source(self, source: Source) -> None:
        """Run what *source* gives."""
        with self._gate:
            self._sources.append(source)
        self.feed()
        self._ensure_driver()

    def feed(self) -> None:
        """Take tasks from sources as long as there is room and they have any."""
        while self._sources and self._feeding.acquire(blocking=False):
            try:
                fed = False
                for source in list(self._sources):
                    room = self._state.room(source.function)
                    tasks = source.take(room) if room > 0 else []
                    if source.exhausted():
                        with self._gate:
                            if source in self._sources:
                                self._sources.remove(source)
                    if tasks:
                        fed = True
                        self._handle([Submitted(tasks)])
            finally:
                self._feeding.release()
            if not fed:
                break
        if self._closing and not self._sources and not self._state.closed:
            self._handle([Close()])

    def nudge(self) -> None:
        """A source has something new: have whoever drives look at it."""
        self._ensure_driver()
        if self._polling:
            self._wake()

    def block_of(self, function: int, most: int) -> int:
        """How many elements of *function* make a task, at most *most*."""
        return self._state.pace.block(function, most)

    def tasks_of(self, sink: object) -> list[Task]:
        """The tasks that are not done and report to *sink*."""
        with self._lock:
            state = self._state
            queues = [state.backlog, self._inbox, *(seat.sent for seat in state.seats.values())]
            return [task for queue in queues for task in queue if task.sink is sink]

    def cancel(self, tasks: list[Task], *, kill: bool) -> None:
        """Give up on *tasks*; see `state.Cancel`."""
        self._handle([Cancel(tasks, kill)])
        self._ensure_driver()

    def start_workers(self, count: int) -> None:
        """Start workers until there are *count*."""
        self._handle([Resize(count)])
        self._ensure_driver()

    def close(self) -> None:
        """Take no more work; workers leave when what there is is done."""
        self._closing = True
        self.feed()
        self._ensure_driver()
        self._wake()

    def terminate(self, error: PoolTerminated) -> None:
        """End everything pending with *error*, and every worker."""
        self._closing = True
        with self._gate:
            self._sources.clear()
        self._handle([Terminate(error)])
        for pending in list(self.pending):
            pending.abort(error)
        self._ensure_driver()
        self._wake()

    def abandon(self, error: PoolTerminated) -> None:
        """Nobody holds the pool any more.  May be called by the garbage collector at any point of the own thread."""
        if self._background is threading.current_thread():
            self._abandoned = True  # it may hold the lock right now; it looks at this after its turn
            self._wake()
        else:
            self.terminate(error)
            self.wait(self.gone)
            self.dispose()

    # Asking.

    def members(self) -> list[tuple[int, int | None]]:
        """The worker processes there are: (seat, pid)."""
        with self._lock:
            return [(seat, post.child.pid) for seat, post in self._posts.items() if post.child is not None]

    def exit_of(self, seat: int) -> tuple[bool, int | None]:
        """Whether the worker at *seat* has ended, and its exit code if that is (still) known."""
        with self._lock:
            post = self._posts.get(seat)
            if post is None or post.child is None:
                return True, self._exitcodes.get(seat)
            return post.child.collect(), post.child.exitcode

    def stats(self) -> dict[str, int]:
        """Counters since the start, and how many workers and tasks there are now."""
        with self._lock:
            state = self._state
            now = {
                "workers": len(state.seats),
                "busy": sum(1 for seat in state.seats.values() if seat.load),
                "queued": len(state.backlog) + len(self._inbox),
                "running": sum(seat.load for seat in state.seats.values()),
            }
            return state.stats | now

    # The books.

    def _handle(self, events: list[Event]) -> None:
        """Digest *events* and whatever the inbox holds, execute, then deliver."""
        deliveries: list[Deliver | Fail] = []
        try:
            with self._lock:
                self._handle_locked(events, deliveries)
                self._close_up()
            if self._polling and (self._unseen or self._state.deadline() != self._polled_until):
                self._wake()
            self._deliver(deliveries)
        except BaseException as error:
            self._give_up(error)
            raise

    def _handle_locked(self, events: list[Event], deliveries: list[Deliver | Fail]) -> None:
        while True:
            inbox = self._inbox
            if inbox:
                tasks = [inbox.popleft() for _ in range(len(inbox))]
                events.append(Submitted(tasks))
            self._flushed_at = now = _clock()
            self._gathering = False
            instructions = self._state.handle(events, now)
            events = []
            for instruction in instructions:
                if isinstance(instruction, Deliver | Fail):
                    deliveries.append(instruction)
                else:
                    self._execute(instruction, events)
            if not events:
                return

    def _close_up(self) -> None:
        """Under ``_lock``: if that was the last worker of a closed pool, say so."""
        if self._closing and not self.gone.settled and not self._posts and self._state.closed and not self._state.busy():
            self._supervisor.close()
            self.settle(self.gone)
            self._wake()

    def _give_up(self, error: BaseException) -> None:
        """Ctrl-C, or exhausted memory, in the middle of the books: they can no longer be trusted.

        Everything pending ends with an error, rather than that something is lost or repeated in silence.
        """
        self._closing = self._state.closed = True
        self._sources.clear()
        for post in list(self._posts.values()):
            self._supervisor.kill(post, gently=False)
        reason = PoolTerminated(f"the pool was interrupted in its bookkeeping ({error!r}) and gave up all work; open a new one")
        for pending in list(self.pending):
            pending.abort(reason)
        with contextlib.suppress(Exception):  # the state may be torn; then the line above was all that can be done
            with self._lock:
                self._handle_locked([Terminate(reason)], [])

    def _deliver(self, deliveries: list[Deliver | Fail]) -> None:
        for batch in deliveries:
            if isinstance(batch, Deliver):
                for task, index, count, kind, blob, pid in batch.items:
                    task.sink.deliver(task, index, count, kind, blob, pid)
            else:
                for task, index, count, error in batch.items:
                    task.sink.fail(task, index, count, error)

    # Instructions.

    def _execute(self, instruction: Instruction, events: list[Event]) -> None:
        """Carry out one instruction; what comes of it is added to *events*."""
        if isinstance(instruction, Start):
            self._start(instruction.seat, events)
            return
        post = self._posts.get(instruction.seat)  # type: ignore[union-attr]  # Deliver and Fail never get here
        if post is None:
            return  # its end is among the events to come
        if isinstance(instruction, Send):
            self._send(post, instruction)
        elif isinstance(instruction, Look):
            self._look(instruction.seat, post, events)
        elif isinstance(instruction, Recall):
            taken = post.permits.take_back(instruction.most)
            if taken:
                post.channel.send(frame(RECALL))
            events.append(Taken(instruction.seat, taken))
        elif isinstance(instruction, Stop):
            post.channel.send(frame(STOP))
        elif isinstance(instruction, Kill):
            self._supervisor.kill(post, gently=instruction.gently)
        self._watch_writing(instruction.seat, post)

    def _start(self, seat: int, events: list[Event]) -> None:
        try:
            post = self._supervisor.start()
        except Exception as error:  # no process to be had: the reason goes to whoever waits
            failed = InitializerError(f"no worker could be started: {type(error).__name__}: {error}")
            failed.__cause__ = error
            events.append(Refused(seat, failed))
            events.append(Exited(seat, None, 0, None))
            return
        self._posts[seat] = post
        self._watch(post.channel.fileno(), seat, channel=True)
        assert post.child is not None
        if post.child.fileno() >= 0:
            self._watch(post.child.fileno(), seat, channel=False)
        self._watch_writing(seat, post)

    def _send(self, post: Post, send: Send) -> None:
        buffers: list[bytes | memoryview] = []
        for key in send.functions:
            buffers += frame(FUNCTION, key, self.functions.blob(key))
        entries = [(t.function, t.style, t.payload, t.first, t.count, t.guarded) for t in send.tasks]
        buffers += frame(BATCH, 0, codec.dumps(entries, codec.PROTOCOL))
        for key in self.functions.evict(self._functions_in_use):
            self._state.pace.forget(key)
            for number, other in self._posts.items():
                known = self._state.seats[number].functions
                if key in known:
                    known.discard(key)
                    other.channel.send(frame(FORGET, key))
        post.permits.add(send.units)  # before the batch: a worker that has a task finds its permit
        post.channel.send(buffers)

    def _functions_in_use(self) -> set[int]:
        state = self._state
        used = {source.function for source in self._sources}
        used.update(task.function for task in (*state.backlog, *self._inbox))
        for seat in state.seats.values():
            used.update(task.function for task in seat.sent)
        return used

    def _look(self, seat: int, post: Post, events: list[Event]) -> None:
        """Read a worker's journal while it lives."""
        while True:
            started, since = post.journal.read_progress()
            self._read_frames(seat, post, events, drain=False)
            serial, records = post.journal.read_records()
            if serial <= post.received or post.channel.ended:
                break
            # It has sent records since we read the channel; they are there now, and come before these.
        self._report(seat, post, serial, records, 0, 0, events)
        events.append(Seen(seat, started, since))

    def _report(
        self, seat: int, post: Post, serial: int, records: list[Any], elements: int, ns: int, events: list[Event]
    ) -> None:
        """Pass on those *records*, the first of which has number *serial*, that were not taken over before."""
        known = post.received - serial
        if known > 0:
            records = records[known:]
        if records:
            post.received += len(records)
            events.append(Finished(seat, records, elements, ns))

    # Reading.

    def _watch(self, fd: int, seat: int, *, channel: bool) -> None:
        self._watched[fd] = (seat, channel)
        self._unseen = True
        self._poll.register(fd, select.POLLIN)

    def _watch_writing(self, seat: int, post: Post) -> None:
        fd = post.channel.fileno()
        if post.channel.unsent:
            if fd not in self._writing and fd in self._watched:
                self._writing.add(fd)
                self._unseen = True
                self._poll.modify(fd, select.POLLIN | select.POLLOUT)
        elif fd in self._writing:
            self._writing.discard(fd)
            self._poll.modify(fd, select.POLLIN)

    def _unwatch(self, fd: int) -> None:
        if self._watched.pop(fd, None) is not None:
            self._poll.unregister(fd)
            self._writing.discard(fd)

    def _read(self, ready: list[tuple[int, int]]) -> list[Event]:
        """What the descriptors that are *ready* have to tell."""
        events: list[Event] = []
        ended: list[int] = []
        for fd, flags in ready:
            if fd == self._wake_r:
                os.read(fd, 4096)
                continue
            known = self._watched.get(fd)
            if known is None:
                continue
            seat, is_channel = known
            post = self._posts[seat]
            assert post.child is not None
            if not is_channel:
                if post.child.collect():
                    ended.append(seat)
                continue
            if flags & select.POLLOUT:
                post.channel.flush()
                self._watch_writing(seat, post)
            if flags & ~select.POLLOUT:
                self._read_frames(seat, post, events, drain=False)
                if post.channel.ended:
                    self._unwatch(fd)
                    post.child.kill()  # it has closed its channel: it is leaving, or no worker any more
                    if post.child.fileno() < 0:
                        ended.append(seat)
        for seat in ended:
            self._bury(seat, events)
        return events

    def _read_frames(self, seat: int, post: Post, events: list[Event], *, drain: bool) -> None:
        for kind, number, body in post.channel.receive(drain=drain):
            if kind == RESULTS:
                serial, ns, elements = RESULTS_HEAD.unpack_from(body)
                index_end = RESULTS_HEAD.size + number * 8
                index = body[RESULTS_HEAD.size : index_end].cast("Q")
                self._report(seat, post, serial, split(index, body[index_end:]), elements, ns, events)
            elif kind == READY:
                assert post.child is not None
                events.append(Ready(seat, post.child.pid))
            elif kind == REFUSED:
                events.append(Refused(seat, self._initializer_error(post, body)))
            elif kind == DROPPED:
                events.append(Dropped(seat))

    def _initializer_error(self, post: Post, body: memoryview) -> InitializerError:
        pid = post.child.pid if post.child is not None else None
        cause = codec.decode_error(body, "the initializer", pid)
        error = InitializerError(
            f"the initializer failed in worker {pid}: {type(cause).__name__}: {cause}; no task can run until it succeeds",
            pid=pid,
        )
        error.__cause__ = cause
        return error

    def _bury(self, seat: int, events: list[Event]) -> None:
        """A worker's process has ended: take over what it left, then tell."""
        post = self._posts[seat]
        assert post.child is not None
        post.child.await_end()
        self._read_frames(seat, post, events, drain=True)
        serial, records = post.journal.read_records()
        self._report(seat, post, serial, records, 0, 0, events)
        started, _ = post.journal.read_progress()
        events.append(Exited(seat, post.child.exitcode, started, post.child.pid))
        self._unwatch(post.channel.fileno())
        self._unwatch(post.child.fileno())
        del self._posts[seat]
        self._exitcodes[seat] = post.child.exitcode
        if len(self._exitcodes) > _EXITS_KEPT:
            del self._exitcodes[next(iter(self._exitcodes))]
        post.close()

    # The wheel.

    def wait(self, slot: Slot, timeout: float | None = None) -> bool:
        """Wait until *slot* is ready, running the loop if nobody does; whether it is ready.

        Args:
            timeout: seconds; None waits for ever.
        """
        if slot.settled:
            return True
        deadline = None if timeout is None else _clock() + max(0, int(timeout * 1e9))
        waiter = Waiter()
        if slot.waiters is None:
            slot.waiters = []
        slot.waiters.append(waiter)
        try:
            while not slot.settled:
                left = None if deadline is None else deadline - _clock()
                if left is not None and left <= 0:
                    break
                if waiter.driving or self._take_wheel(waiter):
                    self._turn(left, slot)
                else:
                    self._sleep(waiter, left)
        finally:
            if slot.waiters is not None and waiter in slot.waiters:
                slot.waiters.remove(waiter)
            self._leave(waiter)
        return slot.settled

    def _take_wheel(self, waiter: Waiter) -> bool:
        with self._gate:
            if waiter.driving:
                return True
            driver = self._driver
            if driver is None or (driver is self._background_waiter and not self._background_busy):
                if driver is not None:
                    driver.driving = False
                self._driver = waiter
                waiter.driving = True
                return True
            if waiter not in self._sleepers:
                self._sleepers.append(waiter)
            if driver is self._background_waiter:
                self._wake()
            return False

    @staticmethod
    def _sleep(waiter: Waiter, left: int | None) -> None:
        if left is None:
            waiter.lock.acquire()
        else:
            waiter.lock.acquire(timeout=min(left / 1e9, threading.TIMEOUT_MAX))

    def _leave(self, waiter: Waiter) -> None:
        with self._gate:
            if waiter in self._sleepers:
                self._sleepers.remove(waiter)
            if waiter.driving:
                self._pass_on(waiter)

    def _pass_on(self, waiter: Waiter) -> None:
        """The thread of *waiter* gives up the wheel.  Under ``_gate``."""
        waiter.driving = False
        self._driver = None
        if self._sleepers:
            heir = self._sleepers.popleft()
            self._driver = heir
            heir.driving = True
            _release(heir)
        elif self._needs_driver():
            self._set_watch()

    def _needs_driver(self) -> bool:
        return bool(self._inbox or self._sources or self._state.busy() or (self._closing and not self.gone.settled))

    def _ensure_driver(self) -> None:
        """See to it that work under way has somebody at the wheel, or on watch."""
        if self._driver is None and not self._watching:
            with self._gate:
                if self._driver is None and self._needs_driver():
                    self._set_watch()

    def _set_watch(self) -> None:
        """Under ``_gate``: the background thread is to take the wheel if nobody does."""
        self._left_at = _clock()
        if self._watching:
            return
        self._watching = True
        waiter = self._background_waiter
        if waiter is None:
            waiter = self._background_waiter = Waiter()
            self._background = threading.Thread(
                target=self._run_background, args=(waiter,), name="forkful-pool", daemon=True
            )
            self._background.start()
        else:
            _release(waiter)

    def _run_background(self, waiter: Waiter) -> None:
        while not self.gone.settled:
            if waiter.driving:
                self._drive_in_background(waiter)
            elif self._watching:
                left = self._left_at + _WATCH_NS - _clock()
                if left > 0:
                    waiter.lock.acquire(timeout=left / 1e9)
                    continue
                with self._gate:
                    self._watching = False
                    if self._driver is None and self._needs_driver():
                        self._driver = waiter
                        waiter.driving = True
            else:
                waiter.lock.acquire()
        if self._abandoned:
            self.dispose()

    def _drive_in_background(self, waiter: Waiter) -> None:
        """One turn."""
        with self._gate:
            if not waiter.driving:  # a caller took the wheel before this turn began
                return
            self._background_busy = True
        try:
            self._turn(None, self.gone)
        except Exception:
            log.exception("forkful: an error in the background thread; the pool has given up its work")
        if self._abandoned and not self._closing:
            self.terminate(PoolTerminated("the pool was dropped without close() or terminate()"))
        with self._gate:
            self._background_busy = False
            if self._sleepers or not self._needs_driver():
                self._pass_on(waiter)

    def _turn_once(self) -> None:
        """Send what the inbox holds and take in what has arrived, without waiting."""
        waiter = Waiter()
        with self._gate:
            free = self._driver is None
            if free:
                self._driver = waiter
                waiter.driving = True
        if not free:
            self._handle([])
            self._ensure_driver()
            return
        try:
            self._turn(0, _NEVER)
        finally:
            self._leave(waiter)

    def _turn(self, left: int | None, slot: Slot) -> None:
        """One turn of the loop, at most *left* nanoseconds of waiting.  Only the thread that has the wheel."""
        if self._inbox:
            self._handle([])
        if self._sources:
            self.feed()
        if slot.settled:
            return
        due = self._state.deadline()
        if due is not None:
            until = max(0, due - _clock())
            left = until if left is None else min(left, until)
        ready = self._wait_for_descriptors(left, due, slot)
        deliveries: list[Deliver | Fail] = []
        try:
            with self._lock:
                events = self._read(ready)
                if due is not None and _clock() >= due:
                    events.append(Tick())
                if events or self._inbox:
                    self._handle_locked(events, deliveries)
                    self._close_up()
            if self._sources:
                self.feed()
            self._deliver(deliveries)
        except BaseException as error:
            self._give_up(error)
            raise

    def _wait_for_descriptors(self, left: int | None, due: int | None, slot: Slot) -> list[tuple[int, int]]:
        self._unseen = False
        self._polled_until = due
        self._polling = True
        try:
            # Whoever changed one of these before it could see `_polling` has not woken us.
            if slot.settled or self._inbox or self._unseen or self._abandoned or self._state.deadline() != due:
                left = 0
            return self._poll.poll(None if left is None else -(-left // 1_000_000))
        finally:
            self._polling = False

    def _wake(self) -> None:
        """Bring the thread at the wheel out of ``poll()``."""
        with self._wake_lock:  # else the descriptor could be closed, and be another's, between the look and the write
            if self._wake_w >= 0:
                with contextlib.suppress(BlockingIOError):  # full: it is awake already
                    os.write(self._wake_w, b"!")

    def settle(self, slot: Slot) -> None:
        """*slot* is ready: wake whoever waits for it.  Called by whichever thread made it so."""
        slot.settled = True
        waiters = slot.waiters
        if waiters:
            slot.waiters = None
            for waiter in waiters:
                if not waiter.driving:
                    _release(waiter)
                elif self._polling:
                    self._wake()

    def dispose(self) -> None:
        """Close what is left, once `gone` is ready and no thread will come."""
        background = self._background
        if background is not None and background is not threading.current_thread():
            with self._gate:
                if self._background_waiter is not None:
                    _release(self._background_waiter)
            background.join()
        with self._wake_lock:
            if self._wake_w >= 0:
                os.close(self._wake_r)
                os.close(self._wake_w)
                self._wake_r = self._wake_w = -1


def _release(waiter: Waiter) -> None:
    with contextlib.suppress(RuntimeError):  # released by another thread in the same moment
        waiter.lock.release()


def run_quietly(what: str, function: Callable[..., object], *args: object) -> None:
    """Call user code that must not hurt the pool; an exception is logged."""
    try:
        function(*args)
    except BaseException:  # noqa: BLE001  # SystemExit in a callback must not end the thread that others wait for
        log.exception("forkful: %s raised; the pool goes on", what)
