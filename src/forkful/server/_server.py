"""`Server` and `serve`: a handler, an address, and a master that sees to the rest."""

from __future__ import annotations

import contextlib
import os
import signal
import socketserver
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self

from forkful._core import bootstrap, forks
from forkful._core.children import ForkedChild, is_readable
from forkful.errors import ServerError

from ._address import Address, parse_address
from ._board import Board
from ._events import Began, Event, Reloaded, Say
from ._listeners import BACKLOG, Listener, open_listener
from ._master import SIGNALS, Master, News
from ._report import report
from ._settings import check_settings
from ._source import Handler, Source
from ._trades import Raw, Trade
from ._wire import Wire, Word, open_wire

__all__ = ["Server", "serve"]

# Ctrl-C is for the program that has started the server.
STARTED_SIGNALS = {signum: event for signum, event in SIGNALS.items() if signum != signal.SIGINT}

GRACE = 2.0
"""Seconds beyond ``drain_timeout`` that the master gets to end in, before it is killed."""


class Server:
    """A pre-fork server: worker processes, each with threads that serve one connection at a time.

    A connection is taken by a thread that is free, and by no other; the rest wait in the kernel's queue.  Workers that
    die are replaced, more are started while there is more to do than they can serve, and none of them is ever alone
    with a lock that it could leave locked.

    Args:
        handler: ``handler(conn, address)``, a handler class of `socketserver`, or where to import either:
            ``"module:name"`` or ``"path/to/file.py:name"``.  Only what is named can be loaded anew by `reload`.  The
            server closes the connection when the handler is done with it.
        address: ``"HOST:PORT"``, ``"[::1]:PORT"``, ``":PORT"`` for all interfaces, ``"unix:/path"``, ``"fd:N"``, a
            pair of host and port, or several of these in a list.  Port 0 is any that is free; see `addresses`.
        processes: how many workers; ``(least, most)`` for as many as the load needs.
        threads: connections that one worker serves at the same time.
        spare: idle threads in all the server, below which another worker is started, if there may be more.
        idle_timeout: seconds for which threads must have been idle before workers leave that could be done without.
        timeout: seconds that one connection may take; then the stacks of its worker are logged, the worker takes nothing
            new and is killed once nothing else is served there.  None: as long as it likes.
        io_timeout: seconds that a single read or write may take, as by ``conn.settimeout``; None: for ever.
        drain_timeout: seconds that a worker which is to leave may go on with what it serves.
        ready_timeout: seconds that a new worker may take to import the handler.
        max_requests: after how many connections a worker is replaced; None: never.
        max_requests_jitter: up to how many more, by chance, so that they are not all replaced at once.
        max_memory: bytes, or a text such as ``"500MB"``, above which a worker is replaced; None: never.
        backlog: connections that may wait in the queue.

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
        drain_timeout: float = 30.0,
        ready_timeout: float = 60.0,
        max_requests: int | None = None,
        max_requests_jitter: int = 0,
        max_memory: int | str | None = None,
        backlog: int = BACKLOG,
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
        self._addresses = _parse_addresses(address)
        self._backlog = backlog
        self._trade: Trade = Raw(Source(handler), io_timeout)
        self._listeners: list[Listener] = []
        self._board: Board | None = None
        self._running: _Running | None = None

    @property
    def addresses(self) -> list[str]:
        """Where it listens; port 0 is the port that it became, once the server was started."""
        return [str(address) for address in self._addresses]

    def run(self) -> None:
        """Serve, in this process, until it is told to stop by a signal.

        SIGTERM and Ctrl-C: serve what is there and what is queued, then end; a second one, or SIGQUIT: end at once.
        SIGHUP: replace all workers, one at a time.  SIGTTIN and SIGTTOU: one worker more, or fewer.

        Raises:
            ServerError: the address, or the handler, is not to be had.
            RuntimeError: this is not the main thread, or the server is running already.
        """
        self._check_not_running()
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("a server that gets signals runs in the main thread; use start() elsewhere")
        master = self._make_master(report, SIGNALS)
        try:
            report(Say(f"listening at {', '.join(self.addresses)}"))
            master.run()
        finally:
            self._close_listeners()
        report(Say("ended"))

    def start(self) -> Self:
        """Serve, in processes of their own; returns when the first worker is ready.

        The master is forked from this process.  It ends with it, whatever way that is.

        Raises:
            ServerError: the address, or the handler, is not to be had.
            RuntimeError: the server is running already.
        """
        self._check_not_running()
        self._running = running = _Running()
        try:
            running.start(self._make_master(running.tell, STARTED_SIGNALS))
        except BaseException:
            self._running = None
            running.kill()
            raise
        finally:
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
        its threads are at: ``busy`` and ``idle``.  ``requests``: connections served; ``failed``: those of them whose
        handler raised; ``seconds``: how long they took, together.  ``started``: how many workers there have been.

        Raises:
            RuntimeError: the server has never been started.
        """
        if self._board is None:
            raise RuntimeError("the server has not been started")
        return self._board.stats()

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

    def _make_master(self, tell: Callable[[News], None], signals: Mapping[int, Event]) -> Master:
        try:
            for number, address in enumerate(self._addresses):
                self._listeners.append(open_listener(address, backlog=self._backlog))
                self._addresses[number] = self._listeners[-1].address
        except BaseException:
            self._close_listeners()
            raise
        self._trade.prepare(self._listeners[0])
        master = Master(self._settings, self._trade, self._listeners, tell, signals)
        self._board = master.board
        return master

    def _close_listeners(self) -> None:
        while self._listeners:
            self._listeners.pop().close()


