"""Feeds: where a map's tasks come from, made only as workers have room for them."""

from __future__ import annotations

import itertools
import pickle
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from .._core import codec, handing
from .._core.books import Sink, Task
from ._options import Call

# Iterating these runs no user code and never waits, so the thread that runs the loop may do it.
PLAIN = (list, tuple, range, str, bytes, bytearray, dict, set, frozenset, deque)

Items = list[Any] | tuple[Any, ...] | range  # a range crosses as a range

WINDOW_FIRST = 16
WINDOW_MOST = 2048
_BULKY = 64 * 1024


class Pack(Protocol):
    """How items are pickled: as `Master.pack` does."""

    def __call__(self, value: Any, *, once: bool) -> Any:
        """The payload of a task."""


def pack_whole(value: Any, *, once: bool) -> bytes:  # noqa: ARG001  # a `Pack`
    """Nothing goes beside the pickle."""
    return codec.encode(value)


class Feed:
    """Turns items into tasks; base of the two kinds."""

    def __init__(self, call: Call, sink: Sink, block: Callable[[int, int], int], pack: Pack = pack_whole) -> None:
        self.function = call.terms.function
        self.name = call.terms.name
        self.priority = call.terms.priority
        self.position = 0  # elements taken so far
        self._call = call
        self._sink = sink
        self._block = block
        self._pack = pack
        self._stopped = False
        self._interrupt: BaseException | None = None  # came while elements were pickled, and is to be passed on
        self._kept: list[Task] = []  # made before that: the next to give

    def functions(self) -> tuple[int, ...]:
        """The keys of functions that its tasks may name."""
        by_name = self._call.by_name
        return (self.function,) if by_name is None else (self.function, by_name.function)

    def take(self, room: int) -> list[Task]:
        """Up to about *room* elements as tasks (a task is not divided to fit).

        Raises:
            BaseException: see `codec.is_interrupt`.  Nothing is lost: what was made comes with the next call.
        """
        if self._kept:
            tasks, self._kept = self._kept, []
            return tasks
        tasks = self._read(room)
        if self._interrupt is not None:
            self._kept = tasks
            raise self._interrupt
        return tasks

    def _read(self, room: int) -> list[Task]:
        raise NotImplementedError

    def exhausted(self) -> bool:
        """Whether no task will ever come again."""
        return not self._kept and self._is_read()

    def _is_read(self) -> bool:
        raise NotImplementedError

    def fail(self, error: BaseException) -> None:
        """`take` has raised *error*: whoever waits for the results gets it, unless it was only passed on."""
        interrupt, self._interrupt = self._interrupt, None
        if error is not interrupt:
            self._sink.abort(error)

    def lift_window(self) -> None:
        """Hold nothing back for a reader."""

    def stop(self) -> int:
        """Give no more tasks; how many elements are known never to be taken."""
        self._stopped = True
        return 0

    def _size(self) -> int:
        """How many elements the next task should hold."""
        call = self._call
        return call.chunksize if call.exact else self._block(self.function, call.chunksize)

    def _make(self, items: Items) -> list[Task]:
        """Tasks for *items*, the next in order; elements that cannot be pickled fail here and now."""
        base = self.position
        self.position += len(items)
        try:
            return [self._task(items, base)]
        except BaseException as error:  # one of them cannot be pickled: find out which
            self._note(error)
        tasks = []
        for index, item in enumerate(items, base):
            try:
                tasks.append(self._task([item], index))
            except BaseException as error:  # user code (__reduce__) may raise anything
                self._refuse(index, item, error)
        return tasks

    def _note(self, error: BaseException) -> None:
        if codec.is_interrupt(error):
            self._interrupt = error

    def _task(self, items: Items, base: int) -> Task:
        call = self._call
        terms = call.terms
        try:
            payload = self._pack(items, once=len(items) == 1 and not terms.retries)
        except handing.DescriptorInside:
            if len(items) > 1:
                raise  # each goes alone: no worker has a copy of what another one is to work with
            payload = handing.pack(self._pack, items, once=not terms.retries)
        if call.by_name is not None and codec.mentions_main(payload):
            terms = call.by_name
        return Task(self._sink, terms, payload, base, count=len(items))

    def _refuse(self, index: int, item: Any, error: BaseException) -> None:
        task = Task(self._sink, self._call.terms, b"")
        refusal = explain_refusal(task.describe(index), item, error)
        self._note(refusal)
        self._sink.fail(task, index, 1, refusal)


