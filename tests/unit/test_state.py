"""What a pool decides: events in, instructions out, with a clock that is a number."""

from __future__ import annotations

import itertools

import pytest

from forkful._core import moves
from forkful._core.books import (
    BUSY,
    GONE,
    IDLE,
    KILLED,
    QUEUED,
    RECALLED,
    SENT,
    STARTING,
    STOPPING,
    Task,
    Terms,
    Worker,
)
from forkful._core.journal import IN_INITIALIZER
from forkful._core.messages import EACH, ERROR, GROUP, VALUE
from forkful._core.schedule import LONG_NS, STUCK_NS
from forkful._core.steps import (
    Cancel,
    Close,
    Dropped,
    Exited,
    Hire,
    Kill,
    Look,
    Ready,
    Recall,
    Refused,
    Seen,
    Send,
    Start,
    Stop,
    Taken,
    Terminate,
    Tick,
    Trace,
    Unstarted,
)
from forkful.errors import InitializerError, PoolTerminated, TaskCancelled, TaskTimeout, WorkerDied

from .bench import MS, PID, Bench, block, call, error_of, outcome, results, sent

SECOND = 1000 * MS
OVER = PoolTerminated("over")
BROKEN = InitializerError("broken")


# Workers on demand.


def test_nothing_is_started_without_work() -> None:
    """A pool that has nothing to do has no process, and wants no tick."""
    bench = Bench(4)
    assert bench() == []
    assert bench.state.due is None
    assert not bench.state.busy()


def test_workers_start_as_tasks_come() -> None:
    """One for each waiting task, up to the number of processes; those on their way count."""
    bench = Bench(3)
    assert bench.submit(call()) == [Start(0)]
    assert bench.submit(call()) == [Start(1)]
    assert bench.submit(call(), call(), call()) == [Start(2)]
    assert bench.submit(call()) == []
    assert bench.state.stats["workers started"] == 3


def test_idle_worker_is_used_before_another_starts() -> None:
    """A task for a pool with an idle worker starts no process."""
    bench = Bench(2)
    bench.run(call())
    bench.finish(0)
    task = call()
    assert bench.submit(task) == [Send(0, [task], [], 1)]


def test_more_work_than_a_start_costs_starts_a_worker() -> None:
    """A worker that holds several elements which take long together gets a colleague, even when nothing is queued."""
    bench = Bench(2)
    bench.learn(4 * MS)
    assert bench.submit(block(2)) == [Start(0)]
    assert sent(bench.man(0)).keys() == {0}
    assert bench.seats("starting") == [1]

    quick = Bench(2)
    quick.learn(MS)
    quick.submit(block(2))
    quick.man(0)
    assert quick.seats("starting") == []


def test_resize_starts_workers_without_work() -> None:
    """As many as were asked for, at most as many as there may be, and only once."""
    bench = Bench(3)
    assert bench(Hire(2)) == [Start(0), Start(1)]
    assert bench() == []
    assert bench(Hire(9)) == [Start(2)]
    assert bench(Hire(1)) == []


# Dispatch.


def test_functions_are_sent_once() -> None:
    """A worker is told of a function with the first task that needs it."""
    bench = Bench()
    first, second, third = call(function=7), call(function=7), call(function=5)
    assert bench.run(first) == [Send(0, [first], [7], 1)]
    bench.finish(0)
    assert bench.submit(second) == [Send(0, [second], [], 1)]
    bench.finish(0)
    assert bench.submit(third) == [Send(0, [third], [5], 1)]
    assert bench.seat().worker.functions == {5, 7}


def test_functions_are_known_by_worker() -> None:
    """What one worker was sent, another one was not."""
    bench = Bench(2)
    one, two = call(function=7), call(function=7)
    assert bench.run(one, two) == [Send(0, [one], [7], 1), Send(1, [two], [7], 1)]


def test_permits_of_a_batch() -> None:
    """Each element of a guarded task has its own, a plain block one for all."""
    bench = Bench()
    bench.learn(1)
    tasks = [call(), block(5), block(7, guarded=False)]
    assert bench.run(*tasks) == [Send(0, tasks, [1], 1 + 5 + 1)]


def test_unknown_functions_go_one_by_one() -> None:
    """While nobody knows how long an element takes, no task waits behind another at a worker."""
    bench = Bench(2)
    tasks = [call() for _ in range(5)]
    assert sent(bench.run(*tasks)) == {0: [tasks[0]], 1: [tasks[1]]}
    assert sent(bench.finish(1)) == {1: [tasks[2]]}
    assert list(bench.state.backlog) == tasks[3:]


