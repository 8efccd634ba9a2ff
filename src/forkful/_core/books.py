"""The books of a pool: what is known of each task and each worker.  Pure data; `state.State` keeps them.

All times are nanoseconds of one monotonic clock.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from .messages import CALL

# States of a seat, which is a thread of a worker.
STARTING, IDLE, BUSY, RECALLED, STOPPING, KILLED, GONE = (
    "starting",  # the process has been asked for
    "idle",  # has nothing to do
    "busy",  # has tasks
    "recalled",  # tasks were taken back from it; sent nothing until it confirms
    "stopping",  # the process has been told to leave
    "killed",  # the process has been sent a signal
    "gone",  # the process has ended
)

# States of a task.
QUEUED, SENT, ENDED = (
    "queued",  # in the backlog
    "sent",  # at a worker, in front of which only a permit stands
    "ended",  # its sink has heard of every element
)

# What to do about a cancelled task where it has started.
LEAVE_IT, LET_END, KILL_IT = (
    1,  # it goes on as if nobody had asked
    2,  # it may end, but is not tried again
    3,
)


class Sink(Protocol):
    """Where the results of tasks go; called by whichever thread runs a turn, never under the master's lock."""

    def accept(self, task: Task, index: int, values: list[Any], pid: int | None, size: int) -> None:
        """Elements from *index* on have returned these *values*, *size* bytes of pickle, in worker *pid*."""

    def refuse(self, task: Task, index: int, error: BaseException, pid: int | None) -> None:
        """Element *index* has raised *error*, in worker *pid*."""

    def hear(self, task: Task, index: int, attempt: int, out: str, err: str) -> None:
        """Element *index* has written this in its *attempt*; it has not ended yet, as far as the sink knows."""

    def fail(self, task: Task, index: int, count: int, error: BaseException) -> None:
        """Elements *index* … *index + count - 1* end with *error*, which none of them has raised."""

    def abort(self, error: BaseException) -> None:
        """Everything that has not ended ends with *error*."""


class Terms:
    """What the tasks of one map have in common, or calls of one function: never changed, so that they can share it."""

    __slots__ = ("backoff", "function", "guarded", "name", "priority", "retries", "style", "timeout")

    def __init__(
        self,
        function: int,
        name: str,
        style: int = CALL,
        *,
        guarded: bool = True,
        timeout: int | None = None,
        retries: int = 0,
        priority: int = 0,
        backoff: int = 0,
    ) -> None:
        self.function = function  # its key
        self.name = name  # for messages
        self.style = style
        self.guarded = guarded  # each element needs a permit, and is committed alone
        self.timeout = timeout  # nanoseconds for each element
        self.retries = retries
        self.priority = priority
        self.backoff = backoff  # nanoseconds before a task is tried again; twice as long each further time

    def within(self, timeout: int | None) -> Terms:
        """The same with another time-out."""
        return Terms(
            self.function, self.name, self.style, guarded=self.guarded,
            timeout=timeout, retries=self.retries, priority=self.priority, backoff=self.backoff,
        )  # fmt: skip  # the constructor's own grouping


class Task:
    """One call, or a run of consecutive elements of one map.

    ``payload`` (bytes, or a parcel where something is large) is pickled and shared by what a task is split into; ``first`` and ``count`` say which of its elements
    are this task's, ``base`` is the payload's first element in the sink's numbering.
    """

    __slots__ = (
        "attempts", "base", "cancelled", "count", "done", "first", "payload", "seat", "sink", "state", "terms", "turn",
    )  # fmt: skip  # one line a letter would be twelve lines of names

    def __init__(
        self, sink: Sink, terms: Terms, payload: Any, base: int = 0, first: int = 0, count: int = 1, attempts: int = 0
    ) -> None:
        self.sink = sink
        self.terms = terms
        self.payload = payload
        self.base = base
        self.first = first
        self.count = count
        self.turn = 0  # where the order in which tasks came matters: see `backlog.Backlog`
        self.attempts = attempts  # that have failed so far
        self.done = 0  # elements whose result has arrived
        self.cancelled = 0  # or LEAVE_IT, LET_END, KILL_IT: what to do about it where it has started
        self.state = QUEUED
        self.seat: Seat | None = None  # the worker it was sent to

    def part(self, first: int, count: int, attempts: int = 0) -> Task:
        """A new queued task for *count* of its elements, from *first* of the payload on."""
        return Task(self.sink, self.terms, self.payload, self.base, first, count, attempts)

    def index(self) -> int:
        """The sink's number of the first element whose result has not arrived."""
        return self.base + self.first + self.done

    def describe(self, index: int) -> str:
        """One element in words, for messages."""
        terms = self.terms
        return f"task {terms.name}" if terms.style == CALL else f"task {terms.name}[{index}]"

    def describe_one_of(self, index: int, count: int) -> str:
        """One of *count* elements from *index* on, it is not known which."""
        name = self.describe(index)
        return name if count == 1 else f"one of {name} to {self.terms.name}[{index + count - 1}]"

    def units(self) -> int:
        """How many permits its remaining elements need."""
        return self.count - self.done if self.terms.guarded else 1


