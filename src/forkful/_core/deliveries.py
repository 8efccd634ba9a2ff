"""What has ended, and what was noted, on its way to those who wait: rebuilt and handed over in order.

Done by whichever thread has reason to, without the master's lock: rebuilding results, and handling logs, is user code,
which may call the pool.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from . import logbook, output
from .books import Task
from .codec import is_interrupt, loads
from .messages import LOG, VALUE, VALUES
from .records import rebuild, refuse_value

Delivery = (
    tuple[Task, int, int, int, Any, int | None]
    | tuple[Task | None, tuple[int, int], int, Any, int | None]
    | tuple[Task, int, int, BaseException]
)
_CROWD = 1000  # notes and results that may wait for the thread which is handing over a note


class Deliveries:
    """What is to be handed over for one pool.

    Args:
        give_up: called with what user code has raised that could not be made somebody's error.
        nudge: called when there is something left, for whoever can go on.
    """

    def __init__(self, give_up: Callable[[BaseException], object], nudge: Callable[[], object]) -> None:
        self.waiting: deque[Delivery] = deque()
        self.threads: list[int] = []  # that take from there, and are not done
        self._telling: int | None = None  # the thread that is handing over a note: what follows waits for it
        self._give_up = give_up
        self._nudge = nudge

    def is_here(self) -> bool:
        """Whether the caller is user code that runs as something is handed over."""
        return threading.get_ident() in self.threads

    def is_elsewhere(self) -> bool:
        """Whether something waits, or is in the hands of another thread."""
        us = threading.get_ident()
        return bool(self.waiting) or any(thread != us for thread in self.threads)

    def hand_over(self) -> None:
        """Hand over what there is.

        What user code raises is the element's error, but for what `is_interrupt` says came from outside, such as
        Ctrl-C: then the element is put back for whoever waits next, and the pool goes on.
        """
        if self.waiting:
            us = threading.get_ident()
            self.threads.append(us)
            try:
                self._hand_over_all(us)
            finally:
                self.threads.remove(us)  # and not the last: another thread may have come since

    def _hand_over_all(self, us: int) -> None:
        waiting = self.waiting
        delivery: Delivery | None = None  # what is in hand, as long as it could be put back
        try:
            while waiting:
                if self._telling is not None and self._telling != us and len(waiting) < _CROWD:
                    return  # the other thread goes on with these, in order
                try:
                    delivery = waiting.popleft()
                except IndexError:  # another thread was quicker
                    return
                if len(delivery) == 4:
                    task, index, count, error = delivery
                    delivery = None
                    task.sink.fail(task, index, count, error)
                    continue
                if len(delivery) == 5:
                    self._tell(us, *delivery)
                    delivery = None
                    continue
                task, index, count, kind, blob, pid = delivery
                if kind == VALUE:  # the usual case, spared two calls and two lists
                    try:
                        value = loads(blob)
                    except BaseException as error:  # whatever the user's code raises, see `rebuild`
                        refusal = refuse_value(task, index, pid, error)
                        delivery = None
                        task.sink.refuse(task, index, refusal, pid)
                    else:
                        delivery = None
                        task.sink.accept(task, index, [value], pid, len(blob))
                    continue
                parts = rebuild(task, index, count, kind, blob, pid)
                delivery = None
                size = len(blob) if kind != VALUES else max(map(len, blob))
                for at, ok, what in parts:
                    if ok:
                        task.sink.accept(task, at, what, pid, size)
                    else:
                        task.sink.refuse(task, at, what, pid)
        except BaseException as interruption:
            if delivery is None or not is_interrupt(interruption):
                self._give_up(interruption)
            else:
                if len(delivery) != 5:  # a note is never handed over twice
                    waiting.appendleft(delivery)
                self._nudge()  # another thread may have left to us what is there
            raise

    def _tell(
        self, us: int, task: Task | None, place: tuple[int, int], what: int, content: Any, pid: int | None
    ) -> None:
        """Hand over what a worker has noted."""
        index, attempt = place
        outer, self._telling = self._telling, us
        try:
            if what == LOG:
                logbook.handle(content, "" if task is None else task.describe(index), pid)
            elif task is not None:
                task.sink.hear(task, index, attempt, *output.unpack(content))
        finally:
            self._telling = outer
