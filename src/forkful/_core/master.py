"""The master: the one loop that moves bytes, on behalf of whoever waits.

Who owns what
-------------

========================  ====================================================================================
parent end of channel i   the crew; written and read under ``_lock`` only
child end of channel i    worker i alone, closed in the parent and in every sibling
journal of worker i       written by worker i, read by the crew
permits of worker i       added by the crew, taken by worker i or taken back by the crew: the kernel arbitrates
pids, exit codes          the supervisor's `Post`
the books (`State`)       whoever holds ``_lock``; never held while user code runs
the wheel                 at most one thread, the one that waits in ``poll()``; see ``wheel.py``
result slots              written once by the thread that delivers, read by whoever waits
========================  ====================================================================================

A turn: wait; under ``_lock`` read channels, let the state decide, execute; then, without ``_lock``, feed maps and
deliver results (pickling and unpickling are user code).

User code can also come in between, in the same thread: a signal handler at any call, a finalizer at any allocation.  Where
it finds the thread inside the books, what it asks for is noted and done by whoever is there; it cannot wait there
(`Master.wait` raises), but it can end the pool (`Master.await_end`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import PoolClosed, PoolTerminated
from .books import Task, Terms
from .codec import LARGE_BYTES, beside, encode, keep, load_late, take_beside
from .crew import Crew
from .deliveries import Deliveries
from .forks import hold
from .functions import Functions
from .handing import register, takes_descriptors
from .limits import Limits
from .schedule import GATHER_NS
from .state import State
from .steps import Cancel, Close, Deliver, Event, Fail, Hire, Resize, Submitted, Tell, Terminate, Tick
from .supervisor import Supervisor
from .wheel import Slot, Wheel

if TYPE_CHECKING:
    from .lending import Lender, Parcel

_clock = time.monotonic_ns

FOREIGN = "this pool belongs to the process that made it, and this is a fork of that; make a Pool of your own here"


class Source(Protocol):
    """A map that makes its tasks as there is room for them."""

    function: int
    priority: int

    def functions(self) -> tuple[int, ...]:
        """Its keys: one more where elements may need another form of it."""

    def take(self, room: int) -> list[Task]:
        """Up to *room* elements as tasks; empty when there is nothing now.  Never called by two threads at once."""

    def exhausted(self) -> bool:
        """Whether it will never give a task again."""

    def lift_window(self) -> None:
        """Hold nothing back for a reader."""

    def fail(self, error: BaseException) -> None:
        """It cannot be read any further: whoever waits for its results gets *error*."""


def _precedence(source: Source) -> int:
    return -source.priority


class Pending(Protocol):
    """What a caller waits for, whichever tasks it takes."""

    def abort(self, error: BaseException) -> None:
        """End it with *error*, unless it has ended."""


class Forsaken:
    """Nobody wants what *sink* has not heard of yet; with *last*, but for what runs."""

    __slots__ = ("last", "sink")

    def __init__(self, sink: object, *, last: bool) -> None:
        self.sink = sink
        self.last = last


class Master:
    """One pool's loop.  Thread-safe; belongs to the process that made it."""

    def __init__(self, limits: Limits, supervisor: Supervisor) -> None:
        register()
        self._state = State(limits)
        self._supervisor = supervisor
        self.functions = Functions(supervisor.imports_main, supervisor.initialized)
        self._crew = Crew(supervisor, self.functions, limits.threads)
        self._lock: Any = threading.RLock()
        self._inbox: deque[Task] = deque()
        # What was asked for where the books could not be touched: by a signal handler while its own thread was in them,
        # or by the garbage collector.
        self._later: deque[Event | Forsaken] = deque()
        self._deliveries = Deliveries(self._give_up, self.nudge)
        self._gathering = False  # somebody at the wheel knows that the inbox is to be looked at soon
        self._flushed_at = 0
        self._births: list[tuple[int, Slot]] = []  # workers whose pid somebody waits for
        self._sources: list[Source] = []
        self._sources_lock = threading.RLock()
        self._feeding = threading.Lock()
        self._closing = False
        self._dropped: PoolTerminated | None = None  # nobody holds the pool any more
        self._uses = 0  # counted up to two
        self.pending: set[Pending] = set()  # what callers wait for; a result leaves it when it is settled
        self.gone = Slot()  # closed or terminated, and every worker has ended
        self.wheel = Wheel(self._turn, self._needs_driver, self._wake, self.gone)
        self._polling = False  # some thread is in, or just before, poll()
        self._nudged = False  # since the turn began
        self._unfed = False  # nudged since a thread that feeds has last begun with the sources
        self._polled_until: int | None = None  # and leaves it then
        self.gave_up = False  # nothing more is done: the books were interrupted, or this is a copy in a forked child
        self.foreign = False  # the latter
        hold(self)

    def disown(self) -> None:
        """Called in a child that was forked by user code: the pool is the parent's.

        A thread of the parent may have held any of the locks at the fork, and was not copied: they are made anew, and
        nothing is done under them any more but to look.
        """
        self.foreign = self.gave_up = self._closing = self.gone.settled = True
        self._lock = threading.RLock()
        self._sources_lock = threading.RLock()
        self._feeding = threading.Lock()
        self._sources = []
        self.wheel.disown()
        self._crew.disown()

    # Giving work.

    @takes_descriptors
    def pack(self, value: Any, *, once: bool) -> bytes | Parcel:
        """Pickle *value* for a task; what is large goes beside it.

        Args:
            once: whether no element of it can be started twice, and a task of its own will be all that rebuilds it.

        Raises:
            DescriptorInside: it must be done by `handing.pack`.
            as `codec.encode`.
        """
        if not beside:
            blob = encode(value, keep)
            if len(blob) <= LARGE_BYTES and not beside:
                return blob
            return self.lender().pack(blob, take_beside(), once=once)
        return self.lender().encode(value, once=once)

    def lender(self) -> Lender:
        """What large and shared things go through."""
        if self._crew.lender is None:
            from .lending import Lender  # programs that handle nothing large never need it

            with self._lock:
                if self._crew.lender is None:
                    self._crew.lender = Lender()
        return self._crew.lender

    def unshare(self) -> None:
        """A handle has gone: see to it that workers hear of it, if it was the last.  May be called at any point."""
        if not self.gave_up:
            self.nudge()

    def _note_use(self) -> None:
        """Work is given once more: from the second time on, a program is no mere start, and is made ready for failures."""
        self._uses += 1
        if self._uses == 2:
            load_late()

    def submit(self, task: Task) -> None:
        """Run *task*; in a burst, tasks are sent together, `schedule.GATHER_NS` apart."""
        if self._uses < 2:
            self._note_use()
        self._inbox.append(task)
        if _clock() - self._flushed_at >= GATHER_NS:
            if self._is_inside() or not self.wheel.turn_once():
                self._handle([])
                self.wheel.ensure()
        elif not self._gathering:
            self._gathering = True
            self.nudge()

    def submit_quietly(self, task: Task) -> None:
        """Like `submit`, for a caller that will wait at once and so drive itself."""
        if self._uses < 2:
            self._note_use()
        self._inbox.append(task)
        self._handle([])

    def add_source(self, source: Source) -> None:
        """Run what *source* gives."""
        if self._uses < 2:
            self._note_use()
        with self._sources_lock:
            self._sources.append(source)
        self.feed()
        self.wheel.ensure()

    def feed(self) -> None:
        """Take tasks from sources as long as there is room and they have any.

        A call while another thread feeds does nothing: whoever waits next takes a turn, and a turn begins by feeding.
        """
        fed = True
        # A nudge that comes while this thread feeds is its own to see to: nobody else can feed meanwhile.
        while (fed or self._unfed) and self._sources and self._feeding.acquire(blocking=False):
            try:
                fed = self._unfed = False
                for source in sorted(self._sources, key=_precedence) if len(self._sources) > 1 else list(self._sources):
                    fed = self._feed_from(source) or fed
            finally:
                self._feeding.release()
        if self._closing and not self._sources and not self._state.closed:
            self._handle([Close()])

    def _feed_from(self, source: Source) -> bool:
        room = self._state.room(source.function, source.priority)
        try:
            tasks = source.take(room) if room > 0 else []
        except BaseException as error:
            source.fail(error)  # what it had read is lost; its reader must not wait for that
            raise
        finally:
            if source.exhausted():
                with self._sources_lock, contextlib.suppress(ValueError):
                    self._sources.remove(source)
        if tasks:
            self._handle([Submitted(tasks)])
        return bool(tasks)

    def nudge(self) -> None:
        """There is something new to look at: see to it that somebody does."""
        self._nudged = self._unfed = True
        self.wheel.ensure()
        self._wake()

    def block_of(self, function: int, most: int) -> int:
        """How many elements of *function* make a task, at most *most*."""
        return self._state.pace.block(function, most)

    def tasks_of(self, sink: object) -> list[Task]:
        """The tasks that are not done and report to *sink*."""
        with self._lock:
            state = self._state
            queues: list[Iterable[Task]] = [state.backlog, self._inbox, *(seat.sent for seat in state.seats.values())]
            return [task for queue in queues for task in queue if task.sink is sink]

    def has_started(self, task: Task) -> bool:
        """Whether *task*, a single call, is at work, as far as its worker has noted."""
        with self._lock:
            seat = task.seat
            if seat is None:
                return False
            before = seat.finished
            for other in seat.sent:
                if other is task:
                    return self._crew.started_at(seat.key) > before
                before += other.count - other.done
            return False

    def retime(self, sink: object, timeout: int | None) -> None:
        """From now on, each element of what reports to *sink* may run so many nanoseconds; also one that runs now."""
        with self._lock:
            changed: dict[Terms, Terms] = {}
            for task in self.tasks_of(sink):
                terms = task.terms
                task.terms = changed.get(terms) or changed.setdefault(terms, terms.within(timeout))
        self._handle([Tick()])
        self.wheel.ensure()

    def cancel(self, tasks: list[Task], *, kill: bool) -> None:
        """Give up on *tasks*; see `steps.Cancel`."""
        self._handle([Cancel(tasks, kill)])
        self.wheel.ensure()

    def forsake(self, sink: object, *, last: bool = False) -> None:
        """Nobody wants what *sink* has not heard of yet: see to it that what has not started is taken back.

        With *last*, what runs is wanted: it may end, but is not tried again.

        The garbage collector may call this at any point of any thread; so it is only noted.
        """
        self._later.append(Forsaken(sink, last=last))
        self.wheel.hand_over()
        self._wake()

    def start_workers(self, count: int) -> None:
        """Start workers until there are *count*."""
        self._handle([Hire(count)])
        self.wheel.ensure()

    def resize(self, least: int, most: int, idle: int | None) -> None:
        """From now on, at least and at most so many workers; surplus ones leave when they have done what has started."""
        self._handle([Resize(least, most, idle), *([Hire(least)] if least else [])])
        self.feed()
        self.wheel.ensure()

    # Ending.

    def close(self) -> None:
        """Take no more work; workers leave when what there is is done."""
        self._closing = True
        self.feed()
        self.nudge()

    def lift_windows(self) -> None:
        """Somebody waits for the end of all work: hold nothing back for readers."""
        for source in list(self._sources):
            source.lift_window()
        self.feed()

    def terminate(self, error: PoolTerminated) -> None:
        """End everything pending with *error*, and every worker."""
        self._closing = True
        with self._sources_lock:
            self._sources.clear()
        self._handle([Terminate(error)])
        for pending in list(self.pending):
            pending.abort(error)
        self.nudge()

    def drop(self, error: PoolTerminated) -> None:
        """Nobody holds the pool any more.  The garbage collector may call this at any point of any thread."""
        if self._is_inside() or self.wheel.is_background():
            self._dropped = error  # looked at by the next turn
            self.wheel.on_exit = self.dispose
            self.nudge()
        else:
            self.terminate(error)
            self.await_end()
            self.dispose()

    def await_end(self) -> None:
        """After `close` or `terminate`: wait until every worker has ended."""
        if self._is_inside():
            self._give_up(PoolTerminated("the pool was ended by a signal handler, in the middle of its bookkeeping"))
        elif self.gave_up:
            self._abandon(PoolTerminated("the pool was interrupted as it gave up all work; make a new Pool"))
        else:
            self.wheel.wait(self.gone)

    def dispose(self) -> None:
        """Close what is left, once `gone` is settled and no thread will come."""
        if not self._is_inside():
            self.wheel.join()
            self._crew.close()

    def _is_inside(self) -> bool:
        """Whether the caller has interrupted its own thread in the books or at the wheel's gate: it must not wait.

        A signal handler can, and what the garbage collector calls.
        """
        inside: bool = self._lock._is_owned() or self.wheel.is_inside()
        return inside

    # Asking.

    def is_delivering(self) -> bool:
        """Whether the caller is user code that runs as a result is handed over."""
        return self._deliveries.is_here()

    @property
    def limits(self) -> Limits:
        """What bounds the pool now."""
        return self._state.limits

    def wait(self, slot: Slot, timeout: float | None = None) -> bool:
        """Wait until *slot* is settled; see `Wheel.wait`.

        Raises:
            PoolClosed: in a forked child, where it never would be.
            RuntimeError: in a signal handler that has interrupted the pool's bookkeeping, which cannot go on meanwhile.
        """
        if self.foreign and not slot.settled:
            raise PoolClosed(FOREIGN)
        if self._is_inside() and not slot.settled:
            raise RuntimeError(
                "a signal handler has interrupted the pool in its bookkeeping and cannot wait for a result; "
                "have it set a flag, raise an exception, or call terminate()"
            )
        return self.wheel.wait(slot, timeout)

    def members(self) -> list[tuple[int, int | None]]:
        """The worker processes there are: (worker, pid)."""
        with self._lock:
            return self._crew.pids()

    def await_pid(self, worker: int) -> int | None:
        """The pid of the worker at *worker*, waiting until it has one; None if it has ended, or this is a fork."""
        birth = Slot()
        with self._lock:
            pid = self._crew.pid_of(worker)
            ended, _ = self._crew.exit_of(worker)
            if pid is not None or ended or self.foreign:
                return pid
            self._births.append((worker, birth))
        self.wait(birth)
        with self._lock:
            return self._crew.pid_of(worker)

    def _announce_births(self) -> None:
        """Under ``_lock``, after anything was heard: whoever waits for a pid may have it."""
        for worker, birth in list(self._births):
            if self._crew.pid_of(worker) is not None or self._crew.exit_of(worker)[0]:
                self._births.remove((worker, birth))
                self.wheel.settle(birth)

    def exit_of(self, worker: int) -> tuple[bool, int | None]:
        """Whether the worker at *worker* has ended, and its exit code if that is (still) known."""
        with self._lock:
            return self._crew.exit_of(worker)

    def stats(self) -> dict[str, Any]:
        """Counters since the start, how many workers and tasks there are now, and what was chosen from which figures."""
        with self._lock:
            seats = self._state.seats.values()
            workers = self._state.workers.values()
            now = {
                "workers": len(workers),
                "busy": sum(1 for worker in workers if worker.busy()),
                "queued": len(self._state.backlog) + len(self._inbox),
                "running": sum(seat.load for seat in seats),
            }
            stats: dict[str, Any] = self._state.stats | now
            if self.limits.auto:
                names = self.functions.names()
                pace, threads = self._state.pace, self.limits.threads
                stats["functions"] = {
                    names[key]: {
                        "seconds": pace.cost(key) / 1e9,
                        "computing": share,
                        "threads": pace.width(key, threads),
                    }
                    for key, share in pace.shares().items()
                    if key in names
                }
            return stats

    # The books.

    def _handle(self, events: list[Event]) -> None:
        """Digest *events* and whatever the inbox holds, execute, then deliver."""
        if self.gave_up:
            return
        if self._is_inside():
            self._later.extend(events or [Tick()])
            return
        try:
            with self._lock:
                self._digest(events)
            if self._crew.unseen or self._state.due != self._polled_until:
                self._wake()
        except BaseException as error:
            if self._has_given_up(error):
                return
            raise
        self._deliver()
        if self._later:  # noted as the books were being closed
            self._handle([])

    def _has_given_up(self, error: BaseException) -> bool:
        """The books were interrupted by *error*: give up, unless a signal handler did that meanwhile, which explains it."""
        if self.gave_up and isinstance(error, Exception):
            return True
        self._give_up(error)
        return False

    def _digest(self, events: list[Event]) -> None:
        """Under ``_lock``: decide and execute until nothing more comes of it."""
        while True:
            while self._later:
                later = self._later.popleft()
                if isinstance(later, Forsaken):
                    later = Cancel(self.tasks_of(later.sink), kill=False, last=later.last)
                events.append(later)
            inbox = self._inbox
            if inbox:
                events.append(Submitted([inbox.popleft() for _ in range(len(inbox))]))
            self._flushed_at = now = _clock()
            self._gathering = False
            instructions = self._state.handle(events, now)
            events = []
            for instruction in instructions:
                if (
                    isinstance(instruction, Deliver) or isinstance(instruction, Fail) or isinstance(instruction, Tell)  # noqa: SIM101  # twice as fast as a union
                ):
                    self._deliveries.waiting.extend(instruction.items)
                else:
                    self._crew.execute(instruction, events)
            if not events and not self._later:
                break
        if self._births:
            self._announce_births()
        for key in self.functions.evict(self._functions_in_use) if self.functions.many() else ():
            self._state.pace.forget(key)
            for number, worker in self._state.workers.items():
                if key in worker.functions and number in self._crew.posts:
                    worker.functions.discard(key)
                    self._crew.forget(number, key)

    def _end_if_over(self) -> None:
        """Settle `gone` once the last worker of a closed pool has ended, and everybody has what he waited for."""
        if self._deliveries.is_elsewhere() or self.gone.settled or self._is_inside():
            return
        with self._lock:
            if not self._crew.posts and self._state.closed and not self._state.busy():
                self._end()

    def _end(self) -> None:
        """Under ``_lock``: no worker is left."""
        if not self.gone.settled:
            self._announce_births()
            self._supervisor.close()
            self.wheel.settle(self.gone)
            self._wake()

    def _functions_in_use(self) -> set[int]:
        state = self._state
        used = {key for source in list(self._sources) for key in source.functions()}
        used.update(task.terms.function for task in (*state.backlog, *self._inbox))
        for seat in state.seats.values():
            used.update(task.terms.function for task in seat.sent)
        return used

    def _give_up(self, error: BaseException) -> None:
        """Ctrl-C, or exhausted memory, in the middle of the books: they can no longer be trusted.

        Everything pending ends with an error, rather than that something is lost or repeated in silence; the workers
        are ended without asking the books.
        """
        self.gave_up = self._closing = self._state.closed = True
        reason = PoolTerminated(
            f"the pool was interrupted in its bookkeeping ({error!r}) and gave up all work; make a new Pool"
        )
        self._abandon(reason)

    def _abandon(self, reason: PoolTerminated) -> None:
        """Once the pool has given up: end everything.  May be interrupted anywhere, and called again."""
        while not self.gone.settled:
            try:
                self._sources.clear()
                for pending in list(self.pending):
                    pending.abort(reason)
                with self._lock:
                    self._crew.abandon()
                    self._end()
            except KeyboardInterrupt:  # whoever is pressing Ctrl-C may press it again
                continue

    def _deliver(self) -> None:
        self._deliveries.hand_over()
        if self._closing:
            self._end_if_over()

    # The loop.

    def _has_news(self) -> bool:
        """Whether workers are to hear which shared objects nobody names any more."""
        lender = self._crew.lender
        return lender is not None and bool(lender.unshared)

    def _needs_driver(self) -> bool:
        if self.gone.settled:
            return False
        given = self._inbox or self._later or self._sources or self._deliveries.waiting
        if given or self._dropped or self._closing or self._has_news() or self._state.busy():
            return True
        return self._state.due is not None  # an idle worker is to leave

    def _turn(self, left: int | None, slot: Slot) -> None:
        """One turn of the loop, at most *left* nanoseconds of waiting.  Only the thread that has the wheel."""
        if self._dropped is not None and not self._closing:
            self.terminate(self._dropped)
        self._nudged = False
        if self._inbox or self._later:
            self._handle([])
        if self._has_news():
            with self._lock:
                self._crew.tell_unshared()
        if self._sources:
            self.feed()
        if self._deliveries.waiting:
            self._deliver()  # left by a thread that was interrupted, or that waits here inside one of its deliveries
        if self._closing:
            self._end_if_over()
        if slot.settled:
            return
        due = self._state.due
        if due is not None:
            until = max(0, due - _clock())
            left = until if left is None else min(left, until)
        ready = self._wait_for_descriptors(left, due, slot)
        try:
            with self._lock:
                events = self._crew.read(ready)
                if self._births:
                    self._announce_births()
                if due is not None and _clock() >= due:
                    events.append(Tick())
                if events or self._inbox or self._later:
                    self._digest(events)
        except BaseException as error:
            if self._has_given_up(error):
                return
            raise
        try:
            if self._sources:
                self.feed()
        finally:
            self._deliver()

    def _wait_for_descriptors(self, left: int | None, due: int | None, slot: Slot) -> list[tuple[int, int]]:
        self._crew.unseen = False
        self._polled_until = due
        outer, self._polling = self._polling, True
        try:
            # Whoever changed one of these before it could see `_polling` has not woken us.
            news = self._inbox or self._later or self._crew.unseen or self._dropped or self._nudged
            if slot.settled or news or self._state.due != due:
                left = 0
            return self._crew.wait(left)
        finally:
            self._polling = outer

    def _wake(self) -> None:
        """Bring the thread at the wheel out of ``poll()``, if it is there or about to be."""
        if self._polling:
            self._crew.wake()
