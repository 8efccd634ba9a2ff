"""How many workers there are, and who goes: elastic pools, recycling, several threads in one worker."""

from __future__ import annotations

from typing import Any

from forkful._core.books import BUSY, IDLE, KILLED
from forkful._core.limits import Limits
from forkful._core.schedule import STUCK_NS
from forkful._core.state import State
from forkful._core.steps import (
    Cancel,
    Close,
    Dropped,
    Exited,
    Finished,
    Hire,
    Kill,
    Look,
    Ready,
    Recall,
    Resize,
    Seen,
    Send,
    Start,
    Stop,
    Taken,
    Tick,
    Trace,
    Unstarted,
)
from forkful.errors import InitializerError, TaskCancelled, TaskTimeout, WorkerDied

from .bench import MS, PID, Bench, call, error_of, outcome, sent

S = 1000 * MS


def pool(most: int, **limits: Any) -> Bench:
    """A bench with these limits."""
    bench = Bench()
    bench.state = State(Limits(most, grace=500 * MS)._replace(**limits))
    return bench


# The least.


def test_the_least_is_asked_for_and_kept() -> None:
    """One that dies is replaced, whether there is work or not."""
    bench = pool(4, least=2)
    assert bench(Hire(2)) == [Start(0), Start(1)]
    bench.man(0, 1)
    assert bench.exit(0) == [Start(2)]
    assert bench.man(2) == []


def test_the_least_is_not_started_for_ever() -> None:
    """An initializer that fails would fail again: nothing is started until work asks for it."""
    bench = pool(4, least=2)
    bench(Hire(2))
    assert bench(Exited(0, 1, (0,), PID)) == [Start(2)]
    assert bench(Exited(1, 1, (0,), PID)) == []
    assert bench(Exited(2, 1, (0,), PID)) == []
    assert bench(Tick(), after=60 * S) == []
    assert bench.submit(call()) == [Start(3)]
    assert [type(order) for order in bench.man(3)] == [Send, Start], "now that one has come up"


def test_the_least_where_there_is_no_process() -> None:
    """It is tried again after a pause, without a loop."""
    bench = pool(4, least=1)
    bench(Hire(1))
    assert bench(Unstarted(0, InitializerError("no process"))) == []
    due = bench.state.due
    assert due is not None
    assert due > bench.now
    assert bench(Tick(), after=due - bench.now) == [Start(1)]


# Idling.


def test_who_is_idle_for_too_long_leaves() -> None:
    """Down to the least; the newest first, because the oldest are given work first."""
    bench = pool(3, least=1, idle=10 * S)
    bench.run(call(), call(), call())
    assert bench.finish(0) == []
    assert bench.finish(2) == []
    assert bench.state.due == 10 * S
    assert bench(Tick(), after=9 * S) == []
    assert bench(Tick(), after=1 * S) == [Stop(2), Stop(0)]
    bench.finish(1)
    bench(Exited(0, 0, (1,), PID), Exited(2, 0, (1,), PID))
    assert bench(Tick(), after=100 * S) == []
    assert bench.state.due is None
    assert list(bench.state.workers) == [1]


def test_work_ends_idling() -> None:
    """The time counts from the end of the last task."""
    bench = pool(1, idle=10 * S)
    bench.run(call())
    bench.finish(0)
    bench.now += 9 * S
    bench.submit(call())
    bench.now += 5 * S
    assert bench.finish(0) == []
    assert bench(Tick(), after=9 * S) == []
    assert bench(Tick(), after=1 * S) == [Stop(0)]


# Resizing.


def test_fewer_workers() -> None:
    """The idlest leave, and what they have not started runs elsewhere."""
    bench = pool(3)
    bench.learn(MS)
    bench.run(call(), call(), call())
    bench.submit(*(call() for _ in range(6)))
    assert {key: seat.load for key, seat in bench.state.seats.items()} == {0: 3, 1: 3, 2: 3}
    assert bench(Resize(0, 2)) == [Recall(2, 3)]
    bench(Taken(2, 2))
    assert not bench.state.backlog, "they went to the others"
    assert (bench.seat(0).load, bench.seat(1).load, bench.seat(2).load) == (4, 4, 1)
    assert bench(Finished(2, [(1, 0, b"")], 1, MS), Dropped(2)) == [Stop(2)]
    assert bench.exit(2, 0, started=1) == []


def test_an_idle_worker_leaves_at_once() -> None:
    """There is nothing to wait for."""
    bench = pool(2)
    bench(Hire(2))
    bench.man(0, 1)
    assert bench(Resize(0, 1)) == [Stop(1)]