class Worker:
    """A worker process in the state machine's books, with a seat for each of its threads."""

    __slots__ = ("assigned", "doomed", "functions", "idle_since", "key", "leaving", "pid", "seats")

    def __init__(self, key: int, threads: int = 1) -> None:
        self.key = key
        self.pid: int | None = None
        self.seats = [Seat(self, key * threads + lane) for lane in range(threads)]
        self.functions: set[int] = set()  # it has been sent
        self.assigned = 0  # tasks it was given, for maxtasksperchild
        self.leaving = False  # it is sent nothing more, and told to stop when it has nothing left
        self.idle_since = 0  # when it last had something to do
        self.doomed: int | None = None  # something there is to be killed, by then at the latest; it is sent nothing

    @property
    def state(self) -> str:
        """`STARTING`, `STOPPING`, `KILLED` or `GONE`, which are of all its seats alike; else that of the first."""
        return self.seats[0].state

    def is_idle(self) -> bool:
        """Whether nothing is to be done on any seat, and nothing to be heard from any."""
        return all(seat.state == IDLE for seat in self.seats)

    def busy(self) -> int:
        """How many of its seats have something to do."""
        return sum(1 for seat in self.seats if seat.load)

    def spare(self) -> float:
        """How much of what its threads may compute is not taken by what they have to do; a little more, for rounding."""
        return 1 + 1e-6 - sum(seat.weight for seat in self.seats if seat.load)


class Seat:
    """One thread of a worker in the state machine's books: it runs one element at a time, in the order it was sent them."""

    __slots__ = (
        "changed", "condemned", "finished", "heard", "hides", "key", "load", "looking", "overdue", "recalling", "recalls",
        "sent", "since", "state", "weight", "worker",
    )  # fmt: skip  # one line a letter would be sixteen lines of names

    def __init__(self, worker: Worker, key: int) -> None:
        self.worker = worker
        self.key = key
        self.state = STARTING
        self.sent: deque[Task] = deque()  # in the order it runs them
        self.load = 0  # elements in `sent` without a result
        self.weight = 0.0  # while there are any: how much of what its worker may compute they take
        self.finished = 0  # elements it has given results for, ever: what STARTED in its journal compares with
        self.changed = 0  # when its first task last changed, as far as we know
        self.heard = 0  # when it last reported a result, or was sent something after it had nothing
        self.since: int | None = None  # when the running element started, if we have looked
        self.hides = False  # may have results that it has not sent, which a long element would keep from us
        self.recalls = False  # a recall was tried since its last batch
        self.recalling = False  # what was asked for is not known yet: until then it is sent nothing
        self.looking = False  # a look was asked for, and what it saw is not known yet
        self.condemned = False  # to be killed if the next look finds the same reason: until then it is sent nothing
        self.overdue = False  # its worker was killed for the time-out of what it ran

    def waiting(self) -> bool:
        """Whether it holds elements that could not have started yet, and could be taken back."""
        head = self.sent[0]
        return len(self.sent) > 1 or (head.terms.guarded and head.count - head.done > 1)

    def running(self, started: int) -> tuple[Task | None, int]:
        """The element that was the newest when the worker had started so many: its task, and its number for the sink.

        None when it is not known any more, or was no task's (the initializer, or something between two tasks).
        """
        ahead = started - self.finished - 1  # unfinished ones in front of it
        if ahead >= 0:
            for task in self.sent:
                left = task.count - task.done
                if ahead < left:
                    return task, task.index() + ahead
                ahead -= left
        return None, 0

    def is_secured(self) -> bool:
        """Whether nothing can start there but what may have taken its permit already: at most one element or block.

        So it is after a recall, until something is sent again.
        """
        return self.recalls and not self.recalling

    def forget_look(self, now: int) -> None:
        """What runs there has changed at *now*; what a look into the journal told is past."""
        self.changed = now
        self.since = None
