"""How tasks end, or go back to the queue: by an error, a cancel, the death of their worker.  Pure."""

from __future__ import annotations

from .backlog import Backlog
from .books import QUEUED, SENT, Seat, Task
from .moves import move_task
from .steps import Exited
from .verdict import Company, explain_cancelling, explain_death

_DOUBLED_MOST = 20  # times that a backoff is doubled: a second is twelve days by then


class Endings:
    """What is done about tasks that do not simply finish.

    Args:
        backlog: where those go that are to be run, or run once more.
        stats: counters, kept here for what fails, is retried or goes back.
    """

    def __init__(self, backlog: Backlog, stats: dict[str, int]) -> None:
        self._backlog = backlog
        self._stats = stats
        # For sinks: task, first element, how many, error.
        self.failures: list[tuple[Task, int, int, BaseException]] = []

    def retry_next(self, task: Task) -> Task | None:
        """The element that *task* is at, to be run once more, in front of all others; None if it was cancelled meanwhile."""
        self._stats["retried"] += 1
        if task.count == 1:
            task.attempts += 1
            return self.take_back(task, "retry")
        again = task.part(task.first + task.done, 1, task.attempts + 1)
        task.done += 1
        return again

    def fail_next(self, task: Task, error: BaseException, *, final: bool = False) -> Task | None:
        """The element that *task* is at, which was running, ends with *error*, or is to be tried again unless *final*."""
        if task.attempts < task.terms.retries and not final:
            return self.retry_next(task)
        self._stats["failed"] += 1
        self.failures.append((task, task.index(), 1, error))
        task.done += 1
        return None

    def fail_rest(self, task: Task, what: str, error: BaseException) -> None:
        """End *task*: its remaining elements get *error*."""
        left = task.count - task.done
        self._stats["failed"] += left
        if left:
            self.failures.append((task, task.index(), left, error))
        move_task(task, what)
        task.seat = None
        task.done = task.count

    def requeue(self, task: Task, what: str) -> None:
        """What remains of *task* goes back to the front of the queue."""
        back = self.take_back(task, what)
        if back is not None:
            self._backlog.put_back(back)

    def take_back(self, task: Task, what: str) -> Task | None:
        """What remains of *task*, to be queued; it is the same object, so that a handle holds.  None if it was cancelled."""
        task.first += task.done
        task.count -= task.done
        task.done = 0
        move_task(task, what)
        task.seat = None
        if task.cancelled:
            self.fail_rest(task, "cancel", explain_cancelling(task))
            return None
        return task

    def fail_waiting(self, error: BaseException) -> None:
        """Whatever waits ends with *error*."""
        for task in self._backlog.take_all():
            if task.state == QUEUED:
                self.fail_rest(task, "fail", error)

    def settle_dead(self, seat: Seat, started: int, event: Exited, company: Company | None, now: int) -> None:
        """One element was running and fails or is retried; what had not started goes back to the queue.

        Elements of an unguarded block that had run, but were not committed, are run again: see ``worker.py``.
        """
        head = seat.sent[0]
        lost = min(started - seat.finished, head.count - head.done)  # never more, whoever wrote to that memory
        again: Task | None = None
        retried: Task | None = None
        if lost > 0:
            if lost > 1 and not head.cancelled:
                again = head.part(head.first + head.done, lost - 1)
                head.done += lost - 1
            error, final = explain_death(seat, head, event, company)
            retried = self.fail_next(head, error, final=final)
            if head.state == QUEUED or head.done >= head.count:
                seat.sent.popleft()
                if head.state == SENT:
                    move_task(head, "fail")
                    head.seat = None
        while seat.sent:
            self._stats["requeued"] += 1
            self.requeue(seat.sent.pop(), "orphan")
        if retried is not None:
            self.try_again(retried, now)
        if again is not None:
            self._backlog.put_back(again)

    def try_again(self, task: Task, now: int) -> None:
        """Queue *task*, whose last attempt has failed just now, when its time comes."""
        backoff = task.terms.backoff
        if backoff:
            self._backlog.delay(task, now + (backoff << min(task.attempts - 1, _DOUBLED_MOST)))
        else:
            self._backlog.put_back(task)
