"""The job: check everything that is asked for, then run it."""

from __future__ import annotations

import functools
import os
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from forkful import cpu_count
from forkful.apps.functions import FunctionRef, check_function, find_function, make_directory_importable
from forkful.apps.problems import JobStopped, UsageProblem
from forkful.errors import InitializerError
from forkful.pool import check_not_importing_main

from . import selection
from .calls import Call, SetUpFailed
from .control import Control
from .halting import Halt, parse_halt
from .identity import Identities
from .inputs import Item, count_inputs, find_columns, read_items
from .jobfile import JobFile, Program, check_same, job_path, read_job
from .output import Output, check_notes, check_output, look_back
from .retrying import find_exceptions
from .run import Job, Progress, Run
from .settings import Settings, read_duration, read_timeout
from .sources import Source, find_sources
from .summary import Summary

__all__ = ["list_inputs", "map_file"]

Function = Callable[..., Any]
_MISSING = re.compile(r"attribute '([^']+)' on <module '__(?:mp_)?main__'")  # pickle's words


def map_file(
    func: str | Function,
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None = None,
    *,
    processes: int | None = None,
    threads: int = 1,
    timeout: float | str | None = None,
    retries: int = 0,
    backoff: float | str | None = None,
    retry_on: str | Sequence[str] | None = None,
    halt: str | Halt | None = None,
    max_memory: int | str | None = None,
    init: str | Callable[[], object] | None = None,
    format: str | None = None,  # what users call it
    kwargs: bool = False,
    id_field: str | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    force: bool = False,
    overwrite: bool = False,
    keep_order: bool = False,
    sample: int | None = None,
    shuffle: bool = False,
    seed: int | None = None,
    with_input: bool = True,
    joblog: str | None = None,
    trace: str | None = None,
    logs: str | None = None,
    fsync: str = "end",
    progress: Progress | None = None,
    control: Control | None = None,
) -> Summary:
    """Call *func* on each input in worker processes; write one record a line (see `records`) as they come.

    Args:
        func: ``"module:function"``, ``"path/to/file.py:function"``, or a function; takes one argument.
        inputs: files, patterns of files, ``"-"`` for standard input.  A line is an argument, a str without its newline; in a
            file named ``*.jsonl``, the value that the line holds; of ``*.csv`` and ``*.tsv``, each row after the first as a
            dict by column.  Files named ``*.gz`` and ``*.zst`` are unpacked.
        output: the file for the records; None or ``"-"`` is standard output.
        processes: the most worker processes; by default as many as this process may use CPUs.
        threads: inputs that each process works on at once, in threads.
        timeout: seconds that one attempt at one input may take; or, as ``"300%"``, a share of the median of those that
            had a result, at least a second, as soon as there are five; None for no limit.
        retries: how often an input is tried again after an exception, a crash or a timeout.
        backoff: seconds before the second attempt (or ``"500ms"``), twice as many before each further one; others run meanwhile.
        retry_on: names of exceptions (or bases of them) that are worth another attempt: builtin, known to *func*'s module, or
            full, as ``"json.JSONDecodeError"``; None: all.  A crash and a timeout
            always are.
        halt: stop early: ``"now,fail=3"`` (end what runs) or ``"soon,fail=10%"`` (let it end); also ``success=`` and ``done=``,
            which is a number only; a share is of those that are done.  None or ``"never"``: go on to the end.
        max_memory: a worker that holds more between two inputs is replaced: ``"500MB"``, or bytes.
        init: a function that each worker calls once, without arguments, before its first input.
        format: what inputs hold, whatever they are named: ``"text"``, ``"jsonl"``, ``"csv"``, ``"tsv"``.
        kwargs: pass an object, or a row, as keyword arguments.
        id_field: the field or column that names an input; None: its content does.
        resume: go on where an earlier run ended, however it ended: inputs that have a record are left out.
        retry_failed: `resume`, and try those again that failed.
        force: resume also what another function wrote, or this one before it was changed.
        overwrite: replace an *output* that holds something; else that is refused.  It is replaced with the first record.
        keep_order: write the records in the order of the inputs.
        sample: only so many inputs, by chance.
        shuffle: in an order by chance.
        seed: of that chance: the same seed, the same choice.
        with_input: records hold their input.
        joblog: a file for a line on each input, in the columns of GNU parallel.
        trace: a file for a trace of what ran where, for ``chrome://tracing``.
        logs: a directory for what the function writes to its standard streams, a file for each input.
        fsync: when records are to be safe from a loss of power too: at the ``"end"``, ``"always"``, ``"never"``.
        progress: called with the summary so far: once at the start, then as records are written.
        control: stops the map, or changes the number of its processes, while it runs.

    An input that fails is a record, never an exception.  Ctrl-C ends the work; the summary says `interrupted`.  SIGTERM
    is left to the caller: by default it ends this process at once, and the workers with it; lines are whole even then.

    Beside *output* stands ``OUTPUT.job``, which `resume` needs.

    Raises:
        UsageProblem: something asked for cannot be done; nothing was started, nothing was written.
        JobStopped: it cannot go on (the disk is full, an input vanished, *init* fails); every line written is whole,
            and *output* is as it was when there is none.

    >>> map_file("examples/census.py:census", ["files.txt"], "census.jsonl").failed  # doctest: +SKIP
    0
    """
    _check_script()
    settings = Settings(
        processes=_default_processes() if processes is None else processes,
        threads=threads,
        timeout=read_timeout(timeout) if isinstance(timeout, str) else timeout,
        retries=retries,
        backoff=read_duration(backoff) if isinstance(backoff, str) else backoff,
        retry_on=(retry_on,) if isinstance(retry_on, str) else None if retry_on is None else tuple(retry_on),
        halt=_parse(halt) if isinstance(halt, str) else halt,
        max_memory=max_memory,
        by_keyword=kwargs,
        id_field=id_field,
        resume=resume or retry_failed,
        retry_failed=retry_failed,
        force=force,
        overwrite=overwrite,
        keep_order=keep_order,
        sample=sample,
        shuffle=shuffle,
        seed=seed,
        with_input=with_input,
        joblog=joblog,
        trace=trace,
        logs=logs,
        fsync=fsync,
    )
    settings.check()
    if progress is not None and not callable(progress):
        raise UsageProblem(f"progress={progress!r} is no function; give one that takes the summary so far")
    job = _plan(func, inputs, output, init, format, settings)
    identities = Identities()
    with Output(job.output, overwrite=overwrite, resume=settings.resume, fsync=fsync) as out:
        summary = Summary(settings.processes, out.name, threads=threads, can_resume=out.is_file, overwrites=overwrite)
        again = settings.resume and out.holds_something and _go_on(job, settings, out, identities, summary)
        total = settings.count(count_inputs(job.sources, settings.count_up_to(progress is not None)))
        # A worker is set up before its first input, so all are started at once: no more than there are inputs.
        summary.processes = (
            settings.processes if total is None else max(1, min(settings.processes, -(-total // threads)))
        )
        summary.total = total if progress is not None else None
        items = functools.partial(_choose, job, settings, identities)
        run = Run(job, settings, out, summary, control or Control(), identities, items, drop_failures=again)
        try:
            run(progress or _ignore)
        except KeyboardInterrupt:
            summary.interrupted = True
            run.conclude("interrupted")
        except BaseException as error:
            run.conclude("stopped")
            stop = _cannot_start(error, job) if isinstance(error, InitializerError) else error
            if isinstance(stop, JobStopped):
                stop.done = summary.done
                raise stop from (None if isinstance(error.__cause__, _NotGuarded) else error.__cause__)
            raise
        finally:
            summary.end()
    return summary


def list_inputs(
    func: str | Function,
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None = None,
    *,
    format: str | None = None,  # as above
    kwargs: bool = False,
    id_field: str | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    sample: int | None = None,
    shuffle: bool = False,
    seed: int | None = None,
) -> Iterator[Item]:
    """The inputs that `map_file` would run if it were asked so, in its order.  Nothing is started or written.

    Raises `UsageProblem` as it does.
    """
    settings = Settings(
        by_keyword=kwargs, id_field=id_field, resume=resume or retry_failed, retry_failed=retry_failed,
        sample=sample, shuffle=shuffle, seed=seed,
    )  # fmt: skip  # as it was asked
    settings.check()
    job = _plan(func, inputs, output, None, format, settings)
    identities = Identities()
    if settings.resume and job.output is not None and os.path.exists(job.output) and os.path.getsize(job.output):
        check_same(job.output, read_job(job.output), job.file, force=True)  # of the rest, a real run tells
        _mark_done(job.output, settings, identities)
    return iter(_choose(job, settings, identities))


class _NotGuarded(UsageProblem):
    """In a worker: the script that it imports calls `map_file` again."""


def _check_script() -> None:
    """Raises `_NotGuarded`; before anything is opened, which the map that started this worker has open."""
    try:
        check_not_importing_main()
    except RuntimeError as error:
        raise _NotGuarded(
            "a worker imports this script to find FUNC in it, and the script calls map_file as it is imported; "
            'put that call under `if __name__ == "__main__":`'
        ) from error


def _parse(halt: str) -> Halt | None:
    try:
        return parse_halt(halt)
    except ValueError as error:
        raise UsageProblem(str(error)) from error


def _default_processes() -> int:
    try:
        return cpu_count()
    except ValueError as error:  # the environment says nonsense
        raise UsageProblem(str(error)) from error


def _plan(
    func: str | Function,
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None,
    init: str | Callable[[], object] | None,
    form: str | None,
    settings: Settings,
) -> Job:
    """Check the request; changes nothing outside this process."""
    output = None if output is None else _path(output)
    if output == "":
        raise UsageProblem("the output has no name; name a file, or - for standard output")
    path = None if output in {None, "-"} else output
    if settings.resume and path is None:
        raise UsageProblem("standard output cannot be resumed; name a file with -o")
    names = [_path(inputs)] if isinstance(inputs, str | os.PathLike) else [_path(name) for name in inputs]
    sources = find_sources(names, form)
    columns = _check_columns(sources, settings)
    make_directory_importable()
    arguments = columns if settings.by_keyword else 1
    target = _find_or_check(func, "func", arguments=arguments, stdout_is_taken=path is None)
    set_up = None if init is None else _find_or_check(init, "init", arguments=0, stdout_is_taken=path is None)
    # The output last: only an imported module tells which file it came from.
    programs = [one.file for one in (target, set_up) if isinstance(one, FunctionRef) and one.file is not None]
    check_output(path, sources, programs)
    notes = [one for one in (settings.joblog, settings.trace) if one is not None]
    beside = [] if path is None or not _may_be_a_file(path) else [job_path(path)]
    check_notes([*beside, *notes], path, sources, programs)
    then = read_job(path) if path is not None and beside else None  # what is no job's is not ours to replace
    retries = None if settings.retry_on is None else find_exceptions(settings.retry_on, target)
    if not settings.retries:
        retries = ()
    call = Call(target, settings.by_keyword, settings.with_input, retries)
    program, init_program = Program.of(target), None if set_up is None else Program.of(set_up)
    seed = _find_seed(settings, then)
    file = JobFile(program, init_program, settings.by_keyword, settings.id_field, names, seed)
    return Job(call, set_up, sources, path, file)


def _find_seed(settings: Settings, then: JobFile | None) -> int | None:
    """The seed that was given; else that of the job which is gone on with; else, where one is needed, a new one."""
    if settings.seed is not None:
        return settings.seed
    if settings.resume and then is not None and then.seed is not None:
        return then.seed
    return None if settings.sample is None and not settings.shuffle else random.getrandbits(32)  # no secret


def _check_columns(sources: Sequence[Source], settings: Settings) -> list[str] | None:
    """The columns that all tables have, where that is known.  Raises `UsageProblem` for what cannot come of them."""
    texts = [source.name for source in sources if source.form == "text"]
    if texts and (settings.by_keyword or settings.id_field):
        option = "--kwargs" if settings.by_keyword else "--id-field"
        raise UsageProblem(
            f"{texts[0]}: its lines are text and have no fields, which {option} needs; use .jsonl, .csv or .tsv, or say --format"
        )
    known: list[str] | None = None
    for source in sources:
        columns = find_columns(source)
        if columns is None:
            continue
        known = columns
        if settings.id_field is not None and settings.id_field not in columns:
            raise UsageProblem(
                f"{source.name}: has no column {settings.id_field!r}, but {', '.join(columns)}; name one of these with --id-field"
            )
    return known


def _find_or_check(
    function: str | Function, role: str, *, arguments: int | list[str] | None, stdout_is_taken: bool
) -> FunctionRef | Function:
    """*function* in the form that workers take; raises `UsageProblem`."""
    if isinstance(function, str):
        return find_function(function, arguments=arguments, stdout_is_taken=stdout_is_taken)
    check_function(function, getattr(function, "__name__", role), arguments=arguments)
    return function


def _path(name: str | os.PathLike[str]) -> str:
    """A file's name as text.  Raises `UsageProblem` for what is none."""
    try:
        return os.fsdecode(os.fspath(name))
    except TypeError as error:
        raise UsageProblem(f"{name!r} is not the name of a file; write a str or a Path") from error


def _may_be_a_file(path: str) -> bool:
    """Whether *path* is a file, or nothing yet: not a device or a pipe, beside which nothing is put."""
    return os.path.isfile(path) or not os.path.exists(path)


def _mark_done(output: str, settings: Settings, identities: Identities) -> tuple[int, int, int]:
    """Mark what *output* holds as done; how many have a result, how many have none, and where the last record ends."""
    end = failed = ok = 0
    try:
        for entry in look_back(output):
            end = entry.end
            ok, failed = ok + entry.ok, failed + (not entry.ok)
            if entry.ok or not settings.retry_failed:
                identities.mark_done(entry.id, given=settings.id_field is not None)
    except UsageProblem:
        raise
    except ValueError as error:
        problem = f"{output}: {error}; was it written with --id-field? Say the same, or --overwrite it"
        raise UsageProblem(problem) from error
    return ok, failed, end


def _go_on(job: Job, settings: Settings, out: Output, identities: Identities, summary: Summary) -> bool:
    """Take up what *out* holds: mark what is done, cut off what was never finished; whether failures are to be dropped.

    Raises `UsageProblem` where it is not this job's, and `JobStopped` where it cannot be read or mended.
    """
    assert job.output is not None
    check_same(job.output, read_job(job.output), job.file, force=settings.force)
    try:
        ok, failed, end = _mark_done(job.output, settings, identities)
        out.mend(end)
    except OSError as error:
        raise JobStopped(f"cannot go on with {job.output}: {error.strerror}; it is as it was") from error
    again = settings.retry_failed and failed > 0
    summary.failed_before = 0 if again else failed
    summary.before = ok + summary.failed_before
    return again


def _choose(job: Job, settings: Settings, identities: Identities) -> Iterable[Item]:
    """The inputs to run, in this order."""
    items: Iterable[Item]
    if settings.sample is None:
        items = read_items(job.sources, identities, settings.id_field)
    else:  # of all, whether they are done or not: what is gone on with is that sample
        sampled = selection.sample(read_items(job.sources, id_field=settings.id_field), settings.sample, job.file.seed)
        given = settings.id_field is not None
        items = (item for item in sampled if not identities.is_done(item.id, given=given))
    if settings.shuffle:
        items = selection.shuffle(items, job.file.seed)
    return items


def _cannot_start(error: InitializerError, job: Job) -> JobStopped:
    """Why there are no workers, and what to do: that depends on who could not do what."""
    cause = error.__cause__
    if isinstance(cause, SetUpFailed):
        place = "what FUNC's module does when a worker imports it" if cause.importing else "the function of --init"
        return JobStopped(f"the workers cannot start: {cause.kind}: {cause.message}".rstrip(": ") + f"; mend {place}")
    if isinstance(cause, _NotGuarded):
        return JobStopped(str(cause))
    if isinstance(cause, AttributeError) and (missing := _MISSING.search(str(cause))):
        init = getattr(job.init, "__name__", "")
        who = f"--init ({init}) or FUNC ({job.call.__name__})" if init else f"FUNC ({job.call.__name__})"
        return JobStopped(
            f"the workers do not find {missing[1]!r} in this script, which {who} needs; define it at the top level of the "
            'script, outside of `if __name__ == "__main__":`, or in a module'
        )
    if isinstance(cause, OSError):
        problem = f"the system gives no processes: {cause.strerror}; ask for fewer with --jobs, or look at `ulimit -a`"
        return JobStopped(problem)
    what = "FUNC's module" if job.init is None else "FUNC's module and the function of --init"
    return JobStopped(f"{str(error).partition(';')[0]}; run {what} by hand to see why")


def _ignore(_summary: Summary) -> None:
    """No progress was asked for."""
