"""The fleet: which workers there are, and which there are to be.  Pure: no process, descriptor or clock.

`Fleet.handle` takes an event and the time, and returns instructions; `Fleet.wake_at` is when it wants a `Tick`, and
`Fleet.look_at` when it wants to know the `Load`.

A member is **starting** until it is ready, then **serving**, and **leaving** once it has been told to.  At any time so many are
wanted; one more while one of them is being replaced, because the new one is to be ready before the old one goes.

Growth: when fewer seats than `Settings.spare` are idle, as with Apache httpd's MinSpareThreads, a worker is added; if that
is still so a look later, as many as the connections that are queued need.  Shrinking: what was idle at every look for
`Settings.idle_timeout` was not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import count

from ._events import (
    Began,
    Close,
    Drain,
    Ended,
    Event,
    Finish,
    Full,
    Instruction,
    Kill,
    Left,
    Load,
    Mute,
    Overdue,
    Ready,
    Refused,
    Reload,
    Reloaded,
    Reloading,
    Resize,
    Say,
    Spent,
    Start,
    Stop,
    Stopping,
    Tick,
    Trace,
)
from ._settings import Settings

__all__ = ["Fleet", "Member", "Phase"]

NEVER = float("inf")
LOOK = 0.1
"""Seconds between two looks under pressure."""
ANSWER = 1.0
"""Seconds that a worker has to answer `Drain`, before it counts as one in which nothing runs."""
STABLE = 0.05
"""Seconds after which a worker that was ready does not count as one that failed to start."""
PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before the next start, after so many failures in a row; then the last for ever."""


class Phase(Enum):
    """Of a member's life."""

    STARTING = "starting"
    SERVING = "serving"
    LEAVING = "leaving"


@dataclass(slots=True)
class Member:
    """A worker, as the fleet knows it.

    Attributes:
        number: its name here.
        generation: how many reloads came before it.
        phase: of its life.
        since: when that began.
        spent: why it wants to be replaced; None if it does not.
        overdue: how many of its seats are over their time.
        seats: how many of them are at work, once it has answered `Drain`.
        deadline: when it is killed, if it is still there.
    """

    number: int
    generation: int
    since: float
    deadline: float
    phase: Phase = Phase.STARTING
    spent: str | None = None
    overdue: int = 0
    seats: int | None = None


