"""The job: check everything, then feed the pool and write down what comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from forkful import Pool, cpu_count
from forkful.apps.functions import FunctionRef, check_function, find_function, make_directory_importable
from forkful.apps.problems import JobStopped, UsageProblem
from forkful.apps.spellings import MOST_JOBS
from forkful.errors import InitializerError

from .calls import UNREADABLE, Call, Prepare, SetUpFailed
from .inputs import Item, Source, count_lines, find_sources, read_items
from .output import Output, check_output
from .records import make_record
from .summary import Summary

__all__ = ["map_file"]

Function = Callable[..., Any]
Progress = Callable[[Summary], None]

_GRACE = 5.0  # seconds that workers get to leave in when all is done


def map_file(
    func: str | Callable[[Any], Any],
    inputs: str | Sequence[str],
    output: str | None = None,
    *,
    processes: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
    init: str | Callable[[], object] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Call *func* on each input in worker processes; write one record a line (see `records`) as they come.

    Args:
        func: ``"module:function"``, ``"path/to/file.py:function"``, or a function; takes one argument.
        inputs: files, patterns of files, ``"-"`` for standard input.  A line is an argument, a str without its newline;
            in a file named ``*.jsonl``, the value that the line holds.
        output: the file for the records; None or ``"-"`` is standard output.
        processes: the most worker processes; by default as many as this process may use CPUs.
        timeout: seconds that one attempt at one input may take; None for no limit.
        retries: how often an input is tried again after an exception, a crash or a timeout.
        init: a function that each worker calls once, without arguments, before its first input.
        overwrite: replace an *output* that holds something; else that is refused.  It is replaced with the first record.
        progress: called with the summary so far: once at the start, then after each record.

    An input that fails is a record, never an exception.  Ctrl-C ends the work; the summary says `interrupted`.  SIGTERM
    is left to the caller: by default it ends this process at once, and the workers with it; lines are whole even then.

    Raises:
        UsageProblem: something asked for cannot be done; nothing was started, nothing was written.
        JobStopped: it cannot go on (the disk is full, an input vanished, *init* fails); every line written is whole,
            and *output* is as it was when there is none.

    >>> map_file("examples/census.py:census", ["files.txt"], "census.jsonl").failed  # doctest: +SKIP
    0
    """
    job = _plan(func, inputs, output, init)
    limits = _Limits(_default_processes() if processes is None else processes, timeout, retries)
    limits.check()
    total = count_lines(job.sources, limits.processes if progress is None else None)
    # A worker is set up before its first input, so all are started at once: no more than there are inputs.
    processes = limits.processes if total is None else max(1, min(limits.processes, total))
    with Output(job.output, overwrite=overwrite) as out:
        summary = Summary(processes, out.name, total if progress is not None else None)
        try:
            _run(job, limits, out, summary, progress or _ignore)
        except KeyboardInterrupt:
            summary.interrupted = True
        except InitializerError as error:
            stop = _cannot_start(error, job)
            stop.done = summary.done
            raise stop from error
        except JobStopped as stop:
            stop.done = summary.done
            raise
        finally:
            summary.end()
    return summary


@dataclass(frozen=True)
class _Job:
    """A checked request: what to call, on what, and where the records go."""

    call: Call
    init: FunctionRef | Callable[[], object] | None
    sources: list[Source]
    output: str | None  # None: standard output


@dataclass(frozen=True)
class _Limits:
    processes: int
    timeout: float | None
    retries: int

    def check(self) -> None:
        """Raises `UsageProblem` for what cannot be."""
        if self.processes < 1:
            raise UsageProblem(f"processes={self.processes} is too few; ask for 1 or more")
        if self.processes > MOST_JOBS:
            raise UsageProblem(f"processes={self.processes} is too many; ask for {MOST_JOBS} or fewer")
        if self.timeout is not None and self.timeout <= 0:
            raise UsageProblem(f"timeout={self.timeout} is no time to wait for; give more than 0 seconds, or None")
        if self.retries < 0:
            raise UsageProblem(f"retries={self.retries} is less than none; give 0 or more")


