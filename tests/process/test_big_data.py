"""Large arguments and results through a pool: equal to what was sent, whatever happens to whom."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle
import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import forkful
from forkful import errors
from forkful._core import accounts, codec, messages, wire
from forkful._core.accounts import OWN_BLOCK

from . import big_tasks, tasks
from .big_tasks import make
from .sabotage import Point, Sabotage
from .support import WATCHDOG, Program, assert_works, executions

MIB = 1024 * 1024
BIG = 3 * MIB
SMALL = codec.LARGE_BYTES


@pytest.mark.parametrize("size", [0, 1, SMALL - 1, SMALL, OWN_BLOCK - 1, OWN_BLOCK, 40 * MIB])
def test_there_and_back(size: int, start_method: str) -> None:
    """Every way to ask, each size."""
    array: Any = np.arange(size, dtype="u1")
    with forkful.Pool(2, context=start_method) as pool:
        results = [
            pool.apply(big_tasks.same, (array,)),
            pool.apply_async(big_tasks.same, (), {"value": array}).get(WATCHDOG),
            *pool.map(big_tasks.same, [array] * 2),
            *pool.imap(big_tasks.same, [array] * 2),
            *pool.starmap(big_tasks.same, [(array,)] * 2),
        ]
        for result in results:
            assert np.array_equal(result, array)
            assert result.flags.writeable
            result[:] = 0
        assert np.array_equal(array, np.arange(size, dtype="u1"))


def readonly(array: Any) -> Any:
    """The array, made so."""
    array.flags.writeable = False
    return array


SHAPES: dict[str, Callable[[], Any]] = {
    "Fortran": lambda: np.asfortranarray(np.arange(600_000).reshape(600, 1000)),
    "strided": lambda: np.arange(1_200_000)[::2],
    "reversed": lambda: np.arange(600_000)[::-1],
    "read-only": lambda: readonly(np.arange(600_000)),
    "scalar": lambda: np.array(5.5),
    "empty": lambda: np.zeros((0, 1000)),
    "structured": lambda: np.zeros(100_000, dtype=[("a", "i4"), ("b", "f8")]),
    "dates": lambda: np.arange(300_000).astype("M8[s]"),
    "big-endian": lambda: np.arange(600_000, dtype=">i4"),
    "broadcast": lambda: np.broadcast_to(np.arange(1000), (600, 1000)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_arrays_of_every_kind(name: str) -> None:
    """As they arrive without shared memory."""
    array = SHAPES[name]()
    expected = big_tasks.describe(pickle.loads(pickle.dumps(array, 5)))
    with forkful.Pool(1) as pool:
        assert pool.apply(big_tasks.describe, (array,)) == expected
        assert big_tasks.describe(pool.apply(big_tasks.same, (array,))) == expected


def test_arrays_of_objects() -> None:
    """Large arrays inside, and other things beside."""
    array: Any = np.array([None, "text", np.arange(600_000)], dtype=object)
    with forkful.Pool(1) as pool:
        result = pool.apply(big_tasks.same, (array,))
        assert result[:2].tolist() == [None, "text"]
        assert np.array_equal(result[2], array[2])


def test_subclass() -> None:
    """What it adds comes along."""
    array: Any = np.arange(600_000).view(big_tasks.Heavy)
    array.label = "weight"
    with forkful.Pool(1) as pool:
        result = pool.apply(big_tasks.same, (array,))
    assert type(result) is big_tasks.Heavy
    assert result.label == "weight"
    assert np.array_equal(result, array)


@pytest.mark.parametrize("retries", [0, 1])
def test_objects_that_give_buffers(retries: int) -> None:
    """Any class may; what was read-only is so there."""
    parts = [bytes(range(256)) * 4000, bytearray(b"b" * BIG), b"", bytearray(b"small"), b"c" * BIG]
    with forkful.Pool(1, retries=retries) as pool:
        frozen, slices = pool.apply(big_tasks.flip, (big_tasks.Slices(*parts),))
    assert frozen == [True, False, True, False, True]
    assert [bytes(part) for part in slices.parts] == [bytes(part) for part in reversed(parts)]


@pytest.mark.parametrize("value", [b"x" * BIG, "x" * BIG, list(range(300_000)), {"a": bytearray(BIG)}])
def test_pickles_without_buffers(value: Any, start_method: str) -> None:
    """What is large for another reason goes the same way."""
    with forkful.Pool(1, context=start_method) as pool:
        assert pool.apply(big_tasks.same, (value,)) == value
        assert pool.map(big_tasks.same, [value, 1, value]) == [value, 1, value]


def test_part_of_the_argument() -> None:
    """A result that looks at the argument's memory outlives it."""
    with forkful.Pool(1) as pool:
        results = [pool.apply(big_tasks.middle, (make(BIG, number),)) for number in range(20)]
    assert all((result == number).all() for number, result in enumerate(results))


