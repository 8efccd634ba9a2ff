"""A pool without a process: simulated workers that obey the protocol of ``worker.py``, one step at a time.

Each step is what a real worker does in one go as seen from outside: take a permit, name an element in the journal,
commit a result, send what is committed.  Between any two steps the world may look, recall or kill; so whatever can
happen between two processes can happen here, in one thread and again from the same seed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from forkful._core.books import BUSY, ENDED, IDLE, QUEUED, RECALLED, SENT, Task
from forkful._core.limits import Limits
from forkful._core.messages import EACH, ERROR, GROUP, VALUE, VALUES
from forkful._core.state import State
from forkful._core.steps import (
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
    Look,
    Ready,
    Recall,
    Refused,
    Resize,
    Seen,
    Send,
    Start,
    Stop,
    Submitted,
    Taken,
    Terminate,
    Tick,
    Trace,
    Unstarted,
)
from forkful.errors import InitializerError, PoolTerminated, TaskCancelled, TaskTimeout, WorkerDied

MS = 1_000_000
NOTHING = InitializerError("no process")

Record = tuple[int, int, Any]


@dataclass
class Report:
    """A frame of results."""

    serial: int
    records: list[Record]
    elements: int


@dataclass
class Element:
    """One element of some task, as the user sees it."""

    guarded: bool
    retries: int
    timeout: int | None
    hangs: bool  # never ends by itself
    raises: bool
    starts: int = 0
    ended: str = ""  # "value", "raised", or the name of an error's class
    cancelled: bool = False
    killed: bool = False  # cancelled, even if it runs


@dataclass
class Worker:
    """The other side of a channel, a journal and some permits."""

    seat: int
    starts_badly: bool = False  # its initializer fails
    exitcode: int | None = None
    alive: bool = True
    murdered: bool = False  # not by the pool
    buried: bool = False
    ready: bool = False
    permits: int = 0
    down: deque[list[tuple[list[int], bool]] | str] = field(default_factory=deque)
    batch: deque[tuple[list[int], bool]] = field(default_factory=deque)
    entry: deque[int] = field(default_factory=deque)  # of the task it is in, those not started
    guarded: bool = True  # whether that task is
    permitted: int | None = None  # has its permit, and is not yet named in the journal
    running: int | None = None
    void: bool = False  # a permit was missing: nothing is run until the recall is read
    results: list[str] = field(default_factory=list)  # of an unguarded task, not committed
    journal: list[Record] = field(default_factory=list)
    serial: int = 0  # of the first record in the journal
    started: int = 0
    since: int = 0
    committed: int = 0  # when it last committed, and sent, a result
    flushed: int = 0
    elements: int = 0
    up: deque[Event | Report] = field(default_factory=deque)
    received: int = 0  # records that the master has


class World:
    """A `State` and its workers.  *random* decides what the script leaves open."""

    def __init__(self, random: Random, processes: int, tasks_per_child: int | None) -> None:
        self.random = random
        self.state = State(Limits(processes, tasks_per_child, finalizer=random.random() < 0.5, grace=5 * MS))
        self.processes = processes
        self.now = 0
        self.elements: list[Element] = []
        self.tasks: list[Task] = []
        self.inbox: list[Task] = []  # submitted, and not yet told to the state machine
        self.workers: dict[int, Worker] = {}
        self.bad_starts = 0  # of the next workers
        self.any_bad_start = False
        self.terminated = False
        self.lively = True  # workers move while the master is at work

    # The sink: every element ends once, and as it may.

    def accept(self, task: Task, index: int, values: list[Any], pid: int | None, size: int) -> None:
        """Values are not rebuilt here: see `record`."""
        raise NotImplementedError

    def refuse(self, task: Task, index: int, error: BaseException, pid: int | None) -> None:
        """Nor are errors."""
        raise NotImplementedError

    def record(self, index: int, count: int, kind: int, blob: Any) -> None:
        """A record has arrived: it is of the elements it is said to be of."""
        if kind == GROUP:
            assert len(blob) == count
        parts = blob if kind == GROUP else [blob]
        for position, part in enumerate(parts, index):
            assert part == ("raised" if self.elements[position].raises else "value") + str(position)
            self._end(position, part.rstrip("0123456789"))

    def fail(self, task: Task, index: int, count: int, error: BaseException) -> None:
        """Elements have ended with an error of ours."""
        for position in range(index, index + count):
            element = self.elements[position]
            if isinstance(error, WorkerDied):
                assert element.starts > 0
                assert error.pid is not None
                assert self.workers[error.pid - 1000].murdered
            elif isinstance(error, TaskTimeout):
                assert element.timeout is not None
                assert element.starts > 0
            elif isinstance(error, TaskCancelled):
                assert element.cancelled
            elif error is NOTHING:
                assert not any(seat.state in (IDLE, BUSY, RECALLED) for seat in self.state.seats.values())
            elif isinstance(error, InitializerError):
                assert self.any_bad_start
            else:
                assert isinstance(error, PoolTerminated)
            self._end(position, type(error).__name__)

    def abort(self, error: BaseException) -> None:
        """Never called by the state machine."""
        raise NotImplementedError

    def _end(self, position: int, how: str) -> None:
        element = self.elements[position]
        assert not element.ended, f"{position} ended with {element.ended}, then with {how}"
        if element.guarded and not element.killed and how in ("raised", "WorkerDied", "TaskTimeout"):
            assert element.starts == element.retries + 1
        element.ended = how

    # What may happen.

    def submit(self, count: int) -> None:
        """A task of 1 … *count* elements of random qualities, for the next time that the inbox is looked into."""
        random = self.random
        guarded = random.random() < 0.6
        timeout = random.choice([None, 20 * MS]) if guarded else None
        retries = random.choice([0, 0, 2]) if guarded else 0
        count = random.randint(1, max(1, count))
        hangs = random.random() < 0.3
        base = len(self.elements)
        for _ in range(count):
            raises = guarded and random.random() < 0.2
            self.elements.append(Element(guarded, retries, timeout, hangs and random.random() < 0.5, raises))
        task = Task(
            self, random.randint(1, 2), "f", EACH, b"",
            base=base, count=count, guarded=guarded, timeout=timeout, retries=retries,
        )  # fmt: skip  # the constructor's own grouping
        self.tasks.append(task)
        self.inbox.append(task)

    def cancel(self, *, kill: bool) -> None:
        """Give up on some of what has not ended, as ``Master.tasks_of`` finds it."""
        queues = [self.state.backlog, *(seat.sent for seat in self.state.seats.values())]
        self._cancel([task for queue in queues for task in queue if self.random.random() < 0.3], kill=kill)

    def _cancel(self, tasks: list[Task], *, kill: bool) -> None:
        for task in tasks:
            for index in range(task.index(), _end_of(task)):
                self.elements[index].cancelled = True
                self.elements[index].killed |= kill
        self.digest([Cancel(tasks, kill)])

    def cancel_what_hangs(self) -> None:
        """What would never end, because it has no time-out, is cancelled before the world can come to rest."""
        self.lively = False
        self.digest([])  # whatever is in the inbox must be known, to be found
        endless = [element for element in self.elements if element.hangs and element.timeout is None]
        queues = [self.state.backlog, *(seat.sent for seat in self.state.seats.values())]
        tasks = [
            task
            for queue in queues
            for task in queue
            if any(self.elements[index] in endless for index in range(task.index(), _end_of(task)))
        ]
        self._cancel(tasks, kill=True)

    def kill_some(self, exitcode: int | None = -9) -> None:
        """A worker dies, of itself or by somebody's hand."""
        living = [worker for worker in self.workers.values() if worker.alive]
        if living:
            worker = self.random.choice(living)
            self.any_bad_start |= not worker.ready
            worker.murdered = True
            self._die(worker, exitcode)

    def resize(self, count: int) -> None:
        """Start workers."""
        self.digest([Resize(count)])

    def fail_starts(self, count: int) -> None:
        """The next workers do not come up."""
        self.bad_starts = count

    def terminate(self) -> None:
        """Give up on everything."""
        self.terminated = True
        self.digest([Terminate(PoolTerminated("over"))])

    def pass_time(self, ns: int) -> None:
        """Workers work, and the clock goes on."""
        self.now += ns
        self.stir(8)

    def turn(self) -> None:
        """One turn of the master's loop."""
        events: list[Event] = []
        for worker in list(self.workers.values()):
            if self.random.random() < 0.7:
                self._read(worker, events)
        due = self.state.due
        if due is not None and self.now >= due:
            events.append(Tick())
        self.digest(events)

    def settle(self) -> None:
        """Let everything come to rest: workers work, time passes when nothing else does."""
        self.cancel_what_hangs()
        for _ in range(20_000):
            moved = sum(
                self._step(worker) for worker in list(self.workers.values()) if worker.alive
            )  # all of them step
            events: list[Event] = []
            for worker in list(self.workers.values()):
                self._read(worker, events)
            due = self.state.due
            if not moved and not events and not self.inbox:
                if due is None:
                    return
                self.now = max(self.now + 1, due)
            if due is not None and self.now >= due:
                events.append(Tick())
            self.digest(events)
        raise AssertionError("the world does not come to rest")

    def close(self) -> None:
        """No more work will come."""
        self.digest([Close()])

    # The master.

    def digest(self, events: list[Event]) -> None:
        """As ``Master._digest``: decide and execute until nothing more comes of it."""
        for _ in range(200):
            if self.inbox and (not self.lively or self.random.random() < 0.5):
                events.append(Submitted(self.inbox))
                self.inbox = []
            instructions = self.state.handle(events, self.now)
            events = []
            for instruction in instructions:
                if isinstance(instruction, Deliver):
                    for _, index, count, kind, blob, _ in instruction.items:
                        for at, one in enumerate(blob if kind == VALUES else [blob], index):
                            self.record(at, count, VALUE if kind == VALUES else kind, one)
                elif isinstance(instruction, Fail):
                    for task, index, count, error in instruction.items:
                        self.fail(task, index, count, error)
                else:
                    self._execute(instruction, events)
                    if self.lively:
                        self.stir(2)
            self.check_books()
            if not events:
                return
        raise AssertionError("the state machine does not come to an end")

    def _execute(self, order: Instruction, events: list[Event]) -> None:
        if isinstance(order, Start):
            self._start(order.seat, events)
            return
        assert isinstance(order, Send | Look | Recall | Stop | Kill | Trace)
        worker = self.workers[order.seat]
        if worker.buried:
            return
        if isinstance(order, Send):
            seat = self.state.seats[order.seat]
            assert not seat.recalling
            assert "recall" not in worker.down, "a worker that is recalled is sent nothing"
            assert not worker.void
            sent = [index for task in order.tasks for index in _elements_of(task)]
            assert not any(self.elements[index].killed for index in sent), "what is cancelled is not sent again"
            worker.permits += order.units
            worker.down.append([(list(_elements_of(task)), task.guarded) for task in order.tasks])
        elif isinstance(order, Look):
            self._look(worker, events)
        elif isinstance(order, Recall):
            taken = min(worker.permits, order.most)
            worker.permits -= taken
            if taken:
                worker.down.append("recall")
            events.append(Taken(order.seat, taken))
        elif isinstance(order, Stop):
            worker.down.append("stop")
        elif isinstance(order, Trace):
            if self.random.random() < 0.7:  # else it is stopped, or slow to end
                self._die(worker, -60)
        elif not order.gently or self.random.random() < 0.5:
            self._die(worker, -15 if order.gently else -9)

    def _start(self, seat: int, events: list[Event]) -> None:
        worker = self.workers[seat] = Worker(seat)
        if self.bad_starts:
            self.bad_starts -= 1
            how = self.random.randrange(3)
            self.any_bad_start |= how > 0
            if how == 0:  # no process to be had
                worker.alive, worker.buried = False, True
                events.append(Unstarted(seat, NOTHING))
            elif how == 1:
                worker.starts_badly = True
            else:
                self._die(worker, 1)

    def _look(self, worker: Worker, events: list[Event]) -> None:
        started, since = worker.started, worker.since
        if self.lively:
            self.stir(1)
        self._read_frames(worker, events)
        self._report(worker, Report(worker.serial, worker.journal, 0), events)
        events.append(Seen(worker.seat, started, since))

    def _read(self, worker: Worker, events: list[Event]) -> None:
        if worker.buried:
            return
        self._read_frames(worker, events)
        if not worker.alive:
            self._report(worker, Report(worker.serial, worker.journal, 0), events)
            events.append(Exited(worker.seat, worker.exitcode, worker.started, 1000 + worker.seat))
            worker.buried = True

    def _read_frames(self, worker: Worker, events: list[Event]) -> None:
        while worker.up:
            frame = worker.up.popleft()
            if isinstance(frame, Report):
                self._report(worker, frame, events)
            else:
                events.append(frame)

    @staticmethod
    def _report(worker: Worker, report: Report, events: list[Event]) -> None:
        fresh = report.records[max(0, worker.received - report.serial) :]
        if fresh:
            worker.received += len(fresh)
            events.append(Finished(worker.seat, fresh, report.elements, report.elements * 100_000))

    # The workers.

    def stir(self, most: int) -> None:
        """Some workers take some steps."""
        for _ in range(self.random.randint(0, most)):
            living = [worker for worker in self.workers.values() if worker.alive]
            if not living:
                return
            self.now += self.random.choice([1_000, 100_000, 2 * MS])
            self._step(self.random.choice(living))

    def _die(self, worker: Worker, exitcode: int | None) -> None:
        if worker.alive:
            worker.alive = False
            worker.exitcode = exitcode

    def _step(self, worker: Worker) -> bool:
        """One step of one worker; whether there was one to take."""
        if not worker.ready:
            worker.ready = True
            if worker.starts_badly:
                worker.up.append(Refused(worker.seat, InitializerError("bad")))
                self._die(worker, 1)
            else:
                worker.up.append(Ready(worker.seat, 1000 + worker.seat))
            return True
        if worker.permitted is not None:
            return self._name(worker)
        if worker.running is not None:
            return self._end_element(worker)
        if worker.void:
            return self._await_recall(worker)
        if worker.entry:
            return self._next_element(worker)
        if worker.batch:
            return self._next_task(worker)
        return self._next_frame(worker)

    def _name(self, worker: Worker) -> bool:
        position = worker.permitted
        assert position is not None
        element = self.elements[position]
        assert self.terminated or not element.ended, f"{position} is started after it ended with {element.ended}"
        element.starts += 1
        if element.guarded:
            assert element.starts <= 1 + element.retries
        worker.permitted, worker.running = None, position
        worker.started += 1
        worker.since = self.now
        return True

    def _end_element(self, worker: Worker) -> bool:
        position = worker.running
        assert position is not None
        element = self.elements[position]
        if element.hangs:
            return False
        worker.running = None
        worker.elements += 1
        result = ("raised" if element.raises else "value") + str(position)
        if worker.guarded:
            worker.journal.append((1, ERROR if element.raises else VALUE, result))
        else:
            worker.results.append(result)
            if not worker.entry or self.now - worker.committed > 25_000:
                worker.journal.append((len(worker.results), GROUP, worker.results))
                worker.results = []
        if not worker.results:
            worker.committed = self.now
            if self.now - worker.flushed > MS:
                self._flush(worker)
        return True

    def _next_element(self, worker: Worker) -> bool:
        if worker.guarded:
            if not worker.permits:
                worker.void = True
                return True
            worker.permits -= 1
        worker.permitted = worker.entry.popleft()
        return True

    def _next_task(self, worker: Worker) -> bool:
        elements, guarded = worker.batch[0]
        if not guarded:
            if not worker.permits:
                worker.void = True
                return True
            worker.permits -= 1
        worker.batch.popleft()
        worker.entry = deque(elements)
        worker.guarded = guarded
        worker.committed = self.now
        return True

    def _await_recall(self, worker: Worker) -> bool:
        worker.batch.clear()
        worker.entry.clear()
        if not worker.down:
            return False
        frame = worker.down.popleft()
        assert frame != "stop"
        if frame == "recall":
            worker.void = False
            self._drop(worker)
        return True

    def _next_frame(self, worker: Worker) -> bool:
        if not worker.down:
            if worker.journal:
                self._flush(worker)
                return True
            return False
        frame = worker.down.popleft()
        if isinstance(frame, list):
            worker.batch = deque(frame)
        elif frame == "recall":
            self._drop(worker)
        else:
            self._flush(worker)
            self._die(worker, 0)
        return True

    def _drop(self, worker: Worker) -> None:
        self._flush(worker)
        worker.up.append(Dropped(worker.seat))

    def _flush(self, worker: Worker) -> None:
        if worker.journal:
            worker.flushed = self.now
            worker.up.append(Report(worker.serial, worker.journal, worker.elements))
            worker.serial += len(worker.journal)
            worker.journal = []
            worker.elements = 0

    # What holds after every call.

    def check_books(self) -> None:
        """The books agree with themselves."""
        state = self.state
        for key, seat in state.seats.items():
            assert seat.key == key
            assert seat.load == sum(task.count - task.done for task in seat.sent)
            if seat.state == IDLE:
                assert not seat.sent
            if seat.state == BUSY:
                assert seat.sent
            for task in seat.sent:
                assert (task.state, task.seat) == (SENT, seat)
                assert task.done < task.count
        for task in state.backlog:
            assert task.state in (QUEUED, ENDED)
            assert task.seat is None
        assert self.terminated or state._alive() <= self.processes

    def check_rest(self) -> None:
        """Nothing is left over."""
        state = self.state
        left = [position for position, element in enumerate(self.elements) if not element.ended]
        assert not left, f"elements {left} have not ended"
        assert all(task.state == ENDED for task in self.tasks)
        assert not any(task.state != ENDED for task in state.backlog)
        assert state.due is None
        for key, seat in state.seats.items():
            worker = self.workers[key]
            assert seat.state == IDLE
            assert (seat.condemned, seat.recalling, seat.looking) == (False, False, False)
            assert (seat.load, worker.permits, worker.down) == (0, 0, deque())
            assert worker.started == seat.finished


def _end_of(task: Task) -> int:
    """The number after that of a task's last element."""
    return task.base + task.first + task.count


def _elements_of(task: Task) -> Iterator[int]:
    """The numbers of a task's elements, when it is sent."""
    return iter(range(task.base + task.first, _end_of(task)))
