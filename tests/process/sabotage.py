"""Has a worker kill itself at one point of the protocol: just before or just after one message.

`Sabotage` reaches workers of every start method from their first instruction: a forked one inherits the changed
`WorkerEnd`; a new interpreter, a worker's or the mold's, is changed by a ``sitecustomize`` that it finds in its path.
Only the first worker that comes to the point dies there: it leaves a file that tells the others.
"""

from __future__ import annotations

import atexit
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from forkful._core import channel, messages

if TYPE_CHECKING:
    import pytest  # workers import this module, and start far sooner without

VARIABLE = "FORKFUL_TEST_SABOTAGE"
ROOT = Path(__file__).parents[2]

_SITECUSTOMIZE = """
import sys
sys.path.insert(0, {root!r})
from tests.process import sabotage
sabotage.install_from_environment()
"""


class Point(NamedTuple):
    """Where the worker dies."""

    kind: str  # the name of a message
    when: str  # once it is "read", "after" it was dealt with; "before", "during", "after" sending
    nth: int = 1  # message of this kind in that worker

    def __str__(self) -> str:
        return f"{self.when} {self.kind} {self.nth}"


DOWN = [
    Point(kind, when)
    for kind in ("SETUP", "FUNCTION", "BATCH", "RECALL", "FORGET", "STOP")
    for when in ("read", "after")
]
UP = [
    Point(kind, when) for kind in ("READY", "REFUSED", "RESULTS", "DROPPED") for when in ("before", "during", "after")
]


class Sabotage:
    """Arms every worker that starts from now on, until the test is over."""

    def __init__(self, point: Point, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._marker = folder / "killed"
        sites = folder / "sites"
        sites.mkdir()
        (sites / "sitecustomize.py").write_text(_SITECUSTOMIZE.format(root=str(ROOT)), encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(sites))
        monkeypatch.setenv(VARIABLE, "|".join([point.kind, point.when, str(point.nth), str(self._marker)]))
        for name in ("receive", "receive_nowait", "send"):
            monkeypatch.setattr(channel.WorkerEnd, name, getattr(channel.WorkerEnd, name))  # put back afterwards
        _Saboteur(point, str(self._marker)).install()

    def victim(self) -> int:
        """The worker that was killed; 0 when none has come to that point."""
        return int(self._marker.read_text(encoding="ascii")) if self._marker.exists() else 0


def install_from_environment() -> None:
    """Called at the start of an interpreter."""
    if VARIABLE in os.environ:
        kind, when, nth, marker = os.environ[VARIABLE].split("|")
        _Saboteur(Point(kind, when, int(nth)), marker).install()


class _Saboteur:
    def __init__(self, point: Point, marker: str) -> None:
        self._kind = getattr(messages, point.kind)
        self._when = point.when
        self._nth = point.nth
        self._marker = marker
        self._count = 0
        self._doomed = False  # it dies at the next look for a message

    def install(self) -> None:
        """Changes `WorkerEnd` in this process."""
        end = channel.WorkerEnd
        originals: dict[str, Any] = {name: getattr(end, name) for name in ("receive", "receive_nowait", "send")}

        def receive(this: channel.WorkerEnd) -> channel.Frame | None:
            self._keep_word()
            return self._got(originals["receive"](this))

        def receive_nowait(this: channel.WorkerEnd) -> channel.Frame | None:
            self._keep_word()
            return self._got(originals["receive_nowait"](this))

        def send(this: channel.WorkerEnd, buffers: list[bytes | memoryview]) -> None:
            if not self._matches(messages.HEADER.unpack(buffers[0])[0]):
                originals["send"](this, buffers)
                return
            claimed = self._claim()
            if claimed and self._when == "during":
                whole = b"".join(buffers)
                originals["send"](this, [whole[: len(whole) * 2 // 3]])
            if not claimed or self._when == "after":
                originals["send"](this, buffers)
            if claimed:
                _die()

        for name, function in (("receive", receive), ("receive_nowait", receive_nowait), ("send", send)):
            setattr(end, name, function)

    def _matches(self, kind: int) -> bool:
        """Whether this is the message, by its kind and its number."""
        if kind != self._kind:
            return False
        self._count += 1
        return self._count == self._nth

    def _keep_word(self) -> None:
        """Dies, if that was to be when the message was dealt with: now the next one is looked for."""
        if self._doomed:
            self._die_first()

    def _got(self, received: channel.Frame | None) -> channel.Frame | None:
        if received is not None and self._matches(received[0]):
            if self._when != "after":
                self._die_first()
            self._doomed = True
            if received[0] == messages.STOP:
                atexit.register(self._die_first)  # it looks for no further message
        return received

    def _claim(self) -> bool:
        """Whether no other worker has died before."""
        try:
            fd = os.open(self._marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return False
        os.write(fd, str(os.getpid()).encode("ascii"))
        return True

    def _die_first(self) -> None:
        if self._claim():
            _die()


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a process survived SIGKILL")
