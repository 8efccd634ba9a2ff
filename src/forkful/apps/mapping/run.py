"""The run: feed the pool, and write down what comes back."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forkful import Pool
from forkful.apps.functions import FunctionRef
from forkful.apps.problems import JobStopped, UsageProblem
from forkful.errors import TaskCancelled

from .calls import Call, Prepare
from .control import Control
from .identity import Identities
from .inputs import Item
from .jobfile import JobFile, job_path, write_job
from .notes import JobLog, Note, TaskLogs, Trace
from .output import Output
from .records import make_record
from .settings import Settings, Share
from .sources import Source
from .summary import Durations, Summary

if TYPE_CHECKING:
    from forkful import Outcome
    from forkful.pool import OutcomeIterator

Progress = Callable[[Summary], None]

_GRACE = 5.0  # seconds that workers get to leave in when all is done
_SUCCESSES = 5  # that a time-out by the median wants to have seen
_LEAST_TIMEOUT = 1.0  # seconds: of functions that take less, the median says little about what is too long


@dataclass(frozen=True)
class Job:
    """A checked request: what to call, on what, and where the records go."""

    call: Call
    init: FunctionRef | Callable[[], object] | None
    sources: list[Source]
    output: str | None  # None: standard output
    file: JobFile  # what stands beside it


class Run:
    """One run of a job, from the first worker to the last.

    Args:
        items: gives the inputs that it is to run; *identities* counts those that need not be.
    """

    def __init__(
        self,
        job: Job,
        settings: Settings,
        out: Output,
        summary: Summary,
        control: Control,
        identities: Identities,
        items: Callable[[], Iterable[Item]],
        *,
        drop_failures: bool,
    ) -> None:
        self._job = job
        self._settings = settings
        self._out = out
        self._summary = summary
        self._control = control
        self._identities = identities
        self._items = items
        self._pending: dict[int, Item] = {}  # given to the pool and not yet back: as many as the pool reads ahead
        self._begun = False
        self._drop_failures = drop_failures  # as soon as there is something to write in their place
        self._left = False  # some input has no record: it was taken back, or never read
        self._read = False  # all inputs were read
        self._successes = Durations()  # kept where the time-out is a share of their median
        self._timeout: float | None = None  # by that, once there is one
        self._notes: list[Note] = []

    def __call__(self, progress: Progress) -> None:
        """Feed the pool, write what comes back.  When this is left, however, no worker is left."""
        settings, summary = self._settings, self._summary
        with contextlib.ExitStack() as stack:
            for note in self._make_notes():
                self._notes.append(note)
                stack.callback(note.close)
            pool = stack.enter_context(self._make_pool())
            summary.ask_busy = lambda: int(pool.stats()["busy"])
            stack.callback(summary.forget_pool)
            progress(summary)
            timeout = None if isinstance(settings.timeout, Share) else settings.timeout
            outcomes = pool.outcomes(self._job.call, self._elements(), ordered=settings.keep_order, timeout=timeout)
            self._control.hold(pool, summary.processes, outcomes)
            stack.callback(self._control.let_go)
            for batch in outcomes.batches():
                self._take(batch)
                progress(summary)
                if summary.halted is not None and settings.halt is not None and settings.halt.now:
                    self._end("halted")
                    return
                if self._control.stopping or summary.halted is not None:
                    outcomes.stop()  # perhaps once more: what was being handed out then may have slipped through
                self._adapt(outcomes)
            left = self._left or bool(self._pending) or not self._read
            summary.interrupted = left and self._control.stopping and summary.halted is None
            self._control.let_go()
            self._end("halted" if summary.halted is not None else "interrupted" if summary.interrupted else "done")
            _let_workers_leave(pool)

    def _make_pool(self) -> Pool:
        settings = self._settings
        try:
            return Pool(
                self._summary.processes,
                initializer=Prepare(self._job.call, self._job.init, stdout_is_taken=self._job.output is None),
                threads=settings.threads,
                max_memory_per_worker=settings.max_memory,
                capture_output=settings.logs is not None,
                retries=settings.retries,
                backoff=settings.backoff,
            )
        except (ValueError, TypeError) as error:  # all else has been checked, but for sizes, which the pool can spell
            raise UsageProblem(str(error).replace("max_memory_per_worker", "--max-memory")) from error

    def _make_notes(self) -> Iterator[Note]:
        settings, name = self._settings, self._job.call.__name__
        if settings.joblog is not None:
            yield JobLog(settings.joblog, name, append=settings.resume)
        if settings.trace is not None:
            yield Trace(settings.trace, name, append=settings.resume)
        if settings.logs is not None:
            yield TaskLogs(settings.logs)

    def _elements(self) -> Iterator[tuple[str, Any]]:
        """What the pool is to call the function with; remembers for what."""
        pending, identities, summary = self._pending, self._identities, self._summary
        for index, item in enumerate(self._items()):
            summary.skipped = identities.skipped
            pending[index] = item
            yield item.id, item.raw
        summary.skipped = identities.skipped
        self._read = True

    def _take(self, batch: list[Outcome]) -> None:
        """Write down what has ended, all of it in one write."""
        settings, summary, halt = self._settings, self._summary, self._settings.halt
        by_median = isinstance(settings.timeout, Share)
        done, failed = summary.done, summary.failed
        ended = []
        for outcome in batch:
            item = self._pending.pop(outcome.index)
            if self._is_unfinished(outcome):
                self._left = True
                continue
            record = make_record(item, outcome, with_input=settings.with_input)
            ended.append((item, outcome, record))
            done += 1
            failed += record.failure is not None
            if halt is not None and summary.halted is None and halt.is_reached(done, failed):
                summary.halted = str(halt)
                if halt.now:
                    break
        if not ended:
            return
        self._begin()
        try:
            # First: whatever ends this process then, each record has its line in the log.
            for note in self._notes:
                for one in ended:
                    note.add(*one)
                note.flush()
        finally:  # if they cannot be written, what was done is kept all the same
            self._out.write(b"".join([record.line for _, _, record in ended]))
            for item, _, record in ended:
                summary.add(item, record)
                if by_median and record.failure is None and record.seconds is not None:
                    self._successes.add(record.seconds)
        summary.processes = max(summary.processes, self._control.processes or 0)

    def _is_unfinished(self, outcome: Outcome) -> bool:
        """Whether an input was taken back; or has failed after the map was stopped, perhaps because of that.

        Ctrl-C at a terminal reaches the programs that a function has started, too.
        """
        if isinstance(outcome.error, TaskCancelled):
            return True
        if not self._control.stopping:
            return False
        return outcome.error is not None or outcome.value[3] is not None

    def _adapt(self, outcomes: OutcomeIterator) -> None:
        """Set the time-out that is a share of the median."""
        share = self._settings.timeout
        if not isinstance(share, Share):
            return
        summary = self._summary
        median = self._successes.quantile(0.5)
        if median is None or summary.done - summary.failed < _SUCCESSES:
            return
        timeout = max(_LEAST_TIMEOUT, median * share.percent / 100)
        if self._timeout is None or abs(timeout - self._timeout) > self._timeout / 10:
            self._timeout = timeout
            outcomes.limit(timeout)

    def _begin(self) -> None:
        """There is something to write: from here on, there is a job that can be resumed."""
        if self._begun:
            return
        self._note_state("running")
        self._begun = True
        if self._drop_failures:
            try:
                self._out.drop_failures()
            except OSError as error:
                raise JobStopped(
                    f"cannot write a new {self._out.name}: {error.strerror}; it is as it was: make space and start again"
                ) from error

    def _end(self, state: str) -> None:
        if state == "done":
            self._begin()
        if self._begun:
            self._out.complete()
            self._note_state(state)

    def _note_state(self, state: str) -> None:
        job, path = self._job.file, self._job.output
        if path is None or not self._out.is_file:
            return
        job.state, job.total = state, self._summary.total
        try:
            # Old records must not stand beside what tells of new ones: they would be taken for these.
            write_job(path, job, self._out.begin)
        except OSError as error:
            problem = f"cannot write {job_path(path)}: {error.strerror}; make space and start again"
            raise JobStopped(problem) from error

    def conclude(self, state: str) -> None:
        """The run was cut short; say so where the next one looks, if there is one to come."""
        if self._begun:
            with contextlib.suppress(JobStopped):  # why it was cut short is what matters
                self._note_state(state)


def _let_workers_leave(pool: Pool) -> None:
    """Give the workers time to run what they have registered for their end, and to end the threads they have left.

    But not for ever: every record is written, and what still runs is nothing that was asked for.
    """
    pool.close()
    leaving = threading.Thread(target=pool.join, name="forkful-map-end", daemon=True)
    leaving.start()
    leaving.join(_GRACE)
