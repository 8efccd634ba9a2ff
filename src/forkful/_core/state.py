"""What the pool decides: a state machine without I/O, clock or thread.

``handle(events, now)`` takes what has happened since the last call and returns what to do about it; the master executes
that and reports back in further events.  ``now`` and all times are nanoseconds of one monotonic clock.

Two tables in ``moves.py`` hold every move between states; nothing changes a state except through them.

The file is long because all of that is here: who looks for what may move a task or a worker has one place to look.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from .backlog import Backlog
from .books import (
    BUSY,
    ENDED,
    IDLE,
    KILL_IT,
    KILLED,
    LEAVE_IT,
    LET_END,
    QUEUED,
    RECALLED,
    SENT,
    STARTING,
    STOPPING,
    Seat,
    Task,
    Worker,
)
from .endings import Endings
from .limits import Limits
from .messages import ERROR, VALUE, VALUES
from .moves import FINISHING, SENDING, move, move_all
from .schedule import LONG_NS, STUCK_NS, Pace
from .staff import Claimed, Staff
from .steps import (
    Cancel,
    Close,
    Deliver,
    Dropped,
    Event,
    Exited,
    Fail,
    Finished,
    Hire,
    Instruction,
    Kill,
    Look,
    Noted,
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
    Tell,
    Terminate,
    Tick,
    Trace,
    Unstarted,
)
from .verdict import explain_cancelling, explain_company, explain_failed_start

_TRACE_NS = 250_000_000  # between the signal that has a worker tell where it is, and SIGKILL: for a loaded machine
_QUIET_NS = 200_000_000  # the least that a worker gets to start what has a time-out
_SILENT_NS = 1_000_000_000  # that a worker gets to answer a recall when nothing runs there
_PASSED_MOST = 16  # functions for which there is no room, before those that are behind them in the queue wait too


class State:
    """The books of one pool."""

    def __init__(self, limits: Limits) -> None:
        self.staff = Staff(limits)
        self.seats = self.staff.seats
        self.workers = self.staff.workers
        self.backlog = Backlog(by_function=limits.auto)
        self.pace = Pace()
        self.closed = False
        self.stats = {"tasks": 0, "failed": 0, "retried": 0, "requeued": 0, "workers started": 0, "workers died": 0}
        self._endings = Endings(self.backlog, self.stats)
        self.due: int | None = None  # when `handle` wants a `Tick`, if nothing else happens
        self._terminated: BaseException | None = None
        self._kill_at: int | None = None
        self._deadlines: dict[int, int] = {}  # when a worker is killed unless it has answered, or ended, by then
        self._auto = limits.auto
        self._out: list[Instruction] = []
        self._deliveries: list[tuple[Task, int, int, int, Any, int | None]] = []
        self._notes: list[tuple[Task | None, tuple[int, int], int, Any, int | None]] = []
        self._now = 0
        self._handlers: dict[type, Callable[[Any], None]] = {
            Submitted: self._on_submitted,
            Ready: self._on_ready,
            Refused: self._on_refused,
            Unstarted: self._on_unstarted,
            Finished: self._on_finished,
            Noted: self._on_noted,
            Dropped: self._on_dropped,
            Seen: self._on_seen,
            Taken: self._on_taken,
            Exited: self._on_exited,
            Cancel: self._on_cancel,
            Hire: self._on_hire,
            Resize: self._on_resize,
            Close: self._on_close,
            Terminate: self._on_terminate,
            Tick: self._on_tick,
        }

    # What others may ask, also from another thread than the one in `handle`: each takes its own copy of the seats.

    @property
    def limits(self) -> Limits:
        """What bounds the pool now."""
        return self.staff.limits

    def room(self, function: int, priority: int = 0) -> int:
        """How many more elements of *function* the workers could take now, those that could be started included.

        Where others of a lower *priority* wait, as many as run at once: to go before those, they must be here.
        """
        taken = self.backlog.count_before(priority)
        room = self.staff.room(self.pace.window(function), self._width(function))
        if taken < len(self.backlog):
            room = max(room, self.staff.limits.most * self.staff.limits.threads)
        return max(0, room - taken)

    def busy(self) -> bool:
        """Whether anything is under way that will report."""
        if self.backlog or self.backlog.next_release() is not None:
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
        self.backlog.release(now)
        self._dispatch()
        self._look_ahead()
        out, self._out = self._out, []
        if self._notes:  # before the results: they are of elements that ran then, or run yet
            out.append(Tell(self._notes))
            self._notes = []
        if self._deliveries:
            out.append(Deliver(self._deliveries))
            self._deliveries = []
        if self._endings.failures:
            out.append(Fail(self._endings.failures))
            self._endings.failures = []
        return out

    # Tasks.

    def _on_submitted(self, event: Submitted) -> None:
        self.stats["tasks"] += sum([task.count for task in event.tasks])  # a list: half the time of a generator
        if self._terminated is not None:
            for task in event.tasks:
                self._endings.fail_rest(task, "fail", self._terminated)
            return
        self.backlog.extend(event.tasks)

    def _on_finished(self, event: Finished) -> None:
        seat = self.seats[event.seat]
        sent = seat.sent
        deliveries = self._deliveries
        worker = seat.worker
        pid = worker.pid
        finished = 0
        task: Task | None = None
        run: tuple[Task, int, int, int, Any, int | None] | None = None  # of consecutive elements
        for count, kind, blob in event.records:
            if not sent:
                break  # terminated: the tasks were failed already
            task = sent[0]
            finished += count
            if kind == ERROR and task.attempts < task.terms.retries and not task.cancelled:
                retried = self._endings.retry_next(task)
                if retried is not None:
                    self._endings.try_again(retried, self._now)
                if task.state != SENT:  # it was the only element and travels on as it is
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
                task.state = FINISHING
                task.seat = None
        seat.finished += finished
        seat.load -= finished
        if task is not None:
            self.pace.learn(task.terms.function, event.elements, event.ns)
            if event.cpu:
                self.pace.learn_share(task.terms.function, event.ns, event.cpu, worker.busy() - (seat.load > 0))
            seat.hides = seat.load > 1
        if not sent:
            _spare(seat)
            worker.idle_since = self._now
            if seat.state == BUSY:
                move(seat, "finish last")
        limit = self.staff.limits.memory
        if limit is not None and event.memory > limit:
            self._let_go(worker)
        seat.heard = self._now
        seat.forget_look(self._now)

    def _on_noted(self, event: Noted) -> None:
        task, index = self.seats[event.seat].running(event.started)
        attempt = 0 if task is None else task.attempts
        self._notes.append((task, (index, attempt), event.what, event.content, event.pid))

    # Workers.

    def _on_ready(self, event: Ready) -> None:
        worker = self.workers[event.worker]
        worker.pid = event.pid
        worker.idle_since = self._now
        self.staff.starts.succeed()
        if worker.state == STARTING:
            move_all(worker, "ready")

    def _on_refused(self, event: Refused) -> None:
        worker = self.workers[event.worker]
        if worker.state == STARTING:
            move_all(worker, "refused")
        self.staff.starts.refuse()
        self._endings.fail_waiting(event.error)

    def _on_unstarted(self, event: Unstarted) -> None:
        """A passing want is borne as long as there is a worker; without one it is everybody's error."""
        move_all(self.staff.strike_off(event.worker), "exit")
        self.stats["workers started"] -= 1
        if not self.staff.has_hands():
            self._endings.fail_waiting(event.error)
        if self.staff.has_hands() or self.staff.limits.least:
            self.staff.starts.do_without(self._now)

    def _on_dropped(self, event: Dropped) -> None:
        seat = self.seats[event.seat]
        if seat.state == RECALLED:
            move(seat, "dropped")
            _spare(seat)
            if self._deadlines and not any(other.state == RECALLED for other in seat.worker.seats):
                self._deadlines.pop(seat.worker.key, None)

    def _on_exited(self, event: Exited) -> None:
        worker = self.staff.strike_off(event.worker)
        self._deadlines.pop(event.worker, None)
        was = worker.state
        move_all(worker, "exit")
        starts = self.staff.starts
        starts.make_room(self._now)
        if was not in (STOPPING, KILLED):
            self.stats["workers died"] += 1
        if (
            was == STARTING
            and self._terminated is None
            and starts.fail(event.exitcode, inside=event.started[0] < 0, now=self._now)
        ):
            if self.staff.has_hands():  # they do the work meanwhile
                starts.do_without(self._now)
            else:
                self._endings.fail_waiting(explain_failed_start(event))
        ran = [
            seat
            for seat, started in zip(worker.seats, event.started, strict=True)
            if seat.sent and started > seat.finished
        ]
        company = explain_company(ran, event) if len(ran) > 1 else None
        for seat, started in zip(worker.seats, event.started, strict=True):
            if seat.sent:
                self._endings.settle_dead(seat, started, event, company, self._now)

    def _on_hire(self, event: Hire) -> None:
        self.staff.ask_for(event.workers)

    def _on_resize(self, event: Resize) -> None:
        for worker in self.staff.resize(event.least, event.most, event.idle):
            self._let_go(worker)

    def _let_go(self, worker: Worker) -> None:
        """*worker* is sent nothing more, and stops when it has done what has started."""
        if worker.leaving:
            return
        self.staff.let_go(worker)
        for seat in worker.seats:
            if seat.state == BUSY:
                self._recall(seat)

    def _on_close(self, event: Close) -> None:
        self.closed = True

    def _on_terminate(self, event: Terminate) -> None:
        if self._terminated is not None:
            return
        self._terminated = event.error
        self.closed = True
        self._endings.fail_waiting(event.error)
        for worker in self.workers.values():
            for seat in worker.seats:
                for task in seat.sent:
                    self._endings.fail_rest(task, "fail", event.error)
                seat.sent.clear()
                seat.load = 0
            if self.staff.limits.finalizer and worker.is_idle():
                self._stop(worker)
            elif not self.staff.limits.finalizer or worker.state != STOPPING:
                self._kill(worker, gently=True)
        self._kill_at = self._now + self.staff.limits.grace

    def _stop(self, worker: Worker) -> None:
        move_all(worker, "stop")
        self._out.append(Stop(worker.key))

    def _kill(self, worker: Worker, *, gently: bool) -> None:
        move_all(worker, "kill")
        if not gently:
            self._deadlines.pop(worker.key, None)
        self._out.append(Kill(worker.key, gently))

    def _trace(self, worker: Worker) -> None:
        """Kill *worker*, with a moment for it to tell where it was; one that is stopped cannot."""
        move_all(worker, "kill")
        self._deadlines[worker.key] = self._now + _TRACE_NS
        self._out.append(Trace(worker.key))

    def _kill_the_late(self) -> int | None:
        """SIGKILL for those whose time to answer, or to end, is over; when the next one's is."""
        for key, at in list(self._deadlines.items()):
            worker = self.workers[key]
            if at > self._now:
                continue
            if worker.state != KILLED and any(seat.sent for seat in worker.seats):
                self._deadlines[key] = (
                    self._now + _SILENT_NS
                )  # something runs there, and keeps the other threads from it
            else:
                self._kill(worker, gently=False)
        return min(self._deadlines.values(), default=None)

    def _on_tick(self, event: Tick) -> None:
        if self._kill_at is not None and self._now >= self._kill_at:
            self._kill_at = None
            for worker in self.workers.values():
                self._kill(worker, gently=False)

    # Looking, recalling, cancelling.

    def _on_seen(self, event: Seen) -> None:
        """Kill what is to be killed, in two steps: secure the worker, then look again.

        Only a look that followed the answer to a recall tells what a kill would hit: see `Seat.is_secured`.
        """
        seat = self.seats[event.seat]
        seat.looking = False
        if seat.state not in (BUSY, RECALLED) or not seat.sent:
            _spare(seat)  # what was to be killed has ended
            return
        head = seat.sent[0]
        if event.started <= seat.finished:  # between two elements, or with a permit and about to start
            if head.cancelled == KILL_IT:
                seat.condemned = True
            else:
                _spare(seat)
            seat.forget_look(self._now)
            timeout = head.terms.timeout
            if timeout is not None and self._now >= seat.heard + max(timeout, _QUIET_NS):
                self._recall(seat)  # it has been stopped, perhaps: the task has not, and can run elsewhere
            return
        seat.since = event.since
        if self._now >= event.since + STUCK_NS:
            seat.hides = False  # the look has brought what there was, and nothing comes before this element ends
        timeout = head.terms.timeout
        overdue = timeout is not None and self._now >= event.since + timeout
        if not (overdue or head.cancelled == KILL_IT):
            _spare(seat)
            if seat.waiting():
                patience = self._patience(seat, free=self._has_free_hands(seat))
                if self._now >= event.since + patience:
                    self._recall(seat)
            return
        seat.condemned = True
        if seat.is_secured():
            seat.overdue = overdue
            self._put_down(seat.worker)
        else:
            self._recall(seat)

    def _put_down(self, worker: Worker) -> None:
        """Kill *worker* for what runs on a condemned seat, once the others have done what they have started.

        They have `Limits.grace` for that; what is not done by then is lost with it.
        """
        if worker.doomed is None and self._has_innocents(worker):
            worker.doomed = self._now + self.staff.limits.grace
            for seat in worker.seats:
                if seat.state == BUSY and not seat.condemned:
                    self._recall(seat)
        if worker.doomed is None or self._now >= worker.doomed or not self._has_innocents(worker):
            if any(seat.overdue for seat in worker.seats):
                self._trace(worker)
            else:
                self._kill(worker, gently=False)

    @staticmethod
    def _has_innocents(worker: Worker) -> bool:
        return any(seat.sent and not seat.condemned for seat in worker.seats)

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
            self._endings.requeue(task, "recall")
        if event.units:
            move(seat, "recall")
            if not seat.sent:  # only a worker that is stopped, or worse, takes long to say that it has dropped it all
                self._deadlines.setdefault(seat.worker.key, self._now + _SILENT_NS)
        _spare_started(seat)
        if seat.condemned or any(task.cancelled for task in seat.sent):
            self._look(seat)

    def _on_cancel(self, event: Cancel) -> None:
        level = KILL_IT if event.kill else LET_END if event.last else LEAVE_IT
        seats = []
        for task in event.tasks:
            if task.state == ENDED:
                continue
            task.cancelled = max(task.cancelled, level)
            if task.state == QUEUED:
                self._endings.fail_rest(task, "cancel", explain_cancelling(task))  # its place in the backlog is skipped
            elif task.seat is not None and task.seat not in seats:
                seats.append(task.seat)
        for seat in seats:
            if seat.state == BUSY:
                self._recall(seat)
            elif seat.state == RECALLED and event.kill:
                self._look(seat)
            else:
                _spare_started(seat)

    def _has_free_hands(self, seat: Seat) -> bool:
        """Whether a worker is idle, or could be started, for work that waits at *seat*."""
        return not self.backlog and self.staff.has_free_hands(self._width(seat.sent[-1].terms.function), self._now)

    def _patience(self, seat: Seat, *, free: bool) -> float:
        """How long what runs on *seat* may take before it gives back what waits behind it; *free*: somebody is.

        Where nobody is, what comes back is the first of its priority to go where there is room next.  Else it could wait
        for the end of a long element for as long as the others are kept busy, be it with less urgent work.
        """
        if free:
            return STUCK_NS
        return LONG_NS if self.staff.has_other_hands(seat) else math.inf

    def _look_ahead(self) -> None:
        """Find out when the next journal must be looked into, and look into those whose time has come."""
        free: bool | None = None
        due = _earliest(self._kill_at, self.backlog.next_release())
        if self.staff.limits.idle is not None:
            due = _earliest(due, self.staff.next_to_idle())
        if self._deadlines:
            due = _earliest(due, self._kill_the_late())
        start_at = self.staff.starts.at
        if start_at > self._now and self._may_want_another():
            due = _earliest(due, start_at)
        for seat in self.seats.values():
            if not seat.sent or seat.state not in (BUSY, RECALLED):
                continue
            timeout = seat.sent[0].terms.timeout
            wanted = seat.hides or seat.condemned
            patience: float = STUCK_NS
            if not wanted and seat.load > 1 and seat.state == BUSY and not seat.recalls and seat.waiting():
                if free is None or self._auto:
                    free = self._has_free_hands(seat)
                patience = self._patience(seat, free=free)
                wanted = patience < math.inf
            if not wanted and timeout is None:
                continue
            since = seat.since if seat.since is not None else seat.changed
            look_at = since + (int(patience) if wanted else 0)
            if timeout is not None and (not wanted or timeout < patience):
                look_at = since + timeout
            if seat.looking or seat.recalling:
                continue  # what comes of that decides
            doomed = seat.worker.doomed
            if doomed is not None and seat.condemned:
                look_at = doomed if self._has_innocents(seat.worker) else self._now
                if seat.since is None:  # the last look found nothing running there, and so may the next
                    look_at = max(look_at, seat.changed + STUCK_NS)
            if look_at <= self._now:
                self._look(seat)
            if due is None or look_at < due:
                due = look_at
        self.due = due

    def _may_want_another(self) -> bool:
        """Whether there is work that another worker might take, and room for one."""
        if self._terminated is not None or self.staff.alive() >= self.staff.limits.most:
            return False
        return bool(self.backlog) or self.staff.is_short() or any(seat.load > 1 for seat in self.seats.values())

    # Handing out.

    def _width(self, function: int) -> int:
        """On how many seats of one worker *function* may run at once."""
        threads = self.staff.limits.threads
        return self.pace.width(function, threads) if self._auto else threads

    def _dispatch(self) -> None:
        if self._terminated is not None:
            return
        if self.backlog:
            self._hand_out()
        steady = self.staff.is_steady
        if self.closed or not steady:
            self._retire()
        if self.backlog or not steady or self._is_overfull():
            self._start_workers()

    def _hand_out(self) -> None:
        """Send what is queued to workers that have room for it, the emptiest first."""
        backlog = self.backlog
        batches: dict[int, list[Task]] = {}
        blocked: set[int] = set()  # functions for which there is no room
        claimed: Claimed = {}  # and where they will have it
        while queue := backlog.front(blocked):
            if queue[0].state != QUEUED:
                queue.popleft()
                continue
            function = queue[0].terms.function
            window = self.pace.window(function)
            width = self._width(function)
            seats = self.staff.with_room(window, width, claimed)
            if not seats:
                if not self._auto or len(blocked) >= _PASSED_MOST:
                    break
                blocked.add(function)
                self.staff.claim(width, claimed)
                continue
            share = max(1, len(queue) // len(seats))
            for seat in seats:
                if not queue:
                    break
                self._fill(seat, queue, batches.setdefault(seat.key, []), share)
        for key, tasks in batches.items():
            if tasks:
                self._send(self.seats[key], tasks)

    def _fill(self, seat: Seat, queue: deque[Task], batch: list[Task], share: int) -> None:
        """Move tasks from *queue* to *batch* until *seat* holds as much as it may of the next, at most *share* tasks."""
        left = self.staff.share_left(seat.worker)
        if left is not None:
            share = min(share, left)
        load = seat.load
        taken = window = 0
        function: int | None = None
        while queue and taken < share:
            task = queue[0]
            if task.terms.function != function:
                function = task.terms.function
                window = self.pace.window(function)
            if load >= window:
                break
            queue.popleft()
            if task.state != QUEUED:
                continue
            task.state = SENDING
            task.seat = seat
            load += task.count
            taken += 1
            batch.append(task)
        seat.worker.assigned += taken
        if taken and self._auto and function is not None:
            weight = self.staff.weight(self._width(function))
            seat.weight = max(weight, seat.weight) if seat.load else weight
        seat.load = load

    def _send(self, seat: Seat, tasks: list[Task]) -> None:
        if seat.state == IDLE:
            seat.heard = self._now
            seat.forget_look(self._now)
        move(seat, "send")
        seat.recalls = False
        seat.hides = seat.load > 1
        seat.sent.extend(tasks)
        known = seat.worker.functions
        new: set[int] = set()
        units = 0
        for task in tasks:
            terms = task.terms
            units += task.count if terms.guarded else 1
            if terms.function not in known:
                new.add(terms.function)
        known |= new
        self._out.append(Send(seat.key, tasks, sorted(new), units))

    def _retire(self) -> None:
        """Stop idle workers that are to go."""
        for worker in self.staff.idlers(
            self._now, done=self.closed and not self.backlog and self.backlog.next_release() is None
        ):
            self._stop(worker)

    def _start_workers(self) -> None:
        lacking = self.staff.lacking(len(self.backlog), overfull=self._is_overfull(), closed=self.closed, now=self._now)
        for _ in range(lacking):
            self.stats["workers started"] += 1
            self._out.append(Start(self.staff.hire().key))

    def _is_overfull(self) -> bool:
        """Whether some worker holds more work than starting another one would take, and there may be another."""
        if len(self.workers) >= self.staff.limits.most:
            return False
        for seat in self.seats.values():
            if seat.load > 1 and self.pace.cost(seat.sent[-1].terms.function) * seat.load > STUCK_NS:
                return True
        return False


def _earliest(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _spare(seat: Seat) -> None:
    """What runs on *seat* is not to be killed, or not any more."""
    if seat.condemned:
        seat.condemned = seat.overdue = False
        worker = seat.worker
        if worker.doomed is not None and not any(other.condemned for other in worker.seats):
            worker.doomed = None


def _spare_started(seat: Seat) -> None:
    """What a ``cancel()`` without *kill* found started goes on.  Called when all that had not was taken back."""
    for task in seat.sent:
        if task.cancelled == LEAVE_IT:
            task.cancelled = 0
