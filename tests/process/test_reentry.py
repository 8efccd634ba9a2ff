"""User code that comes in between: a signal handler, a class that calls the pool as it is rebuilt, a callback that waits.

The handler is called at a known point of the pool's own code, in its own thread, as Python would call it there.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import forkful
from forkful import errors
from forkful._core.crew import Crew
from forkful._core.state import State
from forkful._core.wheel import Wheel
from forkful.pool._callbacks import Callbacks
from forkful.pool._results import AsyncResult, MapResult

from . import tasks
from .support import WATCHDOG, Program, assert_works, wait_for_ends

Handler = Callable[[], object]


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[type, str, Handler], list[int]]]:
    """``interrupt(owner, name, handler)``: at the next call of that method in this thread, *handler* runs as a handler."""
    us = threading.get_ident()
    before = signal.getsignal(signal.SIGUSR1)

    def arm(owner: type, name: str, handler: Handler) -> list[int]:
        original = getattr(owner, name)
        calls: list[int] = []

        @functools.wraps(original)
        def interrupted(*args: Any, **kwds: Any) -> Any:
            if not calls and threading.get_ident() == us:
                calls.append(1)
                signal.raise_signal(signal.SIGUSR1)
            return original(*args, **kwds)

        signal.signal(signal.SIGUSR1, lambda _signum, _frame: handler())
        monkeypatch.setattr(owner, name, interrupted)
        return calls

    yield arm
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def pool() -> Iterator[Any]:
    """A pool that works, and is ended by a thread, so that a hang fails this test and not all."""
    made = forkful.Pool(2, context="forkserver")
    made.map(tasks.double, range(4))
    yield made
    ender = threading.Thread(target=made.terminate, daemon=True)
    ender.start()
    ender.join(WATCHDOG)
    assert not ender.is_alive(), "terminate() hangs"
    made.terminate()


INSIDE: list[tuple[type, str]] = [(State, "handle"), (Crew, "execute"), (Crew, "read"), (Wheel, "_pass_on")]
OUTSIDE: list[tuple[type, str]] = [(Crew, "wait")]


@pytest.mark.parametrize(("owner", "name"), INSIDE + OUTSIDE, ids=lambda value: getattr(value, "__name__", value))
def test_handler_submits(owner: type, name: str, interrupt: Any, pool: Any) -> None:
    """What a handler asks for is done, by whoever it has interrupted; nothing is lost or mixed up."""
    asked: list[Any] = []
    calls = interrupt(owner, name, lambda: asked.append(pool.apply_async(tasks.double, (21,))))
    assert pool.map(tasks.double, range(100), chunksize=3) == list(range(0, 200, 2))
    assert calls
    assert [result.get(WATCHDOG) for result in asked] == [42]
    assert_works(pool)


@pytest.mark.parametrize(("owner", "name"), INSIDE, ids=lambda value: getattr(value, "__name__", value))
def test_handler_cannot_wait_inside_the_books(owner: type, name: str, interrupt: Any, pool: Any) -> None:
    """They cannot go on before it has ended: it is told so, at once."""
    raised: list[str] = []

    def handler() -> None:
        try:
            pool.apply(tasks.double, (1,))
        except RuntimeError as error:
            raised.append(str(error))

    calls = interrupt(owner, name, handler)
    assert pool.apply(tasks.double, (2,)) == 4
    assert calls
    assert len(raised) == 1
    assert "have it set a flag, raise an exception, or call terminate()" in raised[0]
    assert_works(pool)


def test_handler_waits_where_the_pool_only_waits(interrupt: Any, pool: Any) -> None:
    """Outside the books it drives the loop itself."""
    got: list[int] = []
    calls = interrupt(Crew, "wait", lambda: got.append(pool.apply(tasks.double, (4,))))
    assert pool.map(tasks.nap, [0.01] * 4) == [0.01] * 4
    assert calls
    assert got == [8]
    assert_works(pool)


HEAD = "import os, sys\nimport forkful\nfrom tests.process import tasks\nif __name__ == '__main__':"

WAITING = """
    import signal
    def handle(number, frame):
        try:
            print("inner", pool.apply(tasks.double, (4,)), flush=True)
        except RuntimeError:
            print("inside the books", flush=True)
    signal.signal(signal.SIGUSR1, handle)
    pool = forkful.Pool(2, context={method!r})
    pool.map(tasks.double, range(4))
    gate = os.path.abspath("gate")
    os.mkfifo(gate)
    result = pool.apply_async(tasks.gated, (os.path.abspath("log"), 7, gate))
    print("started", flush=True)
    print("outer", result.get(), flush=True)