def _default_processes() -> int:
    try:
        return cpu_count()
    except ValueError as error:  # the environment says nonsense
        raise UsageProblem(str(error)) from error


def _plan(
    func: str | Callable[[Any], Any],
    inputs: str | Sequence[str],
    output: str | None,
    init: str | Callable[[], object] | None,
) -> _Job:
    """Check the request; changes nothing outside this process."""
    if output == "":
        raise UsageProblem("the output has no name; name a file, or - for standard output")
    path = None if output in {None, "-"} else output
    sources = find_sources([inputs] if isinstance(inputs, str) else inputs)
    make_directory_importable()
    target = _find_or_check(func, "func", arguments=1, stdout_is_taken=path is None)
    set_up = None if init is None else _find_or_check(init, "init", arguments=0, stdout_is_taken=path is None)
    # The output last: only an imported module tells which file it came from.
    programs = [one.file for one in (target, set_up) if isinstance(one, FunctionRef) and one.file is not None]
    check_output(path, sources, programs)
    return _Job(Call(target), set_up, sources, path)


def _find_or_check(
    function: str | Function, role: str, *, arguments: int, stdout_is_taken: bool
) -> FunctionRef | Function:
    """*function* in the form that workers take; raises `UsageProblem`."""
    if isinstance(function, str):
        return find_function(function, arguments=arguments, stdout_is_taken=stdout_is_taken)
    check_function(function, getattr(function, "__name__", role), arguments=arguments)
    return function


def _run(job: _Job, limits: _Limits, out: Output, summary: Summary, progress: Progress) -> None:
    """Feed the pool, write what comes back.  When this is left, however, no worker is left."""
    pending: dict[int, Item] = {}  # given to the pool and not yet back: as many as the pool reads ahead
    prepare = Prepare(job.call, job.init, stdout_is_taken=job.output is None)
    with Pool(summary.processes, initializer=prepare) as pool:
        progress(summary)
        for outcome in pool.outcomes(
            job.call, _arguments(job.sources, pending), timeout=limits.timeout, retries=limits.retries
        ):
            item = pending.pop(outcome.index)
            record = make_record(item, outcome)
            out.write(record.line)
            summary.add(item, record)
            progress(summary)
        out.complete()
        _let_workers_leave(pool)


def _let_workers_leave(pool: Pool) -> None:
    """Give the workers time to run what they have registered for their end, and to end the threads they have left.

    But not for ever: every record is written, and what still runs is nothing that was asked for.
    """
    pool.close()
    leaving = threading.Thread(target=pool.join, name="forkful-map-end", daemon=True)
    leaving.start()
    leaving.join(_GRACE)


def _arguments(sources: Sequence[Source], pending: dict[int, Item]) -> Iterator[Any]:
    """What the pool is to call the function with; remembers for what."""
    for index, item in enumerate(read_items(sources)):
        pending[index] = item
        yield UNREADABLE if item.problem is not None else item.argument


def _cannot_start(error: InitializerError, job: _Job) -> JobStopped:
    """Why there are no workers, and what to do: that depends on who could not do what."""
    cause = error.__cause__
    if isinstance(cause, SetUpFailed):
        place = "what FUNC's module does when a worker imports it" if cause.importing else "the function of --init"
        return JobStopped(f"the workers cannot start: {cause.kind}: {cause.message}".rstrip(": ") + f"; mend {place}")
    if isinstance(cause, OSError):
        problem = f"the system gives no processes: {cause.strerror}; ask for fewer with --jobs, or look at `ulimit -a`"
        return JobStopped(problem)
    what = "FUNC's module" if job.init is None else "FUNC's module and the function of --init"
    return JobStopped(f"{str(error).partition(';')[0]}; run {what} by hand to see why")


def _ignore(_summary: Summary) -> None:
    """No progress was asked for."""
