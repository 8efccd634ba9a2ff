"""What systemd gives a service, and wants to hear from it: sockets, readiness, a watchdog.  Without systemd, nothing.

Sources: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Final

from ..errors import ServerError
from ._listeners import Listener, adopt_listener

_FIRST_FD: Final = 3
_MOST_FDS: Final = 4096  # more can only be a mistake, and would take long to say
_PASSED: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_PATIENCE_S: Final = 0.2  # for a manager whose queue is full: READY=1 should not be lost, and nothing should hang

Environment = MutableMapping[str, str]


@dataclass(frozen=True, slots=True)
class Passed:
    """A socket that was passed on.

    Attributes:
        name: of ``FileDescriptorName=`` in the unit; that of the unit without it; empty if none came.
    """

    name: str
    listener: Listener


def take_listeners(environ: Environment = os.environ) -> list[Passed]:
    """The listening sockets that systemd has opened for this process, in the order of the unit; usually none.

    The variables that tell of them are removed, so that no program started from here takes them for its own.  The file of a
    Unix socket is systemd's, and stays.

    Raises:
        ServerError: what was passed cannot be used; none is taken.
    """
    told = {name: environ.pop(name, "") for name in _PASSED}
    if told["LISTEN_PID"] != str(os.getpid()):  # also without one: they are another process's, our parent's perhaps
        return []
    if not (told["LISTEN_FDS"].isascii() and told["LISTEN_FDS"].isdigit() and int(told["LISTEN_FDS"]) <= _MOST_FDS):
        raise ServerError(f"LISTEN_FDS={told['LISTEN_FDS']!r} is not a number of sockets; let systemd set it")
    count = int(told["LISTEN_FDS"])
    names = told["LISTEN_FDNAMES"].split(":") if told["LISTEN_FDNAMES"] else [""] * count
    if len(names) != count:
        raise ServerError(f"LISTEN_FDNAMES has {len(names)} names for {count} sockets; let systemd set both")
    taken: list[Passed] = []
    try:
        for at, name in enumerate(names):
            taken.append(Passed(name, adopt_listener(_FIRST_FD + at, name=name)))
    except ServerError:
        for passed in taken:
            passed.listener.socket.detach()
        raise
    return taken


def notify(*lines: str, environ: Environment = os.environ) -> bool:
    """Tell the service manager, as in ``notify("READY=1", "STATUS=4 workers")``.

    Returns:
        Whether it was told; not so without one, or if it does not listen, which is nobody's error.
    """
    where = environ.get("NOTIFY_SOCKET", "")
    if not where.startswith(("/", "@")):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_PATIENCE_S)
            sock.connect("\0" + where[1:] if where.startswith("@") else where)
            sock.sendall("\n".join(lines).encode("utf-8", "surrogateescape"))
    except (OSError, ValueError):
        return False
    return True


def reloading(now: float) -> tuple[str, str]:
    """The lines that say that a reload has begun, at *now*, seconds of ``time.monotonic``; ``READY=1`` says that it is over.

    >>> reloading(1.5)
    ('RELOADING=1', 'MONOTONIC_USEC=1500000')
    """
    return "RELOADING=1", f"MONOTONIC_USEC={round(now * 1_000_000)}"


def watchdog_limit(environ: Environment = os.environ) -> float | None:
    """Within how many seconds ``notify("WATCHDOG=1")`` is to come again, else the service is killed; None: never.

    Every half of that is what the source advises.
    """
    told = environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    if not (told.isascii() and told.isdigit() and 0 < len(told) < 20) or int(told) == 0:
        return None
    return int(told) / 1_000_000
