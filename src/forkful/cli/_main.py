"""The group of commands, and the one place where errors become a line on stderr and an exit code."""

from __future__ import annotations

import errno
import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from forkful import __version__
from forkful.apps.problems import JobStopped, OutputClosed, UsageProblem, one_line
from forkful.errors import ForkfulError

from ._console import say, silence
from ._exit import Exit

__all__ = ["run"]

# name: (module, what it does).  A command's module is imported when it is asked for, so that help comes at once.
_COMMANDS = {
    "map": ("._map", "Run a Python function over files of inputs, one JSON line for each."),
    "lock": ("._lock", "Run a command under a lock, so that one runs at a time."),
    "serve": ("._serve", "Serve connections, or a WSGI application, with supervised worker processes."),
    "completion": ("._completion", "Print a script that completes commands and options in your shell."),
}

# What the system says when standard output takes nothing.  What else a command writes, it looks after itself.
_CANNOT_PRINT = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class _Commands(click.Group):
    """A group whose commands are imported late."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(_COMMANDS[cmd_name][0], __package__).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"forkful {__version__}")
        ctx.exit()


@click.group(
    cls=_Commands,
    no_args_is_help=False,  # no command is a usage error as any other: one line
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def _forkful() -> None:
    """Processes that do not hang, from the shell.

    \b
    Examples:
      forkful map mymodule:work inputs.txt -o results.jsonl
      forkful map tools/score.py:score 'data/*.jsonl' -o scores.jsonl -j 50% --timeout 30s --retries 2
      find . -name '*.py' | forkful map examples/census.py:census - -o census.jsonl
      forkful lock nightly --no-wait -- ./nightly.sh
      forkful serve --wsgi shop:app --bind :8000 --processes 2:8 --threads 16

    `forkful COMMAND --help` tells more.
    """  # noqa: D301  # \b tells click to leave the lines that follow as they are


def run(argv: Sequence[str] | None) -> int:
    """Run the command line *argv* (None: the process's own); returns the exit code, whatever the user has done."""
    try:
        code: Any = _forkful.main(args=argv, prog_name="forkful", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.UsageError as error:
        return _complain(_explain(error, sys.argv[1:] if argv is None else argv), Exit.USAGE)
    except UsageProblem as problem:
        return _complain(str(problem), Exit.USAGE)
    except (OutputClosed, BrokenPipeError):
        silence(1)
        return Exit.FAILED
    except JobStopped as stop:
        return _complain(f"{stop} ({stop.done} inputs were done)", Exit.FAILED)
    except ForkfulError as error:
        return _complain(str(error), Exit.FAILED)
    except (KeyboardInterrupt, click.Abort):
        return _complain("interrupted; start it again when you like", Exit.INTERRUPTED)
    except OSError as error:
        if error.errno not in _CANNOT_PRINT:
            raise
        silence(1)
        return _complain(f"cannot print: {error.strerror}; send standard output elsewhere", Exit.FAILED)
    return code if isinstance(code, int) else Exit.OK


def _complain(message: str, code: Exit) -> Exit:
    say(f"forkful: {one_line(message)}")
    return code


def _explain(error: click.UsageError, argv: Sequence[str]) -> str:
    """Click's message in our form: what is wrong; what to do."""
    close = getattr(error, "possibilities", None)
    message = one_line(error.message if close else error.format_message()).rstrip(".")
    if isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter) and error.param:
        option = max(error.param.opts, key=len)
        message = f"{option}: {one_line(error.message).rstrip('.')}"
    message = message[:1].lower() + message[1:]
    if close:
        return f"{message}; did you mean {' or '.join(map(repr, sorted(close)))}?"
    if "; " in message:
        return message
    command = next((word for word in argv if word in _COMMANDS), None)
    return f"{message}; see `forkful{f' {command}' if command else ''} --help`"