def test_arguments_may_be_written_to() -> None:
    """They are the task's own."""
    array = make(BIG, 0)
    with forkful.Pool(2) as pool:
        assert (pool.apply(big_tasks.add_one, (array,)) == 1).all()
        assert all((result == 1).all() for result in pool.map(big_tasks.add_one, [array] * 6))
        assert all((result == 1).all() for result in pool.imap(big_tasks.add_one, [array] * 6, chunksize=3))
        assert (pool.apply(big_tasks.add_one, (array,), retries=1) == 1).all()
    assert not array.any()


@pytest.mark.parametrize("task", [big_tasks.change_and_die, big_tasks.change_and_raise])
@pytest.mark.parametrize("size", [SMALL, BIG])
def test_second_try_finds_what_was_sent(task: Any, size: int, tmp_path: Path) -> None:
    """Whatever the first has written to its argument."""
    array = make(size, 0)
    with forkful.Pool(1, retries=1) as pool:
        assert pool.apply(task, (array, str(tmp_path / "marker"))) == 0
    marker = str(tmp_path / "other")
    with forkful.Pool(1) as pool:
        assert pool.starmap(task, [(array, marker), (array, marker)], retries=1, chunksize=2) == [0, 0]


def test_task_that_keeps_its_argument() -> None:
    """It stays what it was as long as it is kept, and the memory is used again afterwards."""
    with forkful.Pool(1) as pool:
        for number in range(12):
            assert pool.apply(big_tasks.keep, (make(BIG, number),)) == number + 1
        lender = pool._master.lender()
        pool.apply(big_tasks.let_go)
        pool.apply(big_tasks.let_go)
        lender.reclaim()
        assert lender._arena.warm >= 12 * BIG
        assert pool.apply(big_tasks.keep, (make(BIG, 1),)) == 1


def test_results_are_told_apart() -> None:
    """Many that are kept, many that are not, from two workers."""
    kept = {}
    with forkful.Pool(2) as pool:
        results = [pool.apply_async(big_tasks.make, (OWN_BLOCK + number, number % 256)) for number in range(200)]
        for number, result in enumerate(results):
            array = result.get(WATCHDOG)
            assert (array == number % 256).all()
            if number % 7 == 0:
                kept[number] = array
    assert all((array == number % 256).all() and len(array) == OWN_BLOCK + number for number, array in kept.items())


def test_results_outlive_the_pool(start_method: str) -> None:
    """And their memory goes with them."""
    with forkful.Pool(2, context=start_method) as pool:
        results = pool.starmap(big_tasks.make, [(BIG, number) for number in range(8)])
    gc.collect()
    assert all((result == number).all() for number, result in enumerate(results))
    results[0][:] = 9


def test_warm_memory_is_used_again() -> None:
    """The second array of a size costs no new page."""
    array = make(20 * MIB, 1)
    with forkful.Pool(1) as pool:
        pool.apply(big_tasks.same, (array,))
        pool.apply(big_tasks.same, (array,))
        lender = pool._master.lender()
        places = set()
        for _ in range(10):
            result = pool.apply(big_tasks.same, (array,))
            places.add(result.__array_interface__["data"][0])
            del result
        assert len(places) <= 2
        assert len(lender._segments) == 1
        assert sum(os.fstat(segment.fd).st_blocks * 512 for segment in lender._segments.values()) <= 41 * MIB


