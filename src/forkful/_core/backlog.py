"""The tasks that wait for a worker: the highest priority first and, among equals, first come, first served.  Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from .books import Task


class Backlog:
    """A queue for each priority.

    Nearly every pool has one priority, so what is done for each task is done on the queue itself: see `front`.
    """

    def __init__(self) -> None:
        self._queues: dict[int, deque[Task]] = {}
        self._order: list[int] = []  # the priorities there have been, the highest first

    def _queue(self, priority: int) -> deque[Task]:
        queue = self._queues.get(priority)
        if queue is None:
            queue = self._queues[priority] = deque()
            self._order = sorted(self._queues, reverse=True)
        return queue

    def front(self) -> deque[Task]:
        """The queue that the next task is taken from; empty when there is none.  Valid until something is put in."""
        queue: deque[Task] = deque()
        for priority in self._order:
            queue = self._queues[priority]
            if queue:
                break
        return queue

    def extend(self, tasks: Iterable[Task]) -> None:
        """*tasks* come, each behind those of its priority."""
        for task in tasks:
            self._queue(task.priority).append(task)

    def put_back(self, task: Task) -> None:
        """*task* was here before: it goes in front of those of its priority."""
        self._queue(task.priority).appendleft(task)

    def take_all(self) -> list[Task]:
        """All tasks, which are then here no more."""
        tasks = list(self)
        for queue in self._queues.values():
            queue.clear()
        return tasks

    def count_before(self, priority: int) -> int:
        """How many would go before a task of *priority* that came now."""
        return sum(len(self._queues[level]) for level in self._order if level >= priority)

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __bool__(self) -> bool:
        return any(self._queues.values())

    def __iter__(self) -> Iterator[Task]:
        for priority in self._order:
            yield from self._queues[priority]
