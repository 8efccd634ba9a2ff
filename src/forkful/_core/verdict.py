"""Which error an element ends with when its worker has ended, or it was cancelled.  Pure."""

from __future__ import annotations

from ..errors import InitializerError, TaskCancelled, TaskTimeout, WorkerDied, advise_start, describe_exit
from .books import Seat, Task
from .steps import Exited


def explain_death(seat: Seat, head: Task, event: Exited) -> tuple[BaseException, bool]:
    """The error of the element that ran when *seat*'s worker ended, *head*'s next; and whether it is beyond retrying."""
    if head.cancelled:  # also when it ended by itself just before it was killed: nobody wants it to be tried again
        return explain_cancelling(head), True
    name = head.describe(head.index())
    if not seat.overdue:
        return WorkerDied.during(name, event.pid, event.exitcode, evidence=event.evidence), False
    seconds = (head.timeout or 0) / 1e9
    message = f"{name} ran longer than timeout={seconds:g} s; its worker (pid {event.pid}) was killed"
    evidence = event.evidence
    message += evidence.before("give it more time or make it shorter")
    facts = {"memory": evidence.memory, "dump": evidence.dump}
    return TaskTimeout(message, task=name, pid=event.pid, seconds=seconds, **facts), False


def explain_cancelling(task: Task) -> TaskCancelled:
    """The error of a task that ``cancel()`` reached."""
    name = task.describe(task.index())
    return TaskCancelled(f"{name} was cancelled by cancel()", task=name, pid=task.seat.pid if task.seat else None)


def explain_failed_start(event: Exited) -> InitializerError:
    """The error of everybody when workers keep ending before they are ready."""
    if event.pid is None:
        return InitializerError(
            f"no worker could be started: the process that forks them {describe_exit(event.exitcode)} before it could; "
            f"what it wrote to standard error says why"
        )
    evidence = event.evidence
    return InitializerError(
        f"no worker could be started: the last one (pid {event.pid}) {describe_exit(event.exitcode, evidence)} before "
        f"it was ready{evidence.before(advise_start(event.exitcode, evidence))}",
        pid=event.pid,
        exitcode=event.exitcode,
        **evidence.facts(),
    )
