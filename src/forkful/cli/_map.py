"""``forkful map``."""

from __future__ import annotations

from typing import Any

import click

from forkful.apps.mapping import Control, list_inputs, map_file, read_status
from forkful.apps.mapping.inputs import show
from forkful.apps.problems import UsageProblem

from ._console import say
from ._exit import Exit
from ._progress import watching
from ._report import print_report, report_status
from ._signals import Steering
from ._values import Count, Duration, Jobs, Timeout

__all__ = ["command"]


@click.command(name="map", options_metavar="[OPTIONS]")
@click.argument("func", metavar="FUNC", required=False)
@click.argument("inputs", metavar="INPUTS...", nargs=-1)
@click.option("-o", "--output", metavar="OUT", help="The file for the records; by default, or with -, standard output.")
@click.option(
    "-j", "--jobs", type=Jobs(), help="Worker processes, or a share of the CPUs.  [default: one for each CPU]"
)
@click.option(
    "--threads",
    type=Count(),
    default=1,
    metavar="N",
    help="Inputs that each process works on at once, for work that waits.",
)
@click.option("--timeout", type=Timeout(), help="How long one attempt may take: 30s, 5m, or 300% of the median.")
@click.option(
    "--retries",
    type=Count(),
    default=0,
    metavar="N",
    help="Try an input N more times after an exception, a crash or a timeout.",
)
@click.option("--backoff", type=Duration(), help="Wait so long before the second attempt, and twice as long each time.")
@click.option(
    "--retry-on",
    metavar="NAME",
    multiple=True,
    help="Exceptions that are worth another attempt; by default all.  A crash and a timeout always are.",
)
@click.option(
    "--halt",
    metavar="WHEN",
    help="Stop early: now,fail=1 ends what runs; soon,fail=10% lets it end; also success=N, done=N; never.",
)
@click.option("--max-memory", metavar="SIZE", help="Replace a worker that holds more between two inputs: 500MB.")
@click.option("--init", metavar="FUNC", help="A function each worker calls once, without arguments, before it begins.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "jsonl", "csv", "tsv"]),
    help="What the inputs hold.  [default: as they are named; else text]",
)
@click.option(
    "--kwargs", is_flag=True, help="Pass the fields of an object, or the columns of a row, as keyword arguments."
)
@click.option(
    "--id-field", metavar="FIELD", help="The field or column that names an input.  [default: its content does]"
)
@click.option("--resume", is_flag=True, help="Go on where an earlier run ended, however it ended.")
@click.option("--retry-failed", is_flag=True, help="The same, and try those again that failed.")
@click.option("--force", is_flag=True, help="Resume also when the function is another one, or has changed.")
@click.option("--overwrite", is_flag=True, help="Replace OUT when there is something in it.")
@click.option("-k", "--keep-order", is_flag=True, help="Write the records in the order of the inputs.")
@click.option(
    "--sample", type=Count(), metavar="N", help="Run only N inputs, by chance; with --resume, what is left of these."
)
@click.option("--shuffle", is_flag=True, help="Run the inputs in an order by chance.")
@click.option("--seed", type=Count(), metavar="N", help="The same seed, the same sample and order.")
@click.option("--no-input", is_flag=True, help="Leave the inputs out of the records.")
@click.option("--joblog", metavar="FILE", help="Write a line for each input, in the columns of GNU parallel.")
@click.option("--trace", metavar="FILE", help="Write what ran when and where, for chrome://tracing or ui.perfetto.dev.")
@click.option("--logs", metavar="DIR", help="Write what FUNC prints to DIR/ID.out and DIR/ID.err.")
@click.option(
    "--fsync",
    type=click.Choice(["end", "always", "never"]),
    default="end",
    help="When records are safe from a loss of power too.  [default: end]",
)
@click.option("--progress/--no-progress", default=None, help="Show how far it is.  [default: on a terminal]")
@click.option("--dry-run", is_flag=True, help="Print the inputs that would be run, and run none.")
@click.option("--status", metavar="OUT", help="Tell how far the job is that writes OUT, or how it ended.")
def command(func: str | None, inputs: tuple[str, ...], *, status: str | None, dry_run: bool, **options: Any) -> int:
    """Call FUNC with each input in worker processes, and write one line of JSON for each as it is done.

    FUNC is module:function or path/to/file.py:function; modules of the working directory can be named.

    INPUTS are files, quoted patterns of files, or - for standard input, read as a stream.  FUNC gets each line as a str
    without its newline; from *.jsonl, the value that the line holds; from *.csv and *.tsv, each row as a dict, or, with
    --kwargs, as keyword arguments.  Files named *.gz and *.zst are unpacked.

    A record is {"id", "input", "ok", "result" or "error", "attempts", "pid", "started", "seconds"}.  An input that
    fails, hangs beyond --timeout, or takes its whole process down is one record with "ok": false; the rest goes on.

    --resume leaves out the inputs that have a record: after an error, Ctrl-C, kill -9 or a loss of power.  They are known
    by their content, so lines may be added, removed and moved about meanwhile.  It is refused when FUNC's file has changed.
    Keep OUT.job, which stands beside OUT and tells what wrote it.

    \b
    Examples:
      forkful map mymodule:work inputs.txt -o results.jsonl
      forkful map tools/score.py:score 'data/*.jsonl' -o scores.jsonl -j 50% --timeout 30s --retries 2 --backoff 1s
      forkful map tools/score.py:score 'data/*.jsonl' -o scores.jsonl --resume
      forkful map shop.py:price items.csv.gz --kwargs --id-field sku -o prices.jsonl --halt soon,fail=10%
      find . -name '*.py' | forkful map examples/census.py:census - | jq -c 'select(.ok) | .result'
      forkful map --status results.jsonl

    \b
    Signals:
      Ctrl-C, SIGTERM, SIGHUP   finish what runs and start nothing more; once more ends what runs
      SIGUSR1, SIGUSR2          one worker process more, one fewer

    \b
    Exit codes:
        0  every input has a result
        1  some failed, or the job could not go on: the records and standard error tell;
           or nobody reads standard output any more, as with `| head`: then nobody is told
        2  it was asked for wrongly: nothing was started, nothing written
        3  halted, as --halt asked for
      130  interrupted by Ctrl-C (143 by SIGTERM, 129 by SIGHUP): what is written is whole, --resume goes on
    """  # noqa: D301  # \b tells click to leave the lines that follow as they are
    if status is not None:
        if func is not None:
            raise UsageProblem("--status tells of a job that was started before; leave FUNC and INPUTS out")
        click.echo("\n".join(report_status(read_status(status))))
        return Exit.OK
    if func is None or not inputs:
        raise UsageProblem(f"missing argument {'FUNC' if func is None else 'INPUTS...'!r}; see `forkful map --help`")
    if dry_run:
        return _print_inputs(func, inputs, options)
    return _run(func, inputs, options)


