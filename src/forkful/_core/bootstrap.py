"""From a fresh child process to a worker: what every start method does in the child.

The child is dressed as a ``multiprocessing`` child (``current_process()``, its authkey, its finalizers), so that locks,
queues and managers of the standard library work in tasks as they do under ``multiprocessing.Pool``.
"""

from __future__ import annotations

import atexit
import contextvars
import functools
import importlib
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterable
from multiprocessing import process, spawn
from typing import TYPE_CHECKING, Any, NoReturn

from . import codec, contexts, faults, handing, inner_threads, logs, signals
from .channel import Permits, WorkerEnd
from .ends import ENDS, Ends
from .injection import with_state
from .journal import open_journals
from .messages import BY_THREAD, SETUP, Setup
from .worker import Known, Worker

if TYPE_CHECKING:
    from .equipment import Hooks  # nothing that a worker needs
    from .lanes import Lanes

# What is imported when it is needed elsewhere: in a new interpreter at once, as long as ``sys.path`` is Python's own and no
# file of the user's can stand for it.  What a mold has, all its workers have.
_LATE = ("traceback", "multiprocessing.util", ".lanes")

inherited_fds: list[int] = []  # in the child: descriptors that objects in initargs asked for, by number

inherited_hooks: list[Hooks] = []  # in a forked child: as they are, not pickled

importing_main: list[tuple[int, threading.Event]] = []  # while this worker runs the script: which thread does; its end


class InheritedFd:
    """A descriptor pickled inside initargs: which of the inherited ones it is.  Has ``multiprocessing``'s interface."""

    def __init__(self, position: int) -> None:
        self._position = position

    def detach(self) -> int:
        """The descriptor, now the caller's."""
        return inherited_fds[self._position]


class WorkerProcess(process.BaseProcess):
    """What ``multiprocessing.current_process()`` returns inside a worker."""

    _start_method: str | None = None

    def __init__(self, run: Callable[[WorkerProcess], None]) -> None:
        super().__init__(name="ForkfulWorker")
        self._run = run

    def run(self) -> None:
        self._run(self)


def run_child(ends: Ends, extra_fds: list[int], mask: Iterable[int]) -> int:
    """Be a worker until told to leave; returns the exit code.  Runs in the child, in its main thread.

    Args:
        mask: the signals to block from now on, but for those that a worker must get.
    """
    inherited_fds[:] = extra_fds
    return live(ends.lifeline, mask, functools.partial(_run_worker, ends))


def live(lifeline: int, mask: Iterable[int], run: Callable[[WorkerProcess], None]) -> int:
    """Be a child that is dressed as one of ``multiprocessing``'s, for as long as *run* takes; returns the exit code.

    Args:
        lifeline: a pipe; the process is killed when its other end is closed.
        mask: the signals to block from now on, but for those that a worker must get.
        run: what to do; what it raises is printed, and makes the exit code 1.
    """
    fill_standard_streams()
    signals.die_with(lifeline)
    signals.settle_worker(mask)
    empty_stdin()
    code: int = WorkerProcess(run)._bootstrap(parent_sentinel=lifeline)  # type: ignore[attr-defined]  # CPython's own entry for children, since 3.8
    return code


def fill_standard_streams() -> None:
    """Open those of descriptors 0 to 2 that are closed: else the next one of ours is where a task prints.  In the child."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def empty_stdin() -> None:
    """Have standard input end at once: a task that reads it must not take the user's keys.  Runs in the child."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null:
        os.close(null)


def leave(code: int) -> NoReturn:
    """End a forked child without unwinding into the frames it inherited."""
    atexit._run_exitfuncs()
    os._exit(code)


def forget_parent() -> None:
    """Drop what a fork copied that belongs to the parent.  Runs in the child, first."""
    handing.close_given()
    atexit._clear()
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:  # else it sees to that itself, if it is imported
        atexit.register(util._exit_function)


def _run_worker(ends: Ends, this: WorkerProcess) -> None:
    channel = WorkerEnd(ends.down, ends.up)
    received = channel.receive()
    if received is None:
        return
    kind, _, _, body = received
    assert kind == SETUP, kind
    setup: Setup = codec.loads(body)
    state: dict[str, Any] = {}
    worker = _make_worker(ends, channel, setup, state)
    os.register_at_fork(after_in_child=worker.disown)
    os.register_at_fork(after_in_child=logs.disown)
    logs.install(worker.note_log, setup.logs, inherited=setup.sys_path is None)
    _become(setup, this)
    finalizers: list[Callable[[], object]] = []
    stopped = False
    try:
        inherited = contextvars.copy_context()
        if worker.prepare(_preparation(setup, state, finalizers)):
            stopped = contexts.without_inherited(inherited).run(_serve, worker, setup)
    except ConnectionError:
        pass  # the master is gone; nobody is left to tell
    except OSError:
        from ..errors import LOST_CODE  # late, as in `codec`

        sys.exit(LOST_CODE)  # a task, whose own errors do not come here, has closed what we need
    if stopped and finalizers:
        worker.conclude(finalizers[0])


def _make_worker(ends: Ends, channel: WorkerEnd, setup: Setup, state: dict[str, Any]) -> Worker | Lanes:
    journals = open_journals(ends.journal, setup.threads)
    codec.wire = ends.wire
    codec.tell = channel.send_note
    handing.register()
    faults.watch(ends.journal)
    gauge: Gauge | None = None
    if setup.measures:
        from .gauge import Gauge  # late: few pools bound the memory of their workers

        gauge = Gauge()
    known = Known(state)
    permits = [Permits.adopt(fd) for fd in (ends.permits, *(inherited_fds[at] for at in setup.permits))]
    if setup.threads == 1:
        return Worker(channel, journals[0], permits[0], known, gauge=gauge)
    from .lanes import Lanes  # few pools have threads

    return Lanes(channel, journals, permits, known, gauge)


