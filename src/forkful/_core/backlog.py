"""The tasks that wait for a worker: the highest priority first and, among equals, first come, first served.  Pure."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Iterable, Iterator

from .books import QUEUED, Task

_NONE: frozenset[int] = frozenset()
_KEPT = 64  # queues, empty ones included


class Backlog:
    """A queue for each priority; or, where functions differ in where they may run, for each function of each priority.

    Nearly every pool has one queue, so what is done for each task is done on the queue itself: see `front`.
    """

    def __init__(self, *, by_function: bool = False) -> None:
        self._by_function = by_function
        self._queues: dict[tuple[int, int], deque[Task]] = {}  # by (minus priority, function or 0)
        self._order: list[tuple[int, int]] = []  # the keys of those, the highest priority first
        self._only: deque[Task] | None = deque()  # the queue as long as there is one; None when there are more
        self._delayed: list[tuple[int, int, Task]] = []  # a heap: when it may run, in which order it came
        self._turns = 0  # that were given: among queues of one priority, the task that came first is next

    def _queue(self, task: Task) -> deque[Task]:
        key = -task.terms.priority, task.terms.function if self._by_function else 0
        queue = self._queues.get(key)
        if queue is None:
            if len(self._queues) > _KEPT:
                self._queues = {key: one for key, one in self._queues.items() if one}
            first = not self._queues and self._only is not None
            queue = self._queues[key] = self._only if first and self._only is not None else deque()
            self._only = queue if first else None
            self._order = sorted(self._queues)
        return queue

    def front(self, blocked: Collection[int] = _NONE) -> deque[Task]:
        """The queue that the next task is taken from; empty when there is none.  Valid until something is put in.

        *blocked*: functions that cannot be run now; those of other functions go before them.
        """
        if self._only is not None and not blocked:
            return self._only
        found: deque[Task] = deque()
        level = 0
        for key in self._order:
            queue = self._queues[key]
            if not queue or key[1] in blocked:
                continue
            if found and key[0] != level:
                break
            if not found or queue[0].turn < found[0].turn:
                found, level = queue, key[0]
        return found

    def extend(self, tasks: Iterable[Task]) -> None:
        """*tasks* come, each behind those of its priority."""
        queue: deque[Task] | None = None
        key: tuple[int, int] | None = None  # of the task before
        for task in tasks:
            function = 0
            if self._by_function:
                function = task.terms.function
                self._turns += 1
                task.turn = self._turns
            if queue is None or key != (task.terms.priority, function):
                queue, key = self._queue(task), (task.terms.priority, function)
            queue.append(task)

    def put_back(self, task: Task) -> None:
        """*task* was here before: it goes in front of those of its priority."""
        self._queue(task).appendleft(task)

    def delay(self, task: Task, until: int) -> None:
        """*task* was here before, and is to wait until then; `release` puts it in front of those of its priority."""
        self._turns += 1
        heapq.heappush(self._delayed, (until, self._turns, task))

    def release(self, now: int) -> None:
        """Queue those whose time has come."""
        while self._delayed and self._delayed[0][0] <= now:
            task = heapq.heappop(self._delayed)[2]
            if task.state == QUEUED:
                self.put_back(task)

    def next_release(self) -> int | None:
        """When the next of those that wait for their time may run; None if none does."""
        while self._delayed and self._delayed[0][2].state != QUEUED:  # cancelled
            heapq.heappop(self._delayed)
        return self._delayed[0][0] if self._delayed else None

    def take_all(self) -> list[Task]:
        """All tasks, which are then here no more."""
        tasks = list(self)
        self._delayed.clear()
        for queue in self._queues.values():
            queue.clear()
        return tasks

    def count_before(self, priority: int) -> int:
        """How many would go before a task of *priority* that came now."""
        return sum(len(self._queues[key]) for key in self._order if key[0] <= -priority)

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __bool__(self) -> bool:
        return bool(self._only) if self._only is not None else any(self._queues.values())

    def __iter__(self) -> Iterator[Task]:
        for key in self._order:
            yield from self._queues[key]
        for _, _, task in list(self._delayed):
            yield task
