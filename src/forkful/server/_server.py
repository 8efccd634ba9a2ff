"""`Server` and `serve`: a handler, an address, and a master that sees to the rest."""

from __future__ import annotations

import os
import signal
import socketserver
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self

from .._core import bootstrap
from .._core.quantities import check_memory
from ._address import parse_address
from ._events import Began, Event, Reloaded, Reloading, Say, Stopping, Upgrade
from ._facts import Facts
from ._listeners import BACKLOG, Listener, open_listener
from ._master import SIGNALS, Master
from ._options import check_secure, make_trade, parse_addresses
from ._report import News, report
from ._requests import Limits
from ._running import STARTED_SIGNALS, Running
from ._settings import check_seconds, check_settings
from ._source import Handler, Source
from ._succession import STATUS, announce, claim
from ._systemd import notify, reloading, take_listeners, watchdog_limit

__all__ = ["Server", "serve"]

GRACE = 2.0
"""Seconds beyond ``drain_timeout`` that the master gets to end in, before it is killed."""


class Server:
    """A pre-fork server: worker processes, each with threads that serve one connection at a time.

    A connection is taken by a thread that is free, and by no other; the rest wait in the kernel's queue.  Workers that
    die are replaced, more are started while there is more to do than they can serve, and none of them is ever alone
    with a lock that it could leave locked.

    Args:
        handler: ``handler(conn, address)``, a handler class of `socketserver`, a WSGI application (with *wsgi*), or
            where to import one of these: ``"module:name"`` or ``"path/to/file.py:name"``.  Only what is named can be
            loaded anew by `reload`.  The server closes the connection when the handler is done with it.
        address: ``"HOST:PORT"``, ``"[::1]:PORT"``, ``":PORT"`` for all interfaces, ``"unix:/path"``, ``"fd:N"``, a
            pair of host and port, or several of these in a list.  Port 0 is any that is free; see `addresses`.  Sockets
            that systemd passes on (``LISTEN_FDS``) are taken instead.
        processes: how many workers; ``(least, most)`` for as many as the load needs.
        threads: connections that one worker serves at the same time.
        spare: idle threads in all the server, below which another worker is started, if there may be more.
        idle_timeout: seconds for which threads must have been idle before workers leave that could be done without.
        timeout: seconds that one connection may take; then the stacks of its worker are logged, the worker takes nothing
            new and is killed once nothing else is served there.  None: as long as it likes.
        io_timeout: seconds that a single read or write may take, as by ``conn.settimeout``; None: for ever.
        head_timeout: seconds that a client has for the handshake of TLS, and for the head of an HTTP request.
        drain_timeout: seconds that a worker which is to leave may go on with what it serves.
        ready_timeout: seconds that a new worker may take to import the handler.
        max_requests: after how many connections a worker is replaced; None: never.
        max_requests_jitter: up to how many more, by chance, so that they are not all replaced at once.
        max_memory: bytes, or a text such as ``"500MB"``, above which a worker is replaced; None: never.
        backlog: connections that may wait in the queue.
        certfile, keyfile: PEM files, for TLS; the key may be in the first.  `reload` takes what is there then.
        cafile: PEM file of those who may sign certificates of clients, which then need one.
        wsgi: the handler is a WSGI application, to which connections speak HTTP/1.1 (needs ``forkful[wsgi]``).  Then a
            request is what is counted above as a connection, and who has not sent one holds no thread.
        keepalive: seconds that an HTTP connection may stay without a request.
        max_head, max_body: bytes of an HTTP request, or texts such as ``"10MB"``; None: as many as come.
        script_name: the path that the application is at, such as ``"/shop"``; empty for all.
        access_log: ``"common"``, ``"combined"`` or ``"json"``: a line for each HTTP request goes to the logger
            ``forkful.access``, and to standard output where the program has not set up logging; None: there are no lines.
        status: another address, where one can see by HTTP what the server is doing: ``/`` for people, ``/status.json``, and
            ``/metrics`` for Prometheus (needs ``forkful[metrics]``).  A socket that systemd names ``forkful-status`` is
            taken instead.  Nobody is asked who they are: choose one of this machine, or of a network that may know.
            None: there is none.

    Raises:
        TypeError, ValueError: an argument cannot be.
        ServerError: from `start` and `run`: the address or the handler is not to be had.

    Example::

        def upper(conn, address):
            for line in conn.makefile("rb"):
                conn.sendall(line.upper())


        with Server(upper, "127.0.0.1:0", processes=2, threads=4) as server:
            print(server.addresses[0])
    """

    def __init__(
        self,
        handler: Handler | type[socketserver.BaseRequestHandler] | str,
        address: str | tuple[str, int] | Iterable[str | tuple[str, int]] = "127.0.0.1:8000",
        *,
        processes: int | tuple[int, int] = 1,
        threads: int = 1,
        spare: int = 1,
        idle_timeout: float = 10.0,
        timeout: float | None = None,
        io_timeout: float | None = None,
        head_timeout: float = 10.0,
        drain_timeout: float = 30.0,
        ready_timeout: float = 60.0,
        max_requests: int | None = None,
        max_requests_jitter: int = 0,
        max_memory: int | str | None = None,
        backlog: int = BACKLOG,
        certfile: str | os.PathLike[str] | None = None,
        keyfile: str | os.PathLike[str] | None = None,
        cafile: str | os.PathLike[str] | None = None,
        wsgi: bool = False,
        keepalive: float = 5.0,
        max_head: int | str = 65536,
        max_body: int | str | None = None,
        script_name: str = "",
        access_log: str | None = None,
        status: str | tuple[str, int] | None = None,
    ) -> None:
        self._settings = check_settings(
            processes=processes,
            threads=threads,
            spare=spare,
            idle_timeout=idle_timeout,
            timeout=timeout,
            drain_timeout=drain_timeout,
            ready_timeout=ready_timeout,
            max_requests=max_requests,
            max_requests_jitter=max_requests_jitter,
            max_memory=max_memory,
        )
        self._addresses = parse_addresses(address)
        self._backlog = backlog
        self._trade = make_trade(
            self._settings,
            Source(handler),
            check_secure(certfile, keyfile, cafile),
            wsgi=wsgi,
            io_timeout=None if io_timeout is None else check_seconds("io_timeout", io_timeout),
            head_timeout=check_seconds("head_timeout", head_timeout),
            keepalive=check_seconds("keepalive", keepalive),
            limits=Limits(
                head=check_memory("max_head", max_head),
                body=None if max_body is None else check_memory("max_body", max_body),
            ),
            script_name=script_name,
            access_log=access_log,
        )
        self._status = None if status is None else parse_address(status)
        self._listeners: list[Listener] = []  # that of the status address last
        self._facts: Facts | None = None
        self._running: Running | None = None

    @property
    def addresses(self) -> list[str]:
        """Where it listens; port 0 is the port that it became, once the server was started."""
        return [str(address) for address in self._addresses]

    @property
    def status_address(self) -> str | None:
        """Where one can see what it is doing; None if nowhere.  Port 0 is the port that it became, once it was started."""
        return None if self._status is None else str(self._status)

    def run(self) -> None:
        """Serve, in this process, until it is told to stop by a signal.

        SIGTERM and Ctrl-C: serve what is there and what is queued, then end; a second one, or SIGQUIT: end at once.
        SIGHUP: replace all workers, one at a time.  SIGUSR2: start this program anew, with the same sockets, and end
        once that is ready.  SIGTTIN and SIGTTOU: one worker more, or fewer.

        Raises:
            ServerError: the address, or the handler, is not to be had.
            RuntimeError: this is not the main thread, or the server is running already.
        """
        self._check_not_running()
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("a server that gets signals runs in the main thread; use start() elsewhere")
        master = self._make_master(_tell_everybody, SIGNALS)
        try:
            report(Say(f"listening at {', '.join(self.addresses)}"))
            if self._status is not None:
                report(Say(f"status at {'http://' if self._status.kind == 'tcp' else ''}{self._status}"))
            master.run()
        finally:
            master.close()
            self._listeners = []
        report(Say("ended"))

    def start(self) -> Self:
        """Serve, in processes of their own; returns when the first worker is ready.

        The master is forked from this process.  It ends with it, whatever way that is.

        Raises:
            ServerError: the address, or the handler, is not to be had.
            RuntimeError: the server is running already.
        """
        self._check_not_running()
        self._running = running = Running()
        try:
            running.start(self._make_master(running.tell, STARTED_SIGNALS))
        except BaseException:
            self._running = None
            running.kill()
            self._close_listeners()
            raise
        for listener in self._listeners:
            listener.close(keep_file=True)  # the master has them, and alone holds the port
        self._listeners = []
        return self

    def stop(self, *, at_once: bool = False) -> None:
        """End: serve what is there and what is queued, or, *at_once*, nothing more.  Nothing happens if it is not running.

        After ``drain_timeout`` what is still served is cut off.
        """
        running, self._running = self._running, None
        if running is not None:
            running.stop(signal.SIGQUIT if at_once else signal.SIGTERM, self._settings.drain_timeout + GRACE)

    def reload(self) -> None:
        """Replace all workers, one at a time: each is ready before the one that it replaces is told to leave.

        A handler that was named is imported anew.  Returns when all are new.

        Raises:
            ServerError: the handler cannot be loaded; the workers that were there serve on.
            RuntimeError: the server is not running.
        """
        if self._running is None:
            raise RuntimeError("the server is not running; call start() first")
        self._running.reload()

    def stats(self) -> dict[str, Any]:
        """What it does now, and has done.

        ``workers``: of each its ``pid``, ``generation`` (how many reloads came before it), ``age`` in seconds, and what
        its threads are at: ``busy`` and ``idle``; these two for all workers, too.  ``wanted``: how many workers there are to
        be, and ``generation`` of what generation.  ``started``: how many there have been; ``died``: those of them that
        crashed or were killed.  ``reloads``: how many have been done; ``reloads_given_up``: because of the handler.

        ``requests``: connections served; ``failed``: those of them whose handler raised.
        ``seconds``: how long they took, together; ``durations``: how many took at most so many seconds, as pairs, the
        last with None for any time.  ``queued``: connections that wait to be accepted; None: the system does
        not say.  ``pid``: the master's; ``uptime``: seconds since it began.

        Raises:
            RuntimeError: the server has never been started.
        """
        if self._facts is None:
            raise RuntimeError("the server has not been started")
        return self._facts.stats()

    def __enter__(self) -> Self:
        if self._running is None:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(at_once=kind is not None)

    def __del__(self) -> None:
        running = getattr(self, "_running", None)
        if running is not None and running.is_ours():
            warnings.warn(
                f"a server at {self.addresses[0]} was never stopped", ResourceWarning, stacklevel=2, source=self
            )
            running.kill()

    def _check_not_running(self) -> None:
        if self._running is not None or self._listeners:
            raise RuntimeError("the server is running already")

    def _make_master(self, tell: Callable[[News], None], signals: Mapping[int, Event | Upgrade]) -> Master:
        bootstrap.fill_standard_streams()  # else the next descriptor that is opened is what a handler prints to
        try:
            passed, status = self._take_passed()
            if passed:
                self._listeners += passed
            else:
                self._listeners += (open_listener(address, backlog=self._backlog) for address in self._addresses)
            listeners = self._listeners[:]
            self._addresses = [listener.address for listener in listeners]
            if self._status is not None:
                status = status or open_listener(self._status)
                self._status = status.address
                self._listeners.append(status)
            self._trade.prepare(listeners[0])
            limit = watchdog_limit() if signals is SIGNALS else None  # systemd's
            beat = None if limit is None else (limit / 2, partial(notify, "WATCHDOG=1"))
            master = Master(self._settings, self._trade, listeners, tell, signals, beat, status)
        except BaseException:
            self._close_listeners()
            raise
        self._facts = master.facts
        return master

    def _take_passed(self) -> tuple[list[Listener], Listener | None]:
        """The listeners that systemd or a predecessor passes on, and that of the status address."""
        listeners, status = [], None
        for one in claim(take_listeners()):
            if one.name != STATUS:
                listeners.append(one.listener)
            elif self._status is None or status is not None:
                one.listener.close()
            else:
                status = one.listener
        return listeners, status

    def _close_listeners(self) -> None:
        while self._listeners:
            self._listeners.pop().close()


def _tell_everybody(news: News) -> None:
    """Whoever reads, and systemd."""
    report(news)
    match news:
        case Began():
            announce()
            notify("READY=1", f"MAINPID={os.getpid()}")
        case Reloaded():
            notify("READY=1")
        case Stopping():
            notify("STOPPING=1")
        case Reloading():
            notify(*reloading(time.monotonic()))
        case _:
            pass


def serve(
    handler: Handler | type[socketserver.BaseRequestHandler] | str,
    address: str | tuple[str, int] | Iterable[str | tuple[str, int]] = "127.0.0.1:8000",
    **options: Any,
) -> None:
    """Serve *handler* at *address* until told to stop: ``Server(handler, address, **options).run()``.

    Example::

        from forkful import serve

        serve("echo:handle", "127.0.0.1:8080", processes=(2, 8), threads=16)
    """
    Server(handler, address, **options).run()
