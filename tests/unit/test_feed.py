"""Where a map's tasks come from: as many as there is room for, and never far ahead of the reader."""

from __future__ import annotations

import itertools
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from forkful._core.books import Task
from forkful._core.messages import EACH, STAR
from forkful.errors import UnpicklableError
from forkful.pool._feed import PLAIN, Feed, PlainReader, Reader, SequenceFeed, StreamFeed, ThreadReader, explain_refusal
from forkful.pool._options import Call, CallLimits

from .bench import Results

FEW = 3  # what `few` gives


def few(function: int, most: int) -> int:
    """A pace at which three elements make a block."""
    return min(most, FEW)


def as_asked(function: int, most: int) -> int:
    """A pace at which elements cost nothing."""
    return most


def call(chunksize: int = 1000, *, exact: bool = False, guarded: bool = True, style: int = EACH) -> Call:
    """A map of a function ``f``."""
    return Call(CallLimits(70, 2).terms(5, "f", style, guarded=guarded), chunksize, exact)


def items_of(tasks: list[Task]) -> list[Any]:
    """What tasks hold, in order; each must know its place."""
    items: list[Any] = []
    for task in tasks:
        part = list(pickle.loads(task.payload))
        assert len(part) == task.count
        assert task.first == 0
        items += part
    return items


def sizes(tasks: list[Task]) -> list[int]:
    """How many elements each task has."""
    return [task.count for task in tasks]


class Opaque:
    """What cannot be pickled, by name or by value."""

    def __reduce__(self) -> str:
        raise TypeError("opaque")

    def __repr__(self) -> str:
        return "<opaque>"


class Refusing:
    """What refuses to be pickled with an error of its own: at first, so many *times*, or always."""

    def __init__(self, error: BaseException | None = None, times: int = 10**9) -> None:
        self.error = LookupError("not today") if error is None else error
        self.times = times

    def __reduce__(self) -> tuple[type, tuple[()]]:
        if self.times:
            self.times -= 1
            raise self.error
        return Refusing, ()


class Unspeakable(Opaque):
    """What cannot be pickled, nor shown."""

    def __repr__(self) -> str:
        raise KeyboardInterrupt


def elsewhere(function: Callable[[], Any]) -> Any:
    """What *function* returns in a thread of its own."""
    values: list[Any] = []
    thread = threading.Thread(target=lambda: values.append(function()))
    thread.start()
    thread.join()
    return values.pop()


# Sequences.


def test_sequence_in_blocks() -> None:
    """Blocks of the size that the pace asks for, each with its place and the map's limits."""
    sink = Results()
    feed = SequenceFeed(call(guarded=False, style=STAR), sink, few, list(range(100, 108)))
    tasks = feed.take(1000)
    assert sizes(tasks) == [3, 3, 2]
    assert items_of(tasks) == list(range(100, 108))
    assert [task.base for task in tasks] == [0, 3, 6]
    for task in tasks:
        assert (task.sink, task.terms.function, task.terms.name, task.terms.style) == (sink, 5, "f", STAR)
        assert (task.terms.timeout, task.terms.retries, task.terms.guarded) == (70, 2, False)
    assert feed.exhausted()
    assert feed.take(1000) == []


def test_sequence_is_taken_as_there_is_room() -> None:
    """About as much as was asked for: a task is not divided to fit."""
    feed = SequenceFeed(call(), Results(), few, range(10))
    assert feed.take(0) == []
    assert sizes(feed.take(4)) == [3, 3]
    assert feed.position == 6
    assert sizes(feed.take(1)) == [3]
    assert not feed.exhausted()
    assert sizes(feed.take(1)) == [1]
    assert feed.exhausted()


def test_chunks_bound_blocks() -> None:
    """A chunk is the most that travels together."""
    feed = SequenceFeed(call(2), Results(), few, range(5))
    assert sizes(feed.take(1000)) == [2, 2, 1]


def test_exact_chunks() -> None:
    """Where ``maxtasksperchild`` counts chunks their size is not the pace's to choose."""
    feed = SequenceFeed(call(4, exact=True), Results(), few, range(10))
    assert sizes(feed.take(1000)) == [4, 4, 2]


@pytest.mark.parametrize("items", [[1, 2, 3], (1, 2, 3), range(1, 4)])
def test_sequences_of_several_kinds(items: Any) -> None:
    """Whatever can be sliced."""
    assert items_of(SequenceFeed(call(2), Results(), as_asked, items).take(9)) == [1, 2, 3]


