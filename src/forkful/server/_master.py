"""The master: forks workers, looks after them, and does what the fleet decides.  It has one thread, and runs no code of the user."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from forkful._core.signals import TRACE_SIGNAL, ignore
from forkful.errors import ServerError

from ._board import DIED, GIVEN_UP, RELOADS, Board, Doing, find_overdue
from ._crew import Worker, describe_end
from ._depths import queue_of
from ._events import (
    Began,
    Close,
    Drain,
    Ended,
    Event,
    Finish,
    Full,
    Instruction,
    Kill,
    Left,
    Load,
    Mute,
    Overdue,
    Ready,
    Refused,
    Reload,
    Reloaded,
    Reloading,
    Resize,
    Say,
    Spent,
    Start,
    Stop,
    Stopping,
    Tick,
    Trace,
    Upgrade,
)
from ._facts import Facts
from ._fleet import Fleet, Phase
from ._listeners import Listener
from ._queue import queue_depth, shrink
from ._report import News
from ._settings import Settings
from ._succession import Successor
from ._trades import Trade
from ._wire import Message, Word
from ._worker import Job

if TYPE_CHECKING:
    from ._lookout import Lookout

__all__ = ["SIGNALS", "Master"]

SIGNALS: dict[int, Event | Upgrade] = {
    signal.SIGTERM: Stop(),
    signal.SIGINT: Stop(),
    signal.SIGQUIT: Stop(at_once=True),
    signal.SIGHUP: Reload(),
    signal.SIGUSR2: Upgrade(),
    signal.SIGTTIN: Resize(1),
    signal.SIGTTOU: Resize(-1),
}
"""What each signal to the master means."""


class Master:
    """The loop."""

    def __init__(
        self,
        settings: Settings,
        trade: Trade,
        listeners: Sequence[Listener],
        report: Callable[[News], None],
        signals: Mapping[int, Event | Upgrade] = SIGNALS,
        watchdog: tuple[float, Callable[[], object]] | None = None,
        status: Listener | None = None,
    ) -> None:
        self._settings = settings
        self._trade = trade
        self._listeners = listeners
        self._report = report
        self._meanings = signals
        self._watchdog = watchdog  # how often, in seconds, and whom to tell that we are there
        self._beat_at = 0.0
        self._successor: Successor | None = None
        self._give_up_at = 0.0
        self.has_handed_over = False  # the listeners are another program's by now
        capacity = max(64, 4 * settings.most)
        self.board = Board(capacity, settings.threads)
        if len(listeners) > 1:  # seats wait for all of them with poll(2), and race for what comes
            for listener in listeners:
                os.set_blocking(listener.fileno(), False)
        self._fleet = Fleet(settings, capacity)
        self._workers: dict[int, Worker] = {}
        self._poll = select.poll()
        self._by_fd: dict[int, Callable[[], None]] = {}
        self._due = 0.0  # when a request can be over its time
        self._closed: Close | None = None
        addresses = [str(listener.address) for listener in listeners]
        self.facts = Facts(self.board, [queue_of(listener) for listener in listeners], addresses)
        self._lookout: Lookout | None = None
        if status is not None:
            from ._lookout import Lookout  # for those who want it: it has an HTTP server

            self._lookout = Lookout(
                status, self.facts, listeners, watch=self._watch, forget=self._forget, say=self._report
            )

    def run(self) -> None:
        """Serve until told to stop.  In the main thread of a process that has no other.

        Raises:
            ServerError: no worker could load the handler.
        """
        self.board.open()
        for listener in self._all_listeners():
            listener.take_over()
        with ExitStack() as stack:
            stack.enter_context(self._signals())
            self._handle(Tick())
            if self._lookout is not None:
                stack.callback(self._lookout.end)
                self._lookout.start()
            while self._closed is None:
                for fd, _ in self._poll.poll(self._patience()):
                    if (act := self._by_fd.get(fd)) is not None:
                        act()
                self._look()
        if self._closed.failure is not None:
            raise ServerError(self._closed.failure)

    def close(self) -> None:
        """Nobody listens here any more."""
        for listener in self._all_listeners():
            listener.close(keep_file=self.has_handed_over)

    def _all_listeners(self) -> list[Listener]:
        """With that of the status address."""
        return [*self._listeners, *([] if self._lookout is None else [self._lookout.listener])]

    def _patience(self) -> float | None:
        """Milliseconds until something is due; None: nothing is."""
        times = [time_ for time_ in (self._fleet.wake_at, self._fleet.look_at) if time_ is not None]
        if self._settings.timeout is not None:
            times.append(self._due)
        if self._watchdog is not None:
            times.append(self._beat_at)
        if self._successor is not None:
            times.append(self._give_up_at)
        if self._lookout is not None and self._lookout.wake_at is not None:
            times.append(self._lookout.wake_at)
        if not times:
            return None
        return max(0.0, min(times) - time.monotonic()) * 1000 + 1  # poll rounds down, and would wake too early

    def _look(self) -> None:
        """See to what is due."""
        now = time.monotonic()
        if self._watchdog is not None and self._beat_at <= now:
            interval, tell = self._watchdog
            self._beat_at = now + interval
            tell()
        if self._successor is not None and self._give_up_at <= now:
            self._on_successor(late=True)
        if self._fleet.wake_at is not None and self._fleet.wake_at <= now:
            self._handle(Tick())
        if self._fleet.look_at is not None and self._fleet.look_at <= now:
            serving = [member.number for member in self._fleet.of(Phase.SERVING)]
            idle = {
                number: sum(seat.doing is Doing.IDLE for seat in self.board.rows[self._workers[number].row].look())
                for number in serving
            }
            self._handle(Load(idle, self._queued()))
        if self._settings.timeout is not None and self._due <= now:
            self._find_overdue(self._settings.timeout, now)
        if self._lookout is not None and self._lookout.wake_at is not None and self._lookout.wake_at <= now:
            self._lookout.start()

    def _find_overdue(self, timeout: float, now: float) -> None:
        self._due = now + timeout
        for worker in list(self._workers.values()):
            seats = self.board.rows[worker.row].look(texts=True)
            late, following = find_overdue(seats, timeout, now)
            self._due = min(self._due, following)
            if late:
                self._handle(Overdue(worker.number, len(late), seats[late[0]].text))

    def _queued(self) -> int:
        """Connections that nobody has accepted yet."""
        return sum(queue_depth(listener) or 0 for listener in self._listeners)

    # Facts.

    def _signals(self) -> ExitStack:
        """Have signals wake the loop; undone at the end."""
        stack = ExitStack()
        reading, writing = socket.socketpair()
        writing.setblocking(False)
        reading.setblocking(False)
        stack.callback(writing.close)
        stack.callback(reading.close)
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False))
        for signum in self._meanings:
            stack.callback(signal.signal, signum, signal.signal(signum, ignore))
        self._watch(reading.fileno(), partial(self._on_signals, reading))
        stack.callback(self._forget, reading.fileno())
        return stack

    def _on_signals(self, reading: socket.socket) -> None:
        for signum in reading.recv(4096):
            event = self._meanings.get(signum)
            if isinstance(event, Stop):
                event = Stop(at_once=event.at_once or self._fleet.is_stopping)
                if self._successor is not None:  # it is not ready: whoever wants an end wants no successor
                    self._on_successor(late=True)
            if isinstance(event, Upgrade):
                self._upgrade()
            elif event is not None:
                self._handle(event)

    def _upgrade(self) -> None:
        if self._successor is not None or self._fleet.is_stopping:
            return
        try:
            self._successor = Successor(self._listeners, None if self._lookout is None else self._lookout.listener)
        except OSError as error:
            self._report(
                Say(f"a successor cannot be started ({error.strerror}); this program serves on", is_trouble=True)
            )
            return
        self._report(Say(f"starting a successor, process {self._successor.pid}"))
        self._give_up_at = time.monotonic() + self._settings.ready_timeout
        self._watch(self._successor.fileno(), self._on_successor)

    def _on_successor(self, *, late: bool = False) -> None:
        """It is ready; or it has ended, or takes too long."""
        successor, self._successor = self._successor, None
        assert successor is not None, "it is watched as long as it is there"
        self._forget(successor.fileno())
        if not late and successor.outcome():
            self.has_handed_over = True
            if self._lookout is not None:
                self._lookout.end()  # else it would be asked half the time for what the other one does
            self._report(Say(f"process {successor.pid} has taken over"))
            self._handle(Stop(hands_over=True))
        else:
            successor.give_up()
            self._report(Say("the successor did not become ready; this program serves on", is_trouble=True))

    def _on_message(self, worker: Worker) -> None:
        try:
            messages = worker.wire.receive()
        except EOFError:
            self._forget(worker.wire.fileno())  # its end tells the rest
            return
        for message in messages:
            event = _read(worker.number, message)
            if event is not None:
                self._handle(event)

    def _on_end(self, worker: Worker) -> None:
        if not worker.child.collect():
            return
        for message in worker.last_words():
            event = _read(worker.number, message)
            if event is not None:
                self._handle(event)
        self._forget(worker.child.fileno())
        self._forget(worker.wire.fileno())
        worker.close()
        del self._workers[worker.number]
        self.board.retire(worker.row)
        self._note_end(worker.number, describe_end(worker.child.exitcode))

    def _note_end(self, number: int, how: str | None) -> None:
        if how is not None:
            self.board.count(DIED)
        self._handle(Ended(number, how))

    # Instructions.

    def _handle(self, event: Event) -> None:
        todo: list[Instruction] = self._fleet.handle(event, time.monotonic())
        self.board.note_plan(self._fleet.wanted, self._fleet.generation)
        for instruction in todo:
            self._do(instruction)

    def _do(self, instruction: Instruction) -> None:
        match instruction:
            case Start(number, generation):
                self._start(number, generation)
            case Drain(number):
                self._workers[number].wire.send(Word.DRAIN)
            case Finish():
                self._finish()
            case Trace(number):
                if TRACE_SIGNAL is not None:
                    self._workers[number].child.kill(TRACE_SIGNAL)
            case Kill(number):
                self._workers[number].child.kill()
            case Mute(muted):
                self.board.wants_alerts = not muted
            case Say() | Began() | Reloading() | Stopping():
                self._report(instruction)
            case Reloaded(failure):
                self.board.count(RELOADS if failure is None else GIVEN_UP)
                if self._lookout is not None and failure is None:
                    self._lookout.replace()
                self._report(instruction)
            case Close():
                self._closed = instruction

    def _start(self, number: int, generation: int) -> None:
        row = self.board.take_row(generation)
        assert row is not None, "the fleet has no more members than the board has rows"
        try:
            worker = Worker(number, row)
            job = Job(
                self._trade,
                [listener.socket for listener in self._listeners],
                self._settings,
                self.board,
                row,
                worker.theirs,
                worker.lifeline,
                not_ours=[] if self._lookout is None else [self._lookout.listener.socket],
            )
            worker.start(job)
        except OSError as error:
            self.board.retire(row)
            self._note_end(number, f"could not be started ({error.strerror})")
            return
        self._workers[number] = worker
        self._watch(worker.wire.fileno(), partial(self._on_message, worker))
        self._watch(worker.child.fileno(), partial(self._on_end, worker))

    def _finish(self) -> None:
        """What is queued is still served, what comes from now on is not queued; what is borrowed its owner goes on with."""
        word = Word.DRAIN if any(listener.is_borrowed for listener in self._listeners) else Word.FINISH
        if word is Word.FINISH:
            for listener in self._listeners:
                os.set_blocking(listener.fileno(), False)  # for all that share it
                shrink(listener)
        for worker in self._workers.values():
            worker.wire.send(word)

    def _watch(self, fd: int, act: Callable[[], None]) -> None:
        self._poll.register(fd, select.POLLIN)
        self._by_fd[fd] = act

    def _forget(self, fd: int) -> None:
        if self._by_fd.pop(fd, None) is not None:
            self._poll.unregister(fd)


def _read(number: int, message: Message) -> Event | None:
    """What a worker's message is to the fleet."""
    match message.word:
        case Word.READY:
            return Ready(number)
        case Word.REFUSED:
            return Refused(number, message.text)
        case Word.FULL:
            return Full(number)
        case Word.SPENT:
            return Spent(number, message.text)
        case Word.LEFT:
            return Left(number, int(message.text))
        case _:
            return None
