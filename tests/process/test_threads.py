"""Several tasks at once in one worker: crash, time-out, cancel and order as with one."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import forkful
from forkful import Pool
from forkful.errors import InitializerError, TaskCancelled, TaskTimeout, WorkerDied

from . import tasks
from .support import WATCHDOG, assert_works, executions

meeting: threading.Barrier | None = None  # in a worker


def where(_: object = None) -> tuple[int, int]:
    """Which process this is, and which thread of it."""
    return os.getpid(), threading.get_ident()


def make_meeting(parties: int) -> None:
    """An initializer: tasks of this worker can wait for each other."""
    global meeting
    meeting = threading.Barrier(parties)


def meet(_: object = None) -> tuple[int, int]:
    """Ends when as many others are here, in this very process."""
    assert meeting is not None
    meeting.wait(WATCHDOG)
    return where()


def meet_and(how: str) -> str:
    """Once all are here, ends as told."""
    meet()
    tasks.misbehave(how)
    return how


def meet_and_note(log: str, how: str) -> str:
    """The same, with a line in *log* at the beginning."""
    tasks.note(log, 0)
    if executions(Path(log))[0] <= 3:  # in the first worker; the next has nobody to meet
        return meet_and(how)
    return "again"


def wait_for(path: str) -> str:
    """Ends when there is such a file: a pipe that somebody writes to."""
    with Path(path).open("rb", buffering=0) as file:
        file.read(1)
    return path


def stop_here() -> None:
    """Is stopped; its own thread may run a little longer than that of the signal."""
    tasks.stop_itself()
    tasks.wait_for_ever()


def fork_here(_: object = None) -> int:
    """A child of this one thread, which leaves at once."""
    pid = os.fork()
    if pid == 0:
        return -1  # ends where the result would be committed
    os.waitpid(pid, 0)
    return os.getpid()


def burn(steps: int) -> int:
    """Computes."""
    total = 0
    for number in range(steps):
        total += number
    return total


def close_everything(_: object = None) -> None:
    """Takes from the worker what joins it to the pool."""
    os.closerange(3, 65_536)


@pytest.fixture
def trio(start_method: str) -> Any:
    """A worker with three threads, whose tasks can meet."""
    with Pool(1, make_meeting, (3,), threads=3, start_method=start_method) as pool:
        yield pool


def test_tasks_run_at_once_in_one_process(trio: Pool) -> None:
    """They can wait for each other."""
    places = trio.map(meet, range(6), chunksize=1)
    assert len({pid for pid, _ in places}) == 1
    assert len({thread for _, thread in places}) == 3


def test_every_kind_of_call(start_method: str) -> None:
    """As with one thread."""
    with Pool(2, threads=5, start_method=start_method) as pool:
        assert_works(pool)
        assert pool.map(tasks.double, range(5000)) == list(range(0, 10_000, 2))
        assert list(pool.imap(tasks.double, range(3000))) == list(range(0, 6000, 2))
        assert sorted(pool.imap_unordered(tasks.double, range(3000))) == list(range(0, 6000, 2))
        assert [r.get() for r in [pool.apply_async(tasks.double, (n,)) for n in range(2000)]] == list(range(0, 4000, 2))
        with pytest.raises(LookupError):
            pool.apply(tasks.misbehave, ("raise",))


def test_a_crash_costs_what_ran_there(trio: Pool) -> None:
    """Each has its own error; what waited behind them runs in the next worker."""
    running = [trio.apply_async(meet_and, (how,)) for how in ("leave", "hang", "hang")]
    waiting = [trio.apply_async(tasks.double, (n,)) for n in range(20)]
    for result in running:
        with pytest.raises(WorkerDied, match=r"left with exit code 7 while 3 tasks ran in threads of it") as failure:
            result.get(WATCHDOG)
        assert failure.value.exitcode == 7
    assert [result.get(WATCHDOG) for result in waiting] == list(range(0, 40, 2))
    assert_works(trio)


def test_a_crash_is_retried(trio: Pool, tmp_path: Path) -> None:
    """Each counts for itself."""
    log = str(tmp_path / "log")
    results = [trio.apply_async(meet_and_note, (log, how), retries=1) for how in ("leave", "hang", "hang")]
    assert [result.get(WATCHDOG) for result in results] == ["again"] * 3
    assert executions(Path(log)) == {0: 6}


def test_a_time_out_hurts_only_what_does_not_end(start_method: str, tmp_path: Path) -> None:
    """What ends within the grace has its result; what does not is told which task it was."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with Pool(1, threads=4, start_method=start_method) as pool:
        stuck = pool.apply_async(tasks.wait_for_ever, timeout=0.3)
        beside = pool.apply_async(tasks.wait_for_ever)
        short = pool.apply_async(wait_for, (str(gate),))
        gate.write_bytes(b"!")
        assert short.get(WATCHDOG) == str(gate)
        with pytest.raises(TaskTimeout):
            stuck.get(WATCHDOG)
        with pytest.raises(
            WorkerDied, match="because task wait_for_ever, in another thread of it, ran longer"
        ) as failure:
            beside.get(WATCHDOG)
        assert failure.value.cause == "task wait_for_ever"
        assert_works(pool)


def test_a_stopped_worker_still_times_out(start_method: str) -> None:
    """Nothing of it is needed for that."""
    with Pool(1, threads=2, start_method=start_method) as pool:
        result = pool.apply_async(stop_here, timeout=0.3)
        with pytest.raises(TaskTimeout):
            result.get(WATCHDOG)
        assert_works(pool)