"""


def test_handler_waits_in_the_middle_of_a_wait(start_method: str, tmp_path: Path) -> None:
    """The thread is in the system's call for waiting, and there once more for the handler."""
    with Program(cwd=tmp_path, code=HEAD + WAITING.format(method=start_method)) as program:
        assert program.line() == "started"
        left = 3
        while left:
            program.send(signal.SIGUSR1)
            line = program.line()
            assert line in {"inner 8", "inside the books"}
            left -= line == "inner 8"
        with (tmp_path / "gate").open("w") as gate:
            gate.write("x")
        assert program.finish() == (0, "outer 14\n"), program.stderr()


@pytest.mark.parametrize(("owner", "name"), INSIDE + OUTSIDE, ids=lambda value: getattr(value, "__name__", value))
def test_handler_terminates(owner: type, name: str, interrupt: Any, pool: Any) -> None:
    """The usual handler of SIGTERM: the pool ends, also where it was in the middle of its books, and so does what waits."""
    calls = interrupt(owner, name, pool.terminate)
    result = pool.map_async(tasks.spin, range(1000), chunksize=1)
    try:
        values = result.get(WATCHDOG)
    except errors.PoolTerminated:
        pass
    else:
        assert name == "_pass_on"  # when it gives up the wheel it has what it waited for
        assert values == list(range(0, 2000, 2))
    assert calls
    assert pool._master.members() == []
    with pytest.raises(errors.PoolClosed):
        pool.apply(tasks.double, (1,))


TERMINATED = """
    import signal
    def handle(number, frame):
        pool.terminate()
        print("terminated", flush=True)
        sys.exit(3)
    signal.signal(signal.SIGTERM, handle)
    pool = forkful.Pool(2, context={method!r})
    pool.map(tasks.double, range(4))
    print("started", flush=True)
    pool.map(tasks.nap, [0.2] * 1000)
"""


def test_sigterm_while_a_map_runs(start_method: str, tmp_path: Path) -> None:
    """As a program does it that is stopped by its supervisor."""
    with Program(cwd=tmp_path, code=HEAD + TERMINATED.format(method=start_method)) as program:
        assert program.line() == "started"
        program.send(signal.SIGTERM)
        assert program.finish() == (3, "terminated\n"), program.stderr()
        assert program.stderr() == ""


