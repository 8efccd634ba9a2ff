"""Keeping a set of child processes: start, watch, signal, reap.  Serves the pool's master; knows nothing of tasks.

A `Post` is one worker process and the master's ends of what it shares with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import weakref
from contextlib import ExitStack
from multiprocessing import get_start_method, process
from typing import TYPE_CHECKING

from . import (
    bootstrap,
    children,
    codec,
    family,
    forks,
    inheritance,
    inner_threads,
    logbook,
    molded,
    oom,
    output,
    processes,
    signals,
    spawn,
)
from .channel import MasterEnd, Permits, frame, open_channel
from .ends import Ends
from .equipment import Equipment
from .journal import Journal, create_memory, open_journals
from .messages import BY_THREAD, SETUP, Setup

if TYPE_CHECKING:
    from .accounts import Account

_NAMES = {"fork": "ForkPoolWorker", "spawn": "SpawnPoolWorker", "forkserver": "ForkServerPoolWorker"}


class Post:
    """One worker process and the master's ends of its channel, journal, permits and lifeline."""

    channel: MasterEnd
    journals: list[Journal]  # of each of its threads
    wire: socket.socket
    ends: Ends

    def __init__(self, number: int, threads: int = 1, *, capture: bool = False) -> None:
        self.number = number
        self.permits: list[Permits] = []  # likewise
        self.outputs: list[int] = []  # files of what its tasks write, if that is captured
        self.output_ends: list[int] = []  # the worker's descriptors of these
        self.received = [0] * threads  # records taken over from each, through the channel or the journal
        self._threads = threads
        self._capture = capture
        self.account: Account | None = None  # opened when there is something large
        self.child: children.Child | None = None
        self.is_open = True
        self.condemned = False  # we have put an end to it
        self.family: list[family.Relative] = []  # processes that its tasks have started, which are to end with it
        self._starting = True  # the worker's ends are open here
        self._ours = ExitStack()  # each closes what has been opened so far, and may do so again
        self._theirs = ExitStack()
        forks.hold(self)

    def open(self) -> None:
        """Open everything; what fails leaves nothing open but what `close` closes."""
        ours, theirs = self._ours.callback, self._theirs.callback
        self.channel, down, up = open_channel()
        ours(self.channel.close)
        theirs(os.close, down)
        theirs(os.close, up)
        memory = create_memory(self._threads)
        theirs(os.close, memory)
        self.journals = open_journals(memory, self._threads)
        for journal in self.journals:
            ours(journal.close)
        ours(self._close_permits)
        for _ in range(self._threads):
            self.permits.append(Permits.create())
        lifeline, other_end = os.pipe()
        ours(os.close, other_end)
        theirs(os.close, lifeline)
        self.wire, other_wire = socket.socketpair()
        ours(self.wire.close)
        theirs(os.close, wire := other_wire.detach())
        self.ends = Ends(down, up, memory, self.permits[0].worker_fd, lifeline, wire)
        for _ in range(2 if self._capture else 0):
            self.outputs.append(output.create_file())
            ours(os.close, self.outputs[-1])
            self.output_ends.append(os.dup(self.outputs[-1]))
            theirs(os.close, self.output_ends[-1])

    def open_account(self) -> Account:
        """The account of what is lent between us and the worker."""
        if self.account is None:
            from .accounts import Account  # programs that handle nothing large never need it

            self.account = Account(self.wire)
        return self.account

    def close_theirs(self) -> None:
        """Close the worker's ends, once it has them."""
        self._starting = False
        self._theirs.close()

    def close(self) -> None:
        """Close everything."""
        self.close_theirs()
        if self.account is not None:  # in a forked child it disowns itself
            self.account.close()
        self.disown()

    def disown(self) -> None:
        """Close the master's ends; all that is done in a forked child, which may be this very worker."""
        self.is_open = False
        self._ours.close()
        if self.child is not None:
            self.child.close()

    def _close_permits(self) -> None:
        if not self._starting:  # else this is the worker, to which the same descriptor is of use
            while self.permits:
                self.permits.pop().close()


