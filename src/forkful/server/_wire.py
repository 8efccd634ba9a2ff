"""What master and worker say to each other: one message a packet, over a socket pair that keeps their bounds."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Message", "Wire", "Word", "open_wire"]

LONGEST = 4096
"""Bytes of a message; a longer text is cut."""


class Word(StrEnum):
    """What a message says."""

    # Down.
    DRAIN = "drain"  # accept no more, finish what you serve, leave
    FINISH = "finish"  # empty the queue, then the same
    # Up.
    READY = "ready"
    REFUSED = "refused"  # why
    FULL = "full"
    SPENT = "spent"  # why
    LEFT = "left"  # how many seats
    # From a master to whoever started it, beside READY and REFUSED.
    RELOADED = "reloaded"


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    word: Word
    text: str = ""


class Wire:
    """One end."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.setblocking(False)

    def fileno(self) -> int:
        """To wait with."""
        return self._end.fileno()

    def send(self, word: Word, text: str = "") -> None:
        """Say it.  Nothing comes of it when the other is gone, or has not listened for hundreds of messages: it cannot."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self._end.send(f"{word} {text}".encode("utf-8", "replace")[:LONGEST])

    def receive(self) -> list[Message]:
        """All that has come.

        Raises:
            EOFError: the other is gone, and nothing has come.
        """
        messages: list[Message] = []
        while True:
            try:
                packet = self._end.recv(LONGEST)
            except BlockingIOError:
                return messages
            except ConnectionError:
                packet = b""
            if not packet:
                if messages:
                    return messages
                raise EOFError
            word, _, text = packet.decode("utf-8", "replace").partition(" ")
            messages.append(Message(Word(word), text))

    def close(self) -> None:
        """This end is used no more."""
        self._end.close()


def open_wire() -> tuple[Wire, Wire]:
    """Both ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Wire(ours), Wire(theirs)