def test_a_starting_worker_leaves_when_it_is_ready() -> None:
    """Not before: it cannot hear."""
    bench = pool(2)
    bench(Hire(2))
    assert bench(Resize(0, 1)) == []
    assert bench.man(0, 1) == [Stop(1)]


def test_more_workers() -> None:
    """As work asks for them, or up to the least at once."""
    bench = pool(1)
    bench.submit(*(call() for _ in range(4)))
    assert bench(Resize(0, 3)) == [Start(1), Start(2)]
    assert bench(Resize(4, 5)) == [Start(3)]


# Memory.


def test_a_worker_that_holds_too_much_is_replaced() -> None:
    """Between two tasks: what has not started runs elsewhere."""
    bench = pool(1, memory=1000)
    bench.learn(MS)
    bench.run(call(), call(), call())
    assert bench(Finished(0, [(1, 0, b"")], 1, MS, 0, 1000)) == []
    assert bench(Finished(0, [(1, 0, b"")], 1, MS, 0, 1001)) == [Recall(0, 1)]
    assert bench(Taken(0, 1)) == [Start(1)]
    assert bench(Dropped(0)) == [Stop(0)]
    assert sent(bench.man(1)).keys() == {1}
    assert bench.exit(0, 0, started=2) == []
    assert bench.state.stats["workers died"] == 0


# Several threads.


def test_each_thread_has_a_seat() -> None:
    """One process, as many tasks at once; two processes share the work first."""
    bench = pool(2, threads=3)
    bench.submit(*(call() for _ in range(9)))
    assert set(bench.state.workers) == {0, 1}
    orders = bench.man(0, 1)
    assert set(sent(orders)) == {0, 1, 2, 3, 4, 5}
    assert len(bench.state.backlog) == 3


def test_the_emptiest_worker_first() -> None:
    """Two tasks for two workers: one each."""
    bench = pool(2, threads=3)
    bench(Hire(2))
    bench.man(0, 1)
    assert set(sent(bench.submit(call(), call()))) == {0, 3}
    assert set(sent(bench.submit(call(), call()))) == {1, 4}


def test_functions_are_sent_once_a_worker() -> None:
    """Not once a thread."""
    bench = pool(1, threads=3)
    orders = bench.run(call(), call())
    orders += bench.submit(call())
    assert [order.functions for order in orders if isinstance(order, Send)] == [[1], [], []]


def test_a_crash_costs_what_ran() -> None:
    """Each its own error; none knows which was the cause."""
    bench = pool(1, threads=3)
    tasks = [call("f"), call("g"), call("h", retries=1)]
    bench.run(*tasks)
    orders = bench(Exited(0, -11, (1, 1, 1), PID))
    for task, name in zip(tasks[:2], "fg", strict=True):
        error = error_of(task)
        assert isinstance(error, WorkerDied)
        assert (error.task, error.cause) == (f"task {name}", "")
        assert "while 3 tasks ran in threads of it, which of them was the cause is not known" in str(error)
    assert orders == [Start(1)]
    assert [task.terms.name for task in bench.state.backlog] == ["h"]


def test_a_crash_with_one_task() -> None:
    """Nobody else can have been the cause."""
    bench = pool(1, threads=3)
    task, other = call("f"), call("g")
    bench.run(task, other)
    bench(Exited(0, -11, (1, 0, 0), PID))
    assert "not known" not in str(error_of(task))
    assert outcome(other) is None


def test_a_time_out_waits_for_the_others() -> None:
    """What runs beside gets the grace to end; nothing new starts there."""
    bench = pool(1, threads=3)
    slow, other = call("slow", timeout=1 * S), call("other")
    bench.run(slow, other)
    assert bench(Tick(), after=1 * S) == [Look(0)]
    assert bench(Seen(0, 1, 0)) == [Recall(0, 1)]
    assert bench(Taken(0, 0)) == [Look(0)]
    assert bench(Seen(0, 1, 0)) == [Recall(1, 1)]
    assert bench(Taken(1, 0)) == []
    assert bench.submit(call("later")) == [], "the free thread gets nothing"
    assert bench.state.due == 1500 * MS
    assert bench.finish(1) == [Look(0)]
    assert bench(Seen(0, 1, 0)) == [Trace(0)]
    assert {seat.state for seat in bench.state.seats.values()} == {KILLED}
    bench(Exited(0, -9, (1, 1, 0), PID))
    assert isinstance(error_of(slow), TaskTimeout)
    assert outcome(other) == (1, 0, b"")


