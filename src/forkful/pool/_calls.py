"""From what users ask for to tasks: what is pickled, in which portions, and who hears of the results."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .._core import codec, contexts, handing
from .._core.books import Task, Terms
from .._core.master import Master
from .._core.messages import CALL
from .._core.schedule import default_chunksize
from ._callbacks import Callback
from ._feed import (
    PLAIN,
    WINDOW_FIRST,
    WINDOW_MOST,
    PlainReader,
    SequenceFeed,
    StreamFeed,
    ThreadReader,
    explain_refusal,
)
from ._iterators import Stream
from ._options import Call, CallLimits, Options, Progress, check_size
from ._printed import Printed
from ._results import AsyncResult, Home, MapResult

if TYPE_CHECKING:
    from ._admission import Admission
    from ._bars import Watch

_SLICED = (list, tuple, range)


class Calls:
    """Makes the tasks of one pool."""

    def __init__(self, master: Master, options: Options) -> None:
        self._master = master
        self._options = options
        self._watches: deque[Watch] = deque()  # the progress bars that are shown, and some that were
        self._terms = options.limits.terms(0, "", CALL), options.limits  # of the last call: the next one is often alike
        self.admission: Admission | None = None
        if options.max_pending is not None:
            from ._admission import Admission  # few pools have one

            self.admission = Admission(master, options.max_pending, block=options.block)

    def call(
        self, result: AsyncResult[Any], func: Any, args: Any, kwds: Mapping[str, Any] | None, limits: CallLimits
    ) -> Task | None:
        """The task of one call, or None when its arguments cannot be pickled: then *result* has the error.

        Raises:
            BaseException: see `codec.is_interrupt`.
        """
        if self._options.capture:
            result._printed = Printed()
        try:
            positional, named = tuple(args), dict(kwds) if kwds else None
        except BaseException as error:  # no arguments; or an iterator, or a mapping, of the user's that raises
            _refuse(result, _explain_arguments(func, args, kwds, error))
            return None
        try:
            variables = contexts.collect()
            payload: Any
            call: tuple[Any, ...] = (positional,)
            if variables:
                call = positional, named or {}, variables
            elif named:
                call = positional, named
            try:
                payload = self._master.pack(call, once=not limits.retries)
            except handing.DescriptorInside:
                payload = handing.pack(self._master.pack, call, once=not limits.retries)
            # After the user's code has run: what is registered may be dropped again unless a task asks for it soon.
            functions = self._master.functions
            key, name = functions.register(func)
            if key in functions.portable and codec.mentions_main(payload):
                key, name = functions.register_by_name(func)
        except BaseException as error:  # user code (__reduce__) may raise anything
            _refuse(result, explain_refusal(f"task {codec.describe(func)}", args, error))
            return None
        terms, of = self._terms
        if terms.function != key or of is not limits:
            terms = limits.terms(key, name, CALL)
            self._terms = terms, limits
        result._task = task = Task(result, terms, payload)
        return task

    def _follow(self, progress: Progress, func: Any, total: int | None) -> Watch | None:
        from ._bars import follow  # few maps have a bar

        watch = follow(progress, func, total)
        if watch is not None:
            while self._watches and self._watches[0].is_over():
                self._watches.popleft()
            self._watches.append(watch)
        return watch

    def await_bars(self, patience: float | None) -> None:
        """The pool has ended: until the bars of its maps have said their last word, at most *patience* seconds each."""
        for watch in list(self._watches):
            watch.await_shown(patience)

    def _hands(self) -> int:
        """The most tasks that can run at once."""
        limits = self._master.limits
        return limits.most * limits.threads

    def _register(self, func: Any, style: int, limits: CallLimits, *, guarded: bool) -> tuple[Terms, Terms | None]:
        """The terms of a map of *func*, and those with its other form, if there is one."""
        functions = self._master.functions
        func = contexts.with_context(func)
        key, name = functions.register(func)
        terms = limits.terms(key, name, style, guarded=guarded)
        if key not in functions.portable:
            return terms, None
        return terms, limits.terms(*functions.register_by_name(func), style, guarded=guarded)

    def map(
        self,
        home: Home,
        func: Any,
        iterable: Iterable[Any],
        style: int,
        chunksize: int | None,
        limits: CallLimits,
        callback: Callback | None,
        error_callback: Callback | None,
        progress: Progress = None,
    ) -> MapResult[Any]:
        """A map whose elements are all there: *func* applied to each as *style* says."""
        if chunksize is not None:
            chunksize = check_size("chunksize", chunksize)
        failure: Exception | None = None
        _check_synchronous(iterable)
        if not hasattr(iterable, "__len__"):
            iterable = list(iterable)
        elif type(iterable) not in _SLICED:
            try:
                iterable = list(iterable)
            except Exception as error:  # the iterable's own error is the map's, as with multiprocessing
                failure, iterable = error, []
        elif type(iterable) is list:
            iterable = iterable.copy()  # it is read as room comes; the caller may change his list meanwhile
        items: Any = iterable
        watch = None if progress is None else self._follow(progress, func, len(items))
        result: MapResult[Any] = MapResult(home, len(items), callback, error_callback)
        result._watch = watch
        if self._options.capture:
            result._printed = Printed()
        if failure is not None:
            result.abandon(failure)
            return result
        if not items:
            result.conclude_empty()
            return result
        guarded = limits.timeout is not None or limits.retries > 0 or self._options.capture
        try:
            terms, by_name = self._register(func, style, limits, guarded=guarded)
        except BaseException as error:  # user code (__reduce__) may raise anything
            _refuse(result, explain_refusal(f"task {codec.describe(func)}", func, error))
            return result
        exact = self._options.maxtasksperchild is not None
        most = chunksize or default_chunksize(len(items), self._hands())
        call = Call(terms, most, exact, by_name)
        feed = SequenceFeed(call, result, self._master.block_of, items, self._master.pack)
        result.follow(feed)
        try:
            self._master.add_source(feed)
        except BaseException as error:  # Ctrl-C: nobody will hold the result
            result.abort(error)
            raise
        return result

    def stream(
        self,
        func: Any,
        iterable: Iterable[Any],
        style: int,
        chunksize: int,
        buffersize: int | None,
        limits: CallLimits,
        *,
        ordered: bool,
        progress: Progress = None,
    ) -> Stream:
        """A map that is read as its results are."""
        chunksize = check_size("chunksize", chunksize)
        if buffersize is not None:
            buffersize = check_size("buffersize", buffersize)
        _check_synchronous(iterable)
        iterator, plain = iter(iterable), type(iterable) in PLAIN
        terms, by_name = self._register(func, style, limits, guarded=True)
        exact = self._options.maxtasksperchild is not None
        most = WINDOW_MOST if chunksize == 1 and not exact else chunksize
        call = Call(terms, most, exact, by_name)
        stream = Stream(self._master, ordered=ordered, printed=Printed() if self._options.capture else None)
        hands = self._hands()
        chunks = 0 if chunksize == 1 else chunksize * hands
        first = max(WINDOW_FIRST, 4 * hands, 2 * chunks)
        window = (first, max(WINDOW_MOST, 4 * chunks)) if buffersize is None else (buffersize, buffersize)
        reader = PlainReader(iterator) if plain else ThreadReader(iterator, self._master.nudge)
        feed = StreamFeed(call, stream, self._master.block_of, reader, chunksize, window, stream.end, self._master.pack)
        stream.follow(feed)
        try:
            if progress is not None:
                stream.progress = self._follow(progress, func, _length_of(iterable))
            self._master.add_source(feed)
        except BaseException:  # no bar; or Ctrl-C: nobody will hold the iterator
            stream.drop()
            raise
        return stream


def _length_of(iterable: Any) -> int | None:
    try:
        return len(iterable)
    except Exception:  # it has none, or none that it can tell
        return None


def _check_synchronous(iterable: Any) -> None:
    if hasattr(iterable, "__aiter__") and not hasattr(iterable, "__iter__"):
        raise TypeError(
            f"a map reads an ordinary iterable, not an asynchronous one such as {codec.short_repr(iterable)}: collect it "
            f"first (`[item async for item in ...]`), or await an apply_async for each of its items"
        )


def _refuse(result: AsyncResult[Any], error: BaseException) -> None:
    """End *result* with *error*, and pass that on where it may be the user's Ctrl-C."""
    result.abandon_with(error)
    if codec.is_interrupt(error):
        raise error


def _explain_arguments(func: Any, args: Any, kwds: Any, error: BaseException) -> BaseException:
    name = codec.describe(func)
    if not isinstance(args, Iterable):
        one = codec.short_repr(args)
        return TypeError(f"args of {name} must be a sequence of arguments, such as ({one},), not {one}")
    if kwds and not isinstance(kwds, Mapping):
        return TypeError(f"kwds of {name} must be a dict of keyword arguments, not {codec.short_repr(kwds)}")
    return error
