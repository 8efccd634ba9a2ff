"""The workers of one pool: how many there should be, which may be given work, and who goes.  Pure: the clock is an argument.

All times are nanoseconds.
"""

from __future__ import annotations

from .books import BUSY, IDLE, KILLED, STARTING, STOPPING, Seat, Worker
from .limits import Limits
from .starts import Starts

# Workers, by number, in which what comes later may not be put; where the value is False, only what computes may not.
Claimed = dict[int, bool]
NOTHING_CLAIMED: Claimed = {}


class Staff:
    """The workers in the books, and their seats by number."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.workers: dict[int, Worker] = {}
        self.seats: dict[int, Seat] = {}
        self.starts = Starts()
        self._next_key = 0
        self._asked = 0  # workers asked for without a task
        self._has_let_go = False
        self.is_steady = False  # nobody comes or goes but for the work there is: most pools, most of the time
        self._note_steadiness()

    def hire(self) -> Worker:
        """A new worker in the books, which is to be started."""
        worker = Worker(self._next_key, self.limits.threads)
        self._next_key += 1
        self.workers[worker.key] = worker
        for seat in worker.seats:
            self.seats[seat.key] = seat
        return worker

    def strike_off(self, key: int) -> Worker:
        """Worker *key* is no more."""
        worker = self.workers.pop(key)
        for seat in worker.seats:
            del self.seats[seat.key]
        return worker

    def ask_for(self, count: int) -> None:
        """So many workers are wanted, whether there is work for them or not."""
        self._asked = max(self._asked, count)
        self._note_steadiness()

    # Asking.  Where another thread may ask, a copy of the books is looked at.

    def alive(self) -> int:
        """The workers that stay."""
        return sum(1 for worker in list(self.workers.values()) if not worker.leaving and worker.state != STOPPING)

    def has_hands(self) -> bool:
        """Whether any worker can do work, or may come to it, or is about to make room for one that can."""
        return any(worker.state not in (STOPPING, KILLED) for worker in self.workers.values())

    def is_open(self, seat: Seat) -> bool:
        """Whether *seat* may be sent tasks at all."""
        if seat.state not in (IDLE, BUSY) or seat.condemned or seat.recalling:
            return False
        worker = seat.worker
        return not (worker.leaving or worker.doomed is not None or self._has_had_its_share(worker))

    def _has_had_its_share(self, worker: Worker) -> bool:
        limit = self.limits.tasks_per_child
        return limit is not None and worker.assigned >= limit

    def share_left(self, worker: Worker) -> int | None:
        """How many more tasks *worker* may be given; None for any number."""
        limit = self.limits.tasks_per_child
        return None if limit is None else limit - worker.assigned

    def with_room(self, window: int, width: int, claimed: Claimed = NOTHING_CLAIMED) -> list[Seat]:
        """The seats that hold less than *window* elements of a function of which *width* pay, emptiest first.

        Among the empty ones, those that would be the first of their worker to be used go first.  Not those that are
        *claimed* for others.
        """
        if self.limits.threads == 1:
            seats = [seat for seat in self.seats.values() if seat.load < window and self.is_open(seat)]
            if claimed:
                seats = [seat for seat in seats if seat.worker.key not in claimed]
            if len(seats) > 1:
                seats.sort(key=_load_of)
            return seats
        weight = self.weight(width)
        ranked: list[tuple[int, int, Seat]] = []
        for worker in self.workers.values():
            if worker.key in claimed and (weight or claimed[worker.key]):
                continue
            used = worker.busy()
            spare = worker.spare() if weight else 0.0
            for seat in worker.seats:
                if seat.load < window and self.is_open(seat):
                    if not seat.load:
                        if spare < weight:
                            continue
                        spare -= weight
                        used += 1
                    ranked.append((seat.load, used, seat))
        ranked.sort(key=_rank_of)
        return [seat for _, _, seat in ranked]

    def weight(self, width: int) -> float:
        """What one call of a function, of which *width* pay in one worker, takes of all that its threads may compute."""
        return 0.0 if width >= self.limits.threads else 1 / width

    def claim(self, width: int, claimed: Claimed) -> None:
        """There is no room for a function of which *width* pay: note in *claimed* where what is behind it may not go.

        Else those would take what it waits for as soon as it is there, again and again.  Where only a seat is missing,
        nothing may go; where what runs computes too much, in one worker nothing may that computes too.
        """
        weight = self.weight(width)
        spare = {
            worker.key: worker.spare()
            for worker in self.workers.values()
            if not claimed.get(worker.key) and any(map(self.is_open, worker.seats))
        }
        lacking_seats = [key for key, left in spare.items() if left >= weight]
        for key in lacking_seats:
            claimed[key] = True
        if not lacking_seats:
            unclaimed = [key for key in spare if key not in claimed]
            if unclaimed:
                claimed[max(unclaimed, key=spare.__getitem__)] = False

    def room(self, window: int, width: int) -> int:
        """How many elements the workers could take now, those included that are starting or could be started."""
        limits = self.limits
        weight = self.weight(width)
        room = 0
        for worker in list(self.workers.values()):
            spare = worker.spare() if weight else 0.0
            for seat in worker.seats:
                if seat.state == STARTING:
                    room += not worker.leaving and spare >= weight
                    spare -= weight
                elif self.is_open(seat):
                    if not seat.load:
                        if spare < weight:
                            continue
                        spare -= weight
                    room += max(0, window - seat.load)
        return room + max(0, limits.most - self.alive()) * width

    def has_free_hands(self, width: int, now: int) -> bool:
        """Whether a seat is empty, or a worker could be started, for work that waits elsewhere."""
        if self.starts.at <= now and self.alive() < self.limits.most:
            return True
        weight = self.weight(width)
        if not weight:
            return any(not seat.sent and self.is_open(seat) for seat in self.seats.values())
        return any(
            not seat.sent and self.is_open(seat)
            for worker in self.workers.values()
            if worker.spare() >= weight
            for seat in worker.seats
        )

    def has_other_hands(self, seat: Seat) -> bool:
        """Whether a seat other than *seat* may be sent tasks."""
        return any(other is not seat and self.is_open(other) for other in self.seats.values())

    # Deciding.

    def lacking(self, waiting: int, *, overfull: bool, closed: bool, now: int) -> int:
        """How many workers to start now, with so many tasks *waiting*; *overfull*: one holds more than it should."""
        starts, limits = self.starts, self.limits
        if starts.at > now and self.has_hands():
            return 0
        asked, self._asked = self._asked, 0
        self._note_steadiness()
        alive = self.alive()
        starting = sum(1 for worker in self.workers.values() if worker.state == STARTING)
        wanted = max(waiting - starting, asked - alive)
        if wanted <= 0 and not starting and overfull:
            wanted = 1
        if not closed and starts.at <= now and starts.may_go_on():
            wanted = max(wanted, limits.least - alive)
        return int(max(0, min(wanted, limits.most - alive, starts.most(starting))))

    def _note_steadiness(self) -> None:
        limits = self.limits
        turns_over = limits.tasks_per_child is not None or limits.idle is not None or self._has_let_go
        self.is_steady = self._asked == 0 and limits.least == 0 and not turns_over

    def is_short(self) -> bool:
        """Whether there are fewer workers than were asked for without work."""
        least = self.limits.least
        return self._asked > 0 or (least > 0 and self.alive() < least)

    def let_go(self, worker: Worker) -> None:
        """*worker* is given nothing more, and is among the `idlers` as soon as it has nothing to do."""
        worker.leaving = self._has_let_go = True
        self._note_steadiness()

    def resize(self, least: int, most: int, idle: int | None) -> list[Worker]:
        """So few and so many from now on; the workers that are to go for that: the idlest, of those the newest."""
        self.limits = self.limits._replace(least=least, most=most, idle=idle)
        self._note_steadiness()
        surplus = self.alive() - most
        if surplus <= 0:
            return []
        staying = [worker for worker in self.workers.values() if not worker.leaving and worker.state != STOPPING]
        staying.sort(key=lambda worker: (worker.state == KILLED, worker.busy(), -worker.key))
        return staying[:surplus]

    def idlers(self, now: int, *, done: bool) -> list[Worker]:
        """The workers to be told to stop now; *done*: there is no work, and none will come."""
        idle = self.limits.idle
        spare = self.alive() - self.limits.least
        found: list[Worker] = []
        for worker in reversed(list(self.workers.values())):  # the newest: the oldest are given work first
            if not worker.is_idle():
                continue
            if done or worker.leaving or self._has_had_its_share(worker):
                found.append(worker)
                spare -= not worker.leaving
            elif idle is not None and spare > 0 and now >= worker.idle_since + idle:
                found.append(worker)
                spare -= 1
        return found

    def next_to_idle(self) -> int | None:
        """When the next worker will have been idle for too long."""
        idle = self.limits.idle
        if idle is None or self.alive() <= self.limits.least:
            return None
        times = [w.idle_since for w in self.workers.values() if w.is_idle() and not w.leaving]
        return min(times) + idle if times else None


def _load_of(seat: Seat) -> int:
    return seat.load


def _rank_of(entry: tuple[int, int, Seat]) -> tuple[int, int]:
    return entry[0], entry[1]