def explain_refusal(name: str, item: Any, error: BaseException) -> BaseException:
    """The error of a task whose arguments cannot be pickled: pickle's own complaints become `UnpicklableError`."""
    if not isinstance(error, pickle.PicklingError | TypeError | AttributeError | RecursionError):
        return error  # raised by the user's own __reduce__: his error, as multiprocessing passes it on
    from ..errors import UnpicklableError  # late, as in `codec`

    try:
        refusal = UnpicklableError(
            f"{name}: its arguments {codec.short_repr(item)} cannot be pickled ({codec.describe_error(error)}); "
            f"{_advise(error)}",
            task=name,
            exc=codec.short_repr(error),
            value=codec.short_repr(item),
        )
    except KeyboardInterrupt as interrupt:  # in a __repr__ of the user's
        return interrupt
    refusal.__cause__ = error
    return refusal


def _advise(error: BaseException) -> str:
    if "'SSLSocket'" in str(error):  # pickle's words; its keys are in this process, and stay there
        return "pass the plain socket, with the certificate's file, and wrap it there (`SSLContext.wrap_socket`)"
    return "pass plain data, or what is needed to make the object in the worker"


class SequenceFeed(Feed):
    """The items of a sequence whose length is known, for ``map``."""

    def __init__(
        self, call: Call, sink: Sink, block: Callable[[int, int], int], items: Any, pack: Pack = pack_whole
    ) -> None:
        super().__init__(call, sink, block, pack)
        self._items = items

    def _read(self, room: int) -> list[Task]:
        tasks: list[Task] = []
        while room > 0 and not self._is_read() and self._interrupt is None:
            items = self._items[self.position : self.position + self._size()]
            room -= len(items)
            tasks += self._make(items)
        if self._is_read():
            self._items = ()
        return tasks

    def _is_read(self) -> bool:
        return self._stopped or self.position >= len(self._items)

    def stop(self) -> int:
        """Give no more tasks; how many elements will never be taken."""
        left = 0 if self._stopped else max(0, len(self._items) - self.position)
        self._stopped = True
        return left


class StreamFeed(Feed):
    """The items of any iterable, endless ones included, never more than a window ahead of the reader; for ``imap``.

    The window counts every item between the iterable and the reader: read ahead, at a worker, done but not fetched.
    A chunk is never larger than it.  It starts at `WINDOW_FIRST` (or two chunks for each worker) and doubles while the reader waits for nothing but it,
    up to `WINDOW_MOST` (or four chunks for each worker) unless *buffersize* fixes it.

    An iterable that may run user code or wait has a thread of its own, so that a slow one delays only itself.
    """

    def __init__(
        self,
        call: Call,
        sink: Sink,
        block: Callable[[int, int], int],
        reader: Reader,
        chunk: int,
        window: tuple[int, int],
        on_end: Callable[[int, BaseException | None], None],
        pack: Pack = pack_whole,
    ) -> None:
        super().__init__(call, sink, block, pack)
        self._window, self._window_most = window
        self._chunk = min(chunk, self._window)
        self._on_end = on_end
        self._fetched = 0
        self._ended = False
        self._halting = False
        self._limited = False
        self.bulky = False
        self._reader = reader
        self._reader.allow(self._window)

    def _read(self, room: int) -> list[Task]:
        if self._halting and not self._is_read():
            self._ended = True
            self._on_end(self.position, None)
        tasks: list[Task] = []
        while room > 0 and not self._is_read() and not self._halting and self._interrupt is None:
            allowed = self._window - (self.position - self._fetched)
            size = self._chunk if self._call.exact else min(self._size(), max(1, allowed))
            if size > allowed:
                self._limited = True
                break
            items = self._reader.read(size, self._chunk)
            if not items:
                break
            room -= len(items)
            tasks += self._make(items)
        # In this order: a reader that is stopped ends too, and that is not the iterable's end.
        if self._reader.ended() and not self._halting and not self._stopped and not self._ended:
            self._ended = True
            self._on_end(self.position, self._reader.error)
        return tasks

    def _is_read(self) -> bool:
        return self._stopped or self._ended

    def stop(self) -> int:
        """Give no more tasks."""
        self._stopped = True
        self._reader.stop()
        return 0

    def halt(self) -> None:
        """End here: what has been taken is all there is.  May be called at any point, also by a signal handler."""
        self._halting = True
        self._reader.stop()

    def limit(self, timeout: int | None) -> None:
        """So many nanoseconds each element may run, of the tasks that are still to be made."""
        call = self._call
        by_name = None if call.by_name is None else call.by_name.within(timeout)
        self._call = call._replace(terms=call.terms.within(timeout), by_name=by_name)

    def fetched(self, count: int) -> bool:
        """The reader has fetched *count* results; whether it would pay to feed now."""
        self._fetched += count
        if not self._limited:
            return False
        self._reader.allow(self._fetched + self._window)
        if (self.position - self._fetched) * 2 > self._window:
            return False
        self._limited = False
        return True

    def starving(self) -> bool:
        """The reader waits; whether the window was in the way, and could be widened."""
        limited, self._limited = self._limited, False
        if limited and not self.bulky:
            self._window = min(self._window * 2, max(self._window, self._window_most))
        self._reader.allow(self._fetched + self._window)
        return limited

    def lift_window(self) -> None:
        """Read all there is, whether it is fetched or not: somebody waits for the end of all work."""
        self._window = self._window_most = sys.maxsize // 2
        self._reader.allow(sys.maxsize)

    def weigh(self, size: int) -> None:
        """A result took *size* bytes: large ones keep the window as it is."""
        if size > _BULKY:
            self.bulky = True