def _serve(worker: Worker | Lanes, setup: Setup) -> bool:
    if setup.capture is None:
        return worker.serve()
    from . import output  # for those only that ask for it

    kept: output.Output | output.ThreadedOutput
    if setup.capture == BY_THREAD:
        kept = output.ThreadedOutput()
    else:
        first, second = inherited_fds[setup.capture : setup.capture + 2]
        kept = output.Output((first, second))
    kept.start()
    try:
        worker.keep(kept)
        return worker.serve()
    finally:
        kept.stop()


def _become(setup: Setup, this: WorkerProcess) -> None:
    """Take over the parent's environment."""
    this._name = setup.name  # type: ignore[attr-defined]  # BaseProcess keeps it there
    this._identity = setup.identity
    this._parent_pid = setup.parent_pid  # type: ignore[attr-defined]
    codec.by_value = setup.by_value
    if setup.environment:
        inner_threads.limit(setup.environment)
    if setup.processors:
        os.sched_setaffinity(0, setup.processors)
    if setup.sys_path is None:
        return
    data: dict[str, Any] = {
        "authkey": setup.authkey,
        "sys_path": setup.sys_path,
        "sys_argv": setup.sys_argv,
        "log_to_stderr": setup.log_to_stderr,
    }
    if setup.log_level is not None:
        data["log_level"] = setup.log_level
    if setup.start_method is not None:
        data["start_method"] = setup.start_method
    spawn.prepare(data)
    if setup.tracker is not None:
        from multiprocessing import resource_tracker  # only where the parent has one

        resource_tracker._resource_tracker._fd = inherited_fds[setup.tracker]  # type: ignore[attr-defined]  # as multiprocessing's own children do
    if setup.directory is not None:
        try:
            os.chdir(setup.directory)
        except OSError:
            pass  # the parent's directory has been removed: then it can be nobody's
    if setup.main:
        _import_main_when_asked(setup.main)


def _preparation(
    setup: Setup, state: dict[str, Any], finalizers: list[Callable[[], object]]
) -> Callable[[], None] | None:
    """What is to be done before the first task: run the initializer, and have the finalizer at hand in *finalizers*."""
    packed = setup.hooks
    inherited = inherited_hooks.pop() if inherited_hooks else None
    if packed is None and inherited is None:
        return None

    def prepare() -> None:
        if inherited is not None:
            initializer, args, finalizer = inherited
        else:
            with logs.without_new_handlers():
                initializer, args, finalizer = codec.loads(packed or b"")
        if initializer is not None:
            with_state(initializer, state)(*args)
        if finalizer is not None:
            finalizers.append(with_state(finalizer, state))

    return prepare


def _import_main_when_asked(reference: dict[str, str]) -> None:
    """Have the parent's ``__main__`` imported at the first look into it, not before.

    Most tasks live in modules and never look.  The script is run as ``__mp_main__``, as ``multiprocessing`` does, so
    its ``if __name__ == "__main__":`` part is not.  It is run once: the other threads of a worker wait for the first.
    """
    stand_in = types.ModuleType("__main__")
    vars(stand_in)[contexts.STAND_IN] = True
    failure: list[BaseException] = []
    gate = [threading.RLock()]  # in a list, since a task's fork needs another: the thread that holds it is not copied

    def find(name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)  # the import system and inspect look for these everywhere
        if sys.modules["__main__"] is stand_in:
            with gate[0]:
                import_once()
        return getattr(sys.modules["__main__"], name)

    def import_once() -> None:
        if failure:
            raise failure[0]
        if sys.modules["__main__"] is not stand_in:  # another thread was here
            return
        this = process.current_process()
        ended = threading.Event()
        importing_main[:] = [(threading.get_ident(), ended)]
        this._inheriting = True  # type: ignore[attr-defined]  # what multiprocessing sets while it imports a main
        try:
            with logs.without_new_handlers():
                spawn.prepare(dict(reference))
        except BaseException as error:
            failure.append(error)
            raise
        finally:
            vars(this).pop("_inheriting", None)
            importing_main.clear()
            ended.set()

    def renew() -> None:
        gate[0] = threading.RLock()
        if importing_main and importing_main[0][0] != threading.get_ident():  # it goes on in the parent only
            vars(process.current_process()).pop("_inheriting", None)
            importing_main.clear()

    os.register_at_fork(after_in_child=renew)
    stand_in.__getattr__ = find  # type: ignore[method-assign]  # a module's own __getattr__, PEP 562
    sys.modules["__main__"] = sys.modules["__mp_main__"] = stand_in


def main() -> None:
    """The program of a spawned child: ``sys.argv`` holds the module to run, then descriptors."""
    for late in _LATE:
        importlib.import_module(late, __package__)
    name, *fds = sys.argv[1:]
    del sys.argv[1:]
    numbers = [int(fd) for fd in fds]
    for fd in numbers:
        os.set_inheritable(fd, False)
    if name == "worker":
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())  # that of the thread which started us
        sys.exit(run_child(Ends(*numbers[:ENDS]), numbers[ENDS:], mask))
    importlib.import_module(f".{name}", __package__).main(*numbers)
