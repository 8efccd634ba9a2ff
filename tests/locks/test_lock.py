"""`Lock` and `RLock` between programs, threads, tasks and forks; holders that are killed, stopped, and that forget."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import multiprocessing
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import forkful
from forkful import Lock, RLock
from forkful.errors import DeadlockError, LockError, LockLost
from forkful.locks import _file, _kernel, _who
from forkful.locks._record import OWNER, PID, START, Entry, record_name
from forkful.locks._shell import list_locks

from .support import WATCHDOG, Contender, run

Start = type[Contender]


def test_one_at_a_time(contend: Start) -> None:
    """Another program has it, or this one."""
    other, lock = contend(), Lock("a")
    assert other("take Lock('a')") == "True"
    assert not lock.acquire(False)
    assert not lock.acquire(timeout=0.05)
    assert other("give Lock('a')") == "None"
    with lock:
        assert other("try Lock('a')") == "False"
    assert other("try Lock('a')") == "True"


def test_names_are_apart(contend: Start, tmp_path: Path) -> None:
    """Also those that look alike; and a name is no path."""
    other = contend()
    names = ["a", "A", "a ", "ä", "a" * 300, "a" * 300 + "b", str(tmp_path / "a")]
    for name in names:
        assert other(f"take Lock({name!r})") == "True"
    for name in names:
        assert not Lock(name).acquire(False)


def test_a_waiter_gets_it(contend: Start) -> None:
    """As soon as it is given back, and in the order in which they came."""
    lock, first, second = Lock("a"), contend(), contend()
    lock.acquire()
    first.tell("take Lock('a')")
    while not lock._door.mechanism._record.waiters():  # type: ignore[attr-defined]  # nothing else tells of it
        time.sleep(0.001)
    second.tell("take Lock('a')")
    lock.release()
    assert first.answer() == "True"
    first("give Lock('a')")
    assert second.answer() == "True"


def test_holder_is_killed(contend: Start) -> None:
    """The next owner has it, and knows; the one after that does not."""
    other, lock = contend(), Lock("a")
    assert other("take Lock('a')") == "True"
    assert not lock.acquire(False)
    other.die()
    assert lock.acquire(timeout=WATCHDOG)
    assert lock.recovered
    lock.release()
    with lock:
        assert not lock.recovered


def test_waiter_of_a_holder_that_is_killed(contend: Start) -> None:
    """It waits in the kernel, which wakes it."""
    holder, waiter = contend(), contend()
    holder("take Lock('a')")
    waiter.tell("take Lock('a')")
    holder.await_waiter("Lock('a')")
    holder.die()
    assert waiter.answer() == "True"
    assert waiter("tell Lock('a')").startswith("True ")


def test_holder_is_killed_and_its_child_lives(contend: Start) -> None:
    """The child that it had forked does not keep the lock."""
    other, lock = contend(), Lock("a")
    other("take Lock('a')")
    child = other.fork()
    other.die()
    assert lock.acquire(timeout=WATCHDOG)
    assert lock.recovered
    os.kill(child, 0)  # raises if it had gone
    lock.release()


@pytest.mark.parametrize("spec", ["Lock('a')", "RLock('a')", "RWLock('a').write()"])
def test_a_fork_holds_nothing_and_frees_nothing(spec: str, contend: Start) -> None:
    """A child that leaves, or that releases what it never had."""
    other, holder = contend(), contend()
    holder(f"take {spec}")
    holder.fork()
    assert other(f"try {spec}") == "False"
    pid = holder("run os.fork() or lock(" + repr(spec) + ").acquire(False) or os._exit(7)")
    assert os.WEXITSTATUS(int(holder(f"run os.waitpid({pid}, 0)[1]"))) == 7
    assert other(f"try {spec}") == "False"
    assert holder(f"give {spec}") == "None"
    assert other(f"try {spec}") == "True"


def test_threads_exclude_each_other(tmp_path: Path) -> None:
    """By equal objects of one process; nothing is lost."""
    count = tmp_path / "count"
    count.write_text("0")

    def add() -> None:
        lock = Lock("a")
        for _ in range(50):
            with lock:
                count.write_text(str(int(count.read_text()) + 1))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count.read_text() == "400"


def _add(lock: Lock, path: str, times: int) -> None:
    threads = [threading.Thread(target=_add_alone, args=(lock, path, times)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _add_alone(lock: Lock, path: str, times: int) -> None:
    for _ in range(times):
        with lock:
            value = int(Path(path).read_text())
            Path(path).write_text(str(value + 1))


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("name", ["a", None])
def test_processes_and_threads_count(method: str, name: str | None, tmp_path: Path) -> None:
    """Eight hundred increments of 4 processes with 4 threads each, of a lock that was given as an argument."""
    count = tmp_path / "count"
    count.write_text("0")
    lock = Lock(name)
    context: Any = multiprocessing.get_context(method)
    processes = [context.Process(target=_add, args=(lock, str(count), 50)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
        process.close()
    assert count.read_text() == "800"


def _note_order(lock: Lock, path: str, number: int) -> int:
    with lock, open(path, "a+", encoding="ascii") as file:
        file.write(f"<{number}")
        file.flush()
        file.write(f"{number}>")
    return number


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_argument_of_a_task(method: str, tmp_path: Path) -> None:
    """Where a lock of ``multiprocessing`` must be inherited."""
    path = tmp_path / "order"
    with forkful.Pool(3, context=method) as pool:
        lock = Lock()
        results = [pool.apply_async(_note_order, (lock, str(path), number)) for number in range(30)]
        del lock
        assert [result.get(WATCHDOG) for result in results] == list(range(30))
    text = path.read_text("ascii")
    assert "<<" not in text
    assert text.count("<") == 30


def test_holder(contend: Start) -> None:
    """Who it is, alive; also one that is stopped; and nobody."""
    other, lock = contend(), Lock("a")
    assert lock.holder() is None
    other("take Lock('a')")
    holder = lock.holder()
    assert holder is not None
    assert (holder.pid, holder.thread, holder.stopped) == (other.pid, other.pid, False)
    assert "forkful" in holder.command
    assert holder.since is not None
    assert abs(holder.since - time.time()) < WATCHDOG
    other.signal(signal.SIGSTOP)
    try:
        assert not lock.acquire(timeout=0.1)
        holder = lock.holder()
        assert holder is not None
        assert (holder.pid, holder.stopped) == (other.pid, True)
    finally:
        other.signal(signal.SIGCONT)
    other.die()
    assert lock.holder() is None
    with lock:
        own = lock.holder()
        assert own is not None
        assert (own.pid, own.thread) == (os.getpid(), threading.get_native_id())


def test_holder_is_nobody_where_a_wait_that_is_over_gets_it(contend: Start) -> None:
    """The thread that waited on gives it back as soon as it runs: by then, nobody of this process has it."""
    other, third, lock = contend(), contend(), Lock("a")
    other("take Lock('a')")
    assert not lock.acquire(timeout=0.01)
    mechanism = lock._door.mechanism
    assert isinstance(mechanism, _file.FileLock)
    with lock._door._mutex:  # in which it is given back
        other.die()
        while _kernel._find_askers(*mechanism.file) != [os.getpid()]:
            time.sleep(0.001)  # the kernel tells of it to the one who waits
        assert lock.holder() is None
        assert third("run lock(\"Lock('a')\").holder().pid") == str(os.getpid())  # it cannot be had there
    third("take Lock('a')")
    holder = lock.holder()
    assert holder is not None
    assert holder.pid == third.pid


def test_holder_is_this_process_by_another_descriptor(tmp_path: Path) -> None:
    """What it has locked by itself, past forkful, is held, though nobody holds it by the lock."""
    lock = Lock(tmp_path / "a.lock")
    assert lock.holder() is None
    with open(tmp_path / "a.lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        holder = lock.holder()
        assert holder is not None
        assert holder.pid == os.getpid()
    assert lock.holder() is None


def test_holder_is_who_has_it_not_who_asked_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``flock 9`` in a shell has ended; and its number, or a dead holder's, may be somebody else's by now."""
    path = tmp_path / "a.lock"
    command = ["sh", "-c", f"exec 9>{path}; flock 9; echo begun; read line"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"begun\n"
        holder, file = Lock(path).holder(), (path.stat().st_dev, path.stat().st_ino)
        assert holder is not None
        assert holder.pid == shell.pid
        monkeypatch.setattr(_kernel, "_find_askers", lambda *_: [os.getpid()])
        for noted in (None, Entry(os.getpid(), 1, 1, 1)):
            holder = _kernel.find_holder(file, noted)
            assert holder is not None
            assert holder.pid == shell.pid
        monkeypatch.setattr(_kernel, "_processes", list)
        holder = _kernel.find_holder(file, None)
        assert holder is not None
        assert (holder.pid, holder.describe()) == (0, "somebody who is not known")
        shell.communicate(b"\n")


@pytest.mark.parametrize("told", [True, False])
def test_inode_of_a_file_that_has_gone(
    told: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on record of that one is not told of another, whether the file system tells them apart or not."""
    if not told:
        monkeypatch.setattr(_file, "generation_of", lambda _: 0)
    gone, path = tmp_path / "gone", tmp_path / "path"
    assert run(lambda: Lock(gone).acquire() and os._exit(0)) == 0
    record = folder / record_name((gone.stat().st_dev, gone.stat().st_ino))
    gone.unlink()
    path.touch()
    record.rename(folder / record_name((path.stat().st_dev, path.stat().st_ino)))
    lock = Lock(path)
    with lock:
        assert not lock.recovered
        assert [listed.name for listed in list_locks()] == [str(path)]


def test_two_names_of_one_file(folder: Path, tmp_path: Path) -> None:
    """They are one lock, on one record."""
    path, other = tmp_path / "path", tmp_path / "other"
    assert run(lambda: Lock(path).acquire() and os._exit(0)) == 0
    os.link(path, other)
    lock = Lock(other)
    with lock:
        assert lock.recovered
        assert [listed.name for listed in list_locks()] == [str(path)]


@pytest.mark.parametrize("kind", ["Lock", "RLock", "RWLock"])
def test_locked(kind: str, contend: Start) -> None:
    """By anybody, this process or another."""
    other, lock = contend(), getattr(forkful, kind)("a")
    assert not lock.locked()
    other("take Lock('a')")
    assert lock.locked()
    other("give Lock('a')")
    with Lock("a"):
        assert lock.locked()


def test_fence(contend: Start) -> None:
    """It grows with each acquisition, whoever it is."""
    other, lock = contend(), Lock("a")
    assert lock.fence is None
    numbers: list[int] = []
    for _ in range(3):
        with lock:
            assert lock.fence is not None
            numbers.append(lock.fence)
        other("take Lock('a')")
        numbers.append(int(other("tell Lock('a')").split()[1]))
        other("give Lock('a')")
    assert numbers == sorted(set(numbers))


def test_fence_grows_though_the_record_is_lost(folder: Path) -> None:
    """As by a restart of the machine, where the folder is in memory."""
    lock = Lock("a")
    with lock:
        before = lock.fence
    assert before is not None
    for file in folder.iterdir():
        file.unlink()
    with lock:
        assert lock.fence is not None
        assert lock.fence > before


def test_release_by_one_who_does_not_hold_it(contend: Start) -> None:
    """An error, whoever has it; also as the standard library's."""
    other, lock = contend(), Lock("a")
    other("take Lock('a')")
    for kind in (LockError, RuntimeError, ValueError):
        with pytest.raises(kind, match="'a' is not held by this process"):
            lock.release()
    assert other("give Lock('a')") == "None"


def test_recursion() -> None:
    """By the thread that has it, whichever object it uses; another thread waits."""
    lock = RLock("a")
    with lock, RLock("a"):
        assert lock.acquire(False)
        had: list[bool] = []
        thread = threading.Thread(target=lambda: had.append(lock.acquire(timeout=0.05)))
        thread.start()
        thread.join()
        assert had == [False]
        lock.release()
    with pytest.raises(LockError, match="not held by this thread"):
        lock.release()
    assert not lock._door.holders


def test_rlock_of_another_thread() -> None:
    """Only its own thread releases it; a `Lock` any."""
    lock, plain = RLock("a"), Lock("b")
    lock.acquire()
    plain.acquire()
    errors: list[BaseException] = []

    def release() -> None:
        plain.release()
        try:
            lock.release()
        except LockError as error:
            errors.append(error)

    thread = threading.Thread(target=release)
    thread.start()
    thread.join()
    assert len(errors) == 1
    assert plain.acquire(False)
    plain.release()
    lock.release()


def test_a_timeout_leaves_nothing_behind(contend: Start) -> None:
    """What gave up is not given the lock later, and keeps it from nobody."""
    other, third, lock = contend(), contend(), Lock("a")
    other("take Lock('a')")
    for _ in range(20):
        assert not lock.acquire(timeout=0.001)
    assert threading.active_count() <= 2  # one waits in the kernel for all of them
    third.tell("take Lock('a')")
    other("give Lock('a')")
    assert third.answer() == "True"
    third("give Lock('a')")
    assert lock.acquire(timeout=WATCHDOG)
    lock.release()


@pytest.mark.parametrize("timeout", [None, WATCHDOG])
def test_wait_is_interrupted(timeout: float | None, contend: Start) -> None:
    """By Ctrl-C: the lock is nobody's here, and the next one gets it."""
    other, lock = contend(), Lock("a")
    other("take Lock('a')")

    def interrupt() -> None:
        other.await_waiter("Lock('a')")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        lock.acquire(timeout=timeout)
    thread.join()
    third = contend()
    third.tell("take Lock('a')")
    other("give Lock('a')")
    assert third.answer() == "True"
    assert not lock._door.holders


def test_tasks_exclude_each_other() -> None:
    """Of one event loop; a wait that is cancelled leaves nothing behind."""

    async def main() -> list[str]:
        lock, steps = Lock("a"), []

        async def work(name: str) -> None:
            async with lock:
                steps.append(name)
                await asyncio.sleep(0)
                steps.append(name)

        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(work(name))
        async with lock:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await lock.acquire_async()
        async with asyncio.timeout(WATCHDOG):
            async with lock:
                steps.append("d")
        return steps

    steps = asyncio.run(main())
    assert steps[0::2][:3] == steps[1::2][:3]
    assert sorted(steps) == [*"aabbccd"]


def test_task_waits_for_another_program(contend: Start) -> None:
    """The event loop goes on meanwhile."""
    other = contend()
    other("take Lock('a')")

    async def main() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            for _ in range(3):
                await asyncio.sleep(0)
                ticks += 1
            other("give Lock('a')")

        ticking = asyncio.create_task(tick())
        async with Lock("a"):
            await ticking
        return ticks

    assert asyncio.run(main()) == 3


def test_deadlock_of_two_programs(contend: Start) -> None:
    """One that waits for the other, which waits for it, is told; the other gets on.  Of several pairs at once, each so."""
    pairs = [(contend(), contend(), f"Lock('a{number}')", f"Lock('b{number}')") for number in range(4)]
    for one, two, first, second in pairs:
        one(f"take {first}")
        two(f"take {second}")
        one.tell(f"take {second}")
        two.tell(f"take {first}")
    for one, two, first, second in pairs:
        ready = select.select([one, two], [], [], WATCHDOG)[0]
        victim, other, held = (one, two, first) if one in ready else (two, one, second)
        kind, text = victim.answer().split(" ", 1)
        assert kind == "DeadlockError"
        assert f"held by pid {other.pid}" in text
        assert "which waits for lock" in text
        victim(f"give {held}")
        assert other.answer() == "True"


def test_deadlock_whose_last_one_is_stopped(contend: Start) -> None:
    """Another one is told in its stead."""
    one, two = contend(), contend()
    one("take Lock('a')")
    two("take Lock('b')")
    one.tell("take Lock('b')")
    two.await_waiter("Lock('b')")
    two.tell("take Lock('a')")
    reader = Lock("a")
    while not reader._door.mechanism._open().waiters():  # type: ignore[attr-defined]  # nothing else tells of it
        time.sleep(0.001)
    two.signal(signal.SIGSTOP)
    try:
        assert one.answer().startswith("DeadlockError")
    finally:
        two.signal(signal.SIGCONT)


def test_whoever_has_a_time_out_is_in_no_deadlock(contend: Start) -> None:
    """It leaves by itself, with False, and the other one gets what it waits for."""
    one, two = contend(), contend()
    one("take Lock('a')")
    two("take Lock('b')")
    one.tell("run lock(\"Lock('b')\").acquire(timeout=1.8)")
    two.tell("take Lock('a')")
    assert one.answer() == "False"
    one("give Lock('a')")
    assert two.answer() == "True"


def test_deadlock_with_oneself(contend: Start) -> None:
    """A thread that takes again what is not to be taken twice, in a program that has no other."""
    other = contend()
    other("take Lock('a')")
    kind, text = other("take Lock('a')").split(" ", 1)
    assert kind == "DeadlockError"
    assert "use an RLock" in text


def test_deadlock_of_two_threads() -> None:
    """Of one program."""
    first, second = Lock("a"), Lock("b")
    barrier = threading.Barrier(2)
    errors: list[DeadlockError] = []

    def work(one: Lock, other: Lock) -> None:
        with one:
            barrier.wait()
            try:
                with other:
                    pass
            except DeadlockError as error:
                errors.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in ((first, second), (second, first))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors
    assert "another thread of this process" in str(errors[0])


@pytest.mark.parametrize("way", ["thread", "task"])
def test_it_is_had_while_a_deadlock_is_looked_for(way: str, contend: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has it by then is seen to hold what it waits for; that is no deadlock."""
    other, lock, another = contend(), Lock("a"), Lock("b")
    other("take Lock('a')")

    def look(*_: object, blocks: bool) -> None:
        other("give Lock('a')")
        while not lock._door.holders:
            time.sleep(0.001)  # nothing else tells of it
        raise DeadlockError(f"{blocks}")

    monkeypatch.setattr(lock._door.mechanism, "check_deadlock", look)
    if way == "task":
        assert asyncio.run(lock.acquire_async())
    else:
        with another:
            assert lock.acquire()
    lock.release()


_TASKS = """
import asyncio
from forkful import Lock
from forkful.errors import DeadlockError

lock = Lock("a{number}")

async def hold():
    async with lock:
        await asyncio.sleep(3600)

async def main():
    {steps}

try:
    asyncio.run(main())
except DeadlockError as error:
    print(error)
"""


_DEADLOCKS_OF_TASKS = [
    ("async with lock:\n        async with lock: pass", "this very task"),
    ("with lock:\n        async with lock: pass", "this very task"),
    ("with lock:\n        with lock: pass", "this very task"),
    (
        "task = asyncio.create_task(hold())\n    await asyncio.sleep(0)\n    with lock: pass",
        "another task of the event loop",
    ),
    ("asyncio.get_running_loop().call_soon(lock.acquire)\n    async with lock: await asyncio.sleep(0)", "another task"),
]


def test_deadlock_of_tasks() -> None:
    """One that waits for itself, and a thread that stops the loop of the task which it waits for."""
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", _TASKS.format(number=number, steps=steps)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number, (steps, _) in enumerate(_DEADLOCKS_OF_TASKS)
    ]
    for number, (program, (_, text)) in enumerate(zip(programs, _DEADLOCKS_OF_TASKS, strict=True)):
        with program:
            said = program.communicate(timeout=WATCHDOG)[0]
        assert f"lock 'a{number}' is held by {text}" in said


def test_numbers_of_an_owner_that_died_are_ours() -> None:
    """As after the restart of a container.  Whoever has the lock by now may not have noted it: ``flock(1)``, a reader."""
    mechanism: Any = Lock("a")._door.mechanism

    async def look() -> Any:
        owner = _who.current()
        record = mechanism._open()
        record.words[START], record.words[OWNER], record.words[PID] = 1, owner, os.getpid()
        return mechanism.check_deadlock(owner, blocks=False)

    assert asyncio.run(look()) is None


def test_waiting_for_a_holder_is_no_deadlock(contend: Start) -> None:
    """However long it takes."""
    other = contend()
    other("take Lock('b')")
    with Lock("a"):
        assert not Lock("b").acquire(timeout=1.3)


def test_a_free_lock_is_had_after_a_time_out(contend: Start, tmp_path: Path) -> None:
    """Though a thread of ours still waits in the kernel for one that has given up."""
    lock = Lock(tmp_path / "file.lock")
    for _ in range(30):
        other = contend()
        other(f"take Lock({str(tmp_path / 'file.lock')!r})")
        assert not lock.acquire(timeout=0.001)
        other.kill()
        assert lock.acquire(False)
        lock.release()
    assert contend()(f"try Lock({str(tmp_path / 'file.lock')!r})") == "True"


def test_time_outs_and_others_of_one_process(contend: Start) -> None:
    """Threads that wait for a moment, for ever, and not at all: one at a time has it, and none is forgotten."""
    other, lock, inside = contend(), Lock("a"), []
    stop = threading.Event()

    def work(timeout: float | None) -> None:
        while not stop.is_set():
            if lock.acquire(timeout != 0, timeout):
                inside.append(1)
                assert len(inside) == 1
                inside.pop()
                lock.release()

    threads = [threading.Thread(target=work, args=(timeout,)) for timeout in (0, 0.0001, 0.001, None, 0.0001, None)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        other("take Lock('a')")
        assert not inside
        other("give Lock('a')")
    stop.set()
    for thread in threads:
        thread.join(WATCHDOG)
        assert not thread.is_alive()
    assert other("try Lock('a')") == "True"


def test_a_handler_that_interrupts_its_own_thread(contend: Start) -> None:
    """In the midst of taking the lock it cannot have it, and is told so where it would wait."""
    lock, other = Lock("a"), contend()
    with lock._door._mutex:  # where a signal handler may come
        assert not lock.acquire(False)
        with pytest.raises(RuntimeError, match="a signal handler has interrupted"):
            lock.acquire()
        with pytest.raises(RuntimeError, match="a signal handler has interrupted"):
            lock.release()
    with lock:
        assert other("try Lock('a')") == "False"


def test_nobody_holds_the_object(contend: Start) -> None:
    """The lock is held until it is released, by another object or by the end of the process."""
    other = contend()
    Lock("a").acquire()
    gc.collect()
    assert other("try Lock('a')") == "False"
    Lock("a").release()
    assert other("try Lock('a')") == "True"


def test_wait_for_oneself_with_a_time_out() -> None:
    """It means to wait for so long, as with ``multiprocessing``."""
    with Lock("a"):
        assert not Lock("a").acquire(timeout=1.2)


def test_a_forked_child_unwinds(contend: Start) -> None:
    """What it ends with is not hidden by what it does not hold."""
    with pytest.raises(SystemExit):
        with Lock("a"):
            Lock("a")._door.disown()  # as in a child
            raise SystemExit


def test_owner_that_has_ended(contend: Start) -> None:
    """A thread that has not released it: said of all locks, an error where nobody is left who could."""
    lock = RLock("a")
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    holder = lock.holder()
    assert holder is not None
    assert holder.ended
    assert "whose thread has ended" in holder.describe()
    with pytest.raises(DeadlockError, match="has ended without releasing it"):
        lock.acquire()
    assert not lock.acquire(timeout=0.01)
    Lock("a").release()  # a lock of any other kind is anybody's to release
    other = contend()
    other(
        "run [setattr(__import__('builtins'), 't', __import__('threading').Thread(target=Lock('a').acquire)), t.start()]"
    )
    other("run t.join()")
    assert other("take Lock('a')").startswith(
        "DeadlockError lock 'a' is held by a thread of this process that has ended"
    )


# The file.


def test_record_is_on_the_disk(folder: Path) -> None:
    """A hole could not be filled where there is no room, and to write into it would be the end of the process."""
    with Lock("a"):
        assert all(file.stat().st_blocks * 512 >= 4096 for file in folder.iterdir())


def test_folder_is_removed(folder: Path) -> None:
    """By somebody who clears up: it is made again."""
    lock = Lock("a")
    with lock:
        pass
    shutil.rmtree(folder)
    for one in (lock, Lock("b")):
        with one:
            assert folder.is_dir()


def test_file_is_replaced_while_it_is_waited_for(contend: Start, tmp_path: Path) -> None:
    """Whoever gets the lock has the one that others find."""
    path = tmp_path / "file.lock"
    holder, waiter = contend(), contend()
    spec = f"Lock({str(path)!r})"
    holder(f"take {spec}")
    waiter.tell(f"take {spec}")
    holder.await_waiter(spec)
    path.rename(tmp_path / "away")
    third = contend()
    assert third(f"take {spec}") == "True"  # the file is new
    kind, text = holder(f"give {spec}").split(" ", 1)
    assert kind == "LockLost"
    assert "removed or replaced" in text
    third(f"give {spec}")
    assert waiter.answer() == "True"
    assert third(f"try {spec}") == "False"


@pytest.mark.parametrize("what", ["link", "fifo", "directory"])
def test_file_that_is_no_file(what: str, tmp_path: Path) -> None:
    """It is refused, before and after it was one."""
    path = tmp_path / "file.lock"
    lock = Lock(path)
    with lock:
        pass
    path.unlink()
    if what == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    for one in (lock, Lock(path)):
        with pytest.raises(LockError, match=str(path)):
            one.acquire(False)
    assert not (tmp_path / "elsewhere").exists()


def test_content_is_left_alone(tmp_path: Path) -> None:
    """A file of the user's may be locked: nothing is written into it."""
    path = tmp_path / "data.txt"
    path.write_text("precious")
    with Lock(path):
        assert path.read_text() == "precious"
    assert path.read_text() == "precious"


def test_files_are_private(folder: Path, tmp_path: Path) -> None:
    """To the user."""
    with Lock("a"), Lock(tmp_path / "new.lock"):
        assert folder.stat().st_mode & 0o777 == 0o700
        for file in (*folder.iterdir(), tmp_path / "new.lock"):
            assert file.stat().st_mode & 0o777 == 0o600


def test_folder_of_others(folder: Path) -> None:
    """It is not used."""
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(LockError, match="others can write or read there"):
        Lock("a")


def test_folder_that_is_relative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each directory would have locks of its own."""
    monkeypatch.setenv("FORKFUL_LOCK_DIR", "locks")
    with pytest.raises(LockError, match=r"FORKFUL_LOCK_DIR is 'locks', .* give its whole path"):
        Lock("a")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of others")
def test_folder_of_another_owner(folder: Path) -> None:
    """That is the trouble, not its mode."""
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, -1)
    with pytest.raises(LockError, match="belongs to user 65534"):
        Lock("a")


_DESCRIPTORS = """
import resource
from forkful import Lock
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
locks = [Lock(f"{number}") for number in range(60)]
try:
    for lock in locks:
        lock.acquire()
except OSError as error:
    print(type(error), error)
except Exception as error:
    print(error)
"""


def test_no_descriptor_is_left() -> None:
    """It says so, and gives no advice about the disk."""
    program = subprocess.run([sys.executable, "-c", _DESCRIPTORS], capture_output=True, text=True, check=False)
    assert "this process has no descriptor left; close some, or raise `ulimit -n`" in program.stdout
    assert "make room" not in program.stdout


@pytest.mark.parametrize("names", [1000])
def test_many_names(names: int) -> None:
    """Neither descriptors nor memory grow with names that are used no more."""
    before = len(os.listdir("/proc/self/fd"))
    for number in range(names):
        with Lock(f"name {number}"):
            pass
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_anonymous_locks_leave_nothing(folder: Path, contend: Start) -> None:
    """Not when they are dropped, nor when their maker ends; what a killed one left goes with the next."""
    for _ in range(3):
        Lock().acquire(False)
        with Lock():
            pass
    assert not list(folder.iterdir())
    other = contend()
    other("take Lock()")
    assert len(list(folder.iterdir())) == 1
    other.die()
    assert contend()("take Lock()") == "True"
    assert len(list(folder.iterdir())) == 1


def test_anonymous_lock_whose_maker_has_ended(contend: Start) -> None:
    """An error that says so."""
    other = contend()
    packed = bytes.fromhex(other("run __import__('pickle').dumps(lock('Lock()')).hex()"))
    other.die()
    contend()("take Lock()")
    with pytest.raises(LockLost, match="give the lock a name"):
        pickle.loads(packed).acquire()


# What cannot be.


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("a/b", ValueError, "write ./a/b"),
        ("", ValueError, "must not be empty"),
        ("a\0b", ValueError, "null character"),
        (5, TypeError, "named by a str"),
        ("mysql://host/a", ValueError, "no engine for locks at mysql://"),
        ("/no/such/directory/a.lock", LockError, "directory does not exist"),
        ("/dev/null", LockError, "not a regular file"),
        ("/tmp", LockError, "is a directory"),
    ],
)
def test_bad_names(name: Any, kind: type[Exception], text: str) -> None:
    """One clear error each."""
    with pytest.raises(kind, match=text):
        Lock(name).acquire(False)


@pytest.mark.parametrize("kind", [Lock, RLock, forkful.RWLock])
def test_an_argument_that_it_has_not(kind: Any) -> None:
    """Named with the class that the user has written."""
    with pytest.raises(TypeError, match=rf"^{kind.__name__}\.__init__\(\) got an unexpected keyword argument 'ctx'"):
        kind(ctx=None)


@pytest.mark.parametrize(
    ("timeout", "kind"), [("1", TypeError), (float("nan"), ValueError), (True, TypeError), (10**400, ValueError)]
)
def test_bad_timeouts(timeout: Any, kind: type[Exception]) -> None:
    """One clear error each."""
    with pytest.raises(kind, match="seconds"):
        Lock("a").acquire(timeout=timeout)
