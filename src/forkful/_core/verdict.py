"""Which error an element ends with when its worker has ended, or it was cancelled.  Pure."""

from __future__ import annotations

from ..errors import InitializerError, TaskCancelled, TaskTimeout, WorkerDied, advise_start, describe_exit
from .books import LET_END, Seat, Task
from .steps import Exited

Company = tuple[str, str]  # the task that brought the others down with it, or ""; and what to say to those


def explain_company(ran: list[Seat], event: Exited) -> Company:
    """Of several elements that ran in one worker, on the seats *ran*, as it ended: what is known of the cause."""
    for seat in ran:
        head = seat.sent[0]
        name = head.describe(head.index())
        if head.cancelled and head.cancelled != LET_END:
            return name, f"because {name}, in another thread of it, was cancelled with kill=True"
        if seat.overdue:
            return name, f"because {name}, in another thread of it, ran longer than its timeout"
        if event.crashed is not None and seat is seat.worker.seats[event.crashed]:
            return name, f"because {name}, in another thread of it, crashed"
    return "", f"while {len(ran)} tasks ran in threads of it, which of them was the cause is not known"


def explain_death(seat: Seat, head: Task, event: Exited, company: Company | None) -> tuple[BaseException, bool]:
    """The error of the element that ran when *seat*'s worker ended, *head*'s next; and whether it is beyond retrying.

    *company*: of the others that ran there; None if it was alone.
    """
    wanted = not head.cancelled or (head.cancelled == LET_END and head.attempts >= head.terms.retries)
    if not wanted:  # also when it ended by itself just before it was killed: nobody wants it to be tried again
        return explain_cancelling(head), True
    name = head.describe(head.index())
    if not seat.overdue:
        cause, because = company or ("", "")
        if cause == name and event.crashed is not None and seat is seat.worker.seats[event.crashed]:
            cause = because = ""
        return WorkerDied.during(name, event.pid, event.exitcode, because, cause, event.evidence), False
    seconds = (head.terms.timeout or 0) / 1e9
    message = f"{name} ran longer than timeout={seconds:g} s; its worker (pid {event.pid}) was killed"
    evidence = event.evidence
    message += evidence.before("give it more time or make it shorter")
    facts = {"memory": evidence.memory, "dump": evidence.dump}
    return TaskTimeout(message, task=name, pid=event.pid, seconds=seconds, **facts), False


def explain_cancelling(task: Task) -> TaskCancelled:
    """The error of a task that ``cancel()`` reached."""
    name = task.describe(task.index())
    return TaskCancelled(
        f"{name} was cancelled by cancel()", task=name, pid=task.seat.worker.pid if task.seat else None
    )


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
