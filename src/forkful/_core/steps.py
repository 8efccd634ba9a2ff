"""What the state machine takes and gives: events that have happened, instructions to carry out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import NO_EVIDENCE, Evidence
from .books import Task


class Step:
    """Base of both: compared and shown by its attributes; nobody changes one.

    Not a ``NamedTuple``: to define one takes a tenth of a millisecond, and all of these are defined at import.
    """

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name in self.__slots__)))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({values})"


# Events.


class Submitted(Step):
    """Tasks to run, in this order."""

    __slots__ = ("tasks",)

    def __init__(self, tasks: list[Task]) -> None:
        self.tasks = tasks


class Ready(Step):
    """A worker's initializer has run."""

    __slots__ = ("pid", "worker")

    def __init__(self, worker: int, pid: int | None) -> None:
        self.worker = worker
        self.pid = pid


class Refused(Step):
    """A worker's initializer failed."""

    __slots__ = ("error", "worker")

    def __init__(self, worker: int, error: BaseException) -> None:
        self.worker = worker
        self.error = error


class Unstarted(Step):
    """The system has no process for a worker now, *error* says what is missing; that was all of this worker."""

    __slots__ = ("error", "worker")

    def __init__(self, worker: int, error: BaseException) -> None:
        self.worker = worker
        self.error = error


class Finished(Step):
    """Records of results, in the order the elements were sent.

    *ns* of work for *elements* since the last report, *cpu* of that spent computing where it was measured; *memory*
    bytes held by the worker, 0 when that is not known.
    """

    __slots__ = ("cpu", "elements", "memory", "ns", "records", "seat")

    def __init__(
        self, seat: int, records: list[tuple[int, int, Any]], elements: int, ns: int, cpu: int = 0, memory: int = 0
    ) -> None:
        self.seat = seat
        self.records = records
        self.elements = elements
        self.ns = ns
        self.cpu = cpu
        self.memory = memory


class Noted(Step):
    """A worker has told something, of kind *what*, beside its results, having started *started* elements."""

    __slots__ = ("content", "pid", "seat", "started", "what")

    def __init__(self, seat: int, started: int, what: int, content: Any, pid: int | None) -> None:
        self.seat = seat
        self.started = started
        self.what = what
        self.content = content
        self.pid = pid


class Dropped(Step):
    """A worker has confirmed a recall."""

    __slots__ = ("seat",)

    def __init__(self, seat: int) -> None:
        self.seat = seat


class Seen(Step):
    """A look into a worker's journal: *started* elements, the newest at *since*; after records it held (`Finished`)."""

    __slots__ = ("seat", "since", "started")

    def __init__(self, seat: int, started: int, since: int) -> None:
        self.seat = seat
        self.started = started
        self.since = since


class Taken(Step):
    """*units* permits were taken back from a worker."""

    __slots__ = ("seat", "units")

    def __init__(self, seat: int, units: int) -> None:
        self.seat = seat
        self.units = units


class Exited(Step):
    """A worker's process has ended; all it had committed was reported before.

    *started*: how many elements each of its seats has started, ever.  *evidence*: what it left, and what the system says of
    its end.  *crashed*: the number of the thread that crashed, among its seats, where that is known.
    """

    __slots__ = ("crashed", "evidence", "exitcode", "pid", "started", "worker")

    def __init__(
        self,
        worker: int,
        exitcode: int | None,
        started: Sequence[int],
        pid: int | None,
        evidence: Evidence = NO_EVIDENCE,
        crashed: int | None = None,
    ) -> None:
        self.worker = worker
        self.exitcode = exitcode
        self.started = started
        self.pid = pid
        self.evidence = evidence
        self.crashed = crashed


class Cancel(Step):
    """Give up on tasks that have not started.

    With *kill*, on running ones too; with *last*, those that run may end, but are not tried again.
    """

    __slots__ = ("kill", "last", "tasks")

    def __init__(self, tasks: list[Task], kill: bool, *, last: bool = False) -> None:
        self.tasks = tasks
        self.kill = kill
        self.last = last


class Hire(Step):
    """Start workers now, until there are so many."""

    __slots__ = ("workers",)

    def __init__(self, workers: int) -> None:
        self.workers = workers


class Resize(Step):
    """From now on there are at least and at most so many workers; those beyond the least may be *idle* for so long."""

    __slots__ = ("idle", "least", "most")

    def __init__(self, least: int, most: int, idle: int | None = None) -> None:
        self.least = least
        self.most = most
        self.idle = idle


class Close(Step):
    """No more tasks will come; workers leave when all are done."""

    __slots__ = ()


class Terminate(Step):
    """Give up on everything and end the workers at once."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Tick(Step):
    """Nothing but that time has passed."""

    __slots__ = ()


Event = (
    Submitted
    | Ready
    | Refused
    | Unstarted
    | Finished
    | Noted
    | Dropped
    | Seen
    | Taken
    | Exited
    | Cancel
    | Hire
    | Resize
    | Close
    | Terminate
    | Tick
)


# Instructions.


class Start(Step):
    """Start this worker's process."""

    __slots__ = ("worker",)

    def __init__(self, worker: int) -> None:
        self.worker = worker


class Send(Step):
    """Send these tasks, after the functions among them that the worker does not know."""

    __slots__ = ("functions", "seat", "tasks", "units")

    def __init__(self, seat: int, tasks: list[Task], functions: list[int], units: int) -> None:
        self.seat = seat
        self.tasks = tasks
        self.functions = functions
        self.units = units


class Look(Step):
    """Read the worker's journal: report complete records (`Finished`), then `Seen`."""

    __slots__ = ("seat",)

    def __init__(self, seat: int) -> None:
        self.seat = seat


class Recall(Step):
    """Take back up to *most* permits; report `Taken`.  When any were there, send the worker RECALL."""

    __slots__ = ("most", "seat")

    def __init__(self, seat: int, most: int) -> None:
        self.seat = seat
        self.most = most


class Stop(Step):
    """Tell the worker to leave when it has done what it was sent."""

    __slots__ = ("worker",)

    def __init__(self, worker: int) -> None:
        self.worker = worker


class Kill(Step):
    """Send the worker SIGTERM (*gently*) or SIGKILL."""

    __slots__ = ("gently", "worker")

    def __init__(self, worker: int, gently: bool) -> None:
        self.worker = worker
        self.gently = gently


class Trace(Step):
    """Have the worker write down where it is, and end.  `Kill` follows should it not."""

    __slots__ = ("worker",)

    def __init__(self, worker: int) -> None:
        self.worker = worker


class Deliver(Step):
    """Hand records to sinks: (task, index, elements, kind, blob, pid)."""

    __slots__ = ("items",)

    def __init__(self, items: list[tuple[Task, int, int, int, Any, int | None]]) -> None:
        self.items = items


class Fail(Step):
    """Hand errors to sinks: (task, index, elements, error)."""

    __slots__ = ("items",)

    def __init__(self, items: list[tuple[Task, int, int, BaseException]]) -> None:
        self.items = items


class Tell(Step):
    """Hand over what was noted: (task that was running, or None; which element and attempt of it; kind; content; pid)."""

    __slots__ = ("items",)

    def __init__(self, items: list[tuple[Task | None, tuple[int, int], int, Any, int | None]]) -> None:
        self.items = items


Instruction = Start | Send | Look | Recall | Stop | Kill | Trace | Deliver | Fail | Tell
