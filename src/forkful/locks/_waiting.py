"""Waiting for a door in a coroutine: no thread of the caller's sleeps, and a wait that is cancelled leaves nothing behind."""

from __future__ import annotations

import asyncio
import time

from . import _who
from ._door import LOOK_S, Door, Ticket


async def take_async(door: Door, timeout: float | None, *, shared: bool = False) -> bool:
    """`Door.take` for the task that runs: tasks exclude each other as threads do."""
    owner = _who.current()
    if door.take_now(owner, shared=shared):
        return True
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    ticket = Ticket(owner, shared=shared, direct=False, notify=lambda: loop.call_soon_threadsafe(woken.set))
    deadline = None if timeout is None else time.monotonic() + timeout
    look: float | None = time.monotonic() + LOOK_S
    listed = door.line_up(ticket)
    try:
        while not ticket.granted:
            if ticket.error is not None:
                raise ticket.error
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                break
            if look is not None and now >= look:
                look = None
                door.mechanism.check_deadlock(owner)
            until = min((when for when in (deadline, look) if when is not None), default=None)
            try:
                async with asyncio.timeout(None if until is None else max(0.0, until - now)):
                    await woken.wait()
            except TimeoutError:
                continue
    except BaseException:
        door.leave(ticket, listed, wanted=False)
        raise
    return door.leave(ticket, listed)
