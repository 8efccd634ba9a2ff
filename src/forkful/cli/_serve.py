"""``forkful serve``."""

from __future__ import annotations

import logging
import sys
import tomllib
from typing import Any

import click

from forkful.apps.functions import make_directory_importable
from forkful.apps.problems import UsageProblem
from forkful.errors import EngineUnavailable, ServerError
from forkful.server import Server

from ._exit import Exit
from ._values import Count, Duration, Range

__all__ = ["command"]

_ARGUMENT = "handler"


def _read_config(ctx: click.Context, _param: click.Parameter, path: str | None) -> None:
    """Have what stands in the file be the defaults of the options: what is on the command line goes before it."""
    if path is None:
        return
    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise UsageProblem(f"cannot read {path}: {error.strerror}; check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageProblem(f"{path} is not TOML: {error}; see https://toml.io") from error
    known = {param.opts[0].removeprefix("--"): param.name for param in ctx.command.params if param.name != "config"}
    values = {key.replace("_", "-"): value for key, value in values.items()}
    if unknown := sorted(set(values) - set(known)):
        raise UsageProblem(f"{path}: there is no option {unknown[0]!r}; there are {', '.join(sorted(known))}")
    for key, value in values.items():
        if isinstance(value, dict) or (isinstance(value, list) and key != "bind"):
            raise UsageProblem(f"{path}: {key} must be one value, not {value!r}")
    if isinstance(values.get("bind"), str):
        values["bind"] = [values["bind"]]
    ctx.default_map = {**(ctx.default_map or {}), **{str(known[key]): value for key, value in values.items()}}


@click.command(name="serve", options_metavar="[OPTIONS]")
@click.argument(_ARGUMENT, metavar="HANDLER", required=False)
@click.option("--bind", metavar="ADDRESS", multiple=True, help="HOST:PORT, [IPV6]:PORT, :PORT, unix:/PATH or fd:N; may be given more than once.  [default: 127.0.0.1:8000]")  # fmt: skip
@click.option("--wsgi", is_flag=True, help="HANDLER is a WSGI application, such as a Flask or Django one.")
@click.option("--processes", type=Range(), default="1", metavar="N|MIN:MAX", help="Worker processes; between two bounds as the load needs.  [default: 1]")  # fmt: skip
@click.option("--threads", type=Count(), default=1, metavar="N", help="Connections that each process serves at once.  [default: 1]")  # fmt: skip
@click.option("--spare", type=Count(), default=1, metavar="N", help="Idle threads, of all, below which a process is added.  [default: 1]")  # fmt: skip
@click.option("--idle-timeout", type=Duration(), default="10s", help="How long a process must have been needless before it leaves.  [default: 10s]")  # fmt: skip
@click.option("--timeout", type=Duration(), help="How long one request may take: 30s, 5m.  [default: as it likes]")
@click.option("--io-timeout", type=Duration(), help="How long a single read or write may take.  [default: as it likes; with --wsgi 30s]")  # fmt: skip
@click.option("--head-timeout", type=Duration(), default="10s", help="How long a client has for the TLS handshake, and for the head of a request.  [default: 10s]")  # fmt: skip
@click.option("--keepalive", type=Duration(), default="5s", help="How long an HTTP connection may stay without a request.  [default: 5s]")  # fmt: skip
@click.option("--drain-timeout", type=Duration(), default="30s", help="How long a process that is to leave may go on with what it serves.  [default: 30s]")  # fmt: skip
@click.option("--max-requests", type=Count(), metavar="N", help="Replace a process after so many requests.")
@click.option("--max-requests-jitter", type=Count(), default=0, metavar="N", help="Up to so many more, by chance.")
@click.option("--max-memory", metavar="SIZE", help="Replace a process that holds more: 500MB.")
@click.option(
    "--max-body", metavar="SIZE", help="Refuse HTTP requests with a larger body.  [default: there is no limit]"
)
@click.option("--backlog", type=Count(), default=1024, metavar="N", help="Connections that may wait for a free thread.  [default: 1024]")  # fmt: skip
@click.option("--certfile", metavar="PEM", help="The certificate, for TLS.")
@click.option("--keyfile", metavar="PEM", help="Its key, if that is not in the same file.")
@click.option("--cafile", metavar="PEM", help="Who may sign certificates of clients, which then need one.")
@click.option("--script-name", default="", metavar="PATH", help="The path that the application is at.")
@click.option(
    "--access-log", type=click.Choice(["common", "combined", "json"]), help="Print a line for each HTTP request."
)
@click.option("--status-bind", "status", metavar="ADDRESS", help="Show there what the server does: a page, /status.json, and /metrics for Prometheus.")  # fmt: skip
@click.option("--config", metavar="FILE.toml", is_eager=True, expose_value=False, callback=_read_config, help='Options from a file: bind = ":8080", max-requests = 1000.')  # fmt: skip
def command(handler: str | None, bind: tuple[str, ...], **options: Any) -> int:
    """Serve HANDLER with worker processes that are looked after.

    HANDLER is module:name or path/to/file.py:name: a function handler(conn, address), a handler class of socketserver, or,
    with --wsgi, an application.  A connection is taken by a thread that is free; the rest wait in the kernel's queue.

    \b
    Examples:
      forkful serve echo.py:handle --bind 127.0.0.1:8080 --processes 2:8 --threads 16
      forkful serve --wsgi shop:app --bind :8000 --processes 4 --threads 8 --access-log common
      forkful serve --wsgi shop:app --bind :443 --certfile cert.pem --keyfile key.pem --timeout 30s
      forkful serve --config server.toml

    \b
    Signals to the process that was started:
      SIGTERM, Ctrl-C  serve what is there and what is queued, and end; a second one: end at once
      SIGQUIT          end at once
      SIGHUP           replace all workers, one at a time; code and certificates are loaded anew
      SIGUSR2          start forkful anew, with the same sockets, and end once that is ready
      SIGTTIN, SIGTTOU one worker more, one fewer

    \b
    Exit codes:
      0  it has ended because it was told to
      2  it could not begin: the address, HANDLER, the certificate or an option
    """  # noqa: D301  # \b tells click to leave the lines that follow as they are
    if handler is None:
        raise UsageProblem("missing argument 'HANDLER'; write module:name or path/to/file.py:name")
    if options["wsgi"] and options["io_timeout"] is None:
        options["io_timeout"] = 30.0
    make_directory_importable()
    _print_logs()
    try:
        Server(handler, list(bind) or "127.0.0.1:8000", **options).run()
    except (ServerError, EngineUnavailable, ValueError, TypeError) as error:
        raise UsageProblem(str(error)) from error
    return Exit.OK


def _print_logs() -> None:
    """The server's words go to standard error, all of them; its access log goes to standard output by itself."""
    logger = logging.getLogger("forkful.server")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("forkful: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
