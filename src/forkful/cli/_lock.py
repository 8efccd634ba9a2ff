"""``forkful lock``."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from typing import Any

import click
from click.shell_completion import CompletionItem

from forkful.apps.problems import UsageProblem, one_line
from forkful.apps.spellings import parse_duration
from forkful.errors import EngineUnavailable, LockError
from forkful.locks import RWLock
from forkful.locks._ancestors import waits_for_us
from forkful.locks._shell import Listed, acquire, descriptor_of, list_locks

from ._command import end_likewise, run_command
from ._console import say
from ._exit import Exit
from ._values import Duration

__all__ = ["command"]

_HEADINGS = ("LOCK", "PID", "SINCE", "WAITERS", "COMMAND")


class _Command(click.Command):
    """One with a command line behind ``--``, of which nothing is taken for an option of ours: ``make -n``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.obj = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)


class _Wait(Duration):
    """A time, more than none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(f"{error}, or say --no-wait", param, ctx)


class _Code(click.ParamType[int]):
    """An exit code."""

    name = "n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).strip()
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) < 256):
            self.fail(f"{text[:20]!r} is not an exit code; write a number from 0 to 255", param, ctx)
        return int(text)


def _complete(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[CompletionItem]:
    names = [listed.name for listed in list_locks() if listed.name and listed.name.startswith(begun)]
    return [*map(CompletionItem, names), CompletionItem(begun, type="file")]


@click.command(name="lock", cls=_Command, options_metavar="[OPTIONS]")
@click.argument("name", metavar="NAME", required=False, shell_complete=_complete)
@click.argument("stray", metavar="-- COMMAND...", nargs=-1)
@click.option("-w", "--timeout", type=_Wait(), help="Wait so long for the lock: 30s, 5m.  [default: as it takes]")
@click.option("-n", "--no-wait", is_flag=True, help="Do not wait at all.")
@click.option("-s", "--shared", is_flag=True, help="Share it with others who say so too; only who does not is alone.")
@click.option(
    "-E",
    "--conflict-exit-code",
    "conflict",
    type=_Code(),
    default=int(Exit.FAILED),
    metavar="N",
    help="The exit code when the lock was not had in time.  [default: 1]",
)
@click.option(
    "-o", "--close", is_flag=True, help="Keep the lock from COMMAND: if forkful is killed, it is free at once."
)
@click.option("--list", "listing", is_flag=True, help="Show who holds your locks on this machine, and who waits.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.pass_obj
def command(words: list[str] | None, /, name: str | None, stray: tuple[str, ...], **options: Any) -> int:
    """Run COMMAND while holding the lock NAME, so that of all who name it one runs at a time.

    NAME without a slash is a name, for all programs of yours on this machine that use it: the same lock as Lock("NAME") in
    Python.  NAME with a slash is a file, which is made if need be and never removed: the same lock as flock(1)'s on that
    file.  A URL (redis://, postgresql://) is a lock for many machines.

    The lock is held until COMMAND has ended, and is free when that or this program dies, however it dies.  When forkful is
    killed alone (kill -9), COMMAND goes on and keeps the lock to its end, with --close it does not.  What COMMAND leaves
    running in the background does not keep it.  When the holder before ended while it held it, standard error says so:
    what the lock protects may be half done.

    \b
    Examples:
      forkful lock backup -- rsync -a src/ dest/
      forkful lock nightly --no-wait -- ./nightly.sh             in a crontab: not twice at a time
      forkful lock ./stock.lock --timeout 30s -- python sell.py  the same lock as `flock stock.lock`
      forkful lock index --shared -- grep needle index.txt       beside other readers
      forkful lock --list

    SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to COMMAND.  If it dies of SIGINT or SIGQUIT, so
    does forkful, once the lock is given back.

    \b
    Exit codes:
      COMMAND's own, or 128 + the signal that ended it; else
        1  the lock was not had in time (see -E), or was lost while COMMAND ran
        2  it was asked for wrongly, or the lock cannot be had at all: nothing was started
      126  COMMAND cannot be started
      127  there is no such COMMAND
      130  interrupted by Ctrl-C before COMMAND was started
    """  # noqa: D301  # \b tells click to leave the lines that follow as they are
    listing, as_json = options.pop("listing"), options.pop("as_json")
    if listing:
        if name is not None or words:
            raise UsageProblem("--list shows all locks; leave NAME and COMMAND out")
        print_locks(as_json=as_json)
        return Exit.OK
    if as_json:
        raise UsageProblem("--json is a form of --list; say both")
    if name is None:
        raise UsageProblem("missing argument 'NAME'; see `forkful lock --help`")
    if stray:
        raise UsageProblem(f"the command stands behind two dashes; write forkful lock {name} -- {' '.join(stray)}")
    if not words:
        raise UsageProblem("missing argument 'COMMAND...'; write it behind two dashes: forkful lock NAME -- COMMAND")
    if options["no_wait"] and options["timeout"] is not None:
        raise UsageProblem("--no-wait and --timeout contradict each other; say one of them")
    return _run(name, words, **options)


def _run(
    name: str, words: list[str], *, timeout: float | None, no_wait: bool, shared: bool, conflict: int, close: bool
) -> int:
    lock = _open(name)
    side = lock.read() if shared else lock.write()
    try:
        had = acquire(lock, 0, shared=shared)
        if not had and not no_wait:
            _refuse_for_ever(lock)
            had = acquire(lock, timeout, shared=shared)
        if not had:
            holder = lock.holder()
            state = "is not free" if no_wait else f"was not free within {timeout:g} s"
            who = "" if holder is None else f": {holder.describe()} has it"
            say(_printable(f"forkful: lock {lock.name!r} {state}{who}; nothing was run"))
            return conflict
    except (LockError, EngineUnavailable) as error:
        raise _problem(error) from error
    try:
        if lock.recovered:
            say(
                _printable(
                    f"forkful: the holder before ended while it held lock {lock.name!r}; what it protects may be half done"
                )
            )
        code = run_command(words, None if close else descriptor_of(lock))
    except BaseException:
        side.release()
        raise
    try:
        side.release()
    except LockError as error:
        say(f"forkful: {one_line(str(error))}")
        code = code or Exit.FAILED
    return end_likewise(code)


def _refuse_for_ever(lock: RWLock) -> None:
    """It is not free: see to it that who has it does not wait for us."""
    holder = lock.holder()
    if holder is not None and holder.host == socket.gethostname() and waits_for_us(holder.pid):
        raise UsageProblem(
            _printable(
                f"lock {lock.name!r} can never be had: {holder.describe()} has it, and waits for the end of this command; "
                f"leave the inner `forkful lock` out, or name another lock"
            )
        )


def _open(name: str) -> RWLock:
    """The lock that is meant: unlike in Python, any slash makes it a file, as a path in a shell."""
    try:
        if "/" in name and "://" not in name and not name.startswith("~"):
            name = os.path.abspath(name)
        return RWLock(name)
    except FileNotFoundError as error:  # of the one that a relative path starts from
        raise UsageProblem("the working directory was removed; change to another one") from error
    except (ValueError, LockError, EngineUnavailable) as error:
        raise _problem(error) from error


def _problem(error: Exception) -> UsageProblem:
    """What is wrong; what to do: servers say the former only."""
    text = one_line(str(error))
    return UsageProblem(text if "; " in text else f"{text}; see that the server runs, and that this is its URL")


def print_locks(*, as_json: bool) -> None:
    """Print every lock that is held or waited for, as a table or as JSON."""
    locks = list_locks()
    if as_json:
        click.echo(json.dumps([_as_json(listed) for listed in locks], indent=2))
        return
    if not locks:
        say("forkful: nobody holds a lock, or waits for one")
        return
    rows = [_HEADINGS, *map(_as_row, locks)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS) - 1)]
    room = shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None
    for *cells, last in rows:
        line = "  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), last])
        click.echo(line[:room])


def _as_row(listed: Listed) -> tuple[str, ...]:
    holder = listed.holder
    if holder is None:
        return _printable(listed.name or "(anonymous)"), "-", "-", str(len(listed.waiters)), "-"
    since = "-" if holder.since is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.since))
    stopped = " (stopped)" if holder.stopped else ""
    name = _printable(listed.name or "(anonymous)")
    return name, str(holder.pid or "?"), since, str(len(listed.waiters)), _printable(holder.command or "-") + stopped


def _as_json(listed: Listed) -> dict[str, Any]:
    return {
        "lock": listed.name or None,
        "holder": None if listed.holder is None else listed.holder._asdict(),
        "waiters": [waiter._asdict() for waiter in listed.waiters],
    }


def _printable(text: str) -> str:
    """*text* without what a terminal obeys: a command line may hold anything."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
