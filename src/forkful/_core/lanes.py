"""A worker with several threads: each runs tasks on its own, and they share one channel.  Everything here runs in the child.

The main thread reads the channel and passes each frame on to the thread it is for; it runs no tasks.  What the threads
send goes out whole, one frame after the other.  To the master, each thread is a seat like a worker with one thread:
journal, permits and the order of its tasks are its own, so all that is said in ``worker.py`` holds for it.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from .channel import Frame, Permits, WorkerEnd
from .journal import IN_INITIALIZER, Journal
from .messages import BATCH, RECALL, STOP
from .worker import Known, Worker

if TYPE_CHECKING:
    from .gauge import Gauge
    from .output import Output, ThreadedOutput


class Lane:
    """What one thread has of the channel: a queue of the frames for it; and any thread may send."""

    def __init__(self, end: WorkerEnd) -> None:
        self._end = end
        self._frames: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()

    def put(self, received: Frame | None) -> None:
        """The next frame for this thread; None when the master is gone."""
        self._frames.put(received)

    def receive(self) -> Frame | None:
        """The next frame, waiting for it; None when the master is gone."""
        return self._frames.get()

    def receive_nowait(self) -> Frame | None:
        """The next frame if it has arrived."""
        try:
            return self._frames.get_nowait()
        except queue.Empty:
            return None

    def send(self, buffers: list[bytes | memoryview]) -> None:
        """Send one frame whole."""
        self._end.send(buffers)

    def send_note(self, buffers: list[bytes | memoryview]) -> None:
        """The same from the midst of a task."""
        self._end.send_note(buffers)

    def close(self) -> None:
        """Nothing is this thread's own."""


class Lanes:
    """The threads of one worker, each started with the first frame for it.

    Args:
        end: the channel they share.
        journals: one for each.
        permits: one for each.
        known: what the process has been sent; they share it.
        gauge: likewise, where they tell how much memory the process holds.
    """

    def __init__(
        self,
        end: WorkerEnd,
        journals: list[Journal],
        permits: list[Permits],
        known: Known,
        gauge: Gauge | None = None,
    ) -> None:
        end.brisk_ns = 0
        self._end = end
        self._known = known
        self._own = threading.local()  # .worker
        self._lanes = [Lane(end) for _ in journals]
        self._workers = [
            Worker(lane, journal, permit, known, lane=number, measures=True, gauge=gauge)
            for number, (lane, journal, permit) in enumerate(zip(self._lanes, journals, permits, strict=True))
        ]
        self._threads: dict[int, threading.Thread] = {}

    def disown(self) -> None:
        """This is a copy of the worker that a task made with ``os.fork``, of one thread: see `Worker.disown`."""
        self._end.close()
        for worker in self._workers:
            worker.disown()

    def keep(self, output: Output | ThreadedOutput) -> None:
        """As `Worker.keep`."""
        for worker in self._workers:
            worker.keep(output)

    def note_log(self, content: bytes) -> None:
        """As `Worker.note_log`.  What a thread logs that is none of these, of the initializer or of a task's own, is of no task."""
        worker: Worker | None = getattr(self._own, "worker", None)
        if worker is not None:
            worker.note_log(content)
        else:
            self._workers[0].note_log(content, started=IN_INITIALIZER)

    def prepare(self, initializer: Callable[[], None] | None) -> bool:
        """As `Worker.prepare`, for all of them."""
        return self._workers[0].prepare(initializer)

    def conclude(self, finalizer: Callable[[], object]) -> None:
        """As `Worker.conclude`, in the main thread, when all of them have ended."""
        self._workers[0].conclude(finalizer)

    def serve(self) -> bool:
        """Pass frames on until STOP, or the master's end; whether it was STOP."""
        while (received := self._end.receive()) is not None:
            kind, lane, number, body = received
            if kind == STOP:
                break
            if kind in (BATCH, RECALL):
                self._put(lane, received)
            else:
                self._known.note(kind, number, body)
        for number, thread in self._threads.items():
            self._lanes[number].put(received)
            thread.join()
        return received is not None

    def _put(self, number: int, received: Frame) -> None:
        if number not in self._threads:
            run = contextvars.copy_context().run  # with what the initializer has set
            arguments = (self._run, self._workers[number])
            thread = threading.Thread(target=run, args=arguments, name=f"forkful-{number}", daemon=True)
            self._threads[number] = thread
            thread.start()
        self._lanes[number].put(received)

    def _run(self, worker: Worker) -> None:
        self._own.worker = worker
        _run(worker)


def _run(worker: Worker) -> None:
    """One thread.  If it cannot go on, neither can the worker: the master must know that at once."""
    try:
        worker.serve()
    except ConnectionError:
        pass  # the master is gone; nobody is left to tell
    except OSError:
        from ..errors import LOST_CODE  # late, as in `codec`

        os._exit(LOST_CODE)  # a task, whose own errors do not come here, has closed what we need
    except BaseException:
        _break()


def _break() -> NoReturn:
    with contextlib.suppress(Exception):
        import traceback  # late, as in `codec`

        traceback.print_exc()
    os._exit(1)