class _Running:
    """A master in a process of its own, as whoever started it sees it."""

    def __init__(self) -> None:
        self._child = ForkedChild()
        self._wire, self._theirs = open_wire()
        self._lifeline, self._hold = os.pipe()
        self._pid = os.getpid()
        self._lock = threading.Lock()
        forks.hold(self)

    def start(self, master: Master) -> None:
        """Fork, and have *master* run there; returns when it is ready.

        Raises:
            ServerError: it cannot be.
        """
        forks.flush_standard_streams()
        self._child.fork(partial(_be_master, master, self._lifeline, self._theirs))
        self._theirs.close()
        os.close(self._lifeline)
        self._lifeline = -1
        self._await(Word.READY)

    def reload(self) -> None:
        """As `Server.reload`."""
        with self._lock:
            self._child.kill(signal.SIGHUP)
            self._await(Word.RELOADED)

    def stop(self, signum: int, seconds: float) -> None:
        """Send *signum*, and wait for the end."""
        self._child.kill(signum)
        if not self._child.ends_within(int(min(seconds, 1e6) * 1000)):
            self._child.kill()
            self._child.await_end()
        self._close()

    def kill(self) -> None:
        """The end, with its workers."""
        if self.is_ours():
            self._child.kill()
            self._child.await_end()
        self._close()

    def is_ours(self) -> bool:
        """Whether this is the process that started it."""
        return self._pid == os.getpid()

    def disown(self) -> None:
        """In a process that is forked, the master among them: this is whoever started it's."""
        self._wire.close()
        os.close(self._hold)

    def tell(self, news: News) -> None:
        """In the master: what has happened."""
        report(news)
        match news:
            case Began():
                self._theirs.send(Word.READY)
            case Reloaded(failure):
                self._theirs.send(Word.RELOADED if failure is None else Word.REFUSED, failure or "")
            case _:
                pass

    def _await(self, word: Word) -> None:
        while True:
            is_readable(self._wire.fileno(), None)
            try:
                messages = self._wire.receive()
            except EOFError:
                raise ServerError("the master has died; start the server again") from None
            for message in messages:
                if message.word is word:
                    return
                if message.word is Word.REFUSED:
                    raise ServerError(message.text)

    def _close(self) -> None:
        self._wire.close()
        self._theirs.close()
        if self._lifeline >= 0:  # it has never begun
            os.close(self._lifeline)
        with contextlib.suppress(OSError):
            os.close(self._hold)
        self._child.close()


def _be_master(master: Master, lifeline: int, wire: Wire, mask: Iterable[int]) -> int:
    """Runs in the child."""
    return bootstrap.live(lifeline, mask, partial(_run_master, master, wire))


def _run_master(master: Master, wire: Wire, _this: bootstrap.WorkerProcess) -> None:
    try:
        master.run()
    except ServerError as error:
        wire.send(Word.REFUSED, str(error))
    finally:
        master.close()


def serve(
    handler: Handler | type[socketserver.BaseRequestHandler] | str,
    address: str | tuple[str, int] | Iterable[str | tuple[str, int]] = "127.0.0.1:8000",
    **options: Any,
) -> None:
    """Serve *handler* at *address* until told to stop: ``Server(handler, address, **options).run()``.

    Example::

        serve("echo:handle", "127.0.0.1:8080", processes=(2, 8), threads=16)
    """
    Server(handler, address, **options).run()


def _parse_addresses(address: Any) -> list[Address]:
    if isinstance(address, str | tuple | Address):
        return [parse_address(address)]
    try:
        addresses = [parse_address(one) for one in address]
    except TypeError:
        if isinstance(address, Iterable):
            raise
        raise TypeError(f"an address is HOST:PORT, unix:/path or (host, port), not {address!r}") from None
    if not addresses:
        raise ValueError("there is no address; write HOST:PORT or unix:/path")
    return addresses