def test_window_grows_with_what_is_learned() -> None:
    """A worker is fed 10 ms ahead, by what the elements have taken so far."""
    bench = Bench()
    tasks = [call() for _ in range(100)]
    bench.run(*tasks)
    assert sent(bench.finish(0, ns=MS, elements=1)) == {0: tasks[1:11]}
    assert sent(bench.finish(0, *[1] * 10, ns=10 * MS // 2, elements=10))[0] == tasks[11:30]


def test_window_shrinks_with_what_is_learned() -> None:
    """Elements that have become long are handed out one by one again."""
    bench = Bench()
    bench.learn(MS // 10)
    tasks = [call() for _ in range(300)]
    assert len(sent(bench.run(*tasks))[0]) == 100
    assert bench.finish(0, *[1] * 100, ns=3000 * MS, elements=100)[0] == Send(0, [tasks[100]], [], 1)


def test_records_read_from_a_journal_teach_nothing() -> None:
    """A report without times leaves the pace as it was."""
    bench = Bench()
    bench.run(call())
    bench.finish(0)
    assert bench.state.pace.window(1) == 1


def test_work_is_shared() -> None:
    """Free workers get equal shares, in order, rather than the first one a window full."""
    bench = Bench(3)
    bench(Hire(3))
    bench.man(0, 1, 2)
    bench.learn(MS // 100)
    tasks = [call() for _ in range(9)]
    assert sent(bench.submit(*tasks)) == {0: tasks[:3], 1: tasks[3:6], 2: tasks[6:]}


def test_the_least_loaded_come_first() -> None:
    """A task goes to the worker that holds the fewest elements."""
    bench = Bench(2)
    bench(Hire(2))
    bench.man(0, 1)
    bench.learn(MS // 100)
    bench.submit(block(5))
    later = [call(), call()]
    assert sent(bench.submit(later[0])) == {1: [later[0]]}
    assert sent(bench.submit(later[1])) == {1: [later[1]]}
    assert bench.seat(1).load == 2


def test_results_are_delivered_in_the_order_they_were_sent() -> None:
    """Records carry no task number: the first belongs to the first element that has none."""
    bench = Bench()
    bench.learn(1)
    single, guarded, plain = call(), block(2, base=10), block(5, base=100, guarded=False)
    bench.run(single, guarded, plain)
    bench.finish(0, 1, 1)
    assert results(single).heard == {0: (1, VALUE, b"")}
    assert results(guarded).heard.keys() == {10}
    bench.finish(0, 1, 3, kind=GROUP)
    assert results(guarded).heard.keys() == {10, 11}
    assert results(plain).heard.keys() == {100, 101, 102}
    assert bench.seat().state == BUSY
    bench.finish(0, 2, kind=GROUP)
    assert results(plain).heard.keys() == {100, 101, 102, 103, 104}
    assert (bench.seat().state, bench.seat().load, bench.seat().finished) == (IDLE, 0, 8)
    assert not bench.state.busy()


# Retries.


def test_error_is_retried_first() -> None:
    """A task that may be tried again is the next to run; its failures are not heard of while one try is left."""
    bench = Bench()
    task, other = call(retries=2), call()
    bench.run(task, other)
    assert bench.fail(0) == [Send(0, [task], [], 1)]
    assert task.attempts == 1
    assert bench.fail(0) == [Send(0, [task], [], 1)]
    assert outcome(task) is None
    assert sent(bench.fail(0)) == {0: [other]}
    assert outcome(task) == (1, ERROR, b"")
    assert bench.state.stats["retried"] == 2


def test_error_without_retries_is_the_result() -> None:
    """It is delivered like any result."""
    bench = Bench()
    task = call()
    bench.run(task)
    assert bench.fail(0) == []
    assert outcome(task) == (1, ERROR, b"")


def test_element_of_a_map_is_retried_alone() -> None:
    """The one that raised is queued as a task of its own, in front; the others of its task go on."""
    bench = Bench()
    bench.learn(1)
    task, other = block(3, base=10, retries=1), call()
    bench.run(task, other)
    bench.finish(0)
    orders = bench.fail(0)
    (part,) = sent(orders)[0]
    assert (part.base, part.first, part.count, part.attempts) == (10, 1, 1, 1)
    assert results(task).heard.keys() == {10}
    bench.finish(0, 1, 1, 1)
    assert results(task).heard.keys() == {10, 11, 12}
    assert bench.seat().state == IDLE


def test_retry_of_the_last_element_of_a_map() -> None:
    """A task whose last element is retried elsewhere is done with."""
    bench = Bench()
    bench.learn(1)
    task = block(2, retries=1)
    bench.run(task)
    bench.finish(0)
    (part,) = sent(bench.fail(0))[0]
    assert (task.state, part.state) == ("ended", SENT)
    bench.fail(0)
    assert results(task).heard == {0: (1, VALUE, b""), 1: (1, ERROR, b"")}


def test_backoff() -> None:
    """What is tried again waits for its time, twice as long each time; others run meanwhile."""
    bench = Bench()
    task, other, another = call(retries=2, backoff=SECOND), call(), call()
    bench.run(task, other, another)
    assert sent(bench.fail(0)) == {0: [other]}
    assert bench.state.due == bench.now + SECOND
    assert sent(bench.finish(0)) == {0: [another]}
    assert bench.finish(0) == []
    assert bench.state.busy()
    assert bench(Tick(), after=SECOND - 1) == []
    assert sent(bench(Tick(), after=1)) == {0: [task]}
    assert bench.fail(0) == []
    assert bench.state.due == bench.now + 2 * SECOND
    assert sent(bench(Tick(), after=2 * SECOND)) == {0: [task]}
    bench.fail(0)
    assert outcome(task) == (1, ERROR, b"")
    assert not bench.state.busy()


def test_backoff_after_a_death() -> None:
    """A crash is waited after like an exception; what had not started does not wait."""
    bench = Bench()
    bench.learn(MS)
    task, other = call(retries=1, backoff=SECOND), call()
    bench.run(task, other)
    bench.exit(0, started=1)
    assert sent(bench.man(1)) == {1: [other]}
    bench.finish(1)
    assert sent(bench(Tick(), after=SECOND)) == {1: [task]}


def test_cancel_during_backoff() -> None:
    """What waits for its time can be cancelled, and nothing waits for it any more."""
    bench = Bench()
    task = call(retries=1, backoff=SECOND)
    bench.run(task)
    bench.fail(0)
    bench(Cancel([task], kill=False))
    assert isinstance(error_of(task), TaskCancelled)
    assert not bench.state.busy()
    assert bench.state.due is None


def test_end_of_the_pool_during_backoff() -> None:
    """A pool that closes waits for it; one that is terminated ends it."""
    bench = Bench()
    task = call(retries=1, backoff=SECOND)
    bench.run(task)
    bench.fail(0)
    assert bench(Close()) == []
    bench(Terminate(PoolTerminated("over")))
    assert isinstance(error_of(task), PoolTerminated)


def test_last_attempt() -> None:
    """What is cancelled with `last` ends if it runs, but its error is not retried; what waits ends at once."""
    bench = Bench()
    bench.learn(MS)
    task, other = call(retries=5), call()
    bench.run(task, other)
    bench(Cancel([task, other], kill=False, last=True))
    bench(Taken(0, 1))
    assert isinstance(error_of(other), TaskCancelled)
    assert bench.fail(0) == []
    assert outcome(task) == (1, ERROR, b"")


@pytest.mark.parametrize(("retries", "error"), [(0, WorkerDied), (1, TaskCancelled)])
def test_death_in_the_last_attempt(retries: int, error: type[Exception]) -> None:
    """A crash that would have been tried again is a task that nobody has finished; else it is a crash."""
    bench = Bench()
    task = call(retries=retries)
    bench.run(task)
    bench(Cancel([task], kill=False, last=True))
    bench(Taken(0, 0))
    bench.exit(0, started=1)
    assert isinstance(error_of(task), error)


# Crashes.


def test_death_of_an_idle_worker() -> None:
    """It costs nothing, and another worker starts with the next task."""
    bench = Bench()
    bench.run(call())
    bench.finish(0)
    assert bench.exit(0, started=1) == []
    assert bench.state.seats == {}
    assert bench.state.stats["workers died"] == 1
    assert bench.state.stats["failed"] == 0
    assert bench.submit(call()) == [Start(1)]


def test_death_costs_the_running_task() -> None:
    """It ends with ``WorkerDied``, which names it, the worker, its end and what to do; the rest is queued in order."""
    bench = Bench()
    bench.learn(MS)
    tasks = [call(f"f{number}") for number in range(6)]
    bench.run(*tasks[:5])
    bench.submit(tasks[5])
    bench.finish(0)
    assert bench.exit(0, -9, started=2) == [Start(1)]
    error = error_of(tasks[1])
    assert type(error) is WorkerDied
    assert (error.task, error.pid, error.exitcode) == ("task f1", PID, -9)
    assert "task f1: its worker (pid 1000) was killed by SIGKILL" in str(error)
    assert "retries=1" in str(error)
    assert list(bench.state.backlog) == tasks[2:]
    assert all(task.state == QUEUED and task.seat is None for task in tasks[2:])
    assert sent(bench.man(1)) == {1: tasks[2:]}
    assert bench.state.stats["requeued"] == 4
    assert bench.state.stats["failed"] == 1


def test_death_between_two_tasks() -> None:
    """When all that was started was finished, nobody fails."""
    bench = Bench()
    bench.learn(MS)
    tasks = [call() for _ in range(3)]
    bench.run(*tasks)
    bench.finish(0)
    bench.exit(0, started=1)
    assert [outcome(task) for task in tasks[1:]] == [None, None]
    assert list(bench.state.backlog) == tasks[1:]


def test_death_is_retried() -> None:
    """A task with retries is the first to run again; after the last try it fails."""
    bench = Bench()
    bench.learn(MS)
    task, other = call(retries=1), call()
    bench.run(task, other)
    assert bench.exit(0, started=1) == [Start(1)]
    assert list(bench.state.backlog) == [task, other]
    assert sent(bench.man(1)) == {1: [task, other]}
    bench.exit(1, 1, started=1)
    error = error_of(task)
    assert isinstance(error, WorkerDied)
    assert (error.pid, error.exitcode) == (PID + 1, 1)
    assert outcome(other) is None


def test_death_inside_a_guarded_map() -> None:
    """The element that ran fails; those behind it were not started, and are queued as what is left of the task."""
    bench = Bench()
    bench.learn(MS)
    task, other = block(5, base=10), call()
    bench.run(task, other)
    bench.finish(0, 1, 1)
    bench.exit(0, started=3)
    assert results(task).errors() == {12: "WorkerDied"}
    assert "task f[12]" in str(results(task).heard[12])
    assert list(bench.state.backlog) == [task, other]
    assert (task.index(), task.count, task.done) == (13, 2, 0)
    bench.man(1)
    bench.finish(1, 1, 1, 1)
    assert results(task).heard.keys() == {10, 11, 12, 13, 14}


def test_death_at_the_last_element_of_a_map() -> None:
    """Nothing of the task is left to queue."""
    bench = Bench()
    bench.learn(MS)
    task = block(2)
    bench.run(task)
    bench.finish(0)
    assert bench.exit(0, started=2) == []
    assert results(task).errors() == {1: "WorkerDied"}
    assert (task.state, task.seat, len(bench.state.backlog)) == ("ended", None, 0)


def test_death_inside_a_guarded_map_is_retried_in_front() -> None:
    """First the element that is tried again, then the rest of its task, then the others."""
    bench = Bench()
    bench.learn(MS)
    task, other = block(4, retries=1), call()
    bench.run(task, other)
    bench.finish(0)
    bench.exit(0, started=2)
    part, rest, last = bench.state.backlog
    assert (part.index(), part.count, part.attempts) == (1, 1, 1)
    assert (rest.index(), rest.count, rest.attempts) == (2, 2, 0)
    assert (rest, last) == (task, other)


def test_death_inside_a_block() -> None:
    """The running element fails; earlier ones that were not committed run again, then the rest."""
    bench = Bench()
    bench.learn(MS // 100)
    task, other = block(10, base=100, guarded=False), call()
    bench.run(task, other)
    bench.finish(0, 2, kind=GROUP)
    bench.exit(0, started=6)
    assert results(task).errors() == {105: "WorkerDied"}
    again, rest, last = bench.state.backlog
    assert (again.index(), again.count, again.terms.guarded) == (102, 3, False)
    assert (rest.index(), rest.count) == (106, 4)
    assert (rest, last) == (task, other)
    bench.man(1)
    bench.finish(1, 3, 4, kind=GROUP)
    bench.finish(1)
    assert results(task).heard.keys() == set(range(100, 110))


def test_death_at_the_end_of_a_block() -> None:
    """When its last element was running only the uncommitted ones are left."""
    bench = Bench()
    bench.learn(MS // 100)
    task = block(4, guarded=False)
    bench.run(task)
    bench.exit(0, started=4)
    (again,) = bench.state.backlog
    assert (again.index(), again.count) == (0, 3)
    assert (task.state, results(task).errors()) == ("ended", {3: "WorkerDied"})


# Time-outs.


def test_timeout_from_look_to_kill() -> None:
    """Look, recall what waits, look again, kill; exactly the element that was over its time has ``TaskTimeout``."""
    bench = Bench()
    bench.learn(MS)
    slow, behind = call("slow", timeout=SECOND), call("behind", timeout=SECOND)
    bench.run(slow, behind)
    bench.seat().hides = False  # not what this is about
    bench()
    assert bench.state.due == SECOND
    assert bench(after=SECOND) == [Look(0)]
    assert bench(Seen(0, 1, 0)) == [Recall(0, 2)]
    assert bench(Taken(0, 1)) == [Look(0)]
    assert (behind.state, bench.seat().state) == (QUEUED, RECALLED)
    assert bench(Seen(0, 1, 0)) == [Trace(0)]
    assert outcome(slow) is None
    assert bench.exit(0, -9, started=1) == [Start(1)]
    error = error_of(slow)
    assert isinstance(error, TaskTimeout)
    assert (error.task, error.pid, error.seconds) == ("task slow", PID, 1.0)
    assert "task slow ran longer than timeout=1 s; its worker (pid 1000) was killed; give it more time" in str(error)
    assert sent(bench.man(1)) == {1: [behind]}
    assert bench.state.stats["workers died"] == 0


def test_timeout_with_nothing_behind_it() -> None:
    """When no permit was left to take back the worker stays busy, and a second look kills all the same."""
    bench = Bench()
    task = call(timeout=SECOND)
    bench.run(task)
    assert bench(Tick(), after=SECOND) == [Look(0)]
    assert bench(Seen(0, 1, 0)) == [Recall(0, 1)]
    assert bench(Taken(0, 0)) == [Look(0)]
    assert bench.seat().state == BUSY
    assert bench(Seen(0, 1, 0)) == [Trace(0)]


def test_timeout_counts_from_the_start_of_the_element() -> None:
    """Time spent in front of it does not count: the journal says when it began."""
    bench = Bench()
    bench.run(call(timeout=SECOND))
    assert bench(Tick(), after=SECOND) == [Look(0)]
    assert bench(Seen(0, 1, 400 * MS)) == []
    assert bench.state.due == 1400 * MS
    assert bench(Tick(), after=399 * MS) == []
    assert bench(Tick(), after=MS) == [Look(0)]


def test_timeout_of_an_element_that_finishes_meanwhile() -> None:
    """If another one runs when the worker is looked at again, that one has its own time."""
    bench = Bench()
    bench.learn(MS)
    first, second = call(timeout=SECOND), call(timeout=SECOND)
    bench.run(first, second)
    bench(Tick(), after=SECOND)
    assert bench(Seen(0, 1, 0)) == [Recall(0, 2)]
    assert bench(Taken(0, 0)) == [Look(0)]
    bench.finish(0)
    assert bench(Seen(0, 2, SECOND)) == []
    assert outcome(first) == (1, VALUE, b"")
    assert not bench.seat().condemned
    assert bench.state.due is not None
    assert bench.now < bench.state.due <= 2 * SECOND


def test_timeout_against_the_end_of_another_element() -> None:
    """The next look may find another one over its time: nothing else can start there, so that one is killed."""
    bench = Bench()
    bench.learn(MS)
    bench.run(call(timeout=MS), call(timeout=MS))
    bench(Tick(), after=SECOND)
    bench(Seen(0, 1, 0))
    bench(Taken(0, 0))
    bench.finish(0)
    assert bench(Seen(0, 2, 0)) == [Trace(0)]
    bench.exit(0, started=2)
    assert bench.state.stats["failed"] == 1


def test_look_between_two_elements() -> None:
    """When nothing runs at the moment of the look, the next element has all its time."""
    bench = Bench()
    bench.learn(MS)
    bench.run(call(timeout=SECOND), call(timeout=SECOND))
    bench(Tick(), after=SECOND)
    bench.finish(0)
    assert bench(Seen(0, 1, 0)) == []
    assert not bench.seat().condemned
    assert bench.seat().since is None


def test_look_before_the_first_element() -> None:
    """The clock of an element that has not begun starts anew."""
    bench = Bench()
    bench.run(call(timeout=100 * MS))
    assert bench(Tick(), after=100 * MS) == [Look(0)]
    assert bench(Seen(0, 0, 0)) == []
    assert bench.state.due == 200 * MS


def test_timeout_is_retried() -> None:
    """A task with retries that was killed for its time is the first to run again."""
    bench = Bench()
    task, other = call(timeout=SECOND, retries=1), call()
    bench.run(task, other)
    bench(Tick(), after=SECOND)
    bench(Seen(0, 1, 0))
    bench(Taken(0, 0))
    bench(Seen(0, 1, 0))
    bench.exit(0, started=1)
    assert list(bench.state.backlog) == [task, other]
    assert task.attempts == 1


def test_timeout_of_one_element_of_a_map() -> None:
    """The others of its task run elsewhere."""
    bench = Bench()
    bench.learn(MS)
    task = block(4, timeout=SECOND)
    bench.run(task)
    bench.finish(0)
    bench(Tick(), after=SECOND)
    assert bench(Seen(0, 2, 0)) == [Recall(0, 3)]
    bench(Taken(0, 2))
    assert bench(Seen(0, 2, 0)) == [Trace(0)]
    bench.exit(0, started=2)
    assert results(task).errors() == {1: "TaskTimeout"}
    (rest,) = bench.state.backlog
    assert (rest.index(), rest.count) == (2, 2)


def test_element_that_finished_before_the_kill() -> None:
    """Its result was committed in the last moment: it is delivered, and nobody fails."""
    bench = Bench()
    task = call(timeout=SECOND)
    bench.run(task)
    bench(Tick(), after=SECOND)
    bench(Seen(0, 1, 0))
    bench(Taken(0, 0))
    assert bench(Seen(0, 1, 0)) == [Trace(0)]
    bench.finish(0)
    bench.exit(0, started=1)
    assert outcome(task) == (1, VALUE, b"")


def test_worker_whose_element_ends_before_the_second_look_works_on() -> None:
    """What was doomed has ended, so the worker is one like any other."""
    bench = Bench()
    bench.run(call(timeout=SECOND))
    bench(Tick(), after=SECOND)
    assert bench(Seen(0, 1, 0)) == [Recall(0, 1)]
    assert bench(Taken(0, 0)) == [Look(0)]
    bench.finish(0)
    assert bench(Seen(0, 1, 0)) == []
    task = call()
    assert sent(bench.submit(task)) == {0: [task]}


# Results that a long element keeps back, and work that waits behind it.


def test_results_behind_a_long_element_are_looked_for() -> None:
    """A worker with several elements is looked at after 5 ms of silence, once for each silence."""
    bench = Bench()
    bench.learn(MS)
    bench.run(call(), call())
    assert bench.state.due == STUCK_NS
    assert bench(Tick(), after=STUCK_NS) == [Look(0)]
    bench.finish(0)
    assert bench(Seen(0, 2, 0)) == []
    assert bench.state.due is None


def test_looks_for_results_go_on_until_an_element_is_long() -> None:
    """What a look finds just begun may be followed by others, whose results are kept back again."""
    bench = Bench()
    bench.learn(MS)
    bench.run(call(), call())
    assert bench(Tick(), after=STUCK_NS) == [Look(0)]
    assert bench(Seen(0, 1, 2 * MS)) == []
    assert bench.state.due == 2 * MS + STUCK_NS
    assert bench(Tick(), after=2 * MS) == [Look(0)]
    assert bench(Seen(0, 1, 2 * MS)) == []
    assert bench.state.due is None


def beside_an_idle_worker(*tasks: Task) -> Bench:
    """The worker at seat 0 has *tasks*, the one at seat 1 has nothing; the clock stands 5 ms later, before a look."""
    bench = Bench(2)
    bench.learn(MS // 10)
    bench.run(tasks[0])
    bench.submit(*tasks[1:])
    bench(Hire(2))
    bench.man(1)
    assert list(bench.seat(0).sent) == list(tasks)
    assert bench.state.due == STUCK_NS
    assert bench(Tick(), after=STUCK_NS) == [Look(0)]
    return bench


def test_work_behind_a_long_element_is_taken_back() -> None:
    """When somebody is free, what waits at a worker that is stuck runs elsewhere."""
    tasks = [call(str(number)) for number in range(3)]
    bench = beside_an_idle_worker(*tasks)
    assert bench(Seen(0, 1, 0)) == [Recall(0, 3)]
    assert bench(Taken(0, 2)) == [Send(1, tasks[1:], [1], 2)]
    assert (bench.seat(0).state, bench.seat(0).load) == (RECALLED, 1)
    assert bench.state.stats["requeued"] == 2


def test_work_is_not_taken_back_before_its_time() -> None:
    """An element that has not run for 5 ms is left alone."""
    bench = beside_an_idle_worker(call(), call())
    assert bench(Seen(0, 1, 2 * MS)) == []
    assert bench.state.due == 2 * MS + STUCK_NS


def test_work_is_not_taken_back_at_once_when_nobody_is_free() -> None:
    """Moving it to another queue would help nobody, unless it takes long."""
    bench = Bench(2)
    bench.run(call(), call())
    bench.learn(MS)
    bench.submit(call(), call())
    assert bench(Tick(), after=STUCK_NS) == [Look(0), Look(1)]
    assert bench(Seen(0, 1, 0), Seen(1, 1, 0)) == []
    assert bench.state.due == LONG_NS


def test_work_does_not_wait_behind_a_long_element_while_another_worker_goes_on() -> None:
    """It is the next to go there, although that one is never idle and others wait for it."""
    urgent, others = call("urgent"), [call(function=2) for _ in range(4)]
    bench = Bench(2)
    bench.learn(MS)
    bench.learn(LONG_NS, function=2)
    bench.run(call("long", function=3), others[0])
    bench.submit(urgent)
    assert urgent in bench.seat(0).sent
    bench.submit(*others[1:])
    assert bench(Tick(), after=STUCK_NS) == [Look(0)]
    assert bench(Seen(0, 1, 0)) == []
    assert bench(Tick(), after=LONG_NS - STUCK_NS) == [Look(0)]
    assert bench(Seen(0, 1, 0)) == [Recall(0, 2)]
    assert sent(bench(Taken(0, 1))) == {1: [urgent]}


def test_what_takes_long_does_not_follow_what_does_not() -> None:
    """Each function has its own window, also where calls of several stand in one queue."""
    quick, slow = call(), [call(function=2) for _ in range(3)]
    bench = Bench()
    bench.learn(MS)
    bench.learn(LONG_NS, function=2)
    assert sent(bench.run(quick, *slow)) == {0: [quick]}
    assert list(bench.state.backlog) == slow


def test_work_stays_where_all_others_are_gone_for_long() -> None:
    """Where there is no other queue that it could be moved to, nobody is looked at again and again."""
    bench = Bench(2)
    bench.run(call(), call())
    bench.learn(MS)
    bench.submit(call(), call())
    bench(Tick(), after=STUCK_NS)
    bench(Seen(0, 1, 0), Seen(1, 1, 0))
    assert bench(Tick(), after=LONG_NS) == [Look(0), Look(1)]
    assert bench(Seen(0, 1, 0), Seen(1, 1, 0)) == [Recall(0, 2)]
    bench(Taken(0, 1))
    assert bench(Seen(1, 1, 0)) == []
    assert bench.state.due is None


def test_a_part_of_a_guarded_task_is_taken_back() -> None:
    """Its first elements keep their permits; the last travel on as a task of their own."""
    task = block(5, base=10, retries=1)
    bench = beside_an_idle_worker(task)
    assert bench(Seen(0, 1, 0)) == [Recall(0, 5)]
    orders = bench(Taken(0, 3))
    (part,) = sent(orders)[1]
    assert (part.index(), part.count, part.terms.retries) == (12, 3, 1)
    assert (task.index(), task.count, task.state) == (10, 2, SENT)
    assert bench.seat(0).load == 2
    bench.finish(0, 1, 1)
    bench.finish(1, 1, 1, 1)
    assert results(task).heard.keys() == {10, 11, 12, 13, 14}


def test_a_block_is_not_divided_by_a_recall() -> None:
    """A task with one permit for all is taken back whole or not at all."""
    first, second = block(2, guarded=False), block(3, guarded=False)
    bench = beside_an_idle_worker(first, second)
    assert bench(Seen(0, 1, 0)) == [Recall(0, 2)]
    assert sent(bench(Taken(0, 1))) == {1: [second]}
    assert (first.count, second.count, second.state) == (2, 3, SENT)


def test_nothing_is_sent_between_a_recall_and_its_answer() -> None:
    """A stale task must not find a fresh permit: new work waits until the worker has dropped the old."""
    bench = Bench()
    bench.learn(MS)
    running, waiting = call(timeout=MS), call()
    bench.run(running, waiting)
    bench(Tick(), after=STUCK_NS)
    later = call()
    assert bench(Seen(0, 1, bench.now)) == []  # the look found it within its time
    assert bench(Cancel([waiting], kill=False)) == [Recall(0, 2)]
    assert bench.submit(later) == []
    assert bench(Taken(0, 1)) == []
    assert bench.submit() == []
    bench.finish(0)
    assert (bench.seat().state, bench.submit()) == (RECALLED, [])
    assert bench(Dropped(0)) == [Send(0, [later], [], 1)]


def test_nothing_is_sent_to_a_doomed_worker() -> None:
    """Also when there was nothing to take back: it is about to be killed."""
    bench = Bench()
    bench.run(call(timeout=SECOND))
    bench(Tick(), after=SECOND)
    bench(Seen(0, 1, 0))
    bench.learn(MS)
    assert bench.submit(call()) == []
    assert bench(Taken(0, 0)) == [Look(0)]


def test_recall_that_came_too_late() -> None:
    """When every permit was gone the worker goes on as before, is not asked again, and can be sent more."""
    bench = beside_an_idle_worker(call(), call())
    assert bench(Seen(0, 1, 0)) == [Recall(0, 2)]
    assert bench(Taken(0, 0)) == []
    assert bench.seat(0).state == BUSY
    assert bench(Tick(), after=SECOND) == []
    assert bench.state.due is None
    assert sent(bench.submit(*[call() for _ in range(50)])).keys() == {0, 1}
    assert bench.state.due is not None


def test_late_and_stray_reports_change_nothing() -> None:
    """An answer to a recall, or a look, that comes when there is nothing to decide."""
    bench = Bench()
    bench.run(call())
    bench.finish(0)
    assert bench(Seen(0, 1, 0), Dropped(0)) == []
    assert bench.seat().state == IDLE


# Cancelling.


def test_cancel_of_a_queued_task() -> None:
    """It ends at once, and its place in the queue is skipped."""
    bench = Bench()
    first, second, third = call(), call("g"), call()
    bench.run(first, second, third)
    assert bench(Cancel([second], kill=False)) == []
    error = error_of(second)
    assert isinstance(error, TaskCancelled)
    assert (error.task, error.pid) == ("task g", None)
    assert "task g was cancelled by cancel()" in str(error)
    assert sent(bench.finish(0)) == {0: [third]}


def test_cancel_of_a_task_that_was_sent() -> None:
    """What has not started is taken back; what came with it and was not meant runs later."""
    bench = Bench()
    bench.learn(MS)
    tasks = [call() for _ in range(4)]
    bench.run(*tasks)
    assert bench(Cancel([tasks[2]], kill=False)) == [Recall(0, 4)]
    assert bench(Taken(0, 3)) == []
    assert isinstance(outcome(tasks[2]), TaskCancelled)
    assert [outcome(task) for task in (tasks[0], tasks[1], tasks[3])] == [None] * 3
    bench.finish(0)
    assert sent(bench(Dropped(0))) == {0: [tasks[1], tasks[3]]}


def test_cancel_leaves_a_running_task_alone() -> None:
    """It goes on as if nothing had been said, retries included."""
    bench = Bench()
    task = call(retries=1)
    bench.run(task)
    assert bench(Cancel([task], kill=False)) == [Recall(0, 1)]
    assert bench(Taken(0, 0)) == []
    assert task.cancelled == 0
    assert sent(bench.fail(0)) == {0: [task]}
    bench.finish(0)
    assert outcome(task) == (1, VALUE, b"")


def test_cancel_kills_a_running_task() -> None:
    """Recall, look, kill; the task ends with ``TaskCancelled`` and is not retried."""
    bench = Bench()
    task = call("g", retries=3)
    bench.run(task)
    assert bench(Cancel([task], kill=True)) == [Recall(0, 1)]
    assert bench(Taken(0, 0)) == [Look(0)]
    assert bench(Seen(0, 1, 0)) == [Kill(0, gently=False)]
    bench.exit(0, started=1)
    error = error_of(task)
    assert isinstance(error, TaskCancelled)
    assert (error.task, error.pid) == ("task g", PID)
    assert len(bench.state.backlog) == 0


def test_cancel_kills_a_running_task_and_spares_what_waits_behind_it() -> None:
    """The others were taken back, and run in another worker."""
    bench = Bench()
    bench.learn(MS)
    running, waiting = call(), call()
    bench.run(running, waiting)
    bench(Cancel([running], kill=True))
    assert bench(Taken(0, 1)) == [Look(0)]
    assert bench(Seen(0, 1, 0)) == [Kill(0, gently=False)]
    assert bench.exit(0, started=1) == [Start(1)]
    assert sent(bench.man(1)) == {1: [waiting]}


def test_cancel_kills_what_runs_at_a_worker_that_is_recalled() -> None:
    """Nothing else can start there: one look is enough."""
    bench = Bench()
    bench.learn(MS)
    running, waiting = call(), call()
    bench.run(running, waiting)
    bench(Cancel([waiting], kill=False))
    bench(Taken(0, 1))
    assert bench(Cancel([running], kill=True)) == [Look(0)]
    assert bench(Seen(0, 1, 0)) == [Kill(0, gently=False)]


def test_cancel_of_what_runs_at_a_worker_that_is_recalled() -> None:
    """Without *kill* it goes on."""
    bench = Bench()
    bench.learn(MS)
    running, waiting = call(), call()
    bench.run(running, waiting)
    bench(Cancel([waiting], kill=False))
    bench(Taken(0, 1))
    assert bench(Cancel([running], kill=False)) == []
    assert running.cancelled == 0


def test_cancel_of_a_map() -> None:
    """Elements that have not started end as cancelled, whether queued or sent; the one that runs goes on."""
    bench = Bench()
    bench.learn(5 * MS)
    first, second = block(3), block(3, base=3)
    bench.run(first, second)
    assert list(bench.state.backlog) == [second]
    assert bench(Cancel([first, second], kill=False)) == [Recall(0, 3)]
    bench(Taken(0, 2))
    assert results(second).errors() == dict.fromkeys((3, 4, 5), "TaskCancelled")
    assert results(first).errors() == dict.fromkeys((1, 2), "TaskCancelled")
    bench.finish(0)
    assert results(first).heard[0] == (1, VALUE, b"")
    assert bench(Dropped(0)) == []


def test_cancel_of_a_task_that_has_ended() -> None:
    """It is too late."""
    bench = Bench()
    task = call()
    bench.run(task)
    bench.finish(0)
    assert bench(Cancel([task], kill=True)) == []
    assert outcome(task) == (1, VALUE, b"")


def test_cancel_against_a_death() -> None:
    """A task that is to be killed and whose worker dies before ends once, and is not run again."""
    bench = Bench()
    bench.learn(MS)
    task = block(3)
    bench.run(task)
    bench(Cancel([task], kill=True))
    bench(Taken(0, 2))
    bench.exit(0, -11, started=1)
    assert results(task).heard.keys() == {0, 1, 2}
    assert len(bench.state.backlog) == 0


def test_cancel_again_of_what_is_being_killed() -> None:
    """The second one changes nothing: the task was cancelled, and that is its error."""
    bench = Bench()
    task = call()
    bench.run(task)
    bench(Cancel([task], kill=True))
    bench(Taken(0, 0))
    assert bench(Seen(0, 1, 0)) == [Kill(0, gently=False)]
    bench(Cancel([task], kill=False))
    bench.exit(0, started=1)
    assert isinstance(outcome(task), TaskCancelled)


def test_cancel_kills_a_block_that_goes_on_meanwhile() -> None:
    """Elements of a block may start between the look and the kill; it was cancelled all the same."""
    bench = Bench()
    bench.learn(MS // 100)
    task = block(10, guarded=False)
    bench.run(task)
    bench(Cancel([task], kill=True))
    bench(Taken(0, 0))
    assert bench(Seen(0, 4, 0)) == [Kill(0, gently=False)]
    bench.finish(0, 5, kind=GROUP)
    bench.exit(0, started=6)
    assert results(task).errors() == dict.fromkeys(range(5, 10), "TaskCancelled")


def test_cancelled_block_is_not_run_again() -> None:
    """What a killed worker had run of it, and not committed, is cancelled too."""
    bench = Bench()
    bench.learn(MS // 100)
    task = block(10, guarded=False)
    bench.run(task)
    bench(Cancel([task], kill=True))
    bench(Taken(0, 0))
    bench(Seen(0, 3, 0))
    assert bench.exit(0, started=3) == []
    assert results(task).heard.keys() == set(range(10))


def test_cancelled_element_of_a_map_is_not_retried() -> None:
    """It raised before it could be killed, and nobody wants it any more."""
    bench = Bench()
    bench.learn(MS)
    task = block(3, retries=1)
    bench.run(task)
    bench(Cancel([task], kill=True))
    assert bench(Taken(0, 1)) == [Look(0)]
    bench.finish(0)
    bench.fail(0)
    assert bench(Seen(0, 2, 0), Dropped(0)) == []
    assert results(task).heard.keys() == {0, 1, 2}


def test_cancel_kills_a_task_that_was_about_to_start() -> None:
    """It has its permit and is not yet named in the journal: the worker must be looked at again."""
    bench = Bench()
    task = call()
    bench.run(task)
    bench(Cancel([task], kill=True))
    assert bench(Taken(0, 0)) == [Look(0)]
    assert bench(Seen(0, 0, 0)) == []
    assert bench.state.due is not None


def test_one_look_for_two_reasons() -> None:
    """What is cancelled and over its time at once is looked at once, after the recall, and killed as cancelled."""
    bench = Bench()
    task = call(timeout=SECOND)
    bench.run(task)
    bench.now = SECOND
    assert bench(Cancel([task], kill=True)) == [Recall(0, 1)]
    assert bench(Taken(0, 0)) == [Look(0)]
    assert bench(Seen(0, 1, 0)) == [Trace(0)]
    bench.exit(0, started=1)
    assert isinstance(outcome(task), TaskCancelled)


def test_look_that_was_under_way_makes_no_certainty() -> None:
    """A kill follows only what was seen after the recall was answered: before that an innocent could still start."""
    bench = Bench()
    bench.learn(MS)
    task, innocent = call(timeout=SECOND), call()
    bench.run(task, innocent)
    assert bench(Tick(), after=SECOND) == [Look(0)]
    assert bench(Seen(0, 1, 0)) == [Recall(0, 2)]
    assert bench(Seen(0, 1, 0)) == []
    assert bench(Taken(0, 1)) == [Look(0)]
    assert bench(Seen(0, 1, 0)) == [Trace(0)]


def test_worker_that_was_condemned_for_what_has_ended() -> None:
    """The cancelled task was about to start; it ends before the next look, and the one behind it is innocent."""
    bench = Bench()
    bench.learn(MS)
    task, innocent = call(), call()
    bench.run(task, innocent)
    bench(Cancel([task], kill=True))
    assert bench(Taken(0, 0)) == [Look(0)]
    assert bench(Seen(0, 0, 0)) == []
    bench.finish(0)
    assert bench(Tick(), after=STUCK_NS) == [Look(0)]
    assert bench(Seen(0, 2, 0)) == []
    later = call()
    assert sent(bench.submit(later)) == {0: [later]}


# Recycling.


def test_worker_retires_after_its_tasks() -> None:
    """It is given no more than its share, then told to leave; another takes over."""
    bench = Bench(1, 2)
    bench.learn(MS)
    tasks = [call() for _ in range(3)]
    assert sent(bench.run(tasks[0])) == {0: tasks[:1]}
    assert bench.finish(0) == []
    assert sent(bench.submit(*tasks[1:])) == {0: tasks[1:2]}
    assert bench.finish(0) == [Stop(0), Start(1)]
    assert bench.seat(0).state == STOPPING
    assert sent(bench.man(1)) == {1: [tasks[2]]}
    bench.exit(0, 0, started=2)
    assert bench.state.stats["workers died"] == 0


def test_worker_retires_without_successor() -> None:
    """When nothing waits nobody is started in its place."""
    bench = Bench(1, 1)
    bench.run(call())
    assert bench.finish(0) == [Stop(0)]
    assert bench.exit(0, 0, started=1) == []
    assert bench.state.room(1) == 1


def test_chunks_count_as_tasks() -> None:
    """A task of several elements is one of those a worker may take."""
    bench = Bench(1, 1)
    bench.learn(MS)
    bench.run(block(3, guarded=False))
    assert bench.finish(0, 3, kind=GROUP) == [Stop(0)]


# Starts that fail.


def test_failing_initializer_fails_what_is_queued() -> None:
    """Each waiting task ends with its error, once; no worker is started in its place."""
    bench = Bench(2)
    tasks = [call(), call(), block(3)]
    bench.submit(*tasks)
    assert bench(Refused(0, BROKEN)) == []
    assert [error_of(task) for task in tasks] == [BROKEN] * 3
    assert results(tasks[2]).counted == {"InitializerError": 3}
    assert bench.exit(0, 1) == []
    assert bench(Refused(1, BROKEN)) == []
    assert bench.exit(1, 1) == []
    assert bench.state.seats == {}


def test_one_probe_at_a_time_after_a_failing_initializer() -> None:
    """The next tasks are tried with one worker; when that comes up, the others follow."""
    bench = Bench(3)
    bench.submit(call())
    bench(Refused(0, BROKEN), Exited(0, 1, (0,), PID))
    assert bench.submit(call(), call()) == [Start(1)]
    assert bench.submit(call()) == []
    assert bench(Hire(3)) == []
    bench(Refused(1, BROKEN), Exited(1, 1, (0,), PID))
    tasks = [call(), call(), call()]
    assert bench.submit(*tasks) == [Start(2)]
    orders = bench.man(2)
    assert sent(orders) == {2: [tasks[0]]}
    assert orders[1:] == [Start(3), Start(4)]


def test_refusal_spares_what_was_sent() -> None:
    """A task at a healthy worker goes on."""
    bench = Bench(2)
    running = call()
    bench.run(running)
    waiting = call()
    bench.submit(waiting)
    bench(Refused(1, BROKEN))
    assert (outcome(running), error_of(waiting)) == (None, BROKEN)


def test_no_process_to_be_had() -> None:
    """Without any worker it is the error of all who wait, at once; the next task is tried anew."""
    bench = Bench(2)
    tasks = [call(), call()]
    bench.submit(*tasks)
    assert bench(Unstarted(0, BROKEN)) == []
    assert [outcome(task) for task in tasks] == [None, None]  # the other may come up
    assert bench(Unstarted(1, BROKEN)) == []
    assert [error_of(task) for task in tasks] == [BROKEN, BROKEN]
    assert (bench.state.seats, bench.state.due, bench.state.stats["workers started"]) == ({}, None, 0)
    assert bench.submit(call()) == [Start(2)]
    bench.man(2)
    assert bench.submit(call(), call()) == [Start(3)]


def test_no_process_for_another_worker() -> None:
    """The pool goes on with those it has, and tries again later, and ever later, with one."""
    bench = Bench(4)
    running = call()
    bench.run(running)
    waiting = [call() for _ in range(3)]
    assert bench.submit(*waiting) == [Start(1), Start(2), Start(3)]
    for seat in (1, 2, 3):
        assert bench(Unstarted(seat, BROKEN)) == []
    pauses, seat = [], 4
    for _ in range(8):
        due = bench.state.due
        assert due is not None
        pauses.append((due - bench.now) // MS)
        assert bench(Tick(), after=due - bench.now - 1) == []
        assert bench.submit(call()) == []  # work that arrives does not hurry it: that would be a busy loop
        assert bench(Tick(), after=1) == [Start(seat)]
        assert bench.state.due is None  # what comes of it decides
        assert bench.submit(call()) == []
        assert bench(Unstarted(seat, BROKEN)) == []
        seat += 1
    assert pauses == [20, 40, 80, 160, 320, 640, 1000, 1000]
    assert [outcome(task) for task in [running, *waiting]] == [None] * 4
    bench(Tick(), after=SECOND)
    orders = bench.man(seat)
    assert sent(orders) == {seat: [waiting[0]]}
    assert orders[1:] == [Start(seat + 1), Start(seat + 2)]  # one has come up: the others follow


def test_no_process_in_the_place_of_one_that_died() -> None:
    """The end of any worker makes room for another, so it is tried at once."""
    bench = Bench(2)
    tasks = [call(), call()]
    bench.run(*tasks)
    waiting = call()
    bench.submit(waiting)
    assert bench.exit(0, started=1) == [Start(2)]
    assert bench(Unstarted(2, BROKEN)) == []
    assert bench.state.due is not None
    assert bench.exit(1, started=1) == [Start(3)]
    assert outcome(waiting) is None
    assert bench(Unstarted(3, BROKEN)) == []
    assert error_of(waiting) is BROKEN


def test_no_process_and_no_work() -> None:
    """Nothing is tried again for its own sake, nor in the place of workers that are leaving."""
    bench = Bench(2)
    assert bench(Hire(2)) == [Start(0), Start(1)]
    bench.man(0)
    assert bench(Unstarted(1, BROKEN)) == []
    assert (bench.state.due, bench.state.busy()) == (None, False)

    bench = Bench(2, tasks_per_child=1)
    bench.run(call())
    waiting = call()
    bench.submit(waiting)
    assert bench.finish(0) == [Stop(0)]
    assert bench(Unstarted(1, BROKEN)) == []
    assert error_of(waiting) is BROKEN


def test_work_behind_a_long_element_while_there_is_no_process() -> None:
    """It is not taken back before the next start is tried, and then it is."""
    bench = Bench(2)
    bench.learn(MS)
    tasks = [call() for _ in range(10)]
    assert bench.submit(*tasks) == [Start(0), Start(1)]
    assert sent(bench.man(0)) == {0: tasks}
    assert bench(Unstarted(1, BROKEN), after=MS) == []
    assert bench.state.due == STUCK_NS  # results may stand behind it
    assert bench(Tick(), after=STUCK_NS - MS) == [Look(0)]
    assert bench(Seen(0, 1, 0)) == []
    assert bench.state.due == 21 * MS
    assert bench(Tick(), after=21 * MS - bench.now) == [Start(2)]
    assert bench(Unstarted(2, BROKEN)) == []
    assert bench.state.due == 61 * MS
    assert bench(Tick(), after=40 * MS) == [Start(3)]
    assert bench.man(3) == [Look(0)]
    assert bench(Seen(0, 1, 0)) == [Recall(0, 10)]


def test_no_process_after_a_termination() -> None:
    """Nobody is told, and nothing is tried again."""
    bench = Bench(2)
    bench.run(call())
    bench.submit(call())
    bench(Terminate(OVER))
    assert bench(Unstarted(1, BROKEN)) == []
    bench.exit(0, -15)
    assert bench(Tick(), after=SECOND) == []
    assert (bench.state.seats, bench.state.due) == ({}, None)


def test_starts_that_crash() -> None:
    """The first failure may be chance; after the second in a row the tasks get the reason."""
    bench = Bench()
    task = call()
    bench.submit(task)
    assert bench.exit(0, 1) == [Start(1)]
    assert bench.exit(1, -11) == []
    error = error_of(task)
    assert isinstance(error, InitializerError)
    assert "no worker could be started: the last one (pid 1001) was killed by SIGSEGV" in str(error)
    assert "run the initializer" in str(error)
    assert bench.submit(call()) == [Start(2)]
    assert bench.exit(2, 1) == []


def test_one_probe_at_a_time_after_starts_that_crash() -> None:
    """As after an initializer that raises."""
    bench = Bench(3)
    bench.submit(call())
    bench.exit(0, 1)
    bench.exit(1, 1)
    assert bench.submit(call(), call()) == [Start(2)]


def test_a_worker_that_comes_up_ends_the_counting() -> None:
    """Only failures in a row count."""
    bench = Bench()
    task, other = call(), call()
    bench.submit(task)
    bench.exit(0, 1)
    bench.man(1)
    bench.exit(1, 1, started=1)
    bench.submit(other)
    assert bench.exit(2, 1) == [Start(3)]
    assert outcome(other) is None


def test_starts_that_are_killed_inside_the_initializer() -> None:
    """That may be its own doing: four in a row are enough."""
    bench = Bench()
    task = call()
    bench.submit(task)
    for seat in range(3):
        assert bench.exit(seat, -9, started=IN_INITIALIZER) == [Start(seat + 1)]
    assert bench.exit(3, -9, started=IN_INITIALIZER) == []
    assert isinstance(outcome(task), InitializerError)


def test_starts_that_crash_or_are_killed() -> None:
    """Leaving by itself weighs twice as much as being killed inside the initializer."""
    bench = Bench()
    task = call()
    bench.submit(task)
    assert bench.exit(0, 1) == [Start(1)]
    assert bench.exit(1, -9, started=IN_INITIALIZER) == [Start(2)]
    assert bench.exit(2, -9, started=IN_INITIALIZER) == []
    assert isinstance(outcome(task), InitializerError)


def test_starts_that_somebody_shoots() -> None:
    """A signal from outside says nothing about the initializer: many are borne, but not for ever."""
    bench = Bench()
    bench.now = 100 * SECOND
    task = call()
    bench.submit(task)
    for seat in range(1000):
        assert bench.exit(seat, (-9, -15, -1, -2, None)[seat % 5]) == [Start(seat + 1)]
    bench.now += 31 * SECOND
    assert bench.exit(1000, -9) == []
    assert "pid 2000) was killed by SIGKILL" in str(error_of(task))


def test_few_starts_that_somebody_shoots() -> None:
    """Over whatever time: a few are chance."""
    bench = Bench()
    bench.submit(call())
    for seat in range(10):
        bench.now += 100 * SECOND
        assert bench.exit(seat, -15) == [Start(seat + 1)]


# The end.


def test_close_of_an_idle_pool() -> None:
    """Its workers leave, those on their way as soon as they are ready."""
    bench = Bench(2)
    bench(Hire(2))
    bench.man(0)
    assert bench(Close()) == [Stop(0)]
    assert bench.man(1) == [Stop(1)]
    assert bench.exit(0, 0) == []
    assert bench.exit(1, 0) == []
    assert not bench.state.busy()
    assert bench.state.stats["workers died"] == 0


def test_close_finishes_what_there_is() -> None:
    """Workers stay while something is queued, and a death is made good."""
    bench = Bench()
    tasks = [call() for _ in range(3)]
    bench.run(*tasks)
    assert bench(Close()) == []
    assert sent(bench.finish(0)) == {0: [tasks[1]]}
    assert bench.exit(0, started=2) == [Start(1)]
    assert sent(bench.man(1)) == {1: [tasks[2]]}
    assert bench.finish(1) == [Stop(1)]


def test_close_waits_for_the_answer_to_a_recall() -> None:
    """Then the worker is told to leave."""
    bench = Bench()
    bench.learn(MS)
    running, waiting = call(), call()
    bench.run(running, waiting)
    bench(Cancel([waiting], kill=False))
    bench(Taken(0, 1), Close())
    assert bench.finish(0) == []
    assert bench(Dropped(0)) == [Stop(0)]


def test_terminate_fails_everything_at_once() -> None:
    """What is queued, what is sent, what runs; each worker gets SIGTERM, in whatever state it is."""
    bench = Bench(3)
    running, sent_, queued = call(), block(4), [call(), call()]
    bench.run(running, sent_)
    bench.finish(1)
    bench.submit(*queued)
    assert bench(Terminate(OVER)) == [Kill(0, gently=True), Kill(1, gently=True), Kill(2, gently=True)]
    assert [error_of(task) for task in (running, *queued)] == [OVER] * 3
    assert results(sent_).errors() == dict.fromkeys((1, 2, 3), "PoolTerminated")
    assert results(sent_).heard[0] == (1, VALUE, b"")
    assert bench.state.closed


def test_terminate_kills_after_the_grace() -> None:
    """SIGKILL for those that SIGTERM has not ended, once."""
    bench = Bench(2, grace=100 * MS)
    bench.run(call(), call())
    bench(Terminate(OVER), after=7 * MS)
    assert bench.state.due == 107 * MS
    assert bench.exit(0, -15, started=1) == []
    assert bench(Tick(), after=99 * MS) == []
    assert bench(Tick(), after=MS) == [Kill(1, gently=False)]
    assert bench.state.due is None
    assert bench.exit(1, -9, started=1) == []
    assert not bench.state.busy()


def test_nothing_follows_a_termination() -> None:
    """Later tasks fail with its error; reports still under way change nothing; a second one neither."""
    bench = Bench(3)
    bench.run(call())
    bench.submit(call())
    bench(Terminate(OVER))
    late = call()
    assert bench.submit(late) == []
    assert error_of(late) is OVER
    assert bench(Terminate(PoolTerminated("again"))) == []
    assert bench.finish(0) == []
    assert bench(Ready(1, PID + 1), Seen(0, 1, 0), Dropped(0), Hire(3)) == []
    assert bench.exit(0, -15, started=1) == []
    assert bench.exit(1, -15) == []


# What others ask.


def test_due_is_the_first_of_all() -> None:
    """Of several workers the one whose time comes first."""
    bench = Bench(2)
    bench.run(call(timeout=3 * SECOND), call(timeout=2 * SECOND))
    assert bench.state.due == 2 * SECOND
    assert bench(Tick(), after=2 * SECOND) == [Look(1)]
    bench.finish(1)
    assert bench.state.due == 3 * SECOND
    bench.finish(0)
    assert bench.state.due is None


def test_busy() -> None:
    """Something will report: a worker on its way or at work, or something waits."""
    bench = Bench()
    bench(Hire(1))
    assert bench.state.busy()
    bench.man(0)
    assert not bench.state.busy()
    bench.submit(call())
    assert bench.state.busy()
    bench.submit(call())
    assert bench.state.busy()


def test_room() -> None:
    """One for each worker that could be started, a window for each that runs, less what waits."""
    bench = Bench(3)
    assert bench.state.room(1) == 3
    bench.submit(call())
    assert bench.state.room(1) == 2
    bench.man(0)
    assert bench.state.room(1) == 2
    bench.finish(0)
    assert bench.state.room(1) == 3
    bench.learn(MS)
    assert bench.state.room(1) == 12
    assert bench.state.room(2) == 3
    bench.submit(block(4))
    assert bench.state.room(1) == 8
    bench.submit(*[block(30) for _ in range(4)])
    assert bench.state.room(1) == 0


def test_room_at_a_worker_that_takes_nothing() -> None:
    """One that is recalled has none."""
    bench = Bench()
    bench.learn(MS)
    running, waiting = call(), call()
    bench.run(running, waiting)
    assert bench.state.room(1) == 8
    bench(Cancel([waiting], kill=False))
    bench(Taken(0, 1))
    assert bench.state.room(1) == 0


def test_statistics() -> None:
    """Counters of elements and workers."""
    bench = Bench()
    task = block(3, retries=1)
    bench.run(task, call())
    bench.fail(0)
    bench.fail(0)
    bench.exit(0, started=3)
    assert bench.state.stats == {
        "tasks": 4, "failed": 0, "retried": 3, "requeued": 0, "workers started": 2, "workers died": 1,
    }  # fmt: skip  # on one line
    bench(Terminate(OVER))
    assert bench.state.stats["failed"] == 4


# The tables.


class Recording(dict[tuple[str, str], str]):
    """A table that remembers which of its moves were looked up."""

    def __init__(self, table: dict[tuple[str, str], str]) -> None:
        super().__init__(table)
        self.used: set[tuple[str, str]] = set()

    def __getitem__(self, move: tuple[str, str]) -> str:
        after = super().__getitem__(move)
        self.used.add(move)
        return after


def worker_in(state: str) -> Bench:
    """A pool whose only worker, at seat 0, is in *state*."""
    bench = Bench()
    bench.learn(MS)
    bench.submit(call(), call())
    if state == STARTING:
        return bench
    bench.man(0)
    if state == RECALLED:
        bench(Cancel(list(bench.seat().sent), kill=True))
        bench(Taken(0, 1))
    elif state in (IDLE, STOPPING):
        bench.finish(0, 1, 1)
        if state == STOPPING:
            bench(Close())
    elif state == KILLED:
        bench(Terminate(OVER))
    assert bench.seat().state == state
    return bench


LIVE = [STARTING, IDLE, BUSY, RECALLED, STOPPING, KILLED]


def test_every_move_of_a_worker_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has no line that nothing needs."""
    table = Recording(moves.WORKER)
    monkeypatch.setattr(moves, "WORKER", table)
    for state in LIVE:
        worker_in(state).exit(0, started=0)
        worker_in(state)(Terminate(OVER))
    worker_in(STARTING)(Refused(0, BROKEN))
    worker_in(BUSY).submit(call())
    worker_in(KILLED)(Tick(), after=SECOND)
    recalled = worker_in(RECALLED)
    recalled.finish(0)
    recalled(Dropped(0))
    assert table.used == table.keys()


def test_every_move_of_a_task_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has no line that nothing needs."""
    table = Recording(moves.TASK)
    monkeypatch.setattr(moves, "TASK", table)
    # Two are looked up when the module is loaded, for speed; here their effect.
    sent_ = call()
    bench = Bench()
    bench.run(sent_)
    assert sent_.state == table[QUEUED, "send"]
    bench.finish(0)
    assert sent_.state == table[SENT, "finish"]

    bench = Bench()
    bench.learn(MS)
    retried, queued, recalled = call(retries=1), call(), call()
    bench.run(retried, recalled)
    bench.fail(0)  # retry
    bench(Cancel([recalled], kill=False))
    bench(Taken(0, 2))  # recall, cancel
    bench.submit(queued)
    bench.exit(0, started=1)
    bench.man(1)
    bench.exit(1, started=2)  # orphan
    bench.man(2)
    bench.exit(2, started=1)  # fail what ran
    bench.submit(queued := call())
    bench(Terminate(OVER))  # fail what was queued
    assert error_of(queued) is OVER
    assert table.used == table.keys()


def test_moves_that_are_not_listed() -> None:
    """They are a bug of ours, and do not pass in silence."""
    table = moves.WORKER
    for state, what in itertools.product([*LIVE, GONE], {what for _, what in table}):
        seat = Worker(0).seats[0]
        seat.state = state
        if (state, what) in table:
            moves.move(seat, what)
            assert seat.state == table[state, what]
        else:
            with pytest.raises(KeyError):
                moves.move(seat, what)
            assert seat.state == state


def test_moves_of_tasks_that_are_not_listed() -> None:
    """An ended task cannot end again, and one that was not sent cannot come back."""
    bench = Bench()
    task = call()
    bench.run(task)
    bench.finish(0)
    for what in ("fail", "cancel"):
        with pytest.raises(KeyError):
            bench.state._endings.fail_rest(task, what, OVER)
    with pytest.raises(KeyError):
        bench.state._endings.requeue(call(), "recall")


def test_worker_that_was_never_asked_for() -> None:
    """An event of an unknown seat is a bug of ours too."""
    with pytest.raises(KeyError):
        Bench()(Ready(7, PID))


def test_parts_keep_what_their_task_was_given() -> None:
    """Whatever a task is split into has its limits and its place in the map."""
    task = Task(
        results(block(1)), Terms(3, "g", EACH, guarded=False, timeout=5, retries=4), b"x", base=7, first=2, count=9
    )
    part = task.part(4, 3, 1)
    assert (part.base, part.first, part.count, part.index()) == (7, 4, 3, 11)
    assert (part.terms, part.payload, part.attempts) == (task.terms, b"x", 1)
    assert (part.state, part.seat, part.done, part.cancelled) == (QUEUED, None, 0, 0)
    assert (part.units(), task.units()) == (1, 1)
    assert task.part(0, 1).attempts == 0


def test_names_of_elements() -> None:
    """For messages: one, or one of several where it is not known which."""
    task = block(8, base=10)
    assert task.describe(12) == f"task {task.terms.name}[12]"
    assert task.describe_one_of(12, 1) == task.describe(12)
    assert task.describe_one_of(12, 3) == f"one of task {task.terms.name}[12] to {task.terms.name}[14]"
    assert call().describe_one_of(0, 1) == f"task {call().terms.name}"


def test_starts_that_fail_while_a_worker_works() -> None:
    """It does the work, and the next start is tried after a pause that grows: no error, and no storm of processes."""
    bench = Bench(2)
    bench.run(call())
    waiting = [call(), call()]
    assert bench.submit(*waiting) == [Start(1)]
    assert bench.exit(1, 1) == [Start(2)]
    assert bench.exit(2, 1) == []
    assert [outcome(task) for task in waiting] == [None, None]
    assert bench.state.due == bench.now + 20 * MS
    assert bench(Tick(), after=20 * MS) == [Start(3)]
    assert bench.exit(3, 1) == []
    assert bench.state.due == bench.now + 40 * MS
    assert sent(bench.finish(0)) == {0: waiting[:1]}
    bench.exit(0, 1, started=2)
    assert isinstance(outcome(waiting[0]), WorkerDied)


def test_starts_that_fail_where_there_is_no_worker() -> None:
    """Then it is the error of all that waits."""
    bench = Bench(2)
    task = call()
    assert bench.submit(task) == [Start(0)]
    bench.exit(0, 1)
    bench.exit(1, 1)
    assert isinstance(outcome(task), InitializerError)
