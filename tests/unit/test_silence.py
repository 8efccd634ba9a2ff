"""What a pool decides about workers that say nothing: those that are stopped."""

from __future__ import annotations

from forkful._core.books import IDLE, KILLED, RECALLED
from forkful._core.steps import Dropped, Kill, Look, Recall, Seen, Taken, Terminate, Tick, Trace
from forkful.errors import Evidence, PoolTerminated, TaskTimeout

from .bench import MS, Bench, block, call, error_of, outcome, results, sent

SECOND = 1000 * MS


def overdue(bench: Bench) -> None:
    """The first worker's task has run for its second, and the pool has made sure of it."""
    assert bench(Tick(), after=SECOND) == [Look(0)]
    assert bench(Seen(0, 1, 0)) == [Recall(0, 1)]
    assert bench(Taken(0, 0)) == [Look(0)]
    assert bench(Seen(0, 1, 0)) == [Trace(0)]


# A task that is over its time.


def test_worker_gets_a_moment_to_tell_where_it_is() -> None:
    """What it told is in the error."""
    bench = Bench()
    task = call(timeout=SECOND)
    bench.run(task)
    overdue(bench)
    assert bench.seat().state == KILLED
    assert bench.state.due == SECOND + 250 * MS
    dump = 'Current thread 0x1 (most recent call first):\n  File "tasks.py", line 5 in f\n'
    bench.exit(0, -60, started=1, evidence=Evidence(5_000_000, dump=dump))
    error = error_of(task)
    assert isinstance(error, TaskTimeout)
    assert str(error) == (
        "task f ran longer than timeout=1 s; its worker (pid 1000) was killed:\n"
        '  File "tasks.py", line 5 in f;\n'
        "give it more time or make it shorter"
    )
    assert (error.seconds, error.memory, error.dump) == (1.0, 5_000_000, dump)
    assert bench.state.due is None


def test_worker_that_does_not_end_is_killed() -> None:
    """Once."""
    bench = Bench()
    task = call(timeout=SECOND)
    bench.run(task)
    overdue(bench)
    assert bench(Tick(), after=249 * MS) == []
    assert bench(Tick(), after=MS) == [Kill(0, gently=False)]
    assert bench(Tick(), after=SECOND) == []
    bench.exit(0, -9, started=1)
    assert str(error_of(task)).endswith("its worker (pid 1000) was killed; give it more time or make it shorter")


def test_worker_that_does_not_end_before_the_pool_does() -> None:
    """Is killed when its moment is over, not after the grace."""
    bench = Bench()
    bench.run(call(timeout=SECOND))
    overdue(bench)
    bench(Terminate(PoolTerminated("over")))
    assert bench(Tick(), after=250 * MS) == [Kill(0, gently=False)]


# A task that is not begun.


def test_task_that_is_not_begun_runs_elsewhere() -> None:
    """Its time-out is what a worker gets to begin it; then it is taken back, and no error."""
    bench = Bench(2)
    task = call(timeout=SECOND)
    bench.run(task)
    assert bench(Tick(), after=SECOND) == [Look(0)]
    assert bench(Seen(0, 0, 0)) == [Recall(0, 1)]
    bench(Taken(0, 1))
    assert bench.seat().state == RECALLED
    assert sent(bench.man(1)) == {1: [task]}
    bench.finish(1)
    assert outcome(task) is not None
    assert not results(task).errors()


def test_worker_that_does_not_answer_is_replaced() -> None:
    """It has nothing, so nothing is lost; and where it is the only one, nothing would ever run again."""
    bench = Bench()
    task = call(timeout=SECOND)
    bench.run(task)
    bench(Tick(), after=SECOND)
    bench(Seen(0, 0, 0))
    assert bench(Taken(0, 1)) == []
    assert bench.state.due == 2 * SECOND
    assert bench(Tick(), after=SECOND) == [Kill(0, gently=False)]
    bench.exit(0, -9)
    assert sent(bench.man(1)) == {1: [task]}
    assert bench.state.stats["workers died"] == 0


def test_worker_that_answers_late() -> None:
    """Goes on as if nothing had been."""
    bench = Bench()
    task = call(timeout=SECOND)
    bench.run(task)
    bench(Tick(), after=SECOND)
    bench(Seen(0, 0, 0))
    bench(Taken(0, 1))
    assert sent(bench(Dropped(0), after=SECOND - MS)) == {0: [task]}
    assert bench(Tick(), after=MS) == []
    bench.finish(0)
    assert bench.seat().state == IDLE


def test_task_that_is_just_begun_is_left_alone() -> None:
    """The worker has its permit, and so it is the worker's."""
    bench = Bench()
    task = call(timeout=SECOND)
    bench.run(task)
    bench(Tick(), after=SECOND)
    bench(Seen(0, 0, 0))
    assert bench(Taken(0, 0)) == []
    assert bench(Tick(), after=SECOND) == [Look(0)]
    assert bench(Seen(0, 1, 2 * SECOND - MS)) == []
    bench.finish(0)
    assert not results(task).errors()


def test_short_time_outs_are_no_reason_to_doubt() -> None:
    """A loaded machine takes a while to wake a worker."""
    bench = Bench()
    bench.run(call(timeout=50 * MS))
    for _ in range(3):
        assert bench(Tick(), after=50 * MS) == [Look(0)]
        assert bench(Seen(0, 0, 0)) == []
    assert bench(Tick(), after=50 * MS) == [Look(0)]
    assert bench(Seen(0, 0, 0)) == [Recall(0, 1)]


def test_results_prove_that_a_worker_is_there() -> None:
    """The time to begin the next element counts from the last result."""
    bench = Bench()
    bench.run(block(3, timeout=SECOND))
    bench.finish(0)
    bench.now += 900 * MS
    bench.finish(0)
    assert bench(Tick(), after=100 * MS) == []
    assert bench.state.due == 1900 * MS