def test_many_kept_results_few_descriptors(tmp_path: Path) -> None:
    """2,000 of 300 kB, and some large ones, under a limit that would not hold a descriptor for each."""
    code = """
import resource
import forkful
from tests.process import big_tasks

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    with forkful.Pool(2) as pool:
        small = pool.starmap(big_tasks.make, [(300_000, n % 256) for n in range(2000)], chunksize=10)
        large = list(pool.istarmap(big_tasks.make, [(2_000_000, n % 256) for n in range(300)]))
        handed = [pool.apply_async(big_tasks.same, (array,)) for array in large]
        handed = [result.get() for result in handed]
    for results, size in ((small, 300_000), (large, 2_000_000), (handed, 2_000_000)):
        assert all(len(r) == size and r[0] == r[-1] == n % 256 for n, r in enumerate(results))
    print("good")
"""
    with Program(cwd=tmp_path, code=code) as program:
        assert program.line() == "good"
        assert program.finish()[0] == 0


def test_no_descriptors_left() -> None:
    """Then things go the old way: no error that they would not have given."""
    array = np.arange(400_000)
    with forkful.Pool(1) as pool:
        assert pool.apply(np.sum, (array,)) == array.sum()
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, before[1]))
        fillers = []
        try:
            while True:
                try:
                    fillers.append(os.dup(0))
                except OSError:
                    break
            assert pool.apply_async(np.sum, (array,)).get(WATCHDOG) == array.sum()
            assert (pool.apply_async(make, (BIG, 3)).get(WATCHDOG) == 3).all()
        finally:
            for fd in fillers:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert np.array_equal(pool.apply(big_tasks.same, (array,)), array)


def test_no_addresses_left(tmp_path: Path) -> None:
    """Likewise under ``ulimit -v``."""
    code = """
import resource
import forkful
from tests.process import big_tasks

if __name__ == "__main__":
    with forkful.Pool(1) as pool:
        pool.apply(big_tasks.same, (1,))
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (used + 50_000_000, -1))
        assert pool.apply(big_tasks.same, (big_tasks.make(5_000_000, 1),)).all()
        print("good")
"""
    with Program(cwd=tmp_path, code=code) as program:
        assert program.line() == "good"
        assert program.finish()[0] == 0


