"""What a program may find around it, or have done to itself, before it makes a pool; and what tasks do to their process."""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import mmap
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import forkful
from forkful import errors
from forkful._core.equipment import Equipment
from forkful._core.supervisor import Supervisor
from forkful.errors import LOST_SIGNAL

from . import tasks
from .support import WATCHDOG, Program, assert_works, executions, find_mold, wait_for_ends

CLOSED = """
import os, sys
closed, method = [int(fd) for fd in {closed!r}], {method!r}
report = os.dup(1)
while report <= 2:
    report = os.dup(1)
for fd in closed:
    os.close(fd)

import forkful
from forkful import errors

def scribble(number):
    if number == 20:
        for fd in closed:
            try:
                os.write(fd, bytes([255]) * 4096)
            except OSError:
                pass
        os._exit(1)
    return number

if __name__ == "__main__":
    with forkful.Pool(2, context=method) as pool:
        outcomes = list(pool.outcomes(scribble, range(60), timeout=20))
        ok = [outcome.value for outcome in outcomes if outcome.ok]
        failed = [(outcome.index, type(outcome.error).__name__) for outcome in outcomes if not outcome.ok]
        os.write(report, f"{{len(ok)}} {{failed}}\\n".encode())
"""


@pytest.mark.parametrize("closed", ["0", "1", "2", "12", "012"])
def test_closed_standard_streams(closed: str, start_method: str, tmp_path: Path) -> None:
    """No descriptor of ours takes the number of one that the program has closed: a task may write to it."""
    with Program(cwd=tmp_path, code=CLOSED.format(closed=closed, method=start_method)) as program:
        assert program.line() == "59 [(20, 'WorkerDied')]"
        assert program.finish()[0] == 0


SHADOWS = """
import os, sys
import multiprocessing.pool, traceback  # which this process would otherwise import when something fails
from forkful import Pool
from pathlib import Path

shadows = Path("shadows")
shadows.mkdir()
for name in {names!r}:
    (shadows / (name + ".py")).write_text("raise ImportError('not the module you look for')")
sys.path.insert(0, str(shadows.resolve()))
os.chdir(shadows)
with Pool(2, context={method!r}) as pool:
    print(pool.map(abs, range(-3, 0)), flush=True)
    try:
        pool.apply(int, ("x",))
    except ValueError as error:
        print(error)
"""

STANDARD = [
    "array", "contextlib", "copy", "dis", "enum", "functools", "hashlib", "importlib", "inspect", "logging", "pickle", "queue",
    "random", "select", "selectors", "signal", "socket", "struct", "subprocess", "tempfile", "threading", "token", "tokenize",
    "traceback", "types", "weakref",
]  # fmt: skip  # names by the line


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_modules_named_like_those_of_the_standard_library(method: str, tmp_path: Path) -> None:
    """A user's token.py is his own: workers find ours and Python's where they are."""
    with Program(cwd=tmp_path, code=SHADOWS.format(names=STANDARD, method=method)) as program:
        assert program.line() == "[3, 2, 1]"
        returncode, out = program.finish()
        assert (returncode, out, program.stderr()) == (0, "invalid literal for int() with base 10: 'x'\n", "")


BROKEN_MOLD = """
import os, sys
if "mold" in sys.argv or any("bootstrap" in word for word in sys.orig_argv):
    {how}
"""


