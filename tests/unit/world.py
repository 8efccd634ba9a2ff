"""A pool without a process: simulated workers that obey the protocol of ``worker.py``, one step at a time.

Each step is what a real worker does in one go as seen from outside: take a permit, name an element in the journal,
commit a result, send what is committed.  Between any two steps the world may look, recall or kill; so whatever can
happen between two processes can happen here, in one thread and again from the same seed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from forkful._core.books import BUSY, ENDED, IDLE, QUEUED, RECALLED, SENT, Task, Terms
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
    Hire,
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
class Process:
    """A worker, with a lane for each of its threads."""

    number: int
    lanes: list[Lane] = field(default_factory=list)
    starts_badly: bool = False  # its initializer fails
    exitcode: int | None = None
    alive: bool = True
    murdered: bool = False  # not by the pool
    put_down: bool = False  # by the pool
    buried: bool = False
    ready: bool = False
    memory: int = 0  # grows with each element
    up: deque[Event | tuple[Lane, Report]] = field(default_factory=deque)


@dataclass
class Lane:
    """One thread of a worker: the other side of a journal, some permits and what a channel has for it."""

    seat: int
    process: Process
    left: bool = False  # it was told to stop, and has
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
    received: int = 0  # records that the master has


class World:
    """A `State` and its workers.  *random* decides what the script leaves open."""

    def __init__(self, random: Random, limits: Limits) -> None:
        self.random = random
        self.state = State(limits._replace(finalizer=random.random() < 0.5, grace=5 * MS))
        self.threads = limits.threads
        self.most = limits.most  # there ever were to be
        self.now = 0
        self.elements: list[Element] = []
        self.tasks: list[Task] = []
        self.inbox: list[Task] = []  # submitted, and not yet told to the state machine
        self.processes: dict[int, Process] = {}
        self.lanes: dict[int, Lane] = {}
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

    def hear(self, task: Task, index: int, attempt: int, out: str, err: str) -> None:
        """Nobody prints here."""
        raise NotImplementedError

    def fail(self, task: Task, index: int, count: int, error: BaseException) -> None:
        """Elements have ended with an error of ours."""
        for position in range(index, index + count):
            element = self.elements[position]
            if isinstance(error, WorkerDied):
                assert element.starts > 0
                assert error.pid is not None
                process = self.processes[error.pid - 1000]
                assert process.murdered or (error.cause and process.put_down)
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
        function, priority = random.randint(1, 2), random.choice([0, 0, 0, 5, -5])
        terms = Terms(function, "f", EACH, guarded=guarded, timeout=timeout, retries=retries, priority=priority)
        task = Task(self, terms, b"", base, count=count)
        self.tasks.append(task)
        self.inbox.append(task)

    def cancel(self, *, kill: bool) -> None:
        """Give up on some of what has not ended, as ``Master.tasks_of`` finds it."""
        queues: list[Iterable[Task]] = [self.state.backlog, *(seat.sent for seat in self.state.seats.values())]
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
        queues: list[Iterable[Task]] = [self.state.backlog, *(seat.sent for seat in self.state.seats.values())]
        tasks = [
            task
            for queue in queues
            for task in queue
            if any(self.elements[index] in endless for index in range(task.index(), _end_of(task)))
        ]
        self._cancel(tasks, kill=True)

    def kill_some(self, exitcode: int | None = -9) -> None:
        """A worker dies, of itself or by somebody's hand."""
        living = [process for process in self.processes.values() if process.alive]
        if living:
            process = self.random.choice(living)
            self.any_bad_start |= not process.ready
            process.murdered = True
            self._die(process, exitcode)

    def hire(self, count: int) -> None:
        """Start workers."""
        self.digest([Hire(count)])

    def resize(self, least: int, most: int) -> None:
        """Have other bounds."""
        self.most = max(self.most, most)
        self.digest([Resize(least, most)])
        staff = self.state.staff
        assert self.terminated or staff.alive() <= max(most, 1)

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
        for process in list(self.processes.values()):
            if self.random.random() < 0.7:
                self._read(process, events)
        due = self.state.due
        if due is not None and self.now >= due:
            events.append(Tick())
        self.digest(events)

    def settle(self) -> None:
        """Let everything come to rest: workers work, time passes when nothing else does."""
        self.cancel_what_hangs()
        for _ in range(20_000):
            moved = sum(
                self._step(lane) for lane in list(self.lanes.values()) if lane.process.alive
            )  # all of them step
            events: list[Event] = []
            for process in list(self.processes.values()):
                self._read(process, events)
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
            self._start(order.worker, events)
        elif isinstance(order, Stop | Kill | Trace):
            self._end_process(order)
        else:
            assert isinstance(order, Send | Look | Recall)
            lane = self.lanes[order.seat]
            if not lane.process.buried:
                self._tell(lane, order, events)

    def _end_process(self, order: Stop | Kill | Trace) -> None:
        process = self.processes[order.worker]
        if process.buried:
            return
        if isinstance(order, Stop):
            for lane in process.lanes:
                lane.down.append("stop")
        elif isinstance(order, Trace):
            if self.random.random() < 0.7:  # else it is stopped, or slow to end
                process.put_down = True
                self._die(process, -9)
        elif not order.gently or self.random.random() < 0.5:
            process.put_down = True
            self._die(process, -15 if order.gently else -9)

    def _tell(self, lane: Lane, order: Send | Look | Recall, events: list[Event]) -> None:
        if isinstance(order, Send):
            seat = self.state.seats[order.seat]
            assert not seat.recalling
            assert not seat.worker.leaving
            assert "recall" not in lane.down, "a worker that is recalled is sent nothing"
            assert "stop" not in lane.down, "nor is one that was told to stop"
            assert not lane.void
            sent = [index for task in order.tasks for index in _elements_of(task)]
            assert not any(self.elements[index].killed for index in sent), "what is cancelled is not sent again"
            lane.permits += order.units
            lane.down.append([(list(_elements_of(task)), task.terms.guarded) for task in order.tasks])
        elif isinstance(order, Look):
            self._look(lane, events)
        else:
            taken = min(lane.permits, order.most)
            lane.permits -= taken
            if taken:
                lane.down.append("recall")
            events.append(Taken(order.seat, taken))

    def _start(self, number: int, events: list[Event]) -> None:
        process = self.processes[number] = Process(number)
        process.lanes = [Lane(number * self.threads + lane, process) for lane in range(self.threads)]
        for lane in process.lanes:
            self.lanes[lane.seat] = lane
        if self.bad_starts:
            self.bad_starts -= 1
            how = self.random.randrange(3)
            self.any_bad_start |= how > 0
            if how == 0:  # no process to be had
                process.alive, process.buried = False, True
                events.append(Unstarted(number, NOTHING))
            elif how == 1:
                process.starts_badly = True
            else:
                self._die(process, 1)

    def _look(self, lane: Lane, events: list[Event]) -> None:
        started, since = lane.started, lane.since
        if self.lively:
            self.stir(1)
        self._read_frames(lane.process, events)
        self._report(lane, Report(lane.serial, lane.journal, 0), events)
        events.append(Seen(lane.seat, started, since))

    def _read(self, process: Process, events: list[Event]) -> None:
        if process.buried:
            return
        self._read_frames(process, events)
        if not process.alive:
            for lane in process.lanes:
                self._report(lane, Report(lane.serial, lane.journal, 0), events)
            started = [lane.started for lane in process.lanes]
            events.append(Exited(process.number, process.exitcode, started, 1000 + process.number))
            process.buried = True

    def _read_frames(self, process: Process, events: list[Event]) -> None:
        while process.up:
            frame = process.up.popleft()
            if isinstance(frame, tuple):
                self._report(*frame, events)
            else:
                events.append(frame)

    @staticmethod
    def _report(lane: Lane, report: Report, events: list[Event]) -> None:
        fresh = report.records[max(0, lane.received - report.serial) :]
        if fresh:
            lane.received += len(fresh)
            ns = report.elements * 100_000
            events.append(Finished(lane.seat, fresh, report.elements, ns, ns // 3, lane.process.memory))

    # The workers.

    def stir(self, most: int) -> None:
        """Some workers take some steps."""
        for _ in range(self.random.randint(0, most)):
            living = [lane for lane in self.lanes.values() if lane.process.alive]
            if not living:
                return
            self.now += self.random.choice([1_000, 100_000, 2 * MS])
            self._step(self.random.choice(living))

    def _die(self, process: Process, exitcode: int | None) -> None:
        if process.alive:
            process.alive = False
            process.exitcode = exitcode

    def _step(self, lane: Lane) -> bool:
        """One step of one thread of a worker; whether there was one to take."""
        process = lane.process
        if not process.ready:
            process.ready = True
            if process.starts_badly:
                process.up.append(Refused(process.number, InitializerError("bad")))
                self._die(process, 1)
            else:
                process.up.append(Ready(process.number, 1000 + process.number))
            return True
        if lane.left:
            return False
        if lane.permitted is not None:
            return self._name(lane)
        if lane.running is not None:
            return self._end_element(lane)
        if lane.void:
            return self._await_recall(lane)
        if lane.entry:
            return self._next_element(lane)
        if lane.batch:
            return self._next_task(lane)
        return self._next_frame(lane)

    def _name(self, lane: Lane) -> bool:
        position = lane.permitted
        assert position is not None
        element = self.elements[position]
        assert self.terminated or not element.ended, f"{position} is started after it ended with {element.ended}"
        element.starts += 1
        if element.guarded:
            assert element.starts <= 1 + element.retries
        lane.permitted, lane.running = None, position
        lane.started += 1
        lane.since = self.now
        return True

    def _end_element(self, lane: Lane) -> bool:
        position = lane.running
        assert position is not None
        element = self.elements[position]
        if element.hangs:
            return False
        lane.running = None
        lane.elements += 1
        lane.process.memory += 1
        result = ("raised" if element.raises else "value") + str(position)
        if lane.guarded:
            lane.journal.append((1, ERROR if element.raises else VALUE, result))
        else:
            lane.results.append(result)
            if not lane.entry or self.now - lane.committed > 25_000:
                lane.journal.append((len(lane.results), GROUP, lane.results))
                lane.results = []
        if not lane.results:
            lane.committed = self.now
            if self.now - lane.flushed > MS:
                self._flush(lane)
        return True

    def _next_element(self, lane: Lane) -> bool:
        if lane.guarded:
            if not lane.permits:
                lane.void = True
                return True
            lane.permits -= 1
        lane.permitted = lane.entry.popleft()
        return True

    def _next_task(self, lane: Lane) -> bool:
        elements, guarded = lane.batch[0]
        if not guarded:
            if not lane.permits:
                lane.void = True
                return True
            lane.permits -= 1
        lane.batch.popleft()
        lane.entry = deque(elements)
        lane.guarded = guarded
        lane.committed = self.now
        return True

    def _await_recall(self, lane: Lane) -> bool:
        lane.batch.clear()
        lane.entry.clear()
        if not lane.down:
            return False
        frame = lane.down.popleft()
        assert frame != "stop"
        if frame == "recall":
            lane.void = False
            self._drop(lane)
        return True

    def _next_frame(self, lane: Lane) -> bool:
        if not lane.down:
            if lane.journal:
                self._flush(lane)
                return True
            return False
        frame = lane.down.popleft()
        if isinstance(frame, list):
            lane.batch = deque(frame)
        elif frame == "recall":
            self._drop(lane)
        else:
            self._flush(lane)
            lane.left = True
            if all(other.left for other in lane.process.lanes):
                self._die(lane.process, 0)
        return True

    def _drop(self, lane: Lane) -> None:
        self._flush(lane)
        lane.process.up.append(Dropped(lane.seat))

    def _flush(self, lane: Lane) -> None:
        if lane.journal:
            lane.flushed = self.now
            lane.process.up.append((lane, Report(lane.serial, lane.journal, lane.elements)))
            lane.serial += len(lane.journal)
            lane.journal = []
            lane.elements = 0

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
        assert self.terminated or state.staff.alive() <= self.most

    def check_rest(self) -> None:
        """Nothing is left over."""
        state = self.state
        left = [position for position, element in enumerate(self.elements) if not element.ended]
        assert not left, f"elements {left} have not ended"
        assert all(task.state == ENDED for task in self.tasks)
        assert not any(task.state != ENDED for task in state.backlog)
        assert state.due is None
        for key, seat in state.seats.items():
            worker = self.lanes[key]
            assert not seat.worker.leaving
            assert seat.worker.doomed is None
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