def test_sequence_that_is_stopped() -> None:
    """It says how many elements will never come, once."""
    feed = SequenceFeed(call(), Results(), few, range(10))
    feed.take(1)
    assert feed.stop() == 7
    assert feed.exhausted()
    assert feed.take(1000) == []
    assert feed.stop() == 0


def test_sequence_that_is_stopped_at_its_end() -> None:
    """Nothing is left."""
    feed = SequenceFeed(call(), Results(), few, range(3))
    feed.take(1000)
    assert feed.stop() == 0


def test_sequence_lets_go_of_what_it_gave() -> None:
    """Items are not kept until the end of the map."""
    feed = SequenceFeed(call(), Results(), few, range(3))
    feed.take(1000)
    assert feed._items == ()


def test_element_that_cannot_be_pickled() -> None:
    """It alone fails, at once and by position; its neighbours travel one by one."""
    sink = Results()
    feed = SequenceFeed(call(), sink, as_asked, [10, Opaque(), 12, 13])
    tasks = feed.take(1000)
    assert (sizes(tasks), [task.base for task in tasks]) == ([1, 1, 1], [0, 2, 3])
    assert items_of(tasks) == [10, 12, 13]
    assert sink.errors() == {1: "UnpicklableError"}
    error = sink.heard[1]
    assert isinstance(error, UnpicklableError)
    assert "task f[1]: its arguments <opaque> cannot be pickled (TypeError: opaque); pass plain data" in str(error)
    assert (error.task, error.pid, error.value) == ("task f[1]", None, "<opaque>")
    assert "opaque" in error.exc
    assert isinstance(error.__cause__, TypeError)
    assert feed.exhausted()


def test_element_with_an_error_of_its_own() -> None:
    """What its ``__reduce__`` raises is the user's, and arrives as it is."""
    sink = Results()
    assert SequenceFeed(call(), sink, as_asked, [Refusing()]).take(1000) == []
    assert isinstance(sink.heard[0], LookupError)


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit()], ids=repr)
def test_element_with_an_error_that_is_no_exception(error: BaseException) -> None:
    """It is that element's, like any other."""
    sink = Results()
    feed = SequenceFeed(call(), sink, as_asked, [10, Refusing(error), 12])
    assert items_of(feed.take(1000)) == [10, 12]
    assert sink.heard == {1: error}


@pytest.mark.parametrize("item", [Refusing(KeyboardInterrupt()), Unspeakable()])
def test_element_that_raises_keyboard_interrupt(item: Any) -> None:
    """It is that element's; no thread but the main one is ever told of Ctrl-C in this way."""
    sink = Results()
    feed = SequenceFeed(call(), sink, as_asked, [10, item, 12])
    assert items_of(elsewhere(lambda: feed.take(1000))) == [10, 12]
    assert sink.errors() == {1: "KeyboardInterrupt"}
    assert feed.exhausted()
    assert sink.aborted is None


@pytest.mark.parametrize("item", [Refusing(KeyboardInterrupt()), Unspeakable()])
def test_interrupt_is_passed_on(item: Any) -> None:
    """In the main thread it may be Ctrl-C: it goes on its way when the element has it, and nothing is lost by that."""
    sink = Results()
    feed = SequenceFeed(call(), sink, few, [10, item, 12, 13, 14])
    with pytest.raises(KeyboardInterrupt) as caught:
        feed.take(1000)
    feed.fail(caught.value)  # as the loop does with all that a feed raises
    assert sink.errors() == {1: "KeyboardInterrupt"}
    assert sink.aborted is None
    assert not feed.exhausted()
    tasks = feed.take(1000) + feed.take(1000)
    assert items_of(tasks) == [10, 12, 13, 14]
    assert [task.base for task in tasks] == [0, 2, 3]
    assert feed.exhausted()


def test_interrupt_that_was_no_elements() -> None:
    """Ctrl-C in the middle of a block: every element is pickled once more, and none has an error."""
    sink = Results()
    feed = SequenceFeed(call(), sink, as_asked, [10, Refusing(KeyboardInterrupt(), times=1), 12])
    with pytest.raises(KeyboardInterrupt):
        feed.take(1000)
    assert sizes(feed.take(1000)) == [1, 1, 1]
    assert sink.heard == {}