def test_cancel_of_one_that_runs(trio: Pool) -> None:
    """It is ended; those beside it, which do not end, are told why."""
    one, other = trio.apply_async(tasks.wait_for_ever), trio.apply_async(tasks.wait_for_ever)
    trio.map(tasks.double, range(50), chunksize=1)  # through the third thread: the two are running
    assert one.cancel(kill=True)
    with pytest.raises(TaskCancelled):
        one.get(WATCHDOG)
    with pytest.raises(WorkerDied, match="was cancelled with kill=True"):
        other.get(WATCHDOG)
    assert_works(trio)


def test_a_task_that_forks(start_method: str) -> None:
    """The copy has one thread, and speaks for none."""
    with Pool(1, threads=3, start_method=start_method) as pool:
        pids = pool.map(fork_here, range(6), chunksize=1)
        assert set(pids) == {pool._pool[0].pid}


def test_a_failing_initializer(start_method: str) -> None:
    """Everybody's error, as with one thread."""
    with Pool(1, tasks.misbehave, ("raise",), threads=3, start_method=start_method) as pool:
        with pytest.raises(InitializerError):
            pool.apply_async(tasks.double, (1,)).get(WATCHDOG)


def test_a_task_that_closes_everything(start_method: str) -> None:
    """Its own fault, and nobody hangs."""
    with Pool(1, threads=3, start_method=start_method) as pool:
        with contextlib.suppress(WorkerDied):  # unless its result was safe before anybody noticed
            assert pool.apply_async(close_everything).get(WATCHDOG) is None
        assert_works(pool)


def test_maxtasksperchild(start_method: str) -> None:
    """Counts for the process."""
    with Pool(1, threads=3, maxtasksperchild=2, start_method=start_method) as pool:
        results = [pool.apply_async(where) for _ in range(8)]
        pids = [result.get(WATCHDOG)[0] for result in results]
        assert max(pids.count(pid) for pid in pids) == 2


def test_close_and_join(start_method: str) -> None:
    """What was given is done."""
    pool = Pool(2, threads=4, start_method=start_method)
    results = [pool.apply_async(tasks.nap, (0.01,)) for _ in range(50)]
    pool.close()
    pool.join()
    assert [result.get(0) for result in results] == [0.01] * 50


def test_the_most_threads(start_method: str) -> None:
    """As many as can be asked for."""
    with Pool(1, make_meeting, (240,), threads=240, start_method=start_method) as pool:
        assert len(set(pool.map(meet, range(240), chunksize=1))) == 240


def test_auto_uses_threads_for_what_waits(start_method: str) -> None:
    """And says so, with the figures."""
    with Pool(1, mode="auto", threads=8, start_method=start_method) as pool:
        pool.map(tasks.nap, [0.02] * 40, chunksize=1)
        chosen = pool.stats()["functions"]["nap"]
        assert chosen["threads"] == 8
        assert chosen["computing"] < 0.1
        assert chosen["seconds"] >= 0.02
        assert "nap: 8 threads a worker" in repr(pool)


def test_auto_uses_processes_for_what_computes(start_method: str) -> None:
    """One thread of each; or a few, where other programs keep it from computing all the time."""
    with Pool(1, mode="auto", threads=64, start_method=start_method) as pool:
        pool.map(burn, [300_000] * 20, chunksize=1)
        assert pool.stats()["functions"]["burn"]["threads"] < 16


def test_kills_at_random(start_method: str, tmp_path: Path) -> None:
    """Whatever dies, each task ends once, and is executed as often as it may be."""
    log = tmp_path / "log"
    with Pool(2, threads=4, start_method=start_method) as pool:
        results = [pool.apply_async(tasks.noted, (str(log), number)) for number in range(600)]
        slow = [pool.apply_async(tasks.nap, (0.02,), retries=50) for _ in range(60)]
        for _ in range(10):
            time.sleep(0.01)  # a moment at random
            for member in pool._pool:
                if member.is_alive() and member.pid is not None:
                    try:
                        os.kill(member.pid, 9)
                    except ProcessLookupError:
                        pass
                    break
        lost = 0
        for number, result in enumerate(results):
            try:
                assert result.get(WATCHDOG) == number * 2
            except WorkerDied:
                lost += 1
        assert [result.get(WATCHDOG) for result in slow] == [0.02] * 60
        assert max(executions(log).values()) == 1
        assert lost <= 10 * 4
        assert_works(pool)


@pytest.mark.skipif(sys.platform != "linux", reason="counts the descriptors of /proc")
def test_descriptors(start_method: str) -> None:
    """One for each further thread, and none is left when the worker is replaced."""
    with Pool(1, threads=20, start_method=start_method) as pool:
        counts = []
        for _ in range(4):
            assert_works(pool)
            counts.append(len(os.listdir("/proc/self/fd")))
            with pytest.raises(WorkerDied):
                pool.apply_async(os._exit, (1,)).get(WATCHDOG)
        assert len(set(counts)) == 1
        assert counts[0] < 60


def test_main_thread_stays_free() -> None:
    """Tasks run in threads: what only the main thread may do, such as to set a signal handler, is an error of the task."""
    import signal

    with Pool(1, threads=2) as pool, pytest.raises(ValueError, match="main thread"):
        pool.apply_async(signal.signal, (signal.SIGUSR1, signal.SIG_IGN)).get(WATCHDOG)
    assert forkful.Pool is Pool