def test_a_time_out_waits_no_longer_than_the_grace() -> None:
    """The others go with it, and are told why; those that may are tried again."""
    bench = pool(1, threads=3)
    slow, other, again = call("slow", timeout=1 * S), call("other"), call("again", retries=1)
    bench.run(slow, other, again)
    bench(Tick(), after=1 * S)
    bench(Seen(0, 1, 0))
    bench(Taken(0, 0))
    assert bench(Seen(0, 1, 0)) == [Recall(1, 1), Recall(2, 1)]
    assert bench(Taken(1, 0), Taken(2, 0)) == []
    assert bench(Tick(), after=499 * MS) == []
    assert bench(Tick(), after=1 * MS) == [Look(0)]
    assert bench(Seen(0, 1, 0)) == [Trace(0)]
    bench(Exited(0, -9, (1, 1, 1), PID))
    assert isinstance(error_of(slow), TaskTimeout)
    error = error_of(other)
    assert isinstance(error, WorkerDied)
    assert error.cause == "task slow"
    assert "because task slow, in another thread of it, ran longer than its timeout; retries=1" in str(error)
    assert [task.terms.name for task in bench.state.backlog] == ["again"]


def test_what_ends_meanwhile_is_spared() -> None:
    """Late is better than lost; and the worker goes on."""
    bench = pool(1, threads=2)
    slow, other = call("slow", timeout=1 * S), call("other")
    bench.run(slow, other)
    bench(Tick(), after=1 * S)
    bench(Seen(0, 1, 0))
    bench(Taken(0, 0))
    bench(Seen(0, 1, 0))
    bench(Taken(1, 0))
    bench.submit(call("later"))
    assert set(sent(bench.finish(0))) == {0}
    assert outcome(slow) == (1, 0, b"")
    assert (bench.seat(0).state, bench.seat(1).state) == (BUSY, BUSY)


def test_what_is_about_to_start_is_looked_for_now_and_then() -> None:
    """One is to be killed that has its permit and has not started, perhaps because another thread holds the interpreter."""
    bench = pool(1, threads=3)
    slow, cancelled, other = call("slow", timeout=1 * S), call("cancelled"), call("other")
    bench.run(slow, cancelled, other)
    bench(Cancel([cancelled], kill=True), after=1 * S)
    bench(Taken(1, 0))
    bench(Seen(0, 1, 0), Seen(1, 0, 0))
    bench(Taken(0, 0))
    bench(Seen(0, 1, 0))
    bench(Taken(2, 0))
    bench.finish(0)
    assert bench.state.workers[0].doomed == 1500 * MS
    assert bench(Tick(), after=500 * MS) == [Look(1)]
    assert bench(Seen(1, 0, 0)) == []
    assert bench.state.due == bench.now + STUCK_NS
    assert bench(Tick(), after=STUCK_NS) == [Look(1)]
    assert bench(Seen(1, 1, bench.now)) == [Kill(0, gently=False)]


def test_cancel_of_one_that_runs() -> None:
    """The others are told whose cancelling it was."""
    bench = pool(1, threads=2)
    one, other = call("one"), call("other")
    bench.run(one, other)
    bench(Cancel([one], kill=True))
    bench(Taken(0, 0))
    bench(Seen(0, 1, 0))
    bench(Taken(1, 0))
    bench(Tick(), after=500 * MS)
    bench(Seen(0, 1, 0))
    bench(Exited(0, -9, (1, 1), PID))
    assert isinstance(error_of(one), TaskCancelled)
    assert "because task one, in another thread of it, was cancelled with kill=True" in str(error_of(other))


def test_a_worker_stops_when_all_its_threads_are_idle() -> None:
    """And is told once."""
    bench = pool(1, threads=2)
    bench.run(call(), call())
    assert bench(Close()) == []
    assert bench.finish(0) == []
    assert bench.finish(1) == [Stop(0)]


def test_maxtasksperchild_counts_for_the_process() -> None:
    """Its threads have it in common."""
    bench = pool(1, threads=2, tasks_per_child=3)
    bench.submit(*(call() for _ in range(5)))
    bench.man(0)
    assert bench.state.workers[0].assigned == 2
    bench.finish(0)
    bench.finish(1)
    assert bench.state.workers[0].assigned == 3
    assert bench.finish(0) == [Stop(0), Start(1)]


# Mode auto.