def test_interrupt_at_the_end() -> None:
    """There is nothing left to give, and nothing to wait for."""
    sink = Results()
    feed = SequenceFeed(call(), sink, as_asked, [Refusing(KeyboardInterrupt())])
    with pytest.raises(KeyboardInterrupt):
        feed.take(1000)
    assert feed.exhausted()
    assert sink.errors() == {0: "KeyboardInterrupt"}


def test_function_travels_by_value_in_items() -> None:
    """Lambdas are items like any other."""
    (task,) = SequenceFeed(call(), Results(), as_asked, [lambda: 7]).take(1)
    assert pickle.loads(task.payload)[0]() == 7


@pytest.mark.parametrize("kind", [pickle.PicklingError, TypeError, AttributeError, RecursionError])
def test_refusals(kind: type[Exception]) -> None:
    """Pickle's own complaints become ours, with the argument cut short."""
    cause = kind("no")
    error = explain_refusal("task f", "x" * 1000, cause)
    assert isinstance(error, UnpicklableError)
    assert error.__cause__ is cause
    assert f"({kind.__name__}: no)" in str(error)
    assert len(str(error)) < 500
    assert (error.exc, error.task) == (repr(cause), "task f")


def test_feed_that_fails() -> None:
    """Whoever waits for its results gets the error."""
    sink = Results()
    error = OSError("gone")
    SequenceFeed(call(), sink, few, range(3)).fail(error)
    assert sink.aborted is error


def test_bare_feed() -> None:
    """The base gives nothing, and does not know its end."""
    feed = Feed(call(), Results(), few)
    feed.lift_window()
    with pytest.raises(NotImplementedError):
        feed.take(1)
    with pytest.raises(NotImplementedError):
        feed.exhausted()


def test_bare_reader() -> None:
    """Likewise."""
    reader = Reader()
    reader.allow(1)
    reader.stop()
    with pytest.raises(NotImplementedError):
        reader.read(1, 1)
    with pytest.raises(NotImplementedError):
        reader.ended()


# Streams.


class Stream:
    """A `StreamFeed` over a container, and its end."""

    def __init__(
        self,
        items: Iterable[Any],
        window: int | tuple[int, int] = 16,
        chunk: int = 1,
        *,
        exact: bool = False,
        block: Any = as_asked,
        reader: Reader | None = None,
    ) -> None:
        self.ends: list[tuple[int, BaseException | None]] = []
        self.feed = StreamFeed(
            call(chunk if chunk > 1 else 1000, exact=exact),
            Results(),
            block,
            reader or PlainReader(iter(items)),
            chunk,
            (window, window) if isinstance(window, int) else window,
            lambda length, error: self.ends.append((length, error)),
        )
        self.read = 0
        self.fetched = 0

    def take(self, room: int = 10_000) -> list[Any]:
        """The items that are taken now."""
        items = items_of(self.feed.take(room))
        self.read += len(items)
        assert self.feed.position == self.read
        return items

    def fetch(self, count: int) -> bool:
        """The reader fetches *count* results."""
        self.fetched += count
        return self.feed.fetched(count)

    def ahead(self) -> int:
        """How many items are between the iterable and the reader."""
        return self.read - self.fetched


def test_endless_iterable() -> None:
    """A window is read and no more, however much room there is."""
    stream = Stream(itertools.count(), 16)
    assert stream.take() == list(range(16))
    assert stream.take() == []
    assert not stream.feed.exhausted()
    assert stream.ends == []


def test_stream_is_taken_as_there_is_room() -> None:
    """Never more than a task beyond it."""
    stream = Stream(range(100), 50, block=few)
    assert stream.take(0) == []
    assert len(stream.take(4)) == 6
    assert len(stream.take(1)) == 3


def test_tasks_of_a_stream() -> None:
    """Each knows its place; the last before the end of the window is cut to fit."""
    stream = Stream(range(100, 200), 10, block=few)
    tasks = stream.feed.take(1000)
    assert sizes(tasks) == [3, 3, 3, 1]
    assert [task.base for task in tasks] == [0, 3, 6, 9]
    assert items_of(tasks) == list(range(100, 110))


