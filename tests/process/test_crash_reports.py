"""What the error of a dead worker tells of its end."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import forkful
from forkful import errors
from forkful._core import gauge

from . import life_tasks, tasks
from .cgroups import Group
from .support import WATCHDOG, Program, assert_works

SIZE = 64 * 2**20


def death_of(pool: forkful.Pool, function: object, *args: object) -> errors.WorkerDied:
    """What *function* kills its worker with."""
    with pytest.raises(errors.WorkerDied) as caught:
        pool.apply_async(function, args).get(WATCHDOG)  # type: ignore[arg-type]
    error = caught.value
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))
    return error


# What faulthandler wrote.


def test_crash_in_c(start_method: str) -> None:
    """The message has the innermost frames, `dump` every thread's; other deaths have none."""
    with forkful.Pool(1, context=start_method) as pool:
        error = death_of(pool, life_tasks.crash)
        assert error.exitcode == -signal.SIGSEGV
        assert re.fullmatch(
            r"task crash: its worker \(pid \d+\) was killed by SIGSEGV:\n"
            r"  Fatal Python error: Segmentation fault\n"
            r'  File ".*ctypes/__init__\.py", line \d+ in string_at\n'
            r'  File ".*life_tasks\.py", line \d+ in crash;\n'
            r"it crashed outside Python, called from there \(`dump` has the whole of it\); retries=1 runs it again",
            str(error),
        )
        assert error.dump.startswith("Fatal Python error: Segmentation fault\n\n")
        assert "in _run_call" in error.dump

        with pytest.raises(errors.WorkerDied, match=r"task crash\[0\].*\n.*Segmentation fault") as caught:
            pool.map_async(life_tasks.crash, [1]).get(WATCHDOG)
        assert "in string_at" in caught.value.dump
        assert death_of(pool, tasks.misbehave, "die").dump == ""
        assert death_of(pool, tasks.misbehave, "leave").dump == ""
        assert_works(pool)


def test_crash_in_the_initializer(start_method: str) -> None:
    """Everybody's error has the same facts."""
    with forkful.Pool(1, life_tasks.crash, (0,), context=start_method) as pool:
        with pytest.raises(errors.InitializerError) as caught:
            pool.apply_async(tasks.double, (1,)).get(WATCHDOG)
    error = caught.value
    assert re.search(
        r"\(pid \d+\) was killed by SIGSEGV before it was ready:\n  Fatal Python error: Segmentation fault\n"
        r"(  File .*\n)+run the initializer and the imports of the task's module by hand to see why$",
        str(error),
    )
    assert (error.exitcode, error.oom) == (-signal.SIGSEGV, None)
    assert "in string_at" in error.dump
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)


def test_crash_of_a_child_is_not_the_workers(start_method: str) -> None:
    """What a task forks may crash as it likes."""
    with forkful.Pool(1, context=start_method) as pool:
        error = death_of(pool, life_tasks.crash_in_child)
        assert (error.exitcode, error.dump) == (-signal.SIGKILL, "")


def test_crash_of_a_child_is_shown_to_who_asked(tmp_path: Path) -> None:
    """``python -X faulthandler`` writes it to standard error, as it does without a pool."""
    code = """
from tests.process import life_tasks
import forkful
if __name__ == "__main__":
    with forkful.Pool(1, context="fork") as pool:
        try:
            pool.apply(life_tasks.crash_in_child)
        except forkful.errors.WorkerDied as error:
            print(repr(error.dump), flush=True)
"""
    with Program("-X", "faulthandler", cwd=tmp_path, code=code) as program:
        assert program.line() == "''"
        assert program.finish() == (0, "")
        assert "Fatal Python error: Segmentation fault" in program.stderr()


def test_initializers_own_faulthandler(start_method: str, tmp_path: Path) -> None:
    """Takes over: the dump is in its file."""
    file = tmp_path / "crashes"
    with forkful.Pool(1, life_tasks.describe_crashes_in, (str(file),), context=start_method) as pool:
        error = death_of(pool, life_tasks.crash)
    assert error.dump == ""
    assert "run it alone under `python -X faulthandler`" in str(error)
    assert "in string_at" in file.read_text(encoding="utf-8")


# Memory.


def test_peak_of_memory(start_method: str) -> None:
    """As the system told it at the end; in the message where it may have been the reason."""
    size = gauge.own_peak() + SIZE  # of a new interpreter the system tells no less than our own
    with forkful.Pool(1, context=start_method) as pool:
        error = death_of(pool, life_tasks.hold_and_die, size)
    assert error.memory is not None
    assert size <= error.memory < size + 4 * SIZE
    assert re.search(r"was killed by SIGKILL \(peak memory [\d.]+ [MG]B\)", str(error))