# Deaths.


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_killed_as_it_sends_a_large_result(
    when: str, retries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large result is safe before it is sent: it outlives its worker, and is not made twice."""
    log = tmp_path / "log"
    sabotage = Sabotage(Point("PARCELS", when, 3), tmp_path, monkeypatch)
    with forkful.Pool(2, context="fork", retries=retries) as pool:
        results = [pool.apply_async(big_tasks.noted_array, (str(log), number)) for number in range(20)]
        for number, result in enumerate(results):
            assert (result.get(WATCHDOG) == number).all()
        assert sabotage.victim(), "no worker came to that point"
        assert executions(log) == dict.fromkeys(range(20), 1)
        assert_works(pool)


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_killed_as_it_gives_memory_back(when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its result, in one go: nothing hangs, and what arrives is right."""
    sabotage = Sabotage(Point("RETURNED", when, 3), tmp_path, monkeypatch)
    with forkful.Pool(2, context="fork", retries=2) as pool:
        for number in range(12):
            assert (pool.apply(big_tasks.add_one, (make(BIG, number),)) == number + 1).all()
        assert sabotage.victim(), "no worker came to that point"
        assert_works(pool)


@pytest.mark.parametrize("point", ["send_fds", "describe"])
def test_killed_before_it_commits(point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptor may have been sent, the memory filled: the result is that of a task that died."""
    marker = tmp_path / "marker"

    def die_after(function: Any) -> Any:
        def call(*args: Any) -> Any:
            result = function(*args)
            if os.getpid() != parent and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    parent = os.getpid()
    if point == "send_fds":
        monkeypatch.setattr(accounts, "send_fds", die_after(wire.send_fds))
    else:
        from forkful._core.lending import Parcel

        monkeypatch.setattr(Parcel, "describe", die_after(Parcel.describe))
    with forkful.Pool(1, context="fork") as pool:
        with pytest.raises(errors.WorkerDied):
            pool.apply(big_tasks.make, (BIG, 1))
        assert marker.exists()
        assert (pool.apply(big_tasks.make, (BIG, 2)) == 2).all()


def test_worker_that_dies_while_its_result_is_looked_at() -> None:
    """Nothing happens to the result."""
    with forkful.Pool(1) as pool:
        result = pool.apply(big_tasks.make, (BIG, 5))
        with pytest.raises(errors.WorkerDied):
            pool.apply(tasks.kill_own_process)
        other = pool.apply(big_tasks.make, (BIG, 6))
        assert (result == 5).all()
        assert (other == 6).all()


@pytest.mark.parametrize("dies", [False, True])
def test_task_that_leaves_a_process(dies: bool, tmp_path: Path) -> None:
    """Which has the argument: it sees it unchanged, whether the worker gives it back or dies."""
    gate, answer = str(tmp_path / "gate"), str(tmp_path / "answer")
    os.mkfifo(gate)
    os.mkfifo(answer)
    with forkful.Pool(1) as pool:
        pool.apply(big_tasks.leave_descendant, (make(BIG, 7), gate, answer))
        if dies:
            with pytest.raises(errors.WorkerDied):
                pool.apply(tasks.kill_own_process)
        for number in range(10):
            pool.apply(big_tasks.same, (make(BIG, number),))
        Path(gate).write_bytes(b"!")
        assert Path(answer).read_text(encoding="ascii") == "True"


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_fork_that_has_a_result() -> None:
    """A child of this program sees what its parent had, whatever becomes of that in the parent."""
    context = multiprocessing.get_context("fork")
    with forkful.Pool(1) as pool:
        result = pool.apply(big_tasks.make, (BIG, 7))
        reader, writer = context.Pipe(duplex=False)
        go_reader, go_writer = context.Pipe(duplex=False)

        def child(array: Any) -> None:
            go_reader.recv()
            writer.send(bool((array == 7).all()))

        process = context.Process(target=child, args=(result,))
        process.start()
        del result  # and the process object has let go of it
        for number in range(10):
            assert (pool.apply(big_tasks.make, (BIG, number)) == number).all()
        go_writer.send(1)
        assert reader.recv()
        process.join(WATCHDOG)
        for connection in (reader, writer, go_reader, go_writer):
            connection.close()


def test_forked_workers_see_results_of_others() -> None:
    """What was computed by one pool is a global of the workers of another."""
    with forkful.Pool(1) as pool:
        big_tasks.kept.append(pool.apply(big_tasks.make, (BIG, 1)))
        with forkful.Pool(2, context="fork") as other:
            assert other.map(forked_global, range(4)) == [True] * 4
            big_tasks.kept.clear()
            for number in range(5):
                pool.apply(big_tasks.make, (BIG, number))
                assert other.apply(forked_global, (1,))


def forked_global(_: int) -> bool:
    """Whether what the parent had is what it was."""
    return all((array == 1).all() for array in big_tasks.kept) and len(big_tasks.kept) == 1


def test_task_that_closes_all_descriptors() -> None:
    """The worker is lost; the pool goes on."""
    with forkful.Pool(1) as pool:
        pool.apply(big_tasks.same, (np.ones(BIG),))
        with contextlib.suppress(errors.WorkerDied):  # unless its result was safe before anybody noticed
            pool.apply(big_tasks.close_everything)
        assert (pool.apply(big_tasks.make, (BIG, 3)) == 3).all()


@pytest.mark.parametrize("seed", range(3))
def test_random_kills(seed: int) -> None:
    """Workers die at any point, for as long as there is work: every result that comes is right."""
    random = np.random.default_rng(seed)
    with forkful.Pool(2, retries=1000) as pool:
        results = [pool.apply_async(big_tasks.add_one, (make(OWN_BLOCK + number, number),)) for number in range(120)]
        stop = threading.Event()

        def kill() -> None:
            while not stop.wait(float(random.exponential(0.3))):
                for _, pid in pool._master.members():
                    if pid is not None and random.random() < 0.5:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            for number, result in enumerate(results[:60]):
                assert (result.get(WATCHDOG * 3) == number + 1).all()
        finally:
            stop.set()
            killer.join()
        for number, result in enumerate(results):
            assert (result.get(WATCHDOG * 3) == number + 1).all()


def test_parent_killed(tmp_path: Path) -> None:
    """With large things on their way in both directions, and kept: nothing is left."""
    code = """
import forkful
from tests.process import big_tasks

if __name__ == "__main__":
    pool = forkful.Pool(2)
    pool.starmap(big_tasks.keep, [(big_tasks.make(3_000_000, 1),)] * 4)
    results = [pool.apply_async(big_tasks.same, (big_tasks.make(3_000_000, 1),)) for _ in range(300)]
    results[3].get()
    print("now", flush=True)
    [result.get() for result in results]
    input()
"""
    with Program(cwd=tmp_path, code=code) as program:
        assert program.line() == "now"
        program.send(signal.SIGKILL)
        program.finish()


# Concurrency.


def test_threads_of_the_parent() -> None:
    """Several submit and fetch at once."""
    wrong: list[Any] = []
    with forkful.Pool(2) as pool:

        def work(number: int) -> None:
            for turn in range(15):
                value = (number * 31 + turn) % 256
                result = pool.apply_async(big_tasks.same, (make(OWN_BLOCK + turn, value),)).get(WATCHDOG)
                if not (result == value).all():
                    wrong.append((number, turn))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_threads_of_a_worker() -> None:
    """They share segments and the account with the master."""
    with forkful.Pool(1, threads=4) as pool:
        shared = pool.share(make(BIG, 3))
        for turn in range(3):
            arrays = [make(OWN_BLOCK + number, number + turn) for number in range(40)]
            results = [pool.apply_async(big_tasks.same, (array,)) for array in arrays]
            others = [pool.apply_async(big_tasks.by_threads, (shared,)) for _ in range(40)]
            for array, result in zip(arrays, results, strict=True):
                assert np.array_equal(result.get(WATCHDOG), array)
            assert {other.get(WATCHDOG)[1] for other in others} == {3}


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_forks_while_large_things_travel() -> None:
    """The program forks all the time: neither it nor its children are disturbed."""
    with forkful.Pool(2) as pool:
        stop = threading.Event()
        codes = []

        def fork() -> None:
            while not stop.is_set():
                pid = os.fork()
                if pid == 0:
                    os._exit(0)
                codes.append(os.waitpid(pid, 0)[1])

        thread = threading.Thread(target=fork)
        thread.start()
        try:
            for number in range(40):
                array = make(OWN_BLOCK, number)
                assert (pool.apply(big_tasks.add_one, (array,)) == number + 1).all()
        finally:
            stop.set()
            thread.join()
        assert set(codes) == {0}


def test_recall_with_large_arguments(tmp_path: Path) -> None:
    """What waits behind a long task goes elsewhere, its memory with it."""
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    with forkful.Pool(2) as pool:
        arrays = [make(OWN_BLOCK, number) for number in range(40)]
        for array in arrays[:8]:
            pool.apply(big_tasks.same, (array,))  # it is known to be quick
        results = [pool.apply_async(big_tasks.same, (array,)) for array in arrays[:20]]
        blocked = pool.apply_async(big_tasks.wait_with, (arrays[5], gate))
        results += [pool.apply_async(big_tasks.same, (array,)) for array in arrays[20:]]
        for array, result in zip(arrays, results, strict=True):
            assert np.array_equal(result.get(WATCHDOG), array)
        assert not blocked.ready()
        with open(gate, "wb", buffering=0) as file:
            file.write(b"!")
        assert blocked.get(WATCHDOG) == 5


def test_cancelled_and_timed_out() -> None:
    """What they had comes free."""
    with forkful.Pool(1) as pool:
        for _ in range(3):
            with pytest.raises(errors.TaskTimeout):
                pool.apply(tasks.wait_for_ever, (np.ones(BIG),), timeout=0.1)
        waiting = pool.apply_async(tasks.wait_for_ever, (np.ones(BIG),))
        queued = pool.apply_async(big_tasks.same, (np.ones(BIG),))
        assert queued.cancel()
        assert waiting.cancel(kill=True)
        for result in (waiting, queued):
            with pytest.raises(errors.TaskCancelled):
                result.get(WATCHDOG)
        del waiting, queued, result
        gc.collect()  # the tracebacks
        pool.apply(big_tasks.same, (np.ones(BIG),))
        lender = pool._master.lender()
        lender.reclaim()
        assert sum(bool(watch()) for watch in lender._watches) <= 1


def test_result_that_cannot_be_rebuilt() -> None:
    """Its error, and its memory comes back."""
    with forkful.Pool(1) as pool:
        for _ in range(5):
            with pytest.raises(errors.UnpicklableError, match="LookupError"):
                pool.apply(big_tasks.make_failing, (BIG,))
        assert (pool.apply(big_tasks.make, (BIG, 1)) == 1).all()


def test_nested_pools() -> None:
    """A worker is a master too."""
    with forkful.Pool(1) as pool:
        assert (pool.apply(big_tasks.nested, (make(BIG, 0),)) == 1).all()
        assert (pool.apply(big_tasks.add_one, (make(BIG, 0),)) == 1).all()


def test_interrupted_while_it_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of the copying: it is passed on, and the pool goes on."""
    from forkful._core.segments import Segment

    view = Segment.view
    with forkful.Pool(1) as pool:
        pool.apply(big_tasks.same, (np.ones(BIG),))

        def interrupt(*_: Any) -> Any:
            monkeypatch.setattr(Segment, "view", view)
            raise KeyboardInterrupt

        monkeypatch.setattr(Segment, "view", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pool.apply(big_tasks.same, (np.ones(BIG),))
        assert np.array_equal(pool.apply(big_tasks.same, (np.ones(BIG),)), np.ones(BIG))


# Nothing is left.


@pytest.mark.parametrize(("method", "pools"), [("fork", 80), ("forkserver", 20)])
def test_many_pools(method: str, pools: int) -> None:
    """Opened, used with large things both ways, closed: descriptors, mappings and memory are what they were."""

    def use(number: int) -> None:
        with forkful.Pool(1, context=method) as pool:
            shared = pool.share(make(BIG, 1))
            array = make(BIG, number % 256)
            assert (pool.apply(big_tasks.same, (array,)) == number % 256).all()
            assert pool.apply(np.sum, (shared,)) == BIG

    def holdings() -> tuple[int, int, int]:
        gc.collect()
        this = psutil.Process()
        return this.num_fds(), len(this.memory_maps(grouped=False)), shared_memory()

    for number in range(10):
        use(number)
    before = holdings()
    for number in range(pools):
        use(number)
    after = holdings()
    assert after[0] <= before[0]
    assert after[1] <= before[1] + 5  # malloc's arenas
    assert after[2] <= before[2] + MIB


def shared_memory() -> int:
    """Bytes of shared memory that this process has mapped."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssShmem"):
            return int(line.split()[1]) * 1024
    return 0


@pytest.mark.parametrize("call", ["map", "imap"])
def test_memory_of_a_long_stream(call: str) -> None:
    """A thousand arrays both ways take no more than those that are under way."""
    with forkful.Pool(2) as pool:
        results = getattr(pool, call)(big_tasks.same, [make(OWN_BLOCK, n % 256) for n in range(200)])
        for number, result in enumerate(results):
            assert result[0] == result[-1] == number % 256
        lender = pool._master.lender()
        assert len(lender._segments) <= 3


def test_small_things_need_none_of_this() -> None:
    """No memory, no module: a pool of small tasks is what it was."""
    with forkful.Pool(1, start_method="spawn") as pool:  # a copy of this process has what other tests have loaded
        assert pool.apply(big_tasks.loaded_modules) == []
        assert pool.map(tasks.double, range(1000)) == list(range(0, 2000, 2))
        assert pool._master._crew.lender is None
        assert all(post.account is None for post in pool._master._crew.posts.values())


def test_kinds_fit_into_a_record() -> None:
    """Four bits in the journal's index."""
    assert messages.LARGE + max(messages.VALUE, messages.GROUP, messages.MIXED, messages.ERROR) < 16