def test_window_moves_with_the_reader() -> None:
    """It is never passed; feeding pays once half of it is fetched."""
    stream = Stream(itertools.count(), 16)
    stream.take()
    stream.take()
    for _ in range(7):
        assert not stream.fetch(1)
        assert stream.ahead() <= 16
    assert stream.fetch(1)
    assert stream.take() == list(range(16, 24))
    assert stream.ahead() == 16


def test_fetching_does_not_feed_what_is_not_held_back() -> None:
    """When there was no room at the workers the reader has no reason to feed."""
    stream = Stream(itertools.count(), 16)
    stream.take(4)
    assert not stream.fetch(4)


@pytest.mark.parametrize("steps", [[1] * 300, [5, 1, 9] * 60, [16, 2] * 40])
def test_never_more_than_a_window_ahead(steps: list[int]) -> None:
    """Whatever the reader does, while it never waits."""
    stream = Stream(itertools.count(), 16, block=few)
    for step in steps:
        stream.take(7)
        assert stream.ahead() <= 16
        stream.fetch(min(step, stream.ahead()))
    assert stream.read > 150


def test_window_doubles_while_it_holds_the_reader_up() -> None:
    """Up to its limit, and only when the reader waits."""
    stream = Stream(itertools.count(), (16, 100))
    widths = []
    for _ in range(5):
        while stream.take():
            pass
        widths.append(stream.ahead())
        stream.fetch(stream.ahead())
        assert not stream.feed.starving()  # fetching has opened it already
        while stream.take():
            pass
        assert stream.feed.starving()
    assert widths == [16, 32, 64, 100, 100]


def test_window_stays_while_the_workers_hold_the_reader_up() -> None:
    """A reader that waits for results, not for the window, does not widen it."""
    stream = Stream(itertools.count(), (16, 1000))
    for _ in range(5):
        stream.take(8)
        assert not stream.feed.starving()
        stream.fetch(8)
    stream.take()
    stream.take()
    assert stream.ahead() == 16


def test_starving_is_told_once() -> None:
    """Until the window is in the way again."""
    stream = Stream(itertools.count(), (16, 1000))
    stream.take()
    assert stream.feed.starving()
    assert not stream.feed.starving()


def test_fixed_window() -> None:
    """A *buffersize* never grows."""
    stream = Stream(itertools.count(), 5)
    for _ in range(10):
        stream.take()
        stream.feed.starving()
        assert stream.ahead() == 5
        stream.fetch(5)


@pytest.mark.parametrize(("size", "bulky"), [(64 * 1024, False), (64 * 1024 + 1, True)])
def test_large_results_keep_the_window(size: int, bulky: bool) -> None:
    """Memory is bounded by elements only where elements are small."""
    stream = Stream(itertools.count(), (16, 1000))
    stream.feed.weigh(size)
    stream.feed.weigh(1)
    assert stream.feed.bulky is bulky
    stream.take()
    assert stream.feed.starving()
    stream.take()
    assert stream.ahead() == (16 if bulky else 32)


def test_window_that_is_lifted() -> None:
    """Whoever waits for the end of all work gets all of it done."""
    stream = Stream(range(5000), 16)
    stream.take()
    stream.feed.lift_window()
    assert len(stream.take()) == 4984
    assert stream.ends == [(5000, None)]


def test_end_of_a_stream() -> None:
    """It is told once, with the length."""
    stream = Stream(range(20), 16)
    stream.take()
    assert stream.ends == []
    stream.fetch(16)
    assert stream.take() == [16, 17, 18, 19]
    assert stream.ends == [(20, None)]
    assert stream.feed.exhausted()
    assert stream.take() == []
    assert stream.ends == [(20, None)]


def test_end_of_a_stream_at_the_end_of_the_window() -> None:
    """It is found when there is something to find."""
    stream = Stream(range(16), 16)
    stream.take()
    stream.fetch(16)
    assert stream.take() == []
    assert stream.ends == [(16, None)]


def test_empty_stream() -> None:
    """It ends at once."""
    stream = Stream([])
    assert stream.take() == []
    assert stream.ends == [(0, None)]


def test_stream_that_is_stopped() -> None:
    """Nothing more is read, and nobody knows how much there would have been."""
    iterator = iter(range(100))
    stream = Stream([], 16, reader=PlainReader(iterator))
    stream.take()
    assert stream.feed.stop() == 0
    stream.fetch(16)
    assert stream.take() == []
    assert stream.feed.exhausted()
    assert next(iterator) == 16