def test_one_thread_until_something_is_known() -> None:
    """Then as many as pay."""
    bench = pool(2, threads=8, auto=True)
    bench.submit(*(call() for _ in range(40)))
    assert set(sent(bench.man(0, 1))) == {0, 8}
    orders = bench(Finished(0, [(1, 0, b"")], 1, 50 * MS, MS))
    assert len(sent(orders)) == 15, "it waits: all threads of both"
    assert bench.state.room(1) == 0


def test_a_function_that_computes_has_one_thread() -> None:
    """More would be in each other's way."""
    bench = pool(2, threads=8, auto=True)
    bench.submit(*(call() for _ in range(40)))
    bench.man(0, 1)
    assert set(sent(bench(Finished(0, [(1, 0, b"")], 1, 50 * MS, 49 * MS)))) == {0}
    assert set(sent(bench(Finished(8, [(1, 0, b"")], 1, 50 * MS, 49 * MS)))) == {8}
    assert bench.seat(1).state == IDLE


def test_what_computes_does_not_block_what_waits() -> None:
    """It has its thread; the others are free for functions that wait."""
    bench = pool(1, threads=4, auto=True)
    bench.submit(call("compute"), call("compute"), call("compute"))
    bench.man(0)
    bench(Finished(0, [(1, 0, b"")], 1, 50 * MS, 49 * MS))
    bench.state.pace.learn(2, 1, 50 * MS)
    bench.state.pace.learn_share(2, 50 * MS, MS, 0)
    tasks = [call("wait", function=2) for _ in range(3)]
    assert list(sent(bench.submit(*tasks)).values()) == [[task] for task in tasks]
    assert [task.terms.name for task in bench.state.backlog] == ["compute"]


def knowing(bench: Bench) -> Bench:
    """Function 1 computes all the time, 2 hardly, 3 for a third of it; each takes 50 ms."""
    for function, computed in ((1, 50 * MS), (2, MS // 100), (3, 16 * MS)):
        bench.state.pace.learn(function, 1, 50 * MS)
        bench.state.pace.learn_share(function, 50 * MS, computed, 0)
    return bench


def test_what_waits_does_not_keep_what_computes_from_running() -> None:
    """It takes nothing of what the threads of a worker may compute."""
    bench = knowing(pool(1, threads=4, auto=True))
    bench.submit(*(call("wait", function=2) for _ in range(3)))
    bench.man(0)
    compute = call("compute")
    assert sent(bench.submit(compute)) == {3: [compute]}


def test_what_computes_has_the_next_thread_that_is_free() -> None:
    """What waits and came later, or is less urgent, does not take it."""
    bench = knowing(pool(1, threads=2, auto=True))
    bench.submit(*(call("wait", function=2) for _ in range(2)))
    bench.man(0)
    compute = call("compute")
    bench.submit(compute)
    bench.submit(call("late", function=2))
    assert sent(bench.finish(0)) == {0: [compute]}


def test_a_quick_function_does_not_keep_others_from_a_thread() -> None:
    """Though its calls could stand behind one another all the time."""
    bench = knowing(pool(1, threads=2, auto=True))
    bench.learn(MS, function=4)
    bench.state.pace.learn_share(4, MS, 1, 0)
    bench.submit(*(call("quick", function=4) for _ in range(4)))
    bench.man(0)
    compute = call("compute")
    assert sent(bench.submit(compute, *(call("more", function=4) for _ in range(4)))) == {}
    bench.finish(0)
    bench.finish(0)
    assert bench.seat(0).sent[0] is compute


def test_what_computes_a_little_makes_way_in_one_worker() -> None:
    """Else there would never be one with nothing to compute."""
    bench = knowing(pool(2, threads=4, auto=True))
    bench.submit(*(call(function=3) for _ in range(4)))
    bench.man(0, 1)
    compute = call("compute")
    bench.submit(compute, *(call(function=3) for _ in range(4)))
    used = {key: bench.state.workers[key].busy() for key in (0, 1)}
    assert used == {0: 2, 1: 2}
    bench.finish(0)
    assert sent(bench.finish(1)) == {0: [compute]}


def test_room_for_a_map() -> None:
    """What is starting and what could be started counts with all its threads, or with as many as pay."""
    assert pool(2, threads=8).state.room(1) == 16
    assert pool(2, threads=8, auto=True).state.room(1) == 2
    bench = pool(2, threads=8)
    bench(Hire(1))
    assert bench.state.room(1) == 16
    bench(Ready(0, PID))
    assert bench.state.room(1) == 16
    bench.submit(call(), call())
    assert bench.state.room(1) == 14