def test_last_reading_of_memory() -> None:
    """Where the peak would be ours, a worker's own last reading does; without one it is not known."""
    ballast = b"x" * SIZE
    with forkful.Pool(1, context="spawn") as pool:
        assert death_of(pool, tasks.misbehave, "die").memory is None
    with forkful.Pool(1, context="spawn", max_memory_per_worker="100GB") as pool:
        pid = pool.apply_async(os.getpid).get(WATCHDOG)
        held = psutil.Process(pid).memory_info().rss
        memory = death_of(pool, tasks.misbehave, "die").memory
    assert memory is not None
    assert abs(memory - held) < SIZE // 2
    del ballast


# Who killed it.


def test_killed_by_somebody() -> None:
    """The kernel says that it was not it."""
    with forkful.Pool(1, context="fork") as pool:
        error = death_of(pool, tasks.misbehave, "die")
    assert error.oom in {None, False}
    if error.oom is False:
        assert "; somebody killed it, and not the kernel for want of memory; retries=1" in str(error)


OOM_CODE = """
import sys
from tests.process import life_tasks, tasks
import forkful
if __name__ == "__main__":
    with forkful.Pool(2, context=sys.argv[1]) as pool:
        print(pool.apply(tasks.double, (21,)), flush=True)
        try:
            pool.apply(life_tasks.eat_memory)
        except forkful.errors.WorkerDied as error:
            print(error.oom, error.exitcode, error.memory, error, sep="|", flush=True)
        try:
            pool.apply(tasks.kill_own_process)
        except forkful.errors.WorkerDied as error:
            print(error.oom, flush=True)
        print(pool.apply(tasks.double, (4,)), flush=True)
    try:
        with forkful.Pool(1, life_tasks.eat_memory, context=sys.argv[1]) as pool:
            pool.apply(tasks.double, (4,))
    except forkful.errors.InitializerError as error:
        print(error.oom, error, sep="|", flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_killed_by_the_kernel(start_method: str, tmp_path: Path) -> None:
    """In a group with little memory: the error says so, of that death and no other."""
    limit = 100 * 2**20
    v1 = {"memory.limit_in_bytes": str(limit), "memory.swappiness": "0"}
    v2 = {"memory.max": str(limit), "memory.swap.max": "0"}
    with Group("memory", v1, v2) as group:
        with Program(
            cwd=tmp_path, code=group.join_code() + OOM_CODE.replace("sys.argv[1]", repr(start_method))
        ) as program:
            assert program.line() == "42"
            oom, exitcode, memory, message = program.line().split("|")
            assert (oom, exitcode) == ("True", "-9")
            assert re.fullmatch(
                r"task eat_memory: its worker \(pid \d+\) was killed by SIGKILL by the kernel's out-of-memory killer"
                r"( \(peak memory \d+(\.\d+)? MB\))?; "
                r"use fewer processes, or give the program more memory; retries=1 runs it again",
                message,
            )
            assert memory == "None" if start_method == "spawn" and "peak" not in message else int(memory) > limit // 2
            assert program.line() == "False"
            assert program.line() == "8"
            oom, message = program.line().split("|")
            assert oom == "True"
            assert "was killed by SIGKILL by the kernel's out-of-memory killer" in message
            assert message.endswith("before it was ready; use fewer processes, or give the program more memory")
            assert program.finish() == (0, "")


@pytest.mark.parametrize("eat", [life_tasks.eat_memory, life_tasks.eat_every_crumb])
def test_memory_error_is_the_tasks_own(eat: Callable[..., object], start_method: str) -> None:
    """Where the process is refused more, it is told so, and goes on: with what the task had taken."""
    with forkful.Pool(1, life_tasks.bound_own_memory, (SIZE,), context=start_method) as pool:
        pid = pool.apply_async(os.getpid).get(WATCHDOG)
        with pytest.raises(MemoryError) as caught:
            pool.apply_async(eat).get(WATCHDOG)
        assert f"in {eat.__name__}" in str(caught.value.__cause__)
        with pytest.raises(MemoryError):
            pool.map_async(eat, [0]).get(WATCHDOG)
        assert_works(pool)
        assert pool.apply_async(os.getpid).get(WATCHDOG) == pid


# With threads.


def test_crash_of_one_thread(start_method: str, tmp_path: Path) -> None:
    """The others are told which task it was."""
    gates = [tmp_path / name for name in ("one", "two")]
    for gate in gates:
        os.mkfifo(gate)
    with forkful.Pool(1, threads=3, context=start_method) as pool, contextlib.ExitStack() as stack:
        waiting = [pool.apply_async(life_tasks.wait_at, (str(gate),)) for gate in gates]
        for gate in gates:
            stack.enter_context(gate.open("wb"))  # returns when the task has opened its end
        error = death_of(pool, life_tasks.crash)
        assert (error.cause, error.exitcode) == ("", -signal.SIGSEGV)
        assert "in string_at" in str(error)
        for other in waiting:
            with pytest.raises(errors.WorkerDied) as caught:
                other.get(WATCHDOG)
            assert caught.value.cause == "task crash"
            assert str(caught.value).endswith(
                "was killed by SIGSEGV because task crash, in another thread of it, crashed; retries=1 runs it again"
            )
        assert_works(pool)