class Fleet:
    """All workers of a server."""

    def __init__(self, settings: Settings, capacity: int) -> None:
        self.settings = settings
        self.capacity = capacity  # how many members there can be
        self.members: dict[int, Member] = {}
        self.wanted = settings.least
        self.generation = 0
        self.is_stopping = False
        self.has_served = False  # whether a worker has ever been ready
        self.look_at: float | None = None
        self._least, self._most = settings.least, settings.most
        self._numbers = count(1)
        self._failures = 0  # of new workers, in a row
        self._not_before = 0.0  # the next start
        self._pressed = False  # whether too few seats were idle at the last look
        self._calm_since: float | None = None  # since when seats are idle that could be spared
        self._spared = 0  # so many of them at every look since then
        self._muted = True
        self._last_generation = 0  # one that was given up is not used again
        self._is_reloading = False
        self._finished = False
        self._failure: str | None = None  # why it could not begin

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Take in *event*; what is to be done."""
        todo: list[Instruction] = []
        match event:
            case Tick():
                pass
            case Ready(worker):
                self._on_ready(self.members[worker], now, todo)
            case Refused(worker, reason):
                self._on_failed_start(self.members[worker], reason, now, todo)
                self._let_go(self.members[worker], now)
            case Full():
                self.look_at = now
            case Spent(worker, reason):
                self.members[worker].spent = reason
            case Left(worker, seats):
                self._on_left(self.members[worker], seats, now)
            case Ended(worker, how):
                self._on_ended(self.members.pop(worker), how, now, todo)
            case Load(idle, queued):
                self._on_load(idle, queued, now)
            case Overdue(worker, seats, text):
                self._on_overdue(self.members[worker], seats, text, now, todo)
            case Reload():
                self._on_reload(todo)
            case Resize(by):
                self._on_resize(by, todo)
            case Stop(at_once, hands_over):
                self._on_stop(now, todo, at_once=at_once, hands_over=hands_over)
        self._reconcile(now, todo)
        return todo

    def of(self, phase: Phase) -> list[Member]:
        """The members in this phase, the oldest first."""
        return [member for member in self.members.values() if member.phase is phase]

    @property
    def wake_at(self) -> float | None:
        """When a `Tick` is wanted; None: not before the next event."""
        times = [member.deadline for member in self.members.values() if member.phase is not Phase.SERVING]
        if self._lacking() > 0:
            times.append(self._not_before)
        return min((time for time in times if time != NEVER), default=None)

    # What has happened.

    def _on_ready(self, member: Member, now: float, todo: list[Instruction]) -> None:
        if member.phase is not Phase.STARTING:  # it was told to leave before it got so far
            return
        member.phase, member.since = Phase.SERVING, now
        self._failures = 0
        if not self.has_served:
            self.has_served = True
            todo.append(Began())

    def _on_failed_start(self, failed: Member, reason: str, now: float, todo: list[Instruction]) -> None:
        """A worker has not become ready: that is the end of the reload for which it was started, if it was for one."""
        if not self.has_served:
            self._failure = self._failure or reason
            self._on_stop(now, todo, at_once=True)
            return
        self._failures += 1
        pause = PAUSES[min(self._failures, len(PAUSES)) - 1]
        self._not_before = now + pause
        old = [member for member in self.of(Phase.SERVING) if member.generation < self.generation]
        if old and failed.generation == self.generation:
            self.generation = max(member.generation for member in old)
            self._is_reloading = False
            todo.append(Reloaded(reason))
        else:
            todo.append(Say(f"{reason}; the next try is in {pause:g} s", is_trouble=True))

    def _on_left(self, member: Member, seats: int, now: float) -> None:
        """Whoever drains answers, and after each seat that ends."""
        if member.phase is not Phase.LEAVING:
            return
        if member.seats is None:
            member.deadline = member.since + self.settings.drain_timeout
        member.seats = seats
        self._hurry(member, now)

    def _hurry(self, member: Member, now: float) -> None:
        """When only seats are left that are over their time, there is nothing to wait for."""
        if member.seats is not None and 0 < member.seats <= member.overdue:
            member.deadline = min(member.deadline, now)

    def _on_ended(self, member: Member, how: str | None, now: float, todo: list[Instruction]) -> None:
        if how is not None and member.phase is not Phase.LEAVING:
            name = f"worker {member.number}"
            if member.phase is Phase.STARTING:
                self._on_failed_start(member, f"{name} {how} before it was ready", now, todo)
            else:
                todo.append(Say(f"{name} {how}; another one takes its place", is_trouble=True))
                if now - member.since < STABLE:
                    self._failures += 1
                    self._not_before = now + PAUSES[min(self._failures, len(PAUSES)) - 1]

    def _on_load(self, idle: Mapping[int, int], queued: int, now: float) -> None:
        """Grow under pressure, shrink after a long calm, and say when to look again."""
        settings = self.settings
        free = sum(idle.values())
        coming = max(0, self.wanted - len(self.of(Phase.SERVING))) * settings.threads
        lacking = queued + settings.spare - free - coming  # seats
        self.look_at = None
        if lacking > 0 and self.wanted < self._most:
            self.wanted = min(self._most, self.wanted + (-(-lacking // settings.threads) if self._pressed else 1))
            self._calm_since = None
        elif self.wanted > self._least:
            self._count_the_idle(free, now)
        self._pressed = lacking > 0
        if self.wanted < self._most and (self._pressed or 0 in idle.values()):
            self.look_at = now + LOOK
        elif self.wanted > self._least:
            self.look_at = now + min(1.0, max(LOOK, settings.idle_timeout / 10))

    def _count_the_idle(self, idle: int, now: float) -> None:
        spared = (idle - self.settings.spare) // self.settings.threads  # workers that could have been done without
        if spared <= 0:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since, self._spared = now, spared
        else:
            self._spared = min(self._spared, spared)
            if now - self._calm_since >= self.settings.idle_timeout:
                self.wanted = max(self._least, self.wanted - self._spared)
                self._calm_since = None

    def _on_overdue(self, member: Member, seats: int, text: str, now: float, todo: list[Instruction]) -> None:
        """Replace it: its other seats may finish what they serve."""
        news = seats > member.overdue
        member.overdue = max(member.overdue, seats)
        if news:
            what = f" ({text})" if text else ""
            timeout = self.settings.timeout or 0
            todo.append(
                Say(
                    f"worker {member.number}: a request took longer than {timeout:g} s{what}; it is replaced",
                    is_trouble=True,
                )
            )
            todo.append(Trace(member.number))
        if member.phase is Phase.SERVING:
            self._drain(member, now, todo)
        self._hurry(member, now)

    def _on_reload(self, todo: list[Instruction]) -> None:
        if not self.is_stopping:
            self._last_generation += 1
            self.generation = self._last_generation
            self._is_reloading = True
            self._not_before = 0.0
            todo.append(Reloading())

    def _on_resize(self, by: int, todo: list[Instruction]) -> None:
        """Both bounds move: within them, the load would undo it."""
        most = self.capacity // 2
        self._least = min(most, max(1, self._least + by))
        self._most = min(most, max(1, self._most + by))
        self.wanted = min(self._most, max(self._least, self.wanted + by))
        todo.append(Say(f"{self.wanted} worker{'' if self.wanted == 1 else 's'} from now on"))

    def _on_stop(self, now: float, todo: list[Instruction], *, at_once: bool = False, hands_over: bool = False) -> None:
        if not self.is_stopping:
            self.is_stopping = True
            if self._failure is None:
                todo.append(Stopping())
            if hands_over:
                for member in self.members.values():
                    self._drain(member, now, todo)
            elif not at_once:
                todo.append(Finish())
                for member in self.members.values():
                    self._let_go(member, now)
        if at_once:
            for member in self.members.values():
                self._let_go(member, now)
                member.deadline = now

    # What follows.

    def _reconcile(self, now: float, todo: list[Instruction]) -> None:
        """Bring what is there nearer to what is wanted."""
        for member in self.members.values():
            if member.phase is not Phase.SERVING and member.deadline <= now:
                if member.phase is Phase.STARTING and not member.overdue:
                    self._on_failed_start(member, f"worker {member.number} was not ready in time", now, todo)
                    self._let_go(member, now)
                todo.append(Kill(member.number))
                member.deadline = NEVER  # its end is certain, and will be told
        if self.is_stopping:
            if not self.members and not self._finished:
                self._finished = True
                todo.append(Close(self._failure))
            return
        self._dismiss(now, todo)
        if now >= self._not_before:
            for _ in range(self._lacking()):
                number = next(self._numbers)
                self.members[number] = Member(number, self.generation, now, now + self.settings.ready_timeout)
                todo.append(Start(number, self.generation))
        if self._is_reloading and not any(self._accepts_still(member) for member in self.members.values()):
            self._is_reloading = False
            todo.append(Reloaded())
        muted = self.wanted == self._most
        if muted != self._muted:
            self._muted = muted
            todo.append(Mute(muted))
        if self.wanted > self._least and self.look_at is None:
            self.look_at = now + LOOK

    def _accepts_still(self, member: Member) -> bool:
        """Whether a worker from before the reload may still take connections."""
        return member.generation < self.generation and member.phase is not Phase.STARTING and member.seats is None

    def _due(self) -> list[Member]:
        """Those that serve and are to be replaced: outdated ones first."""
        serving = self.of(Phase.SERVING)
        outdated = [member for member in serving if member.generation < self.generation]
        return outdated + [member for member in serving if member.spent and member not in outdated]

    def _lacking(self) -> int:
        """How many are to be started."""
        if self.is_stopping:
            return 0
        present = len(self.of(Phase.STARTING)) + len(self.of(Phase.SERVING))
        return max(0, min(self.wanted + bool(self._due()) - present, self.capacity - len(self.members)))

    def _dismiss(self, now: float, todo: list[Instruction]) -> None:
        """Drain those that are too many: those to be replaced first, then the youngest."""
        serving = self.of(Phase.SERVING)
        due = self._due()
        surplus = len(serving) - self.wanted
        for member in [*due, *(one for one in reversed(serving) if one not in due)][: max(0, surplus)]:
            self._drain(member, now, todo)

    def _drain(self, member: Member, now: float, todo: list[Instruction]) -> None:
        self._let_go(member, now)
        todo.append(Drain(member.number))

    def _let_go(self, member: Member, now: float) -> None:
        """It counts no more as one of ours."""
        if member.phase is not Phase.LEAVING:
            member.phase, member.since = Phase.LEAVING, now
            member.deadline = now + min(ANSWER, self.settings.drain_timeout)