class Reader:
    """Reads an iterator for a feed."""

    error: BaseException | None = None

    def allow(self, upto: int) -> None:
        """At most *upto* items may have been read, ever."""

    def read(self, most: int, chunk: int) -> list[Any]:
        """Up to *most* items that are there now.

        When the iterable raises, the items of the *chunk* it was in are dropped, as ``multiprocessing`` does.
        """
        raise NotImplementedError

    def ended(self) -> bool:
        """Whether nothing will come any more."""
        raise NotImplementedError

    def stop(self) -> None:
        """Read no further."""


class PlainReader(Reader):
    """For builtin containers: read in place."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator
        self._ended = False

    def read(self, most: int, chunk: int) -> list[Any]:
        """Up to *most* items."""
        try:
            items = list(itertools.islice(self._iterator, most))
        except RuntimeError as error:  # a dict or set that was changed meanwhile
            self.error = error
            items = []
        self._ended = len(items) < most
        return items

    def ended(self) -> bool:
        """Whether nothing will come any more."""
        return self._ended


class ThreadReader(Reader):
    """For any other iterable: a thread reads it, as far as it is allowed to."""

    def __init__(self, iterator: Iterator[Any], nudge: Callable[[], None]) -> None:
        self._iterator = iterator
        self._nudge = nudge
        self._items: deque[Any] = deque()
        self._count = 0  # read, ever
        self._taken = 0
        self._awaited = 1  # the item with which there is something to take again
        self._allowed = 0
        self._changed = threading.Condition()
        self._stopped = False
        self._done = False
        self._thread: threading.Thread | None = None

    def allow(self, upto: int) -> None:
        """At most *upto* items may have been read, ever."""
        with self._changed:
            self._allowed = upto
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="forkful-feed", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        try:
            while self._may_read():
                try:
                    item = next(self._iterator)
                except StopIteration:
                    return
                self._items.append(item)
                del item
                self._count += 1
                if self._count == self._awaited:
                    self._nudge()
        except BaseException as error:  # the iterable's own error, for whoever reads the results
            self.error = error
        finally:
            self._iterator = iter(())
            self._done = True
            self._nudge()

    def _may_read(self) -> bool:
        """Wait until one more item may be read; False when none may any more."""
        if self._count >= self._allowed:
            with self._changed:
                while self._count >= self._allowed and not self._stopped:
                    self._changed.wait()
        return not self._stopped

    def read(self, most: int, chunk: int) -> list[Any]:
        """Up to *most* items that are there now; after none, a nudge follows when there are."""
        ready = self._whole(chunk)
        if not ready:
            self._awaited = self._taken + chunk - self._taken % chunk
            ready = self._whole(
                chunk
            )  # once more: that item may have come before the thread could see that it is awaited
        items = [self._items.popleft() for _ in range(min(most, ready))]
        self._taken += len(items)
        return items

    def _whole(self, chunk: int) -> int:
        """How many items may be taken: those of whole chunks, because an error would drop the last one, or the rest."""
        done = self._done  # before counting: what is there then is all
        ready = len(self._items)
        if not done or self.error is not None:
            ready -= (self._taken + ready) % chunk
        if done and ready <= 0:
            self._items.clear()
        return max(0, ready)

    def ended(self) -> bool:
        """Whether nothing will come any more."""
        return self._done and not self._items

    def stop(self) -> None:
        """Read no further."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
