"""``forkful map``."""

from __future__ import annotations

import click

from forkful.apps.mapping import map_file

from ._exit import Exit
from ._progress import watching
from ._report import print_report
from ._values import Count, Duration, Jobs

__all__ = ["command"]


@click.command(name="map", options_metavar="[OPTIONS]")
@click.argument("func", metavar="FUNC")
@click.argument("inputs", metavar="INPUTS...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="OUT", help="The file for the records; by default, or with -, standard output.")
@click.option(
    "-j", "--jobs", type=Jobs(), help="Worker processes, or a share of the CPUs.  [default: one for each CPU]"
)
@click.option("--timeout", type=Duration(), help="How long one attempt may take: 30s, 5m, or seconds.")
@click.option(
    "--retries",
    type=Count(),
    default=0,
    metavar="N",
    help="Try an input N more times after an exception, a crash or a timeout.",
)
@click.option("--init", metavar="FUNC", help="A function each worker calls once, without arguments, before it begins.")
@click.option("--progress/--no-progress", default=None, help="Show how far it is.  [default: on a terminal]")
@click.option("--overwrite", is_flag=True, help="Replace OUT when there is something in it.")
def command(
    func: str,
    inputs: tuple[str, ...],
    output: str | None,
    jobs: int | None,
    timeout: float | None,
    retries: int,
    init: str | None,
    progress: bool | None,
    overwrite: bool,
) -> int:
    """Call FUNC with each input in worker processes, and write one line of JSON for each as it is done.

    FUNC is module:function or path/to/file.py:function; modules of the working directory can be named.

    INPUTS are files, quoted patterns of files, or - for standard input.  Each line is an input: FUNC gets it as a str
    without its newline, or, from a file named *.jsonl, as the value that it holds.  Files are read as a stream.

    A record is {"id", "input", "ok", "result" or "error", "attempts", "pid", "started", "seconds"}.  An input that
    fails, hangs beyond --timeout, or takes its whole process down is one record with "ok": false; the rest goes on.

    \b
    Examples:
      forkful map mymodule:work inputs.txt -o results.jsonl
      forkful map tools/score.py:score 'data/*.jsonl' -o scores.jsonl -j 50% --timeout 30s --retries 2
      find . -name '*.py' | forkful map examples/census.py:census - | jq -c 'select(.ok) | .result'

    \b
    Exit codes:
        0  every input has a result
        1  some failed, or the job could not go on: the records and standard error tell;
           or nobody reads standard output any more, as with `| head`: then nobody is told
        2  it was asked for wrongly: nothing was started, nothing written
      130  interrupted by Ctrl-C: what is written is whole
    """  # noqa: D301  # \b tells click to leave the lines that follow as they are
    with watching(progress, records_on_stdout=output in {None, "-"}) as watcher:
        summary = map_file(
            func,
            inputs,
            output,
            processes=jobs,
            timeout=timeout,
            retries=retries,
            init=init,
            overwrite=overwrite,
            progress=watcher,
        )
    print_report(summary)
    if summary.interrupted:
        return Exit.INTERRUPTED
    return Exit.FAILED if summary.failed else Exit.OK
