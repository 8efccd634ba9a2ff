"""What a pool decides about workers that have something to do before they leave."""

from __future__ import annotations

from forkful._core.limits import Limits
from forkful._core.state import State
from forkful._core.steps import Close, Exited, Hire, Kill, Stop, Terminate, Tick
from forkful.errors import PoolTerminated

from .bench import MS, PID, Bench, call, error_of

OVER = PoolTerminated("over")


def bench_of(processes: int) -> Bench:
    """With a finalizer and a grace of 100 ms."""
    bench = Bench()
    bench.state = State(Limits(processes, finalizer=True, grace=100 * MS))
    return bench


def test_terminate_tells_idle_workers_to_leave() -> None:
    """Busy ones and those that start are ended as without a finalizer; SIGKILL for all that is left after the grace."""
    bench = bench_of(3)
    running = call()
    bench.run(call(), running)
    bench.finish(0)
    bench(Hire(3))
    assert bench(Terminate(OVER)) == [Stop(0), Kill(1, gently=True), Kill(2, gently=True)]
    assert error_of(running) is OVER
    bench.exit(1, -15, started=1)
    bench.exit(2, -15)
    assert bench(Tick(), after=99 * MS) == []
    assert bench(Tick(), after=MS) == [Kill(0, gently=False)]
    assert bench.exit(0, -9) == []
    assert (bench.state.seats, bench.state.due) == ({}, None)


def test_terminate_leaves_those_alone_that_are_leaving() -> None:
    """A worker at its finalizer is not told twice, and has the grace from now on."""
    bench = bench_of(1)
    bench.run(call())
    bench.finish(0)
    assert bench(Close()) == [Stop(0)]
    assert bench(Terminate(OVER)) == []
    assert bench.state.due == 100 * MS
    assert bench(Exited(0, 0, [1], PID)) == []
    assert not bench.state.seats
    assert bench.state.stats["workers died"] == 0