def test_container_that_changes() -> None:
    """The error that iterating gives is the stream's last word; what was read before is done."""
    container = dict.fromkeys(range(10))
    stream = Stream(container, 4)
    assert stream.take() == [0, 1, 2, 3]
    container[99] = None
    stream.fetch(4)
    assert stream.take() == []
    ((length, error),) = stream.ends
    assert (length, type(error)) == (4, RuntimeError)
    assert stream.feed.exhausted()


def test_plain_containers() -> None:
    """Reading them runs no code of the user's: exact types only, all of which can be iterated in place."""
    for kind in PLAIN:
        assert list(PlainReader(iter(kind() if kind is not range else range(0))).read(5, 1)) == []
    assert {list, dict, range, deque} <= set(PLAIN)


def test_chunks_of_a_stream() -> None:
    """A chunk is the most that travels together."""
    stream = Stream(range(100), 40, chunk=10)
    assert sizes(stream.feed.take(1000)) == [10, 10, 10, 10]


def test_exact_chunks_of_a_stream() -> None:
    """Whole ones, but for the last."""
    stream = Stream(range(25), 40, chunk=10, exact=True, block=few)
    assert sizes(stream.feed.take(1000)) == [10, 10, 5]


def test_exact_chunks_stay_in_the_window() -> None:
    """A chunk that does not fit into what is left of it waits."""
    stream = Stream(itertools.count(), 20, chunk=10, exact=True)
    stream.take()
    stream.fetch(1)
    stream.take()
    assert stream.ahead() <= 20


# The reader with a thread, read in this one: the thread is never started.


class Unthreaded(ThreadReader):
    """Reads when it is told to, in the thread that tells it, as far as it is allowed to."""

    def __init__(self, items: Iterable[Any], nudge: Any = lambda: None) -> None:
        super().__init__(iter(items), nudge)
        self._thread = threading.current_thread()  # there is one already

    def _may_read(self) -> bool:
        if self._count >= self._allowed:
            raise Full
        return super()._may_read()

    def run(self) -> None:
        """Read on."""
        iterator = self._iterator
        self._run()
        if isinstance(self.error, Full):
            self.error, self._done, self._iterator = None, False, iterator


class Full(Exception):
    """It has read all it is allowed to."""


def test_reader_reads_what_it_is_allowed_to() -> None:
    """And gives what is there."""
    reader = Unthreaded(itertools.count())
    reader.allow(5)
    assert reader.read(10, 1) == []
    reader.run()
    assert reader.read(3, 1) == [0, 1, 2]
    assert reader.read(10, 1) == [3, 4]
    reader.allow(7)
    reader.run()
    assert reader.read(10, 1) == [5, 6]
    assert not reader.ended()


def test_reader_that_is_stopped() -> None:
    """It does not take another item, not even one it is allowed to."""
    reader = Unthreaded(itertools.count())
    reader.allow(5)
    reader.stop()
    reader.run()
    assert reader.read(10, 1) == []
    assert reader.ended()


def test_reader_at_the_end() -> None:
    """The end is what comes after the last item was given."""
    reader = Unthreaded(range(3))
    reader.allow(10)
    reader.run()
    assert not reader.ended()
    assert reader.read(10, 1) == [0, 1, 2]
    assert reader.ended()
    assert reader.error is None


def failing(count: int) -> Iterable[int]:
    """*count* numbers, then an error."""
    yield from range(count)
    raise LookupError("out of numbers")


def test_error_of_an_iterable() -> None:
    """What came before it is done; then it is the stream's last word."""
    reader = Unthreaded(failing(3))
    stream = Stream([], 16, reader=reader)
    reader.run()
    assert stream.take() == [0, 1, 2]
    ((length, error),) = stream.ends
    assert (length, type(error)) == (3, LookupError)


def test_error_of_an_iterable_inside_a_chunk() -> None:
    """The items of that chunk are dropped, as ``multiprocessing`` does; whole chunks before it are done."""
    reader = Unthreaded(failing(25))
    stream = Stream([], 100, chunk=10, reader=reader)
    reader.run()
    assert stream.take() == list(range(20))
    ((length, error),) = stream.ends
    assert (length, type(error)) == (20, LookupError)


