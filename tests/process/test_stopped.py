"""Workers that are stopped, and what is known of those that ran out of time."""

from __future__ import annotations

import os
import pickle
import re
import signal
from pathlib import Path

import pytest

import forkful
from forkful import errors
from forkful._core.signals import TRACE_SIGNAL

from . import life_tasks, tasks
from .support import WATCHDOG, assert_works, executions

SOON = 0.3  # a timeout= that is to be met: nothing else depends on its length


def stop(pid: int) -> None:
    """As by ``kill -STOP``; returns when it has stopped."""
    os.kill(pid, signal.SIGSTOP)


@pytest.mark.parametrize("processes", [1, 2])
def test_timeout_of_a_worker_that_is_stopped_in_a_task(processes: int, start_method: str, tmp_path: Path) -> None:
    """It fires; the worker is replaced; what waited runs."""
    log, gate = str(tmp_path / "log"), tmp_path / "gate"
    os.mkfifo(gate)
    with forkful.Pool(processes, context=start_method) as pool:
        pid = pool.apply_async(os.getpid).get(WATCHDOG)
        late = pool.apply_async(tasks.gated, (log, 0, str(gate)), timeout=SOON)
        others = [pool.apply_async(tasks.noted, (log, number)) for number in range(1, 5)]
        with gate.open("wb"):
            stop(pid)
            with pytest.raises(errors.TaskTimeout) as caught:
                late.get(WATCHDOG)
        assert (caught.value.pid, caught.value.dump) == (pid, "")
        assert [other.get(WATCHDOG) for other in others] == [2, 4, 6, 8]
        assert executions(tmp_path / "log") == dict.fromkeys(range(5), 1)
        assert_works(pool)


@pytest.mark.parametrize("call", ["apply_async", "map"])
@pytest.mark.parametrize("processes", [1, 2])
def test_task_of_a_worker_that_is_stopped_before_it(
    processes: int, call: str, start_method: str, tmp_path: Path
) -> None:
    """It has not begun when its time is over, and so is run elsewhere, once."""
    log = str(tmp_path / "log")
    with forkful.Pool(processes, context=start_method) as pool:
        pid = pool.apply_async(os.getpid).get(WATCHDOG)
        stop(pid)
        if call == "apply_async":
            values = [pool.apply_async(tasks.noted, (log, 0), timeout=SOON).get(WATCHDOG)]
        else:
            values = list(getattr(pool, call)(tasks.noted_pair, [(log, 0)], timeout=SOON))
        assert values == [0]
        assert executions(tmp_path / "log") == {0: 1}
        if processes == 1:
            assert [member.pid for member in pool._pool] != [pid]
        assert_works(pool)


@pytest.mark.skipif(TRACE_SIGNAL is None, reason="no signal to spare on this system")
@pytest.mark.parametrize("how", ["hang", "match"])
def test_timeout_tells_where_the_task_was(how: str, start_method: str) -> None:
    """Whether it waits or computes; on top of the message, and in full."""
    with forkful.Pool(1, context=start_method) as pool:
        with pytest.raises(errors.TaskTimeout) as caught:
            pool.apply_async(tasks.misbehave, (how,), timeout=SOON).get(WATCHDOG)
        error = caught.value
        assert re.fullmatch(
            r"task misbehave ran longer than timeout=0\.3 s; its worker \(pid \d+\) was killed:\n"
            r"(  .*\n)+"
            r'  File ".*tasks\.py", line \d+ in misbehave;\n'
            r"give it more time or make it shorter",
            str(error),
        )
        assert "in wait_for_ever" in str(error) if how == "hang" else "in match_badly" in str(error)
        assert "in _run_call" in error.dump
        assert vars(pickle.loads(pickle.dumps(error))) == vars(error)
        assert_works(pool)


@pytest.mark.skipif(TRACE_SIGNAL is None, reason="no signal to spare on this system")
def test_task_that_takes_the_signal_for_itself() -> None:
    """It is killed all the same, without a word."""
    with forkful.Pool(1, context="fork") as pool:
        with pytest.raises(errors.TaskTimeout) as caught:
            pool.apply_async(life_tasks.ignore_and_wait, (int(TRACE_SIGNAL or 0),), timeout=SOON).get(WATCHDOG)
        assert caught.value.dump == ""
        assert_works(pool)


def test_signals_that_the_program_blocks(start_method: str) -> None:
    """Are not blocked for that of the dump."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with forkful.Pool(1, context=start_method) as pool:
            with pytest.raises(errors.TaskTimeout) as caught:
                pool.apply_async(tasks.wait_for_ever, timeout=SOON).get(WATCHDOG)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert ("in wait_for_ever" in caught.value.dump) == (TRACE_SIGNAL is not None)
