"""The crew: the worker processes of one pool, and the only place where their descriptors are read and written.

`Crew.execute` turns instructions into bytes and signals, `Crew.read` turns what descriptors have to tell into events.
Everything here but `Crew.wait` and `Crew.wake` runs under the master's lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import threading
from typing import TYPE_CHECKING, Any

from ..errors import LOST_SIGNAL, Evidence, InitializerError
from . import codec, oom, output
from .books import Task
from .channel import frame
from .family import end_family
from .forks import above_standard_streams
from .functions import Functions
from .handing import Handed, find, receive
from .journal import MEMORY, THREAD, Record, split
from .messages import (
    BATCH,
    CALL,
    DETACH,
    DROPPED,
    FORGET,
    FUNCTION,
    LARGE,
    NOTE,
    NOTE_HEAD,
    OUTPUT,
    PARCELS,
    READY,
    RECALL,
    REFUSED,
    RESULTS,
    RESULTS_HEAD,
    RETURNED,
    SHARE,
    STOP,
    UNSHARE,
    WANT,
    Entry,
    pack_calls,
)
from .signals import TRACE_SIGNAL
from .steps import (
    Dropped,
    Event,
    Exited,
    Finished,
    Kill,
    Look,
    Noted,
    Ready,
    Recall,
    Refused,
    Seen,
    Send,
    Start,
    Stop,
    Taken,
    Trace,
    Unstarted,
)
from .supervisor import Post, Supervisor

if TYPE_CHECKING:
    from .accounts import Account, Received
    from .lending import Lender, Share

_EXITS_KEPT = 256
_DESCRIBED = 5  # what `Parcel.describe` gives; of a bundle there is more
_POLL_MOST_MS = 2**31 - 1  # 24 days: who waits longer waits again

_UP, _DOWN, _LIFE = range(3)  # what a watched descriptor is: the channel to receive from or to send to, or the process
_FLAGS = {_UP: select.POLLIN, _DOWN: select.POLLOUT, _LIFE: select.POLLIN}

Order = Start | Send | Look | Recall | Stop | Kill | Trace


class _Unread:
    """What stands for a result that could not be opened."""

    def __init__(self, error: OSError) -> None:
        self._error = error

    def __len__(self) -> int:
        return 0

    def load(self) -> Any:
        """Rebuild the object."""
        raise self._error


class Crew:
    """The workers of one pool, by number.  Seats are numbered too: *threads* for each worker, which is all the rule."""

    def __init__(self, supervisor: Supervisor, functions: Functions, threads: int = 1) -> None:
        self._supervisor = supervisor
        self._threads = threads
        self._functions = functions
        self.posts: dict[int, Post] = {}
        self.lender: Lender | None = None  # of what is large, or shared, among the tasks; as soon as anything is
        self._exitcodes: dict[int, int | None] = {}  # of the newest workers that have ended
        self._poll = select.poll()
        self._watched: dict[int, tuple[int, int]] = {}  # descriptor -> (worker, what it is to that worker)
        self.unseen = False  # what is to be watched has changed since `wait` was entered
        self._wake_lock = threading.RLock()  # re-entrant, as all locks that a signal handler may find its own thread in
        with above_standard_streams():
            self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_r, False)
        os.set_blocking(self._wake_w, False)
        self._poll.register(self._wake_r, select.POLLIN)

    # Waiting.

    def wait(self, left: int | None) -> list[tuple[int, int]]:
        """The descriptors that have something to tell, waiting at most *left* nanoseconds.  Without the lock."""
        milliseconds = None if left is None else min(-(-left // 1_000_000), _POLL_MOST_MS)
        try:
            return self._poll.poll(milliseconds)
        except RuntimeError:  # a signal handler waits inside this very call of its own thread: with another object
            inner = select.poll()
            inner.register(self._wake_r, select.POLLIN)
            for fd, (_, what) in list(self._watched.items()):
                inner.register(fd, _FLAGS[what])
            return inner.poll(milliseconds)

    def wake(self) -> None:
        """Bring the thread in `wait` out of it.  Without the lock."""
        with self._wake_lock:  # else the descriptor could be closed, and be another's, between the look and the write
            if self._wake_w >= 0:
                with contextlib.suppress(BlockingIOError):  # full: it is awake already
                    os.write(self._wake_w, b"!")

    def close(self) -> None:
        """Close what is left once every worker has ended."""
        if self.lender is not None:
            self.lender.close()
        with self._wake_lock:
            self.disown()

    def disown(self) -> None:
        """In a forked child: the workers' descriptors are closed by their posts, the rest here.

        Without the lock, which another thread of the parent may have held at the fork.
        """
        if self._wake_w >= 0:
            os.close(self._wake_r)
            os.close(self._wake_w)
            self._wake_r = self._wake_w = -1

    # Asking.

    def pids(self) -> list[tuple[int, int | None]]:
        """The worker processes there are: (worker, pid); without a pid those that are being started."""
        return [(worker, post.child.pid) for worker, post in self.posts.items() if post.child is not None]

    def pid_of(self, worker: int) -> int | None:
        """The pid of *worker*; None once it has ended, or as long as it is being started."""
        post = self.posts.get(worker)
        return None if post is None or post.child is None else post.child.pid

    def exit_of(self, worker: int) -> tuple[bool, int | None]:
        """Whether *worker* has ended, and its exit code if that is (still) known."""
        post = self.posts.get(worker)
        if post is None or post.child is None:
            return True, self._exitcodes.get(worker)
        return post.child.collect(), post.child.exitcode

    def started_at(self, seat: int) -> int:
        """How many elements the thread at *seat* has started, ever."""
        worker, lane = divmod(seat, self._threads)
        post = self.posts.get(worker)
        return 0 if post is None else post.journals[lane].read_progress()[0]

    # Instructions.

    def execute(self, order: Order, events: list[Event]) -> None:
        """Carry out one instruction; what comes of it is added to *events*."""
        if isinstance(order, Start):
            self._start(order.worker, events)
            return
        if isinstance(order, Send) or isinstance(order, Look) or isinstance(order, Recall):  # noqa: SIM101  # faster than a union
            worker, lane = divmod(order.seat, self._threads)
        else:
            worker, lane = order.worker, 0
        post = self.posts.get(worker)
        if post is None:
            return  # its end is among the events to come
        if isinstance(order, Send):
            self._send(post, lane, order)
        elif isinstance(order, Look):
            self._look(worker, lane, post, events)
        elif isinstance(order, Recall):
            taken = post.permits[lane].take_back(order.most)
            if taken:
                post.channel.send(frame(RECALL, lane=lane))
            events.append(Taken(order.seat, taken))
        elif isinstance(order, Stop):
            post.channel.send(frame(STOP))
        else:
            self._kill(order, post, events)
            return
        if post.channel.unsent:
            self._watch_writing(worker, post)

    def _kill(self, order: Kill | Trace, post: Post, events: list[Event]) -> None:
        if isinstance(order, Trace):
            self._supervisor.trace(post)
        else:
            self._supervisor.kill(post, gently=order.gently)
        assert post.child is not None
        if post.child.ended:  # it was given up before it was born: nothing else will tell
            self._bury(order.worker, events)
        else:
            self._watch_life(order.worker, post)

    def _watch_life(self, worker: int, post: Post) -> None:
        """Watch the process, by another descriptor than before where that has changed."""
        assert post.child is not None
        fd = post.child.fileno()
        if fd >= 0 and self._watched.get(fd) != (worker, _LIFE):
            for old in [old for old, known in self._watched.items() if known == (worker, _LIFE)]:
                self._unwatch(old)
            self._watch(fd, worker, _LIFE)

    def kill_all(self) -> None:
        """SIGKILL to every worker."""
        for post in list(self.posts.values()):
            self._supervisor.kill(post, gently=False)

    def abandon(self) -> None:
        """End and forget every worker, without asking what it had done."""
        self.kill_all()
        for fd in list(self._watched):
            self._unwatch(fd)
        newest = self._supervisor.newest  # the interruption may have come before it was noted here
        for post in {*self.posts.values(), *([newest] if newest is not None else [])}:
            self._supervisor.kill(post, gently=False)
            if post.child is not None:
                post.child.await_end()
            end_family(post.family)
            post.close()
        self.posts.clear()

    def forget(self, worker: int, key: int) -> None:
        """Tell a worker that function *key* will not be asked for again."""
        post = self.posts[worker]
        post.channel.send(frame(FORGET, key))
        self._watch_writing(worker, post)

    def _start(self, worker: int, events: list[Event]) -> None:
        try:
            post = self._supervisor.start()
        except (OSError, MemoryError) as error:  # no process to be had now
            events.append(Unstarted(worker, _no_worker(error)))
            return
        except Exception as error:  # nor ever: the reason goes to whoever waits
            events.append(Refused(worker, _no_worker(error)))
            events.append(Exited(worker, None, [0] * self._threads, None))
            return
        self.posts[worker] = post
        self._watch(post.channel.fileno(), worker, _UP)
        assert post.child is not None
        self._watch_life(worker, post)
        self._watch_writing(worker, post)

    def _send(self, post: Post, lane: int, send: Send) -> None:
        plain = self.lender is None and post.account is None
        calls = _calls_of_one(send.tasks) if plain else []
        if calls:
            buffers = frame(BATCH, send.tasks[0].terms.function, pack_calls(calls), lane=lane)
        else:
            entries: list[Entry] = [
                (terms.function, task.payload)
                if terms.style == CALL
                else (terms.function, task.payload, terms.style, task.first, task.count, terms.guarded)
                for task in send.tasks
                for terms in (task.terms,)
            ]
            if plain:
                buffers = frame(BATCH, 0, codec.dumps(entries, codec.PROTOCOL), lane=lane)
            else:
                buffers = self._address(post, lane, entries)
        for key in send.functions:
            buffers = frame(FUNCTION, key, self._functions.blob(key)) + buffers
        post.permits[lane].add(send.units)  # before the batch: a worker that has a task finds its permit
        post.channel.send(buffers)

    def _address(self, post: Post, lane: int, entries: list[Any]) -> list[bytes | memoryview]:
        """The frame of a batch, after those that it needs, where parcels may be in it."""
        account, lender = post.open_account(), self.lender
        before = account.pay()
        if lender is None:
            return before + frame(BATCH, 0, codec.dumps(entries, codec.PROTOCOL), lane=lane)
        self.tell_unshared()
        lender.add(account)
        lender.reader, lender.named = account, []
        try:
            body = codec.dumps(entries, codec.PROTOCOL)
            for share in lender.named.copy():
                self._share(account, share, before)
        finally:
            lender.reader, lender.named = None, []
        return before + frame(BATCH, 0, body, lane=lane)

    def _share(self, account: Account, share: Share, frames: list[bytes | memoryview]) -> None:
        """Add the frames of a shared object that the worker does not have, after those of what it names itself."""
        if share.key not in account.shared:
            account.shared[share.key] = None
            for other in share.parcel.shares:
                self._share(account, other, frames)
            frames += frame(SHARE, share.key, codec.dumps(share.parcel, codec.PROTOCOL))

    def tell_unshared(self) -> None:
        """Tell the workers which shared objects nobody names any more."""
        lender = self.lender
        for key in lender.take_unshared() if lender is not None and lender.unshared else ():
            for worker, post in self.posts.items():
                if post.account is not None and key in post.account.shared:
                    del post.account.shared[key]
                    post.channel.send(frame(UNSHARE, key))
                    self._watch_writing(worker, post)

    # Reading.

    def _look(self, worker: int, lane: int, post: Post, events: list[Event]) -> None:
        """Read a journal of a worker while it lives."""
        journal = post.journals[lane]
        while True:
            started, since = journal.read_progress()
            self._read_frames(worker, post, events, drain=False)
            serial, records = journal.read_records()
            if serial <= post.received[lane] or post.channel.ended:
                self._read_frames(worker, post, events, drain=False)  # notes of elements that have ended in between
                break
            # It has sent records since we read the channel; they are there now, and come before these.
        self._report(worker, lane, post, serial, records, 0, 0, 0, events, large=True)
        events.append(Seen(worker * self._threads + lane, started, since))

    def _report(
        self,
        worker: int,
        lane: int,
        post: Post,
        serial: int,
        records: list[Record],
        elements: int,
        ns: int,
        cpu: int,
        events: list[Event],
        *,
        large: bool,
    ) -> None:
        """Pass on those *records*, the first of which has number *serial*, that were not taken over before.

        Where some may be *large*, those go on as what is to be rebuilt from shared memory.
        """
        known = post.received[lane] - serial
        if known > 0:
            records = records[known:]
        if records:
            post.received[lane] += len(records)
            if large:
                records = [
                    (count, kind, self._receive(post, blob)) if kind & LARGE else (count, kind, blob)
                    for count, kind, blob in records
                ]
            memory = post.journals[lane].words[MEMORY]
            events.append(Finished(worker * self._threads + lane, records, elements, ns, cpu, memory))

    @staticmethod
    def _receive(post: Post, blob: bytes | memoryview) -> Received | Handed | _Unread:
        try:
            account, described = post.open_account(), codec.loads(blob)
            return account.receive(*described) if len(described) == _DESCRIBED else receive(account, *described)
        except OSError as error:  # what that needs cannot be imported, for want of a descriptor
            return _Unread(error)

    def _watch(self, fd: int, worker: int, what: int) -> None:
        self._watched[fd] = (worker, what)
        self._poll.register(fd, _FLAGS[what])
        self.unseen = True

    def _watch_writing(self, worker: int, post: Post) -> None:
        """Watch the channel to send to as long as there is something unsent."""
        fd = post.channel.sending_fileno()
        if not post.channel.unsent:
            self._unwatch(fd)
        elif fd not in self._watched:
            self._watch(fd, worker, _DOWN)

    def _unwatch(self, fd: int) -> None:
        if self._watched.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def read(self, ready: list[tuple[int, int]]) -> list[Event]:
        """What the descriptors that are *ready* have to tell."""
        events: list[Event] = []
        ended: list[int] = []
        for fd, _ in ready:
            if fd == self._wake_r:
                with contextlib.suppress(BlockingIOError):
                    os.read(fd, 4096)
                continue
            known = self._watched.get(fd)
            if known is None:
                continue
            worker, what = known
            post = self.posts[worker]
            assert post.child is not None
            if what == _DOWN:
                post.channel.flush()
                self._watch_writing(worker, post)
            elif what == _UP:
                self._read_frames(worker, post, events, drain=False)
                if post.channel.ended:
                    self._unwatch(fd)
                    # It has closed its channel: it is leaving, and no signal changes how; or it is no worker any more.
                    post.child.kill(LOST_SIGNAL)
                    post.child.kill()  # where a task has blocked the other one
                    if post.child.fileno() < 0:
                        ended.append(worker)
            elif post.child.collect():
                ended.append(worker)
            else:
                self._watch_life(worker, post)  # the mold may have died: its child is watched directly from now on
        for worker in ended:
            self._bury(worker, events)
        return events

    def _read_frames(self, worker: int, post: Post, events: list[Event], *, drain: bool) -> None:
        for kind, lane, number, body in post.channel.receive(drain=drain):
            if kind in (RESULTS, PARCELS):
                serial, ns, cpu, elements = RESULTS_HEAD.unpack_from(body)
                index_end = RESULTS_HEAD.size + number * 8
                index = body[RESULTS_HEAD.size : index_end].cast("Q")
                records = split(index, body[index_end:])
                large = kind == PARCELS
                self._report(worker, lane, post, serial, records, elements, ns, cpu, events, large=large)
            elif kind == READY:
                assert post.child is not None
                events.append(Ready(worker, post.child.pid))
            elif kind == REFUSED:
                events.append(Refused(worker, self._initializer_error(post, body)))
            elif kind == NOTE:
                assert post.child is not None
                (started,) = NOTE_HEAD.unpack_from(body)
                seat = worker * self._threads + lane
                events.append(Noted(seat, started, number, body[NOTE_HEAD.size :], post.child.pid))
            elif kind == DROPPED:
                events.append(Dropped(worker * self._threads + lane))
            elif kind == RETURNED:
                post.open_account().settle(body)
                if self.lender is not None:
                    self.lender.reclaim()
            elif kind == DETACH and post.account is not None:
                post.account.drop_segment(number)
            elif kind == WANT and not drain:
                self._hand_over(post, number)

    def _hand_over(self, post: Post, number: int) -> None:
        """A task has started: its descriptors leave for its worker, which waits for them."""
        try:
            bundle = find(number)
            post.open_account().send_descriptors(number, [] if bundle is None else bundle.fds)
        except OSError:  # not even an answer could be sent, and without one that thread waits for ever
            self._supervisor.kill(post, gently=False)
        else:
            if bundle is not None:
                bundle.handed_over()

    @staticmethod
    def _initializer_error(post: Post, body: memoryview) -> InitializerError:
        pid = post.child.pid if post.child is not None else None
        cause = codec.decode_error(body, "the initializer", pid)
        text = codec.describe_error(cause)
        if isinstance(cause, AttributeError) and "on <module '__main__'" in text:  # pickle's words
            message = (
                f"the initializer or finalizer is not to be found in worker {pid}: {text}; define it at the top level of the "
                'script, outside of `if __name__ == "__main__":`, or in a module'
            )
        else:
            message = f"the initializer failed in worker {pid}: {text}; no task can run until it succeeds"
        error = InitializerError(message, pid=pid)
        error.__cause__ = cause
        return error

    @staticmethod
    def _gather_evidence(post: Post) -> tuple[Evidence, int | None]:
        """What is left of a worker that has ended, what the system says of its end, and which of its threads crashed."""
        child: Any = post.child
        # Whoever has left in good order has written nothing; and what we have killed ourselves, nobody else has.
        dump = post.journals[0].read_dump() if child.exitcode != 0 else ""
        killed = child.exitcode == -signal.SIGKILL and not post.condemned
        held = max(journal.words[MEMORY] for journal in post.journals)
        evidence = Evidence(child.memory or held or None, oom.claim() if killed else None, dump)
        threads = [journal.words[THREAD] for journal in post.journals]
        crashed = evidence.crashed_thread()
        return evidence, threads.index(crashed) if crashed in threads and not post.condemned else None

    def _bury(self, worker: int, events: list[Event]) -> None:
        """A worker's process has ended: take over what it left, then tell."""
        post = self.posts[worker]
        child: Any = post.child
        child.await_end()
        end_family(post.family)
        if post.condemned and child.exitcode == -(TRACE_SIGNAL or 0):
            child.exitcode = -signal.SIGKILL  # which of our two signals was quicker tells nobody anything
        self._read_frames(worker, post, events, drain=True)
        started = []
        for lane, journal in enumerate(post.journals):
            serial, records = journal.read_records()
            self._report(worker, lane, post, serial, records, 0, 0, 0, events, large=True)
            started.append(journal.read_progress()[0])
        if post.outputs:  # then it has one thread
            out, err = map(output.read, post.outputs)
            if out or err:
                seat = worker * self._threads
                events.append(Noted(seat, started[0], OUTPUT, output.pack(out, err), child.pid))
        if child.refusal is not None:
            events.append(Unstarted(worker, _no_worker(child.refusal)))
        else:
            evidence, crashed = self._gather_evidence(post)
            events.append(Exited(worker, child.exitcode, started, child.pid, evidence, crashed))
        # By worker and not by number: a child that has lost its mold has changed its descriptor.
        for fd in [fd for fd, (owner, _) in self._watched.items() if owner == worker]:
            self._unwatch(fd)
        del self.posts[worker]
        self._exitcodes[worker] = child.exitcode
        if len(self._exitcodes) > _EXITS_KEPT:
            del self._exitcodes[next(iter(self._exitcodes))]
        post.close()


# What to do when the system has no more of something.
_ADVICE = {
    errno.EMFILE: "raise the limit on open files (`ulimit -n`) or use fewer processes",
    errno.ENFILE: "the whole machine has no open files left: close some, or use fewer processes",
    errno.EAGAIN: "raise the limit on processes (`ulimit -u`) or use fewer",
    errno.ENOMEM: "use fewer processes, or free memory",
}


def _calls_of_one(tasks: list[Task]) -> list[bytes]:
    """The payloads of *tasks* where all are small calls of one function; else nothing."""
    terms = tasks[0].terms
    if terms.style != CALL:
        return []
    payloads = []
    for task in tasks:
        other = task.terms
        same = other is terms or (other.style == CALL and other.function == terms.function)
        if not same or type(task.payload) is not bytes:
            return []
        payloads.append(task.payload)
    return payloads


def _no_worker(error: Exception) -> InitializerError:
    message = f"no worker could be started: {type(error).__name__}: {error}"
    number = errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", None)
    if number in _ADVICE:
        message += f"; {_ADVICE[number]}"
    failed = InitializerError(message)
    failed.__cause__ = error
    return failed
