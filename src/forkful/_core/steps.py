"""What the state machine takes and gives: events that have happened, instructions to carry out."""

from __future__ import annotations

from typing import Any, NamedTuple

from .books import Task

# Events.


class Submitted(NamedTuple):
    """Tasks to run, in this order."""

    tasks: list[Task]


class Ready(NamedTuple):
    """A worker's initializer has run."""

    seat: int
    pid: int | None


class Refused(NamedTuple):
    """A worker's initializer failed."""

    seat: int
    error: BaseException


class Unstarted(NamedTuple):
    """The system has no process for a worker now, *error* says what is missing; that was all of this worker."""

    seat: int
    error: BaseException


class Finished(NamedTuple):
    """Records of results, in the order the elements were sent; *ns* of work for *elements* since the last report."""

    seat: int
    records: list[tuple[int, int, Any]]
    elements: int
    ns: int


class Dropped(NamedTuple):
    """A worker has confirmed a recall."""

    seat: int


class Seen(NamedTuple):
    """A look into a worker's journal: *started* elements, the newest at *since*; after records it held (`Finished`)."""

    seat: int
    started: int
    since: int


class Taken(NamedTuple):
    """*units* permits were taken back from a worker."""

    seat: int
    units: int


class Exited(NamedTuple):
    """A worker's process has ended, having started *started* elements; all it had committed was reported before."""

    seat: int
    exitcode: int | None
    started: int
    pid: int | None


class Cancel(NamedTuple):
    """Give up on tasks that have not started; with *kill*, on running ones too."""

    tasks: list[Task]
    kill: bool


class Resize(NamedTuple):
    """Start workers now, until there are so many."""

    workers: int


class Close(NamedTuple):
    """No more tasks will come; workers leave when all are done."""


class Terminate(NamedTuple):
    """Give up on everything and end the workers at once."""

    error: BaseException


class Tick(NamedTuple):
    """Nothing but that time has passed."""


Event = (
    Submitted
    | Ready
    | Refused
    | Unstarted
    | Finished
    | Dropped
    | Seen
    | Taken
    | Exited
    | Cancel
    | Resize
    | Close
    | Terminate
    | Tick
)


# Instructions.


class Start(NamedTuple):
    """Start a worker process for this seat."""

    seat: int


class Send(NamedTuple):
    """Send these tasks, after the functions among them that the worker does not know."""

    seat: int
    tasks: list[Task]
    functions: list[int]
    units: int


class Look(NamedTuple):
    """Read the worker's journal: report complete records (`Finished`), then `Seen`."""

    seat: int


class Recall(NamedTuple):
    """Take back up to *most* permits; report `Taken`.  When any were there, send the worker RECALL."""

    seat: int
    most: int


class Stop(NamedTuple):
    """Tell the worker to leave when it has done what it was sent."""

    seat: int


class Kill(NamedTuple):
    """Send the worker SIGTERM (*gently*) or SIGKILL."""

    seat: int
    gently: bool


class Deliver(NamedTuple):
    """Hand records to sinks: (task, index, elements, kind, blob, pid)."""

    items: list[tuple[Task, int, int, int, Any, int | None]]


class Fail(NamedTuple):
    """Hand errors to sinks: (task, index, elements, error)."""

    items: list[tuple[Task, int, int, BaseException]]


Instruction = Start | Send | Look | Recall | Stop | Kill | Deliver | Fail
