"""The fleet's decisions: no process, no clock."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest

from forkful.server import _events as e
from forkful.server._fleet import ANSWER, LOOK, Fleet, Phase
from forkful.server._settings import Settings


class World:
    """A fleet, the time, and what it has asked for."""

    def __init__(self, capacity: int = 64, **settings: Any) -> None:
        self.fleet = Fleet(Settings(**settings), capacity)
        self.now = 100.0
        self.done: list[e.Instruction] = []
        self.tell(e.Tick())

    def tell(self, *events: e.Event) -> list[e.Instruction]:
        """Events, one after the other; what all of them led to."""
        todo = [instruction for event in events for instruction in self.fleet.handle(event, self.now)]
        self.done += todo
        return todo

    def after(self, seconds: float, *events: e.Event) -> list[e.Instruction]:
        """The same, later."""
        self.now += seconds
        return self.tell(*events)

    def all_ready(self) -> None:
        """Whoever starts is ready."""
        while starting := self.fleet.of(Phase.STARTING):
            self.tell(e.Ready(starting[0].number))

    def numbers(self, phase: Phase = Phase.SERVING) -> list[int]:
        """Of the members in this phase."""
        return [member.number for member in self.fleet.of(phase)]


def of_kind(todo: Iterable[e.Instruction], kind: type) -> list[e.Instruction]:
    """Those of one kind."""
    return [one for one in todo if isinstance(one, kind)]


def serving(**settings: Any) -> World:
    """One whose workers are ready."""
    world = World(**settings)
    world.all_ready()
    return world


def test_begins_with_the_least() -> None:
    """And says when the first is ready, once."""
    world = World(least=2, most=8, threads=4)
    assert of_kind(world.done, e.Start) == [e.Start(1, 0), e.Start(2, 0)]
    assert world.tell(e.Ready(1)) == [e.Began()]
    assert world.tell(e.Ready(2)) == []


def test_first_worker_cannot_load() -> None:
    """It is the end, with the reason, and the others are killed."""
    world = World(least=2, most=2)
    todo = world.tell(e.Refused(1, "no such module"))
    assert e.Kill(2) in todo
    world.tell(e.Ended(1))
    assert world.tell(e.Ended(2, "was killed by SIGKILL")) == [e.Close("no such module")]


def test_first_worker_dies() -> None:
    """Before it was ready: likewise."""
    world = World()
    (close,) = world.tell(e.Ended(1, "has ended with exit code 3"))
    assert close == e.Close("worker 1 has ended with exit code 3 before it was ready")


def test_first_worker_is_never_ready() -> None:
    """Nor is it waited for without end."""
    world = World(ready_timeout=5)
    assert world.fleet.wake_at == world.now + 5
    assert of_kind(world.after(5, e.Tick()), e.Kill) == [e.Kill(1)]
    (close,) = world.tell(e.Ended(1, "was killed by SIGKILL"))
    assert isinstance(close, e.Close)
    assert "not ready in time" in (close.failure or "")


def test_death_is_made_up_for_at_once() -> None:
    """Time and again, also when it comes 300 ms after the start."""
    world = serving(least=2, most=2)
    for _ in range(10):
        (victim, *_) = world.numbers()
        todo = world.after(0.3, e.Ended(victim, "was killed by SIGKILL"))
        assert len(of_kind(todo, e.Start)) == 1
        world.all_ready()


def test_failures_to_start_are_spaced() -> None:
    """More and more; a success ends that."""
    world = serving(least=1, most=1)
    world.after(5, e.Ended(1, "was killed by SIGKILL"))
    pauses = []
    for _ in range(9):
        (starting,) = world.numbers(Phase.STARTING)
        todo = world.tell(e.Refused(starting, "cannot be loaded"), e.Ended(starting))
        assert not of_kind(todo, e.Start)
        assert world.fleet.wake_at is not None
        pauses.append(world.fleet.wake_at - world.now)
        assert len(of_kind(world.after(pauses[-1], e.Tick()), e.Start)) == 1
    assert pauses == pytest.approx([0.1, 0.2, 0.5, 1, 2, 5, 10, 10, 10])
    world.all_ready()
    world.after(5, e.Ended(world.numbers()[0], "was killed by SIGKILL"))
    assert world.numbers(Phase.STARTING)


def test_reload() -> None:
    """One at a time; the new one is ready before the old one is told to leave."""
    world = serving(least=3, most=3)
    todo = world.tell(e.Reload())
    last: list[e.Instruction] = []
    assert not of_kind(todo, e.Drain)
    for _ in range(3):
        (new,) = world.numbers(Phase.STARTING)
        assert e.Start(new, 1) in todo
        assert len(world.numbers()) == 3
        todo = world.tell(e.Ready(new))
        (drain,) = of_kind(todo, e.Drain)
        assert len(world.numbers()) == 3
        assert isinstance(drain, e.Drain)
        assert e.Reloaded() not in todo  # as long as the old one may take a connection
        last = world.tell(e.Left(drain.worker, 1))
        world.tell(e.Left(drain.worker, 0), e.Ended(drain.worker))
    assert not world.numbers(Phase.STARTING)
    assert last == [e.Reloaded()]
    assert {member.generation for member in world.fleet.members.values()} == {1}


@pytest.mark.parametrize("after", [0, 1, 2])
def test_reload_of_bad_code(after: int) -> None:
    """Whenever that shows: those that serve go on, and nothing more is started."""
    world = serving(least=3, most=3)
    world.tell(e.Reload())
    for _ in range(after):
        world.tell(e.Ready(world.numbers(Phase.STARTING)[0]))
    before = world.numbers()
    (new,) = world.numbers(Phase.STARTING)
    todo = world.tell(e.Refused(new, "SyntaxError"), e.Ended(new))
    assert todo == [e.Reloaded("SyntaxError")]
    for number in world.numbers(Phase.LEAVING):
        world.tell(e.Left(number, 0), e.Ended(number))
    assert world.after(60, e.Tick()) == []
    assert world.numbers() == before
    world.tell(e.Reload())
    while world.fleet.of(Phase.STARTING):
        world.all_ready()
    assert not set(world.numbers()) & set(before)


def test_failure_from_before_the_reload() -> None:
    """A worker that was started earlier cannot load what was there then: the reload goes on."""
    world = World(least=2, most=2)
    world.tell(e.Ready(1), e.Reload())
    todo = world.tell(e.Refused(2, "SyntaxError"), e.Ended(2))
    assert not of_kind(todo, e.Reloaded)
    while world.fleet.of(Phase.STARTING) or world.fleet.wake_at:
        world.all_ready()
        for number in world.numbers(Phase.LEAVING):
            world.tell(e.Left(number, 0), e.Ended(number))
        world.after(1, e.Tick())
    assert e.Reloaded() in world.done
    assert {member.generation for member in world.fleet.members.values()} == {1}


def test_spent_workers_are_replaced_one_at_a_time() -> None:
    """The new one first."""
    world = serving(least=2, most=2)
    todo = world.tell(e.Spent(1, "has served 100 requests"), e.Spent(2, "has served 100 requests"))
    assert of_kind(todo, e.Start) == [e.Start(3, 0)]
    assert of_kind(world.tell(e.Ready(3)), e.Drain) == [e.Drain(1)]
    world.all_ready()
    assert e.Drain(2) in world.done
    assert world.numbers() == [3, 4]


def test_grows_with_the_queue() -> None:
    """One at the first look, then as many as the queue needs; no more than the most."""
    world = serving(least=1, most=8, threads=4)
    assert e.Mute(muted=False) in world.done
    world.tell(e.Full(1))
    assert world.fleet.look_at == world.now
    assert len(of_kind(world.tell(e.Load({1: 0}, queued=15)), e.Start)) == 1
    assert world.fleet.look_at == world.now + LOOK
    assert len(of_kind(world.after(LOOK, e.Load({1: 0}, queued=15)), e.Start)) == 3  # 16 seats, for 15 and a spare one
    world.all_ready()
    world.after(LOOK, e.Load(dict.fromkeys(world.numbers(), 0), queued=100))
    assert world.fleet.wanted == 8
    assert e.Mute(muted=True) in world.done


def test_does_not_grow_for_a_moment_of_fullness() -> None:
    """One worker is full, the other has room."""
    world = serving(least=2, most=4, threads=4)
    world.tell(e.Full(1))
    assert not of_kind(world.tell(e.Load({1: 0, 2: 3})), e.Start)
    assert world.fleet.look_at == world.now + LOOK  # the report of the other may have been held back
    world.after(LOOK, e.Load({1: 2, 2: 3}))
    assert world.fleet.look_at is None


def test_shrinks_after_a_calm() -> None:
    """By what was idle at every look; a busy moment begins the wait anew, and nobody flaps."""
    world = serving(least=1, most=4, threads=2, idle_timeout=10)
    for _ in range(3):
        world.after(LOOK, e.Full(1), e.Load(dict.fromkeys(world.numbers(), 0), queued=8))
        world.all_ready()
    assert len(world.numbers()) == 4
    looks = 0
    for idle in [2] * 5 + [0] + [2] * 30:
        assert world.fleet.look_at is not None
        world.now = world.fleet.look_at
        world.tell(e.Load(dict.fromkeys(world.numbers(), idle)))
        looks += 1
        if len(world.numbers()) < 4:
            break
    assert looks > 15
    assert len(world.numbers()) == 1
    for number in world.numbers(Phase.LEAVING):
        world.tell(e.Left(number, 0), e.Ended(number))
    assert world.after(1, e.Load({world.numbers()[0]: 2})) == []
    assert world.fleet.look_at is None


def test_overdue() -> None:
    """The stacks, another worker, and the end once only the late seats are left."""
    world = serving(least=1, most=1, threads=4, timeout=2, drain_timeout=30)
    todo = world.tell(e.Overdue(1, 1, "10.0.0.1:5"))
    assert [type(one) for one in todo] == [e.Say, e.Trace, e.Drain, e.Start]
    assert world.after(0.1, e.Left(1, 3)) == []
    assert world.tell(e.Overdue(1, 1)) == []
    assert world.after(5, e.Left(1, 2)) == []
    assert world.after(5, e.Left(1, 1)) == [e.Kill(1)]
    assert world.tell(e.Ended(1, "was killed by SIGKILL")) == []


def test_overdue_where_nothing_runs() -> None:
    """No answer within a second: code in C keeps everything from running there."""
    world = serving(timeout=2)
    world.tell(e.Overdue(1, 1))
    assert world.fleet.wake_at == world.now + ANSWER
    assert world.after(ANSWER, e.Tick()) == [e.Kill(1)]


def test_late_is_not_lost() -> None:
    """The late request ends after all: so does the worker, by itself."""
    world = serving(threads=2, timeout=2)
    world.tell(e.Overdue(1, 1))
    world.tell(e.Left(1, 2))
    assert not of_kind(world.after(0.5, e.Left(1, 0), e.Ended(1)), e.Kill)


def test_overdue_while_it_leaves() -> None:
    """A drain finds its end there too."""
    world = serving(threads=2, timeout=2)
    world.tell(e.Reload())
    world.all_ready()
    world.tell(e.Left(1, 1))
    assert e.Kill(1) in world.tell(e.Overdue(1, 1))


def test_drain_has_an_end() -> None:
    """`drain_timeout` after it began."""
    world = serving(drain_timeout=30)
    world.tell(e.Reload())
    world.all_ready()
    began = world.now
    world.after(0.5, e.Left(1, 1))
    assert world.fleet.wake_at == began + 30
    world.now = began + 30
    assert world.tell(e.Tick()) == [e.Kill(1)]


def test_stop() -> None:
    """In good order: nobody is killed or started, and the end comes with the last."""
    world = serving(least=2, most=2)
    assert world.tell(e.Stop()) == [e.Stopping(), e.Finish()]
    assert world.after(0.1, e.Left(1, 2), e.Left(2, 0), e.Ended(2)) == []
    assert world.tell(e.Reload()) == []
    assert world.tell(e.Ended(1)) == [e.Close(None)]


def test_stop_at_once() -> None:
    """Also after one in good order."""
    world = serving(least=2, most=2)
    world.tell(e.Stop())
    world.tell(e.Left(1, 1), e.Left(2, 1))
    assert world.tell(e.Stop(at_once=True)) == [e.Kill(1), e.Kill(2)]
    assert world.tell(e.Ended(1, "x"), e.Ended(2, "x")) == [e.Close(None)]


def test_resize() -> None:
    """TTIN and TTOU; never below one."""
    world = serving(least=2, most=2)
    assert e.Start(3, 0) in world.tell(e.Resize(1))
    world.all_ready()
    for _ in range(5):
        world.tell(e.Resize(-1))
    assert len(world.numbers()) == 1


@pytest.mark.parametrize("seed", range(100))
def test_any_life(seed: int) -> None:
    """Whatever happens: no more members than rows, no drain without need, all there in the end, and an end."""
    chance = random.Random(seed)
    least = chance.randint(1, 4)
    world = World(capacity=16, least=least, most=chance.randint(least, 8), threads=chance.randint(1, 4), timeout=2)
    world.all_ready()
    fleet = world.fleet
    for _ in range(100):
        world.now += chance.choice([0, 0.01, 0.2, 2])
        members = list(fleet.members.values())
        member = chance.choice(members) if members else None
        pending: list[e.Event] = [e.Tick(), e.Resize(chance.choice([-1, 1])), e.Reload()]
        if member is not None:
            number = member.number
            pending += [e.Full(number), e.Ended(number, "was killed by SIGKILL"), e.Overdue(number, 1)]
            if member.phase is Phase.STARTING:
                pending += [e.Ready(number)] * 8 + [e.Refused(number, "no")]
            elif member.phase is Phase.LEAVING:
                pending += [e.Left(number, 1), e.Ended(number)] * 3
            else:
                pending += [e.Spent(number, "is old")]
        before = len(world.numbers())
        event = chance.choice(
            [*pending, e.Load({one: chance.randint(0, 2) for one in world.numbers()}, chance.randint(0, 9))]
        )
        todo = world.tell(event)
        assert len(fleet.members) <= 16
        if of_kind(todo, e.Drain) and not isinstance(event, e.Overdue | e.Resize | e.Load):
            assert len(world.numbers()) >= min(before, fleet.wanted)
    for _ in range(300):  # all goes well from here on
        world.now += 1
        world.tell(e.Tick())
        world.all_ready()
        for number in world.numbers(Phase.LEAVING):
            world.tell(e.Left(number, 0), e.Ended(number))
        if fleet.look_at is not None:
            world.tell(e.Load(dict.fromkeys(world.numbers(), fleet.settings.threads)))
    assert len(world.numbers()) == fleet.wanted == len(fleet.members)
    assert all(member.generation >= fleet.generation for member in fleet.members.values())  # > where one was given up
    world.tell(e.Stop())
    assert [world.tell(e.Ended(number)) for number in list(fleet.members)][-1] == [e.Close(None)]
