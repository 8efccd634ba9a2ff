"""A state machine on the bench: a clock that moves when told, tasks to give it, and sinks that keep what they hear."""

from __future__ import annotations

from collections import Counter
from typing import Any

from forkful._core.books import Seat, Task, Terms
from forkful._core.limits import Limits
from forkful._core.messages import CALL, EACH, ERROR, VALUE, VALUES
from forkful._core.state import State
from forkful._core.steps import Deliver, Event, Exited, Fail, Finished, Instruction, Ready, Send, Submitted
from forkful.errors import NO_EVIDENCE, Evidence

MS = 1_000_000
PID = 1000  # of the worker at seat 0; the others follow

Heard = tuple[int, int, Any] | BaseException


class Results:
    """A sink: what each element ended with, a second ending being an error of the test's."""

    def __init__(self) -> None:
        self.heard: dict[int, Heard] = {}
        self.counted: Counter[str] = Counter()
        self.aborted: BaseException | None = None

    def record(self, index: int, count: int, kind: int, blob: Any) -> None:
        """Keep a record, whole, for each of its elements."""
        for position in range(index, index + count):
            self._put(position, (count, kind, blob))

    def accept(self, task: Task, index: int, values: list[Any], pid: int | None, size: int) -> None:
        """Values are not rebuilt here: see `record`."""
        raise NotImplementedError

    def refuse(self, task: Task, index: int, error: BaseException, pid: int | None) -> None:
        """Nor are errors."""
        raise NotImplementedError

    def hear(self, task: Task, index: int, attempt: int, out: str, err: str) -> None:
        """Nobody prints here."""
        raise NotImplementedError

    def fail(self, task: Task, index: int, count: int, error: BaseException) -> None:
        """Keep the error of each element."""
        for position in range(index, index + count):
            self._put(position, error)

    def abort(self, error: BaseException) -> None:
        """Keep what ended everything; the state machine never calls this."""
        assert self.aborted is None
        self.aborted = error

    def _put(self, position: int, what: Heard) -> None:
        assert position not in self.heard, f"element {position} ended twice: {self.heard[position]}, then {what}"
        self.heard[position] = what
        self.counted[type(what).__name__ if isinstance(what, BaseException) else "record"] += 1

    def errors(self) -> dict[int, str]:
        """The class of each error, by element."""
        return {at: type(what).__name__ for at, what in self.heard.items() if isinstance(what, BaseException)}


def call(name: str = "f", *, function: int = 1, timeout: int | None = None, retries: int = 0, backoff: int = 0) -> Task:
    """One call, with a sink of its own."""
    return Task(Results(), Terms(function, name, CALL, timeout=timeout, retries=retries, backoff=backoff), b"")


def block(
    count: int,
    *,
    base: int = 0,
    guarded: bool = True,
    function: int = 1,
    timeout: int | None = None,
    retries: int = 0,
    sink: Results | None = None,
) -> Task:
    """*count* elements of a map, numbered from *base*."""
    terms = Terms(function, "f", EACH, guarded=guarded, timeout=timeout, retries=retries)
    return Task(sink or Results(), terms, b"", base, count=count)


def results(task: Task) -> Results:
    """The sink of a task made here."""
    assert isinstance(task.sink, Results)
    return task.sink


def outcome(task: Task) -> Heard | None:
    """What a single call has ended with; None while it has not."""
    return results(task).heard.get(0)


def error_of(task: Task) -> BaseException:
    """The error a single call has ended with."""
    error = outcome(task)
    assert isinstance(error, BaseException)
    return error


class Bench:
    """A `State`, its clock, and what it said last."""

    def __init__(self, processes: int = 1, tasks_per_child: int | None = None, grace: int = 500 * MS) -> None:
        self.state = State(Limits(processes, tasks_per_child, grace=grace))
        self.now = 0

    def __call__(self, *events: Event, after: int = 0) -> list[Instruction]:
        """Let *after* nanoseconds pass, then handle *events*; what is for sinks goes there, the rest is returned."""
        self.now += after
        orders: list[Instruction] = []
        for order in self.state.handle(events, self.now):
            if isinstance(order, Deliver):
                for task, index, count, kind, blob, _ in order.items:
                    for at, one in enumerate(blob if kind == VALUES else [blob], index):
                        results(task).record(at, count, VALUE if kind == VALUES else kind, one)
            elif isinstance(order, Fail):
                for task, index, count, error in order.items:
                    task.sink.fail(task, index, count, error)
            else:
                orders.append(order)
        return orders

    def submit(self, *tasks: Task) -> list[Instruction]:
        """Give it tasks."""
        return self(Submitted(list(tasks)))

    def man(self, *workers: int) -> list[Instruction]:
        """The *workers* asked for are ready."""
        return self(*(Ready(worker, PID + worker) for worker in workers))

    def run(self, *tasks: Task) -> list[Instruction]:
        """Give it tasks, and the workers it asks for."""
        self.submit(*tasks)
        return self.man(*(key for key, worker in self.state.workers.items() if worker.state == "starting"))

    def finish(self, seat: int, *counts: int, kind: int = VALUE, ns: int = 0, elements: int = 0) -> list[Instruction]:
        """The worker at *seat* reports a record for each of *counts*."""
        return self(Finished(seat, [(count, kind, b"") for count in counts or (1,)], elements, ns))

    def fail(self, seat: int) -> list[Instruction]:
        """The next element at *seat* raised."""
        return self.finish(seat, kind=ERROR)

    def exit(
        self, seat: int, exitcode: int | None = -9, *, started: int = 0, evidence: Evidence = NO_EVIDENCE
    ) -> list[Instruction]:
        """The worker at *seat* has ended, *started* elements after its start."""
        return self(Exited(seat, exitcode, (started,), PID + seat, evidence))

    def learn(self, ns: int, function: int = 1) -> None:
        """An element of *function* is known to take *ns*."""
        self.state.pace.learn(function, 1, ns)

    def seat(self, key: int = 0) -> Seat:
        """What the books say of one worker."""
        return self.state.seats[key]

    def seats(self, state: str) -> list[int]:
        """The workers in *state*."""
        return [key for key, seat in self.state.seats.items() if seat.state == state]


def sent(orders: list[Instruction]) -> dict[int, list[Task]]:
    """The tasks that *orders* send, by worker."""
    return {order.seat: order.tasks for order in orders if isinstance(order, Send)}
