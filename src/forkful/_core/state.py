"""What the pool decides: a state machine without I/O, clock or thread.

``handle(events, now)`` takes what has happened since the last call and returns what to do about it; the master executes
that and reports back in further events.  ``now`` and all times are nanoseconds of one monotonic clock.

Two tables below, `WORKER` and `TASK`, hold every move between states; nothing changes a state except through them.
``make docs`` draws them for the documentation.

The file is long because all of that is here: who looks for what may move a task or a worker has one place to look.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from .books import (
    BUSY,
    ENDED,
    GONE,
    IDLE,
    KILL_IT,
    KILLED,
    LEAVE_IT,
    QUEUED,
    RECALLED,
    SENT,
    STARTING,
    STOPPING,
    Seat,
    Task,
)
from .limits import Limits
from .messages import ERROR, VALUE, VALUES
from .schedule import STUCK_NS, Pace
from .starts import Starts
from .steps import (
    Cancel,
    Close,
    Deliver,
    Dropped,
    Event,
    Exited,
    Fail,
    Finished,
    Instruction,
    Kill,
    Look,
    Ready,
    Recall,
    Refused,
    Resize,
    Seen,
    Send,
    Start,
    Stop,
    Submitted,
    Taken,
    Terminate,
    Tick,
    Trace,
    Unstarted,
)
from .verdict import explain_cancelling, explain_death, explain_failed_start

_TRACE_NS = 20_000_000  # between the signal that has a worker tell where it is, and SIGKILL
_QUIET_NS = 200_000_000  # the least that a worker gets to start what has a time-out
_SILENT_NS = 1_000_000_000  # that a worker gets to answer a recall when nothing runs there

# The tables: (state, what happens) -> state.

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

_SENT = TASK[QUEUED, "send"]
_FINISHED = TASK[SENT, "finish"]


class State:
    """The books of one pool."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.backlog: deque[Task] = deque()
        self.seats: dict[int, Seat] = {}
        self.pace = Pace()
        self.closed = False
        self.stats = {"tasks": 0, "failed": 0, "retried": 0, "requeued": 0, "workers started": 0, "workers died": 0}
        self.due: int | None = None  # when `handle` wants a `Tick`, if nothing else happens
        self._terminated: BaseException | None = None
        self._kill_at: int | None = None
        self._next_key = 0
        self._wanted = 0  # workers asked for without a task: Resize
        self._starts = Starts()
        self._out: list[Instruction] = []
        self._deliveries: list[tuple[Task, int, int, int, Any, int | None]] = []
        self._failures: list[tuple[Task, int, int, BaseException]] = []
        self._now = 0
        self._handlers: dict[type, Callable[[Any], None]] = {
            Submitted: self._on_submitted,
            Ready: self._on_ready,
            Refused: self._on_refused,
            Unstarted: self._on_unstarted,
            Finished: self._on_finished,
            Dropped: self._on_dropped,
            Seen: self._on_seen,
            Taken: self._on_taken,
            Exited: self._on_exited,
            Cancel: self._on_cancel,
            Resize: self._on_resize,
            Close: self._on_close,
            Terminate: self._on_terminate,
            Tick: self._on_tick,
        }

    # What others may ask, also from another thread than the one in `handle`: each takes its own copy of the seats.

    def room(self, function: int) -> int:
        """How many more elements of *function* the workers could take now, those that could be started included."""
        window = self.pace.window(function)
        room = -len(self.backlog)
        for seat in list(self.seats.values()):
            if seat.state == STARTING:
                room += 1
            elif self._is_open(seat):
                room += max(0, window - seat.load)
        return max(0, room + self.limits.most - self._alive())

    def busy(self) -> bool:
        """Whether anything is under way that will report."""
        if self.backlog:
            return True
        for seat in list(self.seats.values()):  # noqa: SIM110  # a generator would cost more than the rest
            if seat.state != IDLE:
                return True
        return False

    # The one entry.

    def handle(self, events: Iterable[Event], now: int) -> list[Instruction]:
        """Digest *events* in order and say what to do."""
        self._now = now
        handlers = self._handlers
        for event in events:
            handlers[type(event)](event)
        self._dispatch()
        self._look_ahead()
        out, self._out = self._out, []
        if self._deliveries:
            out.append(Deliver(self._deliveries))
            self._deliveries = []
        if self._failures:
            out.append(Fail(self._failures))
            self._failures = []
        return out

    # Tasks.

    def _on_submitted(self, event: Submitted) -> None:
        for task in event.tasks:
            self.stats["tasks"] += task.count
        if self._terminated is not None:
            for task in event.tasks:
                self._fail_rest(task, "fail", self._terminated)
            return
        self.backlog.extend(event.tasks)

    def _on_finished(self, event: Finished) -> None:
        seat = self.seats[event.seat]
        sent = seat.sent
        deliveries = self._deliveries
        pid = seat.pid
        finished = 0
        task: Task | None = None
        run: tuple[Task, int, int, int, Any, int | None] | None = None  # of consecutive elements
        for count, kind, blob in event.records:
            if not sent:
                break  # terminated: the tasks were failed already
            task = sent[0]
            finished += count
            if kind == ERROR and task.attempts < task.retries and not task.cancelled:
                self._retry_next(task)
                if task.state == QUEUED:  # it was the only element and travels on as it is
                    sent.popleft()
                    continue
            elif kind == VALUE and task.count > 1:  # elements of a lazy map are handed over together
                index = task.base + task.first + task.done
                if run is not None and run[0] is task and run[1] + len(run[4]) == index:
                    run[4].append(blob)
                else:
                    run = (task, index, 1, VALUES, [blob], pid)
                    deliveries.append(run)
                task.done += 1
            else:
                deliveries.append((task, task.base + task.first + task.done, count, kind, blob, pid))
                task.done += count
            if task.done >= task.count:
                sent.popleft()
                task.state = _FINISHED
                task.seat = None
        seat.finished += finished
        seat.load -= finished
        if task is not None:
            self.pace.learn(task.function, event.elements, event.ns)
            seat.hides = seat.load > 1
        if not sent:
            seat.condemned = False
            if seat.state == BUSY:
                _move(seat, "finish last")
        seat.heard = self._now
        seat.forget_look(self._now)

    def _retry_next(self, task: Task) -> None:
        """Queue the element that *task* is at once more, in front of all others."""
        self.stats["retried"] += 1
        if task.count == 1:
            task.attempts += 1
            self._requeue(task, "retry")
        else:
            self.backlog.appendleft(task.part(task.first + task.done, 1, task.attempts + 1))
            task.done += 1

    def _fail_next(self, task: Task, error: BaseException, *, final: bool = False) -> None:
        """The element that *task* is at, which was running, ends with *error*, or is tried again unless *final*."""
        if task.attempts < task.retries and not final:
            self._retry_next(task)
            return
        self.stats["failed"] += 1
        self._failures.append((task, task.index(), 1, error))
        task.done += 1

    def _fail_rest(self, task: Task, what: str, error: BaseException) -> None:
        """End *task*: its remaining elements get *error*."""
        left = task.count - task.done
        self.stats["failed"] += left
        if left:
            self._failures.append((task, task.index(), left, error))
        task.state = TASK[task.state, what]
        task.seat = None
        task.done = task.count

    def _requeue(self, task: Task, what: str) -> None:
        """What remains of *task* goes back to the front of the queue; it is the same object, so that a handle holds."""
        task.first += task.done
        task.count -= task.done
        task.done = 0
        task.state = TASK[task.state, what]
        task.seat = None
        if task.cancelled:
            self._fail_rest(task, "cancel", explain_cancelling(task))
        else:
            self.backlog.appendleft(task)

    # Workers.

    def _on_ready(self, event: Ready) -> None:
        seat = self.seats[event.seat]
        seat.pid = event.pid
        self._starts.succeed()
        if seat.state == STARTING:
            _move(seat, "ready")

    def _on_refused(self, event: Refused) -> None:
        seat = self.seats[event.seat]
        if seat.state == STARTING:
            _move(seat, "refused")
        self._starts.refuse()
        self._fail_backlog(event.error)

    def _on_unstarted(self, event: Unstarted) -> None:
        """A passing want is borne as long as there is a worker; without one it is everybody's error."""
        _move(self.seats.pop(event.seat), "exit")
        self.stats["workers started"] -= 1
        if not self._has_workers():
            self._fail_backlog(event.error)
        else:
            self._starts.do_without(self._now)

    def _has_workers(self) -> bool:
        """Whether any worker can do work, or may come to it."""
        return any(seat.state not in (STOPPING, KILLED) for seat in self.seats.values())

    def _fail_backlog(self, error: BaseException) -> None:
        backlog, self.backlog = self.backlog, deque()
        for task in backlog:
            if task.state == QUEUED:
                self._fail_rest(task, "fail", error)

    def _on_dropped(self, event: Dropped) -> None:
        seat = self.seats[event.seat]
        if seat.state == RECALLED:
            _move(seat, "dropped")
            seat.condemned = False
            seat.kill_at = None

    def _on_exited(self, event: Exited) -> None:
        seat = self.seats.pop(event.seat)
        was = seat.state
        _move(seat, "exit")
        self._starts.make_room(self._now)
        if was not in (STOPPING, KILLED):
            self.stats["workers died"] += 1
        if (
            was == STARTING
            and self._terminated is None
            and self._starts.fail(event.exitcode, inside=event.started < 0, now=self._now)
        ):
            if self._has_workers():  # they do the work meanwhile
                self._starts.do_without(self._now)
            else:
                self._fail_backlog(explain_failed_start(event))
        if seat.sent:
            self._settle_tasks_of_dead(seat, event)

    def _settle_tasks_of_dead(self, seat: Seat, event: Exited) -> None:
        """One element was running and fails or is retried; what had not started goes back to the queue.

        Elements of an unguarded block that had run, but were not committed, are run again: see ``worker.py``.
        """
        head = seat.sent[0]
        lost = min(event.started - seat.finished, head.count - head.done)  # never more, whoever wrote to that memory
        again: Task | None = None
        if lost > 0:
            if lost > 1 and not head.cancelled:
                again = head.part(head.first + head.done, lost - 1)
                head.done += lost - 1
            error, final = explain_death(seat, head, event)
            before = len(self.backlog)
            self._fail_next(head, error, final=final)
            if head.state == QUEUED or head.done >= head.count:
                seat.sent.popleft()
                if head.state == SENT:
                    head.state = TASK[SENT, "fail"]
                    head.seat = None
            retried = self.backlog.popleft() if len(self.backlog) > before else None
        else:
            retried = None
        while seat.sent:
            self.stats["requeued"] += 1
            self._requeue(seat.sent.pop(), "orphan")
        for task in (retried, again):
            if task is not None:
                self.backlog.appendleft(task)

    def _on_resize(self, event: Resize) -> None:
        self._wanted = max(self._wanted, event.workers)

    def _on_close(self, event: Close) -> None:
        self.closed = True

    def _on_terminate(self, event: Terminate) -> None:
        if self._terminated is not None:
            return
        self._terminated = event.error
        self.closed = True
        self._fail_backlog(event.error)
        for seat in self.seats.values():
            for task in seat.sent:
                self._fail_rest(task, "fail", event.error)
            seat.sent.clear()
            seat.load = 0
            if not self.limits.finalizer or seat.state not in (IDLE, STOPPING):
                self._kill(seat, gently=True)
            elif seat.state == IDLE:
                self._stop(seat)
        self._kill_at = self._now + self.limits.grace

    def _kill(self, seat: Seat, *, gently: bool) -> None:
        _move(seat, "kill")
        if not gently:
            seat.kill_at = None
        self._out.append(Kill(seat.key, gently))

    def _trace(self, seat: Seat) -> None:
        """Kill a worker, with a moment for it to tell where it was; one that is stopped cannot."""
        _move(seat, "kill")
        seat.kill_at = self._now + _TRACE_NS
        self._out.append(Trace(seat.key))

    def _on_tick(self, event: Tick) -> None:
        if self._kill_at is not None and self._now >= self._kill_at:
            self._kill_at = None
            for seat in self.seats.values():
                self._kill(seat, gently=False)

    # Looking, recalling, cancelling.

    def _on_seen(self, event: Seen) -> None:
        """Kill what is to be killed, in two steps: secure the worker, then look again.

        Only a look that followed the answer to a recall tells what a kill would hit: see `Seat.is_secured`.
        """
        seat = self.seats[event.seat]
        seat.looking = False
        if seat.state not in (BUSY, RECALLED) or not seat.sent:
            seat.condemned = False  # what was to be killed has ended
            return
        head = seat.sent[0]
        if event.started <= seat.finished:  # between two elements, or with a permit and about to start
            seat.condemned = head.cancelled == KILL_IT
            seat.forget_look(self._now)
            if head.timeout is not None and self._now >= seat.heard + max(head.timeout, _QUIET_NS):
                self._recall(seat)  # it has been stopped, perhaps: the task has not, and can run elsewhere
            return
        seat.since = event.since
        if self._now >= event.since + STUCK_NS:
            seat.hides = False  # the look has brought what there was, and nothing comes before this element ends
        overdue = head.timeout is not None and self._now >= event.since + head.timeout
        seat.condemned = overdue or head.cancelled == KILL_IT
        if not seat.condemned:
            if seat.waiting() and self._now >= event.since + STUCK_NS and self._free_hands():
                self._recall(seat)
        elif seat.is_secured():
            seat.overdue = overdue
            if overdue:
                self._trace(seat)
            else:
                self._kill(seat, gently=False)
        else:
            self._recall(seat)

    def _look(self, seat: Seat) -> None:
        if not seat.looking:
            seat.looking = True
            self._out.append(Look(seat.key))

    def _recall(self, seat: Seat) -> None:
        if not seat.recalling:
            seat.recalls = seat.recalling = True
            self._out.append(Recall(seat.key, sum(task.units() for task in seat.sent)))

    def _on_taken(self, event: Taken) -> None:
        seat = self.seats[event.seat]
        seat.recalling = False
        left = event.units
        while left:
            task = seat.sent[-1]
            units = task.units()
            if units <= left:
                left -= units
                seat.load -= task.count - task.done
                seat.sent.pop()
            else:  # the first elements of a guarded task keep their permits
                task.count -= left
                seat.load -= left
                cancelled = task.cancelled
                task = task.part(task.first + task.count, left, task.attempts)
                task.state, task.cancelled = SENT, cancelled
                left = 0
            self.stats["requeued"] += 1
            self._requeue(task, "recall")
        if event.units:
            _move(seat, "recall")
            if not seat.sent:  # only a worker that is stopped, or worse, takes long to say that it has dropped it all
                seat.kill_at = self._now + _SILENT_NS
        _spare_started(seat)
        if seat.condemned or any(task.cancelled for task in seat.sent):
            self._look(seat)

    def _on_cancel(self, event: Cancel) -> None:
        level = KILL_IT if event.kill else LEAVE_IT
        seats = []
        for task in event.tasks:
            if task.state == ENDED:
                continue
            task.cancelled = max(task.cancelled, level)
            if task.state == QUEUED:
                self._fail_rest(task, "cancel", explain_cancelling(task))  # its place in the backlog is skipped
            elif task.seat is not None and task.seat not in seats:
                seats.append(task.seat)
        for seat in seats:
            if seat.state == BUSY:
                self._recall(seat)
            elif seat.state == RECALLED and event.kill:
                self._look(seat)
            else:
                _spare_started(seat)

    def _free_hands(self) -> bool:
        """Whether a worker is idle, or could be started, for work that waits elsewhere."""
        if self.backlog:
            return False
        return (self._starts.at <= self._now and self._alive() < self.limits.most) or any(
            self._is_open(s) and not s.sent for s in self.seats.values()
        )

    def _look_ahead(self) -> None:
        """Find out when the next journal must be looked into, and look into those whose time has come."""
        free: bool | None = None
        due = self._kill_at
        start_at = self._starts.at
        if start_at > self._now and self._may_want_another() and (due is None or start_at < due):
            due = start_at
        for seat in self.seats.values():
            kill_at = seat.kill_at
            if kill_at is not None:
                if kill_at <= self._now:
                    self._kill(seat, gently=False)
                elif due is None or kill_at < due:
                    due = kill_at
            if not seat.sent or seat.state not in (BUSY, RECALLED):
                continue
            timeout = seat.sent[0].timeout
            wanted = seat.hides or seat.condemned
            if not wanted and seat.load > 1 and seat.state == BUSY and not seat.recalls and seat.waiting():
                if free is None:
                    free = self._free_hands()
                wanted = free
            if not wanted and timeout is None:
                continue
            since = seat.since if seat.since is not None else seat.changed
            look_at = since + STUCK_NS
            if timeout is not None and (not wanted or timeout < STUCK_NS):
                look_at = since + timeout
            if seat.looking or seat.recalling:
                continue  # what comes of that decides
            if look_at <= self._now:
                self._look(seat)
            if due is None or look_at < due:
                due = look_at
        self.due = due

    def _may_want_another(self) -> bool:
        """Whether there is work that another worker might take, and room for one."""
        if self._terminated is not None or self._alive() >= self.limits.most:
            return False
        return bool(self.backlog) or any(seat.load > 1 for seat in self.seats.values())

    # Handing out.

    def _alive(self) -> int:
        return sum(1 for seat in list(self.seats.values()) if seat.state != STOPPING)

    def _is_open(self, seat: Seat) -> bool:
        """Whether *seat* may be sent tasks at all."""
        limit = self.limits.tasks_per_child
        if (seat.state not in (IDLE, BUSY)) or seat.condemned or seat.recalling:
            return False
        return limit is None or seat.assigned < limit

    def _dispatch(self) -> None:
        if self._terminated is not None:
            return
        if self.backlog:
            self._hand_out()
        if self.closed or self.limits.tasks_per_child is not None:
            self._retire()
        if self.backlog or self._wanted or (len(self.seats) < self.limits.most and self._overfull()):
            self._start_workers()

    def _hand_out(self) -> None:
        """Send what is queued to workers that have room for it, the emptiest first."""
        backlog = self.backlog
        batches: dict[int, list[Task]] = {}
        while backlog:
            if backlog[0].state != QUEUED:
                backlog.popleft()
                continue
            window = self.pace.window(backlog[0].function)
            seats = [seat for seat in self.seats.values() if seat.load < window and self._is_open(seat)]
            if not seats:
                break
            if len(seats) > 1:
                seats.sort(key=_load_of)
            share = max(1, len(backlog) // len(seats))
            for seat in seats:
                if not backlog:
                    break
                self._fill(seat, batches.setdefault(seat.key, []), window, share)
        for key, tasks in batches.items():
            if tasks:
                self._send(self.seats[key], tasks)

    def _fill(self, seat: Seat, batch: list[Task], window: int, share: int) -> None:
        """Move tasks from the backlog to *batch* until *seat* holds *window* elements, at most *share* tasks."""
        backlog = self.backlog
        limit = self.limits.tasks_per_child
        if limit is not None:
            share = min(share, limit - seat.assigned)
        load = seat.load
        taken = 0
        while backlog and taken < share and load < window:
            task = backlog.popleft()
            if task.state != QUEUED:
                continue
            task.state = _SENT
            task.seat = seat
            load += task.count
            taken += 1
            batch.append(task)
        seat.assigned += taken
        seat.load = load

    def _send(self, seat: Seat, tasks: list[Task]) -> None:
        if seat.state == IDLE:
            seat.heard = self._now
            seat.forget_look(self._now)
        _move(seat, "send")
        seat.recalls = False
        seat.hides = seat.load > 1
        seat.sent.extend(tasks)
        new: set[int] = set()
        units = 0
        for task in tasks:
            units += task.count if task.guarded else 1
            if task.function not in seat.functions:
                new.add(task.function)
        seat.functions |= new
        self._out.append(Send(seat.key, tasks, sorted(new), units))

    def _retire(self) -> None:
        """Stop idle workers that have done their share of tasks, or all when no more work will come."""
        limit = self.limits.tasks_per_child
        for seat in self.seats.values():
            if seat.state == IDLE and (
                (self.closed and not self.backlog) or (limit is not None and seat.assigned >= limit)
            ):
                self._stop(seat)

    def _stop(self, seat: Seat) -> None:
        _move(seat, "stop")
        self._out.append(Stop(seat.key))

    def _start_workers(self) -> None:
        if self._starts.at > self._now and self._has_workers():
            return
        alive = self._alive()
        starting = sum(1 for seat in self.seats.values() if seat.state == STARTING)
        wanted = max(len(self.backlog) - starting, self._wanted - alive)
        self._wanted = 0
        if wanted <= 0 and not starting and alive < self.limits.most and self._overfull():
            wanted = 1
        for _ in range(int(min(wanted, self.limits.most - alive, self._starts.most(starting)))):
            seat = Seat(self._next_key)
            self._next_key += 1
            self.seats[seat.key] = seat
            self.stats["workers started"] += 1
            self._out.append(Start(seat.key))

    def _overfull(self) -> bool:
        """Whether some worker holds more work than starting another one would take."""
        for seat in self.seats.values():
            if seat.load > 1 and self.pace.cost(seat.sent[-1].function) * seat.load > STUCK_NS:
                return True
        return False


def _move(seat: Seat, what: str) -> None:
    """Change a worker's state as the table says; anything else is a bug here, and raises ``KeyError``."""
    seat.state = WORKER[seat.state, what]


def _spare_started(seat: Seat) -> None:
    """What a ``cancel()`` without *kill* found started goes on.  Called when all that had not was taken back."""
    for task in seat.sent:
        if task.cancelled == LEAVE_IT:
            task.cancelled = 0


def _load_of(seat: Seat) -> int:
    return seat.load