def _run(func: str, inputs: tuple[str, ...], options: dict[str, Any]) -> int:
    output, progress = options.pop("output"), options.pop("progress")
    names = [name.strip() for one in options.pop("retry_on") for name in one.split(",")]
    control = Control()
    with Steering(control) as steering, watching(progress, records_on_stdout=output in {None, "-"}) as watcher:
        summary = map_file(
            func,
            inputs,
            output,
            processes=options.pop("jobs"),
            format=options.pop("form"),
            with_input=not options.pop("no_input"),
            retry_on=names or None,
            progress=watcher,
            control=control,
            **options,
        )
    print_report(summary)
    if summary.interrupted:
        return 128 + steering.signal if steering.signal is not None else Exit.INTERRUPTED
    if summary.halted is not None:
        return Exit.HALTED
    return Exit.FAILED if summary.failed or summary.failed_before else Exit.OK


def _print_inputs(func: str, inputs: tuple[str, ...], options: dict[str, Any]) -> int:
    wanted = ("kwargs", "id_field", "resume", "retry_failed", "sample", "shuffle", "seed")
    count = 0
    for item in list_inputs(
        func, inputs, options["output"], format=options["form"], **{name: options[name] for name in wanted}
    ):
        click.echo(f"{item.id}\t{show(item.raw)}")
        count += 1
    say(f"forkful: {count:,} inputs would be run; nothing was")
    return Exit.OK