class Supervisor:
    """Starts worker processes of one kind, all with the same *equipment*."""

    def __init__(self, equipment: Equipment) -> None:
        self.equipment = equipment
        self.start_method = equipment.start_method
        self._hooks = equipment.hooks()
        self._numbers = 0
        self._bound: list[weakref.WeakSet[Post]] = [
            weakref.WeakSet() for _ in equipment.processors
        ]  # as equipment says
        self.newest: Post | None = None
        self._main = codec.main_reference()
        self.initialized: frozenset[str] | None = None  # as `Functions` wants it
        if equipment.initializer is not None and not self._main:
            from . import prompt  # costs 10 ms; most programs never need it

            self.initialized = prompt.reached(equipment.initializer[0])

    def start(self) -> Post:
        """Start one worker.

        Raises:
            OSError: the system gives no process, descriptor or memory.
        """
        inheritance.check_not_importing_main()
        if not self._numbers:
            oom.begin()
        if self.start_method == "forkserver":
            molded.acquire_mold(self)  # not before: a pool that cannot be made has nothing to give back
        extra: list[int] = []
        hooks: bytes | None = None
        tracker: int | None = None
        if self.start_method == "fork":
            forks.flush_standard_streams()
        else:
            if self._hooks is not None:
                hooks, extra = inheritance.pack_inheritance(self._hooks)
            fd = inheritance.tracker_fd()
            if fd is not None:
                tracker = len(extra)
                extra = [*extra, fd]
        self._numbers += 1
        shares = [sum(post.is_open for post in posts) for posts in self._bound]
        place = shares.index(min(shares)) if shares else None
        setup = frame(SETUP, 0, codec.encode(self._setup(hooks, tracker, len(extra), place)))
        with forks.above_standard_streams():
            # All that may call user code, or wait, has been done.
            post = forks.without_forks(lambda: self._start(setup, extra))
        if place is not None:
            self._bound[place].add(post)
        return post

    def imports_main(self) -> bool:
        """Whether every worker runs this process's ``__main__``, or has it: then functions of it go by name."""
        if self.start_method == "fork":
            return True
        initializer = self.equipment.initializer
        return initializer is not None and codec.mentions_main(inheritance.pack_inheritance(initializer)[0])

    def _start(self, setup: list[bytes | memoryview], extra: list[int]) -> Post:
        self.newest = post = Post(self._numbers, self.equipment.threads, capture=self._captures_files())
        try:
            post.open()
            post.channel.send(setup)
            post.child = child = spawn.START_METHODS[self.start_method]()  # known here before there is a process
            if self.start_method == "fork" and self._hooks is not None:
                # Inherited, not pickled: they cross in a list, and the frame is without them.
                bootstrap.inherited_hooks[:] = [self._hooks]
            try:
                more = (*(permits.worker_fd for permits in post.permits[1:]), *post.output_ends)
                child.start(post.ends, [*extra, *more])
            finally:
                bootstrap.inherited_hooks.clear()
        except BaseException:
            if post.child is not None:
                post.child.put_down()
                post.child.await_end()
            post.close()
            raise
        post.close_theirs()
        return post

    def _captures_files(self) -> bool:
        """Tasks of several threads have the descriptors in common: there it is done by thread."""
        return self.equipment.capture and self.equipment.threads == 1

    def _setup(self, hooks: bytes | None, tracker: int | None, extras: int, place: int | None) -> Setup:
        forked = self.start_method == "fork"
        capture: int | None = None
        if self.equipment.capture:
            capture = extras if self._captures_files() else BY_THREAD
        util = sys.modules.get("multiprocessing.util")
        logger = getattr(util, "_logger", None)  # there is no public way to ask without creating it
        directory: str | None = None
        with contextlib.suppress(OSError):
            directory = os.getcwd()
        this = process.current_process()
        # By multiprocessing's own count: two workers of this program never have the same name, whichever pool they are of.
        identity = (*this._identity, next(process._process_counter))  # type: ignore[attr-defined]
        inner = self.equipment.inner_threads
        return Setup(
            name=f"{_NAMES[self.start_method]}-{':'.join(map(str, identity))}",
            threads=self.equipment.threads,
            permits=list(range(extras, extras + self.equipment.threads - 1)),
            identity=identity,
            parent_pid=os.getpid(),
            authkey=bytes(this.authkey),
            start_method=get_start_method(allow_none=True),
            log_level=None if logger is None else logger.getEffectiveLevel(),
            log_to_stderr=bool(getattr(util, "_log_to_stderr", False)),
            logs=logbook.settings(),
            capture=capture,
            sys_path=None if forked else list(sys.path),
            sys_argv=sys.argv,
            directory=directory,
            environment=inner_threads.environment(inner, os.environ) if inner else {},
            processors=() if place is None else self.equipment.processors[place],
            tracker=tracker,
            main={} if forked else self._main,
            by_value=not self._main,
            measures=self.equipment.memory is not None,
            hooks=hooks,
        )

    def kill(self, post: Post, *, gently: bool) -> None:
        """Send the worker SIGTERM or SIGKILL."""
        if post.child is not None and post.is_open:
            post.condemned = True
            if gently:
                post.child.kill(signal.SIGTERM)
            else:
                post.family = post.family or family.find_family(post.child.pid)
                post.child.put_down()

    def trace(self, post: Post) -> None:
        """Have the worker write down where it is, and end; one that is stopped cannot, and is killed."""
        if post.child is not None and post.is_open:
            post.condemned = True
            post.family = family.find_family(post.child.pid)
            if signals.TRACE_SIGNAL is None or processes.is_stopped(post.child.pid):
                post.child.put_down()
            else:
                post.child.kill(signals.TRACE_SIGNAL)

    def close(self) -> None:
        """No more workers will be started."""
        if self.start_method == "forkserver":
            molded.release_mold(self)