def break_mold(how: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every interpreter that we start runs *how* first."""
    (folder / "sitecustomize.py").write_text(BROKEN_MOLD.format(how=how), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_mold_that_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The error comes at once, names its exit code, and few processes were started."""
    log = tmp_path / "log"
    break_mold(
        f"os.write(os.open({str(log)!r}, os.O_APPEND | os.O_CREAT | os.O_WRONLY), b'x'); os._exit(7)",
        tmp_path,
        monkeypatch,
    )
    with forkful.Pool(2, context="forkserver") as pool:
        with pytest.raises(errors.InitializerError, match="the process that forks them left with exit code 7"):
            pool.apply(abs, (-1,))
    assert len(log.read_bytes()) <= 6


def refuse_forks_while(gate: Path) -> str:
    """For `break_mold`: it has no process to give as long as *gate* exists."""
    return f"""fork = os.fork
    def refuse():
        if os.path.exists({str(gate)!r}):
            raise BlockingIOError({errno.EAGAIN}, "none")
        return fork()
    os.fork = refuse"""


def test_mold_that_cannot_fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process to be had is an error of the system's, and the mold works on for the time when there is."""
    gate = tmp_path / "closed"
    gate.touch()
    break_mold(refuse_forks_while(gate), tmp_path, monkeypatch)
    with forkful.Pool(1, context="forkserver") as pool:
        with pytest.raises(errors.InitializerError, match="no worker could be started: BlockingIOError"):
            pool.apply(tasks.double, (1,))
        mold = find_mold()
        os.unlink(gate)
        assert pool.apply(tasks.double, (1,)) == 2
        assert find_mold() == mold


LOST = "had its descriptors closed or broken under it" if LOST_SIGNAL != signal.SIGKILL else "killed by SIGKILL"


@pytest.mark.parametrize("call", ["apply", "map", "outcomes"])
def test_task_closes_descriptors(call: str, start_method: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Its error says so; nothing is printed, and the worker is replaced."""
    task = tasks.close_descriptors_and_wait
    with forkful.Pool(2, context=start_method) as pool:
        if call == "outcomes":
            (outcome,) = pool.outcomes(task, [1])
            error = outcome.error
        else:
            with pytest.raises(errors.WorkerDied) as caught:
                pool.apply(task) if call == "apply" else pool.map(task, [1])
            error = caught.value
        assert isinstance(error, errors.WorkerDied)
        assert LOST in str(error)
        assert_works(pool)
    assert capfd.readouterr().err == ""


def test_task_closes_descriptors_and_blocks_signals() -> None:
    """Then nothing tells who has killed it; but it is."""
    with forkful.Pool(1, context="fork") as pool:
        with pytest.raises(errors.WorkerDied, match="SIGKILL"):
            pool.apply(tasks.block_signals_and_close_descriptors)
        assert_works(pool)


@pytest.mark.parametrize("call", ["apply_async", "map", "outcomes"])
def test_tasks_close_descriptors_and_end(
    call: str, start_method: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """They end with what they return, or with that error; the others with their values; nothing is printed."""
    log = tmp_path / "log"
    function = functools.partial(tasks.close_descriptors_if, str(log))
    with forkful.Pool(2, context=start_method) as pool:
        if call == "apply_async":
            results = [pool.apply_async(function, (number,)) for number in range(300)]
            for number, result in enumerate(results):
                try:
                    assert result.get(WATCHDOG) == number
                except errors.WorkerDied as error:
                    assert LOST in str(error)  # it need not come
        elif call == "outcomes":
            for outcome in pool.outcomes(function, range(300), chunksize=100):
                assert outcome.value == outcome.index if outcome.ok else LOST in str(outcome.error)
        else:
            try:
                assert pool.map(function, range(300)) == list(range(300))
            except errors.WorkerDied as error:
                assert LOST in str(error)
        if call != "map":
            assert executions(log) == dict.fromkeys(range(300), 1)
        assert_works(pool)
    assert capfd.readouterr().err == ""


def test_initializer_closes_descriptors(start_method: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The error comes after a handful of starts, and says so."""
    log = tmp_path / "log"
    with forkful.Pool(2, tasks.close_at_start, (str(log),), context=start_method) as pool:
        with pytest.raises(errors.InitializerError, match=f"{LOST} before it was ready"):
            pool.apply_async(tasks.double, (1,)).get(WATCHDOG)
        assert len(executions(log)) <= 10
    assert capfd.readouterr().err == ""


NON_BLOCKING = """
import forkful
from tests.process import tasks

size = 10_000_000
if __name__ == "__main__":
    with forkful.Pool(1, tasks.unblock_descriptors, context={method!r}) as pool:
        worker = pool.apply(tasks.own_pid)
        print(pool.apply(len, (b"x" * size,)) == len(pool.apply(tasks.blob, (size,))) == size)
        print({{len(part) for part in pool.map(tasks.blob, [60_000] * 50)}}, pool.imap(tasks.double, [1]).next())
        print(pool.apply(tasks.own_pid) == worker)
"""


def test_descriptors_made_non_blocking(start_method: str, tmp_path: Path) -> None:
    """The worker waits where it must, and works on, also where more is sent than its pipes hold."""
    with Program(cwd=tmp_path, code=NON_BLOCKING.format(method=start_method)) as program:
        returncode, output = program.finish()
        assert (returncode, program.stderr()) == (0, "")
        assert output == "True\n{60000} 2\nTrue\n"


def test_descriptors_made_blocking(start_method: str, tmp_path: Path) -> None:
    """Among them one that the pool shares with its worker: neither waits where it only wants to look."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with forkful.Pool(1, context=start_method) as pool:
        pool.apply(tasks.block_descriptors)
        pool.map(tasks.double, range(2000), timeout=60)  # short tasks are sent ahead
        running = pool.apply_async(tasks.gated, (str(tmp_path / "log"), 4, str(gate)))
        waiting = [pool.apply_async(tasks.double, (number,)) for number in range(20)]
        assert all(result.cancel() for result in waiting)
        gate.write_bytes(b"!")
        assert running.get(WATCHDOG) == 8
        assert_works(pool)


@pytest.fixture
def shortage(start_method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As long as this file exists, the system has no process for a worker."""
    gate = tmp_path / "closed"
    break_mold(refuse_forks_while(gate), tmp_path, monkeypatch)
    for name in ("fork", "posix_spawn") if start_method != "forkserver" else ():
        original = getattr(os, name)

        def refuse(*args: Any, _original: Callable[..., int] = original, **kwds: Any) -> int:
            if gate.exists():
                raise BlockingIOError(errno.EAGAIN, "none")
            return _original(*args, **kwds)

        monkeypatch.setattr(os, name, refuse)
    return gate


def test_no_process_for_another_worker(shortage: Path, start_method: str, tmp_path: Path) -> None:
    """The worker that there is does the work; another comes as soon as there is one to be had."""
    os.mkfifo(tmp_path / "gate")
    with forkful.Pool(3, context=start_method) as pool:
        first = pool.apply(tasks.own_pid)
        shortage.touch()
        assert pool.map(tasks.own_pid, range(20), chunksize=1) == [first] * 20
        busy = pool.apply_async(tasks.gated, (str(tmp_path / "log"), 1, str(tmp_path / "gate")))
        waiting = pool.apply_async(tasks.own_pid)
        with (tmp_path / "gate").open("wb", buffering=0) as gate:  # opened when the task has opened it
            assert not waiting.ready()
            shortage.unlink()
            assert waiting.get(WATCHDOG) != first
            gate.write(b"!")
        assert busy.get(WATCHDOG) == 2


def test_no_process_for_any_worker(shortage: Path, start_method: str) -> None:
    """Then it is the error of the work, at once, with a word on what to do; the next is tried anew."""
    with forkful.Pool(2, context=start_method) as pool:
        shortage.touch()
        for _ in range(2):
            with pytest.raises(
                errors.InitializerError, match=r"no worker could be started: BlockingIOError: .*`ulimit -u`"
            ):
                pool.apply_async(tasks.double, (1,)).get(WATCHDOG)
        shortage.unlink()
        assert_works(pool)


def test_no_descriptors_for_another_worker(start_method: str) -> None:
    """As with processes: with workers the pool goes on, without any the error says what to do."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with forkful.Pool(2, context=start_method) as pool, contextlib.ExitStack() as stack:
        worker = pool.apply(tasks.own_pid)
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, descriptors())) + 20, limits[1]))
        with contextlib.suppress(OSError):
            while True:
                stack.callback(os.close, os.dup(0))
        assert pool.map(tasks.own_pid, range(20), chunksize=1) == [worker] * 20
        with pytest.raises(errors.WorkerDied):
            pool.apply_async(tasks.kill_own_process).get(WATCHDOG)
        for _ in range(2):
            with pytest.raises(errors.InitializerError, match=r"no worker could be started: OSError: .*`ulimit -n`"):
                pool.apply_async(tasks.double, (1,)).get(WATCHDOG)
        stack.close()
        assert_works(pool)


def test_sigpipe_at_its_default(tmp_path: Path) -> None:
    """As in programs that write into pipes: a dead mold is replaced, and is nobody's death."""
    code = """
import os, signal
import forkful
from tests.process import tasks
from tests.process.support import find_mold

if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    with forkful.Pool(2, context="forkserver", maxtasksperchild=1) as pool:
        print(pool.apply(tasks.double, (1,)))
        os.kill(find_mold(), signal.SIGKILL)
        print(pool.map(tasks.double, [1, 2, 3], chunksize=1))
"""
    with Program(cwd=tmp_path, code=code) as program:
        assert program.finish() == (0, "2\n[2, 4, 6]\n"), program.stderr()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="without pidfds there are only numbers")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_number_of_a_worker_that_was_reaped(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that waits for any child may take a worker's end from us; its number may then be another process's."""
    with forkful.Pool(1, context=method) as pool:
        pool.apply(tasks.double, (1,))
        post = pool._master._crew.posts[0]
        worker = pool._pool[0].pid
        assert worker is not None
        with pool._master._lock:  # nobody of us looks at it meanwhile
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
            with monkeypatch.context() as patch:
                patch.setattr(os, "kill", lambda *_: pytest.fail("another process may have that number"))
                assert post.child is not None
                post.child.kill()
        assert pool.apply(tasks.double, (2,)) == 4


CALLS: list[tuple[Any, str]] = [
    *((os, name) for name in ("open", "pipe", "dup", "eventfd", "memfd_create", "ftruncate", "pidfd_open", "fork", "posix_spawn")),
    (mmap, "mmap"),
    (socket, "socketpair"),
]  # fmt: skip  # names by the line


@contextlib.contextmanager
def failing(nth: int, code: int = errno.EMFILE) -> Iterator[list[str]]:
    """The *nth* call that asks the system for anything fails; inside, what was called."""
    called: list[str] = []

    def wrap(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwds: Any) -> Any:
            called.append(name)
            if len(called) == nth:
                raise OSError(code, os.strerror(code))
            return function(*args, **kwds)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for module, name in CALLS:
            if hasattr(module, name):
                patch.setattr(module, name, wrap(name, getattr(module, name)))
        yield called


def descriptors() -> set[str]:
    """The descriptors that this process has open."""
    return set(os.listdir("/proc/self/fd" if os.path.exists("/proc/self/fd") else "/dev/fd"))


def test_start_that_fails_at_any_call(start_method: str) -> None:
    """For want of a descriptor, a process or memory: it leaves no descriptor and no process."""
    for nth in itertools.count(1):
        supervisor = Supervisor(Equipment(start_method))
        before = descriptors()
        called: list[str] = []
        try:
            with failing(nth) as called:
                post = supervisor.start()
        except OSError:
            supervisor.close()
            assert descriptors() == before, called
            continue
        supervisor.kill(post, gently=False)
        assert post.child is not None
        post.child.await_end()
        post.close()
        supervisor.close()
        assert descriptors() == before
        assert nth > 8, called
        break


def test_pool_that_cannot_be_made() -> None:
    """For want of a descriptor; the next one can be, and its mold goes with it."""
    for nth in itertools.count(1):
        before = descriptors()
        try:
            with failing(nth):
                pool = forkful.Pool(1, context="forkserver")
        except OSError:
            assert descriptors() == before
            continue
        pool.terminate()
        break
    with forkful.Pool(1, context="forkserver") as pool:
        assert pool.apply(tasks.double, (1,)) == 2
        mold = find_mold()
    assert wait_for_ends([mold]) == []
