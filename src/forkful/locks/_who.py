"""Who holds, and who waits: threads and tasks of processes, by names that hold on the whole machine."""

from __future__ import annotations

import os
import socket
import sys
import threading
from typing import NamedTuple

from .._core import processes

_TASK = 1 << 62  # added to what names a task of asyncio; a thread is named by its number in the kernel
LIMITED = 1 << 61  # added to what names a waiter that will leave by itself: under this name nobody holds anything

_SHOWN = 100  # characters of a command line in a message

_here = threading.local()  # .number of each thread
own: tuple[int, int] | None = None  # pid and start of this process, once it is known


class Holder(NamedTuple):
    """Who holds a lock, as `Lock.holder` found it; the process was alive then."""

    pid: int  # 0: somebody who is not known
    host: str
    thread: int | None  # its number in the kernel; None for a task of asyncio, or where only the process is known
    since: float | None  # seconds since the epoch; None where only the process is known
    command: str  # the process's command line
    stopped: bool  # it was stopped by a signal: nothing will be given back until it goes on
    ended: bool = False  # its thread has ended without a release: another may give a `Lock` back, nobody an `RLock`

    def describe(self) -> str:
        """In words, for messages."""
        if not self.pid:
            return "somebody who is not known"
        state = ", which is stopped" if self.stopped else ", whose thread has ended" if self.ended else ""
        return f"pid {self.pid} ({shorten(self.command)}){state}"


def shorten(command: str) -> str:
    """A command line for a message."""
    return (command if len(command) <= _SHOWN else command[: _SHOWN - 1] + "…") or "its command line cannot be read"


def current() -> int:
    """The thread that calls, or the task of asyncio that it runs."""
    asyncio = sys.modules.get("asyncio")  # 40 ms to import: where nobody has, no task can be running
    if asyncio is not None and asyncio._get_running_loop() is not None:
        task = asyncio.current_task()
        if task is not None:
            return id(task) | _TASK
    try:
        number: int = _here.number
    except AttributeError:
        number = _here.number = threading.get_native_id()  # a system call, which would be felt each time
    return number


def loop_runs() -> bool:
    """Whether this thread runs an event loop, whose tasks all stand still while it waits without ``await``."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


def halted() -> set[int]:
    """Who stands still while this thread waits without ``await``: itself, and the tasks of the event loop that it runs."""
    tasks = {id(task) | _TASK for task in sys.modules["asyncio"].all_tasks()} if loop_runs() else set()
    return tasks | {threading.get_native_id()}


def is_task(owner: int) -> bool:
    """Whether it names a task of asyncio."""
    return bool(owner & _TASK)


def has_ended(pid: int, owner: int) -> bool:
    """Whether *owner* names a thread of the living process *pid* that has ended; False where the system does not tell."""
    threads = f"/proc/{pid}/task"
    return not is_task(owner) and os.path.isdir(threads) and not os.path.exists(f"{threads}/{owner}")


def thread_of(owner: int) -> int | None:
    """The thread's number, if *owner* names one."""
    return None if is_task(owner) else owner


def this_process() -> tuple[int, int]:
    """Its pid, and when it began."""
    global own
    if own is None:
        pid = os.getpid()
        own = pid, processes.start_of(pid) or 0
    return own


def forget_process() -> None:
    """In a forked child: it is another process."""
    global _here, own
    _here = threading.local()
    own = None


def is_alive(pid: int, start: int) -> bool:
    """Whether the process that had this *pid* and began then has not ended."""
    return processes.start_of(pid) == start


def is_able(pid: int) -> bool:
    """Whether process *pid* has neither ended nor been stopped."""
    return processes.state_of(pid) not in {"", "Z", "X", "T", "t"}


def command_of(pid: int) -> str:
    """The command line of process *pid*, in one line; empty if it cannot be read."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).rstrip(b"\0").split(b"\0")
    except OSError:
        return ""
    return " ".join(" ".join(word.decode("utf-8", "replace").split()) for word in words)


def describe_holder(pid: int, owner: int | None = None, since: int | None = None) -> Holder:
    """What is known of a process that holds a lock."""
    thread = None if owner is None else thread_of(owner)
    when = None if since is None else since / 1e9
    ended = owner is not None and has_ended(pid, owner)
    return Holder(pid, socket.gethostname(), thread, when, command_of(pid), processes.is_stopped(pid), ended)


def nobody_known() -> Holder:
    """Somebody of this machine holds it, and cannot be told."""
    return Holder(0, socket.gethostname(), None, None, "", stopped=False)