LEAVING = ["_leave", "_pass_on", "_take", "_waiter"]


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("name", LEAVING)
def test_interrupt_at_the_wheel(name: str, nth: int, pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C just as a thread takes the wheel or gives it up: others get it all the same, and the pool is whole."""
    original = getattr(Wheel, name)
    calls = 0

    @functools.wraps(original)
    def interrupted(*args: Any, **kwds: Any) -> Any:
        nonlocal calls
        calls += threading.current_thread() is threading.main_thread()
        if calls == nth:
            calls += 1
            raise KeyboardInterrupt
        return original(*args, **kwds)

    monkeypatch.setattr(Wheel, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        for _ in range(5):
            pool.apply(tasks.double, (1,))
    monkeypatch.undo()
    other: list[int] = []
    thread = threading.Thread(target=lambda: other.append(pool.apply_async(tasks.double, (4,)).get(WATCHDOG)))
    thread.start()
    thread.join(2 * WATCHDOG)
    assert other == [8]


# Code of the user's that runs as a result is rebuilt.

hooks: list[Callable[[], object]] = []


class Hooked:
    """Calls what `hooks` holds as it is rebuilt in this process."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild_hooked, ())


def _rebuild_hooked() -> object:
    return [hook() for hook in hooks]


def return_hooked(gate: str = "") -> Hooked:
    """A task; with a *gate*, a pipe of that name, it waits for a byte."""
    if gate:
        Path(gate).read_bytes()
    return Hooked()


@pytest.fixture
def hook() -> Iterator[list[Callable[[], object]]]:
    """What `Hooked` is to call."""
    yield hooks
    hooks.clear()


def test_result_that_calls_the_pool(hook: list[Callable[[], object]], pool: Any) -> None:
    """It may wait for others, even for one that came together with it."""
    beside = [pool.apply_async(tasks.double, (number,)) for number in range(3)]
    result = pool.apply_async(return_hooked)
    after = [pool.apply_async(tasks.double, (number,)) for number in range(3)]
    hook[:] = [lambda: pool.apply(tasks.double, (4,)), lambda: [other.get(WATCHDOG) for other in beside + after]]
    assert result.get(WATCHDOG) == [8, [0, 2, 4, 0, 2, 4]]
    assert_works(pool)


def test_result_that_terminates_the_pool(hook: list[Callable[[], object]], pool: Any) -> None:
    """From inside the delivery of a result."""
    hook[:] = [pool.terminate]
    pending = pool.apply_async(tasks.nap, (60,))
    result = pool.apply_async(return_hooked)
    for terminated in (pending, result):
        with pytest.raises(errors.PoolTerminated):
            terminated.get(WATCHDOG)


def once(function: Callable[[], None]) -> Callable[[], None]:
    """*function*, but only the first time."""
    left = [function]

    def call() -> None:
        if left:
            left.pop()()

    return call


def leave(_signum: int, _frame: object) -> None:
    """A signal handler as many programs have one."""
    sys.exit(3)


def test_handler_leaves_while_a_result_is_rebuilt(hook: list[Callable[[], object]], pool: Any, tmp_path: Path) -> None:
    """What it raises is not the result's error: it goes to the program, and the result to whoever asks again."""
    before = signal.signal(signal.SIGUSR1, leave)
    os.mkfifo(tmp_path / "gate")
    try:
        hook[:] = [once(lambda: signal.raise_signal(signal.SIGUSR1))]
        result = pool.apply_async(return_hooked, (str(tmp_path / "gate"),))
        (tmp_path / "gate").write_text("x")
        with pytest.raises(SystemExit):
            result.get(WATCHDOG)
        assert result.get(WATCHDOG) == [None]
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert_works(pool)


class Pickled:
    """Calls what `hooks` holds as it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        for hook in hooks:
            hook()
        return (int, ())


def test_handler_leaves_while_an_argument_is_pickled(hook: list[Callable[[], object]], pool: Any) -> None:
    """Nor is it that of an argument."""
    before = signal.signal(signal.SIGUSR1, leave)
    try:
        hook[:] = [once(lambda: signal.raise_signal(signal.SIGUSR1))]
        with pytest.raises(SystemExit):
            pool.map(tasks.double, [1, Pickled(), 3])
        assert pool.map(tasks.double, [1, Pickled(), 3]) == [2, 0, 6]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_interrupt_while_a_result_is_rebuilt(hook: list[Callable[[], object]], pool: Any) -> None:
    """Ctrl-C goes to the user; the result is there for whoever asks again, and so is the pool."""
    presses = iter([1])

    def press_once() -> str:
        for _ in presses:
            signal.raise_signal(signal.SIGINT)
        return "rebuilt"

    hook[:] = [press_once]
    results = pool.map_async(return_hooked, [""] * 3)
    with pytest.raises(KeyboardInterrupt):
        results.get(WATCHDOG)
    assert results.get(WATCHDOG) == [["rebuilt"]] * 3
    assert_works(pool)


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, KeyboardInterrupt])
def test_result_that_raises_as_it_is_rebuilt(
    error: type[BaseException], hook: list[Callable[[], object]], pool: Any
) -> None:
    """In a thread there is no Ctrl-C: whatever it is, it is the result's error."""

    def fail() -> None:
        raise error

    hook[:] = [fail]
    ends: list[BaseException] = []

    def wait() -> None:
        try:
            pool.apply_async(return_hooked).get(WATCHDOG)
        except BaseException as raised:
            ends.append(raised)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(2 * WATCHDOG)
    assert [type(end) for end in ends] == [errors.UnpicklableError]
    assert error.__name__ in str(ends[0])
    hook.clear()
    assert_works(pool)


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    """Whose attributes cannot be set, ``__cause__`` included."""


def raise_frozen() -> None:
    """A task."""
    raise FrozenError


def test_frozen_exception(pool: Any) -> None:
    """It arrives with its traceback, and hurts nobody."""
    other = pool.apply_async(tasks.double, (4,))
    with pytest.raises(FrozenError) as caught:
        pool.apply(raise_frozen)
    assert "in raise_frozen" in str(caught.value.__cause__)
    assert other.get(WATCHDOG) == 8
    assert_works(pool)


# Callbacks.


def test_callback_that_waits_for_a_result_with_a_callback(pool: Any) -> None:
    """In the callback thread a result can be had as soon as it is known: its own callback comes later."""
    order: list[Any] = []
    second = pool.apply_async(tasks.nap, (0.1,), callback=lambda value: order.append(("second", value)))
    first = pool.apply_async(tasks.double, (1,), callback=lambda _: order.append(("first", second.get(WATCHDOG))))
    second.wait(WATCHDOG)
    first.wait(WATCHDOG)
    assert (first.ready(), second.ready()) == (True, True)
    assert order == [("first", 0.1), ("second", 0.1)]


def test_callback_without_end() -> None:
    """terminate() does not wait for it; it ends in its own time."""
    gate, entered = threading.Event(), threading.Event()

    def stay(_value: object) -> None:
        entered.set()
        gate.wait(WATCHDOG)

    pool = forkful.Pool(1)
    result = pool.apply_async(tasks.double, (1,), callback=stay)
    assert entered.wait(WATCHDOG)
    pool.terminate()
    assert not gate.is_set()
    assert result.get(0) == 2
    gate.set()


@pytest.mark.parametrize("end", ["terminate", "close"])
def test_pool_that_is_ended_by_a_callback(end: str, start_method: str) -> None:
    """And then dropped: nothing of it stays (the leak check around every test looks)."""
    pools = [forkful.Pool(2, context=start_method)]
    ended = threading.Event()

    def callback(_value: object) -> None:
        getattr(pools[0], end)()
        pools[0].join()
        pools.clear()
        ended.set()

    pools[0].apply_async(tasks.double, (1,), callback=callback)
    assert ended.wait(WATCHDOG)


def test_threads_wait_while_the_pool_is_joined(start_method: str) -> None:
    """Results that wait for their callbacks; the thread at the wheel keeps its descriptors until it leaves."""
    for _ in range(20):
        pool = forkful.Pool(2, context=start_method)
        ends: list[Any] = []
        results = [
            pool.apply_async(task, callback=ends.append, error_callback=ends.append)
            for task in (tasks.own_pid, tasks.kill_own_process)
        ]
        waiting = [threading.Thread(target=result.wait, args=(WATCHDOG,)) for result in results]
        for thread in waiting:
            thread.start()
        pool.close()
        pool.join()
        assert [result.ready() for result in results] == [True, True]
        assert len(ends) == 2
        for thread in waiting:
            thread.join(WATCHDOG)


def test_interrupts_while_the_pool_gives_up(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the books, and again and again in what has to be done then: it is done all the same."""
    abandon, left = Crew.abandon, [1] * 5

    def interrupted(crew: Crew) -> None:
        if left:
            left.pop()
            raise KeyboardInterrupt
        abandon(crew)

    def press(*_args: object) -> None:
        raise KeyboardInterrupt

    pending = pool.apply_async(tasks.nap, (60,))
    monkeypatch.setattr(Crew, "abandon", interrupted)
    monkeypatch.setattr(State, "handle", press)
    with pytest.raises(KeyboardInterrupt):
        pool.apply(tasks.double, (1,))
    assert not left
    with pytest.raises(errors.PoolTerminated, match="interrupted in its bookkeeping"):
        pending.get(WATCHDOG)
    monkeypatch.undo()


def test_callback_without_a_thread_to_run_in(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no thread left, it runs in the one that delivers; it is not forgotten."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    called: list[int] = []
    monkeypatch.setattr(threading.Thread, "start", refuse)
    result = pool.apply_async(tasks.double, (4,), callback=called.append)
    assert result.get(WATCHDOG) == 8
    assert called == [8]
    monkeypatch.undo()
    assert_works(pool)


@pytest.mark.parametrize("name", ["forkful-pool", "forkful-callbacks"])
def test_interrupt_as_a_thread_of_ours_starts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between the start of a thread and the news of it: the pool ends, and so does the thread."""
    start, started = threading.Thread.start, threading.Thread.join

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == name:
            monkeypatch.undo()
            raise KeyboardInterrupt

    def unknown(thread: threading.Thread, timeout: float | None = None) -> None:
        started(thread, timeout)
        if thread.name == name:
            raise RuntimeError("cannot join thread before it is started")

    pool = forkful.Pool(1, context="forkserver")
    pool.apply(tasks.double, (1,))
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        result = pool.apply_async(tasks.nap, (0.01,), callback=str)
        result.get(WATCHDOG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "join", unknown)
        pool.terminate()


def test_end_waits_for_what_another_thread_delivers(hook: list[Callable[[], object]], pool: Any) -> None:
    """A pool is over when every thread that rebuilds results is done, not when the last that came is."""
    master, another = pool._master, -1  # no thread has this number
    workers = [worker.pid for worker in pool._pool]
    hook[:] = [once(lambda: master._deliveries.threads.append(another))]  # it comes when we have begun
    assert pool.apply(return_hooked) == [None]
    assert master._deliveries.threads == [another]
    pool.close()
    joiner = threading.Thread(target=pool.join)
    joiner.start()
    assert wait_for_ends(workers) == []
    assert pool.stats()["tasks"] == 5
    assert not master.gone.settled
    master._deliveries.threads.remove(another)
    master._end_if_over()
    joiner.join(WATCHDOG)
    assert not joiner.is_alive()


def test_callback_of_a_pool_whose_callbacks_are_over() -> None:
    """However late its result came, it is called."""

    class Late:
        ready = False

        def run_callback(self, callback: Callable[[Any], object]) -> None:
            callback("late")
            self.ready = True

    callbacks, late, called = Callbacks(), Late(), list[Any]()
    callbacks.call(called.append, Late())
    callbacks.close()
    callbacks.call(called.append, late)
    assert called == ["late", "late"]
    assert late.ready


class EndsAtOnce(set[Any]):
    """What a pool's results are noted in, with a signal handler at the worst moment: that ends the pool."""

    def add(self, result: Any) -> None:
        """Note it, and end it."""
        super().add(result)
        result.abort(errors.PoolTerminated("over"))


@pytest.mark.parametrize("kind", [AsyncResult, functools.partial(MapResult, length=3)])
def test_the_end_comes_as_a_result_is_made(kind: Any) -> None:
    """From the moment on that it is known to the pool, it can end."""
    with forkful.Pool(1) as pool:
        pool._master.pending = EndsAtOnce()
        result = kind(pool)
        with pytest.raises(errors.PoolTerminated, match="over"):
            result.get(WATCHDOG)
