"""Every move between the states of a worker's seat and of a task: (state, what happens) -> state.  Pure.

Nothing changes a state except through these tables.  ``make docs`` draws them for the documentation.
"""

from __future__ import annotations

from .books import BUSY, ENDED, GONE, IDLE, KILLED, QUEUED, RECALLED, SENT, STARTING, STOPPING, Seat, Task, Worker

_LIVE = (STARTING, IDLE, BUSY, RECALLED, STOPPING, KILLED)

WORKER: dict[tuple[str, str], str] = {
    (STARTING, "ready"): IDLE,
    (STARTING, "refused"): STOPPING,
    (IDLE, "send"): BUSY,
    (BUSY, "send"): BUSY,
    (BUSY, "finish last"): IDLE,
    (BUSY, "recall"): RECALLED,
    (RECALLED, "dropped"): IDLE,
    (IDLE, "stop"): STOPPING,
    **{(state, "kill"): KILLED for state in _LIVE},
    **{(state, "exit"): GONE for state in _LIVE},
}

TASK: dict[tuple[str, str], str] = {
    (QUEUED, "send"): SENT,
    (SENT, "recall"): QUEUED,  # not started, and now it cannot be
    (SENT, "orphan"): QUEUED,  # not started, its worker died
    (SENT, "retry"): QUEUED,
    (SENT, "finish"): ENDED,
    (SENT, "fail"): ENDED,
    (QUEUED, "fail"): ENDED,
    (QUEUED, "cancel"): ENDED,
}

# For the two moves that each task makes, without a look into the table.
SENDING = TASK[QUEUED, "send"]
FINISHING = TASK[SENT, "finish"]


def move(seat: Seat, what: str) -> None:
    """Change a seat's state as the table says; anything else is a bug here, and raises ``KeyError``."""
    seat.state = WORKER[seat.state, what]


def move_all(worker: Worker, what: str) -> None:
    """What happens to a worker happens to all its seats."""
    for seat in worker.seats:
        seat.state = WORKER[seat.state, what]


def move_task(task: Task, what: str) -> None:
    """Change a task's state, likewise."""
    task.state = TASK[task.state, what]
