"""`RWLock`: readers beside each other, a writer alone, and none of them for ever."""

from __future__ import annotations

import asyncio
import pickle
import threading

import pytest

from forkful import Lock, RWLock
from forkful.errors import LockError

from .support import WATCHDOG, Contender

Start = type[Contender]
READ, WRITE = "RWLock('a').read()", "RWLock('a').write()"


def test_readers_and_writers(contend: Start) -> None:
    """Of several programs."""
    one, two = contend(), contend()
    assert one(f"take {READ}") == "True"
    assert two(f"take {READ}") == "True"
    assert one(f"try {WRITE}") == "False"
    with RWLock("a").read():
        assert two(f"give {READ}") == "None"
        assert two(f"try {WRITE}") == "False"
    assert two(f"try {WRITE}") == "False"
    one(f"give {READ}")
    assert two(f"try {WRITE}") == "True"
    assert one(f"try {READ}") == "False"
    assert one("try Lock('a')") == "False"


def test_threads_read_beside_each_other() -> None:
    """And the last one to leave gives the lock back."""
    lock, barrier = RWLock("a"), threading.Barrier(4)

    def read() -> None:
        with lock.read():
            barrier.wait(WATCHDOG)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lock.write().acquire(False)
    assert not lock.read().acquire(False)
    lock.write().release()


def test_writer_is_not_kept_waiting(contend: Start) -> None:
    """Readers that come after it wait."""
    reader, writer, late = contend(), contend(), contend()
    reader(f"take {READ}")
    writer.tell(f"take {WRITE}")
    reader.await_waiter("RWLock('a')")
    while late(f"try {READ}") == "True":  # until the writer is noted as the next to have it
        late(f"give {READ}")
    late.tell(f"take {READ}")
    reader(f"give {READ}")
    assert writer.answer() == "True"
    writer(f"give {WRITE}")
    assert late.answer() == "True"


def test_writer_of_one_process_and_its_readers() -> None:
    """The same among threads."""
    lock = RWLock("a")
    with lock.read():
        writer = threading.Thread(target=lock.write().acquire)
        writer.start()
        while not lock._door._queue:
            pass
        assert not lock.read().acquire(False)
    writer.join()
    assert not lock.read().acquire(timeout=0.05)
    lock.write().release()
    with lock.read():
        pass


def test_writer_is_killed(contend: Start) -> None:
    """Readers know of it until somebody has written."""
    other, lock = contend(), RWLock("a")
    other(f"take {WRITE}")
    other.die()
    for _ in range(2):
        with lock.read():
            assert lock.recovered
    with lock.write():
        assert lock.recovered
    with lock.read():
        assert not lock.recovered


def test_readers_are_killed(contend: Start) -> None:
    """They have left nothing half done."""
    readers = [contend() for _ in range(3)]
    for reader in readers:
        reader(f"take {READ}")
    for reader in readers:
        reader.die()
    lock = RWLock("a")
    assert lock.write().acquire(timeout=WATCHDOG)
    assert not lock.recovered
    lock.write().release()


def test_release_of_the_other_side() -> None:
    """Is no release."""
    lock = RWLock("a")
    with lock.read(), pytest.raises(LockError, match="not held to write"):
        lock.write().release()
    with lock.write(), pytest.raises(LockError, match="not held to read"):
        lock.read().release()
    with pytest.raises(LockError, match="not held by this process"):
        lock.read().release()


def test_tasks() -> None:
    """Readers together, a writer alone."""

    async def main() -> int:
        lock, inside, most = RWLock("a"), 0, 0

        async def read() -> None:
            nonlocal inside, most
            async with lock.read():
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

        async def write() -> None:
            async with lock.write():
                assert inside == 0

        async with asyncio.TaskGroup() as group:
            for what in (read, read, write, read):
                group.create_task(what())
        return most

    assert asyncio.run(main()) == 2


def test_pickling() -> None:
    """The lock travels; one side of it says what to do."""
    lock = RWLock("a")
    assert pickle.loads(pickle.dumps(lock)) == lock != Lock("a")
    with pytest.raises(TypeError, match="send the RWLock"):
        pickle.dumps(lock.read())


def test_reader_after_a_writer_that_gave_up(contend: Start) -> None:
    """Of one process: what the writer had asked the kernel for must not become the reader's, nor end what he holds."""
    other, lock = contend(), RWLock("a")
    for _ in range(20):
        other(f"take {READ}")
        assert not lock.write().acquire(timeout=0.001)
        early = lock.read().acquire(False)
        other(f"give {READ}")
        assert early or lock.read().acquire(timeout=WATCHDOG)
        assert other(f"try {WRITE}") == "False"
        lock.read().release()
        assert other(f"take {WRITE}") == "True"
        assert not lock.read().acquire(False)
        other(f"give {WRITE}")


def test_writer_that_came_behind_a_reader(contend: Start) -> None:
    """It is next after that one, however many readers follow."""
    first, reader, writer, late = contend(), contend(), contend(), contend()
    late(f"take {READ}")
    late(f"give {READ}")
    first(f"take {WRITE}")
    reader.tell(f"take {READ}")
    first.await_waiter("RWLock('a')")
    writer.tell(f"take {WRITE}")
    first.await_waiter("RWLock('a')", 2)
    first(f"give {WRITE}")
    assert reader.answer() == "True"
    while late(f"try {READ}") == "True":
        late(f"give {READ}")
    late.tell(f"take {READ}")
    reader(f"give {READ}")
    assert writer.answer() == "True"
    writer(f"give {WRITE}")
    assert late.answer() == "True"


def test_writer_that_is_killed_as_it_waits(contend: Start) -> None:
    """It holds no reader up, in whichever process."""
    reader, writer, lock = contend(), contend(), RWLock("a")
    reader(f"take {READ}")
    with lock.read():
        writer.tell(f"take {WRITE}")
        reader.await_waiter("RWLock('a')")
        writer.die()
        had: list[bool] = []
        thread = threading.Thread(target=lambda: had.append(lock.read().acquire(timeout=WATCHDOG)))
        thread.start()
        thread.join()
        assert had == [True]
        lock.read().release()


def test_it_has_two_sides() -> None:
    """It is no lock itself: which one is meant must be said."""
    with pytest.raises(TypeError, match=r"with lock\.read\(\):.*with lock\.write\(\):"):
        with RWLock("a"):
            pass

    async def enter() -> None:
        async with RWLock("a"):
            pass

    with pytest.raises(TypeError, match=r"lock\.read\(\)"):
        asyncio.run(enter())