def test_chunks_of_a_slow_iterable() -> None:
    """Nothing of a chunk travels before all of it is there; at the end what there is."""
    reader = Unthreaded(range(25))
    stream = Stream([], 100, chunk=10, reader=reader)
    reader.allow(13)
    reader.run()
    assert stream.take() == list(range(10))
    reader.allow(100)
    reader.run()
    assert stream.take() == list(range(10, 25))
    assert stream.ends == [(25, None)]


def test_parts_of_chunks() -> None:
    """A chunk that is whole may be taken in parts; those of the next one wait for the rest of it."""
    reader = Unthreaded(itertools.count())
    reader.allow(13)
    reader.run()
    assert reader.read(4, 10) == [0, 1, 2, 3]
    assert reader.read(20, 10) == [4, 5, 6, 7, 8, 9]
    assert reader.read(20, 10) == []
    reader.allow(20)
    reader.run()
    assert reader.read(20, 10) == list(range(10, 20))


def test_error_that_is_no_exception() -> None:
    """Whatever the iterable raises is carried to the reader."""

    def leave() -> Iterable[int]:
        yield 1
        raise SystemExit(3)

    reader = Unthreaded(leave())
    stream = Stream([], 16, reader=reader)
    reader.run()
    assert stream.take() == [1]
    assert isinstance(stream.ends[0][1], SystemExit)


def nudged_while_reading(count: int, chunk: int) -> list[list[int]]:
    """What the feed finds, until there is nothing, each time that it is nudged while the reader reads *count* items."""
    found: list[list[int]] = []

    def look() -> None:
        found.append([item for part in iter(lambda: reader.read(2, chunk), []) for item in part])

    reader = Unthreaded(range(count), look)
    reader.allow(count + 1)
    reader.run()
    return found


def test_feed_is_nudged_by_the_first_item() -> None:
    """What was empty is not."""
    assert nudged_while_reading(3, 1) == [[0], [1], [2], []]


def test_feed_is_nudged_by_a_whole_chunk() -> None:
    """The first item of a chunk is nothing to take; the feed must hear of the last."""
    assert nudged_while_reading(12, 5) == [[], [0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]


def test_item_that_comes_while_the_feed_looks() -> None:
    """Found by the second look, since the thread had not seen that it was awaited."""
    reader = Unthreaded(itertools.count())
    look = reader._whole
    looks: Iterator[Callable[[], None]] = iter([reader.run, lambda: None])

    def look_and_be_overtaken(chunk: int) -> int:
        ready = look(chunk)
        next(looks)()
        return ready

    reader._whole = look_and_be_overtaken  # type: ignore[method-assign]  # the race, at the one point where it can be
    reader.allow(1)
    assert reader.read(10, 1) == [0]


def test_window_smaller_than_a_chunk() -> None:
    """Something must travel all the same."""
    reader = Unthreaded(itertools.count())
    stream = Stream([], 16, chunk=20, reader=reader)
    reader.run()
    stream.take()
    stream.feed.starving()
    reader.run()
    stream.take()
    assert stream.read > 0


@pytest.mark.parametrize("chunk", [1, 5, 7, 16])
def test_any_window_and_any_chunk(chunk: int) -> None:
    """All of it is read, however they divide, if the reader looks again whenever it waits."""
    reader = Unthreaded(range(200))
    stream = Stream([], 16, chunk=chunk, reader=reader)
    items: list[int] = []
    for _ in range(500):
        reader.run()
        items += stream.take(9)
        assert stream.ahead() <= -(-16 // chunk) * chunk
        if stream.ahead():
            stream.fetch(1)
        else:
            stream.feed.starving()
    assert items == list(range(200))
    assert stream.ends == [(200, None)]


def test_a_feed_that_was_stopped_has_not_ended() -> None:
    """Its reader has; whoever is told that the iterable has ended takes what there is for the whole."""
    ended: list[int] = []
    read = threading.Event()
    reader = ThreadReader(itertools.count(), read.set)
    feed = StreamFeed(call(), Results(), few, reader, 1, (4, 4), lambda length, error: ended.append(length))
    assert read.wait(20)
    assert items_of(feed.take(100))[:1] == [0]
    feed.stop()
    assert reader._thread is not None
    reader._thread.join()
    assert feed.take(100) == []
    reader._items.clear()
    assert reader.ended()
    assert feed.take(100) == []
    assert ended == []
    assert feed.exhausted()
