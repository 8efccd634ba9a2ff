"""A master in a process of its own, as whoever started it sees it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterable
from functools import partial

from .._core import bootstrap, forks
from .._core.children import ForkedChild, is_readable
from ..errors import ServerError
from ._events import Began, Reloaded
from ._master import SIGNALS, Master
from ._report import News, report
from ._wire import Wire, Word, open_wire

__all__ = ["STARTED_SIGNALS", "Running"]

# Ctrl-C is for the program that has started the server, whose command line would not be the server's.
STARTED_SIGNALS = {signum: event for signum, event in SIGNALS.items() if signum not in {signal.SIGINT, signal.SIGUSR2}}


class Running:
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
            self._drop_old_news()
            self._child.kill(signal.SIGHUP)
            self._await(Word.RELOADED)

    def stop(self, signum: int, seconds: float) -> None:
        """Send *signum*, and wait for the end.  In a child that was forked nothing happens: it is the parent's."""
        if not self.is_ours():
            return
        self._child.kill(signum)
        if not self._child.ends_within(int(min(seconds, 1e6) * 1000)):
            self._child.kill()
            self._child.await_end()
        self._close()

    def kill(self) -> None:
        """The end, with its workers."""
        if self.is_ours():
            self._child.kill()
            if not sys.is_finalizing():  # else there is nobody to wait with; the end of this process is theirs, too
                self._child.await_end()
        self._close()

    def is_ours(self) -> bool:
        """Whether this is the process that started it."""
        return self._pid == os.getpid()

    def disown(self) -> None:
        """In a process that is forked, the master among them: this is whoever started it's."""
        self._wire.close()
        os.close(self._hold)
        self._hold = -1  # the number may be another's by the time that somebody stops this

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

    def _drop_old_news(self) -> None:
        """Of reloads that somebody else has asked for, by a signal."""
        with contextlib.suppress(EOFError):
            self._wire.receive()

    def _await(self, word: Word) -> None:
        while True:
            try:
                is_readable(self._wire.fileno(), None)
                messages = self._wire.receive()
            except EOFError:
                raise ServerError("the master has died; start the server again") from None
            except (OSError, ValueError):  # another thread has stopped it, and closed the wire
                raise ServerError("the server was stopped meanwhile") from None
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
        if self._hold >= 0:
            os.close(self._hold)
            self._hold = -1
        self._hold = -1  # the number may be another's by the next fork, which has us disown it
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
